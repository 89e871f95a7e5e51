//! The rollout of a Swarm service from its checks to its report.

use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    Stack,
    checks::{is_routed, refuse_labels, refuse_mode, settings},
    docker::DockerStack,
    live::{Live, Seen, full_name},
    plan::{Facts, Side, Undo},
    record::{self, BY_SWARM, recorded, refuse_gone, uncertain},
    reduce::Wanted,
    run::{READING, run},
};
use crate::{
    docker::engine::swarm::{Service, ServiceSpec, Swarm},
    error::{Error, Result},
    event::{Event, Events, ServiceResult},
    execute::{Made, UNCHANGED, unless_interrupted},
    model::ServiceKey,
    proxy::{
        landscape::Landscape,
        traefik::{labels::wants_traefik, swarm::SwarmRoutes},
    },
    retry,
    roll::{Ended, rollout_id},
    settings::{Partial, Settings},
    state::{
        lock,
        revisions::{Revision, Revisions},
    },
};

/// What a command gives beside the service.
pub struct Request<'a> {
    pub service: &'a str,
    pub flags: &'a Partial,
    /// The recorded revision that is rolled in place of what the files describe.
    pub back: Option<&'a Revision>,
    /// An unfinished rollout that has not updated its service is taken back, and that is all.
    pub aborts: bool,
    /// The revision that an undo takes back; another one is left alone.
    pub replaces: Option<u64>,
}

/// Where the version stands that services are to run: in the stack files, or in a record.
pub struct Source {
    docker: DockerStack,
    pub config: Value,
}

/// What a rollout needs, read and checked.
pub struct Checked<'a> {
    pub service: &'a Service,
    pub wanted: Wanted<'a>,
    /// How many tasks it has; for one on each node, as many as run now.
    pub replicas: u32,
    pub settings: Settings,
    pub routes: Option<SwarmRoutes>,
    /// Any image that the engine has, for a container that is never started.
    pub image: String,
    /// What has no effect.
    pub notice: Option<String>,
}

impl Stack {
    /// Reads the stack files, or a record.
    pub async fn source(&self, files: &[String], back: Option<&Revision>) -> Result<Source> {
        let docker = DockerStack::new(self.engine.endpoint().clone(), &self.name, files);
        let docker = docker.await?;
        let config = match back {
            Some(back) => record::read(back)?,
            None => docker.config().await?,
        };
        Ok(Source { docker, config })
    }

    /// The events of one of its services.
    pub fn events(&self, events: &Events, service: &str) -> Events {
        events.of_service(&self.engine.endpoint().to_string(), &self.key(service))
    }

    /// Rolls a service to what the source says.
    pub async fn roll(
        &self,
        source: &Source,
        asked: &Request<'_>,
        events: &Events,
        interrupted: watch::Receiver<bool>,
    ) -> Result<Ended> {
        let key = self.key(asked.service);
        let events = self.events(events, asked.service);
        let rolled = self.roll_service(source, asked, &key, &events, interrupted);
        rolled.await.map_err(|error| error.within(events.scope()))
    }

    async fn roll_service(
        &self,
        source: &Source,
        asked: &Request<'_>,
        key: &ServiceKey,
        events: &Events,
        interrupted: watch::Receiver<bool>,
    ) -> Result<Ended> {
        let began = Instant::now();
        let Checked {
            wanted,
            replicas,
            settings,
            routes,
            image,
            notice,
            ..
        } = self.check(source, key, asked).await?;
        notice.into_iter().for_each(|text| events.notice(text));
        let lock = lock(&self.engine, key, &image, settings.lock_wait, events).await?;
        let rollout = rollout_id(key, lock.epoch);
        let scoped = events.of_rollout(&rollout);
        let live = Live {
            engine: &self.engine,
            swarm: Swarm::of(&self.engine),
            docker: &source.docker,
            wanted,
            replicas,
            back: asked.back,
            aborts: asked.aborts,
            replaces: asked.replaces,
            key,
            routes,
            settings: &settings,
            lock: &lock,
            events: &scoped,
            rollout,
            watchers: Default::default(),
        };
        let rolled = locked(&live, began, interrupted).await;
        drop(live);
        if let Err(error) = lock.release().await {
            events.notice(format!("the lock could not be released: {}", error.message));
        }
        rolled
    }

    /// Refuses a rollout that cannot succeed; changes nothing.
    pub async fn refuse(
        &self,
        source: &Source,
        asked: &Request<'_>,
        events: &Events,
    ) -> Result<()> {
        let checked = self.check(source, &self.key(asked.service), asked).await;
        let events = self.events(events, asked.service);
        checked
            .map(drop)
            .map_err(|error| error.within(events.scope()))
    }

    pub(super) async fn check<'a>(
        &'a self,
        source: &'a Source,
        key: &ServiceKey,
        asked: &Request<'a>,
    ) -> Result<Checked<'a>> {
        let config = &source.config;
        let wanted = Wanted::find(config, asked.service)?;
        let settings = settings(config, &wanted, asked.flags)?;
        let service = self.service(key);
        let service = service.ok_or_else(|| no_first_version(key, &source.docker.files))?;
        refuse_mode(&wanted, &settings)?;
        if let Some(back) = asked.back {
            refuse_gone(&Swarm::of(&self.engine), key, back).await?;
        }
        let landscape = Landscape::read(&self.engine, &self.name).await;
        let landscape = landscape.map_err(Error::untouched)?;
        let mut notice = None;
        let routes = match is_routed(&wanted, service, &settings)? {
            true => {
                refuse_labels(&wanted, service)?;
                let networks = wanted.networks(&self.name);
                let routes = SwarmRoutes::find(&landscape, &self.name, &settings, networks);
                let routes = routes.await;
                Some(routes.map_err(Error::untouched)?)
            }
            false => {
                if !settings.bake.is_zero() {
                    notice = Some(no_bake(asked)?);
                }
                None
            }
        };
        let replicas = match wanted.count() {
            Some(count) => count,
            None => self.tasks(service).await?.len() as u64,
        };
        let own = routes.as_ref().map(|own| own.image.clone());
        let image = own.or_else(|| landscape.any_image());
        Ok(Checked {
            service,
            wanted,
            replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
            settings,
            routes,
            image: image.unwrap_or_default(),
            notice,
        })
    }
}

fn no_first_version(key: &ServiceKey, files: &[String]) -> Error {
    let files: String = files.iter().map(|own| format!("-c {own} ")).collect();
    let (name, stack) = (full_name(key), &key.project);
    Error::refused(format!(
        "the Swarm service {name} does not exist yet, and rollout makes no first version"
    ))
    .hint(format!("docker stack deploy {files}{stack} makes it"))
}

/// The notice that a bake from the file or a variable has no effect; the flag is refused.
fn no_bake(asked: &Request<'_>) -> Result<String> {
    let why = format!(
        "{} has no twin, since Swarm alone updates it",
        asked.service
    );
    match asked.flags.names().any(|name| name == "bake") {
        true => Err(
            Error::refused(format!("{why}, so there is nothing to bake")).hint(
                "leave out bake; deploy.update_config.monitor is how long Swarm watches each new task",
            ),
        ),
        false => Ok(format!("bake has no effect: {why}")),
    }
}

/// The twin of an earlier rollout, which may have the traffic, is only taken down by a run with the proxy.
pub fn refused_left(key: &ServiceKey) -> Error {
    Error::refused(format!(
        "an earlier rollout of {} through Traefik is not finished",
        key.service
    ))
    .hint("finish it first: the same command, without --proxy none, with the traefik labels in deploy.labels")
}

/// The rest of a rollout, under the lock.
async fn locked(
    live: &Live<'_>,
    began: Instant,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    let before = live.observe().await.map_err(Error::untouched)?;
    if live.routes.is_none() && before.observed.twin.is_some() {
        return Err(refused_left(live.key));
    }
    if live.aborts && live.back.is_some_and(|back| before.can_abort(back)) {
        return abort(live, before, interrupted).await;
    }
    let mut revisions = live.revisions().await?;
    let ran = recorded(&revisions, &before.service.spec).map(|own| own.number);
    if live.replaces.is_some_and(|own| ran != Some(own)) {
        return Ok(unrolled(&before, ServiceResult::LeftAlone, ran));
    }
    confirm_or_go_on(live, &before, &interrupted).await?;
    if before.observed.is_settled() {
        live.adopt(&mut revisions, &before.service.spec).await;
    }
    // A run that was killed after the update has not recorded it: the newest revision is what ran before.
    let newest = revisions.list.last().map(|own| own.number);
    let ran = recorded(&revisions, &before.service.spec).map(|own| own.number);
    go(
        live,
        began,
        (before, ran.or(newest)),
        revisions,
        interrupted,
    )
    .await
}

/// Takes the steps, and records how they end; `ran` is the revision that ran before.
async fn go(
    live: &Live<'_>,
    began: Instant,
    (before, ran): (Seen, Option<u64>),
    mut revisions: Revisions,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    let proxy = way(live.routes.as_ref()).await;
    let mut begun = live.begun(revisions.next(&[]), proxy);
    let replaces = replaced(&before.service);
    live.events.emit(started(&begun, replaces.clone()));
    if let Some(notice) = live.back.and_then(uncertain) {
        live.events.notice(notice);
    }
    let facts = facts(live.routes.as_ref(), live.settings);
    let ended = run(live, facts, before.observed, interrupted).await;
    begun.figures = live.figures().await;
    let (summary, in_place) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            live.note_failure(begun, &error).await;
            return Err(error);
        }
    };
    let in_place = in_place.then_some(&before.service.spec);
    let (is_same, recorded) = record_it(live, &mut revisions, &begun, in_place).await;
    let ended = |result, revision, before| Ended {
        result,
        revision,
        before,
        image: begun.image.reference.clone(),
    };
    if is_same {
        live.events.emit(Event::NothingToDo {
            replicas: begun.replicas,
            image: begun.image.reference.clone(),
        });
        return Ok(ended(ServiceResult::Unchanged, recorded, None));
    }
    let made = Made {
        revision: begun.number,
        replicas: begun.replicas,
        image: begun.image.reference.clone(),
        replaces,
    };
    live.events.emit(summary.finished(made, began));
    Ok(ended(ServiceResult::Rolled, Some(begun.number), ran))
}

/// Records the revision of a rollout that has succeeded. Returns whether the service is as it was, where `in_place` is what
/// it was, and the number of its revision.
async fn record_it(
    live: &Live<'_>,
    revisions: &mut Revisions,
    begun: &Revision,
    in_place: Option<&ServiceSpec>,
) -> (bool, Option<u64>) {
    // What cannot be read counts as changed: the rollout is over, and does not fail for it.
    let after = retry::for_a_while(READING, || live.observe()).await;
    let after = after.map(|own| own.service.spec);
    let is_same = in_place.is_some_and(|before| after.as_ref() == Ok(before));
    let known = in_place.and_then(|before| recorded(revisions, before));
    let known = known.map(|own| own.number);
    // An earlier run that was killed may have deployed the same.
    if is_same && known.is_some() {
        return (is_same, known);
    }
    live.note_success(revisions, begun.clone(), after).await;
    (is_same, Some(begun.number))
}

/// Gives the traffic back to the service, which still runs the old version, and removes the twin.
async fn abort(live: &Live<'_>, before: Seen, interrupted: watch::Receiver<bool>) -> Result<Ended> {
    live.events.emit(Event::Unfinished { forward: false });
    let facts = Facts {
        undo: Some(Undo::Asked),
        ..facts(live.routes.as_ref(), live.settings)
    };
    run(live, facts, before.observed, interrupted).await?;
    live.events.emit(Event::Settled {
        forward: false,
        // The one that the undo goes back to may be an earlier one.
        revision: None,
        image: replaced(&before.service),
    });
    let back = live.back.map(|back| back.number);
    Ok(unrolled(&before, ServiceResult::RolledBack, back))
}

/// The end of a run that has deployed nothing.
fn unrolled(before: &Seen, result: ServiceResult, revision: Option<u64>) -> Ended {
    Ended {
        result,
        revision,
        before: None,
        image: replaced(&before.service).unwrap_or_default(),
    }
}

/// How the traffic moves.
pub async fn way(routes: Option<&SwarmRoutes>) -> String {
    match routes {
        Some(routes) => routes.describe().await,
        None => BY_SWARM.to_owned(),
    }
}

/// What a run begins with.
pub fn facts(routes: Option<&SwarmRoutes>, settings: &Settings) -> Facts {
    Facts {
        in_place: routes.is_none(),
        routed: routes.is_some(),
        bakes: !settings.bake.is_zero(),
        ..Facts::default()
    }
}

fn started(begun: &Revision, replaces: Option<String>) -> Event {
    Event::Started {
        revision: begun.number,
        replicas: begun.replicas,
        proxy: begun.proxy.clone(),
        image: begun.image.reference.clone(),
        replaces,
        undo_to: begun.undo_to,
        restart_of: None,
    }
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
    if before.observed.is_settled() {
        let confirming = confirm_before(live, routes, &before.service);
        return unless_interrupted(interrupted, UNCHANGED, confirming).await;
    }
    let forward = before.observed.claim.is_some();
    live.events.emit(Event::Unfinished { forward });
    Ok(())
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

/// An image without its digest.
pub fn bare(image: &str) -> &str {
    image.split('@').next().unwrap_or_default()
}

/// The image that runs.
pub fn replaced(service: &Service) -> Option<String> {
    let image = bare(service.spec.image());
    (!image.is_empty()).then(|| image.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bake_without_a_twin_is_refused_where_the_flag_asks_for_it() {
        let of = |flags: &Partial| {
            no_bake(&Request {
                service: "web",
                flags,
                back: None,
                aborts: false,
                replaces: None,
            })
        };
        assert!(of(&Partial::of("bake", "5s")).is_err());
        let notice = of(&Partial::of("timeout", "5s")).unwrap();
        assert!(notice.starts_with("bake has no effect: web"), "{notice}");
    }
}
