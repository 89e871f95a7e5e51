//! Whether Traefik has the providers on that the labels of a service name. Pure.

use std::collections::BTreeMap;

use super::tree::Tree;
use crate::{
    check::Check,
    error::{Error, Result},
};

/// What labels can refer to in another provider: of which object, and by which option.
const REFERENCES: [(&str, &str, &str); 11] = [
    ("http.routers", "router", "service"),
    ("http.routers", "router", "middlewares"),
    ("http.routers", "router", "tls.options"),
    ("http.middlewares", "middleware", "chain.middlewares"),
    ("http.middlewares", "middleware", "errors.service"),
    ("tcp.routers", "router", "service"),
    ("tcp.routers", "router", "middlewares"),
    ("tcp.routers", "router", "tls.options"),
    ("udp.routers", "router", "service"),
    ("http.services", "service", "loadbalancer.serverstransport"),
    ("tcp.services", "service", "loadbalancer.serverstransport"),
];

/// A place in the labels that names a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `router web`.
    owner: String,
    /// `traefik.http.routers.web.service`.
    label: String,
    /// `git@redis`.
    value: String,
    provider: String,
}

/// Every reference to a provider that is not always there for what has labels.
pub fn references(labels: &BTreeMap<String, String>) -> Vec<Reference> {
    let tree = Tree::of_labels(labels);
    let mut found = Vec::new();
    for (path, kind, option) in REFERENCES {
        let objects = tree.at(&format!("traefik.{path}"));
        for (name, object) in objects.into_iter().flat_map(|own| own.children()) {
            let values = object.at(option).map(|own| own.list()).unwrap_or_default();
            found.extend(values.into_iter().filter_map(|value| {
                let provider = value.rsplit_once('@')?.1.to_lowercase();
                let elsewhere = !matches!(provider.as_str(), "docker" | "internal" | "");
                elsewhere.then(|| Reference {
                    owner: format!("{kind} {name}"),
                    label: format!("traefik.{path}.{name}.{option}"),
                    value,
                    provider,
                })
            }));
        }
    }
    found
}

/// Refuses labels that name a provider which no Traefik in front of the service has on: `on` holds, for each, the
/// providers of its overview.
pub fn refuse_absent(service: &str, references: &[Reference], on: &[Vec<String>]) -> Result<()> {
    let has = |wanted: &str| on.iter().flatten().any(|own| is(own, wanted));
    match references.iter().find(|own| !has(&own.provider)) {
        Some(absent) if !on.is_empty() => {
            let Reference {
                owner,
                label,
                value,
                provider,
            } = absent;
            let on: Vec<&str> = on.iter().flatten().map(String::as_str).collect();
            let on = on.join(", ");
            let message = format!(
                "Traefik can never serve {owner} of {service}: the label {label}={value} names the provider {provider}, \
                 which is not on (on are: {on})"
            );
            Err(Error::refused(message).hint(format!(
                "switch the provider on in Traefik, or correct the label {label} of {service}\n      or go on all the \
                 same: --ignore labels"
            ))
            .of(Check::Labels))
        }
        _ => Ok(()),
    }
}

/// Whether a provider of the overview, which names them as Traefik's options do, goes by this name behind an `@`.
fn is(overview: &str, name: &str) -> bool {
    let own = match overview.to_lowercase().as_str() {
        "kubernetesingress" => "kubernetes".to_owned(),
        other => other.to_owned(),
    };
    // Consul, Consul Catalog and Nomad have one for each namespace.
    let namespace = name
        .strip_prefix(&own)
        .is_some_and(|rest| rest.starts_with('-'));
    own == name || namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(key: &str, value: &str, on: &[&str]) -> Option<String> {
        let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let on = [on.iter().map(|own| (*own).to_owned()).collect()];
        let refused = refuse_absent("web", &references(&labels), &on);
        refused.err().map(|error| error.message)
    }

    #[test]
    fn a_provider_that_is_off_is_named_with_its_router_and_label() {
        let message = absent(
            "traefik.http.routers.git.service",
            "git@redis",
            &["Docker", "File"],
        );
        assert_eq!(
            message.unwrap(),
            "Traefik can never serve router git of web: the label traefik.http.routers.git.service=git@redis names the \
             provider redis, which is not on (on are: Docker, File)"
        );
    }

    #[test]
    fn every_kind_of_reference_is_looked_at_and_keys_are_read_in_any_case() {
        for (key, value) in [
            ("traefik.http.routers.a.Middlewares", "gz@docker, auth@http"),
            ("traefik.tcp.routers.a.service", "db@consul"),
            ("traefik.tcp.routers.a.middlewares", "allow@http"),
            ("traefik.udp.routers.a.service", "dns@etcd"),
            (
                "traefik.http.services.a.loadBalancer.serversTransport",
                "t@nomad",
            ),
        ] {
            assert!(absent(key, value, &["Docker", "File"]).is_some(), "{key}");
        }
    }

    #[test]
    fn providers_go_by_the_names_that_references_use() {
        let service = "traefik.http.routers.a.service";
        for (value, on) in [
            ("a@file", "File"),
            ("a@internal", ""),
            ("a@docker", ""),
            ("a", ""),
            ("a@kubernetes", "KubernetesIngress"),
            ("a@kubernetescrd", "KubernetesCRD"),
            ("a@consulcatalog-team", "ConsulCatalog"),
            ("a@plugin-mine", "plugin-mine"),
            ("a@zookeeper", "ZooKeeper"),
        ] {
            assert_eq!(absent(service, value, &[on]), None, "{value}");
        }
        assert!(absent(service, "a@consul", &["ConsulCatalog"]).is_some());
    }

    #[test]
    fn one_traefik_that_has_it_is_enough_and_of_what_is_not_known_nothing_is_said() {
        let labels = [(
            "traefik.http.routers.a.service".to_owned(),
            "a@redis".to_owned(),
        )];
        let found = references(&labels.into());
        let on = |name: &str| vec![name.to_owned()];
        assert!(refuse_absent("web", &found, &[on("Docker"), on("Redis")]).is_ok());
        assert!(refuse_absent("web", &found, &[]).is_ok());
        assert!(refuse_absent("web", &found, &[on("Docker")]).is_err());
    }
}
