//! The containers of other services that the Traefiks in front of a service read.

use bollard::models::ContainerSummary;
use futures_util::future::join_all;

use crate::{
    docker::engine::summary::name,
    model::ServiceKey,
    overlay::Overlay,
    proxy::{
        landscape::Landscape,
        traefik::{
            config::{Docker, Reads, TraefikContainer},
            labels::{Neighbour, is_of, labels_of, left_out},
        },
    },
};

/// Every container of other services that one of these Traefiks keeps.
pub async fn neighbours(
    landscape: &Landscape,
    key: &ServiceKey,
    traefiks: &[TraefikContainer],
) -> Vec<Neighbour> {
    let readers = traefiks.iter();
    let readers = readers.filter_map(|own| Some((own.config.docker.as_ref()?, &own.reads)));
    let readers = readers.map(async |(docker, reads)| match reads {
        Reads::SocketProxy(own) => (docker, landscape.overlay(own).await.unwrap_or_default()),
        Reads::Socket(_) | Reads::Other(_) | Reads::Nothing => (docker, Overlay::default()),
    });
    kept(key, &join_all(readers).await, &landscape.running)
}

/// Whether a Traefik reads containers in a way that is not known, so that its neighbours are not known either.
pub fn is_unknown(traefik: &TraefikContainer) -> bool {
    traefik.config.docker.is_none() && !matches!(traefik.reads, Reads::Nothing)
}

/// `readers` are the Docker provider of each Traefik, and what its socket proxy changes.
fn kept(
    key: &ServiceKey,
    readers: &[(&Docker, Overlay)],
    running: &[ContainerSummary],
) -> Vec<Neighbour> {
    let mut all = Vec::new();
    for summary in running {
        let labels = labels_of(summary);
        let id = summary.id.clone().unwrap_or_default();
        let shown = readers.iter().find_map(|(docker, overlay)| {
            let mut labels = labels.clone();
            let omitted = overlay.omits(&id, &labels);
            overlay.apply(&id, &mut labels, false);
            let kept = !omitted && left_out(docker, &labels).is_none();
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
