//! Routes: what part of the traffic each replica gets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContainerId, Replica, RolloutId};

/// Target → share, applied in one atomic step. A replica without a target keeps the routes of its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoutePlan {
    pub shares: BTreeMap<Target, Share>,
}

impl RoutePlan {
    /// The share that the plan gives a replica; the replica's own target comes before that of its batch or its rollout.
    pub fn share(&self, replica: &Replica) -> Option<Share> {
        let own = self.shares.get(&Target::Replica(replica.id.clone()));
        own.copied().or_else(|| self.joint_share(replica))
    }

    pub fn hides(&self, replica: &Replica) -> bool {
        self.share(replica) == Some(Share::Hidden)
    }

    /// Whether a new replica gets requests, if only those of a preview.
    pub fn shows(&self, replica: &Replica) -> bool {
        let share = self.joint_share(replica);
        share.is_some_and(|share| share != Share::Hidden) && !self.hides(replica)
    }

    /// Whether a new replica gets a part of the traffic.
    pub fn promotes(&self, replica: &Replica) -> bool {
        self.shows(replica) && self.joint_share(replica) != Some(Share::Preview)
    }

    fn joint_share(&self, replica: &Replica) -> Option<Share> {
        let rollout = replica.rollout.as_ref()?;
        let batch = replica
            .batch
            .map(|batch| Target::Batch(rollout.clone(), batch));
        let batch = batch.and_then(|batch| self.shares.get(&batch));
        let all = || self.shares.get(&Target::Rollout(rollout.clone()));
        batch.or_else(all).copied()
    }

    /// A plan that hides these old replicas, and gives the rollout this share.
    pub fn of(
        rollout: &RolloutId,
        share: Share,
        hides: impl IntoIterator<Item = ContainerId>,
    ) -> Self {
        let olds = hides.into_iter().map(Target::Replica);
        let olds = olds.map(|old| (old, Share::Hidden));
        let own = (Target::Rollout(rollout.clone()), share);
        Self {
            shares: olds.chain([own]).collect(),
        }
    }

    /// The replicas that it hides by their ids: old ones, and the new ones that a shift by number leaves out.
    pub fn hidden(&self) -> impl Iterator<Item = &ContainerId> {
        self.shares
            .iter()
            .filter_map(|(target, share)| match (target, share) {
                (Target::Replica(id), Share::Hidden) => Some(id),
                _ => None,
            })
    }

    pub fn is_hidden(&self, target: &Target) -> bool {
        self.shares.get(target) == Some(&Share::Hidden)
    }

    /// What the replicas of a rollout get in total, in per cent of the traffic; `None` where no replica gets any.
    pub fn percent(&self, rollout: &RolloutId, replicas: &[Replica]) -> Option<u32> {
        let is_weighted = self.has_weights();
        let (mut new, mut all) = (0, 0);
        for own in replicas.iter().filter(|own| own.serves()) {
            let weight = match self.share(own) {
                Some(Share::Weight(weight)) => weight,
                Some(Share::Hidden | Share::Preview) => 0,
                Some(Share::Live) | None => u32::from(!is_weighted),
            };
            all += weight;
            new += weight * u32::from(own.rollout.as_ref() == Some(rollout));
        }
        (all > 0).then(|| (new * 100 + all / 2) / all)
    }

    /// Whether it is one between two batches.
    pub fn has_batches(&self) -> bool {
        let mut targets = self.shares.keys();
        targets.any(|target| matches!(target, Target::Batch(..)))
    }

    fn has_weights(&self) -> bool {
        let mut shares = self.shares.values();
        shares.any(|share| matches!(share, Share::Weight(_)))
    }

    /// Whether the new replicas are previewed.
    pub fn is_preview(&self) -> bool {
        self.shares.values().any(|share| *share == Share::Preview)
    }
}

/// What part of the traffic a replica gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    Hidden,
    /// Only requests that match one more rule; all others go where they went before.
    Preview,
    /// Relative to the weights of the other replicas; at least 2, as a proxy may report 1 for a replica without one.
    Weight(u32),
    /// The same as every other live replica.
    Live,
}

/// Which replicas a share is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Replica(ContainerId),
    /// Every replica of this rollout, those that do not exist yet included.
    Rollout(RolloutId),
    /// Every replica of this batch of a rolling update, those that do not exist yet included.
    Batch(RolloutId, u16),
}

/// Replica → its share, as a proxy reports it.
pub type Routing = BTreeMap<ContainerId, Share>;
