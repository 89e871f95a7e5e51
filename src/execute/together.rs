//! Services that cut over together: each waits until all have reached a milestone, and one write moves all of them.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    error::{Error, Result},
    model::{Milestone, Phase},
    proxy::{Write, write_all},
};

/// How long a service on its way back waits for the others: it may have failed, and requests with it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The services of one command.
#[derive(Default)]
pub struct Group {
    state: watch::Sender<State>,
}

#[derive(Default)]
pub struct State {
    members: BTreeMap<String, Standing>,
    /// Why all go back.
    failed: Option<String>,
}

/// How far a service is.
#[derive(Default)]
struct Standing {
    reached: Option<Milestone>,
    is_over: bool,
    /// The writes of a phase, which wait for those of the others.
    staged: Option<(Phase, Vec<Write>)>,
    /// How its last write ended.
    written: Option<Result<()>>,
}

/// What a service does when its turn has come: it ends with the result, or makes these writes.
#[derive(Default)]
struct Taken {
    result: Option<Result<()>>,
    /// The other services whose writes these are.
    services: Vec<String>,
    writes: Vec<Write>,
}

impl State {
    fn have_all(&self, milestone: Milestone) -> bool {
        let mut open = self.members.values().filter(|own| !own.is_over);
        open.all(|own| own.reached >= Some(milestone))
    }

    /// Whether a service that has staged its writes has to wait no longer.
    fn is_turn(&self, service: &str, phase: Phase) -> bool {
        let is_staged = |own: &Standing| {
            own.staged
                .as_ref()
                .is_some_and(|(staged, _)| *staged == phase)
        };
        let mut open = self.members.values().filter(|own| !own.is_over);
        self.members[service].written.is_some()
            || self.turns_back(phase).is_some()
            || open.all(is_staged)
    }

    /// Why a cutover does not take place any more.
    fn turns_back(&self, phase: Phase) -> Option<&String> {
        let failed = self.failed.as_ref();
        failed.filter(|_| phase == Phase::Committed)
    }

    fn take(&mut self, service: &str, phase: Phase) -> Taken {
        let turns_back = self.turns_back(phase).cloned();
        let own = self.members.entry(service.to_owned()).or_default();
        let result = own.written.take();
        let result = result.or_else(|| turns_back.map(|why| Err(Error::failed(why))));
        if result.is_some() {
            own.staged = None;
            return Taken {
                result,
                ..Taken::default()
            };
        }
        let mut taken = Taken::default();
        for (name, own) in &mut self.members {
            if let Some((_, writes)) = own.staged.take_if(|(staged, _)| *staged == phase) {
                taken
                    .services
                    .extend((name != service).then(|| name.clone()));
                taken.writes.extend(writes);
            }
        }
        taken
    }

    /// Notes for other services how their writes ended.
    fn note(&mut self, services: &[String], result: &Result<()>) {
        for service in services {
            if let Some(own) = self.members.get_mut(service) {
                own.written = Some(result.clone());
            }
        }
    }

    fn fail(&mut self, service: &str) {
        let reason = || format!("{service} goes back, and the services move together");
        self.failed.get_or_insert_with(reason);
    }
}

impl Group {
    /// Names the services that wait for each other.
    pub fn expect<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.state.send_modify(|state| {
            let members = names.map(|name| (name.to_owned(), Standing::default()));
            state.members.extend(members);
        });
    }

    pub fn member<'a>(&'a self, service: &'a str) -> Member<'a> {
        Member {
            group: self,
            service,
        }
    }

    /// Takes a service that has ended out of the group; one that has failed takes all back.
    pub fn leave(&self, service: &str, has_failed: bool) {
        self.state.send_modify(|state| {
            if let Some(own) = state.members.get_mut(service) {
                own.is_over = true;
            }
            if has_failed {
                state.fail(service);
            }
        });
    }

    /// The services that are ready and wait for the others.
    pub fn ready(&self) -> Vec<String> {
        let state = self.state.borrow();
        let ready = |own: &Standing| !own.is_over && own.reached.is_some();
        let ready = state.members.iter().filter(|(_, own)| ready(own));
        ready.map(|(name, _)| name.clone()).collect()
    }

    /// A receiver that sees every change from now on.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

/// One service of the group.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    group: &'a Group,
    service: &'a str,
}

impl Member<'_> {
    /// Completes once all services have reached the milestone, as this one has.
    pub async fn reach(self, milestone: Milestone) {
        self.change(|own| own.reached = own.reached.max(Some(milestone)));
        self.until(|state| state.have_all(milestone).then_some(()))
            .await;
    }

    /// Takes all services back.
    pub fn fail(self) {
        let service = self.service;
        self.group.state.send_if_modified(|state| {
            let is_first = state.failed.is_none();
            state.fail(service);
            is_first
        });
    }

    /// Completes with the reason once all go back.
    pub async fn failed(self) -> String {
        self.until(|state| state.failed.clone()).await
    }

    /// Makes these writes together with those of the other services. The last service to come makes them for all.
    ///
    /// # Errors
    /// Another service goes back before the cutover; or a write fails.
    pub async fn write(self, phase: Phase, writes: Vec<Write>) -> Result<()> {
        // Once all are live, each ends by itself.
        if self.group.state.borrow().have_all(Milestone::Live) {
            return write_all(writes).await;
        }
        self.change(|own| {
            own.written = None;
            own.staged = Some((phase, writes));
        });
        let turn = self.until(|state| state.is_turn(self.service, phase).then_some(()));
        match phase {
            Phase::Committed => turn.await,
            _ => drop(timeout(PATIENCE, turn).await),
        }
        let mut taken = Taken::default();
        self.group
            .state
            .send_modify(|state| taken = state.take(self.service, phase));
        if let Some(result) = taken.result {
            return result;
        }
        let result = write_all(taken.writes).await;
        self.group
            .state
            .send_modify(|state| state.note(&taken.services, &result));
        result
    }

    fn change(self, change: impl FnOnce(&mut Standing)) {
        self.group.state.send_modify(|state| {
            change(state.members.entry(self.service.to_owned()).or_default());
        });
    }

    async fn until<T>(self, mut ask: impl FnMut(&State) -> Option<T>) -> T {
        let mut state = self.group.state.subscribe();
        loop {
            if let Some(answer) = ask(&state.borrow_and_update()) {
                return answer;
            }
            // The group keeps the sender.
            drop(state.changed().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{overlay, proxy::socket_proxies::answering};

    const SERVICES: [&str; 2] = ["api", "web"];
    const SECOND: Duration = Duration::from_secs(1);

    fn group() -> Group {
        let group = Group::default();
        group.expect(SERVICES.into_iter());
        group
    }

    fn claim(service: &str) -> overlay::Claim {
        overlay::Claim {
            key: format!("shop/{service}"),
            rollout: "r".to_owned(),
            epoch: 7,
            stage: "cutover".to_owned(),
            rules: Vec::new(),
        }
    }

    /// The second in which each of two waits ends; the second wait begins after one second.
    async fn ends<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> [u64; 2] {
        let start = Instant::now();
        let first = async {
            first.await;
            start.elapsed().as_secs()
        };
        let second = async {
            sleep(SECOND).await;
            second.await;
            start.elapsed().as_secs()
        };
        let (first, second) = tokio::join!(first, second);
        [first, second]
    }

    #[tokio::test(start_paused = true)]
    async fn none_goes_on_before_all_have_reached_the_milestone_or_have_ended() {
        let group = group();
        let [api, web] = SERVICES.map(|name| group.member(name));
        for milestone in [Milestone::Ready, Milestone::Live] {
            let waits = ends(api.reach(milestone), web.reach(milestone)).await;
            assert_eq!(waits, [1, 1], "{milestone:?}");
        }
        let group = self::group();
        let left = ends(group.member("api").reach(Milestone::Ready), async {
            group.leave("web", false)
        });
        assert_eq!(left.await, [1, 1]);
        assert_eq!(group.ready(), ["api"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_moves_all_of_them_and_each_sees_its_result() {
        const CHANGED: &str = r#"{"control":2,"ok":{"changed":{"generation":3}}}"#;
        const HELLO: &str = r#"{"control":2,"ok":{"hello":{"version":"0.2.0","listen":"0.0.0.0:2375","engine":true,"generation":2}}}"#;
        let (control, requests) = answering(&[HELLO, CHANGED]);
        let group = group();
        let write = async |name| {
            let write = Write {
                control: control.clone(),
                claim: claim(name),
            };
            group
                .member(name)
                .write(Phase::Committed, vec![write])
                .await
        };
        let (api, web) = tokio::join!(write("api"), write("web"));
        api.and(web).unwrap();
        let requests = requests.lock().unwrap();
        assert!(requests[1].contains("set_all"), "{requests:?}");
        assert!(SERVICES.iter().all(|name| requests[1].contains(name)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_before_the_cutover_ends_the_waits_of_the_others() {
        let group = group();
        let api = group.member("api");
        let fails = async {
            sleep(SECOND).await;
            group.leave("web", true);
        };
        let write = api.write(Phase::Committed, Vec::new());
        let (written, why, ()) = tokio::join!(write, api.failed(), fails);
        assert_eq!(written.unwrap_err().message, why);
        assert_eq!(why, "web goes back, and the services move together");
    }

    #[tokio::test(start_paused = true)]
    async fn on_the_way_back_a_service_waits_for_the_others_for_a_while_alone() {
        let group = group();
        let back = |name| group.member(name).write(Phase::RolledBack, Vec::new());
        assert_eq!(ends(back("api"), back("web")).await, [1, 1]);
        let start = Instant::now();
        back("api").await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn once_all_are_live_each_ends_by_itself() {
        let group = group();
        let [api, web] = SERVICES.map(|name| group.member(name));
        tokio::join!(api.reach(Milestone::Live), web.reach(Milestone::Live));
        let start = Instant::now();
        api.write(Phase::RolledBack, Vec::new()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
