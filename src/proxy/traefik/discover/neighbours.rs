//! The containers of other services that the Traefiks in front of a service read.

use bollard::models::ContainerSummary;
use futures_util::future::join_all;

use crate::{
    engine::summary::name,
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
