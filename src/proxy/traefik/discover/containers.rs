//! Finds every Traefik container in front of a service, however it reads Docker, and how each is configured.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use futures_util::future::join_all;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    readers,
    socket_proxies::{Found, showing},
    summary::{image_name, looks_like_traefik, tagged_version},
};
use crate::{
    engine::{
        Engine,
        shared::{MAX_STEPS, target},
        summary::{addresses_of, name, reaches},
    },
    error::Result,
    model::label,
    overlay::control::Reader,
    proxy::{
        landscape::Landscape,
        traefik::{
            advice::{self, Namespace},
            api::Api,
            control::Control,
            reach::api_of,
            static_config::{Given, StaticConfig, arguments, candidates, read},
            version::Version,
        },
    },
    settings::Settings,
};

/// How long a Traefik may take to connect to a socket proxy that has been started anew: some of the tries of its
/// provider, whose pauses begin with half a second and grow (`pkg/job`).
const RECONNECT: Duration = Duration::from_secs(5);

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
    /// See [`Self::api`].
    pub(super) apis: Arc<Mutex<Vec<(Keys, FoundApi)>>>,
    /// The container whose network namespace it is in, where that is not its own.
    pub holder: Option<Holder>,
}

/// The files of user, password and certificates that an API is asked with.
type Keys = (Option<String>, Option<String>);

/// An API, or why there is no way to it.
type FoundApi = Result<Arc<Api>>;

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
    async fn examine(
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
    /// Through a socket proxy, to which it has an open event stream from this address.
    SocketProxy(Box<Found>, IpAddr),
    /// From a socket at this path in its container.
    Socket(String),
    /// From somewhere else, such as another maker's proxy: the endpoint.
    Other(String),
    /// Not at all: its Docker provider is off.
    Nothing,
}

/// A Traefik container as the engine's list and the socket proxies show it: little, but for one call.
pub struct Sighting {
    summary: ContainerSummary,
    through: Option<(Box<Found>, Reader)>,
}

/// Every Traefik container that runs and shares a network with the service, or is in the host's. One that is about to
/// connect to a socket proxy, which either of them has been started anew for, is given the time.
pub async fn traefiks(
    landscape: &mut Landscape,
    networks: &BTreeSet<String>,
) -> Result<Vec<TraefikContainer>> {
    let began = Instant::now();
    loop {
        let (engine, found) = (&landscape.engine, &landscape.socket_proxies);
        let mut all = Vec::new();
        for sighting in glances(landscape, networks).await? {
            all.extend(landscape.traefiks.examine(engine, &sighting).await?);
        }
        // What reads through a socket proxy of other projects never learns of the service.
        let elsewhere = || found.iter().filter(|own| !own.shows_project);
        all.retain(|own: &TraefikContainer| !own.is_told_of(elsewhere()));
        let comes = |own: &TraefikContainer| own.is_told_of(showing(found));
        if !all.iter().any(comes) || began.elapsed() >= RECONNECT {
            return Ok(all);
        }
        sleep(Duration::from_millis(250)).await;
        landscape.refresh().await?;
    }
}

/// The Traefiks in front of a service in these networks, at a glance.
async fn glances(landscape: &Landscape, networks: &BTreeSet<String>) -> Result<Vec<Sighting>> {
    let found = &landscape.socket_proxies;
    let answers = landscape.ask_all(showing(found)).await;
    sightings_of(&landscape.running, found, answers, networks)
}

/// The same as they are now, at a glance.
pub async fn sightings(
    running: &[ContainerSummary],
    found: &[Found],
    networks: &BTreeSet<String>,
) -> Result<Vec<Sighting>> {
    let asked = showing(found).map(async |found| (found, found.control.readers().await));
    sightings_of(running, found, join_all(asked).await, networks)
}

/// The same, from what the socket proxies have answered.
fn sightings_of(
    running: &[ContainerSummary],
    found: &[Found],
    answers: Vec<(&Found, Result<Vec<Reader>>)>,
    networks: &BTreeSet<String>,
) -> Result<Vec<Sighting>> {
    let readers = readers(answers, running, networks)?;
    let own = running.iter().filter(|own| reaches(own, networks));
    let sightings = own.filter_map(|summary| {
        let through = through(summary, found, &readers);
        (through.is_some() || looks_like_traefik(summary)).then(|| Sighting {
            summary: summary.clone(),
            through,
        })
    });
    Ok(sightings.collect())
}

fn through(
    summary: &ContainerSummary,
    found: &[Found],
    readers: &[(Control, Reader)],
) -> Option<(Box<Found>, Reader)> {
    let is = |reader: &Reader| {
        let container = reader.container.as_ref();
        container.is_some_and(|own| Some(&own.id) == summary.id.as_ref())
    };
    let (control, reader) = readers.iter().find(|(_, reader)| is(reader))?;
    let mut all = found.iter();
    let found = all.find(|found| found.control.container == control.container)?;
    Some((Box::new(found.clone()), reader.clone()))
}

impl TraefikContainer {
    /// Its API; the way to it is looked for once, for all services with the same keys.
    pub async fn api(&self, engine: &Engine, settings: &Settings) -> Result<Arc<Api>> {
        let keys = (
            settings.traefik_auth_file.clone(),
            settings.traefik_ca.clone(),
        );
        let mut apis = self.apis.lock().await;
        if let Some((_, known)) = apis.iter().find(|(own, _)| *own == keys) {
            return known.clone();
        }
        let api = api_of(engine, self, settings).await.map(Arc::new);
        apis.push((keys, api.clone()));
        api
    }

    /// Whether it is told to read through one of these socket proxies, and does not do so now.
    fn is_told_of<'a>(&self, found: impl Iterator<Item = &'a Found>) -> bool {
        let Reads::Other(endpoint) = &self.reads else {
            return false;
        };
        self.at(endpoint, found).is_some()
    }

    /// The socket proxy that an endpoint leads this Traefik to.
    fn at<'a>(
        &self,
        endpoint: &str,
        mut found: impl Iterator<Item = &'a Found>,
    ) -> Option<&'a Found> {
        let host = endpoint.strip_prefix("tcp://").unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let settings = self.inspect.network_settings.as_ref();
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let near = |own: &&Found| {
            let mut names = networks.into_iter().flat_map(|own| own.keys());
            names.any(|name| own.networks.contains(name))
        };
        found.find(|own| near(own) && own.is_called(host))
    }

    /// The name of the socket proxy that its Swarm provider reads through, and that passes none of its reads.
    pub fn swarm_through(&self, found: &[Found]) -> Option<String> {
        let own = self.config.swarm.as_deref()?;
        let given = docker_host(environment(&self.inspect))
            .filter(|_| self.version.is_none_or(Version::heeds_docker_host));
        let found = match (&self.reads, given) {
            (Reads::SocketProxy(through, _), Some(_)) => Some(&**through),
            _ => self.at(given.unwrap_or(own), found.iter()),
        };
        found.map(|own| own.control.name.clone())
    }

    /// Whether it was told by `DOCKER_HOST` where to read, which this version does not heed.
    pub fn is_deaf(&self) -> bool {
        docker_host(environment(&self.inspect)).is_some()
            && self.version.is_some_and(|own| !own.heeds_docker_host())
            && !matches!(self.reads, Reads::SocketProxy(..))
    }

    /// The line that makes it read through a socket proxy.
    pub fn how_to_read(&self, project: &str) -> String {
        match self.version {
            _ if self.config.swarm.is_some() => self.how_to_add(project),
            Some(version) if !version.heeds_docker_host() => {
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
        let mode = self.inspect.host_config.as_ref();
        let mode = mode.and_then(|config| config.network_mode.as_deref());
        let namespace = match &self.holder {
            Some(holder) => holder.namespace(),
            None => Namespace::of_mode(mode),
        };
        let reader = advice::Reader {
            service: service.unwrap_or("traefik"),
            config: Some(&self.config),
            heeds_docker_host: self.version.is_none_or(Version::heeds_docker_host),
            namespace,
            folder: folder.filter(|_| own != Some(project)),
        };
        advice::how_to_add(advice::IMAGE, &reader)
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

    /// Looks closer; `None` where it has ended meanwhile.
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
            .filter(|_| version.is_none_or(Version::heeds_docker_host));
        let reads = match &self.through {
            Some((found, reader)) => Reads::SocketProxy(found.clone(), reader.address),
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
            apis: Arc::default(),
            holder,
        }))
    }
}

/// Gives a container that is in another's network namespace that one's networks, addresses and published ports.
async fn in_namespace(
    engine: &Engine,
    inspect: &mut ContainerInspectResponse,
) -> Result<Option<Holder>> {
    let mode = |own: &ContainerInspectResponse| {
        let config = own.host_config.as_ref();
        config.and_then(|config| config.network_mode.clone())
    };
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
    let is_named = image_name(image) == "traefik";
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
