//! Stop-first: the old set is stopped before the new one is created, and started again if the new one fails.

use super::{Rollout, ids};
use crate::{
    model::{Order, Phase, Reason, Replica},
    plan::{Failure, Next, Step},
};

impl Rollout<'_> {
    /// The next step to stop the old replicas. There is no drain: the gap is part of the strategy.
    pub(super) fn make_room(&self) -> Option<Step> {
        match self.desired.policy.order {
            Order::StartFirst => None,
            Order::StopFirst => self.halt(&self.old, false, self.desired.pre_stop),
        }
    }

    /// Whether the routing is right before the cutover. With the old replicas stopped, the socket proxy may show the new
    /// ones.
    pub(super) fn is_held(&self) -> bool {
        match self.phase {
            Some(Phase::Prepared) => true,
            Some(Phase::ForceShown) => self.is_restartable(),
            _ => false,
        }
    }

    /// Whether there are old replicas that are stopped before the new ones are created.
    pub(super) fn is_restartable(&self) -> bool {
        self.restartable().next().is_some()
    }

    /// Whether a stopped old replica that served can be started again.
    pub(super) fn can_restart(&self) -> bool {
        self.old.iter().any(|old| self.can_be_restarted(old))
    }

    pub(super) fn can_be_restarted(&self, old: &Replica) -> bool {
        let stopped = self.desired.may_start_again(old) && !old.may_run();
        stopped && self.desired.served && !self.facts.started.contains(&old.id)
    }

    /// The next step of a rollback to stopped replicas; `None` if none is left, or the new version is better than before.
    pub(super) fn back_to_stopped(&self, reason: &Reason) -> Option<Next> {
        if !self.is_restartable() {
            return None;
        }
        match self.phase {
            Some(Phase::Committed) if !self.desired.served => None,
            Some(Phase::Committed) => Some(Next::Step(Step::Route(Phase::RolledBack))),
            // A restarted replica may have another address than the recorded one.
            Some(Phase::RolledBack) if self.stale && self.old_serves() => {
                Some(Next::Step(Step::Route(Phase::RolledBack)))
            }
            Some(Phase::Prepared) if self.stale && self.old_serves() => {
                Some(Next::Step(Step::Route(Phase::Prepared)))
            }
            _ => Some(self.remove_new(reason)),
        }
    }

    /// After the new replicas are removed: starts the stopped replicas and waits until the proxy routes to them.
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

    /// Replicas whose stop an earlier run may have requested: the engine carries it out even after a kill.
    fn stopping(&self, reason: &Reason) -> Vec<&Replica> {
        // A cutover comes after the end of every stop.
        let may_stop = !matches!(self.phase, Some(Phase::Committed | Phase::RolledBack));
        let unfinished = *reason == Reason::Unfinished && may_stop;
        let all = self.restartable().filter(|_| unfinished);
        all.filter(|old| old.may_run() && !self.facts.started.contains(&old.id))
            .collect()
    }

    fn restartable(&self) -> impl Iterator<Item = &Replica> {
        let all = self.old.iter().copied();
        all.filter(|old| self.desired.may_start_again(old))
    }
}
