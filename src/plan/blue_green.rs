//! One rollout as observed, and its next step: one cutover to a whole new set, after which the old set is removed.
//!
//! The old set is stopped first ([`stop_first`]), or the sets change places in batches ([`rolling`]), if the policy says so.

mod rolling;
mod stop_first;

use super::{Failure, Next, Step};
use crate::model::{
    Baked, ContainerId, Desired, Facts, Goal, Health, HookEnd, HookPhase, Milestone, Observed,
    Pause, Phase, Reason, Replica, RoutePlan, Run, Target, Verdict,
};

/// One rollout as observed: the two sets and the phase of the routing.
pub struct Rollout<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    facts: &'a Facts,
    phase: Option<Phase>,
    claimed: bool,
    stale: bool,
    routes: Option<&'a RoutePlan>,
    new: Vec<&'a Replica>,
    old: Vec<&'a Replica>,
}

impl<'a> Rollout<'a> {
    pub fn new(desired: &'a Desired, observed: &'a Observed, facts: &'a Facts) -> Self {
        let (new, old) = observed.split(&desired.rollout);
        let ours = observed
            .claim
            .as_ref()
            .filter(|claim| claim.rollout == desired.rollout);
        Self {
            desired,
            observed,
            facts,
            phase: ours.map(|claim| claim.phase),
            claimed: ours.is_some_and(|claim| claim.phase != Phase::Settled),
            stale: ours.is_some_and(|claim| claim.stale),
            routes: ours.map(|claim| &claim.plan),
            new,
            old,
        }
    }

    pub fn forward(&self) -> Next {
        if self.facts.released {
            return self.released();
        }
        if let Some(next) = self.roll_on() {
            return next;
        }
        match self.phase {
            Some(Phase::Committed) => self.after_cutover(),
            Some(Phase::Shifted { step }) => self.shifted(step),
            // The rollout is over; the other replicas belong to a later one.
            Some(Phase::Settled) if !self.old.is_empty() => self.done(),
            Some(Phase::Settled) => self.retire(),
            // Without a proxy the new replicas may be the only ones that answer.
            Some(Phase::RolledBack) if self.is_last_unrouted() => {
                Next::Step(Step::Route(Phase::Committed))
            }
            Some(Phase::RolledBack) => {
                Next::Undo(Reason::Failed("the traffic was moved back".into()))
            }
            Some(Phase::ForceShown)
                if !self.is_restartable()
                    && (self.old_serves() || !self.new.iter().any(|new| new.serves())) =>
            {
                Next::Undo(self.changed_externally())
            }
            // The claim was released but the reply was lost. Only new replicas exist; a hold would hide the only servers.
            None if self.only_new_there() => self.retire(),
            None if self.is_given_up() => self.released(),
            Some(Phase::Prepared | Phase::ForceShown) | None => self.before_cutover(),
        }
    }

    /// The cutover was confirmed and every old replica removed; any other replica was created later.
    fn is_given_up(&self) -> bool {
        let was_there = |old: &&Replica| self.desired.old_at_start.contains(&old.id);
        self.facts.confirmed == Some(Phase::Committed) && !self.old.iter().any(was_there)
    }

    fn is_last_unrouted(&self) -> bool {
        let finishes = self.desired.goal == Goal::Finish && !self.desired.routed;
        finishes && !self.old_serves() && self.new.iter().any(|new| new.serves())
    }

    fn only_new_there(&self) -> bool {
        self.old.is_empty() && self.new.iter().any(|new| new.serves())
    }

    fn released(&self) -> Next {
        // If the unfinished rollout of another run has no replicas left, the requested rollout starts afresh.
        let matters = self.desired.goal == Goal::Roll || self.desired.served;
        if matters && self.new.is_empty() {
            return Next::Fail(Failure::NeedsPerson("the new replicas are gone".into()));
        }
        self.done()
    }

    /// Nothing is left to do; a new replica that fails by now is an error.
    fn done(&self) -> Next {
        let failed = self.new.iter().find(|new| !new.serves());
        match failed.filter(|_| self.desired.goal == Goal::Roll) {
            Some(failed) => Next::Fail(Failure::NeedsPerson(format!(
                "new replica {} failed once the old replicas were stopped",
                failed.target_name()
            ))),
            None => Next::Done,
        }
    }

    fn before_cutover(&self) -> Next {
        if self.desired.goal == Goal::Finish && self.desired.routed {
            return self.take_over();
        }
        if self.others_joined() {
            return Next::Undo(self.changed_externally());
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
        if let Some(next) = self.hook(HookPhase::PreDeploy) {
            return next;
        }
        if !self.is_held() || self.stale {
            return Next::Step(Step::Route(Phase::Prepared));
        }
        if self.desired.confirm_hold && self.facts.confirmed != Some(Phase::Prepared) {
            return self.confirm_hold();
        }
        if let Some(step) = self.make_room() {
            return Next::Step(step);
        }
        if self.new.len() < self.desired.replicas as usize {
            return self.create();
        }
        if self.new.iter().any(|new| !self.is_ready(new)) {
            return match self.facts.ready_expired {
                true => Next::Undo(Reason::Failed(self.not_ready_in_time())),
                false => Next::Step(Step::AwaitReady),
            };
        }
        self.hook_before_traffic(0)
            .or_else(|| self.await_others(Milestone::Ready))
            .unwrap_or_else(|| Next::Step(Step::Route(self.phase_after(0))))
    }

    /// The hooks that run before the first change that moves traffic, if the one after this shift is it; 0 is before the
    /// first shift. They see a preview.
    fn hook_before_traffic(&self, shift: u16) -> Option<Next> {
        let moves = |phase| !self.desired.policy.previews(phase);
        let has_moved = shift > 0 && moves(Phase::Shifted { step: shift });
        let is_next = !has_moved && moves(self.phase_after(shift));
        is_next.then(|| self.hook(HookPhase::PreCutover)).flatten()
    }

    /// The wait for the other services of a joint cutover. An earlier rollout is finished alone: its cutover was joint.
    fn await_others(&self, all: Milestone) -> Option<Next> {
        let waits = self.desired.policy.together && self.desired.goal == Goal::Roll;
        let is_behind = self.facts.all_reached < Some(all);
        (waits && is_behind).then_some(Next::Step(Step::AwaitOthers(all)))
    }

    /// The hooks of a phase that have not run yet, or the end of the rollout where they failed.
    fn hook(&self, phase: HookPhase) -> Option<Next> {
        match self.facts.hooks.get(&phase) {
            None => {
                let has_hooks = self.desired.hook_phases.contains(&phase);
                has_hooks.then_some(Next::Step(Step::Hook(phase)))
            }
            Some(HookEnd::Passed) => None,
            Some(HookEnd::Failed(why)) => Some(Next::Undo(Reason::Failed(why.clone()))),
        }
    }

    fn confirm_hold(&self) -> Next {
        match self.facts.confirm_expired {
            Some(Phase::Prepared) => Next::Undo(Reason::Failed(
                "the proxy did not confirm in time that it still routes to the old replicas".into(),
            )),
            _ => Next::Step(Step::Confirm(Phase::Prepared)),
        }
    }

    /// The phase after the shift of this number; 0 is before the first.
    fn phase_after(&self, shift: u16) -> Phase {
        let next = self.desired.policy.shift(shift + 1);
        match next.filter(|_| !self.facts.is_promoted) {
            Some(_) => Phase::Shifted { step: shift + 1 },
            None => Phase::Committed,
        }
    }

    /// The steps while the new replicas get a part of the traffic, or are previewed.
    fn shifted(&self, step: u16) -> Next {
        let now = Phase::Shifted { step };
        if !self.old_serves() {
            return self.take_over();
        }
        let undone = || self.undone().map(Reason::Failed);
        if let Some(reason) = self.worse_than_before().or_else(undone) {
            return Next::Undo(reason);
        }
        if self.stale {
            return Next::Step(Step::Route(now));
        }
        if self.facts.confirmed != Some(now) {
            return match self.facts.confirm_expired == Some(now) {
                true => Next::Undo(Reason::Failed(self.unconfirmed())),
                false => Next::Step(Step::Confirm(now)),
            };
        }
        self.pause(step)
            .or_else(|| self.hook_before_traffic(step))
            .unwrap_or_else(|| Next::Step(Step::Route(self.phase_after(step))))
    }

    /// The pause after a shift or a batch, or the end of the run there.
    fn pause(&self, shift: u16) -> Option<Next> {
        let own = self.desired.policy.shift(shift).and_then(|own| own.pause);
        let own = own.filter(|_| self.facts.passed < shift);
        let span = match own {
            _ if self.facts.is_promoted => return None,
            _ if self.facts.is_held => None,
            Some(Pause::Timed(span)) => Some(span),
            Some(Pause::Open) => None,
            None => return None,
        };
        Some(match span.is_none() && !self.desired.policy.attach {
            true => Next::Pause { shift },
            false => Next::Step(Step::Pause { shift, span }),
        })
    }

    /// Why what was live is taken back: it failed while it was watched, or another run has asked for that.
    fn undone(&self) -> Option<String> {
        match &self.facts.baked {
            Some(Baked::Failed(why)) => Some(why.clone()),
            Some(Baked::Passed) | None => None,
        }
    }

    /// Cuts over early if only new replicas are left to serve.
    fn take_over(&self) -> Next {
        if self.old_serves() || self.new.is_empty() {
            return Next::Undo(self.changed_externally());
        }
        Next::Step(Step::Route(Phase::Committed))
    }

    fn create(&self) -> Next {
        if self.facts.created || !self.new.is_empty() {
            return Next::Undo(Reason::Failed(format!(
                "only {} of {} new replicas are left: another command removed the others",
                self.new.len(),
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
        if let Some(why) = &self.facts.others_failed
            && self.facts.all_reached < Some(Milestone::Live)
            && self.has_way_back(self.old_can_take_over())
        {
            return Next::Undo(Reason::Failed(why.clone()));
        }
        if self.new.is_empty() {
            return match self.old_serves() || self.can_restart() {
                true => Next::Undo(self.changed_externally()),
                false if self.claimed => Next::Step(Step::Release),
                false => Next::Fail(Failure::NeedsPerson("the new replicas are gone".into())),
            };
        }
        if let Some(why) = self.undone()
            && self.has_way_back(self.old_can_take_over())
        {
            return Next::Undo(Reason::Failed(why));
        }
        let mut unhidden = self
            .old
            .iter()
            .filter(|old| old.may_run() && !self.hides(old))
            .peekable();
        if unhidden.peek().is_some() {
            let whole = self.new.len() >= self.desired.replicas as usize
                && self.new.iter().all(|new| new.serves());
            return match whole || !unhidden.any(|old| answers(old)) {
                true => Next::Step(Step::Route(Phase::Committed)),
                // An unexpected replica that answers is a rollback target; hiding it would reduce capacity.
                false => Next::Undo(self.changed_externally()),
            };
        }
        if self.stale && self.new.iter().any(|new| new.serves()) {
            return Next::Step(Step::Route(Phase::Committed));
        }
        if self.desired.routed && self.facts.confirmed != Some(Phase::Committed) {
            return match self.facts.confirm_expired {
                Some(Phase::Committed) if self.has_way_back(self.old_serves()) => {
                    Next::Undo(Reason::Failed(self.unconfirmed()))
                }
                // Left by another run, with nothing to roll back to: the requested rollout replaces it.
                Some(Phase::Committed) if self.desired.goal == Goal::Finish && !self.desired.served => {
                    Next::Step(Step::Release)
                }
                Some(Phase::Committed) => Next::Fail(Failure::NeedsPerson(
                    "the proxy did not confirm the new replicas in time, and no old one is left to go back to".into(),
                )),
                _ => Next::Step(Step::Confirm(Phase::Committed)),
            };
        }
        if let Some(next) = self.hook(HookPhase::PostCutover)
            && (matches!(next, Next::Step(_)) || self.has_way_back(self.old_can_take_over()))
        {
            return next;
        }
        self.watched()
    }

    /// The bake, and the wait for the other services of a joint cutover.
    fn watched(&self) -> Next {
        match &self.facts.baked {
            None if self
                .last_batch()
                .is_some_and(|batch| self.is_to_watch(batch)) =>
            {
                let batch = self.last_batch().unwrap_or_default();
                Next::Step(Step::Watch { batch })
            }
            None if self.is_to_bake() => Next::Step(Step::Bake),
            _ => self
                .await_others(Milestone::Live)
                .filter(|_| self.facts.others_failed.is_none())
                .unwrap_or_else(|| self.retire()),
        }
    }

    /// Whether the cutover can be undone; `old` is whether an old replica that runs can take the traffic.
    fn has_way_back(&self, old: bool) -> bool {
        old || self.can_restart() || (self.desired.goal == Goal::Roll && self.can_be_hidden_again())
    }

    /// Hiding the new replicas restores the state before a first start. If a dead old version exists, they stay, unless
    /// they remove routers of other services. A pin hides nothing from Docker's provider.
    fn can_be_hidden_again(&self) -> bool {
        !self.desired.served
            && !self.desired.confirm_hold
            && (self.desired.old_at_start.is_empty() || self.facts.harms)
    }

    /// Whether there are old replicas to roll back to during a bake.
    fn is_to_bake(&self) -> bool {
        self.desired.routed && self.desired.policy.bake && self.old.iter().any(|old| answers(old))
    }

    fn unconfirmed(&self) -> String {
        let complaint = self.facts.complaint.clone();
        let is_preview = self
            .phase
            .is_some_and(|own| self.desired.policy.previews(own));
        let what = if is_preview { "preview" } else { "cutover" };
        complaint.unwrap_or_else(|| format!("the proxy did not confirm the {what} in time"))
    }

    /// The reason for a rollback after the cutover: the new set fails and the old set is better.
    fn worse_than_before(&self) -> Option<Reason> {
        // Without a proxy all old replicas still get requests.
        let unrouted = !self.desired.routed;
        let still = |old: &Replica| answers(old) || (unrouted && old.serves());
        let is_way_back = |old: &Replica| still(old) || self.can_be_restarted(old);
        let old = self.old.iter().filter(|old| is_way_back(old)).count();
        let new = self.new.iter().filter(|new| new.serves()).count();
        let whole = self
            .desired
            .old_at_start
            .iter()
            .all(|id| self.old.iter().any(|old| old.id == *id && is_way_back(old)));
        let back = old > 0 && (whole || old >= new || unrouted);
        // A failed first start has nothing to lose.
        let died = !self.desired.served && old == 0 && new == 0;
        let failed = self.new.iter().find(|new| !new.serves());
        if let Some(failed) = failed
            && (back || died)
        {
            return Some(Reason::Failed(format!(
                "new replica {} {}",
                failed.target_name(),
                failed.with_complaint(match self.phase {
                    Some(Phase::Committed) if self.desired.routed => "failed after the cutover",
                    _ => "was ready and then failed",
                })
            )));
        }
        let missing = self.new.len() < self.desired.replicas as usize;
        (missing && back).then(|| self.changed_externally())
    }

    /// Old replicas may be stopped from here on: the proxy, where there is one, has confirmed the new ones, and the bake is over.
    fn retire(&self) -> Next {
        let none_serves = !self.new.iter().any(|new| new.serves());
        if self.desired.goal == Goal::Roll && none_serves && !self.old.is_empty() {
            return Next::Fail(Failure::NeedsPerson(
                "the new replicas failed while the old ones were stopped; nothing serves now"
                    .into(),
            ));
        }
        let pre_stop = self.desired.pre_stop;
        // Without a route, other clients may still have requests in flight.
        if let Some(step) = self.wind_down(&self.old, true, pre_stop) {
            return Next::Step(step);
        }
        let names: Vec<_> = self
            .new
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

    /// The next step of a rollback to the old version.
    pub fn undo(&self, reason: &Reason) -> Next {
        if let Some(batches) = &self.desired.policy.batches {
            return self.step_back(batches, reason);
        }
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
            // Nothing hides the new replicas: they may have requests in flight and are drained first.
            Some(Phase::ForceShown | Phase::Settled) | None
                if self.new.iter().any(|new| new.may_run()) =>
            {
                if self.old_can_take_over() {
                    Next::Step(Step::Route(Phase::RolledBack))
                } else if self.new.iter().any(|new| new.serves()) {
                    self.only_new_left(reason)
                } else {
                    self.remove_new(reason)
                }
            }
            // Old replicas changed address since the record was written; write the same routing again.
            Some(Phase::RolledBack) if self.stale && self.old_serves() => {
                Next::Step(Step::Route(Phase::RolledBack))
            }
            Some(Phase::Prepared) if self.stale && self.old_serves() => {
                Next::Step(Step::Route(Phase::Prepared))
            }
            Some(Phase::Prepared | Phase::RolledBack)
                if self.only_new_can_serve() && !self.others_joined() =>
            {
                Next::Step(Step::Route(Phase::Committed))
            }
            Some(Phase::RolledBack)
                if self.facts.confirmed != Some(Phase::RolledBack) && self.may_be_asked() =>
            {
                match self.facts.confirm_expired {
                    Some(Phase::RolledBack) => self.back_unconfirmed(reason),
                    _ => Next::Step(Step::Confirm(Phase::RolledBack)),
                }
            }
            _ => self.remove_new(reason),
        }
    }

    /// Whether the rollback has to be confirmed: an old replica serves, or a new one may still get requests.
    fn may_be_asked(&self) -> bool {
        self.old_serves() || self.new.iter().any(|new| new.may_run())
    }

    fn cut_back(&self, reason: &Reason) -> Next {
        if self.old_can_take_over() {
            return Next::Step(Step::Route(Phase::RolledBack));
        }
        if self.new.is_empty() {
            return self.remove_new(reason);
        }
        if !self.desired.served && !self.new.iter().any(|new| new.serves()) {
            return self.remove_new(reason);
        }
        // The replicas of another run may have been the only ones that served since.
        if self.can_be_hidden_again() && *reason != Reason::Unfinished {
            return Next::Step(Step::Route(Phase::RolledBack));
        }
        self.only_new_left(reason)
    }

    fn back_unconfirmed(&self, reason: &Reason) -> Next {
        Next::Fail(Failure::NeedsPerson(format!(
            "{}; the proxy did not confirm the rollback either, so both versions are left running",
            text(reason)
        )))
    }

    fn only_new_left(&self, reason: &Reason) -> Next {
        Next::Fail(Failure::NeedsPerson(format!(
            "{}; only the new replicas are left",
            text(reason)
        )))
    }

    fn remove_new(&self, reason: &Reason) -> Next {
        // If nothing else serves, a drain would prolong the gap; without a proxy, new requests keep arriving.
        let hidden = self.desired.routed && self.phase == Some(Phase::RolledBack);
        let drained = hidden && !self.is_restartable();
        if let Some(step) = self.wind_down(&self.new, drained, false) {
            return Next::Step(step);
        }
        if let Some(next) = self.start_again(reason) {
            return next;
        }
        self.end_of_rollback(reason)
    }

    fn end_of_rollback(&self, reason: &Reason) -> Next {
        if self.claimed && !self.facts.released {
            return Next::Step(Step::Release);
        }
        match reason {
            Reason::Unfinished => Next::Done,
            Reason::Interrupted => Next::Fail(Failure::Interrupted),
            Reason::Failed(text) => Next::Fail(Failure::OldServes(text.clone())),
        }
    }

    /// The next step to remove a set.
    fn wind_down(&self, set: &[&Replica], drained: bool, pre_stop: bool) -> Option<Step> {
        let replicas = ids(set, |_| true);
        let remove = (!replicas.is_empty()).then_some(Step::Remove { replicas });
        self.halt(set, drained, pre_stop).or(remove)
    }

    /// The next step to stop a set: with `drained` its drain first, with `pre_stop` then its pre-stop hooks.
    fn halt(&self, set: &[&Replica], drained: bool, pre_stop: bool) -> Option<Step> {
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
        // A step of its own: a hook may take long, and a rollback is possible until the stop.
        let not_run = set
            .iter()
            .filter(|own| own.run == Run::Running && !self.facts.pre_stopped.contains(&own.id));
        let not_run: Vec<_> = not_run.map(|own| own.id.clone()).collect();
        if pre_stop && !not_run.is_empty() {
            return Some(Step::PreStop { replicas: not_run });
        }
        (!running.is_empty()).then_some(Step::Stop { replicas: running })
    }

    fn is_ready(&self, new: &Replica) -> bool {
        self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready) && new.serves()
    }

    fn failed(&self) -> Option<String> {
        let own = self
            .new
            .iter()
            .find_map(|new| match self.facts.verdicts.get(&new.id) {
                Some(Verdict::Failed(why)) => {
                    Some(format!("new replica {} {why}", new.target_name()))
                }
                Some(Verdict::Ready) if !new.serves() => Some(ready_then_failed(new)),
                _ => None,
            });
        own.or_else(|| self.facts.others_failed.clone())
            .or_else(|| self.undone())
    }

    fn not_ready_in_time(&self) -> String {
        let waiting = self
            .new
            .iter()
            .find(|new| !self.is_ready(new))
            .map_or("", |new| new.target_name());
        format!("new replica {waiting} did not become ready in time")
    }

    fn others_joined(&self) -> bool {
        self.old
            .iter()
            .any(|old| !self.desired.old_at_start.contains(&old.id))
    }

    /// No replica that served at the start can serve again: none runs, and none is restarted.
    fn only_new_can_serve(&self) -> bool {
        self.desired.served
            && !self.old.iter().any(|old| old.may_run())
            && self.new.iter().any(|new| new.serves())
    }

    fn changed_externally(&self) -> Reason {
        Reason::Failed("another command changed the service's containers during the rollout".into())
    }

    /// An old replica that is still starting is no rollback target while a new one may answer.
    fn old_can_take_over(&self) -> bool {
        let new_serves = self.new.iter().any(|new| new.serves());
        self.old.iter().any(|old| answers(old)) || (self.old_serves() && !new_serves)
    }

    fn hides(&self, old: &Replica) -> bool {
        let target = Target::Replica(old.id.clone());
        self.routes.is_some_and(|plan| plan.is_hidden(&target))
    }

    fn old_serves(&self) -> bool {
        self.old.iter().any(|old| old.serves())
    }
}

fn ready_then_failed(new: &Replica) -> String {
    format!(
        "new replica {} was ready and then failed",
        new.target_name()
    )
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
