//! Parses the output of `docker compose config` into a [`Project`].

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    Condition, Dependency, Healthcheck, HostPorts, Project, PublishedPort, Service, duration,
};
use crate::{docker::engine::ExecCommand, yaml};

/// `separator` joins project and service in the default image name of a service with `build` alone (Compose's
/// `GetImageNameOrDefault`). The error is one line.
pub fn project(text: &str, separator: &str) -> Result<Project, String> {
    // `config` doubles every `$`, so that its output is a valid Compose file.
    let raw = yaml::parse(&text.replace("$$", "$"))?;
    let name = raw["name"]
        .as_str()
        .ok_or("the project has no name")?
        .to_owned();
    let default_image = |service: &str| format!("{name}{separator}{service}");
    let services = entries(&raw["services"])
        .map(|(key, value)| (key.clone(), service(key, value, default_image(key))))
        .collect();
    Ok(Project {
        name,
        services,
        disabled: Default::default(),
        raw,
        directory: Default::default(),
    })
}

fn service(name: &str, value: &Value, default_image: String) -> Service {
    let has_build = value.get("build").is_some();
    Service {
        name: name.to_owned(),
        image: string(&value["image"]).or(has_build.then_some(default_image)),
        has_build,
        pull_policy: string(&value["pull_policy"]),
        restart: restart(value),
        scale: number(&value["scale"])
            .or(number(&value["deploy"]["replicas"]))
            .unwrap_or(1),
        container_name: string(&value["container_name"]),
        network_mode: string(&value["network_mode"]),
        pid: string(&value["pid"]),
        ipc: string(&value["ipc"]),
        volumes_from: strings(&value["volumes_from"]),
        published_ports: items(&value["ports"]).filter_map(port).collect(),
        static_addresses: static_addresses(&value["networks"]),
        networks: entries(&value["networks"])
            .map(|(key, _)| key.clone())
            .collect(),
        anonymous_volumes: anonymous_volumes(&value["volumes"]),
        mount_targets: mount_targets(value),
        mac_address: mac_address(value),
        depends_on: entries(&value["depends_on"]).map(dependency).collect(),
        labels: string_map(&value["labels"]),
        healthcheck: value.get("healthcheck").map(healthcheck),
        pre_stop: items(&value["pre_stop"]).map(hook).collect(),
        expose: strings(&value["expose"]),
        inline_digest: String::new(),
        contents: Vec::new(),
        x_rollout: value.get("x-rollout").cloned(),
    }
}

/// As Compose chooses: `deploy.restart_policy` counts where `restart` is absent.
fn restart(value: &Value) -> Option<String> {
    let policy = || match string(&value["deploy"]["restart_policy"]["condition"])?.as_str() {
        "none" => Some("no".to_owned()),
        other => Some(other.to_owned()),
    };
    string(&value["restart"]).or_else(policy)
}

fn port(value: &Value) -> Option<PublishedPort> {
    let host = match string(&value["published"]).filter(|text| !text.is_empty()) {
        None => HostPorts::Ephemeral,
        Some(text) => match text.split_once('-') {
            Some((first, last)) => HostPorts::Range(first.parse().ok()?, last.parse().ok()?),
            None => match text.parse().ok()? {
                0 => HostPorts::Ephemeral,
                port => HostPorts::Fixed(port),
            },
        },
    };
    Some(PublishedPort {
        host_ip: string(&value["host_ip"]),
        host,
        target: u16::try_from(number(&value["target"])?).ok()?,
        protocol: string(&value["protocol"]).unwrap_or_else(|| "tcp".to_owned()),
    })
}

fn static_addresses(networks: &Value) -> Vec<(String, String)> {
    entries(networks)
        .flat_map(|(network, settings)| {
            ["ipv4_address", "ipv6_address"]
                .into_iter()
                .filter_map(|key| string(&settings[key]))
                .map(|address| (network.clone(), address))
        })
        .collect()
}

fn mac_address(service: &Value) -> Option<String> {
    string(&service["mac_address"]).or_else(|| {
        entries(&service["networks"]).find_map(|(_, settings)| string(&settings["mac_address"]))
    })
}

fn anonymous_volumes(volumes: &Value) -> Vec<String> {
    items(volumes)
        .filter(|volume| volume["type"] == "volume" && string(&volume["source"]).is_none())
        .filter_map(|volume| string(&volume["target"]))
        .collect()
}

fn mount_targets(service: &Value) -> Vec<String> {
    let mounts = items(&service["volumes"]).filter_map(|volume| string(&volume["target"]));
    let tmpfs = strings(&service["tmpfs"])
        .into_iter()
        .map(|entry| entry.split(':').next().unwrap_or_default().to_owned());
    mounts.chain(tmpfs).collect()
}

fn dependency((service, value): (&String, &Value)) -> Dependency {
    Dependency {
        service: service.clone(),
        condition: match value["condition"].as_str() {
            None | Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::CompletedSuccessfully,
            Some(other) => Condition::Other(other.to_owned()),
        },
        required: value["required"].as_bool().unwrap_or(true),
        restart: value["restart"].as_bool().unwrap_or(false),
    }
}

fn healthcheck(value: &Value) -> Healthcheck {
    let test = strings(&value["test"]);
    Healthcheck {
        disabled: value["disable"].as_bool().unwrap_or(false)
            || test.first().is_some_and(|first| first == "NONE"),
        test,
        interval: time(&value["interval"]),
        timeout: time(&value["timeout"]),
        start_period: time(&value["start_period"]),
        retries: number(&value["retries"]),
    }
}

fn hook(value: &Value) -> ExecCommand {
    let environment = match &value["environment"] {
        Value::Object(_) => string_map(&value["environment"])
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        list => strings(list),
    };
    ExecCommand {
        command: strings(&value["command"]),
        user: string(&value["user"]),
        privileged: value["privileged"].as_bool().unwrap_or(false),
        working_dir: string(&value["working_dir"]),
        environment,
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text, or a number or boolean as text, because authors of YAML omit quotes.
fn string(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A list of texts, or a single text as a list.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(string).collect(),
        single => string(single).into_iter().collect(),
    }
}

fn string_map(value: &Value) -> BTreeMap<String, String> {
    entries(value)
        .map(|(key, value)| (key.clone(), string(value).unwrap_or_default()))
        .collect()
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn time(value: &Value) -> Option<Duration> {
    duration::parse(value.as_str()?)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
