//! Rolling: the old replicas are replaced batch by batch, and brought back batch by batch if one fails.
//!
//! After each batch, one route plan shows its new replicas and hides as many old ones. These are drained and stopped, and
//! removed only after the last batch, so that they can be started again. A rollback takes the same route plans in the
//! reverse order. So both directions keep to the limits of live and of running replicas.

use super::{Rollout, answers, ready_then_failed};
use crate::{
    model::{
        Baked, Batches, FailureAction, Goal, HookEnd, HookPhase, Phase, Reason, Replica, Verdict,
    },
    plan::{Failure, Next, Step, taken_out},
};

impl Rollout<'_> {
    /// The next step before the cutover of the last batch; `None` if another strategy or phase decides.
    pub(super) fn roll_on(&self) -> Option<Next> {
        let batches = self.desired.policy.batches.as_ref();
        let batches = batches.filter(|_| self.desired.goal == Goal::Roll)?;
        Some(match self.phase {
            Some(phase @ Phase::Prepared) => self.roll_batch(batches, phase, 0),
            Some(phase @ Phase::Shifted { step }) => self.roll_batch(batches, phase, step),
            None if self.only_new_there() || self.is_given_up() => return None,
            None if self.new.is_empty() && !self.others_joined() => self
                .hook(HookPhase::PreDeploy)
                .unwrap_or(Next::Step(Step::Route(Phase::Prepared))),
            None => Next::Undo(self.changed_externally()),
            Some(Phase::ForceShown) if !self.old.is_empty() => {
                Next::Undo(self.changed_externally())
            }
            Some(_) => return None,
        })
    }

    /// The next step while `batch` batches are live, whose route plan is that of `phase`.
    fn roll_batch(&self, batches: &Batches, phase: Phase, batch: u16) -> Next {
        if let Some(reason) = self.fails_in_batch(batches, batch) {
            return Next::Undo(reason);
        }
        if self.stale {
            return Next::Step(Step::Route(phase));
        }
        if self.is_to_confirm(batches, phase) {
            return match self.facts.confirm_expired == Some(phase) {
                true => Next::Undo(Reason::Failed(self.unconfirmed())),
                false => Next::Step(Step::Confirm(phase)),
            };
        }
        if let Some(next) = self.pause(batch) {
            return next;
        }
        if batch > 0 && self.is_to_watch(batch) {
            return Next::Step(Step::Watch { batch });
        }
        let out: Vec<&Replica> = self
            .out(phase)
            .into_iter()
            .filter(|old| self.hides(old))
            .collect();
        if let Some(step) = self.halt(&out, true, self.desired.pre_stop) {
            return Next::Step(step);
        }
        if let Some(end) = self.end_in_part(batches, batch) {
            return Next::Fail(end);
        }
        let replicas = batches.shown(batch + 1);
        if self.new.len() < replicas as usize {
            let begun = self.new.iter().any(|new| new.batch > Some(batch));
            return match begun {
                true => Next::Undo(self.changed_externally()),
                false => Next::Step(Step::Create { replicas }),
            };
        }
        if self.new.iter().any(|new| !self.is_ready(new)) {
            return match self.facts.ready_expired {
                true => Next::Undo(Reason::Failed(self.not_ready_in_time())),
                false => Next::Step(Step::AwaitReady),
            };
        }
        let next = batches.phase_of(batch + 1);
        self.hook(HookPhase::PreCutover)
            .unwrap_or(Next::Step(Step::Route(next)))
    }

    fn fails_in_batch(&self, batches: &Batches, batch: u16) -> Option<Reason> {
        if self.others_joined() {
            return Some(self.changed_externally());
        }
        if let Some(why) = self.failed() {
            return Some(Reason::Failed(why));
        }
        if let Some(Baked::Failed(why)) = &self.facts.baked {
            return Some(Reason::Failed(why.clone()));
        }
        let live = self.new.iter().filter(|new| new.batch <= Some(batch));
        // An earlier run may have shown it.
        if let Some(failed) = live.clone().find(|new| !new.serves()) {
            return Some(Reason::Failed(ready_then_failed(failed)));
        }
        let missing = live.count() < batches.shown(batch) as usize;
        missing.then(|| self.changed_externally())
    }

    /// The end of a run that has tried as many batches as there are, of which some failed.
    fn end_in_part(&self, batches: &Batches, batch: u16) -> Option<Failure> {
        let failed = &self.facts.failed_batches;
        let last = failed.last()?;
        let are_tried = usize::from(batch) + failed.len() >= usize::from(batches.last());
        are_tried.then(|| {
            let (failed, all) = (failed.len(), batches.last());
            Failure::InPart(format!("{failed} of {all} batches failed: {last}"))
        })
    }

    /// How many batches stay live when the rollout goes back for this reason.
    pub fn kept_batches(&self, reason: &Reason) -> u16 {
        let is_failed = matches!(reason, Reason::Failed(_)) && !self.facts.is_undone;
        let batches = self.desired.policy.batches.as_ref();
        let Some(batches) = batches.filter(|_| is_failed) else {
            return 0;
        };
        let live = match self.phase {
            Some(Phase::Shifted { step }) => step,
            Some(Phase::Committed) => batches.last(),
            _ => return 0,
        };
        let shown = self.new.iter().filter(|new| new.batch <= Some(live));
        let is_changed = self.others_joined() || shown.count() < batches.shown(live) as usize;
        let mut hooks = self.facts.hooks.values();
        if is_changed || hooks.any(|end| matches!(end, HookEnd::Failed(_))) {
            return 0;
        }
        let has_failed = |new: &&&Replica| {
            let verdict = self.facts.verdicts.get(&new.id);
            !new.serves() || matches!(verdict, Some(Verdict::Failed(_)))
        };
        let failed = self.new.iter().filter(has_failed);
        let failed = failed.filter_map(|new| new.batch).min();
        let is_newest = self.facts.confirm_expired == self.phase || self.undone().is_some();
        let failed = failed.unwrap_or(if is_newest { live } else { live + 1 });
        let kept = failed.saturating_sub(1).min(batches.last() - 1);
        match self.failure_action(batches, kept) {
            FailureAction::Rollback => 0,
            FailureAction::Pause | FailureAction::Continue => kept,
        }
    }

    /// What follows the batch after these, which fails now.
    fn failure_action(&self, batches: &Batches, kept: u16) -> FailureAction {
        let policy = &self.desired.policy;
        // Only the last batch may be smaller, and no other one follows its failure.
        let before = self.facts.failed_batches.len() as u32 * batches.size;
        let failed = before + batches.shown(kept + 1) - batches.shown(kept);
        match failed <= policy.may_fail {
            // Its old replicas are stopped, so they would not serve.
            _ if batches.ahead > 0 => FailureAction::Rollback,
            true => FailureAction::Continue,
            false => policy.failure_action,
        }
    }

    /// The end of the way back where some batches stay live.
    fn end_of_way_back(&self, batches: &Batches) -> Next {
        let shift = self.facts.kept;
        match self.failure_action(batches, shift) {
            FailureAction::Rollback | FailureAction::Pause => Next::Pause { shift },
            FailureAction::Continue => Next::GoOn,
        }
    }

    /// Whether the proxy has to confirm the route plan of this phase. A hold that hides no old replica changes nothing.
    fn is_to_confirm(&self, batches: &Batches, phase: Phase) -> bool {
        let moves = match phase {
            Phase::Prepared => batches.ahead > 0,
            Phase::ForceShown | Phase::Settled => false,
            Phase::Shifted { .. } | Phase::Committed | Phase::RolledBack => true,
        };
        self.desired.routed && moves && self.facts.confirmed != Some(phase)
    }

    /// Whether the new replicas are still to be watched after this batch.
    pub(super) fn is_to_watch(&self, batch: u16) -> bool {
        let policy = &self.desired.policy;
        let is_timed = policy.monitor || (policy.delay && self.last_batch() != Some(batch));
        is_timed && !self.facts.watched.contains(&batch)
    }

    /// The batch whose route plan is the cutover.
    pub(super) fn last_batch(&self) -> Option<u16> {
        let batches = self.desired.policy.batches.as_ref()?;
        Some(batches.last())
    }

    /// The old replicas that the route plan of a phase hides.
    fn out(&self, phase: Phase) -> Vec<&Replica> {
        taken_out(phase, self.desired, self.observed)
    }

    /// The next step of a rollback: back by one batch at a time.
    pub(super) fn step_back(&self, batches: &Batches, reason: &Reason) -> Next {
        if self.only_new_can_serve() && !self.can_restart() {
            return match self.phase {
                Some(Phase::Prepared | Phase::RolledBack) => {
                    Next::Step(Step::Route(Phase::Committed))
                }
                _ => self.only_new_left(reason),
            };
        }
        if let Some(next) = self.remove_beyond(batches, reason) {
            return next;
        }
        if self.facts.kept > 0 && self.phase == Some(batches.phase_of(self.facts.kept)) {
            let open = self.confirm_back(batches, reason);
            return open.unwrap_or_else(|| self.end_of_way_back(batches));
        }
        let below = self.phase_below(batches);
        let returning = self.returning(below);
        if let Some(next) = self.bring_back(batches, &returning, reason) {
            return next;
        }
        match below {
            Some(below) if self.loses(below, &returning) => self.only_new_left(reason),
            Some(below) => Next::Step(Step::Route(below)),
            None if self.phase == Some(Phase::RolledBack) && self.old_serves() => self
                .confirm_back(batches, reason)
                .unwrap_or_else(|| self.end_of_rollback(reason)),
            None => self.end_of_rollback(reason),
        }
    }

    /// Removes the new replicas that the present route plan hides.
    fn remove_beyond(&self, batches: &Batches, reason: &Reason) -> Option<Next> {
        let batch = match self.phase {
            Some(Phase::Prepared | Phase::RolledBack) => 0,
            Some(Phase::Shifted { step }) => step,
            Some(Phase::Committed) => return None,
            // Nothing hides them.
            Some(Phase::ForceShown | Phase::Settled) | None => {
                match self.new.iter().any(|new| new.may_run()) {
                    true => return None,
                    false => 0,
                }
            }
        };
        let beyond = self.new.iter().copied();
        let beyond: Vec<&Replica> = beyond
            .filter(|new| batch == 0 || new.batch > Some(batch))
            .collect();
        if beyond.iter().any(|new| new.may_run())
            && let Some(next) = self.confirm_back(batches, reason)
        {
            return Some(next);
        }
        // They may have requests in flight if the proxy has just taken them out.
        let drained = self.desired.routed && self.facts.confirmed == self.phase;
        let drained = drained && self.phase.is_some();
        self.wind_down(&beyond, drained, false).map(Next::Step)
    }

    /// Has the proxies record and confirm the present route plan.
    fn confirm_back(&self, batches: &Batches, reason: &Reason) -> Option<Next> {
        let is_plan = |phase: &Phase| !matches!(phase, Phase::ForceShown | Phase::Settled);
        let phase = self.phase.filter(is_plan)?;
        if self.stale {
            return Some(Next::Step(Step::Route(phase)));
        }
        let is_open = self.is_to_confirm(batches, phase);
        is_open.then(|| match self.facts.confirm_expired == Some(phase) {
            true => self.back_unconfirmed(reason),
            false => Next::Step(Step::Confirm(phase)),
        })
    }

    /// The phase that a rollback takes next; `None` once the traffic is back.
    fn phase_below(&self, batches: &Batches) -> Option<Phase> {
        let below = |batch: u16| match (batch.saturating_sub(1), batches.ahead) {
            (0, 0) => Phase::RolledBack,
            (batch, _) => batches.phase_of(batch),
        };
        match self.phase {
            Some(Phase::Committed) => Some(below(batches.last())),
            Some(Phase::Shifted { step }) => Some(below(step)),
            Some(Phase::Prepared) => {
                let hides = self.old.iter().any(|old| self.hides(old));
                hides.then_some(Phase::RolledBack)
            }
            Some(Phase::RolledBack) => None,
            Some(Phase::ForceShown | Phase::Settled) | None => {
                let shown = self.new.iter().any(|new| new.may_run());
                shown.then_some(Phase::RolledBack)
            }
        }
    }

    /// Whether new replicas that serve would give way to old ones that do not.
    fn loses(&self, below: Phase, returning: &[&Replica]) -> bool {
        let is_ready = |old: &Replica| self.facts.verdicts.get(&old.id) == Some(&Verdict::Ready);
        let serves = |old: &&Replica| answers(old) || is_ready(old);
        let none_returns = !returning.is_empty() && !returning.iter().any(serves);
        let is_last = !matches!(below, Phase::Shifted { .. });
        let none_serves = none_returns || (is_last && !self.old_can_take_over());
        none_serves && self.new.iter().any(|new| new.serves())
    }

    /// Starts the old replicas that the next route plan shows, and waits until they are ready.
    fn bring_back(
        &self,
        batches: &Batches,
        returning: &[&Replica],
        reason: &Reason,
    ) -> Option<Next> {
        if let Some(next) = self.end_stops(batches, returning, reason) {
            return Some(next);
        }
        let started = |old: &Replica| self.facts.started.contains(&old.id);
        let again = |old: &Replica, why: &str| {
            Next::Fail(Failure::NeedsPerson(format!(
                "{}; old replica {} was started again and {why}",
                super::text(reason),
                old.name
            )))
        };
        let stopped = returning.iter().filter(|old| !old.may_run());
        if let Some(ended) = stopped.clone().find(|old| started(old)) {
            return Some(again(ended, "exited"));
        }
        let replicas: Vec<_> = stopped.map(|old| old.id.clone()).collect();
        if !replicas.is_empty() {
            return Some(Next::Step(Step::Start { replicas }));
        }
        let is_new_life = |old: &&&Replica| self.facts.is_new_life(old, self.desired);
        returning.iter().filter(is_new_life).find_map(|old| {
            match self.facts.verdicts.get(&old.id) {
                Some(Verdict::Ready) if old.serves() => None,
                Some(Verdict::Ready) => Some(again(old, "failed")),
                Some(Verdict::Failed(why)) => Some(again(old, why)),
                None if self.facts.ready_expired => {
                    Some(again(old, "did not become ready in time"))
                }
                None => Some(Next::Step(Step::AwaitReady)),
            }
        })
    }

    /// The old replicas that the next route plan shows and that do not serve now; the last one shows all.
    fn returning(&self, below: Option<Phase>) -> Vec<&Replica> {
        let stays = below.map(|below| self.out(below)).unwrap_or_default();
        let returns = |old: &&Replica| match old.may_run() {
            true => self.hides(old),
            false => self.desired.may_start_again(old),
        };
        let olds = self.old.iter().copied().filter(returns);
        olds.filter(|old| !stays.contains(old)).collect()
    }

    /// The engine carries out a stop that a killed run requested. Such a replica must not be shown before its end.
    fn end_stops(
        &self,
        batches: &Batches,
        returning: &[&Replica],
        reason: &Reason,
    ) -> Option<Next> {
        let phase = self.phase.filter(|_| self.facts.is_continued)?;
        let may_stop = |old: &&Replica| {
            let ran_on = self.desired.may_start_again(old) && !self.facts.started.contains(&old.id);
            ran_on && old.may_run()
        };
        let stopping: Vec<&Replica> = returning.iter().copied().filter(may_stop).collect();
        // Stops are requested only after the route plan is confirmed.
        if stopping.is_empty() || self.facts.confirm_expired == Some(phase) {
            return None;
        }
        if let Some(next) = self.confirm_back(batches, reason) {
            return Some(next);
        }
        self.halt(&stopping, true, false).map(Next::Step)
    }
}
