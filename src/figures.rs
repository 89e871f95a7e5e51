//! The figures of a rollout: how the old and the new replicas answered before, during and after the cutover. Pure.

use std::{
    collections::BTreeMap,
    ops::{
        Add,
        Bound::{Excluded, Included},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    model::{ContainerId, Usage},
    namespace::wire::Wire,
};

/// With fewer requests, shares and percentiles say nothing.
pub const ENOUGH: u64 = 20;

/// The turning points of a rollout, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Start,
    Cutover,
    /// The beginning of the newest bake or pause.
    Watch,
    /// The newest look of a bake, or of a pause.
    Bake,
    /// All old replicas are drained.
    Drained,
    End,
}

/// What one replica has answered and used by one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub at: Option<Instant>,
    /// `None` where no helper counts.
    pub wire: Option<Wire>,
    /// `None` where the engine does not report it.
    pub usage: Option<Usage>,
    pub restarts: u64,
    pub is_oom_killed: bool,
}

/// What the replicas of one side have done between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    pub wire: Option<Wire>,
    /// Processors in use, by all replicas.
    pub cpu: Option<f64>,
    /// Requests per second, to the replicas whose processors are known.
    pub rate: Option<f64>,
    /// Bytes in use at the end, by a replica on average.
    pub memory: Option<u64>,
    pub restarts: u64,
    /// Replicas in which the kernel ended a process for want of memory.
    pub oom_kills: u64,
}

/// The samples of every replica that is watched.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<ContainerId, Track>);

#[derive(Debug)]
struct Track {
    is_new: bool,
    samples: BTreeMap<Moment, Sample>,
}

impl Samples {
    pub fn begin(&mut self, id: ContainerId, is_new: bool, first: Sample) {
        let samples = BTreeMap::from([(Moment::Start, first)]);
        self.0.entry(id).or_insert(Track { is_new, samples });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_new(&self, id: &ContainerId) -> bool {
        self.0.get(id).is_some_and(|own| own.is_new)
    }

    /// Notes what a replica used at first, unless that is known.
    pub fn uses_first(&mut self, id: &ContainerId, usage: Option<Usage>) {
        let track = self.0.get_mut(id);
        if let Some(first) = track.and_then(|own| own.samples.get_mut(&Moment::Start)) {
            first.usage = first.usage.or(usage);
        }
    }

    /// Notes a sample of a replica that was begun.
    pub fn note(&mut self, id: &ContainerId, moment: Moment, sample: Sample) {
        let Some(track) = self.0.get_mut(id) else {
            return;
        };
        let last = track.samples.values().next_back().cloned();
        let last = last.unwrap_or_default();
        // What is not known now is as it was.
        let sample = Sample {
            at: sample.at.or(last.at),
            wire: sample.wire.or(last.wire),
            usage: sample.usage.or(last.usage),
            restarts: sample.restarts.max(last.restarts),
            is_oom_killed: sample.is_oom_killed || last.is_oom_killed,
        };
        track.samples.insert(moment, sample);
    }

    /// Begins a watch: what earlier looks have seen is not part of it, also of replicas that are gone.
    pub fn begin_watch(&mut self) {
        for track in self.0.values_mut() {
            if let Some(last) = track.samples.get(&Moment::Bake).cloned() {
                track.samples.insert(Moment::Watch, last);
            }
        }
    }

    /// `None` where no replica of the side has a sample after `from` and up to `to`.
    pub fn between(&self, is_new: bool, from: Moment, to: Moment) -> Option<Measured> {
        let tracks = self.0.values().filter(|own| own.is_new == is_new);
        let each: Vec<Measured> = tracks.filter_map(|own| own.between(from, to)).collect();
        let wires = each.iter().filter_map(|own| own.wire.as_ref());
        let wire = wires.fold(None::<Wire>, |sum, own| {
            let mut sum = sum.unwrap_or_default();
            sum.add(own);
            Some(sum)
        });
        let memory: Vec<u64> = each.iter().filter_map(|own| own.memory).collect();
        let all = memory
            .iter()
            .fold(0, |sum: u64, own| sum.saturating_add(*own));
        let sum = |of: fn(&Measured) -> Option<f64>| each.iter().filter_map(of).reduce(Add::add);
        (!each.is_empty()).then(|| Measured {
            wire,
            cpu: sum(|own| own.cpu),
            rate: sum(|own| own.rate),
            memory: all.checked_div(memory.len() as u64),
            restarts: each.iter().map(|own| own.restarts).sum(),
            oom_kills: each.iter().map(|own| own.oom_kills).sum(),
        })
    }

    pub fn spans(&self) -> Spans {
        let side = |is_new, from, to| self.between(is_new, from, to).map(Figures::of);
        let (old, new) = (false, true);
        Spans {
            before: Sides {
                old: side(old, Moment::Start, Moment::Cutover),
                new: None,
            },
            during: Sides {
                old: side(old, Moment::Cutover, Moment::Drained),
                new: side(new, Moment::Cutover, Moment::Drained),
            },
            after: Sides {
                old: None,
                new: side(new, Moment::Drained, Moment::End),
            },
        }
    }
}

impl Track {
    fn between(&self, from: Moment, to: Moment) -> Option<Measured> {
        let mut until = self.samples.range((Excluded(from), Included(to)));
        let last = until.next_back()?.1;
        // A replica that is watched from a later moment on has counted nothing before.
        let base = self.samples.range(..=from).next_back();
        let base = base.map(|(_, own)| own.clone()).unwrap_or_default();
        let wire = last.wire.as_ref();
        let wire = wire.map(|own| own.since(&base.wire.unwrap_or_default()));
        let usage = last.usage;
        let cpu = usage.zip(base.usage).and_then(|(now, before)| {
            let spent = now.cpu.saturating_sub(before.cpu).as_secs_f64();
            per_second(spent, now.at.checked_sub(before.at)?)
        });
        let times = last.at.zip(base.at).filter(|_| cpu.is_some());
        let rate = times.zip(wire.as_ref()).and_then(|((now, before), wire)| {
            per_second(wire.requests() as f64, now.checked_duration_since(before)?)
        });
        Some(Measured {
            wire,
            cpu,
            rate,
            memory: usage.map(|own| own.memory),
            restarts: last.restarts.saturating_sub(base.restarts),
            oom_kills: u64::from(last.is_oom_killed && !base.is_oom_killed),
        })
    }
}

fn per_second(count: f64, span: Duration) -> Option<f64> {
    (!span.is_zero()).then(|| count / span.as_secs_f64())
}

/// The figures of each side and span. A side is missing where it did not run, or was not watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spans {
    /// From the start of the watch until the cutover.
    pub before: Sides,
    /// Until all old replicas are drained.
    pub during: Sides,
    /// Until the end of the rollout.
    pub after: Sides,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Figures>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Figures>,
}

/// One side in one span. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub requests: Option<u64>,
    pub failed: Option<u64>,
    /// In percent; from [`ENOUGH`] requests on.
    pub success_rate: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Processors in use, by all replicas.
    pub cpu: Option<f64>,
    /// Bytes in use, by a replica on average.
    pub memory: Option<u64>,
    pub restarts: u64,
    pub oom_kills: u64,
    /// Its traffic is TLS or no HTTP, so its requests cannot be counted.
    pub blind: bool,
}

impl Figures {
    fn of(measured: Measured) -> Self {
        let blind = measured.wire.as_ref().is_some_and(Wire::is_blind);
        let wire = measured.wire.filter(|_| !blind);
        let enough = wire.as_ref().filter(|own| own.requests() >= ENOUGH);
        let ms = |share| {
            let value = enough.and_then(|own| own.latencies.percentile(share));
            value.map(|micros| rounded(micros as f64 / 1000.0))
        };
        Self {
            requests: wire.as_ref().map(Wire::requests),
            failed: wire.as_ref().map(Wire::failed),
            success_rate: enough.map(|own| rounded(100.0 * (1.0 - own.failed_share()))),
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            cpu: measured.cpu.map(rounded),
            memory: measured.memory,
            restarts: measured.restarts,
            oom_kills: measured.oom_kills,
            blind,
        }
    }
}

/// To two decimal places.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::namespace::wire::Counter;

    /// So many answers of 2 ms, of which some failed.
    pub fn answered(good: u64, failed: u64) -> Wire {
        let mut counter = Counter::default();
        (0..good).for_each(|_| counter.answered(2, 0, 2000));
        (0..failed).for_each(|_| counter.answered(5, 0, 2000));
        counter.wire
    }

    fn sample(good: u64, failed: u64, second: u64, cpu_ms: u64) -> Sample {
        Sample {
            wire: Some(answered(good, failed)),
            usage: Some(Usage {
                at: Duration::from_secs(second),
                cpu: Duration::from_millis(cpu_ms),
                memory: 1000 + second,
            }),
            ..Sample::default()
        }
    }

    fn id(name: &str) -> ContainerId {
        ContainerId(name.to_owned())
    }

    #[test]
    fn each_span_has_what_came_between_its_ends() {
        let mut all = Samples::default();
        for (name, is_new, at) in [("a", false, 0), ("b", false, 0), ("c", true, 9)] {
            all.begin(id(name), is_new, sample(0, 0, at, 0));
        }
        for name in ["a", "b"] {
            all.note(&id(name), Moment::Cutover, sample(100, 0, 10, 5000));
            let wire = Some(answered(120, 30));
            let sample = Sample {
                wire,
                ..Sample::default()
            };
            all.note(&id(name), Moment::Drained, sample);
        }
        all.note(&id("c"), Moment::Drained, sample(50, 0, 12, 1500));
        all.note(&id("c"), Moment::End, sample(60, 3, 13, 1500));
        let spans = all.spans();
        let before = spans.before.old.unwrap();
        assert_eq!((before.requests, before.failed), (Some(200), Some(0)));
        assert_eq!((before.cpu, before.memory), (Some(1.0), Some(1010)));
        assert_eq!(
            (before.success_rate, before.p99_ms),
            (Some(100.0), Some(2.0))
        );
        let during = spans.during.old.unwrap();
        assert_eq!((during.requests, during.failed), (Some(100), Some(60)));
        assert_eq!((during.success_rate, during.cpu), (Some(40.0), None));
        let during = spans.during.new.unwrap();
        assert_eq!((during.requests, during.cpu), (Some(50), Some(0.5)));
        let after = spans.after.new.unwrap();
        assert_eq!(
            (after.requests, after.success_rate),
            (Some(13), None),
            "too few"
        );
        assert_eq!(after.p50_ms, None);
    }

    #[test]
    fn a_watch_counts_from_its_own_beginning_and_nothing_of_replicas_that_are_gone() {
        let mut all = Samples::default();
        for name in ["a", "gone"] {
            all.begin(id(name), true, sample(0, 0, 0, 0));
            all.note(&id(name), Moment::Watch, sample(10, 0, 1, 0));
            all.note(&id(name), Moment::Bake, sample(90, 0, 9, 0));
        }
        all.begin_watch();
        all.note(&id("a"), Moment::Watch, sample(100, 0, 10, 0));
        all.begin(id("late"), true, sample(0, 0, 10, 0));
        all.note(&id("a"), Moment::Bake, sample(100, 7, 12, 0));
        all.note(&id("late"), Moment::Bake, sample(5, 0, 12, 0));
        let wire = |from| {
            let measured = all.between(true, from, Moment::Bake).unwrap();
            let wire = measured.wire.unwrap();
            (wire.requests(), wire.failed())
        };
        assert_eq!(wire(Moment::Watch), (12, 7));
        assert_eq!(wire(Moment::Cutover), (202, 7));
    }

    #[test]
    fn the_rate_of_requests_is_that_of_the_replicas_whose_processors_are_known() {
        let began = Instant::now();
        let at = |second, sample| Sample {
            at: Some(began + Duration::from_secs(second)),
            ..sample
        };
        let unknown = |good| Sample {
            usage: None,
            ..sample(good, 0, 0, 0)
        };
        let mut all = Samples::default();
        all.begin(id("a"), false, at(0, sample(0, 0, 1, 0)));
        all.begin(id("b"), false, at(0, unknown(0)));
        all.note(&id("a"), Moment::Cutover, at(5, sample(100, 0, 5, 2000)));
        all.note(&id("b"), Moment::Cutover, at(5, unknown(100)));
        let before = all.between(false, Moment::Start, Moment::Cutover).unwrap();
        assert_eq!((before.rate, before.cpu), (Some(20.0), Some(0.5)));
        assert_eq!(before.wire.map(|own| own.requests()), Some(200));
    }

    #[test]
    fn a_side_without_samples_or_without_a_helper_is_not_available() {
        let mut all = Samples::default();
        all.note(&id("a"), Moment::End, sample(100, 0, 1, 1));
        assert_eq!(all.spans(), Spans::default());
        all.begin(id("a"), false, Sample::default());
        all.note(&id("a"), Moment::Cutover, Sample::default());
        let before = all.spans().before.old.unwrap();
        assert_eq!(before, Figures::default());
    }

    #[test]
    fn a_side_that_cannot_be_read_has_no_requests() {
        let mut all = Samples::default();
        all.begin(id("a"), true, Sample::default());
        let mut sample = sample(100, 0, 1, 0);
        sample.wire.as_mut().unwrap().unread = 9;
        all.note(&id("a"), Moment::End, sample);
        let after = all.spans().after.new.unwrap();
        assert_eq!((after.blind, after.requests), (true, None));
    }

    #[test]
    fn restarts_and_kills_count_from_the_cutover_on() {
        let usage = |restarts, is_oom_killed| Sample {
            restarts,
            is_oom_killed,
            ..Sample::default()
        };
        let mut all = Samples::default();
        all.begin(id("a"), true, usage(1, false));
        all.note(&id("a"), Moment::Drained, usage(3, true));
        let during = all.between(true, Moment::Cutover, Moment::Drained).unwrap();
        assert_eq!((during.restarts, during.oom_kills), (2, 1));
        all.note(&id("a"), Moment::End, usage(3, true));
        let after = all.between(true, Moment::Drained, Moment::End).unwrap();
        assert_eq!((after.restarts, after.oom_kills), (0, 0));
    }

    #[test]
    fn figures_read_back_as_they_were_written() {
        let mut all = Samples::default();
        all.begin(id("a"), false, sample(0, 0, 0, 0));
        all.note(&id("a"), Moment::Cutover, sample(90, 10, 3, 1234));
        let spans = all.spans();
        let text = serde_json::to_string(&spans).unwrap();
        assert_eq!(serde_json::from_str::<Spans>(&text).unwrap(), spans);
    }
}
