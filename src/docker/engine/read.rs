//! Makes a [`Replica`] of an inspected container.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, EndpointSettings,
    HealthStatusEnum, PortMap,
};

use crate::model::{ContainerId, Health, HealthCheck, Replica, RolloutId, Run, label};

/// `None` for an answer without an id.
pub fn replica(inspect: ContainerInspectResponse) -> Option<Replica> {
    let config = inspect.config.unwrap_or_default();
    let labels: BTreeMap<String, String> = config.labels.unwrap_or_default().into_iter().collect();
    let state = inspect.state.unwrap_or_default();
    let settings = inspect.network_settings.unwrap_or_default();
    let published = published(settings.ports.unwrap_or_default());
    let networks = settings.networks.unwrap_or_default();
    let mode = inspect.host_config.and_then(|host| host.network_mode);
    let borrows_network = mode.is_some_and(|mode| mode == "host" || mode.starts_with("container:"));
    let get = |key: &str| labels.get(key).cloned();
    let exposed = config.exposed_ports.iter().flatten();
    let lowest_port = exposed
        .filter_map(|port| port.split('/').next()?.parse().ok())
        .min();
    let name = inspect.name.unwrap_or_default();
    let name = name.trim_start_matches('/').to_owned();
    Some(Replica {
        id: ContainerId(inspect.id?),
        final_name: get(label::NAME),
        rollout: get(label::ROLLOUT).map(RolloutId),
        wanted: get(label::REPLICAS).and_then(|text| text.parse().ok()),
        batch: get(label::BATCH).and_then(|text| label::batch_of(&text)),
        revision: get(label::REVISION).and_then(|text| text.parse().ok()),
        run: run(&state),
        health: health(&state),
        restarts: inspect.restart_count.unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        started_at: state.started_at.clone().unwrap_or_default(),
        image: inspect.image.unwrap_or_default(),
        reference: config.image.unwrap_or_default(),
        hash: get(label::COMPOSE_HASH).unwrap_or_default(),
        digest: get(label::DIGEST),
        networks: networks.keys().cloned().collect(),
        endpoints: endpoints(&networks),
        names: names(&networks, &name, config.hostname.as_deref()),
        addresses: addresses(networks),
        ports: config
            .exposed_ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| tcp_port(port))
            .collect(),
        lowest_port,
        published,
        borrows_network,
        check: config.healthcheck.as_ref().and_then(HealthCheck::of),
        complaint: check_output(&state),
        labels,
        name,
    })
}

fn tcp_port(exposed: &str) -> Option<u16> {
    let (port, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
    (protocol == "tcp").then(|| port.parse().ok()).flatten()
}

fn addresses(networks: HashMap<String, EndpointSettings>) -> Vec<IpAddr> {
    networks
        .into_values()
        .flat_map(|network| [network.ip_address, network.global_ipv6_address])
        .flatten()
        .filter_map(|address| address.parse().ok())
        .collect()
}

/// Ports that are published on one address. Traefik never uses a port that is published on every address for a server.
fn published(ports: PortMap) -> BTreeSet<SocketAddr> {
    let bindings = ports.into_values().flatten().flatten();
    let places = bindings.filter_map(|binding| {
        let address: IpAddr = binding.host_ip?.parse().ok()?;
        let port = binding.host_port?.parse().ok()?;
        (!address.is_unspecified()).then(|| SocketAddr::new(address, port))
    });
    places.collect()
}

/// The address on each network that Traefik uses (`pkg/provider/docker/shared.go`, `parseContainer`).
fn endpoints(networks: &HashMap<String, EndpointSettings>) -> BTreeMap<String, IpAddr> {
    let address = |network: &EndpointSettings| {
        let both = [&network.ip_address, &network.global_ipv6_address];
        both.into_iter()
            .flatten()
            .find_map(|address| address.parse().ok())
    };
    networks
        .iter()
        .filter_map(|(name, network)| Some((name.clone(), address(network)?)))
        .collect()
}

/// The names that the engine's DNS resolves on each network: its own name, its aliases and its hostname.
fn names(
    networks: &HashMap<String, EndpointSettings>,
    name: &str,
    hostname: Option<&str>,
) -> BTreeMap<String, BTreeSet<String>> {
    let everywhere: Vec<&str> = [name].into_iter().chain(hostname).collect();
    let of = |network: &EndpointSettings| {
        let given = [&network.aliases, &network.dns_names].into_iter().flatten();
        let given = given.flatten().map(String::as_str);
        let all = given.chain(everywhere.iter().copied());
        let all = all.filter(|name| !name.is_empty());
        all.map(str::to_owned).collect()
    };
    let all = networks.iter();
    all.map(|(key, network)| (key.clone(), of(network)))
        .collect()
}

fn run(state: &ContainerState) -> Run {
    match state.status {
        Some(Status::CREATED) => Run::Created,
        Some(Status::RUNNING) => Run::Running,
        Some(Status::PAUSED) => Run::Paused,
        Some(Status::RESTARTING) => Run::Restarting,
        Some(Status::STOPPING) => Run::Running,
        Some(Status::EXITED | Status::REMOVING | Status::DEAD | Status::EMPTY) | None => {
            Run::Exited
        }
    }
}

fn health(state: &ContainerState) -> Health {
    match state.health.as_ref().and_then(|health| health.status) {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
    }
}

/// Limits for the output of a health check in a message.
const MAX_CHECK_LINES: usize = 3;
const MAX_CHECK_CHARS: usize = 240;

/// The end of the last health check's output, where it failed.
fn check_output(state: &ContainerState) -> Option<String> {
    let last = state.health.as_ref()?.log.as_ref()?.last()?;
    let output = last
        .output
        .as_deref()
        .filter(|_| last.exit_code != Some(0))?;
    let lines = output.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let text = lines[lines.len().saturating_sub(MAX_CHECK_LINES)..].join("; ");
    let skip = text.chars().count().saturating_sub(MAX_CHECK_CHARS);
    let text: String = text
        .chars()
        .skip(skip)
        .filter(|own| !own.is_control())
        .collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use bollard::models::{Health as EngineHealth, HealthcheckResult};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        arbitrary::{mutated_text, replaced},
        fixtures::{ROLLOUT, of_0_1_0},
    };

    fn after(runs: &[(i64, &str)]) -> Option<String> {
        let results = runs.iter().map(|(code, output)| HealthcheckResult {
            exit_code: Some(*code),
            output: Some((*output).to_owned()),
            ..HealthcheckResult::default()
        });
        let health = EngineHealth {
            log: Some(results.collect()),
            ..EngineHealth::default()
        };
        check_output(&ContainerState {
            health: Some(health),
            ..ContainerState::default()
        })
    }

    #[test]
    fn only_the_end_of_a_failed_last_checks_output_is_shown() {
        let refused = "  % Total\n\ncurl: (7) connection refused\r\n";
        let shown = after(&[(1, "older"), (1, refused)]).unwrap();
        assert_eq!(shown, "% Total; curl: (7) connection refused");
        assert_eq!(after(&[(1, refused), (0, "ok")]), None);
        assert_eq!(after(&[(1, "\n")]), None);
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(1, "a\nb\nc\nd")]).unwrap(), "b; c; d");
        assert_eq!(
            after(&[(1, &"x".repeat(9999))]).unwrap().len(),
            MAX_CHECK_CHARS
        );
    }

    fn inspected() -> Value {
        json!({
            "Id": "1f", "Name": "/shop-web-1", "Image": "sha256:2e", "RestartCount": 1,
            "State": {"Status": "running", "StartedAt": "2026-11-25T08:26:11.5Z",
                "Health": {"Status": "starting", "Log": [{"ExitCode": 1, "Output": "no\n"}]}},
            "HostConfig": {"NetworkMode": "shop_front"},
            "Config": {"Image": "app:v1", "Hostname": "1f", "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Labels": {"io.rollout.revision": "7", "io.rollout.id": "r1"},
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64}},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
                "Networks": {"shop_front": {"IPAddress": "10.0.0.2", "GlobalIPv6Address": "", "Aliases": ["web"]}}},
        })
    }

    #[test]
    fn an_inspect_answer_is_read_as_a_replica() {
        let read = replica(serde_json::from_value(inspected()).unwrap()).unwrap();
        assert_eq!(
            (read.id.0.as_str(), read.name.as_str()),
            ("1f", "shop-web-1")
        );
        assert_eq!((read.revision, read.health), (Some(7), Health::Starting));
        assert_eq!((read.ports, read.lowest_port), (vec![80], Some(53)));
        assert_eq!(read.published, ["127.0.0.1:8080".parse().unwrap()].into());
        assert_eq!(read.names["shop_front"].len(), 3);
    }

    #[test]
    fn a_replica_that_version_0_1_0_created_keeps_its_rollout_and_final_name() {
        let mut inspected = inspected();
        let labels: Value = serde_json::from_str(&of_0_1_0("labels.json")).unwrap();
        inspected["Config"]["Labels"] = labels;
        inspected["Name"] = format!("/shop-web-2.{ROLLOUT}").into();
        let read = replica(serde_json::from_value(inspected).unwrap()).unwrap();
        assert_eq!(read.rollout, Some(RolloutId(ROLLOUT.to_owned())));
        assert_eq!((read.wanted, read.revision), (Some(2), Some(2)));
        assert_eq!(read.target_name(), "shop-web-2");
        assert_ne!(read.name, read.target_name());
        assert!(read.hash.starts_with("f9004c31"), "{}", read.hash);
        assert_eq!(read.digest.as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn an_inspect_answer_with_values_of_any_type_is_a_replica_or_none(value in replaced(inspected())) {
            let id = value["Id"].as_str().map(str::to_owned);
            let Ok(inspect) = serde_json::from_value::<ContainerInspectResponse>(value) else {
                return Ok(());
            };
            let read = replica(inspect);
            prop_assert_eq!(read.as_ref().map(|own| own.id.0.clone()), id);
            if let Some(read) = read {
                prop_assert!(!read.name.starts_with('/'));
                prop_assert!(read.endpoints.keys().all(|network| read.networks.contains(network)));
                prop_assert!(read.endpoints.values().all(|address| read.addresses.contains(address)));
                prop_assert!(read.ports.iter().all(|port| read.lowest_port <= Some(*port)));
            }
        }

        #[test]
        fn any_output_of_a_health_check_is_one_short_line(output in mutated_text("a\n b\r\nc\td\n\n")) {
            let shown = after(&[(1, &output)]).unwrap_or_default();
            prop_assert!(shown.chars().count() <= MAX_CHECK_CHARS && !shown.contains(char::is_control), "{:?}", shown);
        }
    }
}
