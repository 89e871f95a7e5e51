//! Rolls one service of a stack in a Swarm: a twin has the traffic while Swarm updates the service.

mod checks;
mod docker;
mod live;
mod plan;
mod reduce;
mod run;
mod tasks;

use tokio::{sync::watch, time::Instant};

use self::{
    checks::{is_routed, refuse_labels, refuse_mode, settings},
    docker::DockerStack,
    live::{Live, Seen, full_name},
    plan::{Facts, Side},
    reduce::Wanted,
    run::{READING, run},
};
use crate::{
    docker::engine::{
        Engine,
        swarm::{Service, Swarm},
    },
    error::{Error, Result},
    event::{Event, Events},
    execute::{UNCHANGED, unless_interrupted, with_other},
    model::{ServiceKey, label},
    proxy::{
        landscape::Landscape,
        traefik::{labels::wants_traefik, swarm::SwarmRoutes},
    },
    retry,
    roll::rollout_id,
    settings::{Partial, Strategy},
    state::{
        lock, owner,
        revisions::{ImageRecord, Revision, Revisions},
        store,
    },
    yaml,
};

/// A stack that runs.
pub struct Stack {
    pub engine: Engine,
    pub name: String,
    services: Vec<Service>,
}

/// The stack of this name; `None` where the engine is no manager of a Swarm, or has no such stack.
pub async fn find(engine: &Engine, name: &str) -> Result<Option<Stack>> {
    let services = Swarm::of(engine).services(name).await?;
    let services = services.unwrap_or_default();
    if services.is_empty() {
        return Ok(None);
    }
    let of_project = vec![format!("{}={name}", label::COMPOSE_PROJECT)];
    if !engine.matching(of_project, true).await?.is_empty() {
        return Err(Error::refused(format!(
            "{name} is a stack of the Swarm and a Compose project: which one is meant is not clear"
        ))
        .hint(format!(
            "give one of them another name, or remove one: docker compose -p {name} down, or docker stack rm {name}"
        )));
    }
    Ok(Some(Stack {
        engine: engine.clone(),
        name: name.to_owned(),
        services,
    }))
}

/// What a command gives beside the service.
pub struct Request<'a> {
    pub service: &'a str,
    pub files: &'a [String],
    pub flags: &'a Partial,
}

impl Stack {
    pub fn key(&self, service: &str) -> ServiceKey {
        ServiceKey {
            project: self.name.clone(),
            service: service.to_owned(),
        }
    }

    /// Rolls a service to what the stack file says.
    pub async fn roll(
        &self,
        asked: &Request<'_>,
        events: &Events,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        let key = self.key(asked.service);
        let events = events.of_service(&self.engine.endpoint().to_string(), &key);
        let rolled = self.roll_service(asked, &key, &events, interrupted).await;
        rolled.map_err(|error| error.within(events.scope()))
    }

    async fn roll_service(
        &self,
        asked: &Request<'_>,
        key: &ServiceKey,
        events: &Events,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        let began = Instant::now();
        let docker =
            DockerStack::new(self.engine.endpoint().clone(), &self.name, asked.files).await?;
        let config = docker.config().await?;
        let wanted = Wanted::find(&config, asked.service)?;
        let settings = settings(&config, &wanted, asked.flags)?;
        let service = self.service(key, asked.files)?;
        refuse_mode(&wanted, &settings)?;
        let landscape = Landscape::read(&self.engine, &self.name).await;
        let landscape = landscape.map_err(Error::untouched)?;
        let routes = match is_routed(&wanted, service, &settings)? {
            true => {
                refuse_labels(&wanted, service)?;
                let networks = wanted.networks(&self.name);
                let routes = SwarmRoutes::find(&landscape, &self.name, &settings, networks);
                let routes = routes.await;
                Some(routes.map_err(Error::untouched)?)
            }
            false => None,
        };
        let own = routes.as_ref().map(|own| own.image.clone());
        let image = own.or_else(|| some_image(&landscape)).unwrap_or_default();
        let lock = lock(&self.engine, key, &image, settings.lock_wait, events).await?;
        let rollout = rollout_id(key, lock.epoch);
        let scoped = events.of_rollout(&rollout);
        let live = Live {
            engine: &self.engine,
            swarm: Swarm::of(&self.engine),
            docker: &docker,
            wanted,
            key,
            routes,
            settings: &settings,
            lock: &lock,
            events: &scoped,
            rollout,
        };
        let rolled = locked(&live, began, interrupted).await;
        drop(live);
        if let Err(error) = lock.release().await {
            events.notice(format!("the lock could not be released: {}", error.message));
        }
        rolled
    }

    /// The service as it runs.
    fn service(&self, key: &ServiceKey, files: &[String]) -> Result<&Service> {
        let name = full_name(key);
        let mut all = self.services.iter();
        all.find(|own| own.spec.name == name).ok_or_else(|| {
            let files: Vec<String> = files.iter().map(|own| format!("-c {own}")).collect();
            let (files, stack) = (files.join(" "), &self.name);
            Error::refused(format!(
                "the Swarm service {name} does not exist yet, and rollout makes no first version"
            ))
            .hint(format!("docker stack deploy {files} {stack} makes it"))
        })
    }
}

/// The twin of an earlier rollout, which may have the traffic, is only taken down by a run with the proxy.
fn refused_left(key: &ServiceKey) -> Error {
    Error::refused(format!(
        "an earlier rollout of {} through Traefik is not finished",
        key.service
    ))
    .hint("finish it first: the same command, without --proxy none, with the traefik labels in deploy.labels")
}

/// The rest of a rollout, under the lock.
async fn locked(live: &Live<'_>, began: Instant, interrupted: watch::Receiver<bool>) -> Result<()> {
    let before = live.observe().await.map_err(Error::untouched)?;
    if live.routes.is_none() && before.observed.twin.is_some() {
        return Err(refused_left(live.key));
    }
    confirm_or_go_on(live, &before, &interrupted).await?;
    let files = store::read(live.engine, &live.lock.id, live.key).await;
    let revisions = Revisions::read(&files.unwrap_or_default());
    let number = revisions.next(&[]);
    let replicas = u32::try_from(live.wanted.replicas()).unwrap_or(u32::MAX);
    let (image, replaces) = (live.wanted.image().to_owned(), replaced(&before.service));
    let proxy = match &live.routes {
        Some(routes) => routes.describe().await,
        None => "Swarm's own update".to_owned(),
    };
    live.events.emit(Event::Started {
        revision: number,
        replicas,
        proxy: proxy.clone(),
        image: image.clone(),
        replaces: replaces.clone(),
        undo_to: None,
        restart_of: None,
    });
    let facts = Facts {
        in_place: live.routes.is_none(),
        routed: live.routes.is_some(),
        ..Facts::default()
    };
    let summary = run(live, facts, before.observed, interrupted).await?;
    if summary.in_place && is_unchanged(live, &before.service).await {
        live.events.emit(Event::NothingToDo { replicas, image });
        return Ok(());
    }
    record(live, &revisions, (number, proxy)).await;
    let total_ms = began.elapsed().as_millis() as u64;
    live.events.emit(Event::Finished {
        revision: number,
        replicas,
        image,
        replaces,
        cutover_ms: summary.cutover.map(|own| own.as_millis() as u64),
        live_ms: summary
            .live_at
            .map(|at| at.duration_since(began).as_millis() as u64),
        gap_ms: None,
        total_ms,
        phases: with_other(summary.phases, total_ms),
    });
    Ok(())
}

/// Confirms the routes of a service before its rollout; an unfinished one goes on.
async fn confirm_or_go_on(
    live: &Live<'_>,
    before: &Seen,
    interrupted: &watch::Receiver<bool>,
) -> Result<()> {
    let Some(routes) = &live.routes else {
        return Ok(());
    };
    let observed = before.observed;
    if observed.claim.is_none() && observed.twin.is_none() {
        let confirming = confirm_before(live, routes, &before.service);
        return unless_interrupted(interrupted, UNCHANGED, confirming).await;
    }
    let forward = observed.claim.is_some();
    live.events.emit(Event::Unfinished { forward });
    Ok(())
}

/// What cannot be read counts as changed: the rollout is over, and does not fail for it.
async fn is_unchanged(live: &Live<'_>, before: &Service) -> bool {
    let after = retry::for_a_while(READING, || live.observe()).await;
    after.is_ok_and(|after| after.service.spec == before.spec)
}

/// Traefik has to have the tasks of the service before anything is made: else no later confirmation could come.
async fn confirm_before(live: &Live<'_>, routes: &SwarmRoutes, service: &Service) -> Result<()> {
    let name = live.name();
    if !wants_traefik(&service.spec.labels) {
        return Err(Error::refused(format!(
            "{name} as it runs has no traefik labels, so Traefik does not route to it yet"
        ))
        .hint("docker stack deploy adds the labels first"));
    }
    let agreed = routes.agree(&name, async || live.routed(Side::Service).await);
    agreed.await.map_err(|why| {
        Error::refused(format!(
            "Traefik does not route to {name} as it runs: {why}"
        ))
        .hint(format!(
            "see docker service ps {name}, and the service in Traefik's dashboard; --proxy none leaves the update to Swarm"
        ))
    })
}

/// Keeps what was deployed. Swarm has it too, so a record that cannot be written is a notice.
async fn record(live: &Live<'_>, revisions: &Revisions, (number, proxy): (u64, String)) {
    let revision = Revision {
        number,
        rollout: live.rollout.0.clone(),
        at: live.engine.clock_ms().await,
        who: owner::who(),
        image: ImageRecord {
            reference: live.wanted.image().to_owned(),
            ..ImageRecord::default()
        },
        replicas: u32::try_from(live.wanted.replicas()).unwrap_or(u32::MAX),
        config: yaml::write(&live.wanted.itself()).unwrap_or_default(),
        proxy,
        strategy: Strategy::BlueGreen.name().to_owned(),
        ..Revision::default()
    };
    let path = revision.path(revisions, live.lock.epoch);
    let written = store::write(live.engine, &live.lock.id, live.key, &path, &revision);
    if let Err(error) = written.await {
        live.events.notice(format!(
            "revision {number} is not recorded: {}",
            error.message
        ));
    }
}

/// The image that runs, without the digest that Docker has added.
fn replaced(service: &Service) -> Option<String> {
    let image = service.spec.task_template["ContainerSpec"]["Image"].as_str()?;
    Some(image.split('@').next().unwrap_or_default().to_owned())
}

/// Any image that the engine has, for the container that is the lock.
fn some_image(landscape: &Landscape) -> Option<String> {
    let mut all = landscape.containers.iter();
    all.find_map(|own| own.image_id.clone())
}
