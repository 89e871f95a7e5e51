//! The values of settings: how they are read, and what is said of a bad one.

use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::Value;

use crate::error::did_you_mean;

/// The longest duration of a setting: a longer one would overflow a clock.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// `30s`, `1m30s`, `250ms`, or a plain number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(span) if span <= LONGEST => Ok(span),
        Some(_) => Err(format!("{text:?} is longer than a year")),
        None => Err(format!(
            "{text:?} is not a duration; write 30s, 1m30s, 250ms or a number of seconds"
        )),
    }
}

/// The same of a value in a file, where it must be longer than zero; the default where there is none.
pub fn span(value: Option<&Value>, default: Duration) -> Result<Duration, String> {
    let span = match value {
        None | Some(Value::Null) => default,
        Some(Value::String(text)) => duration(text)?,
        Some(other) => duration(&other.to_string())?,
    };
    match span.is_zero() {
        true => Err("it must be longer than zero".to_owned()),
        false => Ok(span),
    }
}

pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a number from 1 on")),
        Ok(count) => Ok(count),
    }
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("{text:?} is not a number from 0 to 1")),
    }
}

/// The texts of this kind in an error.
pub fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// What is wrong with the value of an option, in one line.
pub fn bad_value(error: &clap::Error) -> String {
    use std::error::Error as _;
    let value = texts(error, ContextKind::InvalidValue).concat();
    let known = texts(error, ContextKind::ValidValue);
    match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(why)) => why.to_string(),
        _ => match did_you_mean(&value, known.iter().map(String::as_str)) {
            Some(near) => format!("unknown value {value:?}; did you mean {near}?"),
            None => format!("unknown value {value:?}; known are {}", known.join(", ")),
        },
    }
}
