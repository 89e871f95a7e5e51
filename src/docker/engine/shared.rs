//! Finds a service's containers in a list, and containers that share a namespace with others. Pure.

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::summary::{self, network_mode};
use crate::model::{Replica, ServiceKey, label};

/// Containers in a chain, each in the network namespace of the next.
pub const MAX_STEPS: usize = 8;

/// A container or service that shares a namespace or volumes with a service's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub name: String,
    /// Its Compose project and service, where it has both.
    pub of: Option<(String, String)>,
    /// That project's directory.
    pub folder: Option<String>,
    /// The Compose key: `network_mode`, `pid`, `ipc` or `volumes_from`.
    pub way: &'static str,
}

/// The containers of a service in a list, without one-offs and hooks.
pub fn of_service<'a>(
    list: &'a [ContainerSummary],
    key: &ServiceKey,
) -> impl Iterator<Item = &'a ContainerSummary> {
    let wanted = [
        (label::COMPOSE_PROJECT, key.project.clone()),
        (label::COMPOSE_SERVICE, key.service.clone()),
        (label::COMPOSE_ONEOFF, "False".to_owned()),
    ];
    let is_of_it = move |own: &&ContainerSummary| {
        let labels = own.labels.as_ref();
        labels.is_some_and(|all| {
            wanted
                .iter()
                .all(|(key, value)| all.get(*key) == Some(value))
        })
    };
    list.iter().filter(is_of_it).filter(|own| !is_one_off(own))
}

/// True if the container runs a hook or another command, and is no replica.
pub fn is_one_off(listed: &ContainerSummary) -> bool {
    label::is_one_off(|key| summary::label(listed, key))
}

/// The id or name of the container in a value of `network_mode`, `pid` or `ipc`.
pub fn target(mode: Option<&str>) -> Option<&str> {
    mode?.strip_prefix("container:")
}

/// Gives each container in another's network namespace the networks and ports of that one.
pub fn with_networks(list: Vec<ContainerSummary>) -> Vec<ContainerSummary> {
    let holders: Vec<Option<ContainerSummary>> =
        list.iter().map(|own| holder(own, &list).cloned()).collect();
    let lend = |(mut own, holder): (ContainerSummary, Option<ContainerSummary>)| {
        if let Some(holder) = holder {
            own.network_settings = holder.network_settings;
            own.ports = holder.ports;
            let config = holder.host_config.as_ref();
            if config.and_then(|config| config.network_mode.as_deref()) == Some("host") {
                own.host_config = holder.host_config;
            }
        }
        own
    };
    list.into_iter().zip(holders).map(lend).collect()
}

/// The container that owns the network namespace of this one; `None` where this one owns it.
pub fn holder<'a>(
    own: &ContainerSummary,
    list: &'a [ContainerSummary],
) -> Option<&'a ContainerSummary> {
    let mut found = next(own, list)?;
    for _ in 0..MAX_STEPS {
        match next(found, list) {
            Some(further) => found = further,
            None => break,
        }
    }
    Some(found)
}

fn next<'a>(own: &ContainerSummary, list: &'a [ContainerSummary]) -> Option<&'a ContainerSummary> {
    let target = target(network_mode(own))?;
    list.iter().find(|other| is(target, other))
}

fn is(target: &str, summary: &ContainerSummary) -> bool {
    let mut names = summary.names.iter().flatten();
    summary.id.as_deref() == Some(target)
        || names.any(|name| name.trim_start_matches('/') == target)
}

/// The containers in the network namespace of one of these replicas, without our own helpers.
pub fn by_network(list: &[ContainerSummary], replicas: &[Replica]) -> Vec<Joined> {
    let joined = list.iter().filter_map(|own| {
        let labels = own.labels.clone().unwrap_or_default();
        let name = own.names.iter().flatten().next()?;
        joined("network_mode", network_mode(own), name, &labels, replicas)
    });
    joined.collect()
}

/// The containers in the process or IPC namespace of one of these replicas, which only an inspect shows.
pub fn by_processes(all: &[ContainerInspectResponse], replicas: &[Replica]) -> Vec<Joined> {
    let joined = all.iter().flat_map(|own| {
        let config = own.config.as_ref();
        let labels = config.and_then(|config| config.labels.clone());
        let (labels, host) = (labels.unwrap_or_default(), own.host_config.as_ref());
        let name = own.name.as_deref().unwrap_or_default();
        let pid = host.and_then(|host| host.pid_mode.as_deref());
        let ipc = host.and_then(|host| host.ipc_mode.as_deref());
        let ways = [("pid", pid), ("ipc", ipc)];
        ways.map(|(way, mode)| joined(way, mode, name, &labels, replicas))
    });
    joined.flatten().collect()
}

fn joined(
    way: &'static str,
    mode: Option<&str>,
    name: &str,
    labels: &std::collections::HashMap<String, String>,
    replicas: &[Replica],
) -> Option<Joined> {
    let target = target(mode)?;
    let is = |own: &&Replica| own.id.0 == target || own.name == target;
    if labels.contains_key(label::ROLE) || !replicas.iter().any(|own| is(&own)) {
        return None;
    }
    let label = |key: &str| labels.get(key).cloned();
    Some(Joined {
        name: name.trim_start_matches('/').to_owned(),
        of: label(label::COMPOSE_PROJECT).zip(label(label::COMPOSE_SERVICE)),
        folder: label(label::COMPOSE_DIRECTORY),
        way,
    })
}

impl Joined {
    /// The name for a message about a service of `project`.
    pub fn called(&self, project: &str) -> String {
        match &self.of {
            Some((own, service)) if own == project => service.clone(),
            Some((own, _)) => format!("{} (project {own})", self.name),
            None => self.name.clone(),
        }
    }

    /// True if both are the same service, joined by the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.way == other.way
            && (self.of.is_some() && self.of == other.of || self.name == other.name)
    }

    /// The command that recreates it in the new replica's namespace, for a message about a service of `project`.
    pub fn recreate(&self, project: &str) -> String {
        match (&self.of, &self.folder) {
            (Some((own, service)), _) if own == project => {
                format!("docker compose up -d --no-deps --force-recreate {service}")
            }
            (Some((own, service)), Some(folder)) => {
                format!(
                    "(cd {folder} && docker compose -p {own} up -d --no-deps --force-recreate {service})"
                )
            }
            _ => format!("docker rm -f {}, then run it again as it was", self.name),
        }
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
