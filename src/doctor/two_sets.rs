//! What prevents two sets of a service from running side by side, with the edits that allow it.

use serde_json::{Value, json};

use super::{Check, Facts, Finding, Fix, ServiceFacts};
use crate::{
    compose::{
        HostPorts, PublishedPort,
        check::{Kind, Problem, UP, check as problems},
        edits::{Edit, add, remove, remove_mount, set},
    },
    docker::engine::shared::Joined,
};

/// Every reason against a second set, except what the settings allow.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.runs_twice() {
        return recreated(facts, service);
    }
    let own = &service.service;
    let all = problems(
        &facts.project,
        own,
        service.replicas,
        &service.image.volumes,
        &service.joined,
    );
    let allowed = |problem: &Problem| {
        problem.kind == Kind::AnonymousVolumes && service.settings.renew_anon_volumes
    };
    let mut findings: Vec<Finding> = Vec::new();
    for problem in all.into_iter().filter(|problem| !allowed(problem)) {
        let check = problem.kind.check();
        let fix = fix(facts, service, &problem);
        // One edit fixes all problems of one kind.
        match findings
            .iter_mut()
            .find(|known| known.check == check && known.fix == Some(fix.clone()))
        {
            Some(known) => known.text = format!("{}; {}", known.text, problem.message),
            None => findings.push(Finding::fail(check, service.name(), problem.message).fix(fix)),
        }
    }
    findings
}

/// Containers in a namespace of containers that each rollout replaces.
fn recreated(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let project = &facts.project.name;
    let finding = |joined: &Joined| {
        let (name, called) = (service.name(), joined.called(project));
        let text = format!(
            "{called} uses the containers of {name} by {}: after each rollout it still uses the old ones",
            joined.way
        );
        let fix = Fix::run("recreate it after each rollout", joined.recreate(project));
        Finding::warn(Check::Joined, name, text).fix(fix)
    };
    service.joined.iter().map(finding).collect()
}

fn fix(facts: &Facts, service: &ServiceFacts, problem: &Problem) -> Fix {
    let name = service.name();
    match problem.kind {
        Kind::HostPort if service.is_routed() => Fix::edit_of(
            name,
            format!("let Traefik alone publish a port, and send to {name} by its router"),
            ports(service),
        ),
        Kind::StaticAddress => Fix::edit_of(
            name,
            format!("let Traefik find {name} by its labels, and remove its fixed addresses"),
            of_networks(facts, service, &["ipv4_address", "ipv6_address"]),
        ),
        Kind::MacAddress => Fix::edit_of(name, "remove it", mac(facts, service)),
        Kind::ContainerName => Fix::edit_of(
            name,
            "let Compose name the replicas",
            vec![remove(&["services", name, "container_name"])],
        ),
        Kind::AnonymousVolumes => Fix::edit_of(
            name,
            format!(
                "give them names; copy what is in them first (docker compose cp {name}:PATH .), since the named ones \
                 begin with what the image has there"
            ),
            volumes(service),
        ),
        Kind::HostPort | Kind::NetworkMode => Fix::recreate(name, ""),
        Kind::Joined if problem.hint == UP => Fix::run(
            format!("replace {name} together with what uses its containers, with a gap"),
            super::fix::UP,
        ),
        Kind::Joined | Kind::UnknownDependency => Fix::text(problem.hint.clone()),
    }
}

/// Traefik also reads the published port as the one to send to, so the service still exposes it.
fn ports(service: &ServiceFacts) -> Vec<Edit> {
    let name = service.name();
    let stays = |port: &&PublishedPort| port.host == HostPorts::Ephemeral;
    let all = &service.service.published_ports;
    let kept: Vec<Value> = all.iter().filter(stays).map(entry).collect();
    let first = match kept.is_empty() {
        true => remove(&["services", name, "ports"]),
        false => set(&["services", name], json!({"ports": kept})),
    };
    let exposed: Vec<String> = all
        .iter()
        .filter(|port| !stays(port))
        .map(|port| match port.protocol.as_str() {
            "udp" => format!("{}/udp", port.target),
            _ => port.target.to_string(),
        })
        .filter(|port| !service.service.expose.contains(port))
        .collect();
    let exposed: Vec<&str> = exposed.iter().map(String::as_str).collect();
    let second = match (exposed.is_empty(), service.service.expose.is_empty()) {
        (true, _) => None,
        (false, true) => Some(set(&["services", name], json!({"expose": exposed}))),
        (false, false) => Some(add(&["services", name, "expose"], &exposed)),
    };
    std::iter::once(first).chain(second).collect()
}

fn entry(port: &PublishedPort) -> Value {
    let address = port
        .host_ip
        .as_ref()
        .map(|ip| format!("{ip}::"))
        .unwrap_or_default();
    json!(format!("{address}{}/{}", port.target, port.protocol))
}

/// Removes these keys wherever the networks of a service have them.
fn of_networks(facts: &Facts, service: &ServiceFacts, keys: &[&str]) -> Vec<Edit> {
    let networks = service.service.raw(&facts.project)["networks"].as_object();
    let mut edits = Vec::new();
    for (network, settings) in networks.into_iter().flatten() {
        let given = keys.iter().filter(|key| !settings[**key].is_null());
        let at = |key: &&str| remove(&["services", service.name(), "networks", network, key]);
        edits.extend(given.map(at));
    }
    edits
}

fn mac(facts: &Facts, service: &ServiceFacts) -> Vec<Edit> {
    let key = "mac_address";
    let is_given = !service.service.raw(&facts.project)[key].is_null();
    let own = is_given.then(|| remove(&["services", service.name(), key]));
    let of_networks = of_networks(facts, service, &[key]);
    own.into_iter().chain(of_networks).collect()
}

/// A named volume at the same place, named after its purpose.
fn volumes(service: &ServiceFacts) -> Vec<Edit> {
    let name = service.name();
    let own = &service.service;
    let mut edits: Vec<Edit> = own
        .anonymous_volumes
        .iter()
        .map(|target| remove_mount(name, target))
        .collect();
    let of_image = own.volumes_of_image(&service.image.volumes);
    let targets = own.anonymous_volumes.iter().chain(of_image);
    let mut mounts = Vec::new();
    let mut names = serde_json::Map::new();
    for target in targets {
        let volume = volume_name(name, target);
        mounts.push(format!("{volume}:{target}"));
        names.insert(volume, json!({}));
    }
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    edits.push(add(&["services", name, "volumes"], &mounts));
    edits.push(set(&["volumes"], Value::Object(names)));
    edits
}

fn volume_name(service: &str, target: &str) -> String {
    let words = target.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{service}-{}", words.join("-"))
}

#[cfg(test)]
#[path = "two_sets_tests.rs"]
mod tests;
