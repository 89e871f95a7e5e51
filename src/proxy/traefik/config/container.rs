//! A Traefik container: how it is configured, and how it reads Docker.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use tokio::sync::Mutex;

use super::{
    advice::{self, Namespace},
    static_config::{Given, StaticConfig, arguments, candidates, read},
    summary::tagged_version,
    version::Version,
};
use crate::{
    docker::engine::{
        Engine,
        shared::{MAX_STEPS, target},
        summary::{addresses_of, name},
    },
    error::Result,
    model::{label, name_and_tag},
    overlay::control::Reader,
    proxy::socket_proxies::SocketProxy,
};

/// A Traefik that runs in a container of the engine.
#[derive(Clone)]
pub struct TraefikContainer {
    pub id: String,
    pub name: String,
    /// As [`Sighting::identity`].
    pub identity: String,
    /// All that the engine says of it.
    pub inspect: ContainerInspectResponse,
    /// How it is configured; Traefik's defaults where [`Self::unread`] says why nothing better is known.
    pub config: StaticConfig,
    /// Why its configuration file could not be read, in one line.
    pub unread: Option<String>,
    pub reads: Reads,
    /// Its version, where the image or its User-Agent says.
    pub version: Option<Version>,
    /// The container whose network namespace it is in, where that is not its own.
    pub holder: Option<Holder>,
}

#[cfg(test)]
impl TraefikContainer {
    /// One that reads the engine's socket itself, from its arguments in one line.
    pub fn of_arguments(name: &str, line: &str) -> Self {
        Self {
            id: name.to_owned(),
            name: name.to_owned(),
            identity: name.to_owned(),
            inspect: ContainerInspectResponse::default(),
            config: StaticConfig::of_arguments(line),
            unread: None,
            reads: Reads::Socket("/var/run/docker.sock".to_owned()),
            version: None,
            holder: None,
        }
    }
}

/// A container that lends its network namespace to a Traefik.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub id: String,
    pub name: String,
    /// Its service, where it is of Traefik's own project.
    pub service: Option<String>,
}

impl Holder {
    pub fn namespace(&self) -> Namespace<'_> {
        match &self.service {
            Some(service) => Namespace::Service(service),
            None => Namespace::Container(&self.name),
        }
    }
}

/// The Traefiks that were inspected, by identity: each once for all services of a run.
#[derive(Default)]
pub struct Inspected(Mutex<BTreeMap<String, TraefikContainer>>);

impl Inspected {
    /// `None` where the container has ended meanwhile.
    pub async fn examine(
        &self,
        engine: &Engine,
        sighting: &Sighting,
    ) -> Result<Option<TraefikContainer>> {
        let mut known = self.0.lock().await;
        let identity = sighting.identity();
        if let Some(known) = known.get(&identity) {
            return Ok(Some(known.clone()));
        }
        let traefik = sighting.examine(engine).await?;
        known.extend(traefik.clone().map(|traefik| (identity, traefik)));
        Ok(traefik)
    }
}

/// How a Traefik reads Docker.
#[derive(Clone)]
pub enum Reads {
    /// Through a socket proxy, to which it has an open event stream.
    SocketProxy(Box<SocketProxy>),
    /// From a socket at this path in its container.
    Socket(String),
    /// From somewhere else, such as another maker's proxy: the endpoint.
    Other(String),
    /// Not at all: its Docker provider is off.
    Nothing,
}

/// A Traefik container as the engine's list and the socket proxies show it, before it is inspected.
pub struct Sighting {
    pub summary: ContainerSummary,
    /// The socket proxy that it reads through, and as which of its readers.
    pub through: Option<(Box<SocketProxy>, Reader)>,
}

impl TraefikContainer {
    /// Whether it is configured to read through one of these socket proxies, and does not do so now.
    pub fn is_meant_for<'a>(&self, found: impl Iterator<Item = &'a SocketProxy>) -> bool {
        let Reads::Other(endpoint) = &self.reads else {
            return false;
        };
        self.at(endpoint, found).is_some()
    }

    /// The socket proxy that an endpoint leads this Traefik to.
    fn at<'a>(
        &self,
        endpoint: &str,
        mut found: impl Iterator<Item = &'a SocketProxy>,
    ) -> Option<&'a SocketProxy> {
        let host = endpoint.strip_prefix("tcp://").unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let near =
            |own: &&SocketProxy| self.network_names().any(|name| own.networks.contains(name));
        found.find(|own| near(own) && own.is_called(host))
    }

    /// Whether its Swarm provider reads a socket in its container, so no change of a socket proxy reaches it.
    pub fn swarm_by_socket(&self) -> bool {
        let given = docker_host(environment(&self.inspect))
            .filter(|_| self.version.is_none_or(Version::reads_docker_host));
        let endpoint = given.or(self.config.swarm.as_deref());
        endpoint.is_some_and(|own| own.starts_with("unix://"))
    }

    /// The name of the socket proxy that its Swarm provider reads through.
    pub fn swarm_through(&self, found: &[SocketProxy]) -> Option<String> {
        let own = self.config.swarm.as_deref()?;
        let given = docker_host(environment(&self.inspect))
            .filter(|_| self.version.is_none_or(Version::reads_docker_host));
        let found = match (&self.reads, given) {
            (Reads::SocketProxy(through), Some(_)) => Some(&**through),
            _ => self.at(given.unwrap_or(own), found.iter()),
        };
        found.map(|own| own.control.name.clone())
    }

    /// Whether `DOCKER_HOST` gives the endpoint, which this version ignores.
    pub fn ignores_docker_host(&self) -> bool {
        docker_host(environment(&self.inspect)).is_some()
            && self.version.is_some_and(|own| !own.reads_docker_host())
            && !matches!(self.reads, Reads::SocketProxy(..))
    }

    /// The line that makes it read through a socket proxy.
    pub fn how_to_read(&self, project: &str) -> String {
        match self.version {
            _ if self.config.swarm.is_some() => self.how_to_add(project),
            Some(version) if !version.reads_docker_host() => {
                self.config.how_to_add(&advice::endpoint(advice::SERVICE))
            }
            _ => format!("add {} to Traefik's environment", advice::docker_host()),
        }
    }

    /// What to add so that it reads through the socket proxy; `project` is the one that is rolled.
    pub fn how_to_add(&self, project: &str) -> String {
        let service = self.label(label::COMPOSE_SERVICE);
        let own = self.label(label::COMPOSE_PROJECT);
        let folder = self.label(label::COMPOSE_DIRECTORY);
        let namespace = match &self.holder {
            Some(holder) => holder.namespace(),
            None => Namespace::of_mode(network_mode(&self.inspect)),
        };
        let reader = advice::Reader {
            service: service.unwrap_or("traefik"),
            config: Some(&self.config),
            reads_docker_host: self.version.is_none_or(Version::reads_docker_host),
            namespace,
            folder: folder.filter(|_| own != Some(project)),
        };
        advice::how_to_add(advice::IMAGE, &reader)
    }

    fn network_names(&self) -> impl Iterator<Item = &String> {
        let settings = self.inspect.network_settings.as_ref();
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        networks.into_iter().flat_map(|networks| networks.keys())
    }

    /// The networks that it is in, and looks names up in. `None` in the host's: from there every bridge is reached.
    pub fn networks(&self) -> Option<BTreeSet<String>> {
        let is_in_the_hosts = network_mode(&self.inspect) == Some("host");
        (!is_in_the_hosts).then(|| self.network_names().cloned().collect())
    }

    /// Whether a container is this Traefik, or lends it its network namespace.
    pub fn is_part(&self, id: &str) -> bool {
        self.id == id || self.holder.as_ref().is_some_and(|own| own.id == id)
    }

    /// A label of its container.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.inspect.config.as_ref()?.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }
}

impl Sighting {
    pub fn name(&self) -> String {
        name(&self.summary)
    }

    /// The container and its addresses: what is known of its API holds as long as this is the same.
    pub fn identity(&self) -> String {
        let mut addresses: Vec<&str> = addresses_of(&self.summary).collect();
        addresses.sort_unstable();
        let id = self.summary.id.as_deref().unwrap_or_default();
        format!("{id} {}", addresses.join(" "))
    }

    /// Inspects it; `None` where it has ended meanwhile.
    pub async fn examine(&self, engine: &Engine) -> Result<Option<TraefikContainer>> {
        let id = self.summary.id.clone().unwrap_or_default();
        let Some(mut inspect) = engine.inspect(&id).await? else {
            return Ok(None);
        };
        let holder = in_namespace(engine, &mut inspect).await?;
        let (config, unread) = match static_config(engine, &id, &inspect).await? {
            Ok(config) => (config, None),
            Err(why) => (StaticConfig::default(), Some(why)),
        };
        let version = version(&inspect, self.through.as_ref().map(|(_, reader)| reader));
        let host = docker_host(environment(&inspect))
            .filter(|_| version.is_none_or(Version::reads_docker_host));
        let reads = match &self.through {
            Some((found, _)) => Reads::SocketProxy(found.clone()),
            None => reads(&config, unread.is_some(), host),
        };
        Ok(Some(TraefikContainer {
            version,
            name: self.name(),
            identity: self.identity(),
            id,
            inspect,
            config,
            unread,
            reads,
            holder,
        }))
    }
}

fn network_mode(inspect: &ContainerInspectResponse) -> Option<&str> {
    inspect.host_config.as_ref()?.network_mode.as_deref()
}

/// Gives a container that is in another's network namespace that one's networks, addresses and published ports.
async fn in_namespace(
    engine: &Engine,
    inspect: &mut ContainerInspectResponse,
) -> Result<Option<Holder>> {
    let mode = |own: &ContainerInspectResponse| network_mode(own).map(str::to_owned);
    let mut last = None;
    let mut next = mode(inspect);
    for _ in 0..MAX_STEPS {
        let Some(id) = target(next.as_deref()) else {
            break;
        };
        let Some(holder) = engine.inspect(id).await? else {
            break;
        };
        next = mode(&holder);
        last = Some(holder);
    }
    let Some(holder) = last else {
        return Ok(None);
    };
    if let Some(config) = inspect
        .host_config
        .as_mut()
        .filter(|_| next.as_deref() == Some("host"))
    {
        config.network_mode = next;
    }
    inspect.network_settings = holder.network_settings;
    let labels = holder
        .config
        .and_then(|config| config.labels)
        .unwrap_or_default();
    let own = inspect
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref());
    let project = own.and_then(|own| own.get(label::COMPOSE_PROJECT));
    let is_own = project.is_some() && project == labels.get(label::COMPOSE_PROJECT);
    Ok(Some(Holder {
        id: holder.id.unwrap_or_default(),
        name: holder
            .name
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned(),
        service: labels
            .get(label::COMPOSE_SERVICE)
            .filter(|_| is_own)
            .cloned(),
    }))
}

/// Reads what its Traefik reads; the inner error is why its configuration file is none.
async fn static_config(
    engine: &Engine,
    id: &str,
    inspect: &ContainerInspectResponse,
) -> Result<Result<StaticConfig, String>> {
    let program = inspect.path.iter().cloned();
    let command: Vec<String> = program
        .chain(inspect.args.clone().unwrap_or_default())
        .collect();
    let arguments = arguments(&command);
    let given = Given {
        arguments: &arguments,
        environment: environment(inspect),
        file: None,
    };
    let config = inspect.config.as_ref();
    let working_dir = config.and_then(|config| config.working_dir.as_deref());
    for path in candidates(given, working_dir.unwrap_or_default()) {
        if let Some(bytes) = engine.read_file(id, &path).await? {
            let text = String::from_utf8_lossy(&bytes);
            let file = Some((path.as_str(), text.as_ref()));
            return Ok(read(Given { file, ..given }));
        }
    }
    Ok(read(given))
}

fn environment(inspect: &ContainerInspectResponse) -> &[String] {
    let config = inspect.config.as_ref();
    let environment = config.and_then(|config| config.env.as_deref());
    environment.unwrap_or_default()
}

/// `DOCKER_HOST`, where it is set.
fn docker_host(environment: &[String]) -> Option<&str> {
    let mut variables = environment.iter();
    let host = variables.find_map(|variable| variable.strip_prefix("DOCKER_HOST="));
    host.filter(|host| !host.is_empty())
}

/// `DOCKER_HOST` in Traefik's environment wins over its own option (`pkg/provider/docker/shared.go`, `client.FromEnv`).
fn reads(config: &StaticConfig, unread: bool, docker_host: Option<&str>) -> Reads {
    let docker = config.docker.as_ref();
    let own = docker.map_or("unix:///var/run/docker.sock", |docker| &docker.endpoint);
    if docker.is_none() && !unread {
        return Reads::Nothing;
    }
    let endpoint = docker_host.unwrap_or(own);
    match endpoint.strip_prefix("unix://") {
        Some(path) => Reads::Socket(path.to_owned()),
        None => Reads::Other(endpoint.to_owned()),
    }
}

/// As its User-Agent says it, else its image. What an image of another name says is its own version, not Traefik's.
fn version(inspect: &ContainerInspectResponse, reader: Option<&Reader>) -> Option<Version> {
    let config = inspect.config.as_ref()?;
    let label = |key: &str| config.labels.as_ref()?.get(key);
    let image = config.image.as_deref().unwrap_or_default();
    let is_named = name_and_tag(image).0 == "traefik";
    let title = label("org.opencontainers.image.title");
    let is_traefik = is_named || title.is_some_and(|own| own.eq_ignore_ascii_case("traefik"));
    let label = label("org.opencontainers.image.version").filter(|_| is_traefik);
    reader
        .and_then(|reader| reader.user_agent.parse().ok())
        .or_else(|| label?.parse().ok())
        .or_else(|| tagged_version(image).filter(|_| is_named))
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerConfig;

    use super::*;

    #[test]
    fn the_folder_of_a_traefik_of_another_project_is_that_of_its_labels() {
        let labels = [
            (label::COMPOSE_PROJECT, "edge"),
            (label::COMPOSE_DIRECTORY, "/srv/edge"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = ContainerConfig {
            labels: Some(labels.into()),
            ..ContainerConfig::default()
        };
        let traefik = TraefikContainer {
            inspect: ContainerInspectResponse {
                config: Some(config),
                ..ContainerInspectResponse::default()
            },
            ..TraefikContainer::of_arguments("edge-traefik-1", "--providers.docker")
        };
        assert!(traefik.how_to_add("shop").contains("/srv/edge"));
        assert!(!traefik.how_to_add("edge").contains("/srv/edge"));
    }

    #[test]
    fn a_version_is_what_an_image_of_traefik_says_and_no_more() {
        let said = |image: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter();
            let labels = labels.map(|(key, value)| {
                (
                    format!("org.opencontainers.image.{key}"),
                    (*value).to_owned(),
                )
            });
            let config = ContainerConfig {
                image: Some(image.to_owned()),
                labels: Some(labels.collect()),
                ..ContainerConfig::default()
            };
            let inspect = ContainerInspectResponse {
                config: Some(config),
                ..ContainerInspectResponse::default()
            };
            version(&inspect, None).map(|own| own.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(said("traefik:v3.7", &[]), is("3.7"));
        assert_eq!(
            said("registry:5000/x/traefik:v2.11.3@sha256:0", &[]),
            is("2.11.3")
        );
        assert_eq!(said("traefik:latest", &[]), None);
        assert_eq!(
            said("traefik:latest", &[("version", "v3.7.15")]),
            is("3.7.15")
        );
        assert_eq!(said("corp/edge:1.2", &[("version", "1.2")]), None);
        let inherited = [("title", "Traefik"), ("version", "v3.6.1")];
        assert_eq!(said("corp/edge:1.2", &inherited), is("3.6.1"));
    }
}
