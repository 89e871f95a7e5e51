//! The containers of other services that the Traefiks in front of a service read, and those that they will read.

use std::collections::BTreeMap;

use bollard::models::ContainerSummary;
use futures_util::future::join_all;

use crate::{
    docker::engine::summary::name,
    model::ServiceKey,
    overlay::{Labels, Overlay},
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

/// The new versions of other services that one of these Traefiks will keep. `new` are the labels, by service.
pub fn new_versions(
    key: &ServiceKey,
    new: &BTreeMap<String, Labels>,
    traefiks: &[TraefikContainer],
) -> Vec<Neighbour> {
    let is_kept = |labels: &Labels| {
        let mut dockers = traefiks.iter().filter_map(|own| own.config.docker.as_ref());
        dockers.any(|docker| left_out(docker, labels).is_none())
    };
    let others = new.iter().filter(|(service, _)| **service != key.service);
    others
        .filter(|(_, labels)| is_kept(labels))
        .map(|(service, labels)| Neighbour {
            name: format!("the new version of {service}"),
            runs: false,
            labels: labels.clone(),
        })
        .collect()
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
        let id = summary.id.as_deref().unwrap_or_default();
        let shown = readers.iter().find_map(|(docker, overlay)| {
            let mut labels = labels.clone();
            let omitted = overlay.omits(id, &labels);
            overlay.apply(id, &mut labels, false);
            let kept = !omitted && left_out(docker, &labels).is_none();
            kept.then_some(labels)
        });
        if let Some(shown) = shown.filter(|_| !is_of(key, &labels)) {
            all.push(Neighbour {
                name: name(summary),
                runs: true,
                labels: shown,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::labels;

    #[test]
    fn a_new_version_of_another_service_counts_where_a_traefik_will_keep_it() {
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let enabled = labels(&[("traefik.enable", "true")]);
        let names = ["api", "job", "web"];
        let all = [enabled.clone(), labels(&[]), enabled];
        let new = names.into_iter().map(str::to_owned).zip(all).collect();
        let traefik = |options: &str| TraefikContainer::of_arguments("edge", options);
        let of = |options: &[&str]| -> Vec<String> {
            let traefiks: Vec<TraefikContainer> = options.iter().map(|own| traefik(own)).collect();
            let found = new_versions(&key, &new, &traefiks);
            assert!(found.iter().all(|own| !own.runs));
            found.into_iter().map(|own| own.name).collect()
        };
        let strict = "--providers.docker.exposedbydefault=false";
        assert_eq!(of(&[strict]), ["the new version of api"]);
        let all = ["the new version of api", "the new version of job"];
        assert_eq!(of(&[strict, "--providers.docker"]), all);
        assert_eq!(of(&["--providers.file.directory=/x"]), [""; 0]);
    }
}
