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
const HOW_TO_ADD: &str = "\
add a socket proxy beside Traefik, and let Traefik read through it:
  socket-proxy: { image: 'rollout:latest', command: [socket-proxy], volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro'] }
  traefik:      { environment: { DOCKER_HOST: 'tcp://socket-proxy:2375' } }
or go on without an atomic cutover: --allow-split";

/// A socket proxy that runs, and its image.
pub struct Found {
    /// How to talk with it.
    pub control: Control,
    /// The id of its image, which holds this program.
    pub image: String,
}

/// Every socket proxy that runs on the engine.
pub async fn socket_proxies(engine: &Engine) -> Result<Vec<Found>> {
    let running = engine.running().await?;
    Ok(running
        .iter()
        .filter_map(|summary| socket_proxy(engine, summary))
        .collect())
}

/// A container is a socket proxy when it runs `rollout socket-proxy`, whatever it is called.
fn socket_proxy(engine: &Engine, summary: &ContainerSummary) -> Option<Found> {
    let command = summary.command.as_deref()?.trim_matches('"');
    let mut words = command.split_whitespace();
    let program = words.next()?;
    let is_ours =
        program.rsplit('/').next() == Some("rollout") && words.next() == Some("socket-proxy");
    let own = summary
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(label::ROLE));
    if !is_ours || own {
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
    })
}

fn name(summary: &ContainerSummary) -> String {
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
    found: Vec<Found>,
    networks: &BTreeSet<String>,
    replicas: &[Replica],
) -> Result<Traefik> {
    if found.is_empty() {
        return Err(Error::refused(
            "Traefik does not read through a socket proxy: none runs on this engine",
        )
        .hint(HOW_TO_ADD));
    }
    let mut readers = Vec::new();
    for found in &found {
        let own = match found.control.readers().await {
            Ok(own) => own,
            // Another project's, which has gone since the engine was asked, has no readers that matter.
            Err(_) if !is_running(engine, &found.control.container).await? => continue,
            Err(error) => return Err(error),
        };
        readers.extend(
            own.into_iter()
                .map(|reader| (found.control.clone(), reader)),
        );
    }
    readers.retain(|(_, reader)| reader.streams > 0 && reader.user_agent.contains("Traefik"));
    let running = engine.running().await?;
    // A Traefik that shares no network with the service cannot be the one in front of it.
    readers.retain(|(_, reader)| match &reader.container {
        Some(container) => running
            .iter()
            .filter(|own| own.id.as_ref() == Some(&container.id))
            .any(|own| reaches(own, networks)),
        None => true,
    });
    if !settings.allow_split {
        refuse_bypass(&running, &readers, networks)?;
    }
    let names: Vec<&str> = found
        .iter()
        .map(|found| found.control.name.as_str())
        .collect();
    if readers.is_empty() {
        return Err(Error::refused(format!(
            "no Traefik has an open event stream to the socket proxy {}",
            names.join(", ")
        ))
        .hint("set DOCKER_HOST=tcp://socket-proxy:2375 in Traefik's environment, share a network with it, and see `docker logs` of Traefik"));
    }
    let apis = match settings.traefik_url.is_empty() {
        true => discover_apis(engine, &readers).await?,
        false => settings
            .traefik_url
            .iter()
            .map(|url| Api::direct(url))
            .collect::<Result<_>>()?,
    };
    let controls = found.into_iter().map(|found| found.control);
    let controls = controls.filter(|control| {
        readers
            .iter()
            .any(|(own, _)| own.container == control.container)
    });
    let mut traefik = Traefik::new(key.clone(), epoch, controls.collect(), apis);
    traefik.get_acquainted(replicas).await?;
    Ok(traefik)
}

async fn is_running(engine: &Engine, container: &str) -> Result<bool> {
    let state = engine
        .inspect(container)
        .await?
        .and_then(|inspect| inspect.state);
    Ok(state.is_some_and(|state| state.running == Some(true)))
}

async fn discover_apis(engine: &Engine, readers: &[(Control, Reader)]) -> Result<Vec<Api>> {
    let mut apis = Vec::new();
    for (control, reader) in readers {
        let Some(container) = &reader.container else {
            continue;
        };
        let port = match engine.inspect(&container.id).await? {
            Some(inspect) => api_port(&inspect),
            None => API_PORT,
        };
        let mut api = Api::through(
            container.name.clone(),
            reader.address,
            port,
            control.clone(),
        );
        api.version().await.map_err(|error| {
            Error::refused(format!(
                "the API of Traefik ({}) does not answer on port {port}: {}",
                container.name, error.message
            ))
            .hint(
                "add --api.insecure=true to Traefik's command, or name the API with --traefik-url",
            )
        })?;
        apis.push(api);
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
    let own = summary
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    mode == Some("host")
        || own.is_some_and(|own| own.keys().any(|network| networks.contains(network)))
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
