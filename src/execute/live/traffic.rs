//! Moves the traffic, waits until every proxy agrees, and until the old replicas have answered.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{Live, Sets};
use crate::{
    drain::{self, Watcher},
    engine::Engine,
    error::Result,
    event::{Event, Events},
    model::{ContainerId, Desired, Drained, Facts, Goal, Replica, Route, Side, Stage},
    proxy::{Change, Observation},
    retry,
    watch::Watch,
};

/// A complaint that stands for this long is no passing state of a reload.
const COMPLAINT: Duration = Duration::from_millis(500);

impl Live<'_> {
    pub(super) async fn route(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        stage: Stage,
    ) -> Result<()> {
        let change = Change {
            rollout: &desired.rollout,
            stage,
            news: &sets.news,
            olds: &sets.olds,
        };
        let is_there = |old: &&Replica| old.may_run() || desired.restartable.contains(&old.id);
        if stage == Stage::Cutover && desired.served && !sets.olds.iter().any(is_there) {
            self.events.notice(
                "somebody else took the old replicas away during the rollout; the new ones take over",
            );
        }
        self.memory.confirmed_at = None;
        if stage == Stage::Cutover {
            let name = |new: &&Replica| (new.id.clone(), new.target_name().to_owned());
            self.memory.shown = sets.news.iter().map(name).collect();
        }
        let routed = self.proxy.route(change).await;
        if let Some(notice) = self.proxy.take_notice() {
            self.events.notice(notice);
        }
        routed
    }

    /// What was routed until the way back was confirmed although it could not answer.
    fn tell_losses(&mut self) {
        let shown = std::mem::take(&mut self.memory.shown);
        let mut all = Vec::new();
        for (id, name) in &shown {
            if let Some(dead) = self.watch.dead_for(id) {
                all.push(dead_but_routed(name, dead));
            }
        }
        let ill_since = self.memory.ill_since.take();
        if let Some(since) = ill_since.filter(|_| all.is_empty()) {
            let span = since.elapsed().as_secs_f64();
            all.push(format!(
                "the new version was found ill {span:.1} s before Traefik went back: requests may have been lost"
            ));
        }
        all.into_iter().for_each(|text| self.events.notice(text));
    }

    /// Asks every proxy until it agrees that this side alone is live.
    pub(super) async fn confirm(
        &mut self,
        desired: &Desired,
        side: Side,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let limits = self.limits(desired, side, sets);
        // On the way back the new ones do not matter.
        let watched = match side {
            Side::New => serving(&sets.news),
            Side::Old => Vec::new(),
        };
        let ill = fell_ill(self.run.engine, self.watch, watched);
        let awaited = sets.awaited(desired, side);
        let looks = tokio::select! {
            looks = self.ask(side, sets, &awaited, &limits) => looks,
            // A replica that dies meanwhile changes what there is to confirm; the planner sees it.
            () = ill => return Ok(()),
        };
        if looks.has_stood {
            facts.confirmed = Some(side);
            self.memory.new_was_live |= side == Side::New;
            self.memory.confirmed_at = Some(Instant::now());
            // Where the old replicas had made room, the new ones ended before the way back.
            if side == Side::Old && desired.restartable.is_empty() {
                self.tell_losses();
            }
            return Ok(());
        }
        facts.confirm_expired = Some(side);
        facts.harms = looks.harms(limits.held_back);
        self.memory.new_was_live |= looks.refused_since.or(looks.harms_since).is_some();
        if looks.are_decided(&limits) {
            facts.complaint = looks.complaint(limits.held_back);
        }
        for trouble in looks.lost.iter().chain(&looks.trouble) {
            self.events.notice(format!("Traefik: {trouble}"));
        }
        Ok(())
    }

    fn limits(&self, desired: &Desired, side: Side, sets: &Sets<'_>) -> Limits {
        let held_back = self.proxy.held_back();
        let unseen = !self.memory.new_was_live && !sets.news.is_empty();
        // An old replica that was started again is served once Docker itself calls it healthy, too.
        let again = matches!(desired.goal, Goal::Undo(_)) && !desired.restartable.is_empty();
        let stand = match side {
            // The cutover may have been read already, and be held back.
            Side::Old if unseen => held_back,
            // What it says may be of the time before the stop.
            Side::Old if again => held_back,
            _ => Duration::ZERO,
        };
        // A first start without a socket proxy is served once Docker itself calls it healthy.
        let first = desired.confirm_hold && side == Side::New && sets.olds.is_empty();
        let undecided = |set: &[&Replica]| set.iter().map(|own| own.undecided_for()).max();
        let more = match again {
            true => undecided(&sets.olds),
            false => undecided(&sets.news).filter(|_| first),
        };
        let more = more.unwrap_or_default();
        let restarts = |old: &Replica| desired.served && desired.restartable.contains(&old.id);
        let is_way_back = |old: &&Replica| old.serves() || restarts(old);
        Limits {
            // What the proxy holds back for longer cannot be seen any earlier.
            total: self.context.settings.confirm_timeout.max(held_back) + stand + more,
            stand,
            held_back,
            // Without an old set to go back to, a complaint is better waited out: what is missing may still come.
            way_back: side == Side::New && sets.olds.iter().any(is_way_back),
        }
    }

    /// What the proxy has said once it is decided, or the time is over.
    async fn ask(
        &mut self,
        side: Side,
        sets: &Sets<'_>,
        awaited: &Sets<'_>,
        limits: &Limits,
    ) -> Looks {
        let all = sets.news.iter().chain(&sets.olds);
        let replicas: Vec<Replica> = all.map(|replica| (*replica).clone()).collect();
        let mut looks = Looks::default();
        retry::until(limits.total, async || {
            let Some(mut observation) = self.proxy.observed(&replicas).await else {
                looks.absent_since = None;
                return false;
            };
            observation.forget(&self.complaints);
            looks.take(&observation, side, awaited);
            looks.has_stood = looks.stands_for(limits.stand);
            looks.has_stood || looks.are_decided(limits)
        })
        .await;
        looks
    }

    /// Who looks at each of these, as far as its sockets are its own.
    async fn watchers_of<'r>(
        &mut self,
        replicas: &[&'r Replica],
        facts: &mut Facts,
    ) -> Vec<(&'r Replica, Watcher)> {
        let mut watchers = Vec::new();
        for replica in replicas {
            // Without a routed port, those of a borrowed network may be another container's.
            if !self.proxy.routes() && replica.borrows_network {
                facts.drained.insert(replica.id.clone(), Drained::Unseen);
                continue;
            }
            let watcher = match self.memory.watchers.remove(&replica.id) {
                Some(watcher) => watcher,
                None => Watcher::start(self.run.engine, &replica.id, &self.watched(replica)).await,
            };
            watchers.push((*replica, watcher));
        }
        watchers
    }

    pub(super) async fn drain(
        &mut self,
        replicas: &[&Replica],
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let now = Instant::now();
        let begin = match self.proxy.routes() {
            true => self.memory.confirmed_at.unwrap_or(now) + self.settle,
            false => now,
        };
        let watchers = self.watchers_of(replicas, facts).await;
        sleep_until(begin).await;
        let deadline = Instant::now() + self.context.settings.drain_timeout;
        let (engine, events, quiet) = (
            self.run.engine,
            self.events,
            self.context.settings.drain_quiet,
        );
        let mut draining: FuturesUnordered<_> = watchers
            .into_iter()
            .map(|(replica, mut watcher)| async move {
                (
                    replica,
                    drain::drain(engine, replica, &mut watcher, quiet, deadline, events).await,
                )
            })
            .collect();
        // When the new ones themselves are drained, they are on their way out anyway.
        let forward = !replicas
            .iter()
            .any(|own| sets.news.iter().any(|new| new.id == own.id));
        let live = if forward {
            serving(&sets.news)
        } else {
            Vec::new()
        };
        let side = if forward { "old" } else { "new" };
        let mut ill = Box::pin(fell_ill(engine, self.watch, live));
        loop {
            tokio::select! {
                ended = draining.next() => match ended {
                    None => return Ok(()),
                    Some((replica, how)) => {
                        let how = how?;
                        drained(events, side, replica, how);
                        facts.drained.insert(replica.id.clone(), how);
                    }
                },
                // The way back is open only as long as the old replicas run.
                () = &mut ill => return Ok(()),
            }
        }
    }
}

fn drained(events: &Events, side: &str, replica: &Replica, how: Drained) {
    let name = &replica.name;
    events.emit(Event::Drained {
        replica: name.clone(),
        how,
    });
    match how {
        Drained::Answered | Drained::Quiet | Drained::Unseen => {}
        Drained::TimedOut => events.notice(format!(
            "{side} replica {name} was still answering after --drain-timeout"
        )),
        Drained::Ended => events.notice(format!(
            "{side} replica {name} ended by itself while it was drained; what it had not answered is lost"
        )),
    }
}

fn dead_but_routed(name: &str, span: Duration) -> String {
    format!(
        "new replica {name} was dead and still routed for {:.1} s: requests may have been lost",
        span.as_secs_f64()
    )
}

/// Only who serves now can fall ill.
pub(super) fn serving(replicas: &[&Replica]) -> Vec<ContainerId> {
    let serving = replicas.iter().filter(|replica| replica.serves());
    serving.map(|replica| replica.id.clone()).collect()
}

/// Ends when one of these does not serve any more.
pub(super) async fn fell_ill(engine: &Engine, watch: &Watch, replicas: Vec<ContainerId>) {
    loop {
        let changed = watch.next();
        for id in &replicas {
            if let Ok(now) = engine.replica(id).await
                && !now.is_some_and(|now| now.serves())
            {
                return;
            }
        }
        changed.await;
    }
}

/// How long a proxy is asked to agree, and how long it must say the same.
struct Limits {
    total: Duration,
    /// For how long an agreement must stand.
    stand: Duration,
    /// For how long the proxy may hold back what it has read.
    held_back: Duration,
    /// There are old replicas to go back to, so a complaint need not be waited out.
    way_back: bool,
}

/// What a proxy has said while it was asked to agree.
#[derive(Default)]
struct Looks {
    agreed: bool,
    agreed_since: Option<Instant>,
    /// It has agreed for as long as it must.
    has_stood: bool,
    trouble: Vec<String>,
    /// Routers of other services that the cutover may have taken away: one whose container has restarted is missing too
    /// until Traefik has read it again.
    lost: Vec<String>,
    harms_since: Option<Instant>,
    refused_since: Option<Instant>,
    absent_since: Option<Instant>,
}

impl Looks {
    fn take(&mut self, observation: &Observation, side: Side, sets: &Sets<'_>) {
        // On the way back the old set is as it was before; whatever ailed its routers then is no news.
        self.agreed = match side {
            Side::New => observation.agrees(side, &sets.news, &sets.olds),
            Side::Old => observation.routes(side, &sets.news, &sets.olds),
        };
        since(&mut self.agreed_since, self.agreed);
        self.trouble = observation.trouble.values().flatten().cloned().collect();
        self.lost.clone_from(&observation.lost);
        let down = observation.down_among(&sets.news);
        let down = down.filter(|_| side == Side::New);
        // It has switched, and still it does not serve: waiting for longer only makes the outage longer.
        let switched = down.is_some() || observation.routes(side, &sets.news, &sets.olds);
        self.trouble.extend(down);
        let refused = switched && !self.agreed;
        since(&mut self.refused_since, refused && !self.trouble.is_empty());
        since(&mut self.harms_since, refused && !self.lost.is_empty());
        // It has switched, and knows nothing of the new version: a label of it keeps the whole replica out.
        let hidden = |own: &&Replica| observation.routing.get(&own.id) == Some(&Route::Hidden);
        let absent = side == Side::New
            && !self.trouble.is_empty()
            && sets.news.iter().chain(&sets.olds).all(hidden);
        since(&mut self.absent_since, absent);
    }

    fn stands_for(&self, long: Duration) -> bool {
        stands(self.agreed_since, long)
    }

    fn complaint(&self, held_back: Duration) -> Option<String> {
        if let Some(first) = self.lost.first().filter(|_| self.harms(held_back)) {
            return Some(format!(
                "the new version takes other services off the proxy: {first}"
            ));
        }
        let first = self.trouble.first()?;
        Some(format!("the proxy does not serve the new version: {first}"))
    }

    fn refused(&self, held_back: Duration) -> bool {
        // What Traefik holds back may still come.
        stands(self.refused_since, COMPLAINT) || stands(self.absent_since, held_back)
    }

    /// Whether it is certain before the time is over that the proxy will not agree.
    fn are_decided(&self, limits: &Limits) -> bool {
        self.harms(limits.held_back) || (limits.way_back && self.refused(limits.held_back))
    }

    /// Whether routers of other services stay away although all that Traefik holds back has come.
    fn harms(&self, held_back: Duration) -> bool {
        stands(self.harms_since, held_back)
    }
}

/// Notes since when something is so.
fn since(at: &mut Option<Instant>, is_so: bool) {
    match is_so {
        true => drop(at.get_or_insert_with(Instant::now)),
        false => *at = None,
    }
}

fn stands(since: Option<Instant>, long: Duration) -> bool {
    since.is_some_and(|at| at.elapsed() >= long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{RolloutId, Run},
        plan::simulator::{Simulator, WELL, old, replica, rollout},
    };

    fn desired(unrouted: &Replica) -> Desired {
        let mut desired = Simulator::new(vec![unrouted.clone()], 1, true, WELL).desired;
        desired.goal = Goal::Roll;
        desired.unrouted.insert(unrouted.id.clone());
        desired
    }

    fn new(of: &RolloutId) -> Replica {
        replica("new", Some(of), Run::Running, crate::model::Health::Healthy)
    }

    fn says(routes: &[(&Replica, Route)]) -> Observation {
        let routing = routes.iter().map(|(own, route)| (own.id.clone(), *route));
        Observation {
            routing: routing.collect(),
            ..Observation::default()
        }
    }

    #[test]
    fn the_way_back_does_not_wait_for_a_replica_that_no_proxy_routed_to() {
        let (before, served) = (old("one"), old("two"));
        let of = rollout("r2");
        let new = new(&of);
        let sets = Sets {
            news: vec![&new],
            olds: vec![&before, &served],
        };
        let awaited = sets.awaited(&desired(&before), Side::Old);
        let agreed = |routes: &[(&Replica, Route)]| {
            let mut looks = Looks::default();
            looks.take(&says(routes), Side::Old, &awaited);
            looks.agreed
        };
        let (live, hidden) = (Route::Live, Route::Hidden);
        assert!(agreed(&[
            (&before, hidden),
            (&served, live),
            (&new, hidden)
        ]));
        // What was routed to is waited for, and so is that the new version is not any more.
        assert!(!agreed(&[
            (&before, hidden),
            (&served, hidden),
            (&new, hidden)
        ]));
        assert!(!agreed(&[(&before, hidden), (&served, live), (&new, live)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbours_router_counts_as_taken_away_once_nothing_can_be_held_back() {
        let (before, of) = (old("one"), rollout("r2"));
        let new = new(&of);
        let sets = Sets {
            news: vec![&new],
            olds: vec![&before],
        };
        let held_back = Duration::from_millis(2500);
        let well = says(&[(&before, Route::Hidden), (&new, Route::Live)]);
        let restarts = Observation {
            lost: vec!["router b of shop-b-1 is gone".to_owned()],
            ..well.clone()
        };
        let mut looks = Looks::default();
        looks.take(&restarts, Side::New, &sets);
        tokio::time::advance(COMPLAINT).await;
        looks.take(&restarts, Side::New, &sets);
        assert!(!looks.agreed && !looks.refused(held_back) && !looks.harms(held_back));
        // A neighbour that merely restarts is there again.
        looks.take(&well, Side::New, &sets);
        assert!(looks.agreed && looks.harms_since.is_none());
        looks.take(&restarts, Side::New, &sets);
        tokio::time::advance(held_back).await;
        looks.take(&restarts, Side::New, &sets);
        assert!(looks.harms(held_back));
        let complaint = looks.complaint(held_back).unwrap();
        assert!(complaint.contains("other services off"), "{complaint}");
    }

    #[test]
    fn a_new_version_that_the_proxy_has_no_trace_of_is_given_up_once_nothing_can_be_held_back() {
        let (before, of) = (old("one"), rollout("r2"));
        let new = new(&of);
        let sets = Sets {
            news: vec![&new],
            olds: vec![&before],
        };
        let held_back = Duration::from_millis(2500);
        let mut looks = Looks::default();
        let mut none = says(&[(&before, Route::Hidden), (&new, Route::Hidden)]);
        looks.take(&none, Side::New, &sets);
        assert!(looks.absent_since.is_none(), "nothing says why");
        let why = vec!["router web does not exist".to_owned()];
        none.trouble.insert(new.id.clone(), why);
        looks.take(&none, Side::New, &sets);
        assert!(looks.absent_since.is_some() && !looks.refused(held_back));
        looks.absent_since = Instant::now().checked_sub(held_back);
        assert!(looks.refused(held_back));
        // It is still the old one that is routed to: the change has not been read yet.
        none.routing.insert(before.id.clone(), Route::Live);
        looks.take(&none, Side::New, &sets);
        assert!(looks.absent_since.is_none() && !looks.refused(held_back));
    }
}
