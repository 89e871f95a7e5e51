//! Stop-first: the old set makes room before the new one is created, and is started again where the new one fails.

use super::{Rollout, ids};
use crate::{
    model::{Order, Phase, Reason, Replica},
    plan::{Failure, Next, Step},
};

impl Rollout<'_> {
    /// What is still to be done until no old replica is in the way of a new one. There is no drain: the gap is the
    /// strategy's own.
    pub(super) fn make_room(&self) -> Option<Step> {
        match self.desired.policy.order {
            Order::StartFirst => None,
            Order::StopFirst => self.halt(&self.olds, false, self.desired.hooks),
        }
    }

    /// Whether the routing is as it has to be before the cutover. With the old replicas stopped, it does no harm that the
    /// socket proxy shows the new ones.
    pub(super) fn is_held(&self) -> bool {
        match self.phase {
            Some(Phase::Prepared) => true,
            Some(Phase::ForceShown) => self.is_restartable(),
            _ => false,
        }
    }

    /// Whether old replicas are there that were stopped, or are to be stopped, before the new ones are created.
    pub(super) fn is_restartable(&self) -> bool {
        self.restartable().next().is_some()
    }

    /// Whether the old version, stopped as it is, is a way back to one that served.
    pub(super) fn can_restart(&self) -> bool {
        self.olds.iter().any(|old| self.can_be_restarted(old))
    }

    pub(super) fn can_be_restarted(&self, old: &Replica) -> bool {
        let stopped = self.desired.may_start_again(old) && !old.may_run();
        stopped && self.desired.served && !self.facts.started.contains(&old.id)
    }

    /// The way back where the old replicas were stopped first; `None` where none of them is left, or what serves now is
    /// better than what was there before.
    pub(super) fn back_to_stopped(&self, reason: &Reason) -> Option<Next> {
        if !self.is_restartable() {
            return None;
        }
        match self.phase {
            Some(Phase::Committed) if !self.desired.served => None,
            Some(Phase::Committed) => Some(Next::Step(Step::Route(Phase::RolledBack))),
            // Started again, a replica may have another address than the record has.
            Some(Phase::RolledBack) if self.stale && self.old_serves() => {
                Some(Next::Step(Step::Route(Phase::RolledBack)))
            }
            Some(Phase::Prepared) if self.stale && self.old_serves() => {
                Some(Next::Step(Step::Route(Phase::Prepared)))
            }
            _ => Some(self.remove_new(reason)),
        }
    }

    /// Once the new replicas are gone: starts what was stopped to make room, and waits until the proxy routes to it again.
    pub(super) fn start_again(&self, reason: &Reason) -> Option<Next> {
        let stopping = self.stopping(reason);
        if !stopping.is_empty() {
            let replicas = ids(&stopping, |_| true);
            return Some(Next::Step(Step::Stop { replicas }));
        }
        let stopped: Vec<&Replica> = self.restartable().filter(|old| !old.may_run()).collect();
        let mut all = stopped.iter();
        if let Some(ended) = all.find(|old| self.facts.started.contains(&old.id)) {
            return Some(Next::Fail(Failure::NeedsPerson(format!(
                "{}; old replica {} was started again and exited",
                super::text(reason),
                ended.name
            ))));
        }
        if !stopped.is_empty() {
            let replicas = ids(&stopped, |_| true);
            return Some(Next::Step(Step::Start { replicas }));
        }
        let moved = !self.facts.started.is_empty() || self.phase == Some(Phase::RolledBack);
        let asks = self.desired.routed && self.is_restartable() && moved && self.old_serves();
        if !asks || self.facts.confirmed == Some(Phase::RolledBack) {
            return None;
        }
        Some(match self.facts.confirm_expired {
            Some(Phase::RolledBack) => Next::Fail(Failure::NeedsPerson(format!(
                "{}; the old version runs again, but the proxy did not confirm it in time",
                super::text(reason)
            ))),
            _ => Next::Step(Step::Confirm(Phase::RolledBack)),
        })
    }

    /// What an earlier run may have asked the engine to stop: that goes on, whatever became of the run.
    fn stopping(&self, reason: &Reason) -> Vec<&Replica> {
        // A cutover comes after the end of every stop.
        let may_stop = !matches!(self.phase, Some(Phase::Committed | Phase::RolledBack));
        let unfinished = *reason == Reason::Unfinished && may_stop;
        let all = self.restartable().filter(|_| unfinished);
        all.filter(|old| old.may_run() && !self.facts.started.contains(&old.id))
            .collect()
    }

    fn restartable(&self) -> impl Iterator<Item = &Replica> {
        let all = self.olds.iter().copied();
        all.filter(|old| self.desired.may_start_again(old))
    }
}
