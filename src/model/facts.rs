//! What one run has learned from its waits.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ContainerId, Desired, Goal, HookPhase, Phase, Replica};

/// What this run has learned from its waits; lost with the process, and learned again by the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Verdicts on new replicas.
    pub verdicts: BTreeMap<ContainerId, Verdict>,
    /// The wait for readiness timed out.
    pub ready_expired: bool,
    /// The phase whose route plan every proxy has confirmed, if any since the routing last changed.
    pub confirmed: Option<Phase>,
    /// The confirmation of this phase timed out or failed early.
    pub confirm_expired: Option<Phase>,
    /// Set when confirmation failed early: the proxy's own error, e.g. "router web is disabled".
    pub complaint: Option<String>,
    /// The cutover removed routers of other services.
    pub harms: bool,
    /// How the hooks of each phase ended.
    pub hooks: BTreeMap<HookPhase, HookEnd>,
    /// The result of the bake, once it has ended.
    pub baked: Option<Baked>,
    /// Another run has asked to go back; `baked` says why.
    pub is_undone: bool,
    /// The batches that were watched without a failure, by number from 1.
    pub watched: BTreeSet<u16>,
    /// How many batches stay live on the way back; 0 where all of the rollout goes back.
    pub kept: u16,
    /// Why each batch failed after which this run has gone on.
    pub failed_batches: Vec<String>,
    /// The pauses of a canary that are over are those of the shifts up to this number.
    pub passed: u16,
    /// A person has asked for a stop before the next shift or batch.
    pub is_held: bool,
    /// A person has asked for the cutover of a canary without its other shifts and pauses.
    pub is_promoted: bool,
    /// Old replicas that are drained.
    pub drained: BTreeMap<ContainerId, Drained>,
    /// Old replicas whose pre-stop hooks have run.
    pub pre_stopped: BTreeSet<ContainerId>,
    /// Old replicas that this run started again in a rollback.
    pub started: BTreeSet<ContainerId>,
    /// The overlay's record was released.
    pub released: bool,
    /// The replicas of this rollout were created by this run.
    pub created: bool,
    /// An earlier run began the rollout. The engine may still carry out what that run asked of it last.
    pub is_continued: bool,
    /// What all services of a joint cutover have reached.
    pub all_reached: Option<Milestone>,
    /// Why another service of the joint cutover goes back.
    pub others_failed: Option<String>,
}

impl Facts {
    /// Whether a wait for readiness is about this replica: a new one, or an old one that a rollback has started again.
    pub fn awaits(&self, own: &Replica, desired: &Desired) -> bool {
        let is_new = own.rollout.as_ref() == Some(&desired.rollout);
        let is_open = !self.verdicts.contains_key(&own.id);
        is_open
            && match desired.goal {
                Goal::Undo(_) => !is_new && own.may_run() && self.is_new_life(own, desired),
                Goal::Roll | Goal::Finish => is_new,
            }
    }

    /// Whether an old replica was started again since the rollout began, by this run or an earlier one.
    pub fn is_new_life(&self, old: &Replica, desired: &Desired) -> bool {
        self.started.contains(&old.id) || !desired.may_start_again(old)
    }
}

/// What a service of a joint cutover reaches, and waits for in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Milestone {
    /// The new replicas are ready, and hidden.
    Ready,
    /// The new replicas are live, confirmed and baked; the old ones still run.
    Live,
}

/// The result of the gates of a new replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may get traffic.
    Ready,
    /// It failed for good: why, in a few words.
    Failed(String),
}

/// How an old replica's traffic ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drained {
    Answered,
    /// The drain timeout passed first.
    TimedOut,
    /// Its sockets cannot be inspected; its network was quiet for long enough.
    Quiet,
    /// It exited before it had answered everything, or before that was known.
    Ended,
    /// It was not drained: its sockets cannot be inspected and no proxy routes to it, so that its network may never fall
    /// quiet; or it did not run when the drain began.
    Unseen,
}

/// How the hooks of a phase ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEnd {
    Passed,
    /// Why: one line.
    Failed(String),
}

/// The result of a bake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Baked {
    /// Its time has passed without a failure.
    Passed,
    /// The reason for a rollback.
    Failed(String),
}
