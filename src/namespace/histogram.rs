//! A histogram of fixed size: buckets grow with their values, so that each value is known within 2 %.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Each power of two has 32 buckets, whose middle is at most 1/64 from any value in it.
const BITS: u32 = 5;
/// The bucket of the largest value.
const LAST: u16 = ((32 - BITS) << BITS) as u16 + 31;

/// Bucket → number of values. Only buckets with values are kept; there are never more than `LAST` of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Adds a value; one above `u32::MAX` counts as that.
    pub fn record(&mut self, value: u64) {
        *self.0.entry(bucket(value)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let own = self.0.entry(*bucket.min(&LAST)).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// What was added after `earlier`, a copy of this.
    pub fn since(&self, earlier: &Self) -> Self {
        let more = self.0.iter().filter_map(|(bucket, count)| {
            let before = earlier.0.get(bucket).copied().unwrap_or(0);
            let more = count.saturating_sub(before);
            (more > 0).then_some((*bucket, more))
        });
        Self(more.collect())
    }

    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, own| sum.saturating_add(*own))
    }

    /// The value that `share` of all values do not exceed; `None` where there are none.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0_u64;
        let at = self.0.iter().find(|(_, count)| {
            below = below.saturating_add(**count);
            below >= rank
        });
        at.map(|(bucket, _)| middle(*bucket))
    }

    /// How many values exceed `limit`.
    pub fn above(&self, limit: u64) -> u64 {
        let above = self.0.iter().filter(|(own, _)| middle(**own) > limit);
        above.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Values below 64 have a bucket each. From there on, the bucket is the power of two and the five bits after the first.
fn bucket(value: u64) -> u16 {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    let shift = value.max(1).ilog2().saturating_sub(BITS);
    ((shift << BITS) + (value >> shift)) as u16
}

fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket.min(LAST));
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = (bucket - (shift << BITS)) << shift;
    first + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut all = Histogram::default();
        values.into_iter().for_each(|value| all.record(value));
        all
    }

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let all = of(1..=50);
        assert_eq!(all.percentile(0.5), Some(25));
        assert_eq!(all.percentile(0.99), Some(50));
        assert_eq!(all.percentile(0.0), Some(1));
        assert_eq!(Histogram::default().percentile(0.5), None);
        assert_eq!((all.above(40), all.above(50), all.count()), (10, 0, 50));
    }

    #[test]
    fn the_largest_values_share_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), LAST);
        assert_eq!(bucket(u64::from(u32::MAX)), LAST);
        assert!(middle(u16::MAX) <= u64::from(u32::MAX));
    }

    #[test]
    fn what_came_since_an_earlier_copy_is_the_difference() {
        let before = of([1, 5000]);
        let mut now = before.clone();
        now.add(&of([5000, 70_000]));
        assert_eq!(now.since(&before), of([5000, 70_000]));
        assert_eq!(before.since(&now), Histogram::default());
    }

    proptest! {
        #[test]
        fn every_value_is_known_within_two_percent(value in 0_u64..=u64::from(u32::MAX)) {
            let known = middle(bucket(value));
            prop_assert!(known.abs_diff(value) * 50 <= value, "{} for {}", known, value);
        }

        #[test]
        fn any_values_take_a_bounded_number_of_buckets(values in vec(any::<u64>(), 0..2000)) {
            let all = of(values.iter().copied());
            prop_assert!(all.0.len() <= usize::from(LAST) + 1);
            prop_assert_eq!(all.count() as usize, values.len());
        }

        #[test]
        fn any_line_with_a_histogram_reads_as_one_that_can_be_added(text in "\\{\"[0-9]{1,5}\":[0-9]{1,19}\\}") {
            if let Ok(read) = serde_json::from_str::<Histogram>(&text) {
                let mut all = of([3]);
                all.add(&read);
                all.add(&read);
                prop_assert!(all.percentile(0.99).is_some() && all.since(&read).0.len() <= 2);
            }
        }
    }
}
