//! The services and middlewares of all providers of one Traefik, and which providers it has on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Api, Down};
use crate::{
    error::Result,
    proxy::traefik::{
        config::Tree,
        labels::{MIDDLEWARE, Object, Protocol, SERVICE},
    },
};

/// Where the answer of `/api/rawdata` has the services of each protocol.
const SERVICES: [(&str, Protocol); 3] = [
    ("services", Protocol::Http),
    ("tcpServices", Protocol::Tcp),
    ("udpServices", Protocol::Udp),
];

/// The interval of a health check that sets none (`pkg/config/dynamic/http_config.go`).
const DEFAULT_INTERVAL: &str = "30s";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub services: Vec<Listed<Vec<String>>>,
    pub middlewares: Vec<Listed<Call>>,
    /// The routers that use each service and middleware, whose names are with their providers.
    pub users: BTreeMap<Object, BTreeSet<String>>,
    /// Servers that fail the health check of their service.
    pub down: Vec<Down>,
}

/// A service or a middleware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    pub protocol: Protocol,
    /// With its provider: `app@file`.
    pub name: String,
    /// Where it sends to: the servers of a service, as Traefik writes them, or what a middleware calls.
    pub sends_to: T,
    /// The routers that use it.
    pub users: BTreeSet<String>,
}

/// What a middleware calls for the requests of its routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A URL (`forwardAuth`).
    Address(String),
    /// A service, with its provider (`errors`).
    Service(String),
}

impl Api {
    /// One question, however many services there are.
    pub async fn listing(&self) -> Result<Listing> {
        let raw = self.get("/api/rawdata").await?.ok_or_else(|| self.off())?;
        Ok(Listing::of(&raw))
    }

    /// The providers that are on, as Traefik's overview calls them.
    pub async fn providers(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Overview {
            #[serde(default)]
            providers: Vec<String>,
        }
        let raw = self.get("/api/overview").await?.ok_or_else(|| self.off())?;
        let overview: Overview = serde_json::from_value(raw).map_err(|_| self.off())?;
        Ok(overview.providers)
    }
}

impl Listing {
    fn of(raw: &Value) -> Self {
        let services = SERVICES.into_iter().flat_map(|(key, protocol)| {
            objects(&raw[key]).map(move |(name, service)| Listed {
                protocol,
                name: name.clone(),
                sends_to: servers(service),
                users: texts(&service["usedBy"]).collect(),
            })
        });
        let all: BTreeMap<&String, &Value> = objects(&raw["middlewares"]).collect();
        let middlewares = all.iter().filter_map(|(name, middleware)| {
            Some(Listed {
                protocol: Protocol::Http,
                name: (*name).clone(),
                sends_to: call(name, middleware)?,
                users: users(name, &all, chained),
            })
        });
        Self {
            services: services.collect(),
            middlewares: middlewares.collect(),
            users: by_users(raw, &all),
            down: SERVICES
                .into_iter()
                .flat_map(|(key, _)| objects(&raw[key]).flat_map(|(name, own)| down(name, own)))
                .collect(),
        }
    }
}

/// Which routers use what; `middlewares` are those of HTTP.
fn by_users(
    raw: &Value,
    middlewares: &BTreeMap<&String, &Value>,
) -> BTreeMap<Object, BTreeSet<String>> {
    let of = |protocol, kind, name: &String, users| {
        let object = Object {
            protocol: Some(protocol),
            kind,
            name: name.clone(),
        };
        (object, users)
    };
    let services = SERVICES.into_iter().flat_map(|(key, protocol)| {
        let all: BTreeMap<&String, &Value> = objects(&raw[key]).collect();
        let used = |name: &&String| of(protocol, SERVICE, name, users(name, &all, targets));
        all.keys().map(used).collect::<Vec<_>>()
    });
    let tcp = objects(&raw["tcpMiddlewares"]).map(|(name, own)| {
        let users = texts(&own["usedBy"]).collect();
        of(Protocol::Tcp, MIDDLEWARE, name, users)
    });
    let http = middlewares.keys().map(|name| {
        let users = users(name, middlewares, chained);
        of(Protocol::Http, MIDDLEWARE, name, users)
    });
    http.chain(services).chain(tcp).collect()
}

/// The middlewares that the labels of a project's services define.
pub fn middlewares_of_labels<'a>(
    services: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> Vec<Listed<Call>> {
    let mut raw = Map::new();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for labels in services {
        let tree = Tree::of_labels(labels);
        for (name, router) in tree
            .at("traefik.http.routers")
            .into_iter()
            .flat_map(|own| own.children())
        {
            for middleware in router
                .at("middlewares")
                .map(|own| own.list())
                .unwrap_or_default()
            {
                let user = qualified(name, "docker");
                users
                    .entry(qualified(&middleware, "docker"))
                    .or_default()
                    .push(user);
            }
        }
        for (name, middleware) in tree
            .at("traefik.http.middlewares")
            .into_iter()
            .flat_map(|own| own.children())
        {
            let text = |path| middleware.at(path).and_then(|own| own.text());
            let chain = middleware.at("chain.middlewares").map(|own| own.list());
            let written = serde_json::json!({
                "forwardAuth": {"address": text("forwardAuth.address")},
                "errors": {"service": text("errors.service")},
                "chain": {"middlewares": chain},
            });
            raw.insert(qualified(name, "docker"), written);
        }
    }
    for (name, middleware) in &mut raw {
        middleware["usedBy"] = users.remove(name).into();
    }
    Listing::of(&serde_json::json!({"middlewares": raw})).middlewares
}

/// A name with its provider, as Traefik reads one that stands with something of this provider; as it is where none is known.
pub fn qualified(name: &str, provider: &str) -> String {
    match name.contains('@') || provider.is_empty() {
        true => name.to_owned(),
        false => format!("{name}@{provider}"),
    }
}

/// The provider of a qualified name.
pub fn provider(name: &str) -> &str {
    name.rsplit_once('@').map_or("", |(_, provider)| provider)
}

fn servers(service: &Value) -> Vec<String> {
    let all = service["loadBalancer"]["servers"]
        .as_array()
        .into_iter()
        .flatten();
    let places = all.filter_map(|server| server["url"].as_str().or(server["address"].as_str()));
    places.map(str::to_owned).collect()
}

fn down(name: &str, service: &Value) -> Vec<Down> {
    let interval = &service["loadBalancer"]["healthCheck"]["interval"];
    let failing = objects(&service["serverStatus"]).filter(|(_, status)| *status == "DOWN");
    let failed = |server: &String| Down {
        service: name.to_owned(),
        server: server.clone(),
        interval: interval.as_str().unwrap_or(DEFAULT_INTERVAL).to_owned(),
        container: None,
    };
    failing.map(|(server, _)| failed(server)).collect()
}

fn call(name: &str, middleware: &Value) -> Option<Call> {
    let address = middleware["forwardAuth"]["address"].as_str();
    let service = middleware["errors"]["service"].as_str();
    match (address, service) {
        (Some(address), _) => Some(Call::Address(address.to_owned())),
        (None, Some(service)) => Some(Call::Service(qualified(service, provider(name)))),
        (None, None) => None,
    }
}

/// The routers that use a middleware or a service, also by another of them that has it among its `parts`.
fn users(
    name: &str,
    all: &BTreeMap<&String, &Value>,
    parts: fn(&Value) -> Vec<String>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::from([name.to_owned()]);
    loop {
        let wholes = all.iter().filter(|(whole, own)| {
            let mut parts = parts(own).into_iter();
            parts.any(|part| names.contains(&qualified(&part, provider(whole))))
        });
        let wholes: Vec<String> = wholes.map(|(whole, _)| (*whole).clone()).collect();
        let before = names.len();
        names.extend(wholes);
        if names.len() == before {
            break;
        }
    }
    let used = names.iter().filter_map(|name| all.get(name));
    used.flat_map(|own| texts(&own["usedBy"])).collect()
}

/// The middlewares of a chain.
fn chained(middleware: &Value) -> Vec<String> {
    texts(&middleware["chain"]["middlewares"]).collect()
}

/// The services that a service without servers of its own sends to (`Service` in Traefik's
/// `pkg/config/dynamic/http_config.go`).
pub fn targets(service: &Value) -> Vec<String> {
    let lists = [
        &service["weighted"]["services"],
        &service["highestRandomWeight"]["services"],
        &service["mirroring"]["mirrors"],
    ];
    let listed = lists.into_iter().filter_map(Value::as_array).flatten();
    let named = [
        &service["mirroring"]["service"],
        &service["failover"]["service"],
        &service["failover"]["fallback"],
    ];
    let all = listed.map(|own| &own["name"]).chain(named);
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn objects(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::arbitrary::{mutated_text, replaced};

    fn raw() -> Value {
        json!({
            "services": {
                "web@docker": {"loadBalancer": {}, "usedBy": ["admin@file"]},
                "app@file": {"loadBalancer": {"servers": [{"url": "http://app:8000"}]}, "usedBy": ["app@file"]},
                "api@internal": {"usedBy": ["api@file"]},
                "both@file": {"weighted": {"services": [{"name": "web@docker", "weight": 1}, {"name": "app"}]}},
                "safe@file": {"failover": {"service": "both", "fallback": "app"}, "usedBy": ["safe@file"]},
            },
            "tcpServices": {"db@redis": {"loadBalancer": {"servers": [{"address": "db:5432"}]}}},
            "udpServices": {"dns@file": {"loadBalancer": {"servers": [{"address": "dns:53"}]}}},
            "middlewares": {
                "auth@file": {"forwardAuth": {"address": "http://auth:8000/verify"}, "usedBy": ["one@docker"]},
                "all@docker": {"chain": {"middlewares": ["gz", "auth@file"]}, "usedBy": ["two@docker"]},
                "most@file": {"chain": {"middlewares": ["all@docker"]}, "usedBy": ["three@file"]},
                "gz@docker": {"compress": {}, "usedBy": ["four@docker"]},
                "pages@file": {"errors": {"service": "pages"}},
            },
        })
    }

    #[test]
    fn services_of_every_protocol_and_provider_are_listed_with_their_servers() {
        let listing = Listing::of(&raw());
        let listed: Vec<(&str, &[String])> = listing
            .services
            .iter()
            .map(|own| (own.name.as_str(), &own.sends_to[..]))
            .collect();
        let servers = |text: &str| vec![text.to_owned()];
        assert_eq!(
            listed,
            [
                ("api@internal", &[][..]),
                ("app@file", &servers("http://app:8000")[..]),
                ("both@file", &[][..]),
                ("safe@file", &[][..]),
                ("web@docker", &[][..]),
                ("db@redis", &servers("db:5432")[..]),
                ("dns@file", &servers("dns:53")[..]),
            ]
        );
        assert_eq!(listing.services[6].protocol, Protocol::Udp);
    }

    #[test]
    fn a_service_sends_to_those_that_it_names_and_servers_are_none_of_them() {
        let mirroring =
            json!({"mirroring": {"service": "a", "mirrors": [{"name": "b", "percent": 10}]}});
        assert_eq!(targets(&mirroring), ["b", "a"]);
        let hashed = json!({"highestRandomWeight": {"services": [{"name": "a"}]}});
        assert_eq!(targets(&hashed), ["a"]);
        let own = json!({"loadBalancer": {"servers": [{"url": "http://web@docker"}]}});
        assert_eq!(targets(&own), [""; 0]);
    }

    #[test]
    fn servers_that_fail_their_health_check_are_listed_with_its_interval() {
        let raw = json!({
            "services": {"nb@docker": {
                "loadBalancer": {"healthCheck": {"interval": "10s"}},
                "serverStatus": {"http://10.0.0.2:80": "UP", "http://10.0.0.3:80": "DOWN"},
            }},
            "tcpServices": {"db@file": {"serverStatus": {"10.0.0.4:5432": "DOWN"}}},
        });
        let down = |service: &str, server: &str, interval: &str| Down {
            service: service.to_owned(),
            server: server.to_owned(),
            interval: interval.to_owned(),
            container: None,
        };
        assert_eq!(
            Listing::of(&raw).down,
            [
                down("nb@docker", "http://10.0.0.3:80", "10s"),
                down("db@file", "10.0.0.4:5432", "30s"),
            ]
        );
    }

    #[test]
    fn a_name_without_a_provider_gets_that_of_what_names_it() {
        for (name, by, whole) in [
            ("gz", "web@docker", "gz@docker"),
            ("gz@file", "web@docker", "gz@file"),
            ("gz", "web", "gz"),
        ] {
            assert_eq!(qualified(name, provider(by)), whole);
        }
    }

    #[test]
    fn what_is_part_of_a_chain_or_of_another_service_is_used_by_the_routers_of_that() {
        let listing = Listing::of(&raw());
        let [auth, pages] = &listing.middlewares[..] else {
            panic!("{listing:?}")
        };
        let users: Vec<&String> = auth.users.iter().collect();
        assert_eq!(users, ["one@docker", "three@file", "two@docker"]);
        assert_eq!(pages.sends_to, Call::Service("pages@file".to_owned()));
        let used = |kind, name: &str| {
            let object = Object {
                protocol: Some(Protocol::Http),
                kind,
                name: name.to_owned(),
            };
            let users = listing.users[&object.of_docker()].iter();
            users.cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            used(MIDDLEWARE, "gz"),
            ["four@docker", "three@file", "two@docker"]
        );
        assert_eq!(used(SERVICE, "web"), ["admin@file", "safe@file"]);
    }

    #[test]
    fn labels_define_the_same_in_any_case_of_their_keys() {
        let labels = [
            (
                "traefik.http.middlewares.auth.forwardAuth.Address",
                "http://auth:8000/verify",
            ),
            ("traefik.http.routers.app.middlewares", "gz@file, auth"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let found = middlewares_of_labels([&labels.into()].into_iter());
        let expected = Listed {
            protocol: Protocol::Http,
            name: "auth@docker".to_owned(),
            sends_to: Call::Address("http://auth:8000/verify".to_owned()),
            users: BTreeSet::from(["app@docker".to_owned()]),
        };
        assert_eq!(found, [expected]);
    }

    proptest! {
        #[test]
        fn any_answer_is_listed(raw in replaced(raw()), key in mutated_text("traefik.http.middlewares.auth.forwardauth.address")) {
            let _ = Listing::of(&raw);
            middlewares_of_labels([&BTreeMap::from([(key, "http://auth".to_owned())])].into_iter());
        }
    }
}
