//! What `--all` leaves alone: services that do not run, that keep data, or that carry the traffic of rollouts.

use std::collections::BTreeSet;

use crate::{
    check::Check,
    compose::{Project, Service},
    doctor::part_of_image,
    error::Error,
};

/// A service of the file that is no part of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub service: String,
    pub reason: String,
}

impl Left {
    pub fn of(service: &str, reason: impl Into<String>) -> Self {
        Self {
            service: service.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The reason for Traefik and the socket proxy: a rollout needs them while it runs, so Compose replaces them.
pub const OWN_PART: &str = "it carries the traffic";

/// The last words of the names of images that keep data.
const STATEFUL: &str = "\
    arangodb cassandra clickhouse clickhouse-server cockroach consul couchbase couchdb cp-kafka cp-zookeeper \
    dragonfly elasticsearch etcd influxdb kafka keydb mariadb mariadb-galera meilisearch minio mongo mongodb \
    mongodb-community-server mysql mysql-server neo4j opensearch percona percona-server percona-server-mongodb \
    pgvector postgis postgres postgresql qdrant questdb rabbitmq redis redis-stack redis-stack-server redpanda \
    scylla solr surrealdb timescaledb timescaledb-ha valkey vault weaviate zookeeper";

/// The named services, and with `--all` every other one of the file that is not left alone.
pub fn choose<'a>(project: &'a Project, named: &[&'a str], all: bool) -> (Vec<&'a str>, Vec<Left>) {
    let mut chosen = named.to_vec();
    let mut left = Vec::new();
    let known: BTreeSet<&str> = named.iter().copied().collect();
    let others = project.services.values();
    let others = others.filter(|own| all && !known.contains(own.name.as_str()));
    for service in others {
        match reason(service) {
            Some(reason) => left.push(Left::of(&service.name, reason)),
            None => chosen.push(&service.name),
        }
    }
    let disabled = project.disabled.iter().filter(|_| all);
    left.extend(disabled.map(|name| Left::of(name, "its profile is not active")));
    (chosen, left)
}

/// Why `--all` leaves a service alone, as far as the file says.
fn reason(service: &Service) -> Option<String> {
    if service.scale == 0 {
        return Some("its scale is 0".to_owned());
    }
    by_image(service.bare_image())
}

/// The same, by the last word of an image's name.
pub fn by_image(bare: &str) -> Option<String> {
    if part_of_image(bare).is_some() {
        return Some(OWN_PART.to_owned());
    }
    let keeps_data = STATEFUL.split_whitespace().any(|own| own == bare);
    keeps_data.then(|| format!("{bare} keeps data; name it to roll it"))
}

/// Whether a refusal says that two sets of a service cannot run side by side.
pub fn runs_only_once(error: &Error) -> bool {
    matches!(
        error.check,
        Some(
            Check::HostPorts
                | Check::NetworkMode
                | Check::StaticAddress
                | Check::MacAddress
                | Check::AnonymousVolumes
                | Check::Joined
        )
    )
}

/// The notice about all of them, in one line.
pub fn left_alone(left: &[Left]) -> Option<String> {
    let each = left
        .iter()
        .map(|own| format!("{} ({})", own.service, own.reason));
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| format!("left alone: {}", each.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        let text = "name: p
services:
  api: {image: shop/api}
  cache: {image: 'valkey/valkey:8'}
  db: {image: 'registry:5000/mirror/postgres:16@sha256:0'}
  edge: {image: 'traefik:v3.7'}
  off: {image: shop/off, scale: 0}
  proxy: {image: 'rollout:latest'}
  web: {image: shop/web}
";
        let mut project = crate::compose::resolved(text).unwrap();
        project.disabled.insert("debug".to_owned());
        project
    }

    #[test]
    fn all_services_are_chosen_but_what_keeps_data_carries_traffic_or_does_not_run() {
        let project = project();
        let (chosen, left) = choose(&project, &[], true);
        assert_eq!(chosen, ["api", "web"]);
        assert_eq!(
            left_alone(&left).unwrap(),
            "left alone: cache (valkey keeps data; name it to roll it), db (postgres keeps data; name it to roll it), edge \
             (it carries the traffic), off (its scale is 0), proxy (it carries the traffic), debug (its profile is not \
             active)"
        );
    }

    #[test]
    fn a_named_service_is_chosen_whatever_it_is_and_without_all_no_other_is() {
        let project = project();
        assert_eq!(choose(&project, &["db"], true).0, ["db", "api", "web"]);
        let (chosen, left) = choose(&project, &["web", "db"], false);
        assert_eq!((chosen, left_alone(&left)), (vec!["web", "db"], None));
    }

    #[test]
    fn a_program_beside_a_database_keeps_no_data() {
        let keeps = |image: &str| {
            let service = Service {
                image: Some(image.to_owned()),
                scale: 1,
                ..Service::default()
            };
            reason(&service).is_some()
        };
        for image in [
            "oliver006/redis-exporter",
            "mongo-express:1",
            "shop/postgres-backup",
            "",
        ] {
            assert!(!keeps(image), "{image}");
        }
        for image in [
            "bitnami/postgresql",
            "quay.io/minio/minio",
            "mysql",
            "hashicorp/vault:1",
        ] {
            assert!(keeps(image), "{image}");
        }
    }
}
