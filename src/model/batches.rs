//! The batches of a rolling update: their number and sizes, and how many old replicas each leaves. Pure arithmetic.

use serde::{Deserialize, Serialize};

use super::{Order, Phase};

/// What an operator allows a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most replicas that are replaced at once.
    pub parallelism: u32,
    /// The most replicas above the number that is wanted.
    pub surge: u32,
    /// The most live replicas below the number that is wanted.
    pub unavailable: u32,
    pub order: Order,
}

impl Limits {
    /// Whether old replicas may be stopped before the new ones of their batch are created.
    pub fn stops_ahead(&self) -> bool {
        self.unavailable > 0 && (self.order == Order::StopFirst || self.parallelism > self.surge)
    }
}

/// How a rolling update replaces the old replicas batch by batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Batches {
    /// The new replicas of a batch; the last batch may have fewer.
    pub size: u32,
    /// How many of the old replicas of a batch are stopped before its new ones are created.
    pub ahead: u32,
    /// How many new replicas there are in the end.
    pub replicas: u32,
    /// How many old replicas ran at the start.
    pub olds: u32,
}

impl Batches {
    /// The largest batches within the limits; one new and one old replica at least are live at any time.
    pub fn within(limits: Limits, replicas: u32, olds: u32) -> Self {
        let room = limits.surge + replicas.saturating_sub(olds);
        let spare = replicas.min(olds).saturating_sub(1).min(limits.unavailable);
        let size = limits.parallelism.min(room + spare).max(1);
        let ahead = match limits.order {
            Order::StartFirst => size.saturating_sub(room),
            Order::StopFirst => size.min(spare),
        };
        Self {
            size,
            ahead,
            replicas,
            olds,
        }
    }

    /// The number of the last batch, whose route plan is the cutover.
    pub fn last(&self) -> u16 {
        let count = self.replicas.div_ceil(self.size.max(1)).max(1);
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// The phase in which these batches are live.
    pub fn phase_of(&self, batch: u16) -> Phase {
        match batch {
            0 => Phase::Prepared,
            _ if batch >= self.last() => Phase::Committed,
            step => Phase::Shifted { step },
        }
    }

    /// How many new replicas the batches up to this one have.
    pub fn shown(&self, batch: u16) -> u32 {
        self.size
            .saturating_mul(u32::from(batch))
            .min(self.replicas)
    }

    /// How many old replicas are live while these batches are, of which so many new replicas are there.
    pub fn left(&self, batch: u16, there: u32) -> u32 {
        if batch >= self.last() {
            return 0;
        }
        let next = self.shown(batch + 1) - self.shown(batch);
        let beside = self.size - self.ahead;
        self.olds
            .saturating_sub(there + next.saturating_sub(beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(parallelism: u32, surge: u32, unavailable: u32, order: Order) -> Limits {
        Limits {
            parallelism,
            surge,
            unavailable,
            order,
        }
    }

    /// The size, the replicas ahead, and the old replicas that are live after each batch.
    fn of(limits: Limits, replicas: u32, olds: u32) -> (u32, u32, Vec<u32>) {
        let all = Batches::within(limits, replicas, olds);
        let left = (0..=all.last()).map(|batch| all.left(batch, all.shown(batch)));
        (all.size, all.ahead, left.collect())
    }

    #[test]
    fn a_batch_has_as_many_as_the_limits_allow() {
        use Order::{StartFirst, StopFirst};
        let first = |parallelism| of(limits(parallelism, parallelism, 0, StartFirst), 4, 4);
        assert_eq!(first(1), (1, 0, vec![4, 3, 2, 1, 0]));
        assert_eq!(first(2), (2, 0, vec![4, 2, 0]));
        assert_eq!(first(3), (3, 0, vec![4, 1, 0]));
        assert_eq!(first(9), (9, 0, vec![4, 0]));
        let stop = |parallelism| of(limits(parallelism, 0, parallelism, StopFirst), 4, 4);
        assert_eq!(stop(1), (1, 1, vec![3, 2, 1, 0, 0]));
        assert_eq!(stop(2), (2, 2, vec![2, 0, 0]));
        // Three are out, then one.
        assert_eq!(stop(3), (3, 3, vec![1, 0, 0]));
        let mixed = |order| of(limits(3, 2, 2, order), 4, 4);
        assert_eq!(mixed(StartFirst), (3, 1, vec![3, 1, 0]));
        assert_eq!(mixed(StopFirst), (3, 2, vec![2, 1, 0]));
    }

    #[test]
    fn another_number_of_replicas_keeps_to_the_limits() {
        use Order::{StartFirst, StopFirst};
        // The room for more replicas is used first.
        assert_eq!(of(limits(1, 0, 1, StopFirst), 4, 1).1, 0);
        assert_eq!(of(limits(1, 1, 0, StartFirst), 2, 4), (1, 0, vec![4, 3, 0]));
        for replicas in 1..7 {
            for olds in 1..7 {
                for (surge, unavailable) in [(1, 0), (2, 0), (0, 1), (1, 1), (2, 2)] {
                    for order in [StartFirst, StopFirst] {
                        let unavailable = unavailable.min(replicas - 1);
                        keeps_to(limits(2, surge, unavailable, order), replicas, olds);
                    }
                }
            }
        }
    }

    /// No batch leaves fewer live replicas, or runs more, than the limits allow.
    fn keeps_to(limits: Limits, replicas: u32, olds: u32) {
        // With no room at all a replica cannot be replaced.
        if limits.surge + limits.unavailable == 0 {
            return;
        }
        let all = Batches::within(limits, replicas, olds);
        for batch in 0..all.last() {
            let left = all.left(batch, all.shown(batch));
            let live = all.shown(batch) + left;
            let created = all.shown(batch + 1) + left;
            let state = format!("{limits:?} {replicas} {olds} {batch}");
            assert!(live + limits.unavailable >= replicas.min(olds), "{state}");
            assert!(live > 0, "{state}");
            assert!(created <= replicas.max(olds) + limits.surge, "{state}");
        }
    }
}
