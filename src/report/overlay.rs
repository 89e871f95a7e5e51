//! The rules of the overlay, as `rollout relabel --list` shows them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use super::lines as json;
use super::{pairs, table::table};

/// One rule of one socket proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "rule")]
pub struct Row {
    /// The container's name, or which containers.
    pub containers: String,
    /// The labels that Traefik reads there.
    pub labels: BTreeMap<String, String>,
    /// The labels that Traefik does not read there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// The health that it reads there while Docker says `starting`.
    pub health: Option<String>,
    /// Whether Traefik does not see the container at all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub omitted: bool,
    /// The Swarm service whose tasks it reads there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_of: Option<String>,
    /// `project/service` of the rollout; `None` where it was set by hand.
    pub service: Option<String>,
    pub rollout: Option<String>,
    /// How far the rollout is.
    pub stage: String,
    /// Which socket proxy says so, by its container's name.
    pub socket_proxy: String,
}

/// A table, or a line that says that there is nothing in it.
pub fn human(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no label is changed: Traefik reads what Docker says\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        let owner = match (&row.rollout, &row.service) {
            (Some(rollout), Some(service)) => {
                format!("rollout {rollout} of {service}: {}", row.stage)
            }
            _ => row.stage.clone(),
        };
        [
            row.containers.clone(),
            format_row(row),
            owner,
            row.socket_proxy.clone(),
        ]
    });
    table(["container", "labels", "set by", "socket proxy"], cells)
}

fn format_row(row: &Row) -> String {
    let health = row.health.iter().map(|health| format!("health: {health}"));
    let labels = (!row.labels.is_empty()).then(|| pairs(&row.labels));
    let unset = row.unset.iter().map(|key| format!("without {key}"));
    let omitted = row.omitted.then(|| "left out".to_owned());
    let tasks = row.tasks_of.iter().map(|other| format!("tasks of {other}"));
    let all: Vec<String> = labels
        .into_iter()
        .chain(unset)
        .chain(health)
        .chain(omitted)
        .chain(tasks)
        .collect();
    all.join(" ")
}
