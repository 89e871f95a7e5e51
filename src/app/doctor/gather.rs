//! Gathers the facts for the checks: every question to the engine, Compose and Traefik.

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use futures_util::future::join_all;

use super::super::opened::Opened;
use crate::{
    cli::DoctorArgs,
    compose::Service,
    context::{Beside, ServiceContext},
    docker::engine::{
        Engine,
        summary::{self, networks_of},
    },
    doctor::{self, Facts, Part, Reads, ServiceFacts, SocketProxyFacts, TraefikFacts},
    error::Result,
    event::Events,
    here::Here,
    model::{Replica, Run, ServiceKey, label},
    proxy::{
        landscape::Landscape,
        socket_proxies::SocketProxy,
        traefik::{
            config::{Reads as Reading, TraefikContainer},
            discover::{self, Wanted, concerns, neighbours, new_versions},
            labels::wants_traefik,
            watched_directory,
        },
    },
    roll::Examined,
    state::lock,
};

/// The usual paths of programs that can request a page.
const PROGRAMS: [&str; 4] = ["/usr/bin/wget", "/bin/wget", "/usr/bin/curl", "/bin/curl"];

/// Asks the engine, Compose's project, and every Traefik in front of the named services, or of all services.
pub async fn facts(asked: &DoctorArgs, opened: &Opened) -> Result<Facts> {
    let Opened {
        engine,
        compose,
        project,
    } = opened;
    let services: Vec<&Service> = match asked.services.is_empty() {
        true => project.services.values().collect(),
        false => {
            let named = asked.services.iter().map(|name| project.service(name));
            named.collect::<Result<_>>()?
        }
    };
    // The notices of a rollout are findings here.
    let silent = Events::new(Vec::new());
    let run = opened.run(&silent);
    let mut landscape = Landscape::read(engine, &project.name).await?;
    let ids = landscape.running.iter().filter_map(|own| own.id.as_deref());
    let inspects = join_all(ids.map(|id| engine.inspect(id))).await;
    let inspects: Vec<ContainerInspectResponse> =
        inspects.into_iter().flatten().flatten().collect();
    let found = landscape.socket_proxies.iter();
    let found = found.map(|own| proxy_facts(own, &landscape.running, opened));
    let mut facts = Facts {
        engine: engine.about().await?,
        compose: compose.version().to_owned(),
        project: project.clone(),
        traefiks: Vec::new(),
        socket_proxies: join_all(found).await,
        other_versions: landscape.other_versions().await,
        services: Vec::new(),
    };
    let here = Here::find(engine).await;
    let mut beside = Beside::default();
    for service in services {
        let (settings, before) = (&asked.settings, beside.clone());
        let examined = run.examine(service, settings, before, &mut landscape, &inspects);
        let examined = examined.await?;
        let fronts = Fronts::of(&examined.context, &mut landscape).await?;
        for traefik in &fronts.traefiks {
            if facts.traefiks.iter().all(|own| own.name != traefik.name) {
                let facts_of_it =
                    traefik_facts(traefik, &landscape, opened, &examined.context).await;
                facts.traefiks.push(facts_of_it);
            }
        }
        let mut of_it = service_facts(examined, &fronts, &landscape).await?;
        of_it.lost_binds = here.lost_binds(project, service);
        if !of_it.runs_once && of_it.replicas > 0 {
            let labels = of_it.labels.clone();
            beside.new.insert(service.name.clone(), labels);
        }
        facts.services.push(of_it);
    }
    Ok(facts)
}

/// The Traefiks near a service.
struct Fronts {
    /// Whether its containers are a Traefik themselves.
    is_traefik: bool,
    /// Whether no Traefik shares a network with it.
    is_alone: bool,
    /// Every Traefik in front of it.
    traefiks: Vec<TraefikContainer>,
}

impl Fronts {
    async fn of(context: &ServiceContext<'_>, landscape: &mut Landscape) -> Result<Self> {
        let olds = &context.olds;
        let wanted = Wanted::of(context);
        let mut networks = context.networks();
        networks.extend(shared_networks(landscape, olds));
        let mut traefiks = discover::traefiks(landscape, &networks).await?;
        let is_old = |own: &TraefikContainer| olds.iter().any(|old| own.is_part(&old.id.0));
        let is_traefik = traefiks.iter().any(is_old);
        let is_alone = traefiks.is_empty();
        traefiks.retain(|own| is_old(own) || concerns(own, &wanted, olds));
        // One without the Docker provider routes by no labels, and matters only where there is no other.
        let reads_labels = |own: &TraefikContainer| own.config.docker.is_some();
        if traefiks.iter().any(reads_labels) {
            traefiks.retain(|own| is_old(own) || reads_labels(own) || own.unread.is_some());
        }
        Ok(Self {
            is_traefik,
            is_alone,
            traefiks,
        })
    }
}

/// The networks of replicas, including those of a shared namespace.
fn shared_networks(landscape: &Landscape, olds: &[Replica]) -> Vec<String> {
    let is = |own: &&ContainerSummary| olds.iter().any(|old| own.id.as_ref() == Some(&old.id.0));
    let own = landscape.running.iter().filter(is);
    own.flat_map(networks_of).cloned().collect()
}

async fn proxy_facts(
    found: &SocketProxy,
    running: &[ContainerSummary],
    opened: &Opened,
) -> SocketProxyFacts {
    let mut all = running.iter();
    let own = all.find(|own| own.id.as_ref() == Some(&found.control.container));
    let service = own.and_then(summary::service);
    SocketProxyFacts {
        name: found.control.name.clone(),
        // One that does not answer is another finding.
        rejects_swarm: found.control.hello().await.is_ok_and(|own| !own.swarm),
        service: service
            .filter(|own| own.project == opened.project.name)
            .map(|own| own.service),
    }
}

async fn traefik_facts(
    traefik: &TraefikContainer,
    landscape: &Landscape,
    opened: &Opened,
    context: &ServiceContext<'_>,
) -> TraefikFacts {
    let api = landscape.api(traefik, &context.settings).await;
    let version = match &api {
        Ok(api) => api.version().await.ok().and_then(|text| text.parse().ok()),
        Err(_) => None,
    };
    let config = traefik.inspect.config.as_ref();
    let labels = config.and_then(|config| config.labels.as_ref());
    let of = |key| labels.and_then(|labels| labels.get(key).cloned());
    let project = of(label::COMPOSE_PROJECT);
    let host = traefik.inspect.host_config.as_ref();
    let mode = host.and_then(|config| config.network_mode.as_deref());
    TraefikFacts {
        name: traefik.name.clone(),
        service: of(label::COMPOSE_SERVICE)
            .filter(|_| project.as_ref() == Some(&opened.project.name)),
        folder: of(label::COMPOSE_DIRECTORY)
            .filter(|_| project.as_ref() != Some(&opened.project.name)),
        version: version.or(traefik.version),
        reads: match &traefik.reads {
            Reading::SocketProxy(found) => Reads::SocketProxy(found.control.name.clone()),
            Reading::Socket(path) => Reads::Socket(path.clone()),
            Reading::Other(endpoint) => Reads::Other(endpoint.clone()),
            Reading::Nothing => Reads::Nothing,
        },
        sees_all: matches!(&traefik.reads, Reading::SocketProxy(found) if found.shows_all()),
        is_deaf: traefik.ignores_docker_host(),
        config: traefik.config.clone(),
        unread: traefik.unread.clone(),
        pin: watched_directory(traefik).map(str::to_owned),
        api: api.map(|api| api.base().to_owned()),
        in_host_network: mode == Some("host"),
        holder: traefik.holder.clone(),
        swarm_through: traefik.swarm_through(&landscape.socket_proxies),
    }
}

async fn service_facts(
    examined: Examined<'_>,
    fronts: &Fronts,
    landscape: &Landscape,
) -> Result<ServiceFacts> {
    let engine = &landscape.engine;
    let context = examined.context.clone();
    let labels = context.labels(context.image.as_ref());
    let (key, olds) = (&context.key, context.olds);
    let mut all = neighbours(landscape, key, &fronts.traefiks).await;
    all.extend(new_versions(key, &context.beside.new, &fronts.traefiks));
    let is_labelled = wants_traefik(&labels) || olds.iter().any(|old| wants_traefik(&old.labels));
    Ok(ServiceFacts {
        part: part(&examined.context, fronts, &landscape.socket_proxies),
        replicas: context.replicas,
        runs_once: context.runs_once,
        programs: programs(engine, &olds).await,
        neighbours: all,
        lost_binds: Vec::new(),
        lock: held(engine, key).await?,
        service: context.service.clone(),
        settings: context.settings,
        image: context.image.unwrap_or_default(),
        labels,
        is_labelled,
        is_alone: fronts.is_alone,
        fronts: fronts.traefiks.iter().map(|own| own.name.clone()).collect(),
        way: examined.way,
        bypasses: examined.bypasses,
        hazards: examined.hazards,
        joined: context.joined,
        refused: examined.refused,
        unfinished: examined.unfinished,
        olds,
    })
}

/// Judged by its containers; if none runs, by the file.
fn part(context: &ServiceContext<'_>, fronts: &Fronts, found: &[SocketProxy]) -> Option<Part> {
    let is_old = |id: &str| context.olds.iter().any(|old| old.id.0 == id);
    let is_proxy = found.iter().any(|own| is_old(&own.control.container));
    match (is_proxy, fronts.is_traefik) {
        (true, _) => Some(Part::SocketProxy),
        (_, true) => Some(Part::Traefik),
        _ => doctor::part_as_written(context.service),
    }
}

/// Searched only if there is no health check.
async fn programs(engine: &Engine, olds: &[Replica]) -> Option<Vec<String>> {
    let mut olds = olds.iter();
    let runs = olds.find(|old| old.run == Run::Running && old.check.is_none())?;
    let mut programs = Vec::new();
    for path in PROGRAMS {
        if let Ok(Some(_)) = engine.read_file(&runs.id.0, path).await {
            programs.push(path.to_owned());
        }
    }
    Some(programs)
}

async fn held(engine: &Engine, key: &ServiceKey) -> Result<Option<(String, bool)>> {
    let Some(holder) = lock::holder(engine, key).await? else {
        return Ok(None);
    };
    let lives = holder.lives(engine).await;
    Ok(Some((holder.whose(), lives)))
}
