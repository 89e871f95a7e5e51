//! What a project lacks so that its Traefik reads through a socket proxy: as edits, and in words what is no edit. Pure.

use super::{
    Names, Request,
    stack::{self, Services},
};
use crate::{
    compose::{
        edits::{Edit, remove_mount},
        mounts::{Mount, mounts},
    },
    proxy::traefik::config::{
        StaticConfig,
        advice::{
            self, Namespace,
            edits::{SocketProxy, joins, option, passes_swarm, reads, waits},
        },
    },
};

/// The port of the insecure API, and the ports that can replace it.
const API_PORTS: [u16; 4] = [8080, 8099, 8199, 8299];
/// The entrypoint of the insecure API.
const INTERNAL: &str = "traefik";

pub struct Needs {
    pub edits: Vec<Edit>,
    /// What is left to a person, a line each.
    pub by_hand: Vec<String>,
}

/// The services of a project and what is known of their Traefik.
pub struct Project<'a> {
    pub services: &'a Services,
    /// The service that is Traefik.
    pub traefik: &'a str,
    pub config: Option<&'a StaticConfig>,
    pub names: &'a Names,
}

impl Project<'_> {
    /// Everything that the project lacks; the error says why it cannot be provided.
    pub fn needs(&self, request: &Request<'_>) -> Result<Needs, String> {
        let traefik = &self.services[self.traefik];
        let proxy = self.names.service.as_str();
        let mut needs = Needs {
            edits: Vec::new(),
            by_hand: Vec::new(),
        };
        let mounts: Vec<Mount> = mounts(traefik);
        let sockets: Vec<Mount> = mounts.into_iter().filter(Mount::is_socket).collect();
        let of_socket = |own: &Mount| remove_mount(self.traefik, &own.target);
        needs.edits.extend(sockets.iter().map(of_socket));
        self.address(&mut needs);
        for option in self.options(&mut needs, request)? {
            self.option(&mut needs, &option);
        }
        let holder = self.holder()?;
        let networks = &self.services[holder]["networks"];
        let joined = stack::keys(networks);
        let implied = joined.is_empty() && self.names.network == "default";
        if !joined.contains(&self.names.network) && !implied {
            needs
                .edits
                .push(joins(holder, networks, &self.names.network));
        }
        if !stack::keys(&traefik["depends_on"])
            .iter()
            .any(|own| own == proxy)
        {
            needs.edits.push(waits(self.traefik, proxy));
        }
        if !self.names.known {
            let socket = sockets.first().map(|own| own.source.as_str());
            let proxy = SocketProxy {
                service: proxy,
                network: &self.names.network,
                volume: &self.names.volume,
                image: request.image,
                command: &advice::command(self.config),
                socket: socket.unwrap_or(advice::SOCKET),
            };
            needs.edits.extend(proxy.added());
        } else if self.config.is_some_and(|config| config.swarm.is_some()) {
            let written = self.services.get(proxy);
            needs
                .edits
                .extend(written.and_then(|own| passes_swarm(proxy, &own["command"])));
        }
        Ok(needs)
    }

    /// The service that has Traefik's networks and published ports.
    fn holder(&self) -> Result<&str, String> {
        let mode = self.services[self.traefik]["network_mode"].as_str();
        match Namespace::of_mode(mode) {
            Namespace::Service(holder) => match self.services.get_key_value(holder) {
                Some((name, _)) => Ok(name),
                None => Err(format!("service {holder} is in another file")),
            },
            _ => Ok(self.traefik),
        }
    }

    /// `DOCKER_HOST`, which replaces the address of another socket proxy.
    fn address(&self, needs: &mut Needs) {
        let wanted = format!("DOCKER_HOST={}", advice::address(&self.names.service));
        let environment = stack::environment(&self.services[self.traefik]);
        let is_given = |own: &&String| own.split('=').next() == Some("DOCKER_HOST");
        let before = environment.iter().find(is_given);
        if before == Some(&wanted) {
            return;
        }
        needs.edits.push(reads(self.traefik, &self.names.service));
        let other = before.and_then(|own| own.split_once("=tcp://"));
        let host = other.and_then(|(_, address)| address.split(':').next());
        if let Some(host) = host.filter(|host| *host != self.names.service) {
            needs.by_hand.push(format!(
                "Traefik no longer reads through {host}: remove it if nothing else does"
            ));
        }
    }

    /// The options that Traefik lacks.
    fn options(&self, needs: &mut Needs, request: &Request<'_>) -> Result<Vec<String>, String> {
        let mut options = Vec::new();
        if stack::reads_docker_host(self.services, self.traefik, request.images) {
            self.dead_endpoint(needs);
        } else {
            options.extend(self.endpoint(needs));
        }
        options.extend(self.api(needs)?);
        Ok(options)
    }

    /// The option by which an old release reads through the socket proxy.
    fn endpoint(&self, needs: &mut Needs) -> Option<String> {
        let option = advice::endpoint(&self.names.service);
        let docker = self.config.and_then(|config| config.docker.as_ref());
        let given = docker.map_or("", |docker| docker.endpoint.as_str());
        if given == advice::address(&self.names.service) {
            return None;
        }
        if given.starts_with("tcp:") {
            needs.by_hand.push(format!(
                "this release of Traefik reads what --providers.docker.endpoint says: make it --{option}"
            ));
            return None;
        }
        Some(option)
    }

    /// The address of another socket proxy that has no effect beside `DOCKER_HOST`.
    fn dead_endpoint(&self, needs: &mut Needs) {
        let docker = self.config.and_then(|config| config.docker.as_ref());
        let given = docker.map_or("", |docker| docker.endpoint.as_str());
        if given.starts_with("tcp:") && given != advice::address(&self.names.service) {
            needs.by_hand.push(format!(
                "remove providers.docker.endpoint={given} from Traefik: DOCKER_HOST is in its place, and nothing reads it any more"
            ));
        }
    }

    /// The options that turn Traefik's API on, never on a port that is published.
    fn api(&self, needs: &mut Needs) -> Result<Vec<String>, String> {
        let Some(config) = self.config else {
            needs.by_hand.push(format!(
                "check that Traefik's API is on ({}), and that its port is not published",
                advice::API
            ));
            return Ok(Vec::new());
        };
        let routed = config.file.is_some() || has_api_router(self.services);
        let api = config.api.as_ref();
        if api.is_some_and(|api| api.insecure || routed) {
            return Ok(Vec::new());
        }
        let holder = &self.services[self.holder()?];
        let published = |port: u16| stack::publishes(holder, port);
        if let Some(own) = config.entrypoints.get(INTERNAL) {
            return match published(own.port) {
                false => Ok(vec![advice::API.to_owned()]),
                true => Err(format!(
                    "Traefik's API is off, and its port {} is published",
                    own.port
                )),
            };
        }
        let taken = |port: u16| config.entrypoints.values().any(|own| own.port == port);
        let free = |port: &u16| !taken(*port) && !published(*port);
        let port = API_PORTS.into_iter().find(free);
        match port.ok_or("Traefik's API is off, and every port for it is published")? {
            port if port == API_PORTS[0] => Ok(vec![advice::API.to_owned()]),
            port => Ok(vec![
                advice::API.to_owned(),
                format!("entrypoints.{INTERNAL}.address=:{port}"),
            ]),
        }
    }

    /// One option, where this Traefik's configuration comes from.
    fn option(&self, needs: &mut Needs, name: &str) {
        let edit = match self.config {
            Some(config) => option(self.traefik, &config.source, name),
            None => Err(format!("check that Traefik is given --{name}")),
        };
        match edit {
            Ok(edit) => needs.edits.push(edit),
            Err(by_hand) => needs.by_hand.push(by_hand),
        }
    }
}

fn has_api_router(services: &Services) -> bool {
    let mut all = services.values();
    all.any(|service| service["labels"].to_string().contains("api@internal"))
}
