//! The routers, services and middlewares that one version of a service defines by its labels. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tree::{Object, section, take, text, tree};
use crate::proxy::traefik::labels::{Protocol, names};

/// A protocol, and a name as the labels have it.
pub type Name = (Protocol, String);

/// What labels define, after Traefik's own rules for what they leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Routers, each with its service and, but for UDP, its rule.
    pub routers: BTreeMap<Name, Object>,
    /// Services: the load balancer's options, less the server.
    pub services: BTreeMap<Name, Service>,
    pub middlewares: BTreeMap<Name, Value>,
    /// Routers without a rule of their own whose default rule is not known.
    pub unruled: BTreeSet<String>,
}

/// One service of the labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Everything but the load balancer.
    pub options: Object,
    /// The load balancer's options.
    pub balancer: Object,
    /// What the labels say of the container as a server: port, scheme, weight …
    pub server: Object,
}

/// Kinds of service that no label can make (`label:"-"` in Traefik's `pkg/config/dynamic`), but a file can.
const FILE_ONLY: [&str; 4] = ["weighted", "mirroring", "failover", "highestrandomweight"];

impl Definition {
    /// Reads one container's labels. `default_rule` gives the rule of an HTTP router that has none.
    pub fn of(
        labels: &BTreeMap<String, String>,
        default_rule: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let tree = tree(labels);
        let names = names(labels);
        let mut own = Self::default();
        for name in &names.services {
            own.services.insert(name.clone(), service(&tree, name));
        }
        for name in &names.routers {
            own.routers
                .insert(name.clone(), entry(&tree, name, "routers"));
        }
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let all = section(&tree, protocol.word())
                .and_then(|section| self::section(section, "middlewares"));
            own.middlewares.extend(
                all.into_iter()
                    .flatten()
                    .map(|(name, body)| ((protocol, name.clone()), body.clone())),
            );
        }
        own.give_rules(default_rule);
        own.link();
        own
    }

    fn give_rules(&mut self, default_rule: &dyn Fn(&str) -> Option<String>) {
        for ((protocol, name), router) in &mut self.routers {
            if *protocol != Protocol::Http || text(router, "rule").is_some_and(|it| !it.is_empty())
            {
                continue;
            }
            take(router, "rule");
            match default_rule(name) {
                Some(rule) => drop(router.insert("rule".to_owned(), rule.into())),
                None => drop(self.unruled.insert(name.clone())),
            }
        }
    }

    /// `BuildRouterConfiguration` and its likes in Traefik's `pkg/provider/configuration.go`: a router belongs to the only
    /// service of its protocol, and without a rule or a service there is no router.
    fn link(&mut self) {
        let services = &self.services;
        self.routers.retain(|(protocol, _), router| {
            let ruled =
                *protocol == Protocol::Udp || text(router, "rule").is_some_and(|it| !it.is_empty());
            if text(router, "service").is_some_and(|service| !service.is_empty()) {
                return ruled;
            }
            let mut own = services.keys().filter(|(known, _)| known == protocol);
            let (Some((_, only)), None) = (own.next(), own.next()) else {
                return false;
            };
            take(router, "service");
            router.insert("service".to_owned(), only.clone().into());
            ruled
        });
    }

    /// Takes in what another replica of the same version defines in addition.
    pub fn extend(&mut self, other: Self) {
        fill(&mut self.routers, other.routers);
        fill(&mut self.services, other.services);
        fill(&mut self.middlewares, other.middlewares);
        self.unruled.extend(other.unruled);
    }
}

fn fill<K: Ord, V>(map: &mut BTreeMap<K, V>, more: BTreeMap<K, V>) {
    for (key, value) in more {
        map.entry(key).or_insert(value);
    }
}

/// One entry of a section; empty where the labels only imply it.
fn entry(tree: &Object, (protocol, name): &Name, kind: &str) -> Object {
    let of = || {
        let all = section(section(tree, protocol.word())?, kind)?;
        section(all, name)
    };
    of().cloned().unwrap_or_default()
}

fn service(tree: &Object, name: &Name) -> Service {
    let mut options = entry(tree, name, "services");
    for kind in FILE_ONLY {
        take(&mut options, kind);
    }
    let object = |value: Option<Value>| match value {
        Some(Value::Object(object)) => object,
        _ => Object::new(),
    };
    let mut balancer = object(take(&mut options, "loadbalancer"));
    let server = object(take(&mut balancer, "server"));
    Service {
        options,
        balancer,
        server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::label;

    fn of(pairs: &[(&str, &str)]) -> Definition {
        let compose = [
            (label::COMPOSE_PROJECT, "app"),
            (label::COMPOSE_SERVICE, "web"),
        ];
        let labels = compose
            .iter()
            .chain(pairs)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Definition::of(&labels, &|name| {
            (name == "web-app").then(|| "Host(`default`)".to_owned())
        })
    }

    fn router<'a>(definition: &'a Definition, protocol: Protocol, name: &str) -> &'a Object {
        &definition.routers[&(protocol, name.to_owned())]
    }

    #[test]
    fn a_router_belongs_to_the_only_service_and_has_the_default_rule_where_it_says_none() {
        let own = of(&[("traefik.enable", "true")]);
        let router = router(&own, Protocol::Http, "web-app");
        assert_eq!(text(router, "rule"), Some("Host(`default`)"));
        assert_eq!(text(router, "service"), Some("web-app"));
        assert!(
            own.services
                .contains_key(&(Protocol::Http, "web-app".into()))
        );
    }

    #[test]
    fn a_router_that_says_no_service_among_several_does_not_exist() {
        let own = of(&[
            ("traefik.http.routers.a.rule", "Host(`a`)"),
            ("traefik.http.routers.b.rule", "Host(`b`)"),
            ("traefik.http.routers.b.service", "two"),
            ("traefik.http.services.one.loadbalancer.server.port", "1"),
            ("traefik.http.services.two.loadbalancer.server.port", "2"),
        ]);
        let names: Vec<&str> = own.routers.keys().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn a_router_whose_default_rule_nobody_knows_is_named() {
        let own = of(&[("traefik.http.routers.a.middlewares", "x")]);
        assert!(own.routers.is_empty());
        assert_eq!(own.unruled, BTreeSet::from(["a".to_owned()]));
    }

    #[test]
    fn the_server_is_apart_from_the_options_that_all_share() {
        let own = of(&[
            ("traefik.http.services.a.loadbalancer.server.port", "80"),
            ("traefik.http.services.a.loadbalancer.passhostheader", "no"),
            ("traefik.http.services.a.weighted.services[0].name", "b"),
        ]);
        let service = &own.services[&(Protocol::Http, "a".to_owned())];
        assert_eq!(text(&service.server, "port"), Some("80"));
        assert_eq!(text(&service.balancer, "passhostheader"), Some("no"));
        assert!(service.options.is_empty());
    }

    #[test]
    fn a_tcp_router_without_a_rule_does_not_exist_and_a_udp_one_needs_none() {
        let own = of(&[
            ("traefik.tcp.routers.a.entrypoints", "db"),
            ("traefik.udp.routers.b.entrypoints", "dns"),
        ]);
        let names: Vec<&Name> = own.routers.keys().collect();
        assert_eq!(names, [&(Protocol::Udp, "b".to_owned())]);
    }
}
