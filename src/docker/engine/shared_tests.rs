//! Lists of containers in each other's namespaces.

use std::collections::HashMap;

use bollard::models::{
    ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, EndpointSettings, HostConfig,
};

use super::*;
use crate::plan::simulator;

fn listed(id: &str, mode: &str, networks: &[&str], labels: &[(&str, &str)]) -> ContainerSummary {
    let networks = networks.iter().map(|name| {
        let settings = EndpointSettings {
            ip_address: Some("10.0.0.9".to_owned()),
            ..EndpointSettings::default()
        };
        ((*name).to_owned(), settings)
    });
    ContainerSummary {
        id: Some(id.to_owned()),
        names: Some(vec![format!("/{id}-name")]),
        labels: Some(
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        ),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(mode.to_owned()),
            ..ContainerSummaryHostConfig::default()
        }),
        network_settings: Some(ContainerSummaryNetworkSettings {
            networks: Some(networks.collect()),
        }),
        ..ContainerSummary::default()
    }
}

fn networks(own: &ContainerSummary) -> Vec<&String> {
    let settings = own.network_settings.as_ref().unwrap();
    settings.networks.as_ref().unwrap().keys().collect()
}

#[test]
fn a_container_in_another_ones_network_namespace_has_its_networks_however_far_that_is() {
    let list = with_networks(vec![
        listed("traefik", "container:gerbil", &[], &[]),
        listed("gerbil", "container:vpn-name", &[], &[]),
        listed("vpn", "bridge", &["front"], &[]),
        listed("lost", "container:gone", &[], &[]),
        listed("round", "container:round", &[], &[]),
        listed("outside", "container:on-host", &[], &[]),
        listed("on-host", "host", &[], &[]),
    ]);
    assert_eq!(networks(&list[0]), ["front"]);
    assert_eq!(networks(&list[1]), ["front"]);
    assert!(networks(&list[3]).is_empty() && networks(&list[4]).is_empty());
    let mode = |at: usize| list[at].host_config.as_ref().unwrap().network_mode.clone();
    assert_eq!(mode(0).as_deref(), Some("container:gerbil"));
    assert_eq!(mode(5).as_deref(), Some("host"));
}

#[test]
fn containers_of_any_project_that_join_a_replicas_network_are_found_but_not_our_helpers() {
    let replicas = [simulator::old("old")];
    let compose = [
        (label::COMPOSE_PROJECT, "media"),
        (label::COMPOSE_SERVICE, "torrent"),
        (label::COMPOSE_DIRECTORY, "/srv/media"),
    ];
    let by_name = format!("container:{}", replicas[0].name);
    let list = [
        listed("a", "container:old", &[], &compose),
        listed("b", &by_name, &[], &[]),
        listed("c", "container:old", &[], &[(label::ROLE, "helper")]),
        listed("d", "container:another", &[], &[]),
        listed("e", "bridge", &[], &[]),
    ];
    let found = by_network(&list, &replicas);
    let names: Vec<&str> = found.iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["a-name", "b-name"]);
    assert_eq!(
        found[0].recreate("shop"),
        "(cd /srv/media && docker compose -p media up -d --no-deps --force-recreate torrent)"
    );
    assert_eq!(
        found[0].recreate("media"),
        "docker compose up -d --no-deps --force-recreate torrent"
    );
    assert!(found[1].recreate("shop").starts_with("docker rm -f b-name"));
}

#[test]
fn an_inspect_shows_process_and_ipc_namespaces() {
    let inspect = ContainerInspectResponse {
        name: Some("/debug".to_owned()),
        host_config: Some(HostConfig {
            pid_mode: Some("container:old".to_owned()),
            ipc_mode: Some("private".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerInspectResponse::default()
    };
    let found = by_processes(&[inspect], &[simulator::old("old")]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), found[0].way), ("debug", "pid"));
    assert_eq!(found[0].of, None);
    let none: HashMap<String, String> = HashMap::new();
    assert_eq!(joined("ipc", Some("host"), "x", &none, &[]), None);
}
