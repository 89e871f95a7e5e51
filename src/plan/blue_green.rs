//! A whole new set, one cutover: beside the old set, which then goes, or in the place of one that was stopped first.

mod stop_first;

use super::{Failure, Next, Step};
use crate::model::{
    Baked, ContainerId, Desired, Facts, Goal, Health, Observed, Phase, Reason, Replica, RoutePlan,
    Run, Target, Verdict,
};

/// One rollout as it stands: the two sets, and how far the routing is.
pub struct Rollout<'a> {
    desired: &'a Desired,
    facts: &'a Facts,
    phase: Option<Phase>,
    claimed: bool,
    stale: bool,
    routes: Option<&'a RoutePlan>,
    news: Vec<&'a Replica>,
    olds: Vec<&'a Replica>,
}

impl<'a> Rollout<'a> {
    /// Sorts the replicas into new and old.
    pub fn new(desired: &'a Desired, observed: &'a Observed, facts: &'a Facts) -> Self {
        let (news, olds) = observed.split(&desired.rollout);
        let ours = observed
            .claim
            .as_ref()
            .filter(|claim| claim.rollout == desired.rollout);
        Self {
            desired,
            facts,
            phase: ours.map(|claim| claim.phase),
            claimed: ours.is_some_and(|claim| claim.phase != Phase::Settled),
            stale: ours.is_some_and(|claim| claim.stale),
            routes: ours.map(|claim| &claim.plan),
            news,
            olds,
        }
    }

    /// Towards the new version.
    pub fn forward(&self) -> Next {
        if self.facts.released {
            return self.released();
        }
        match self.phase {
            Some(Phase::Committed) => self.after_cutover(),
            Some(Phase::Shifted { step }) => self.shifted(step),
            // What else is there by now is not this rollout's any more.
            Some(Phase::Settled) if !self.olds.is_empty() => self.done(),
            Some(Phase::Settled) => self.retire(),
            // Without a proxy they may be all that answers.
            Some(Phase::RolledBack) if self.is_last_unrouted() => {
                Next::Step(Step::Route(Phase::Committed))
            }
            Some(Phase::RolledBack) => {
                Next::Undo(Reason::Failed("the traffic was moved back".into()))
            }
            Some(Phase::ForceShown)
                if !self.is_restartable()
                    && (self.old_serves() || !self.news.iter().any(|new| new.serves())) =>
            {
                Next::Undo(self.meddled())
            }
            // The record was given up, though nobody has heard so: to hold what alone serves would be an outage.
            None if self.only_new_there() => self.retire(),
            None if self.is_given_up() => self.released(),
            Some(Phase::Prepared | Phase::ForceShown) | None => self.before_cutover(),
        }
    }

    /// It was confirmed, and every old replica that there was has been removed since; who is there now came later.
    fn is_given_up(&self) -> bool {
        let was_there = |old: &&Replica| self.desired.olds_at_start.contains(&old.id);
        self.facts.confirmed == Some(Phase::Committed) && !self.olds.iter().any(was_there)
    }

    fn is_last_unrouted(&self) -> bool {
        let finishes = self.desired.goal == Goal::Finish && !self.desired.routed;
        finishes && !self.old_serves() && self.news.iter().any(|new| new.serves())
    }

    fn only_new_there(&self) -> bool {
        self.olds.is_empty() && self.news.iter().any(|new| new.serves())
    }

    fn released(&self) -> Next {
        // What another run has left may be gone altogether; then this one begins anew.
        let matters = self.desired.goal == Goal::Roll || self.desired.served;
        if matters && self.news.is_empty() {
            return Next::Fail(Failure::NeedsPerson("the new replicas are gone".into()));
        }
        self.done()
    }

    /// Nothing is left to do; whether what is there now serves is another question.
    fn done(&self) -> Next {
        let ill = self.news.iter().find(|new| !new.serves());
        match ill.filter(|_| self.desired.goal == Goal::Roll) {
            Some(ill) => Next::Fail(Failure::NeedsPerson(format!(
                "new replica {} failed once the old replicas were stopped",
                ill.target_name()
            ))),
            None => Next::Done,
        }
    }

    fn before_cutover(&self) -> Next {
        if self.desired.goal == Goal::Finish && self.desired.routed {
            return self.take_over();
        }
        if self.somebody_joined() {
            return Next::Undo(self.meddled());
        }
        if self.desired.goal == Goal::Roll
            && self.phase == Some(Phase::ForceShown)
            && !self.is_held()
        {
            return Next::Finish(
                "another command removed the old replicas during the rollout; the new ones take over as they are"
                    .into(),
            );
        }
        if let Some(reason) = self.failed() {
            return Next::Undo(Reason::Failed(reason));
        }
        if !self.is_held() || self.stale {
            return Next::Step(Step::Route(Phase::Prepared));
        }
        if self.desired.confirm_hold && self.facts.confirmed != Some(Phase::Prepared) {
            return match self.facts.confirm_expired {
                Some(Phase::Prepared) => Next::Undo(Reason::Failed(
                    "the proxy did not confirm in time that it still routes to the old replicas".into(),
                )),
                _ => Next::Step(Step::Confirm(Phase::Prepared)),
            };
        }
        if let Some(step) = self.make_room() {
            return Next::Step(step);
        }
        if self.news.len() < self.desired.replicas as usize {
            return self.create();
        }
        if self.news.iter().any(|new| !self.is_ready(new)) {
            return match self.facts.ready_expired {
                true => Next::Undo(Reason::Failed(self.not_ready_in_time())),
                false => Next::Step(Step::AwaitReady),
            };
        }
        Next::Step(Step::Route(self.phase_after(0)))
    }

    /// What follows the shift of this number; 0 is before the first.
    fn phase_after(&self, shift: u16) -> Phase {
        match self.desired.policy.shifts.len() > usize::from(shift) {
            true => Phase::Shifted { step: shift + 1 },
            false => Phase::Committed,
        }
    }

    /// The new replicas get a part of the traffic.
    fn shifted(&self, step: u16) -> Next {
        let now = Phase::Shifted { step };
        if !self.old_serves() {
            return self.take_over();
        }
        if let Some(reason) = self.worse_than_before() {
            return Next::Undo(reason);
        }
        if self.stale {
            return Next::Step(Step::Route(now));
        }
        if self.facts.confirmed == Some(now) {
            return Next::Step(Step::Route(self.phase_after(step)));
        }
        match self.facts.confirm_expired == Some(now) {
            true => Next::Undo(Reason::Failed(self.unconfirmed())),
            false => Next::Step(Step::Confirm(now)),
        }
    }

    /// Nothing but the new replicas is left to serve, although nobody has cut over to them.
    fn take_over(&self) -> Next {
        if self.old_serves() || self.news.is_empty() {
            return Next::Undo(self.meddled());
        }
        Next::Step(Step::Route(Phase::Committed))
    }

    fn create(&self) -> Next {
        if self.facts.created || !self.news.is_empty() {
            return Next::Undo(Reason::Failed(format!(
                "only {} of {} new replicas are left: another command removed the others",
                self.news.len(),
                self.desired.replicas
            )));
        }
        Next::Step(Step::Create {
            replicas: self.desired.replicas,
        })
    }

    fn after_cutover(&self) -> Next {
        if let Some(reason) = self.worse_than_before() {
            return Next::Undo(reason);
        }
        if self.news.is_empty() {
            return match self.old_serves() || self.can_restart() {
                true => Next::Undo(self.meddled()),
                false if self.claimed => Next::Step(Step::Release),
                false => Next::Fail(Failure::NeedsPerson("the new replicas are gone".into())),
            };
        }
        let mut unhidden = self
            .olds
            .iter()
            .filter(|old| old.may_run() && !self.hides(old))
            .peekable();
        if unhidden.peek().is_some() {
            let whole = self.news.len() >= self.desired.replicas as usize
                && self.news.iter().all(|new| new.serves());
            return match whole || !unhidden.any(|old| answers(old)) {
                true => Next::Step(Step::Route(Phase::Committed)),
                // Whoever answers there is a way back, and hiding it would leave fewer.
                false => Next::Undo(self.meddled()),
            };
        }
        if self.stale && self.news.iter().any(|new| new.serves()) {
            return Next::Step(Step::Route(Phase::Committed));
        }
        if self.desired.routed && self.facts.confirmed != Some(Phase::Committed) {
            return match self.facts.confirm_expired {
                Some(Phase::Committed)
                    if self.old_serves()
                        || self.can_restart()
                        || (self.desired.goal == Goal::Roll && self.can_be_hidden_again()) =>
                {
                    Next::Undo(Reason::Failed(self.unconfirmed()))
                }
                // Left by another run, with nothing to go back to: what is asked for now replaces it.
                Some(Phase::Committed) if self.desired.goal == Goal::Finish && !self.desired.served => {
                    Next::Step(Step::Release)
                }
                Some(Phase::Committed) => Next::Fail(Failure::NeedsPerson(
                    "the proxy did not confirm the new replicas in time, and no old one is left to go back to".into(),
                )),
                _ => Next::Step(Step::Confirm(Phase::Committed)),
            };
        }
        match &self.facts.baked {
            Some(Baked::Ill(why)) if self.old_can_take_over() => {
                Next::Undo(Reason::Failed(why.clone()))
            }
            None if self.is_to_bake() => Next::Step(Step::Bake),
            _ => self.retire(),
        }
    }

    /// Nothing was there before: without the new replicas, all is as it was. Over a dead old version they stay, unless
    /// they take other services off the proxy. A pin hides nothing from Docker's provider.
    fn can_be_hidden_again(&self) -> bool {
        !self.desired.served
            && !self.desired.confirm_hold
            && (self.desired.olds_at_start.is_empty() || self.facts.harms)
    }

    /// There is something to go back to.
    fn is_to_bake(&self) -> bool {
        self.desired.routed && self.desired.policy.bake && self.olds.iter().any(|old| answers(old))
    }

    fn unconfirmed(&self) -> String {
        let complaint = self.facts.complaint.clone();
        complaint.unwrap_or_else(|| "the proxy did not confirm the cutover in time".to_owned())
    }

    /// Why the traffic goes back although the cutover is written: the new set is ill, and the old one is better.
    fn worse_than_before(&self) -> Option<Reason> {
        // Without a proxy the old replicas still get requests, as many as there are.
        let unrouted = !self.desired.routed;
        let still = |old: &Replica| answers(old) || (unrouted && old.serves());
        let is_way_back = |old: &Replica| still(old) || self.can_be_restarted(old);
        let olds = self.olds.iter().filter(|old| is_way_back(old)).count();
        let news = self.news.iter().filter(|new| new.serves()).count();
        let whole = self.desired.olds_at_start.iter().all(|id| {
            self.olds
                .iter()
                .any(|old| old.id == *id && is_way_back(old))
        });
        let back = olds > 0 && (whole || olds >= news || unrouted);
        // A first start that has died leaves nothing that could be lost.
        let died = !self.desired.served && olds == 0 && news == 0;
        let ill = self.news.iter().find(|new| !new.serves());
        if let Some(ill) = ill
            && (back || died)
        {
            return Some(Reason::Failed(format!(
                "new replica {} {}",
                ill.target_name(),
                ill.with_complaint(match self.desired.routed {
                    true => "failed after the cutover",
                    false => "was ready and then failed",
                })
            )));
        }
        let missing = self.news.len() < self.desired.replicas as usize;
        (missing && back).then(|| self.meddled())
    }

    fn retire(&self) -> Next {
        let nobody = !self.news.iter().any(|new| new.serves());
        if self.desired.goal == Goal::Roll && nobody && !self.olds.is_empty() {
            return Next::Fail(Failure::NeedsPerson(
                "the new replicas failed while the old ones were stopped; nothing serves now"
                    .into(),
            ));
        }
        let hooks = self.desired.hooks;
        // Where no proxy routes to them, others may still have asked them something.
        if let Some(step) = self.wind_down(&self.olds, true, hooks) {
            return Next::Step(step);
        }
        let names: Vec<_> = self
            .news
            .iter()
            .filter(|new| new.name != new.target_name())
            .map(|new| (new.id.clone(), new.target_name().to_owned()))
            .collect();
        if !names.is_empty() {
            return Next::Step(Step::Rename { names });
        }
        if self.claimed {
            Next::Step(Step::Release)
        } else {
            self.done()
        }
    }

    /// Back to the old version.
    pub fn undo(&self, reason: &Reason) -> Next {
        if let Some(next) = self.back_to_stopped(reason) {
            return next;
        }
        if !self.desired.routed {
            return match self.phase {
                _ if self.only_new_can_serve() => self.only_new_left(reason),
                Some(Phase::Committed) => self.cut_back(reason),
                _ => self.remove_new(reason),
            };
        }
        match self.phase {
            Some(Phase::Committed | Phase::Shifted { .. }) => self.cut_back(reason),
            // Nothing hides the new replicas: they may answer, and must not go before that is over.
            Some(Phase::ForceShown | Phase::Settled) | None
                if self.news.iter().any(|new| new.may_run()) =>
            {
                if self.old_can_take_over() {
                    Next::Step(Step::Route(Phase::RolledBack))
                } else if self.news.iter().any(|new| new.serves()) {
                    self.only_new_left(reason)
                } else {
                    self.remove_new(reason)
                }
            }
            // They are where they were not when the traffic was taken back to them, or held with them.
            Some(Phase::RolledBack) if self.stale && self.old_serves() => {
                Next::Step(Step::Route(Phase::RolledBack))
            }
            Some(Phase::Prepared) if self.stale && self.old_serves() => {
                Next::Step(Step::Route(Phase::Prepared))
            }
            Some(Phase::Prepared | Phase::RolledBack)
                if self.only_new_can_serve() && !self.somebody_joined() =>
            {
                Next::Step(Step::Route(Phase::Committed))
            }
            Some(Phase::RolledBack)
                if self.facts.confirmed != Some(Phase::RolledBack) && self.may_be_asked() =>
            {
                match self.facts.confirm_expired {
                    Some(Phase::RolledBack) => Next::Fail(Failure::NeedsPerson(format!(
                        "{}; the proxy did not confirm the rollback either, so both versions are left running",
                        text(reason)
                    ))),
                    _ => Next::Step(Step::Confirm(Phase::RolledBack)),
                }
            }
            _ => self.remove_new(reason),
        }
    }

    /// Whether the way back matters to anybody: an old replica serves, or a new one may still get requests.
    fn may_be_asked(&self) -> bool {
        self.old_serves() || self.news.iter().any(|new| new.may_run())
    }

    fn cut_back(&self, reason: &Reason) -> Next {
        if self.old_can_take_over() {
            return Next::Step(Step::Route(Phase::RolledBack));
        }
        if self.news.is_empty() {
            return self.remove_new(reason);
        }
        if !self.desired.served && !self.news.iter().any(|new| new.serves()) {
            return self.remove_new(reason);
        }
        // What another run has left may be all that has served since.
        if self.can_be_hidden_again() && *reason != Reason::Unfinished {
            return Next::Step(Step::Route(Phase::RolledBack));
        }
        self.only_new_left(reason)
    }

    fn only_new_left(&self, reason: &Reason) -> Next {
        Next::Fail(Failure::NeedsPerson(format!(
            "{}; only the new replicas are left",
            text(reason)
        )))
    }

    fn remove_new(&self, reason: &Reason) -> Next {
        // Where nothing else serves, waiting for last answers would make the gap longer; and without a proxy nothing keeps
        // new requests away.
        let hidden = self.desired.routed && self.phase == Some(Phase::RolledBack);
        let drained = hidden && !self.is_restartable();
        if let Some(step) = self.wind_down(&self.news, drained, false) {
            return Next::Step(step);
        }
        if let Some(next) = self.start_again(reason) {
            return next;
        }
        if self.claimed && !self.facts.released {
            return Next::Step(Step::Release);
        }
        match reason {
            Reason::Unfinished => Next::Done,
            Reason::Interrupted => Next::Fail(Failure::Interrupted),
            Reason::Failed(text) => Next::Fail(Failure::OldServes(text.clone())),
        }
    }

    /// What is still to be done until nothing of a set is left.
    fn wind_down(&self, set: &[&Replica], drained: bool, hooks: bool) -> Option<Step> {
        let replicas = ids(set, |_| true);
        let remove = (!replicas.is_empty()).then_some(Step::Remove { replicas });
        self.halt(set, drained, hooks).or(remove)
    }

    /// What is still to be done until nothing of a set runs; `drained` first, where it got traffic, then its hooks.
    fn halt(&self, set: &[&Replica], drained: bool, hooks: bool) -> Option<Step> {
        let running = ids(set, Replica::may_run);
        let undrained: Vec<_> = running
            .iter()
            .filter(|id| !self.facts.drained.contains_key(id))
            .cloned()
            .collect();
        if drained && !undrained.is_empty() {
            return Some(Step::Drain {
                replicas: undrained,
            });
        }
        // A step of its own, since a hook may take long, and the way back is open until the stop.
        let unhooked = set
            .iter()
            .filter(|own| own.run == Run::Running && !self.facts.hooked.contains(&own.id));
        let unhooked: Vec<_> = unhooked.map(|own| own.id.clone()).collect();
        if hooks && !unhooked.is_empty() {
            return Some(Step::Hooks { replicas: unhooked });
        }
        (!running.is_empty()).then_some(Step::Stop { replicas: running })
    }

    fn is_ready(&self, new: &Replica) -> bool {
        self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready) && new.serves()
    }

    fn failed(&self) -> Option<String> {
        self.news
            .iter()
            .find_map(|new| match self.facts.verdicts.get(&new.id) {
                Some(Verdict::Failed(why)) => {
                    Some(format!("new replica {} {why}", new.target_name()))
                }
                Some(Verdict::Ready) if !new.serves() => Some(format!(
                    "new replica {} was ready and then failed",
                    new.target_name()
                )),
                _ => None,
            })
    }

    fn not_ready_in_time(&self) -> String {
        let waiting = self
            .news
            .iter()
            .find(|new| !self.is_ready(new))
            .map_or("", |new| new.target_name());
        format!("new replica {waiting} did not become ready in time")
    }

    fn somebody_joined(&self) -> bool {
        self.olds
            .iter()
            .any(|old| !self.desired.olds_at_start.contains(&old.id))
    }

    /// No replica that served when the rollout began can come back: none runs, and none is about to be started again.
    fn only_new_can_serve(&self) -> bool {
        self.desired.served
            && !self.olds.iter().any(|old| old.may_run())
            && self.news.iter().any(|new| new.serves())
    }

    fn meddled(&self) -> Reason {
        Reason::Failed("another command changed the service's containers during the rollout".into())
    }

    /// An old replica that is only starting is no way back as long as a new one may answer.
    fn old_can_take_over(&self) -> bool {
        let new_serves = self.news.iter().any(|new| new.serves());
        self.olds.iter().any(|old| answers(old)) || (self.old_serves() && !new_serves)
    }

    fn hides(&self, old: &Replica) -> bool {
        let target = Target::Replica(old.id.clone());
        self.routes.is_some_and(|plan| plan.is_hidden(&target))
    }

    fn old_serves(&self) -> bool {
        self.olds.iter().any(|old| old.serves())
    }
}

/// Whether a replica can be expected to answer now.
fn answers(replica: &Replica) -> bool {
    replica.run == Run::Running && matches!(replica.health, Health::None | Health::Healthy)
}

fn ids(replicas: &[&Replica], keep: impl Fn(&Replica) -> bool) -> Vec<ContainerId> {
    replicas
        .iter()
        .filter(|replica| keep(replica))
        .map(|replica| replica.id.clone())
        .collect()
}

fn text(reason: &Reason) -> &str {
    match reason {
        Reason::Failed(text) => text,
        Reason::Interrupted => "interrupted",
        Reason::Unfinished => "an earlier rollout was interrupted",
    }
}
