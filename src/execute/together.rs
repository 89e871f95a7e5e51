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
    joint: Joint,
}

/// The writes of a service that are made together with those of the others.
#[derive(Default)]
enum Joint {
    #[default]
    None,
    /// They wait for the others.
    Staged(Phase, Vec<Write>),
    /// Another service makes them now.
    Taken,
    Done(Result<()>),
}

/// What a service whose writes are staged does next.
enum Turn {
    /// It makes the writes of all.
    Lead(Vec<Write>),
    /// Another service makes them.
    Follow,
    GoBack(String),
}

impl State {
    fn open(&self) -> impl Iterator<Item = &Standing> {
        self.members.values().filter(|own| !own.is_over)
    }

    fn have_all(&self, milestone: Milestone) -> bool {
        self.open().all(|own| own.reached >= Some(milestone))
    }

    /// Whether the writes of a service have to wait no longer.
    fn is_turn(&self, service: &str, phase: Phase) -> bool {
        let is_staged = |own: &Standing| matches!(own.joint, Joint::Staged(own, _) if own == phase);
        let is_taken = !is_staged(&self.members[service]);
        is_taken || self.turns_back(phase).is_some() || self.open().all(is_staged)
    }

    /// Why a cutover does not take place any more.
    fn turns_back(&self, phase: Phase) -> Option<&String> {
        let failed = self.failed.as_ref();
        failed.filter(|_| phase == Phase::Committed)
    }

    fn turn(&mut self, service: &str, phase: Phase) -> Turn {
        let turns_back = self.turns_back(phase).cloned();
        let Some(own) = self.members.get_mut(service) else {
            return Turn::Follow;
        };
        match (&own.joint, turns_back) {
            (Joint::Staged(..), Some(why)) => {
                own.joint = Joint::None;
                Turn::GoBack(why)
            }
            (Joint::Staged(..), None) => Turn::Lead(self.take_staged(phase)),
            _ => Turn::Follow,
        }
    }

    fn take_staged(&mut self, phase: Phase) -> Vec<Write> {
        let mut all = Vec::new();
        for own in self.members.values_mut() {
            match std::mem::take(&mut own.joint) {
                Joint::Staged(staged, writes) if staged == phase => {
                    all.extend(writes);
                    own.joint = Joint::Taken;
                }
                other => own.joint = other,
            }
        }
        all
    }

    fn result(&self, service: &str) -> Option<Result<()>> {
        match &self.members[service].joint {
            Joint::Done(result) => Some(result.clone()),
            _ => None,
        }
    }

    /// Notes for every service whose writes were taken how they ended.
    fn note(&mut self, result: &Result<()>) {
        let taken = self.members.values_mut();
        let taken = taken.filter(|own| matches!(own.joint, Joint::Taken));
        taken.for_each(|own| own.joint = Joint::Done(result.clone()));
    }

    fn fail(&mut self, service: &str) {
        let reason = || format!("{service} does not move, and the services move together");
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

    pub fn has_failed(&self) -> bool {
        self.state.borrow().failed.is_some()
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
    /// Completes once all services have reached the milestone, as this one has. A wait that is dropped takes it back.
    pub async fn reach(self, milestone: Milestone) {
        let mut wait = Wait {
            before: self.reached(Some(milestone)),
            member: self,
        };
        self.until(|state| state.have_all(milestone).then_some(()))
            .await;
        wait.before = Some(milestone);
    }

    /// Sets what it has reached. Returns what that was before.
    fn reached(self, milestone: Option<Milestone>) -> Option<Milestone> {
        let mut before = None;
        self.change(|own| before = std::mem::replace(&mut own.reached, milestone));
        before
    }

    /// Takes this service out of the group, and none back.
    pub fn leave(self) {
        self.group.leave(self.service, false);
    }

    /// Takes all services back.
    pub fn fail(self) {
        self.group.state.send_if_modified(|state| {
            let is_first = state.failed.is_none();
            state.fail(self.service);
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
        self.change(|own| own.joint = Joint::Staged(phase, writes));
        let turn = self.until(|state| state.is_turn(self.service, phase).then_some(()));
        match phase {
            Phase::Committed => turn.await,
            _ => drop(timeout(PATIENCE, turn).await),
        }
        let mut turn = Turn::Follow;
        let state = &self.group.state;
        state.send_modify(|state| turn = state.turn(self.service, phase));
        match turn {
            Turn::GoBack(why) => Err(Error::failed(why)),
            Turn::Follow => self.until(|state| state.result(self.service)).await,
            Turn::Lead(writes) => {
                let result = write_all(writes).await;
                state.send_modify(|state| state.note(&result));
                result
            }
        }
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

/// A wait for the others. When it ends, the service has reached what is in `before`.
struct Wait<'a> {
    member: Member<'a>,
    before: Option<Milestone>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.member.reached(self.before);
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
        assert_eq!(why, "web does not move, and the services move together");
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
    async fn a_wait_that_is_given_up_counts_as_not_reached() {
        let group = group();
        let [api, web] = SERVICES.map(|name| group.member(name));
        let given_up = timeout(SECOND, api.reach(Milestone::Ready)).await;
        assert!(given_up.is_err() && group.ready().is_empty());
        assert!(timeout(SECOND, web.reach(Milestone::Ready)).await.is_err());
        tokio::join!(api.reach(Milestone::Ready), web.reach(Milestone::Ready));
        assert_eq!(group.ready(), SERVICES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_leaves_is_not_waited_for_and_takes_none_back() {
        let group = group();
        let [api, web] = SERVICES.map(|name| group.member(name));
        let leaves = async { web.leave() };
        assert_eq!(ends(api.reach(Milestone::Live), leaves).await, [1, 1]);
        assert!(!group.has_failed());
    }
}
