//! Finds the socket proxies, the Traefiks that read through them, and the API of each.

mod containers;
mod in_front;
mod socket_proxies;
mod summary;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bollard::models::ContainerSummary;
use tokio::time::Instant;

pub(in crate::proxy) use self::socket_proxies::among;
pub use self::{
    containers::{Holder, Inspected, Reads, TraefikContainer, sightings, traefiks},
    in_front::{Wanted, concerns, refuse_lost, refuse_unwatched},
    socket_proxies::{Found, showing},
    summary::{image_name, looks_like_traefik, tagged_version},
};
use super::reach::named;

use super::{
    Traefik,
    advice::{self, Reader as Advised},
    api::Api,
    control::Control,
    others::Others,
};
use crate::{
    check::Check,
    context::ServiceContext,
    engine::{
        Engine,
        shared::holder,
        summary::{is_in_the_hosts_network, name, reaches},
    },
    error::{Error, Result},
    model::{ContainerId, Replica, ServiceKey},
    overlay::control::Reader,
    proxy::landscape::Landscape,
    settings::Settings,
};

/// What has to be added to a stack whose Traefik reads the engine's socket itself, as that Traefik wants it.
fn how_to_add(traefik: Option<&TraefikContainer>, project: &str) -> String {
    let lines = match traefik {
        Some(traefik) => traefik.how_to_add(project),
        None => advice::how_to_add(advice::IMAGE, &Advised::default()),
    };
    format!("{lines}\n      or go on without an atomic cutover: --allow-split")
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

/// The Traefiks in front of a service, ready to be asked; refused where there is no way to move traffic at once.
///
/// `all` are those that share a network with it, and have to do with it.
pub async fn traefik(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
) -> Result<Traefik> {
    let ServiceContext { key, settings, .. } = context;
    let (engine, found) = (&landscape.engine, &landscape.socket_proxies);
    let (running, networks) = (&landscape.running, context.networks());
    let answers = landscape.ask_all(showing(found)).await;
    let readers = readers(answers, running, &networks)?;
    if !settings.ignores(Check::Switch) {
        refuse_bypass(all, &key.project)?;
    }
    if readers.is_empty() {
        return Err(no_reader(key, found, all, running));
    }
    let by_url = !settings.traefik_url.is_empty();
    let apis = match by_url {
        false => apis(engine, all, settings).await?,
        true => named_apis(settings, all).await?,
    };
    let reads = |found: &&Found| {
        readers
            .iter()
            .any(|(own, _)| own.container == found.control.container)
    };
    let matter =
        showing(found).filter(|found| reads(found) || may_matter(found, running, &networks));
    let controls: Vec<Control> = matter.clone().map(|found| found.control.clone()).collect();
    let lookout = Lookout::new(context, landscape, matter.cloned().collect());
    let lookout = (!by_url).then_some(lookout);
    let others = Others::new(engine, key);
    let mut traefik = Traefik::new(key.clone(), context.epoch, controls, apis, lookout, others);
    traefik.get_acquainted(&context.olds).await?;
    Ok(traefik)
}

/// For how long what a look has found holds. A Traefik that has come since then reads the routing as it is now.
const LOOK: Duration = Duration::from_secs(1);

/// Finds the Traefiks again, which may have come, gone, or got another address since the rollout began.
pub struct Lookout {
    engine: Engine,
    settings: Settings,
    found: Vec<Found>,
    networks: BTreeSet<String>,
    wanted: Wanted,
    olds: Vec<Replica>,
    looked: Option<Instant>,
}

/// What a lookout has seen.
pub struct View {
    /// Each Traefik in front of the service that was not known before.
    pub fresh: Vec<TraefikContainer>,
    /// The names of all containers that run.
    pub running: BTreeSet<String>,
    at: Instant,
}

impl Lookout {
    /// For the Traefiks that read through one of these socket proxies, or the engine's socket itself.
    pub fn new(context: &ServiceContext<'_>, landscape: &Landscape, found: Vec<Found>) -> Self {
        Self {
            engine: landscape.engine.clone(),
            settings: context.settings.clone(),
            found,
            networks: context.networks(),
            wanted: Wanted::of(context),
            olds: context.olds.clone(),
            looked: Some(landscape.read_at),
        }
    }

    /// Looks again; `None` where the last look still holds. `known` are identities.
    pub async fn look(&self, known: &BTreeSet<String>) -> Result<Option<View>> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(None);
        }
        let at = Instant::now();
        let running = self.engine.running().await?;
        let mut fresh = Vec::new();
        for sighting in sightings(&running, &self.found, &self.networks).await? {
            if known.contains(&sighting.identity()) {
                continue;
            }
            let traefik = sighting.examine(&self.engine).await?;
            fresh.extend(traefik.filter(|own| concerns(own, &self.wanted, &self.olds)));
        }
        let running = running.iter().map(name).collect();
        Ok(Some(View { fresh, running, at }))
    }

    /// Each Traefik of a view has been taken in.
    pub fn keep(&mut self, view: &View) {
        self.looked = Some(view.at);
    }

    /// The API of a Traefik that a look has found.
    pub async fn api(&self, traefik: &TraefikContainer) -> Result<Arc<Api>> {
        traefik.api(&self.engine, &self.settings).await
    }

    /// The last look holds no more: the routing has changed since, or a Traefik does not answer.
    pub fn expire(&mut self) {
        self.looked = None;
    }
}

/// The Traefiks that read through a socket proxy now and share a network with the service: no other is in front of it.
fn readers(
    answers: Vec<(&Found, Result<Vec<Reader>>)>,
    running: &[ContainerSummary],
    networks: &BTreeSet<String>,
) -> Result<Vec<(Control, Reader)>> {
    let container = |id: &str| running.iter().find(|own| own.id.as_deref() == Some(id));
    let mut readers = Vec::new();
    for (found, answer) in answers {
        match answer {
            Ok(all) => readers.extend(all.into_iter().map(|own| (found.control.clone(), own))),
            Err(error) if may_matter(found, running, networks) => return Err(error),
            // Another stack of this engine is just being started or taken down.
            Err(error) => tracing::info!(%error, "a socket proxy of another stack"),
        }
    }
    for (_, reader) in &mut readers {
        if let Some(own) = &mut reader.container
            && let Some(traefik) = traefik_within(&own.id, running)
        {
            own.id = traefik.id.clone().unwrap_or_default();
            own.name = name(traefik);
        }
    }
    readers.retain(|(_, reader)| {
        let container = reader.container.as_ref().and_then(|own| container(&own.id));
        let in_front = match &reader.container {
            Some(_) => container.is_some_and(|own| reaches(own, networks)),
            None => true,
        };
        // Before 3.6.1, a Traefik's User-Agent is that of any Go program.
        let is_traefik = is_traefik(reader) || container.is_some_and(looks_like_traefik);
        in_front && reader.streams > 0 && is_traefik
    });
    Ok(readers)
}

/// The Traefik in the network namespace of another container, which has the address that its reads come from.
fn traefik_within<'a>(id: &str, running: &'a [ContainerSummary]) -> Option<&'a ContainerSummary> {
    let is = |own: &ContainerSummary| own.id.as_deref() == Some(id);
    if running.iter().any(|own| is(own) && looks_like_traefik(own)) {
        return None;
    }
    let within = |own: &&ContainerSummary| holder(own, running).is_some_and(is);
    running
        .iter()
        .filter(|own| looks_like_traefik(own))
        .find(within)
}

/// Whether something that reaches the service can read through this socket proxy. What is in the host's network reaches
/// everything: of that, only a Traefik counts.
fn may_matter(found: &Found, running: &[ContainerSummary], networks: &BTreeSet<String>) -> bool {
    running
        .iter()
        .filter(|own| own.id.as_ref() != Some(&found.control.container))
        .filter(|own| !is_in_the_hosts_network(own) || looks_like_traefik(own))
        .any(|own| reaches(own, networks) && reaches(own, &found.networks))
}

/// Whether a reader is a Traefik, by what it says of itself.
pub fn is_traefik(reader: &Reader) -> bool {
    reader.user_agent.contains("Traefik")
}

/// Names a socket proxy of another project only where a Traefik in front of the service could read through it.
fn no_reader(
    key: &ServiceKey,
    found: &[Found],
    all: &[TraefikContainer],
    running: &[ContainerSummary],
) -> Error {
    let own = |found: &&Found| found.project.as_ref() == Some(&key.project);
    let is_in_front = |own: &&ContainerSummary| {
        let mut fronts = all.iter();
        fronts.any(|front| own.id.as_ref() == Some(&front.id))
    };
    let near = |found: &&Found| {
        let mut fronts = running.iter().filter(is_in_front);
        fronts.any(|front| reaches(front, &found.networks))
    };
    match found.iter().find(own).or_else(|| found.iter().find(near)) {
        None if all.is_empty() => no_traefik(&key.service),
        None => Error::refused("Traefik does not read through a socket proxy: none runs beside it")
            .hint(how_to_add(all.first(), &key.project)),
        Some(found) => Error::refused(format!(
            "no Traefik in front of {} has an open event stream to a socket proxy such as {}",
            key.service, found.control.name
        ))
        .hint(match all.iter().find(|own| own.config.swarm.is_some()) {
            Some(traefik) => traefik.how_to_add(&key.project),
            None => format!(
                "see that Traefik runs, has {} in its environment, and shares a network with the socket proxy and one \
                 with the service; docker compose logs says what it tries",
                advice::docker_host()
            ),
        }),
    }
}

fn no_traefik(service: &str) -> Error {
    Error::refused(format!(
        "no Traefik on this engine reads the labels of {service}: none shares a network with it"
    ))
    .hint(format!(
        "where a Traefik elsewhere reads them (another host, traefik-kop), --proxy none rolls on health alone, with both \
         versions reachable for a while, and --strategy recreate stops the old version first; otherwise start Traefik, \
         and put it and {service} into one network"
    ))
}

/// The API of each Traefik that reads through a socket proxy.
async fn apis(
    engine: &Engine,
    traefiks: &[TraefikContainer],
    settings: &Settings,
) -> Result<Vec<Arc<Api>>> {
    let mut apis = Vec::new();
    for traefik in traefiks {
        if matches!(traefik.reads, Reads::SocketProxy(..)) {
            let api = traefik.api(engine, settings).await;
            apis.push(api.map_err(|error| error.of(Check::Api))?);
        }
    }
    match apis.is_empty() {
        false => Ok(apis),
        true => Err(Error::refused(
            "the Traefik that reads through the socket proxy is no container of this engine",
        )
        .hint("name its API with --traefik-url http://HOST:8080")),
    }
}

/// The APIs that the operator has named, of these Traefiks.
pub async fn named_apis(
    settings: &Settings,
    traefiks: &[TraefikContainer],
) -> Result<Vec<Arc<Api>>> {
    let apis = named(settings, traefiks).await?;
    Ok(apis.into_iter().map(Arc::new).collect())
}

/// A Traefik that reads the socket itself and shares a network with the service would see both sets at once.
fn refuse_bypass(traefiks: &[TraefikContainer], project: &str) -> Result<()> {
    let bypasses = |traefik: &&TraefikContainer| matches!(traefik.reads, Reads::Socket(_));
    match traefiks.iter().find(bypasses) {
        None => Ok(()),
        Some(traefik) if traefik.is_deaf() => Err(Error::refused(format!(
            "{} is a Traefik of before 3.6.1, which does not heed DOCKER_HOST",
            traefik.name
        ))
        .hint(traefik.how_to_read(project))
        .of(Check::Traefik)),
        Some(traefik) => Err(Error::refused(format!(
            "{} is a Traefik that does not read through a socket proxy",
            traefik.name
        ))
        .hint(how_to_add(Some(traefik), project))),
    }
}

/// Refuses to roll what carries the traffic of the rollout itself.
pub async fn refuse_own_parts(landscape: &Landscape, replicas: &[Replica]) -> Result<()> {
    let (found, running) = (&landscape.socket_proxies, &landscape.running);
    let is_replica = |id: &str| {
        replicas
            .iter()
            .any(|replica| replica.id == ContainerId(id.to_owned()))
    };
    let itself = |found: &&Found| is_replica(&found.control.container);
    if let Some(found) = found.iter().find(itself) {
        return Err(Error::refused(format!(
            "{} is the socket proxy that a rollout goes through",
            found.control.name
        ))
        .hint("docker compose up -d replaces it; Traefik keeps its last configuration meanwhile"));
    }
    // What reads through a socket proxy shares a network with it.
    let near = |found: &&Found| {
        let own = |own: &&ContainerSummary| own.id.as_deref().is_some_and(is_replica);
        let mut replicas = running.iter().filter(own);
        replicas.any(|own| reaches(own, &found.networks))
    };
    for (_, readers) in landscape.ask_all(found.iter().filter(near)).await {
        let readers = readers.unwrap_or_default();
        let traefik = readers
            .iter()
            .filter(|reader| is_traefik(reader))
            .filter_map(|reader| reader.container.as_ref())
            .flat_map(|own| {
                let within = traefik_within(&own.id, running);
                let within = within.and_then(|own| Some((own.id.clone()?, name(own))));
                [Some((own.id.clone(), own.name.clone())), within]
            })
            .flatten()
            .find(|(id, _)| is_replica(id));
        if let Some((_, traefik)) = traefik {
            return Err(Error::refused(format!(
                "{traefik} is the Traefik that a rollout goes through"
            ))
            .hint("docker compose up -d replaces it, with a short gap for everything behind it"));
        }
    }
    Ok(())
}
