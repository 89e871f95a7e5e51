//! Finds the socket proxies, the Traefiks that read through them, and the API of each.

use std::collections::BTreeSet;

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::{Traefik, api::Api, control::Control};
use crate::{
    engine::Engine,
    error::{Error, Result},
    model::{ContainerId, Replica, ServiceKey, label},
    settings::Settings,
    socket_proxy::control::Reader,
};

/// Where Traefik's API answers unless its entrypoint `traefik` says otherwise.
const API_PORT: u16 = 8080;

/// What has to be added to a stack whose Traefik reads the engine's socket itself.
pub const HOW_TO_ADD: &str = "\
add three lines to the stack, and run docker compose up -d:
        a service:              socket-proxy: { image: 'rollout:latest', command: [socket-proxy], volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro'] }
        traefik's environment:  DOCKER_HOST: tcp://socket-proxy:2375
        traefik's command:      --api.insecure=true
      or go on without an atomic cutover: --allow-split";

/// A socket proxy that runs, and its image.
#[derive(Clone)]
pub struct Found {
    /// How to talk with it.
    pub control: Control,
    /// The id of its image, which holds this program.
    pub image: String,
    /// The Compose project that it is part of.
    project: Option<String>,
    networks: BTreeSet<String>,
}

impl Found {
    /// Whether something that reaches a container in these networks can read through it, or it is of the same project.
    pub fn concerns(
        &self,
        project: Option<&str>,
        running: &[ContainerSummary],
        networks: &BTreeSet<String>,
    ) -> bool {
        (project.is_some() && self.project.as_deref() == project)
            || may_matter(self, running, networks)
    }
}

/// Every socket proxy that runs on the engine, those of the service's own project first.
pub async fn socket_proxies(engine: &Engine, key: &ServiceKey) -> Result<Vec<Found>> {
    let running = engine.running().await?;
    let mut found: Vec<Found> = running
        .iter()
        .filter_map(|summary| socket_proxy(engine, summary))
        .collect();
    found.sort_by_key(|found| found.project.as_ref() != Some(&key.project));
    Ok(found)
}

/// A container is a socket proxy when it runs `rollout socket-proxy`, whatever it is called.
fn socket_proxy(engine: &Engine, summary: &ContainerSummary) -> Option<Found> {
    let command = summary.command.as_deref()?.trim_matches('"');
    let mut words = command.split_whitespace();
    let program = words.next()?;
    let is_ours =
        program.rsplit('/').next() == Some("rollout") && words.next() == Some("socket-proxy");
    let labels = summary.labels.as_ref();
    if !is_ours || labels.is_some_and(|labels| labels.contains_key(label::ROLE)) {
        return None;
    }
    let control = Control::new(
        engine.clone(),
        summary.id.clone()?,
        name(summary),
        program.to_owned(),
    );
    Some(Found {
        control,
        image: summary.image_id.clone()?,
        project: labels.and_then(|labels| labels.get(label::COMPOSE_PROJECT).cloned()),
        networks: networks_of(summary).cloned().collect(),
    })
}

/// A container's name, without a slash.
pub fn name(summary: &ContainerSummary) -> String {
    let names = summary.names.clone().unwrap_or_default();
    names
        .first()
        .map(|name| name.trim_start_matches('/').to_owned())
        .unwrap_or_default()
}

/// The Traefiks in front of a service, ready to be asked; refused where there is no way to move traffic at once.
pub async fn traefik(
    engine: &Engine,
    key: &ServiceKey,
    settings: &Settings,
    epoch: u64,
    found: &[Found],
    networks: &BTreeSet<String>,
    replicas: &[Replica],
) -> Result<Traefik> {
    let running = engine.running().await?;
    let readers = readers(found, &running, networks).await?;
    if !settings.allow_split {
        refuse_bypass(&running, &readers, networks)?;
    }
    if readers.is_empty() {
        return Err(no_reader(key, found));
    }
    let by_url = !settings.traefik_url.is_empty();
    let apis = match by_url {
        false => discover_apis(engine, &readers).await?,
        true => named_apis(&settings.traefik_url).await?,
    };
    let reads = |found: &&Found| {
        readers
            .iter()
            .any(|(own, _)| own.container == found.control.container)
    };
    let matter = found
        .iter()
        .filter(|found| reads(found) || may_matter(found, &running, networks));
    let controls: Vec<Control> = matter.clone().map(|found| found.control.clone()).collect();
    let lookout = Lookout {
        engine: engine.clone(),
        found: matter.cloned().collect(),
        networks: networks.clone(),
    };
    let lookout = (!by_url).then_some(lookout);
    let mut traefik = Traefik::new(key.clone(), epoch, controls, apis, lookout);
    traefik.get_acquainted(replicas).await?;
    Ok(traefik)
}

/// Finds the Traefiks again, which may have come, gone, or got another address since the rollout began.
pub struct Lookout {
    engine: Engine,
    found: Vec<Found>,
    networks: BTreeSet<String>,
}

impl Lookout {
    /// The API of each Traefik that reads now, and the names of all containers that run.
    pub async fn look(&self) -> Result<(Vec<Api>, BTreeSet<String>)> {
        let running = self.engine.running().await?;
        let readers = readers(&self.found, &running, &self.networks).await?;
        let names = running.iter().map(name).collect();
        Ok((apis(&self.engine, &readers).await?, names))
    }
}

/// The Traefiks that read through a socket proxy now and share a network with the service: no other is in front of it.
async fn readers(
    found: &[Found],
    running: &[ContainerSummary],
    networks: &BTreeSet<String>,
) -> Result<Vec<(Control, Reader)>> {
    let container = |id: &str| running.iter().find(|own| own.id.as_deref() == Some(id));
    let mut readers = Vec::new();
    for found in found {
        match found.control.readers().await {
            Ok(all) => readers.extend(all.into_iter().map(|own| (found.control.clone(), own))),
            Err(error) if may_matter(found, running, networks) => return Err(error),
            // Another stack of this engine is just being started or taken down.
            Err(error) => tracing::info!(%error, "a socket proxy of another stack"),
        }
    }
    readers.retain(|(_, reader)| {
        let in_front = match &reader.container {
            Some(own) => container(&own.id).is_some_and(|own| reaches(own, networks)),
            None => true,
        };
        in_front && reader.streams > 0 && is_traefik(reader)
    });
    Ok(readers)
}

/// Whether something that reaches the service can read through this socket proxy.
fn may_matter(found: &Found, running: &[ContainerSummary], networks: &BTreeSet<String>) -> bool {
    running
        .iter()
        .filter(|own| own.id.as_ref() != Some(&found.control.container))
        .any(|own| reaches(own, networks) && reaches(own, &found.networks))
}

/// Whether a reader is a Traefik, by what it says of itself.
pub fn is_traefik(reader: &Reader) -> bool {
    reader.user_agent.contains("Traefik")
}

fn no_reader(key: &ServiceKey, found: &[Found]) -> Error {
    let own = |found: &&Found| found.project.as_ref() == Some(&key.project);
    match found.iter().find(own).or(found.first()) {
        None => Error::refused(
            "Traefik does not read through a socket proxy: none runs on this engine",
        )
        .hint(HOW_TO_ADD),
        Some(found) => Error::refused(format!(
            "no Traefik in front of {} has an open event stream to a socket proxy such as {}",
            key.service, found.control.name
        ))
        .hint(
            "see that Traefik runs, has DOCKER_HOST: tcp://socket-proxy:2375 in its environment, and shares a \
             network with the socket proxy and one with the service; docker compose logs says what it tries",
        ),
    }
}

/// The APIs that the operator has named; what answers there may be something else.
async fn named_apis(urls: &[String]) -> Result<Vec<Api>> {
    let mut apis = Vec::new();
    for url in urls {
        let mut api = Api::direct(url)?;
        let version = api.version().await;
        version.map_err(|error| error.or_hint("check what --traefik-url names"))?;
        apis.push(api);
    }
    Ok(apis)
}

async fn apis(engine: &Engine, readers: &[(Control, Reader)]) -> Result<Vec<Api>> {
    let mut apis = Vec::new();
    for (control, reader) in readers {
        let Some(container) = &reader.container else {
            continue;
        };
        let port = match engine.inspect(&container.id).await? {
            Some(inspect) => api_port(&inspect),
            None => API_PORT,
        };
        let api = Api::through(
            container.name.clone(),
            reader.address,
            port,
            control.clone(),
        );
        apis.push(api);
    }
    Ok(apis)
}

async fn discover_apis(engine: &Engine, readers: &[(Control, Reader)]) -> Result<Vec<Api>> {
    let mut apis = apis(engine, readers).await?;
    for api in &mut apis {
        let version = api.version().await;
        version.map_err(|error| {
            Error::refused(format!(
                "the API of Traefik ({}) does not answer on port {}: {}",
                api.name,
                api.port(),
                error.message
            ))
            .hint(
                "add --api.insecure=true to Traefik's command, or name the API with --traefik-url",
            )
        })?;
    }
    if apis.is_empty() {
        return Err(Error::refused(
            "the Traefik that reads through the socket proxy is no container of this engine",
        )
        .hint("name its API with --traefik-url http://HOST:8080"));
    }
    Ok(apis)
}

/// The port of the entrypoint `traefik` in the arguments or the environment.
fn api_port(inspect: &ContainerInspectResponse) -> u16 {
    let config = inspect.config.as_ref();
    let arguments = inspect.args.iter().flatten();
    let command = config
        .and_then(|config| config.cmd.as_ref())
        .into_iter()
        .flatten();
    let environment = config
        .and_then(|config| config.env.as_ref())
        .into_iter()
        .flatten();
    let given = arguments
        .chain(command)
        .chain(environment)
        .find_map(|text| {
            let (key, value) = text.trim_start_matches('-').split_once('=')?;
            let key = key.to_ascii_lowercase().replace('_', ".");
            matches!(
                key.as_str(),
                "entrypoints.traefik.address" | "traefik.entrypoints.traefik.address"
            )
            .then_some(value)
        });
    given
        .and_then(|address| address.rsplit(':').next()?.split('/').next()?.parse().ok())
        .unwrap_or(API_PORT)
}

/// A Traefik that reads the socket itself and shares a network with the service would see both sets at once.
fn refuse_bypass(
    running: &[ContainerSummary],
    readers: &[(Control, Reader)],
    networks: &BTreeSet<String>,
) -> Result<()> {
    let reads = |id: &Option<String>| {
        readers.iter().any(|(_, reader)| {
            reader
                .container
                .as_ref()
                .is_some_and(|own| Some(&own.id) == id.as_ref())
        })
    };
    let bypasses = |summary: &&ContainerSummary| {
        !reads(&summary.id)
            && looks_like_traefik(summary)
            && mounts_the_socket(summary)
            && reaches(summary, networks)
    };
    match running.iter().find(bypasses) {
        None => Ok(()),
        Some(summary) => {
            let name = name(summary);
            Err(Error::refused(format!(
                "{name} is a Traefik that does not read through a socket proxy"
            ))
            .hint(HOW_TO_ADD))
        }
    }
}

/// Whether a container can open connections to a service in these networks; one in the host's network can always.
fn reaches(summary: &ContainerSummary, networks: &BTreeSet<String>) -> bool {
    let mode = summary
        .host_config
        .as_ref()
        .and_then(|config| config.network_mode.as_deref());
    mode == Some("host") || networks_of(summary).any(|network| networks.contains(network))
}

fn networks_of(summary: &ContainerSummary) -> impl Iterator<Item = &String> {
    let settings = summary.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flat_map(|networks| networks.keys())
}

fn looks_like_traefik(summary: &ContainerSummary) -> bool {
    let image = summary.image.as_deref().unwrap_or_default();
    let repository = image
        .split('@')
        .next()
        .unwrap_or_default()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let command = summary
        .command
        .as_deref()
        .unwrap_or_default()
        .trim_matches('"');
    let program = command
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .rsplit('/')
        .next()
        .unwrap_or_default();
    repository.split(':').next() == Some("traefik") || program == "traefik"
}

fn mounts_the_socket(summary: &ContainerSummary) -> bool {
    let mounts = summary.mounts.iter().flatten();
    mounts
        .flat_map(|mount| [&mount.source, &mount.destination])
        .flatten()
        .any(|path| path.ends_with("docker.sock"))
}

/// Refuses to roll what carries the traffic of the rollout itself.
pub async fn refuse_own_parts(found: &[Found], replicas: &[Replica]) -> Result<()> {
    let is_replica = |id: &str| {
        replicas
            .iter()
            .any(|replica| replica.id == ContainerId(id.to_owned()))
    };
    for found in found {
        if is_replica(&found.control.container) {
            return Err(Error::refused(format!(
                "{} is the socket proxy that a rollout goes through",
                found.control.name
            ))
            .hint(
                "docker compose up -d replaces it; Traefik keeps its last configuration meanwhile",
            ));
        }
        let readers = found.control.readers().await.unwrap_or_default();
        let traefik = readers
            .iter()
            .filter(|reader| is_traefik(reader))
            .filter_map(|reader| reader.container.as_ref())
            .find(|own| is_replica(&own.id));
        if let Some(traefik) = traefik {
            return Err(Error::refused(format!(
                "{} is the Traefik that a rollout goes through",
                traefik.name
            ))
            .hint("docker compose up -d replaces it, with a short gap for everything behind it"));
        }
    }
    Ok(())
}
