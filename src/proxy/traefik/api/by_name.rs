//! What Traefik sends to a service by its name or address, without the router of its labels. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    DOCKER, Prefix, host_and_port,
    listing::{Call, Listed, Listing, provider},
    place_of,
};
use crate::{
    compose::{Project, Service},
    model::{Replica, ServiceKey},
    namespace::traffic::Protocol as Spoken,
    proxy::{
        Bypass,
        traefik::labels::{Names, Protocol, default_name, names},
    },
};

/// Where a service is found.
pub struct Callee<'a> {
    key: &'a ServiceKey,
    replicas: &'a [Replica],
    /// The engine's name of a network → the service's names there, in lower case.
    names: BTreeMap<String, BTreeSet<String>>,
    /// What its own labels make.
    own: Names,
    /// The labels of its new version.
    labels: &'a BTreeMap<String, String>,
}

/// What one Traefik says, and the networks that it is in.
pub struct Heard {
    pub traefik: String,
    pub networks: BTreeSet<String>,
    pub listing: Listing,
}

/// Something of Traefik that reaches the service past its router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub kind: Kind,
    /// The name of Traefik's container.
    traefik: String,
    /// Its name, with its provider.
    name: String,
    /// What it sends to: a host and a port, or a service.
    target: String,
    /// The TCP port that it sends to, and what is spoken there.
    pub port: Option<(u16, Spoken)>,
    /// The routers that use it.
    users: BTreeSet<String>,
    service: String,
    /// How Traefik calls the service where its labels route to it.
    default_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A service of Traefik's: it routes.
    Service,
    ForwardAuth,
    /// The middleware `errors`, whose service sends to this one by name.
    Errors,
    /// The same, whose service is what the labels make: only a pin does not move that.
    ErrorsOfLabels,
}

impl<'a> Callee<'a> {
    /// `labels` are those of the new version.
    pub fn new(
        key: &'a ServiceKey,
        project: &Project,
        service: &Service,
        labels: &'a BTreeMap<String, String>,
        replicas: &'a [Replica],
    ) -> Self {
        let mut found = names_in_file(project, service);
        for (network, names) in replicas.iter().flat_map(|own| &own.names) {
            let lower = names.iter().map(|name| name.to_lowercase());
            found.entry(network.clone()).or_default().extend(lower);
        }
        let mut own = names(labels);
        for replica in replicas {
            own.services.extend(names(&replica.labels).services);
        }
        Self {
            key,
            replicas,
            names: found,
            own,
            labels,
        }
    }

    /// Everything that reaches the service past its router. `file` are the middlewares of the Compose file, which may be
    /// new to Traefik.
    pub fn callers(&self, heard: &[Heard], file: &[Listed<Call>]) -> Vec<Caller> {
        let mut callers = Vec::new();
        for own in heard {
            let services = own.listing.services.iter();
            let services = services.filter_map(|service| self.by_service(own, service));
            let services: Vec<Caller> = services.collect();
            let middlewares = own.listing.middlewares.iter().chain(file);
            let middlewares: Vec<Caller> = middlewares
                .filter_map(|middleware| self.by_middleware(own, middleware, &services))
                .collect();
            callers.extend(services.into_iter().chain(middlewares));
        }
        let mut seen = BTreeSet::new();
        callers
            .retain(|own: &Caller| seen.insert((own.kind, own.name.clone(), own.target.clone())));
        callers
    }

    fn by_service(&self, heard: &Heard, service: &Listed<Vec<String>>) -> Option<Caller> {
        if self.is_own(service.protocol, &service.name) || self.is_pinned(service) {
            return None;
        }
        // By address, Docker's provider sends to what containers it lists, and follows them.
        let by_address = provider(&service.name) != DOCKER;
        let mut servers = service.sends_to.iter();
        let target = servers.find(|server| {
            self.is_called(heard, server) || (by_address && self.has_address(server))
        })?;
        let port = port(service.protocol, target);
        Some(self.caller(heard, Kind::Service, service, (&place(target), port)))
    }

    fn by_middleware(
        &self,
        heard: &Heard,
        middleware: &Listed<Call>,
        services: &[Caller],
    ) -> Option<Caller> {
        let (kind, target, port) = match &middleware.sends_to {
            Call::Address(address) => {
                let hit = self.is_called(heard, address) || self.has_address(address);
                let port = port(Protocol::Http, address);
                (hit.then_some(Kind::ForwardAuth)?, place(address), port)
            }
            Call::Service(name) => (self.errors(name, services)?, name.clone(), None),
        };
        Some(self.caller(heard, kind, middleware, (&target, port)))
    }

    fn errors(&self, service: &str, by_name: &[Caller]) -> Option<Kind> {
        let own = self.is_own(Protocol::Http, service);
        match by_name.iter().any(|own| own.name == service) {
            true => Some(Kind::Errors),
            false => own.then_some(Kind::ErrorsOfLabels),
        }
    }

    /// Whether a service of Traefik is what its own labels make.
    fn is_own(&self, protocol: Protocol, full: &str) -> bool {
        let mut own = self.own.services.iter();
        own.any(|(known, name)| *known == protocol && format!("{name}@{DOCKER}") == full)
    }

    fn caller<T>(
        &self,
        heard: &Heard,
        kind: Kind,
        of: &Listed<T>,
        (target, port): (&str, Option<(u16, Spoken)>),
    ) -> Caller {
        Caller {
            kind,
            traefik: heard.traefik.clone(),
            name: of.name.clone(),
            target: target.to_owned(),
            port,
            users: of.users.clone(),
            service: self.key.service.clone(),
            default_name: default_name(self.labels),
        }
    }

    /// A pin that a rollout has written holds addresses on purpose.
    fn is_pinned(&self, service: &Listed<Vec<String>>) -> bool {
        let prefix = Prefix::of(self.key).name(service.protocol, "");
        service.name.starts_with(&prefix)
    }

    /// Whether the host of a URL or an address is one of its names, where this Traefik looks names up.
    fn is_called(&self, heard: &Heard, target: &str) -> bool {
        let Some((host, _)) = host_and_port(target) else {
            return false;
        };
        let host = host.trim_end_matches('.').to_lowercase();
        let shared = self
            .names
            .iter()
            .filter(|(network, _)| heard.networks.contains(*network));
        shared.into_iter().any(|(network, names)| {
            let network = format!(".{}", network.to_lowercase());
            let bare = host.strip_suffix(&network).unwrap_or_default();
            names.contains(&host) || names.contains(bare)
        })
    }

    fn has_address(&self, target: &str) -> bool {
        place_of(target).is_some_and(|place| self.replicas.iter().any(|own| place.is_of(own)))
    }
}

/// Compose gives a container its service's name and the aliases of each network.
fn names_in_file(project: &Project, service: &Service) -> BTreeMap<String, BTreeSet<String>> {
    let raw = &project.raw["services"][&service.name];
    let given = [&raw["container_name"], &raw["hostname"]];
    let given = given.into_iter().filter_map(Value::as_str);
    let everywhere: Vec<&str> = given.chain([service.name.as_str()]).collect();
    let networks = service.networks.iter().filter_map(|key| {
        let name = project.raw["networks"][key]["name"].as_str()?;
        let aliases = raw["networks"][key]["aliases"].as_array();
        let aliases = aliases.into_iter().flatten().filter_map(Value::as_str);
        let names = aliases.chain(everywhere.iter().copied());
        Some((name.to_owned(), names.map(str::to_lowercase).collect()))
    });
    networks.collect()
}

/// The port of a URL or an address, and what is spoken there; none for datagrams, which belong to no connection.
fn port(protocol: Protocol, target: &str) -> Option<(u16, Spoken)> {
    let (scheme, _) = target.split_once("://").unwrap_or_default();
    let (spoken, usual) = match (protocol, scheme) {
        (Protocol::Http, "h2c") => (Spoken::H2c, Some(80)),
        (Protocol::Http, "https") => (Spoken::Http1, Some(443)),
        (Protocol::Http, _) => (Spoken::Http1, Some(80)),
        (Protocol::Tcp, _) => (Spoken::Stream, None),
        (Protocol::Udp, _) => return None,
    };
    let (_, given) = host_and_port(target)?;
    Some((given.or(usual)?, spoken))
}

/// The host and the port of a URL, without whatever else stands in it.
fn place(target: &str) -> String {
    match host_and_port(target) {
        Some((host, Some(port))) if host.contains(':') => format!("[{host}]:{port}"),
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host.to_owned(),
        None => String::new(),
    }
}

impl Caller {
    pub fn bypass(&self) -> Bypass {
        Bypass {
            text: self.text(),
            advice: self.advice(),
            routes: self.routes(),
            port: self.port,
        }
    }

    /// Whether it routes to the service.
    pub fn routes(&self) -> bool {
        self.kind == Kind::Service
    }

    /// Whether only a pin leaves it where it is.
    pub fn follows_labels(&self) -> bool {
        self.kind == Kind::ErrorsOfLabels
    }

    /// One line.
    pub fn text(&self) -> String {
        let Self {
            traefik,
            name,
            target,
            service,
            ..
        } = self;
        let users: Vec<&str> = self.users.iter().map(String::as_str).collect();
        let routers = match users.is_empty() {
            true => String::new(),
            false => format!(", used by router {}", users.join(", ")),
        };
        let what = match self.kind {
            Kind::Service => format!("service {name} ({target}{routers})"),
            Kind::ForwardAuth => format!("middleware {name} (forwardAuth to {target}{routers})"),
            Kind::Errors | Kind::ErrorsOfLabels => {
                format!("middleware {name} (errors, service {target}{routers})")
            }
        };
        let harm = match self.kind {
            Kind::ForwardAuth => {
                "its requests reach both versions while both run, and new replicas that are not ready yet"
            }
            _ => {
                "its requests reach both versions while both run, and can fail when the old replicas are stopped"
            }
        };
        format!(
            "Traefik ({traefik}) reaches {service} by {what}, without the router of its labels: {harm}"
        )
    }

    pub fn advice(&self) -> String {
        let Self { name, service, .. } = self;
        match self.kind {
            Kind::ForwardAuth => format!(
                "give Traefik a network alias such as {service}.test and {service} a router with Host(`{service}.test`), \
                 and let {name} call http://{service}.test/…: its requests then go through the router"
            ),
            _ => format!(
                "give {service} the label traefik.enable: \"true\", and let what uses {name} use the service \
                 {}@docker instead",
                self.default_name
            ),
        }
    }
}

#[cfg(test)]
#[path = "by_name_tests.rs"]
mod tests;
