//! A container of another service, and what its entry in the engine's list says of it. Pure.

use std::collections::BTreeMap;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};

use crate::{
    model::{ServiceKey, label},
    overlay::Labels,
};

/// A container of another service, or the new version of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub name: String,
    /// Not so for a new version, which the same command rolls.
    pub runs: bool,
    /// As Traefik reads them.
    pub labels: BTreeMap<String, String>,
}

impl Neighbour {
    pub fn project(&self) -> Option<&str> {
        self.labels.get(label::COMPOSE_PROJECT).map(String::as_str)
    }

    pub fn service(&self) -> Option<&str> {
        self.labels.get(label::COMPOSE_SERVICE).map(String::as_str)
    }

    /// Whether both are of one service.
    pub fn is_of_service(&self, other: &Self) -> bool {
        (self.project(), self.service()) == (other.project(), other.service())
    }
}

/// The labels of a container, as they are.
pub fn labels_of(summary: &ContainerSummary) -> Labels {
    let labels = summary.labels.iter().flatten();
    labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether a container with these labels is one of the service's.
pub fn is_of(key: &ServiceKey, labels: &Labels) -> bool {
    labels.get(label::COMPOSE_PROJECT) == Some(&key.project)
        && labels.get(label::COMPOSE_SERVICE) == Some(&key.service)
}

/// Whether Traefik keeps a container in this state: it runs, and Docker does not doubt its health.
pub fn is_well(summary: &ContainerSummary) -> bool {
    let status = summary.status.as_deref().unwrap_or_default();
    let doubted = ["(unhealthy)", "(health: starting)"];
    summary.state == Some(ContainerSummaryStateEnum::RUNNING)
        && !doubted.iter().any(|word| status.contains(word))
}
