//! The metrics of an analysis, `x-rollout.analysis.prometheus` of a service: queries with a condition. Pure but for
//! [`ask`]; the fields are those of Argo Rollouts' `AnalysisTemplate`.

pub mod ask;

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    error::{Error, Result},
    settings::{self, ANALYSIS, PROMETHEUS},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, try_from = "Fields")]
pub struct Metric {
    /// Of the Prometheus server; a user and a password in it are sent along.
    pub address: Url,
    /// PromQL with one number as its result.
    pub query: String,
    conditions: Conditions,
    /// The time before each measurement.
    pub interval: Duration,
    /// How often it is measured; `None` for as long as the new version is watched.
    pub count: Option<NonZeroU32>,
    /// How many measurements may fail.
    failure_limit: u32,
}

/// At least one of the two.
#[derive(Clone, Debug, PartialEq)]
struct Conditions {
    success: Option<Condition>,
    failure: Option<Condition>,
}

/// A comparison with a number, such as `< 0.01`.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    operator: &'static str,
    number: f64,
}

/// A metric as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fields {
    address: String,
    query: String,
    success: Option<String>,
    failure: Option<String>,
    interval: Option<Value>,
    count: Option<NonZeroU32>,
    #[serde(default)]
    failure_limit: u32,
}

const INTERVAL: Duration = Duration::from_secs(10);
/// The longer ones first, as a shorter one may begin them.
const OPERATORS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];

/// The metrics of a service.
///
/// # Errors
/// A mistake in a metric, in one line.
pub fn read(service: &str, x_rollout: Option<&Value>) -> Result<Vec<Metric>> {
    let analysis = x_rollout.and_then(|own| own.get(ANALYSIS));
    let all = match analysis.and_then(|own| own.get(PROMETHEUS)) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().collect(),
        Some(one) => vec![one],
    };
    let place = format!("{ANALYSIS}.{PROMETHEUS} in x-rollout of {service}");
    let read = (1..).zip(all).map(|(number, value)| {
        let metric = match value {
            Value::Object(_) => Metric::deserialize(value).map_err(|why| why.to_string()),
            _ => Err("it is no mapping".to_owned()),
        };
        metric.map_err(|why| {
            Error::refused(format!("metric {number} of {place}: {why}"))
                .hint("write address, query, and success or failure such as \"< 0.01\"; see rollout help settings")
        })
    });
    read.collect()
}

impl TryFrom<Fields> for Metric {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let condition = |text: Option<String>| text.as_deref().map(condition).transpose();
        let conditions = Conditions {
            success: condition(fields.success)?,
            failure: condition(fields.failure)?,
        };
        if conditions.success.is_none() && conditions.failure.is_none() {
            return Err("it has neither success nor failure".to_owned());
        }
        if fields.query.trim().is_empty() {
            return Err("the query is empty".to_owned());
        }
        let interval = settings::span(fields.interval.as_ref(), INTERVAL);
        let interval = interval.map_err(|why| format!("interval: {why}"))?;
        if fields
            .count
            .is_some_and(|count| fields.failure_limit >= count.get())
        {
            return Err("failure-limit is not below count: it could never fail".to_owned());
        }
        Ok(Self {
            address: address(&fields.address)?,
            query: fields.query,
            conditions,
            interval,
            count: fields.count,
            failure_limit: fields.failure_limit,
        })
    }
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // It may hold a password, so it is not repeated.
    url.ok_or_else(|| "the address is no URL; write it as http://127.0.0.1:9090".to_owned())
}

/// A number may stand behind `result` or `result[0]`, as in Argo Rollouts.
fn condition(text: &str) -> Result<Condition, String> {
    let bare = text.trim();
    let bare = bare.strip_prefix("result").unwrap_or(bare);
    let bare = bare.strip_prefix("[0]").unwrap_or(bare).trim();
    let mut operators = OPERATORS.into_iter();
    let read = operators.find_map(|operator| {
        let number = bare.strip_prefix(operator)?.trim().parse::<f64>().ok()?;
        number.is_finite().then_some(Condition { operator, number })
    });
    read.ok_or_else(|| format!("{text:?} is no condition; write < 0.01, or any of {OPERATORS:?}"))
}

impl Condition {
    fn holds(&self, value: f64) -> bool {
        match self.operator {
            "<" => value < self.number,
            "<=" => value <= self.number,
            ">" => value > self.number,
            ">=" => value >= self.number,
            "==" => value == self.number,
            _ => value != self.number,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operator, self.number)
    }
}

/// What one measurement says.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Success,
    /// The condition that is not met, or that is.
    Failure(String),
    Inconclusive,
}

impl Conditions {
    fn judge(&self, value: f64) -> Outcome {
        match (&self.success, &self.failure) {
            (_, Some(failure)) if failure.holds(value) => {
                Outcome::Failure(format!("which fails it: {failure}"))
            }
            (Some(success), _) if success.holds(value) => Outcome::Success,
            (Some(success), None) => Outcome::Failure(format!("and must be {success}")),
            (None, _) => Outcome::Success,
            (Some(_), Some(_)) => Outcome::Inconclusive,
        }
    }
}

/// What the measurements of one metric have said.
pub struct Measurements {
    pub metric: Metric,
    taken: u32,
    failed: u32,
    /// Why the last one says nothing; `None` once one has said something.
    lacks: Option<String>,
}

impl Measurements {
    pub fn new(metric: &Metric) -> Self {
        Self {
            metric: metric.clone(),
            taken: 0,
            failed: 0,
            lacks: Some("the time was too short for a measurement".to_owned()),
        }
    }

    /// Notes a measurement: its value, or why there is none. Returns why the new version fails.
    pub fn note(&mut self, value: Result<f64, String>) -> Option<String> {
        self.taken += 1;
        let metric = &self.metric;
        let outcome = match value {
            Ok(value) if value.is_nan() => Err("it has no value".to_owned()),
            Ok(value) => Ok((value, metric.conditions.judge(value))),
            Err(why) => Err(why),
        };
        let says_nothing = match outcome {
            Ok((_, Outcome::Success)) => None,
            Ok((value, Outcome::Inconclusive)) => {
                Some(format!("{value} is neither a success nor a failure"))
            }
            Ok((value, Outcome::Failure(condition))) => {
                self.failed += 1;
                self.lacks = None;
                let limit = metric.failure_limit;
                let so_often = match limit {
                    0 => String::new(),
                    _ => format!(" ({} failures, {limit} allowed)", self.failed),
                };
                let query = &metric.query;
                let why = || format!("{query} is {value}, {condition}{so_often}");
                return (self.failed > limit).then(why);
            }
            Err(why) => Some(why),
        };
        if self.lacks.is_some() {
            self.lacks = says_nothing;
        }
        None
    }

    /// Why it says nothing.
    pub fn lack(&self) -> Option<String> {
        let why = self.lacks.as_ref()?;
        Some(format!("{}: {why}", self.metric.query))
    }

    /// Whether it is not measured again.
    pub fn is_over(&self) -> bool {
        let count = self.metric.count;
        count.is_some_and(|count| self.taken >= count.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::replaced;

    fn full() -> Value {
        json!({
            "address": "http://127.0.0.1:9090", "query": "up", "success": "result[0] < 0.01", "failure": "> 0.05",
            "interval": "5s", "count": 3, "failure-limit": 1,
        })
    }

    fn of(prometheus: Value) -> Result<Vec<Metric>> {
        read(
            "web",
            Some(&json!({ "analysis": { "prometheus": prometheus } })),
        )
    }

    fn metric(changes: Value) -> Metric {
        let mut all = full();
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        of(all).unwrap().remove(0)
    }

    #[test]
    fn a_metric_has_the_fields_of_argo_rollouts_and_defaults() {
        let read = of(json!([full()])).unwrap().remove(0);
        assert_eq!(read.interval, Duration::from_secs(5));
        assert_eq!((read.count, read.failure_limit), (NonZeroU32::new(3), 1));
        assert_eq!(read.conditions.success, condition("<0.01").ok());
        let small = json!({"address": "https://u:p@prom/x", "query": "up", "failure": ">= 1"});
        let read = of(small).unwrap().remove(0);
        assert_eq!((read.interval, read.count), (INTERVAL, None));
        assert_eq!(of(Value::Null), Ok(Vec::new()));
        assert_eq!(read_none(), Ok(Vec::new()));
    }

    fn read_none() -> Result<Vec<Metric>> {
        read("web", Some(&json!({ "analysis": "success-rate=99%" })))
    }

    #[test]
    fn a_mistake_is_one_line_with_its_place() {
        for (change, said) in [
            (json!({"adress": "x"}), "unknown field `adress`"),
            (json!({"address": "prometheus:9090"}), "is no URL"),
            (json!({"query": " "}), "the query is empty"),
            (json!({"success": "low"}), "\"low\" is no condition"),
            (json!({"success": "< NaN"}), "is no condition"),
            (
                json!({"success": null, "failure": null}),
                "neither success nor failure",
            ),
            (json!({"interval": 0}), "longer than zero"),
            (json!({"interval": "often"}), "is not a duration"),
            (json!({"count": 0}), "nonzero"),
            (json!({"failure-limit": 3}), "could never fail"),
            (json!({"failure-limit": -1}), "-1"),
        ] {
            let mut all = full();
            all.as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let why = of(all).unwrap_err().message;
            let place = "metric 1 of analysis.prometheus in x-rollout of web: ";
            assert!(why.starts_with(place) && why.contains(said), "{why}");
            assert!(!why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn one_condition_decides_alone_and_between_two_nothing_is_decided() {
        let outcome = |success: Option<&str>, failure: Option<&str>, value: f64| {
            let metric = metric(json!({"success": success, "failure": failure}));
            metric.conditions.judge(value)
        };
        let failed = |outcome: Outcome| matches!(outcome, Outcome::Failure(_));
        assert_eq!(outcome(Some("< 1"), None, 0.5), Outcome::Success);
        assert!(failed(outcome(Some("< 1"), None, 1.0)));
        assert!(failed(outcome(None, Some(">= 1"), 1.0)));
        assert_eq!(outcome(None, Some(">= 1"), 0.9), Outcome::Success);
        let both = |value| outcome(Some("< 1"), Some("> 2"), value);
        assert_eq!(
            (both(0.0), both(1.5)),
            (Outcome::Success, Outcome::Inconclusive)
        );
        assert!(failed(both(3.0)));
        for (text, value) in [("== 1", 1.0), ("!= 1", 2.0), ("<= 1", 1.0), ("> 1", 1.1)] {
            assert!(condition(text).unwrap().holds(value), "{text}");
        }
    }

    #[test]
    fn more_failures_than_allowed_fail_and_the_reason_has_value_condition_and_limit() {
        let one = metric(json!({"success": "< 0.01", "failure": null}));
        let mut all = Measurements::new(&one);
        assert_eq!(all.note(Ok(0.5)), None);
        assert!(all.lacks.is_none() && !all.is_over());
        assert_eq!(all.note(Err("no answer".to_owned())), None);
        assert_eq!(all.lacks, None);
        let why = all.note(Ok(0.5)).unwrap();
        assert_eq!(why, "up is 0.5, and must be < 0.01 (2 failures, 1 allowed)");
        assert!(all.is_over());
    }

    #[test]
    fn without_a_value_a_metric_says_nothing() {
        let one = metric(json!({}));
        let mut all = Measurements::new(&one);
        for value in [Ok(f64::NAN), Err("no answer".to_owned()), Ok(0.02)] {
            assert_eq!(all.note(value), None);
            assert!(all.lacks.is_some());
        }
    }

    proptest! {
        #[test]
        fn metrics_of_any_shape_are_read_or_refused_in_one_line(value in replaced(json!([full()]))) {
            match of(value) {
                Ok(read) => prop_assert!(read.iter().all(|own| !own.interval.is_zero())),
                Err(error) => prop_assert!(!error.message.contains('\n')),
            }
        }
    }
}
