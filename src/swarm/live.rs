//! Does each step of a rollout in a Swarm, and reads what is there.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    docker::DockerStack,
    is_twin,
    plan::{Facts, Observed, Side, Stage, Step},
    reduce::{Twin, Wanted, twin_of},
    tasks::{
        Health, Progress, addresses, are_same, grace, has_aliases, hash, health, progress, stay,
    },
    undo_to,
};
use crate::{
    docker::engine::{
        Engine,
        swarm::{Service, Swarm, Task},
    },
    drain::watchers::Watchers,
    error::{Error, Result},
    event::{Event, Events},
    model::{ContainerId, RolloutId, ServiceKey},
    overlay::{Claim, Effect, Labels, Match, Rule},
    proxy::traefik::swarm::SwarmRoutes,
    settings::Settings,
    state::{Lock, revisions::Revision},
};

/// Between two looks at tasks.
pub const PAUSE: Duration = Duration::from_millis(250);
/// Swarm's own default for how long a task is watched after its update.
const MONITOR: Duration = Duration::from_secs(5);

pub struct Live<'a> {
    pub engine: &'a Engine,
    pub swarm: Swarm,
    pub docker: &'a DockerStack,
    pub wanted: Wanted<'a>,
    /// How many tasks it has.
    pub replicas: u32,
    /// The revision that an undo goes back to.
    pub back: Option<&'a Revision>,
    /// An unfinished rollout that has not updated its service is taken back, and that is all.
    pub aborts: bool,
    /// The revision that an undo takes back; another one is left alone.
    pub replaces: Option<u64>,
    pub key: &'a ServiceKey,
    /// `None` where Swarm's own update moves the service.
    pub routes: Option<SwarmRoutes>,
    pub settings: &'a Settings,
    pub lock: &'a Lock,
    pub events: &'a Events,
    pub rollout: RolloutId,
    pub watchers: Mutex<Watchers>,
}

/// What is there, with the two services themselves.
pub struct Seen {
    pub observed: Observed,
    pub service: Service,
    pub(super) twin: Option<Service>,
}

impl Seen {
    /// Whether an unfinished rollout that is no undo has not updated the service.
    pub fn can_abort(&self, back: &Revision) -> bool {
        let twin = self.twin.as_ref();
        let is_of_undo = twin.and_then(undo_to).is_some();
        let is_old = match self.observed.claim {
            Some(Stage::Cutover) => true,
            Some(Stage::Update) => false,
            // The claim may have been lost after the update.
            Some(Stage::Release) | None => twin.is_some() && hash(&self.service.spec) == back.hash,
        };
        is_old && !is_of_undo
    }
}

impl Live<'_> {
    /// The name of the service in the Swarm.
    pub fn name(&self) -> String {
        full_name(self.key)
    }

    pub fn twin_name(&self) -> String {
        twin_of(&self.name())
    }

    pub async fn observe(&self) -> Result<Seen> {
        self.lock.check().await?;
        let (service, twin) = self.services().await?;
        let runs_twin = match &twin {
            Some(twin) => Some(self.swarm.tasks(&twin.id).await?.iter().any(Task::runs)),
            None => None,
        };
        let claim = match &self.routes {
            Some(routes) => self.claim(routes).await?,
            None => None,
        };
        Ok(Seen {
            observed: Observed {
                claim,
                twin: runs_twin,
            },
            service,
            twin,
        })
    }

    pub(super) async fn services(&self) -> Result<(Service, Option<Service>)> {
        let all = self.swarm.services(&self.key.project).await?;
        let all = all.unwrap_or_default();
        let find = |name: &str| all.iter().find(|own| own.spec.name == name).cloned();
        let service = find(&self.name());
        let service = service.ok_or_else(|| {
            Error::failed(format!("the Swarm service {} does not exist", self.name()))
        })?;
        let twin = find(&self.twin_name());
        if let Some(twin) = twin.as_ref().filter(|own| !is_twin(own)) {
            return Err(Error::refused(format!(
                "the Swarm service {} was not made by rollout",
                twin.spec.name
            ))
            .hint("give it another name"));
        }
        Ok((service, twin))
    }

    /// The claim that is the furthest; a socket proxy that has another one is given it too.
    async fn claim(&self, routes: &SwarmRoutes) -> Result<Option<Stage>> {
        let key = self.key.to_string();
        let claims = routes.claims(&key).await?;
        let Some((stage, claim)) = furthest(claims.iter().flatten())? else {
            return Ok(None);
        };
        let is_same = |own: &Option<Claim>| {
            own.as_ref()
                .is_some_and(|own| own.rules == claim.rules && own.stage == claim.stage)
        };
        if !claims.iter().all(is_same) {
            routes.set(&self.owned(claim.clone())).await?;
        }
        Ok(Some(stage))
    }

    fn owned(&self, claim: Claim) -> Claim {
        Claim {
            rollout: self.rollout.0.clone(),
            epoch: self.lock.epoch,
            ..claim
        }
    }

    /// The longest that a step takes, where it is a wait.
    pub fn limit(&self, step: Step, seen: &Seen) -> Option<Duration> {
        match step {
            Step::AwaitReady(_) => Some(self.settings.timeout + self.settings.stable),
            Step::Confirm(_) => self.routes.as_ref().map(|own| own.limit),
            Step::Bake => Some(self.settings.bake),
            Step::Drain(side) => {
                let wait = self.drain_wait(side, seen);
                Some(wait.max(self.settings.drain_timeout))
            }
            _ => None,
        }
    }

    /// Does one step. Dropped at any point, it leaves what the planner goes on from.
    pub async fn act(&self, step: Step, seen: &Seen, facts: &mut Facts) -> Result<()> {
        match (step, &self.routes) {
            (Step::Create, _) => self.create(facts).await,
            (Step::AwaitReady(side), _) => {
                let report = |replica| {
                    let by = "Swarm".to_owned();
                    self.events.emit(Event::Ready { replica, by });
                };
                self.await_tasks(side, self.settings.stable, "is not ready", report)
                    .await
            }
            (Step::Bake, _) => self.bake().await,
            (Step::Claim(stage), Some(routes)) => {
                self.watch_for(stage).await;
                routes.set(&self.claim_of(stage, seen)).await
            }
            (Step::Confirm(side), Some(routes)) => self.confirm(routes, side).await,
            (Step::Clear, Some(routes)) => {
                routes.clear(&self.key.to_string(), self.lock.epoch).await
            }
            (Step::Claim(_) | Step::Confirm(_) | Step::Clear, None) => Ok(()),
            (Step::Drain(side), _) => self.drain(side, seen).await,
            (Step::Update, _) => {
                self.deploy(&self.wanted.itself()).await?;
                let updated = self.await_update(seen).await?;
                let (service, twin) = self.services().await?;
                facts.proven = twin.is_some_and(|twin| are_same(&service, &twin));
                facts.updated = Some(updated);
                Ok(())
            }
            (Step::Remove, _) => match &seen.twin {
                Some(twin) => self.swarm.remove(&twin.id).await,
                None => Ok(()),
            },
        }
    }

    async fn deploy(&self, file: &serde_json::Value) -> Result<()> {
        let on_line = |line| self.events.emit(Event::Compose { line });
        self.docker.deploy(file, on_line).await
    }

    async fn create(&self, facts: &mut Facts) -> Result<()> {
        // There was none before, so what a failed deploy leaves is of this run too.
        facts.created = true;
        let file = self.wanted.twin(&Twin {
            rollout: &self.rollout,
            undo: self.back.map(|back| back.number),
            replicas: self.settings.twin_replicas,
        });
        self.deploy(&file).await?;
        let (service, twin) = self.services().await?;
        let tasks = self.swarm.tasks(&service.id).await?;
        facts.in_place = twin.is_some_and(|twin| are_same(&service, &twin))
            && has_aliases(&service, &self.wanted.aliases())
            && stay(&service, &tasks, self.wanted.count());
        match facts.in_place {
            true => Ok(()),
            false => self.watch(Side::Service).await,
        }
    }

    pub(super) async fn tasks_of(&self, side: Side) -> Result<Option<(Service, Vec<Task>)>> {
        let own = match (side, self.services().await?) {
            (Side::Service, (service, _)) => service,
            (Side::Twin, (_, Some(twin))) => twin,
            (Side::Twin, (_, None)) => return Ok(None),
        };
        let mut tasks = self.swarm.tasks(&own.id).await?;
        if side == Side::Service {
            // The others are of earlier versions.
            tasks.retain(Task::is_wanted);
        }
        Ok(Some((own, tasks)))
    }

    /// Waits until all tasks of this side have run for so long, with none that fails.
    pub(super) async fn await_tasks(
        &self,
        side: Side,
        long: Duration,
        otherwise: &str,
        report: impl Fn(String),
    ) -> Result<()> {
        let began = Instant::now();
        let mut since = None;
        let mut reported = HashSet::new();
        loop {
            let Some((own, tasks)) = self.tasks_of(side).await? else {
                return Ok(());
            };
            for task in tasks.iter().filter(|own| own.runs()) {
                let name = format!("{}.{}", own.spec.name, task.place());
                if reported.insert(name.clone()) {
                    report(name);
                }
            }
            let why = match health(&tasks, own.spec.replicas()) {
                Health::Running => {
                    let since = since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= long {
                        return Ok(());
                    }
                    None
                }
                Health::Failed(why) => Some(why),
                Health::Starting(running, others) => {
                    since = None;
                    let timeout = self.settings.timeout + long;
                    let is_late = began.elapsed() > timeout;
                    let timeout = humantime::format_duration(timeout);
                    is_late.then(|| {
                        format!("after {timeout} {running} of its tasks run, others: {others}")
                    })
                }
            };
            if let Some(why) = why {
                let service = &self.key.service;
                let message = format!("the new version of {service} {otherwise}: {why}");
                return Err(self.with_logs(Error::failed(message), &tasks).await);
            }
            sleep(PAUSE).await;
        }
    }

    /// Adds what a task has logged that failed on this node.
    pub(super) async fn with_logs(&self, mut error: Error, tasks: &[Task]) -> Error {
        let container = |own: &&Task| !own.status.container_status.container.is_empty();
        let mut unwell = tasks.iter().filter(|own| !own.runs());
        if let Some(task) = unwell.find(container) {
            let container = task.status.container_status.container.clone();
            error.logs = self.engine.last_lines(&ContainerId(container)).await;
        }
        error
    }

    fn claim_of(&self, stage: Stage, seen: &Seen) -> Claim {
        let twin = seen.twin.as_ref().filter(|_| stage != Stage::Release);
        let rule = twin.map(|twin| Rule {
            on: Match::Service(seen.service.id.clone()),
            effect: Effect::TasksOf(twin.id.clone()),
        });
        self.owned(Claim {
            key: self.key.to_string(),
            rollout: String::new(),
            epoch: 0,
            stage: stage.to_string(),
            rules: rule.into_iter().collect(),
        })
    }

    /// Waits until every Traefik has the tasks of this side, and no others.
    async fn confirm(&self, routes: &SwarmRoutes, side: Side) -> Result<()> {
        let name = self.name();
        let agreed = routes.agree(&name, async || self.routed(side).await);
        agreed.await.map_err(|why| {
            let limit = humantime::format_duration(routes.limit);
            Error::failed(format!("not confirmed within {limit}: {why}"))
        })
    }

    /// The labels that Traefik reads, and the addresses of the tasks that run.
    pub async fn routed(&self, side: Side) -> Result<(Labels, Vec<BTreeSet<IpAddr>>)> {
        let service = self.services().await?.0;
        let tasks = self.tasks_of(side).await?;
        let tasks = tasks.map(|(_, own)| own).unwrap_or_default();
        let tasks = tasks.iter().filter(|own| own.runs()).map(addresses);
        Ok((service.spec.labels, tasks.collect()))
    }

    /// The result of the update, or that it does not go on: no further task of the new version runs for a time.
    async fn await_update(&self, before: &Seen) -> Result<Result<(), String>> {
        let config = self.services().await?.0.spec.update_config;
        let wait = |key: &str| config[key].as_u64().map(Duration::from_nanos);
        let between = wait("Delay").unwrap_or_default() + wait("Monitor").unwrap_or(MONITOR);
        let patience = self.settings.timeout + between + grace(&before.service.spec);
        let mut moved = Instant::now();
        let mut most = 0;
        loop {
            let service = self.services().await?.0;
            let tasks = self.swarm.tasks(&service.id).await?;
            match progress(&service, &tasks) {
                Progress::Completed => return Ok(Ok(())),
                Progress::Failed(why) => return Ok(Err(why)),
                Progress::Going(new) if new > most => (most, moved) = (new, Instant::now()),
                Progress::Going(new) if moved.elapsed() > patience => {
                    let patience = humantime::format_duration(patience);
                    return Ok(Err(format!(
                        "{new} new tasks run, and none has followed for {patience}"
                    )));
                }
                Progress::Going(_) => {}
            }
            sleep(PAUSE).await;
        }
    }
}

/// The name that a stack gives to a service.
pub fn full_name(key: &ServiceKey) -> String {
    format!("{}_{}", key.project, key.service)
}

/// The claim that is the furthest.
pub fn furthest<'a>(claims: impl Iterator<Item = &'a Claim>) -> Result<Option<(Stage, &'a Claim)>> {
    let read = claims.map(|claim| {
        let stage = claim.stage.parse().map_err(|()| {
            Error::refused(format!(
                "the claim of {} is of another kind: {}",
                claim.key, claim.stage
            ))
            .hint("finish with the version of rollout that has made it")
        })?;
        Ok((stage, claim))
    });
    let read = read.collect::<Result<Vec<(Stage, &Claim)>>>()?;
    Ok(read.into_iter().max_by_key(|(stage, _)| *stage))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::label;

    fn service(image: &str, labels: &Value) -> Service {
        let value = json!({"ID": "s", "Spec": {"Name": "shop_web", "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": image}}}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_undo_takes_back_a_rollout_that_has_not_updated_its_service() {
        let of = |claim, runs: &str, twin: Option<Value>| {
            let back = Revision {
                hash: hash(&service("app:v1", &json!({})).spec),
                ..Revision::default()
            };
            let seen = Seen {
                observed: Observed {
                    claim,
                    twin: twin.as_ref().map(|_| true),
                },
                service: service(runs, &json!({})),
                twin: twin.map(|labels| service("app:v2", &labels)),
            };
            seen.can_abort(&back)
        };
        let twin = || Some(json!({}));
        for claim in [None, Some(Stage::Cutover), Some(Stage::Release)] {
            assert!(of(claim, "app:v1", twin()), "{claim:?}");
            let of_undo = Some(json!({label::UNDO: "1"}));
            assert!(!of(claim, "app:v1", of_undo), "{claim:?}");
        }
        assert!(!of(Some(Stage::Update), "app:v1", twin()));
        assert!(!of(None, "app:v2", twin()));
        assert!(!of(Some(Stage::Release), "app:v2", twin()));
        assert!(!of(None, "app:v1", None));
        assert!(of(Some(Stage::Cutover), "app:v1", None));
    }
}
