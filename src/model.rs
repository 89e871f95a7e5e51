//! The types of a rollout: desired state, observed state and routes. Imports no other module of this crate.
//!
//! The planner compares [`Desired`] with [`Observed`] and [`Facts`], and answers with the next step.

mod batches;
mod claim;
mod facts;
mod ids;
mod image;
pub mod label;
mod replica;
mod route;
mod shift;
mod usage;

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::batches::{Batches, Limits};
pub use self::claim::{Claim, Phase};
pub use self::facts::{Baked, Drained, Facts, HookEnd, Milestone, Verdict};
pub use self::ids::{ContainerId, RolloutId, ServiceKey};
pub use self::image::{image_change, image_name, name_and_tag, short_image};
pub use self::replica::{Health, HealthCheck, Replica, Run};
pub use self::route::{RoutePlan, Routing, Share, Target};
pub use self::shift::{Pause, Promote, Shift};
pub use self::usage::Usage;

/// The desired state; with [`Observed`] and [`Facts`] it decides every step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desired {
    pub goal: Goal,
    /// The rollout of the new replicas.
    pub rollout: RolloutId,
    pub replicas: u32,
    pub policy: Policy,
    /// Old replicas that ran when the rollout began, if it stops them before its end; a rollback starts them again.
    pub restartable: BTreeSet<ContainerId>,
    /// Whether a proxy routes to the service, so that replicas are hidden, shown and confirmed.
    pub routed: bool,
    /// Whether a hold re-routes traffic itself and must be confirmed before replicas are created.
    pub confirm_hold: bool,
    /// The old replicas at the start of the rollout; any other replica was created by another command.
    pub old_at_start: BTreeSet<ContainerId>,
    /// Those that no proxy routed to; a rollback does not wait for their routes.
    pub unrouted: BTreeSet<ContainerId>,
    /// Whether any of the old replicas served at the start.
    pub served: bool,
    /// Whether the old replicas have pre-stop hooks.
    pub pre_stop: bool,
    /// The phases that have hooks in `x-rollout.hooks`.
    pub hook_phases: BTreeSet<HookPhase>,
}

impl Desired {
    pub fn may_start_again(&self, old: &Replica) -> bool {
        self.restartable.contains(&old.id)
    }
}

/// The goal of a run of the planner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Create the new replicas and move the traffic.
    Roll,
    /// Finish a rollout whose cutover is recorded.
    Finish,
    /// Roll back to the old replicas.
    Undo(Reason),
}

/// Why a rollout is undone, which decides the exit code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Something failed: one line.
    Failed(String),
    Interrupted,
    /// An earlier run left it unfinished.
    Unfinished,
}

/// The strategy of a rollout, as data for the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    pub order: Order,
    /// The shifts before the cutover: a preview, and those of a canary.
    pub shifts: Vec<Shift>,
    /// Whether a shift is made by the number of live replicas: the proxy has no weights for some of their routes.
    pub by_number: bool,
    /// Whether the run waits at an open-ended pause instead of ending there.
    pub attach: bool,
    /// The batches of a rolling update.
    pub batches: Option<Batches>,
    /// Whether the new replicas are watched for a time after each batch.
    pub monitor: bool,
    /// Whether they are watched for a time between two batches.
    pub delay: bool,
    /// What follows a failed batch.
    pub failure_action: FailureAction,
    /// With so many failed new replicas at most, the next batch follows in any case.
    pub may_fail: u32,
    /// Whether the new replicas bake before the old ones are removed.
    pub bake: bool,
    /// Whether other services cut over in the same moment.
    pub together: bool,
}

impl Policy {
    /// The shift of this number, from 1.
    pub fn shift(&self, number: u16) -> Option<Shift> {
        let index = usize::from(number).checked_sub(1)?;
        self.shifts.get(index).copied()
    }

    /// Whether this is the last batch of a rolling update.
    pub fn is_last_batch(&self, batch: u16) -> bool {
        self.batches.is_some_and(|batches| batches.last() == batch)
    }

    /// Whether the new replicas are previewed in this phase.
    pub fn previews(&self, phase: Phase) -> bool {
        match phase {
            Phase::Shifted { step } => self.shift(step).is_some_and(Shift::is_preview),
            _ => false,
        }
    }
}

/// What follows a failed batch of a rolling update, whose old replicas serve again in any case. The failure of the first
/// batch takes all back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum FailureAction {
    // The earlier batches go back too.
    #[default]
    Rollback,
    // The run ends, and a later one goes on.
    Pause,
    // The next batch follows; the run fails at its end.
    Continue,
}

/// Whether the new replicas are created before the old ones are stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Two sets run at the same time: no gap.
    #[default]
    StartFirst,
    /// The old replicas are stopped first, and kept until the new ones are ready and confirmed.
    StopFirst,
}

/// The observed state, read from the engine and the overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    /// Every replica of the service, in any state, in the order of their numbers.
    pub replicas: Vec<Replica>,
    /// The overlay's record for the service.
    pub claim: Option<Claim>,
}

impl Observed {
    /// The replicas of this rollout, and all others.
    pub fn split(&self, rollout: &RolloutId) -> (Vec<&Replica>, Vec<&Replica>) {
        let all = self.replicas.iter();
        all.partition(|replica| replica.rollout.as_ref() == Some(rollout))
    }
}

/// A moment of a rollout at which the hooks of `x-rollout.hooks` run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPhase {
    /// The image is there; nothing is created yet.
    PreDeploy,
    /// The new replicas are ready, and hidden or previewed.
    PreCutover,
    /// The new replicas are live; the old ones still run.
    PostCutover,
    /// The old replicas are gone, and the revision is recorded.
    PostDeploy,
    /// The rollout has failed, and is rolled back as far as possible.
    Failed,
}

impl HookPhase {
    pub const ALL: [Self; 5] = [
        Self::PreDeploy,
        Self::PreCutover,
        Self::PostCutover,
        Self::PostDeploy,
        Self::Failed,
    ];

    /// The key in the Compose file, and the name of the step.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDeploy => "pre-deploy",
            Self::PreCutover => "pre-cutover",
            Self::PostCutover => "post-cutover",
            Self::PostDeploy => "post-deploy",
            Self::Failed => "failed",
        }
    }
}
