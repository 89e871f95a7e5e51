//! Points the services of a pin file at replicas: the address, port and scheme that Traefik's Docker provider would use. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde_json::Value;

use super::record::{Sections, entry};
use crate::{
    error::{Error, Result},
    model::{ContainerId, Health, Phase, Replica, Run},
    proxy::traefik::{
        api::Prefix,
        labels::{
            Protocol, is_label, names, router_label, server_port, service_label, service_labels,
        },
    },
};

type Labels = BTreeMap<String, String>;

/// What the file says, and which servers it lists for which replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub sections: Sections,
    /// Replica → its servers, as the file has them.
    pub shows: BTreeMap<ContainerId, BTreeSet<String>>,
}

/// The same definitions with these replicas for servers.
pub fn pointed(
    mut sections: Sections,
    prefix: &Prefix,
    live: &[&Replica],
    reach: &Reach,
) -> Result<Content> {
    let mut shows: BTreeMap<ContainerId, BTreeSet<String>> = BTreeMap::new();
    for service in Service::all(&sections, prefix) {
        let mut servers = Vec::new();
        for replica in live {
            let Some(own) = service.counterpart(&replica.labels) else {
                continue;
            };
            let (address, server) = server(replica, service.protocol, &own, reach)?;
            shows.entry(replica.id.clone()).or_default().insert(address);
            servers.push(server);
        }
        let all = entry(&mut sections, service.protocol, "services");
        all[&service.full]["loadBalancer"]["servers"] = servers.into();
    }
    Ok(Content { sections, shows })
}

/// A router that a version with these labels has too, but not with a service of its own.
pub fn without_service(sections: &Sections, prefix: &Prefix, labels: &Labels) -> Option<String> {
    let known = names(labels).routers;
    let all = Service::all(sections, prefix).into_iter();
    let mut lost = all.filter(|own| own.counterpart(labels).is_none());
    lost.find_map(|own| {
        let mut routers = own.routers.into_iter();
        routers.find(|router| known.contains(&(own.protocol, router.clone())))
    })
}

/// A service of the file.
struct Service {
    protocol: Protocol,
    full: String,
    /// What the labels of the copied version call it.
    label: String,
    /// Its routers, as the labels call them.
    routers: Vec<String>,
}

impl Service {
    fn all(sections: &Sections, prefix: &Prefix) -> Vec<Self> {
        let of = |protocol: Protocol| {
            let section = &sections.get(protocol.word()).unwrap_or(&Value::Null);
            let objects = |kind| section[kind].as_object().into_iter().flatten();
            let services = objects("services").filter(|(_, own)| own["loadBalancer"].is_object());
            let made = services.map(|(full, _)| {
                let leads_there = |router: &Value| {
                    let service = router["service"].as_str().unwrap_or_default();
                    service.strip_suffix("@file").unwrap_or(service) == full
                };
                let routers = objects("routers").filter(|(_, own)| leads_there(own));
                let labels = routers.map(|(name, _)| prefix.label(protocol, name).to_owned());
                Self {
                    protocol,
                    full: full.clone(),
                    label: prefix.label(protocol, full).to_owned(),
                    routers: labels.collect(),
                }
            });
            made.collect::<Vec<Self>>()
        };
        Protocol::ALL.into_iter().flat_map(of).collect()
    }

    /// What a version with these labels has in its place: the service of the same name, unless none of its routers uses
    /// that any more; else the one that they use, else its only one.
    fn counterpart(&self, labels: &Labels) -> Option<String> {
        let services = names(labels).services.into_iter();
        let services = services.filter(|(protocol, _)| *protocol == self.protocol);
        let services: Vec<String> = services.map(|(_, name)| name).collect();
        let named = |router: &String| {
            let name = router_label(labels, self.protocol, router, "service")?;
            let name = name.strip_suffix("@docker").unwrap_or(name).to_owned();
            services.contains(&name).then_some(name)
        };
        let used: Vec<String> = self.routers.iter().filter_map(named).collect();
        let kept = used.is_empty() || used.contains(&self.label);
        match (kept && services.contains(&self.label), &services[..]) {
            (true, _) => Some(self.label.clone()),
            (false, [only]) => Some(only.clone()),
            (false, _) => used.into_iter().next(),
        }
    }
}

/// The replicas that get the traffic in a phase: of the new ones those that serve, of the old ones those that Traefik
/// routes to.
pub fn live<'a>(phase: Phase, new: &[&'a Replica], old: &[&'a Replica]) -> Vec<&'a Replica> {
    match phase.keeps_old() {
        true => first_of(old, &[is_routed, Replica::serves]),
        false => first_of(new, &[Replica::serves, runs]),
    }
}

/// Those that meet the first condition that any meets.
fn first_of<'a>(set: &[&'a Replica], conditions: &[fn(&Replica) -> bool]) -> Vec<&'a Replica> {
    for condition in conditions {
        let found: Vec<&Replica> = set.iter().copied().filter(|own| condition(own)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn runs(replica: &Replica) -> bool {
    replica.run == Run::Running
}

/// Whether Traefik's Docker provider routes to it (`keepContainer`, `pkg/provider/docker/config.go`).
fn is_routed(replica: &Replica) -> bool {
    runs(replica) && matches!(replica.health, Health::None | Health::Healthy)
}

/// What decides which of a replica's networks is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The Docker provider's option `network`.
    pub network: Option<String>,
    /// The networks that the Traefiks in question are all in; `None` for the host's network, which reaches any.
    pub shared: Option<BTreeSet<String>>,
}

impl Reach {
    /// Another Traefik reads the same file: what both reach.
    pub fn meet(&mut self, other: &Self) {
        self.shared = match (self.shared.take(), &other.shared) {
            (Some(own), Some(other)) => Some(own.intersection(other).cloned().collect()),
            (own, other) => own.or(other.clone()),
        };
        self.network = self.network.take().or(other.network.clone());
    }

    /// By the label, else by the provider's option (Traefik's `pkg/provider/docker/config.go`, `getIPAddress`). Where
    /// Traefik would take any network, one that it shares.
    fn address(&self, replica: &Replica) -> Option<IpAddr> {
        let label = replica
            .labels
            .iter()
            .find(|(key, _)| is_label(key, "traefik.docker.network"))
            .map(|(_, network)| network);
        let named = label
            .filter(|network| !network.is_empty())
            .or(self.network.as_ref());
        if let Some(address) = named.and_then(|network| replica.endpoints.get(network)) {
            return Some(*address);
        }
        let reachable = |network: &&String| {
            let shared = self.shared.as_ref();
            shared.is_none_or(|shared| shared.contains(*network))
        };
        let mut networks = replica.endpoints.keys();
        let network = networks.find(reachable)?;
        replica.endpoints.get(network).copied()
    }
}

/// The address of a replica as a server of one of its services, and the server as the file has it, with options such as
/// the weight.
fn server(
    replica: &Replica,
    protocol: Protocol,
    service: &str,
    reach: &Reach,
) -> Result<(String, Value)> {
    let (labels, name) = (&replica.labels, &replica.name);
    let label = |option: &str| {
        let option = format!("loadbalancer.server.{option}");
        service_label(labels, protocol, service, &option).filter(|own| !own.is_empty())
    };
    if label("url").is_some() {
        return Err(Error::refused(format!(
            "{name} names its server by a URL: all replicas would share it"
        ))
        .hint("use the labels loadbalancer.server.port and .scheme instead of .url"));
    }
    let port = server_port(labels, protocol, service, replica.lowest_port.as_slice());
    let port = port.ok_or_else(|| {
        Error::refused(format!("{name} has no port that Traefik could use"))
            .hint("add the label traefik.http.services.NAME.loadbalancer.server.port")
    })?;
    let address = reach
        .address(replica)
        .ok_or_else(|| Error::failed(format!("{name} has no address in a network of Traefik's")))?;
    let authority = SocketAddr::new(address, port);
    let (field, address) = match protocol {
        Protocol::Http => (
            "url",
            format!("{}://{authority}", label("scheme").unwrap_or("http")),
        ),
        Protocol::Tcp | Protocol::Udp => ("address", authority.to_string()),
    };
    let options = service_labels(labels, protocol, service, "loadbalancer.server.");
    let is_address =
        |option: &str| ["port", "scheme", "url"].contains(&&*option.to_ascii_lowercase());
    let options = options.filter(|(option, _)| !is_address(option));
    // Traefik reads a number or a switch from a text as well.
    let mut server: Sections = options
        .map(|(option, value)| (option.to_owned(), value.into()))
        .collect();
    server.insert(field.to_owned(), address.clone().into());
    Ok((address, server.into()))
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
