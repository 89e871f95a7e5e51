//! The pure planner: decides the next step from the desired and the observed state. No clock, no randomness, no IO.

mod asked;
pub mod blue_green;
pub mod preview;
#[cfg(test)]
mod properties;
mod route;
#[cfg(test)]
pub(crate) mod simulator;
#[cfg(test)]
mod table;
#[cfg(test)]
mod walk;

use std::{collections::BTreeSet, time::Duration};

pub use self::asked::{hears, take_request};
pub use self::route::{
    batch_of, claim, next_batch, plan_to_confirm, route_plan, share_by_number, taken_out,
};
use crate::model::{
    Batches, ContainerId, Desired, Facts, Goal, HookPhase, Milestone, Observed, Order, Phase,
    Reason, Replica, RolloutId,
};

/// One idempotent change or wait; the executor checks, acts, and observes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Apply the route plan of a phase, all of it at once, and record both.
    Route(Phase),
    /// Run the hooks of `x-rollout.hooks` for this phase.
    Hook(HookPhase),
    /// Let Compose create and start new replicas, until there are so many.
    Create {
        replicas: u32,
    },
    /// Wait until every new replica, and every old one that was started again, has passed its gates.
    AwaitReady,
    /// Wait until every service of the joint cutover has reached this, or one goes back.
    AwaitOthers(Milestone),
    /// Ask every proxy until it reports the route plan of this phase.
    Confirm(Phase),
    /// Watch the new replicas while the old ones still run for a rollback.
    Bake,
    /// Watch the new replicas after a batch, before the next.
    Watch {
        batch: u16,
    },
    /// Watch the new replicas after a shift or a batch, before the next.
    Pause {
        shift: u16,
        /// How long; `None` until a person ends it.
        span: Option<Duration>,
    },
    /// Wait until each of these has answered its last request.
    Drain {
        /// Replicas that no proxy routes to now.
        replicas: Vec<ContainerId>,
    },
    /// Run the pre-stop hooks in each.
    PreStop {
        replicas: Vec<ContainerId>,
    },
    /// Stop each with its own signal and grace period.
    Stop {
        replicas: Vec<ContainerId>,
    },
    /// Start old replicas again that were stopped before the end of the rollout.
    Start {
        /// Replicas that ran when the rollout began, and do not run now.
        replicas: Vec<ContainerId>,
    },
    Remove {
        replicas: Vec<ContainerId>,
    },
    /// Give the new replicas their final names.
    Rename {
        /// Container → its final name.
        names: Vec<(ContainerId, String)>,
    },
    /// Drop the overlay's record, except for what a health check without a result still needs.
    Release,
}

impl Step {
    /// The name in logs and events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Route(Phase::Prepared) => "hold",
            Self::Route(Phase::Shifted { .. }) => "shift",
            Self::Route(Phase::Committed) => "cutover",
            Self::Route(Phase::RolledBack) => "cut_back",
            Self::Route(Phase::ForceShown | Phase::Settled) => "route",
            Self::Hook(phase) => phase.name(),
            Self::Create { .. } => "create",
            Self::AwaitReady => "ready",
            Self::AwaitOthers(_) => "await_others",
            Self::Confirm(_) => "confirm",
            Self::Bake => "bake",
            Self::Watch { .. } => "watch",
            Self::Pause { .. } => "pause",
            Self::Drain { .. } => "drain",
            Self::PreStop { .. } => "hooks",
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::Remove { .. } => "remove",
            Self::Rename { .. } => "rename",
            Self::Release => "release",
        }
    }

    /// Whether it changes nothing.
    pub fn is_wait(&self) -> bool {
        matches!(
            self,
            Self::AwaitReady
                | Self::AwaitOthers(_)
                | Self::Confirm(_)
                | Self::Bake
                | Self::Watch { .. }
                | Self::Pause { .. }
                | Self::Drain { .. }
        )
    }

    /// Whether it watches the new replicas for a time.
    pub fn is_watch(&self) -> bool {
        matches!(self, Self::Bake | Self::Watch { .. } | Self::Pause { .. })
    }

    /// Without a proxy a claim moves no traffic, so writing it is not reported as a step.
    pub fn is_reported(&self, routed: bool) -> bool {
        routed || !matches!(self, Self::Route(_) | Self::Release)
    }

    /// The names of the existing replicas that it acts on; empty for all.
    pub fn replicas(&self, observed: &Observed) -> Vec<String> {
        let ids = match self {
            Self::Drain { replicas }
            | Self::PreStop { replicas }
            | Self::Stop { replicas }
            | Self::Start { replicas }
            | Self::Remove { replicas } => replicas.clone(),
            Self::Rename { names } => names.iter().map(|(id, _)| id.clone()).collect(),
            _ => Vec::new(),
        };
        let name = |id| {
            let found = observed.replicas.iter().find(|replica| &replica.id == id);
            found.map(|replica| replica.name.clone())
        };
        ids.iter().filter_map(name).collect()
    }
}

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Do this, then ask again.
    Step(Step),
    /// The goal cannot be reached: take [`Goal::Undo`] as the goal from here on.
    Undo(Reason),
    /// A rollback is not possible any more, with the reason: take [`Goal::Finish`] as the goal from here on.
    Finish(String),
    /// A failed batch is taken back: take [`Goal::Roll`] as the goal again.
    GoOn,
    /// The run ends at an open-ended pause after this shift or batch; a later one goes on.
    Pause {
        shift: u16,
    },
    Done,
    /// The goal cannot be reached, and the rollback is complete as far as possible.
    Fail(Failure),
}

/// How a rollout ends that does not reach its goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The old version serves as before: why.
    OldServes(String),
    /// A signal came, and the old version serves as before.
    Interrupted,
    /// Some batches failed, and those that did not are live: why.
    InPart(String),
    /// Nothing more can be done automatically: why.
    NeedsPerson(String),
}

/// The next step towards the goal.
pub fn plan(desired: &Desired, observed: &Observed, facts: &Facts) -> Next {
    let rollout = blue_green::Rollout::new(desired, observed, facts);
    match &desired.goal {
        Goal::Roll | Goal::Finish => rollout.forward(),
        Goal::Undo(reason) => rollout.undo(reason),
    }
}

/// Takes another goal where the planner asks for one.
pub fn take_goal(next: &Next, desired: &mut Desired, observed: &Observed, facts: &mut Facts) {
    match next {
        Next::Undo(reason) => turn_back(reason.clone(), desired, observed, facts),
        Next::Finish(_) => desired.goal = Goal::Finish,
        Next::GoOn => {
            if let Goal::Undo(Reason::Failed(why)) = &desired.goal {
                facts.failed_batches.push(why.clone());
            }
            let kept = std::mem::take(&mut facts.kept);
            facts.watched.retain(|batch| *batch <= kept);
            facts.started.clear();
            let is_there = |id: &ContainerId| observed.replicas.iter().any(|own| own.id == *id);
            facts.verdicts.retain(|id, _| is_there(id));
            (facts.baked, facts.complaint) = (None, None);
            desired.goal = Goal::Roll;
        }
        Next::Step(_) | Next::Pause { .. } | Next::Done | Next::Fail(_) => {}
    }
}

/// Takes a rollback as the goal.
pub fn turn_back(reason: Reason, desired: &mut Desired, observed: &Observed, facts: &mut Facts) {
    let rollout = blue_green::Rollout::new(desired, observed, facts);
    facts.kept = rollout.kept_batches(&reason);
    desired.goal = Goal::Undo(reason);
    facts.drained.clear();
    facts.ready_expired = false;
}

/// The record of a rollout that stops old replicas before its end: its id, and the old replicas that it found running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopFirst {
    pub rollout: RolloutId,
    /// Those that have not been started again since.
    pub ran: BTreeSet<ContainerId>,
    /// The batches of a rolling update; `None` if it stops all at once.
    pub batches: Option<Batches>,
}

impl StopFirst {
    /// The same of a rolling update between two batches, as the claim and the replicas show it.
    pub fn between_batches(observed: &Observed) -> Option<Self> {
        let claim = observed.claim.as_ref();
        let claim = claim.filter(|claim| claim.plan.has_batches())?;
        let Phase::Shifted { step } = claim.phase else {
            return None;
        };
        let (new, old) = observed.split(&claim.rollout);
        let first = new.iter().filter(|new| new.batch == Some(1));
        let batches = Batches {
            size: first.count() as u32,
            ahead: 0,
            replicas: new.iter().filter_map(|new| new.wanted).max()?,
            olds: old.len() as u32,
        };
        let hidden = claim.plan.hidden().count() as u32;
        let ahead = hidden.saturating_sub(batches.shown(step));
        Some(Self {
            rollout: claim.rollout.clone(),
            ran: old.iter().map(|old| old.id.clone()).collect(),
            batches: Some(Batches { ahead, ..batches }),
        })
    }

    /// Adapts the goal of a later run that finds these old replicas.
    pub fn resume(self, desired: &mut Desired, old: &[Replica]) {
        if self.rollout == desired.rollout {
            desired.policy.batches = self.batches;
            if self.batches.is_none() {
                desired.policy.order = Order::StopFirst;
            }
            desired.served |= old.iter().any(|old| self.has_stopped(old));
            desired.restartable = self.ran;
        }
    }

    fn has_stopped(&self, replica: &Replica) -> bool {
        self.ran.contains(&replica.id) && !replica.may_run()
    }
}

/// The rollout that an earlier run left unfinished: its id, the goal for it, and how many replicas it wanted.
///
/// The claim decides. After a recorded cutover the rollout is finished, and after a shift or a batch it goes on from there.
/// Before, it is rolled back, unless nothing else serves or can be started again. If the claim is lost, the
/// containers decide. `begun` is the last rollout if it stops first.
pub fn unfinished(
    observed: &Observed,
    routed: bool,
    begun: Option<&StopFirst>,
) -> Option<(RolloutId, Goal, u32)> {
    let unsettled = observed
        .claim
        .as_ref()
        .filter(|claim| claim.phase != Phase::Settled);
    let rollout = match unsettled {
        Some(claim) => claim.rollout.clone(),
        None => match unnamed(observed) {
            Some(new) => new.rollout.clone()?,
            None => halted(observed, begun)?,
        },
    };
    let (own, others) = observed.split(&rollout);
    let wanted = own.iter().filter_map(|replica| replica.wanted).max();
    let wanted = wanted.unwrap_or(own.len() as u32);
    let begun = begun.filter(|begun| begun.rollout == rollout);
    let restartable = |other: &Replica| begun.is_some_and(|begun| begun.has_stopped(other));
    let way_back = others
        .iter()
        .any(|other| other.serves() || restartable(other));
    let last = !way_back && own.iter().any(|own| own.serves());
    let whole = !own.is_empty() && own.len() as u32 == wanted;
    // Replicas get their final names only after the cutover.
    let named = own.iter().all(|own| own.name == own.target_name());
    let is_between = unsettled.is_some_and(|claim| match claim.phase {
        Phase::Shifted { step } if claim.plan.has_batches() => {
            has_batches(step, &own, begun.and_then(|begun| begun.batches.as_ref()))
        }
        Phase::Shifted { .. } => whole,
        _ => false,
    });
    let forward = match unsettled.map(|claim| claim.phase) {
        Some(Phase::Committed) => true,
        // Without a proxy nothing hides the new replicas: they may be the only ones that answer.
        // A part of the new replicas is live.
        Some(Phase::Shifted { .. }) if last => true,
        Some(Phase::Prepared | Phase::Shifted { .. } | Phase::RolledBack) => {
            (last || (whole && named)) && !routed
        }
        Some(Phase::ForceShown | Phase::Settled) | None => last || (whole && !routed),
    };
    let goal = match forward {
        true => Goal::Finish,
        false if is_between && way_back => Goal::Roll,
        false => Goal::Undo(Reason::Unfinished),
    };
    Some((rollout, goal, wanted))
}

/// Whether each new replica is there that so many live batches have, and of the next batch none or all. Without the record
/// of their sizes, whether any is there.
fn has_batches(live: u16, own: &[&Replica], batches: Option<&Batches>) -> bool {
    let shown = own.iter().filter(|new| new.batch <= Some(live)).count();
    match batches {
        None => shown > 0,
        Some(batches) => {
            let [now, next] = [live, live + 1].map(|batch| batches.shown(batch) as usize);
            shown == now && [now, next].contains(&own.len())
        }
    }
}

/// The rollout that stopped an old replica and left nothing else. Its claim may be elsewhere, such as behind another
/// proxy.
fn halted(observed: &Observed, begun: Option<&StopFirst>) -> Option<RolloutId> {
    let begun = begun?;
    let mut replicas = observed.replicas.iter();
    let stopped = replicas.any(|own| begun.has_stopped(own));
    stopped.then(|| begun.rollout.clone())
}

/// A replica that never got its final name.
fn unnamed(observed: &Observed) -> Option<&Replica> {
    observed
        .replicas
        .iter()
        .find(|replica| replica.name != replica.target_name())
}
