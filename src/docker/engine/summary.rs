//! Reads a listed container's name, networks and addresses. Pure.

use std::collections::BTreeSet;

use bollard::models::{ContainerSummary, EndpointSettings};

use crate::model::{ServiceKey, label};

/// Without the leading slash.
pub fn name(summary: &ContainerSummary) -> String {
    let names = summary.names.iter().flatten();
    let first = names.map(|name| name.trim_start_matches('/')).next();
    first.unwrap_or_default().to_owned()
}

/// Its service by Compose's labels; one-offs and hooks have it too.
pub fn service(summary: &ContainerSummary) -> Option<ServiceKey> {
    Some(ServiceKey {
        project: label(summary, label::COMPOSE_PROJECT)?.to_owned(),
        service: label(summary, label::COMPOSE_SERVICE)?.to_owned(),
    })
}

pub fn label<'a>(summary: &'a ContainerSummary, key: &str) -> Option<&'a str> {
    summary.labels.as_ref()?.get(key).map(String::as_str)
}

pub fn network_mode(summary: &ContainerSummary) -> Option<&str> {
    summary.host_config.as_ref()?.network_mode.as_deref()
}

/// True if a container can connect to a service in these networks; one in the host's network always can.
pub fn reaches(summary: &ContainerSummary, networks: &BTreeSet<String>) -> bool {
    is_in_the_hosts_network(summary)
        || networks_of(summary).any(|network| networks.contains(network))
}

pub fn is_in_the_hosts_network(summary: &ContainerSummary) -> bool {
    network_mode(summary) == Some("host")
}

pub fn addresses_of(summary: &ContainerSummary) -> impl Iterator<Item = &str> {
    endpoints(summary)
        .flat_map(|(_, own)| [&own.ip_address, &own.global_ipv6_address])
        .flatten()
        .map(String::as_str)
}

pub fn networks_of(summary: &ContainerSummary) -> impl Iterator<Item = &String> {
    endpoints(summary).map(|(network, _)| network)
}

fn endpoints(summary: &ContainerSummary) -> impl Iterator<Item = (&String, &EndpointSettings)> {
    let settings = summary.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::replaced;

    proptest! {
        #[test]
        fn a_listed_container_with_values_of_any_type_has_a_name_and_is_reached_in_its_networks(
            value in replaced(serde_json::json!({
                "Names": ["/edge-1"], "HostConfig": {"NetworkMode": "edge"},
                "NetworkSettings": {"Networks": {"edge": {"IPAddress": "10.0.0.2"}}},
            })),
        ) {
            if let Ok(summary) = serde_json::from_value::<ContainerSummary>(value) {
                prop_assert!(!name(&summary).starts_with('/'));
                let networks = networks_of(&summary).cloned().collect();
                let reached = is_in_the_hosts_network(&summary) || networks_of(&summary).next().is_some();
                prop_assert_eq!(reaches(&summary, &networks), reached);
                prop_assert!(addresses_of(&summary).count() <= 2 * networks.len());
            }
        }
    }
}
