//! Which routers, services and middlewares Traefik drops, because two containers define them differently. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::names::{Protocol, names};
use crate::socket_proxy::overlay::Labels;

/// Options of a service that each server may have for itself.
const OF_A_SERVER: &str = "loadbalancer.server.";

/// One object that two containers define differently, which deletes it for both (Traefik's `pkg/provider/merge.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What is dropped.
    pub object: Object,
    /// The option that differs: the first of them by alphabet.
    pub option: String,
}

/// A router, a service or a middleware.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub protocol: Protocol,
    /// `router`, `service` or `middleware`.
    pub kind: &'static str,
    pub name: String,
}

impl Object {
    /// What a label is about; `None` for one that defines no such thing.
    pub fn of(label: &str) -> Option<Self> {
        let (protocol, kind, name, _) = parse(label)?;
        Some(Self {
            protocol,
            kind,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.object, self.option)
    }
}

/// What two containers that Traefik keeps at the same time must not differ in.
pub fn between(one: &Labels, other: &Labels) -> Vec<Conflict> {
    let (one, other) = (objects(one), objects(other));
    let both = one
        .iter()
        .filter_map(|(object, options)| Some((object, options, other.get(object)?)));
    both.filter_map(|(object, one, other)| {
        let all: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let option = all
            .into_iter()
            .find(|&option| one.get(option) != other.get(option))?;
        Some(Conflict {
            object: object.clone(),
            option: option.clone(),
        })
    })
    .collect()
}

fn objects(labels: &Labels) -> BTreeMap<Object, BTreeMap<String, String>> {
    let mut objects: BTreeMap<Object, BTreeMap<String, String>> = BTreeMap::new();
    let known = names(labels);
    let object = |protocol, kind, name: &str| Object {
        protocol,
        kind,
        name: name.to_owned(),
    };
    for (protocol, name) in &known.services {
        objects.insert(object(*protocol, "service", name), BTreeMap::new());
    }
    for (protocol, name) in &known.routers {
        let own = known.services.iter().filter(|(of, _)| of == protocol);
        let own: Vec<&String> = own.map(|(_, service)| service).collect();
        // A router that names no service gets the container's only one (`BuildRouterConfiguration`).
        let service = match own[..] {
            [only] => BTreeMap::from([("service".to_owned(), only.clone())]),
            _ => BTreeMap::new(),
        };
        objects.insert(object(*protocol, "router", name), service);
    }
    for (key, value) in labels {
        if let Some((protocol, kind, name, option)) = parse(key) {
            let options = objects.entry(object(protocol, kind, name)).or_default();
            if kind != "service" || !option.starts_with(OF_A_SERVER) {
                options.insert(option, value.clone());
            }
        }
    }
    objects
}

fn parse(key: &str) -> Option<(Protocol, &'static str, &str, String)> {
    let mut parts = key.splitn(5, '.');
    let first = parts.next()?;
    let protocol = parts.next()?;
    let kind = match parts.next()?.to_ascii_lowercase().as_str() {
        "routers" => "router",
        "services" => "service",
        "middlewares" => "middleware",
        _ => return None,
    };
    let (name, option) = (parts.next()?, parts.next()?);
    let protocol = [Protocol::Http, Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|known| known.word().eq_ignore_ascii_case(protocol))?;
    (first == "traefik").then(|| (protocol, kind, name, option.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: (&str, &str) = ("traefik.http.routers.web.rule", "Host(`a`)");
    const SERVER: &str = "traefik.http.services.web.loadbalancer.server.";

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let compose = [
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "web"),
        ];
        let all = compose.iter().chain(pairs);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn told(one: &[(&str, &str)], other: &[(&str, &str)]) -> Vec<String> {
        let conflicts = between(&labels(one), &labels(other));
        conflicts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_router_a_balancer_or_a_middleware_that_differs_is_dropped() {
        assert_eq!(
            told(&[RULE], &[("traefik.http.routers.web.rule", "Host(`b`)")]),
            ["router web (rule)"]
        );
        assert_eq!(
            told(&[RULE], &[RULE, ("traefik.HTTP.Routers.web.Priority", "9")]),
            ["router web (priority)"]
        );
        let sticky = "traefik.http.services.web-shop.loadbalancer.sticky.cookie";
        assert_eq!(
            told(&[RULE], &[RULE, (sticky, "true")]),
            ["service web-shop (loadbalancer.sticky.cookie)"]
        );
        let body = "traefik.http.middlewares.p.stripprefix.prefixes";
        assert_eq!(
            told(&[RULE, (body, "/a")], &[RULE, (body, "/b")]),
            ["middleware p (stripprefix.prefixes)"]
        );
    }

    #[test]
    fn a_service_that_gets_a_name_of_its_own_changes_its_router_too() {
        assert_eq!(
            told(&[RULE], &[RULE, (&format!("{SERVER}port"), "80")]),
            ["router web (service)"]
        );
    }

    #[test]
    fn servers_further_routers_and_labels_of_others_may_differ() {
        let port = format!("{SERVER}port");
        let one = [RULE, (&port, "80"), ("other", "1")];
        let other = [
            RULE,
            (&port, "81"),
            ("traefik.http.routers.more.rule", "Host(`c`)"),
            ("traefik.http.routers.more.service", "web"),
            ("traefik.enable", "true"),
        ];
        assert_eq!(told(&one, &other), [""; 0]);
    }
}
