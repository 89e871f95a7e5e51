//! The setting `analysis`: the conditions that a new version has to meet while it is watched.

use std::{str::FromStr, time::Duration};

use super::values::{boolean, duration};
use crate::error::did_you_mean;

/// The keys of percentiles, and the share of the answers that each leaves above it.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.05), ("p99", 0.01)];
const KEYS: [&str; 7] = [
    "success-rate",
    "p50",
    "p95",
    "p99",
    "memory",
    "cpu",
    "no-data",
];

/// The conditions, beside those that always count: failures, restarts and a lack of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    pub is_on: bool,
    /// The share of the requests that may fail, in place of the old version's.
    pub may_fail: Option<f64>,
    pub latencies: Vec<Latency>,
    /// Memory and processors in use, as a multiple of the old version's.
    pub memory: Option<f64>,
    pub cpu: Option<f64>,
    pub no_data: NoData,
}

/// A limit that this share of the answers may exceed.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// As it is written: `p99`.
    pub key: &'static str,
    pub may_exceed: f64,
    pub limit: Duration,
}

/// What a watch without enough requests means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    #[default]
    Pass,
    Fail,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            is_on: true,
            may_fail: None,
            latencies: Vec::new(),
            memory: None,
            cpu: None,
            no_data: NoData::default(),
        }
    }
}

/// `on`, `off`, or conditions such as `success-rate=99%,p99=500ms`.
impl FromStr for Analysis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        if let Ok(is_on) = boolean(text) {
            read.is_on = is_on;
            return Ok(read);
        }
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is no condition; write success-rate=99%,p99=500ms, on or off")
            })?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(format!("{key} is given twice"));
            }
            seen.push(key);
            read.set(key, value)?;
        }
        read.check_order()?;
        Ok(read)
    }
}

impl Analysis {
    /// Whether it asks for more than what always counts.
    pub fn has_conditions(&self) -> bool {
        self.is_on && *self != Self::default()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let percentile = PERCENTILES.into_iter().find(|own| own.0 == key);
        match (key, percentile) {
            (_, Some((key, may_exceed))) => self.latencies.push(Latency {
                key,
                may_exceed,
                limit: latency(key, value)?,
            }),
            ("success-rate", _) => self.may_fail = Some(1.0 - percent(value)? / 100.0),
            ("memory", _) => self.memory = Some(multiple(key, value)?),
            ("cpu", _) => self.cpu = Some(multiple(key, value)?),
            ("no-data", _) => self.no_data = no_data(value)?,
            _ => {
                let near = did_you_mean(key, KEYS);
                return Err(match near {
                    Some(near) => format!("unknown condition {key}; did you mean {near}?"),
                    None => format!("unknown condition {key}; known are {}", KEYS.join(", ")),
                });
            }
        }
        Ok(())
    }

    /// A higher percentile is never below a lower one.
    fn check_order(&mut self) -> Result<(), String> {
        self.latencies.sort_by_key(|own| own.key);
        for pair in self.latencies.windows(2) {
            let (lower, higher) = (&pair[0], &pair[1]);
            if lower.limit > higher.limit {
                return Err(format!(
                    "the limit of {} is above the one of {}, which includes it; make it shorter",
                    lower.key, higher.key
                ));
            }
        }
        Ok(())
    }
}

fn latency(key: &str, value: &str) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err(format!("{key}={value} cannot be met; write {key}=500ms")),
        limit => Ok(limit),
    }
}

fn percent(value: &str) -> Result<f64, String> {
    let number = value.strip_suffix('%').and_then(|own| own.parse().ok());
    number
        .filter(|percent| (0.0..=100.0).contains(percent) && *percent > 0.0)
        .ok_or_else(|| format!("success-rate={value} is not a percentage up to 100%; write 99%"))
}

fn multiple(key: &str, value: &str) -> Result<f64, String> {
    let number = value.strip_suffix('x').and_then(|own| own.parse().ok());
    number
        .filter(|times: &f64| times.is_finite() && *times > 0.0)
        .ok_or_else(|| {
            format!("{key}={value} is not a multiple of the old version's; write {key}=1.5x")
        })
}

fn no_data(value: &str) -> Result<NoData, String> {
    match value {
        "pass" => Ok(NoData::Pass),
        "fail" => Ok(NoData::Fail),
        "pause" => Err(
            "no-data=pause is unknown; write pass or fail, or analysis: true in a step of a canary, which then waits"
                .into(),
        ),
        _ => Err(format!("no-data={value} is unknown; write pass or fail")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn refused(text: &str) -> String {
        text.parse::<Analysis>().unwrap_err()
    }

    #[test]
    fn conditions_are_read_in_any_order() {
        let read: Analysis = "p99=500ms, success-rate=99%,memory=1.5x,p50=20ms,no-data=fail"
            .parse()
            .unwrap();
        assert!(
            read.may_fail
                .is_some_and(|share| (share - 0.01).abs() < 1e-9)
        );
        let keys: Vec<_> = read.latencies.iter().map(|own| own.key).collect();
        assert_eq!(keys, ["p50", "p99"]);
        assert_eq!(read.latencies[1].limit, Duration::from_millis(500));
        assert_eq!((read.memory, read.cpu), (Some(1.5), None));
        assert_eq!((read.no_data, read.is_on), (NoData::Fail, true));
    }

    #[test]
    fn it_is_on_without_conditions_and_can_be_off() {
        assert_eq!("on".parse(), Ok(Analysis::default()));
        for off in ["off", "false", "no"] {
            assert!(!off.parse::<Analysis>().unwrap().is_on, "{off}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_one_line_with_the_fix() {
        for (text, said) in [
            ("fast", "write success-rate=99%,p99=500ms, on or off"),
            ("", "write success-rate=99%,p99=500ms, on or off"),
            ("sucess-rate=99%", "did you mean success-rate?"),
            ("x=1", "known are success-rate, p50"),
            ("p99=1s,p99=2s", "p99 is given twice"),
            ("p99=0s", "cannot be met"),
            ("p99=fast", "is not a duration"),
            ("p50=2s,p99=1s", "the limit of p50 is above the one of p99"),
            ("success-rate=99", "write 99%"),
            ("success-rate=0%", "write 99%"),
            ("success-rate=101%", "write 99%"),
            ("success-rate=NaN%", "write 99%"),
            ("memory=1.5", "write memory=1.5x"),
            ("cpu=0x", "write cpu=1.5x"),
            ("cpu=infx", "write cpu=1.5x"),
            ("no-data=pause", "analysis: true in a step of a canary"),
            ("no-data=x", "write pass or fail"),
        ] {
            let why = refused(text);
            assert!(why.contains(said) && !why.contains('\n'), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_conditions_that_can_be_met_or_one_line(
            text in mutated_text("success-rate=99%,p99=500ms,memory=1.5x,no-data=fail"),
        ) {
            if let Ok(read) = text.parse::<Analysis>() {
                prop_assert!(read.may_fail.is_none_or(|share| (0.0..1.0).contains(&share)));
                prop_assert!(read.latencies.iter().all(|own| !own.limit.is_zero()));
            }
        }
    }
}
