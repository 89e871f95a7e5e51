//! Services that mount the engine's socket and do not need it.

use super::{Check, Facts, Finding, Part, Reads, reading};
use crate::compose::Service;

/// Images whose programs need only what the socket proxy answers.
const READERS: [&str; 2] = ["traefik", "docker-gen"];

/// One finding for each service that mounts the socket, except the socket proxy itself.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let services = facts.project.services.values();
    let holders = services.filter(|own| reading::mounts(&facts.project, own).next().is_some());
    holders
        .filter(|own| !is_socket_proxy(facts, own))
        .map(|own| finding(facts, own))
        .collect()
}

fn is_socket_proxy(facts: &Facts, service: &Service) -> bool {
    let runs = facts
        .socket_proxies
        .iter()
        .any(|own| own.service.as_ref() == Some(&service.name));
    let known = facts.services.iter().find(|own| own.name() == service.name);
    let command = &service.raw(&facts.project)["command"];
    let mut words = command.as_array().into_iter().flatten();
    runs || known.and_then(|own| own.part) == Some(Part::SocketProxy)
        || words.any(|word| word == "socket-proxy")
        || service.bare_image().contains("socket-proxy")
}

fn finding(facts: &Facts, service: &Service) -> Finding {
    let name = &service.name;
    let mut traefiks = facts.traefiks.iter();
    let traefik = traefiks.find(|own| own.service.as_ref() == Some(name));
    let image = service.bare_image();
    if traefik.is_none() && !READERS.contains(&image) {
        let text = format!(
            "{name} mounts the engine's socket: an attacker who gets into it controls the machine"
        );
        return Finding::ok(Check::Socket, name, text);
    }
    let through = traefik.is_some_and(|own| matches!(own.reads, Reads::SocketProxy(_)));
    let text = match through {
        true => {
            format!("{name} reads through the socket proxy, but still mounts the engine's socket")
        }
        false => format!(
            "{name} mounts the engine's socket: an attacker who gets into it controls the machine, and reads the secrets of \
             every container"
        ),
    };
    let fix = match traefik {
        Some(traefik) => reading::fix(facts, traefik),
        None => reading::fix_of_reader(facts, service),
    };
    Finding::warn(Check::Socket, name, text).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Level, testing};

    const MOUNT: &str =
        "volumes: [{type: bind, source: /var/run/docker.sock, target: /var/run/docker.sock}]";

    #[test]
    fn a_traefik_with_the_socket_is_warned_of_and_the_socket_proxy_is_not() {
        let (mut facts, _) = testing::of("image: app");
        for (name, more) in [
            ("traefik", "image: traefik:v3.7"),
            (
                "socket-proxy",
                "image: rollout:latest\ncommand: [socket-proxy]",
            ),
            ("tecnativa", "image: tecnativa/docker-socket-proxy"),
            ("portainer", "image: portainer/portainer-ce"),
        ] {
            testing::add(&mut facts, name, &format!("{more}\n{MOUNT}"));
        }
        let found = check(&facts);
        let told: Vec<(&str, Level)> = found
            .iter()
            .map(|own| (own.subject.as_str(), own.level))
            .collect();
        assert_eq!(told, [("portainer", Level::Ok), ("traefik", Level::Warn)]);
    }
}
