//! Judges a new version by its figures and by those of the old one. Pure.

use crate::{
    figures::{ENOUGH, Measured},
    namespace::wire::Wire,
    settings::{Analysis, Latency},
};

/// The share of failures up to which a new version never fails, and by how much it may exceed the old one's.
const TOLERATED: f64 = 0.01;
/// Fewer failures say nothing.
const FEW: u64 = 3;
/// A share is exceeded only by more than chance explains: this many standard deviations.
const DEVIATIONS: f64 = 3.0;

/// Processors in use by an old version below which a multiple says nothing.
const BUSY: f64 = 0.05;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Which condition is not met, and by what figures.
    Fail(String),
    /// Why nothing can be said of the requests.
    NoData(String),
}

/// `old` is from before the cutover, `new` from then on.
pub fn judge(analysis: &Analysis, old: Option<&Measured>, new: Option<&Measured>) -> Verdict {
    if !analysis.is_on {
        return Verdict::Pass;
    }
    let Some(new) = new else {
        return Verdict::NoData("the new replicas are not watched".to_owned());
    };
    if let Some(why) = resources(analysis, old, new) {
        return Verdict::Fail(why);
    }
    match readable(new) {
        Err(why) => Verdict::NoData(why),
        Ok(wire) => {
            let old = old.and_then(|own| readable(own).ok());
            let failed = failures(analysis, old, wire);
            let slow = || {
                analysis
                    .latencies
                    .iter()
                    .find_map(|own| too_slow(own, wire))
            };
            failed.or_else(slow).map_or(Verdict::Pass, Verdict::Fail)
        }
    }
}

/// The counts, if they say anything.
fn readable(measured: &Measured) -> Result<&Wire, String> {
    match &measured.wire {
        None => Err("no helper runs beside the replicas".to_owned()),
        Some(wire) if wire.is_blind() => Err("its traffic is TLS or no HTTP".to_owned()),
        Some(wire) if wire.requests() < ENOUGH => Err(format!(
            "only {} requests, and at least {ENOUGH} are needed",
            wire.requests()
        )),
        Some(wire) => Ok(wire),
    }
}

fn resources(analysis: &Analysis, old: Option<&Measured>, new: &Measured) -> Option<String> {
    if new.restarts > 0 {
        return Some("a new replica restarted".to_owned());
    }
    if new.oom_kills > 0 {
        return Some("a new replica ran out of memory".to_owned());
    }
    let busy = |own: &Measured| own.cpu.filter(|cpu| *cpu >= BUSY);
    let memory = |own: &Measured| own.memory.map(|bytes| bytes as f64);
    let used = [
        ("memory", analysis.memory, old.and_then(memory), memory(new)),
        ("cpu", analysis.cpu, old.and_then(busy), new.cpu),
    ];
    used.into_iter().find_map(|(what, most, old, new)| {
        let (most, old, new) = (most?, old.filter(|own| *own > 0.0)?, new?);
        let times = new / old;
        (times > most)
            .then(|| format!("{what} is {times:.2} times the old version's, more than {most}x"))
    })
}

fn failures(analysis: &Analysis, old: Option<&Wire>, new: &Wire) -> Option<String> {
    let (failed, all) = (new.failed(), new.requests());
    let before = old.map_or(0.0, Wire::failed_share);
    let (allowed, least) = match analysis.may_fail {
        Some(share) => (share, 1),
        None => ((before + TOLERATED).max(TOLERATED), FEW),
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let compared = match analysis.may_fail {
        Some(share) => format!("success-rate allows {}", percent(share)),
        None if old.is_none() => "of the old version too few are known".to_owned(),
        None => format!("old version: {}", percent(before)),
    };
    (failed >= least && exceeds(failed, all, allowed)).then(|| {
        let share = percent(new.failed_share());
        format!("{failed} of {all} requests failed ({share}); {compared}")
    })
}

fn too_slow(condition: &Latency, new: &Wire) -> Option<String> {
    let Latency {
        key,
        may_exceed,
        limit,
    } = condition;
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    let answers = new.latencies.count();
    let slow = new.latencies.above(micros);
    let now = new.latencies.percentile(1.0 - may_exceed)? as f64 / 1000.0;
    exceeds(slow, answers, *may_exceed).then(|| {
        let limit = humantime::format_duration(*limit);
        format!("{key} of {answers} answers is {now:.1} ms, more than {limit}")
    })
}

/// Whether `count` of `all` is more than `share`, and by more than chance explains.
fn exceeds(count: u64, all: u64, share: f64) -> bool {
    let expected = all as f64 * share;
    count as f64 > expected + DEVIATIONS * expected.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::tests::answered, namespace::wire::Counter};

    fn of(good: u64, failed: u64) -> Measured {
        Measured {
            wire: Some(answered(good, failed)),
            ..Measured::default()
        }
    }

    fn verdict(conditions: &str, old: &Measured, new: &Measured) -> Verdict {
        judge(&conditions.parse().unwrap(), Some(old), Some(new))
    }

    fn fails(conditions: &str, old: &Measured, new: &Measured) -> bool {
        matches!(verdict(conditions, old, new), Verdict::Fail(_))
    }

    #[test]
    fn by_itself_a_share_of_failures_above_one_percent_and_above_the_old_one_fails() {
        // Answers and failures of the old and of the new version.
        for (old, new, expected) in [
            ((1000, 0), (17, 2), false),
            ((1000, 0), (18, 2), false),
            ((1000, 0), (17, 3), true),
            ((1000, 0), (95, 5), true),
            ((1000, 0), (950, 50), true),
            ((1000, 0), (991, 9), false),
            ((1000, 0), (9800, 200), true),
            // As bad as before, by chance a little more or less.
            ((980, 20), (98, 2), false),
            ((980, 20), (95, 5), false),
            ((980, 20), (970, 30), false),
            ((980, 20), (930, 70), true),
            ((500, 500), (10, 30), false),
            ((500, 500), (0, 100), true),
            // Too few of the old ones to compare with.
            ((5, 5), (90, 10), true),
        ] {
            let measured = |(good, failed)| of(good, failed);
            let found = fails("on", &measured(old), &measured(new));
            assert_eq!(found, expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn the_reason_has_the_figures_and_the_condition() {
        let Verdict::Fail(why) = verdict("on", &of(999, 1), &of(380, 20)) else {
            panic!("it passes");
        };
        assert_eq!(why, "20 of 400 requests failed (5.0 %); old version: 0.1 %");
        let Verdict::Fail(why) = verdict("success-rate=99%", &of(999, 1), &of(380, 20)) else {
            panic!("it passes");
        };
        assert_eq!(
            why,
            "20 of 400 requests failed (5.0 %); success-rate allows 1.0 %"
        );
    }

    #[test]
    fn a_success_rate_counts_whatever_the_old_version_did() {
        let old = of(500, 500);
        assert!(fails("success-rate=99%", &old, &of(90, 10)));
        assert!(!fails("success-rate=80%", &old, &of(90, 10)));
        assert!(!fails("success-rate=99%", &of(1000, 0), &of(98, 2)));
        assert!(fails("success-rate=100%", &of(1000, 0), &of(999, 1)));
    }

    #[test]
    fn without_enough_readable_requests_there_is_no_data() {
        let old = of(1000, 0);
        let mut blind = of(1000, 0);
        blind.wire.as_mut().unwrap().unread = 20;
        for new in [of(10, 9), Measured::default(), blind] {
            assert!(matches!(verdict("on", &old, &new), Verdict::NoData(_)));
        }
        let none = judge(&Analysis::default(), Some(&old), None);
        assert!(matches!(none, Verdict::NoData(_)));
    }

    #[test]
    fn a_restart_or_a_lack_of_memory_fails_also_without_requests() {
        let restarted = Measured {
            restarts: 1,
            ..of(1000, 0)
        };
        let killed = Measured {
            oom_kills: 1,
            ..Measured::default()
        };
        for new in [&restarted, &killed] {
            assert!(fails("on", &of(1000, 0), new));
            assert_eq!(verdict("off", &of(1000, 0), new), Verdict::Pass);
        }
    }

    #[test]
    fn a_percentile_above_its_limit_fails_unless_it_may_be_chance() {
        let slow = |fast: u64, slow: u64| {
            let mut counter = Counter::default();
            (0..fast).for_each(|_| counter.answered(2, 0, 10_000));
            (0..slow).for_each(|_| counter.answered(2, 0, 900_000));
            Measured {
                wire: Some(counter.wire),
                ..Measured::default()
            }
        };
        let old = slow(1000, 0);
        for (condition, new, expected) in [
            ("p99=500ms", slow(99, 1), false),
            ("p99=500ms", slow(20, 1), false),
            ("p99=500ms", slow(950, 50), true),
            ("p95=500ms", slow(950, 50), false),
            ("p50=5ms", slow(1000, 0), true),
            ("p50=20ms", slow(600, 400), false),
        ] {
            assert_eq!(fails(condition, &old, &new), expected, "{condition}");
        }
    }

    #[test]
    fn memory_and_processors_are_compared_with_the_old_version() {
        let uses = |memory, cpu| Measured {
            memory: Some(memory),
            cpu: Some(cpu),
            ..of(1000, 0)
        };
        let old = uses(100, 0.5);
        assert!(!fails("on", &old, &uses(900, 9.0)));
        assert!(!fails("memory=1.5x,cpu=2x", &old, &uses(150, 1.0)));
        assert!(fails("memory=1.5x", &old, &uses(151, 0.1)));
        assert!(fails("cpu=2x", &old, &uses(10, 1.1)));
        assert!(!fails("cpu=2x", &of(1000, 0), &uses(10, 1.1)));
    }

    #[test]
    fn two_equal_versions_that_fail_now_and_then_hardly_ever_differ() {
        // A simple generator: the same numbers in each run.
        let mut state = 1_u64;
        let mut fails_now = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % 100 < 2
        };
        let mut wrong = 0;
        for _ in 0..200 {
            let old_failed = (0..1000).filter(|_| fails_now()).count() as u64;
            let old = of(1000 - old_failed, old_failed);
            let mut failed = 0;
            let looks = (1..=1000_u64).filter(|sent| {
                failed += u64::from(fails_now());
                sent % 50 == 0 && fails("on", &old, &of(sent - failed, failed))
            });
            wrong += u64::from(looks.count() > 0);
        }
        assert!(wrong <= 2, "{wrong} of 200");
    }
}
