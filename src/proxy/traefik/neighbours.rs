//! The other containers that the Traefiks in front of a service read, as they show them. Pure, but for the asking.

use std::collections::BTreeMap;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use futures_util::future::join_all;

use super::{
    discover::{Reads, TraefikContainer},
    kept::left_out,
    static_config::Docker,
};
use crate::{
    engine::summary::name,
    model::{ServiceKey, label},
    overlay::{Labels, Overlay},
    proxy::landscape::Landscape,
};

/// A container of another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub id: String,
    pub name: String,
    /// As Traefik reads them.
    pub labels: BTreeMap<String, String>,
}

impl Neighbour {
    /// Its Compose project.
    pub fn project(&self) -> Option<&str> {
        self.labels.get(label::COMPOSE_PROJECT).map(String::as_str)
    }

    /// Its service there.
    pub fn service(&self) -> Option<&str> {
        self.labels.get(label::COMPOSE_SERVICE).map(String::as_str)
    }
}

/// How one Traefik reads containers.
struct Reader<'a> {
    docker: &'a Docker,
    /// What its socket proxy changes; nothing where it reads through none.
    overlay: Overlay,
}

/// Every container of other services that one of these Traefiks keeps.
pub async fn neighbours(
    landscape: &Landscape,
    key: &ServiceKey,
    traefiks: &[TraefikContainer],
) -> Vec<Neighbour> {
    let readers = traefiks.iter().filter_map(|own| reader(landscape, own));
    kept(key, &join_all(readers).await, &landscape.running)
}

/// Whether a Traefik reads containers in a way that is not known, so that its neighbours are not known either.
pub fn is_unknown(traefik: &TraefikContainer) -> bool {
    traefik.config.docker.is_none() && !matches!(traefik.reads, Reads::Nothing)
}

fn reader<'a>(
    landscape: &Landscape,
    traefik: &'a TraefikContainer,
) -> Option<impl Future<Output = Reader<'a>>> {
    let docker = traefik.config.docker.as_ref()?;
    Some(async move {
        let overlay = match &traefik.reads {
            Reads::SocketProxy(found, _) => landscape.overlay(found).await.unwrap_or_default(),
            Reads::Socket(_) | Reads::Other(_) | Reads::Nothing => Overlay::default(),
        };
        Reader { docker, overlay }
    })
}

fn kept(key: &ServiceKey, readers: &[Reader<'_>], running: &[ContainerSummary]) -> Vec<Neighbour> {
    let mut all = Vec::new();
    for summary in running {
        let labels = labels_of(summary);
        let id = summary.id.clone().unwrap_or_default();
        let shown = readers.iter().find_map(|reader| {
            let mut labels = labels.clone();
            let omitted = reader.overlay.omits(&id, &labels);
            reader.overlay.apply(&id, &mut labels, false);
            let kept = !omitted && left_out(reader.docker, &labels).is_none();
            kept.then_some(labels)
        });
        if let Some(shown) = shown.filter(|_| !is_of(key, &labels)) {
            let name = name(summary);
            all.push(Neighbour {
                id,
                name,
                labels: shown,
            });
        }
    }
    all
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
