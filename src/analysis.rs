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

/// The old version counts as if it had answered this many more requests, of which one failed: a few good answers do not
/// show that none ever fails.
const UNSEEN: f64 = 100.0;

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

impl Verdict {
    /// The verdict before the first look.
    pub fn at_first(analysis: &Analysis) -> Self {
        match analysis.is_on {
            true => Self::NoData("it was too short".to_owned()),
            false => Self::Pass,
        }
    }
}

/// What both versions did in one time.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    pub old: Option<Measured>,
    pub new: Option<Measured>,
}

/// `all` is from before the cutover for the old version, and from then on for the new one; `recent` is of the watch that
/// goes on: a version that fails from now on soon fails by it, however much was good before.
pub fn judge(analysis: &Analysis, all: &Compared, recent: &Compared) -> Verdict {
    if !analysis.is_on {
        return Verdict::Pass;
    }
    let old = all.old.as_ref();
    let Some(new) = &all.new else {
        return Verdict::NoData("the new replicas are not watched".to_owned());
    };
    if let Some(why) = resources(analysis, old, new) {
        return Verdict::Fail(why);
    }
    // What fails both versions now is not the new one's fault.
    let old_now = recent.old.as_ref().filter(|own| readable(own).is_ok());
    let recent = recent.new.as_ref();
    let now = recent.map(|new| answers(analysis, old_now.or(old), new));
    match (answers(analysis, old, new), now) {
        (_, Some(Verdict::Fail(why))) => Verdict::Fail(why),
        (Verdict::NoData(_), Some(Verdict::Pass)) => Verdict::Pass,
        (all, _) => all,
    }
}

/// Judges by the requests alone.
fn answers(analysis: &Analysis, old: Option<&Measured>, new: &Measured) -> Verdict {
    match readable(new) {
        Err(why) => Verdict::NoData(why),
        Ok(wire) => {
            let old = old.and_then(|own| own.wire.as_ref());
            let old = old.filter(|own| !own.is_blind());
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
    let memory = |own: &Measured| own.memory.map(|bytes| bytes as f64);
    let (what, share) = match old.and_then(|old| share_of_traffic(old, new)) {
        Some(share) => ("cpu per request", share),
        None => ("cpu", 1.0),
    };
    let cpu = old.and_then(|own| own.cpu).filter(|cpu| *cpu >= BUSY);
    // What an idle replica uses says nothing of its requests.
    let busy = analysis.cpu.map_or(0.0, |most| most * BUSY);
    let used = [
        ("memory", analysis.memory, old.and_then(memory), memory(new)),
        (
            what,
            analysis.cpu,
            cpu.map(|cpu| cpu * share),
            new.cpu.filter(|cpu| *cpu > busy),
        ),
    ];
    used.into_iter().find_map(|(what, most, old, new)| {
        let (most, old, new) = (most?, old.filter(|own| *own > 0.0)?, new?);
        let times = new / old;
        (times > most)
            .then(|| format!("{what} is {times:.2} times the old version's, more than {most}x"))
    })
}

/// The requests of the new version as a multiple of the old one's; `None` where too few are known.
fn share_of_traffic(old: &Measured, new: &Measured) -> Option<f64> {
    let rate = |own: &Measured| own.rate.filter(|_| readable(own).is_ok());
    Some(rate(new)? / rate(old).filter(|rate| *rate > 0.0)?)
}

fn failures(analysis: &Analysis, old: Option<&Wire>, new: &Wire) -> Option<String> {
    let (failed, all) = (new.failed(), new.requests());
    let (old_failed, old_all) = old.map_or((0, 0), |own| (own.failed(), own.requests()));
    let known = old_all as f64 + UNSEEN;
    let before = (old_failed as f64 + 1.0) / known;
    // The variance of the allowed share: that of the old version's share.
    let (allowed, least, variance) = match analysis.may_fail {
        Some(share) => (share, 1, 0.0),
        None => (before + TOLERATED, FEW, before / known),
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let compared = match analysis.may_fail {
        Some(share) => format!("success-rate allows {}", percent(share)),
        None if old_all < ENOUGH => "of the old version too few are known".to_owned(),
        None => {
            let share = old.map_or(0.0, Wire::failed_share);
            format!("old version: {}", percent(share))
        }
    };
    (failed >= least && exceeds(failed, all, allowed, variance)).then(|| {
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
    exceeds(slow, answers, *may_exceed, 0.0).then(|| {
        let limit = humantime::format_duration(*limit);
        format!("{key} of {answers} answers is {now:.1} ms, more than {limit}")
    })
}

/// Whether `count` of `all` is more than `share`, and by more than chance explains; `variance` is that of `share`.
fn exceeds(count: u64, all: u64, share: f64, variance: f64) -> bool {
    let all = all as f64;
    let expected = all * share;
    count as f64 > expected + DEVIATIONS * (expected + all * all * variance).sqrt()
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
        judged(conditions, old, new, &Measured::default())
    }

    fn judged(conditions: &str, old: &Measured, new: &Measured, now: &Measured) -> Verdict {
        let all = Compared {
            old: Some(old.clone()),
            new: Some(new.clone()),
        };
        let recent = Compared {
            old: None,
            new: Some(now.clone()),
        };
        judge(&conditions.parse().unwrap(), &all, &recent)
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
            // A few of the old ones, too, show what it may be.
            ((5, 5), (90, 10), false),
            ((5, 5), (50, 50), true),
            ((12, 0), (90, 10), true),
            ((60, 0), (196, 4), false),
            ((60, 0), (190, 10), true),
            // None are known.
            ((0, 0), (17, 3), true),
            ((0, 0), (97, 3), false),
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
        let none = Compared {
            old: Some(old),
            new: None,
        };
        let none = judge(&Analysis::default(), &none, &Compared::default());
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
    fn processors_are_compared_by_request_where_both_have_enough() {
        let uses = |requests, rate, cpu| Measured {
            cpu: Some(cpu),
            rate: Some(rate),
            ..of(requests, 0)
        };
        let old = uses(1000, 90.0, 0.9);
        for (new, expected) in [
            (uses(100, 10.0, 0.15), false),
            (uses(100, 10.0, 0.25), true),
            // Hardly busy.
            (uses(100, 1.0, 0.09), false),
            // Too few: the sums are compared.
            (uses(10, 10.0, 0.25), false),
            (uses(10, 10.0, 1.9), true),
        ] {
            assert_eq!(fails("cpu=2x", &old, &new), expected, "{new:?}");
        }
        let Verdict::Fail(why) = verdict("cpu=2x", &old, &uses(100, 10.0, 0.25)) else {
            panic!("it passes");
        };
        let said = "cpu per request is 2.50 times the old version's, more than 2x";
        assert_eq!(why, said);
    }

    #[test]
    fn a_version_that_was_good_for_long_fails_by_what_it_does_now() {
        let (old, all) = (of(1000, 0), of(36_000, 50));
        assert_eq!(verdict("on", &old, &all), Verdict::Pass);
        for (now, expected) in [((950, 50), true), ((999, 1), false), ((10, 9), false)] {
            let now = judged("on", &old, &all, &of(now.0, now.1));
            assert_eq!(matches!(now, Verdict::Fail(_)), expected);
        }
        // Few now, and all that is known fails.
        let failed = judged("on", &old, &of(900, 100), &of(10, 0));
        assert!(matches!(failed, Verdict::Fail(_)));
        // What has failed both versions since this watch began is compared with each other.
        let all = Compared {
            old: Some(of(36_000, 0)),
            new: Some(of(36_000, 100)),
        };
        let recent = Compared {
            old: Some(of(900, 100)),
            new: Some(of(900, 100)),
        };
        assert_eq!(judge(&Analysis::default(), &all, &recent), Verdict::Pass);
    }

    #[test]
    fn without_an_analysis_nothing_is_lacking_before_the_first_look() {
        let off = "off".parse().unwrap();
        assert_eq!(Verdict::at_first(&off), Verdict::Pass);
        let on = Verdict::at_first(&Analysis::default());
        assert!(matches!(on, Verdict::NoData(_)));
    }

    #[test]
    fn two_equal_versions_that_fail_now_and_then_hardly_ever_differ() {
        for known in [15, 60, 150, 1000] {
            let wrong = rolled_back(known);
            assert!(wrong <= 6, "{wrong} of 200 after {known}");
        }
    }

    /// How many of 200 versions fail that are equal to an old one of which so many requests are known.
    fn rolled_back(known: u64) -> u64 {
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
            let old_failed = (0..known).filter(|_| fails_now()).count() as u64;
            let old = of(known - old_failed, old_failed);
            let mut failed = 0;
            let looks = (1..=1000_u64).filter(|sent| {
                failed += u64::from(fails_now());
                *sent >= 20 && sent % 10 == 0 && fails("on", &old, &of(sent - failed, failed))
            });
            wrong += u64::from(looks.count() > 0);
        }
        wrong
    }
}
