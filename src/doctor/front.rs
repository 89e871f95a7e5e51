//! Traefik: whether it runs, what its version lacks, whether its API answers, and how it reads Docker.

use super::{
    Check, Facts, Finding, Fix, Part, Reads, ServiceFacts, TraefikFacts,
    reading::{self, option, own},
};
use crate::{
    compose::Service,
    error::Error,
    proxy::traefik::{
        api::is_guarded,
        config::{
            Version,
            advice::{ONLY_ENABLED, SWARM},
        },
    },
    settings::ProxyKind,
};

/// The subject of a finding if there is no Traefik.
pub const NO_TRAEFIK: &str = "traefik";

/// The version of the engine's API that a Traefik without version negotiation requests.
const PINNED_API: Version = Version {
    major: 1,
    minor: 24,
    patch: Version::LAST,
};

/// The findings of every Traefik that is in front of a service; one finding if a Traefik is missing.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let in_front = |traefik: &&TraefikFacts| {
        let mut services = facts.services.iter();
        services.any(|service| match service.part {
            None => service.fronts.contains(&traefik.name),
            Some(_) => traefik.service.as_deref() == Some(service.name()),
        })
    };
    let mut findings: Vec<Finding> = Vec::new();
    for traefik in facts.traefiks.iter().filter(in_front) {
        findings.push(version(facts, traefik));
        findings.push(api(facts, traefik));
        findings.extend(reads(facts, traefik));
        findings.extend(swarm(facts, traefik));
    }
    let wants = |service: &&ServiceFacts| {
        service.part.is_none()
            && service.is_labelled
            && service.runs_twice()
            && service.settings.proxy != ProxyKind::None
            && service.settings.traefik_url.is_empty()
            && service.is_alone
    };
    let without: Vec<&str> = facts
        .services
        .iter()
        .filter(wants)
        .map(ServiceFacts::name)
        .collect();
    if !without.is_empty() {
        findings.push(missing(facts, &without));
    }
    findings
}

/// The part of a service in rollouts, by its image.
pub fn part_as_written(service: &Service) -> Option<Part> {
    part_of_image(service.bare_image())
}

/// The same, by the last word of an image's name.
pub fn part_of_image(bare: &str) -> Option<Part> {
    match bare {
        "traefik" => Some(Part::Traefik),
        "rollout" => Some(Part::SocketProxy),
        _ => None,
    }
}

fn written(facts: &Facts) -> Option<&str> {
    let mut services = facts.project.services.values();
    let found = services.find(|own| part_as_written(own) == Some(Part::Traefik));
    found.map(|own| own.name.as_str())
}

fn missing(facts: &Facts, services: &[&str]) -> Finding {
    let names = services.join(", ");
    let runs = |name: &str| {
        let mut all = facts.traefiks.iter();
        all.any(|own| own.service.as_deref() == Some(name))
    };
    match written(facts) {
        Some(service) if !runs(service) => Finding::fail(
            Check::Traefik,
            NO_TRAEFIK,
            format!("the service {service} does not run, so nothing routes to {names}"),
        )
        .fix(Fix::run(format!("start {service}"), format!("docker compose up -d {service}"))),
        _ => Finding::fail(
            Check::Traefik,
            NO_TRAEFIK,
            format!("no Traefik shares a network with {names}"),
        )
        .fix(Fix::text(format!(
            "start Traefik, and put it and {names} into one network; rollout init shows a Traefik to copy. Where a Traefik \
             elsewhere reads the labels, x-rollout: {{ proxy: none }} rolls on health alone"
        ))),
    }
}

fn version(facts: &Facts, traefik: &TraefikFacts) -> Finding {
    let name = &traefik.name;
    let version = traefik
        .version
        .map_or("of an unknown version".to_owned(), |own| own.to_string());
    if traefik.version.is_some_and(|own| own.major < 2) {
        let text =
            format!("Traefik {version} has other labels and another API: no rollout is possible");
        return Finding::fail(Check::Traefik, name, text)
            .fix(Fix::text("update it to traefik:v3.7"));
    }
    if traefik.is_deaf {
        let text = format!("Traefik {version} ignores DOCKER_HOST; 3.6.1 and 2.11.31 read it");
        return Finding::fail(Check::Traefik, name, text).fix(reading::fix(facts, traefik));
    }
    if let Some(why) = &traefik.unread {
        let text = format!("Traefik {version}: its configuration cannot be read: {why}");
        return Finding::warn(Check::Traefik, name, text);
    }
    let least = facts.engine.least_api.parse::<Version>();
    let old = traefik.version.is_some_and(|own| !own.reads_docker_host());
    let refused = least.is_ok_and(|least| least > PINNED_API);
    if old && refused && matches!(traefik.reads, Reads::Socket(_)) {
        let text = format!(
            "Traefik {version} asks for API {PINNED_API} of the engine, which refuses all before {}",
            facts.engine.least_api
        );
        return Finding::fail(Check::Traefik, name, text).fix(reading::fix(facts, traefik));
    }
    if traefik
        .version
        .is_some_and(|own| !own.takes_pins_and_weights())
    {
        let text = format!(
            "Traefik {version} runs: rollouts go through the socket proxy alone, since pin files and server weights need 3.0"
        );
        return Finding::warn(Check::Traefik, name, text)
            .fix(Fix::text("update it to traefik:v3.7"));
    }
    Finding::ok(Check::Traefik, name, format!("Traefik {version} runs"))
}

fn api(facts: &Facts, traefik: &TraefikFacts) -> Finding {
    let name = &traefik.name;
    match &traefik.api {
        Ok(base) => Finding::ok(Check::Api, name, format!("its API answers at {base}")),
        Err(error) => {
            Finding::fail(Check::Api, name, &error.message).fix(open_api(facts, traefik, error))
        }
    }
}

/// Both of its providers read at `DOCKER_HOST`, and a socket proxy without the flag refuses the reads of one.
fn swarm(facts: &Facts, traefik: &TraefikFacts) -> Option<Finding> {
    let name = traefik.swarm_through.as_ref()?;
    let mut all = facts.socket_proxies.iter();
    let proxy = all.find(|own| own.name == *name && own.rejects_swarm)?;
    let text = format!(
        "its Swarm provider reads through {name}, which refuses that without {SWARM}: it has no @swarm router"
    );
    let finding = Finding::fail(Check::Traefik, &traefik.name, text);
    Some(finding.fix(reading::fix_of_swarm(facts, proxy)))
}

fn open_api(facts: &Facts, traefik: &TraefikFacts, error: &Error) -> Option<Fix> {
    // If it is on, the cause is elsewhere.
    let is_off = traefik.config.api.is_none() && !is_guarded(error);
    let service = own(facts, traefik).filter(|_| is_off);
    let edit = service.and_then(|service| option(traefik, service, "api.insecure=true"));
    match edit {
        Some(edit) => Some(Fix::edit(
            "switch the API on; it need not be published, so only Traefik's own networks see it",
            vec![edit],
        )),
        None => Fix::of_hint(error),
    }
}

fn reads(facts: &Facts, traefik: &TraefikFacts) -> Option<Finding> {
    // The finding of its version covers this.
    if traefik.is_deaf {
        return None;
    }
    let name = &traefik.name;
    let by_pin = |from: &str, directory: &str| {
        Finding::ok(
            Check::Switch,
            name,
            format!("reads {from}, and is switched by a pin file in {directory}"),
        )
    };
    Some(match (&traefik.reads, &traefik.pin) {
        (Reads::SocketProxy(proxy), _) => Finding::ok(
            Check::Switch,
            name,
            format!(
                "reads through {proxy}, with an open event stream{}",
                advice_to_limit(traefik, proxy)
            ),
        ),
        (Reads::Socket(_), Ok(directory)) => by_pin("the engine's socket", directory),
        (Reads::Other(endpoint), Ok(directory)) => by_pin(endpoint, directory),
        (Reads::Socket(_), Err(why)) => Finding::fail(
            Check::Switch,
            name,
            format!(
                "reads the engine's socket itself, and no pin file is possible: {}",
                why.message
            ),
        )
        .fix(reading::fix(facts, traefik)),
        (Reads::Other(endpoint), Err(_)) => elsewhere(facts, traefik, endpoint),
        (Reads::Nothing, _) => Finding::fail(
            Check::Switch,
            name,
            "its Docker provider is off, so it ignores all labels",
        )
        .fix(provider(facts, traefik)),
    })
}

/// A Traefik that takes only containers with `traefik.enable=true` does not need the others.
fn advice_to_limit(traefik: &TraefikFacts, proxy: &str) -> String {
    match traefik.config.takes_only_enabled() && traefik.sees_all {
        true => format!(
            "; with {ONLY_ENABLED} in its command, {proxy} would show Traefik no other containers, and a cutover takes less \
             time"
        ),
        false => String::new(),
    }
}

fn provider(facts: &Facts, traefik: &TraefikFacts) -> Fix {
    let name = "providers.docker";
    let edit =
        own(facts, traefik).and_then(|service| option(traefik, service, &format!("{name}=true")));
    match edit {
        Some(edit) => Fix::edit("switch it on", vec![edit]),
        None => Fix::text(traefik.config.how_to_add(&format!("{name}=true"))),
    }
}

/// A third-party socket proxy, or one of rollout that Traefik cannot reach.
fn elsewhere(facts: &Facts, traefik: &TraefikFacts, endpoint: &str) -> Finding {
    let host = endpoint.rsplit("//").next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    let written = facts.project.services.get(host);
    let ours = facts
        .socket_proxies
        .iter()
        .any(|own| own.service.as_deref() == Some(host));
    let name = &traefik.name;
    if let (true, Some(_)) = (ours, written) {
        let text = format!("is configured to read {endpoint}, but has no open event stream to it");
        let service = traefik.service.as_deref().unwrap_or("traefik");
        return Finding::fail(Check::Switch, name, text).fix(Fix::run(
            format!("check that {service} and {host} share a network, and what its log says"),
            format!("docker compose logs {service}"),
        ));
    }
    let text =
        format!("reads {endpoint}, which no rollout can speak to, and no pin file is possible");
    Finding::fail(Check::Switch, name, text).fix(reading::fix(facts, traefik))
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
