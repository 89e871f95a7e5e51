//! Sinks: what becomes of events.

pub mod diff;
pub mod figures;
pub mod findings;
pub mod github;
pub mod html;
pub mod human;
pub mod json;
pub mod kept;
mod live;
pub mod log_dir;
mod look;
pub mod notify;
pub mod overlay;
pub mod plan;
mod rows;
mod screen;
mod screens;
mod stack;
pub mod table;

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Progress on a terminal, plain lines elsewhere.
    #[default]
    Human,
    /// One JSON object a line on standard output.
    Json,
}

/// Labels as they are typed.
fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(" ")
}

/// One JSON object a line.
pub fn lines(rows: &[impl serde::Serialize]) -> String {
    let lines = rows
        .iter()
        .filter_map(|row| serde_json::to_string(row).ok());
    lines.map(|line| format!("{line}\n")).collect()
}

/// The word that stands for a value in JSON.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
