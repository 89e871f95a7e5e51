//! The world as it is: each step done on the real engine, Compose and proxy.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::World;
use crate::{
    compose::{Compose, CreateRequest, Project, Service},
    drain::{self, Watched, Watcher},
    engine::{Engine, ExecCommand},
    error::{Error, Result},
    event::{Event, Events},
    model::{
        ContainerId, Desired, Drained, Facts, Observed, Replica, Run, ServiceKey, Side, Stage,
        Verdict, label,
    },
    plan::Step,
    proxy::{Change, Proxy, traefik::names},
    ready::{self, Gates, Probe},
    retry,
    settings::Settings,
    state::Lock,
    watch::Watch,
};

/// Beyond `--stable`, what a wait must leave for the gates themselves, or the shortest waits could never succeed.
const MARGIN: Duration = Duration::from_secs(2);

/// Log lines that a failure shows.
const LOG_LINES: usize = 15;

/// Everything that a step may need.
pub struct Live<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The real `docker compose`.
    pub compose: &'a Compose,
    /// The resolved project.
    pub project: &'a Project,
    /// The service in it.
    pub service: &'a Service,
    /// Which service.
    pub key: ServiceKey,
    /// How.
    pub settings: &'a Settings,
    /// What moves the traffic.
    pub proxy: &'a mut dyn Proxy,
    /// Wakes waits.
    pub watch: &'a Watch,
    /// The image whose `/rollout` helpers run; `None` where there is none.
    pub helper_image: Option<String>,
    /// Held for as long as this lives.
    pub lock: &'a Lock,
    /// Where steps tell what they do.
    pub events: &'a Events,
    /// Labels for the new replicas.
    pub labels: BTreeMap<String, String>,
    /// Every dependency and how many replicas it has.
    pub dependencies: Vec<(String, u32)>,
    /// The pause between confirmation and drain.
    pub settle: Duration,
    /// What this run remembers between steps.
    pub memory: Memory,
}

/// What a run remembers between steps; nothing that a later run would miss.
#[derive(Default)]
pub struct Memory {
    watchers: BTreeMap<ContainerId, Watcher>,
    confirmed_at: Option<Instant>,
    ready_by: Option<Instant>,
    logs: Vec<String>,
}

/// The replicas of one step, sorted.
struct Sets<'a> {
    news: Vec<&'a Replica>,
    olds: Vec<&'a Replica>,
}

impl<'a> Sets<'a> {
    fn of(desired: &Desired, observed: &'a Observed) -> Self {
        let (news, olds) = observed
            .replicas
            .iter()
            .partition(|replica| replica.rollout.as_ref() == Some(&desired.rollout));
        Self { news, olds }
    }
}

#[async_trait(?Send)]
impl World for Live<'_> {
    async fn observe(&mut self) -> Result<Observed> {
        let replicas = self.engine.replicas(&self.key).await?;
        Ok(Observed {
            replicas,
            claim: self.proxy.claim().await?,
        })
    }

    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        let sets = Sets::of(desired, observed);
        if !matches!(
            step,
            Step::AwaitReady | Step::Confirm { .. } | Step::Drain { .. }
        ) {
            self.lock.check().await?;
        }
        match step {
            Step::Hold => self.route(desired, &sets, Stage::Hold).await,
            Step::Cutover => self.route(desired, &sets, Stage::Cutover).await,
            Step::CutBack => self.route(desired, &sets, Stage::Back).await,
            Step::Create { replicas } => self.create(desired, *replicas, &sets, facts).await,
            Step::AwaitReady => self.await_ready(desired, &sets, facts).await,
            Step::Confirm { side } => self.confirm(*side, &sets, facts).await,
            Step::Drain { replicas } => self.drain(&pick(observed, replicas), &sets, facts).await,
            Step::Stop { replicas } => self.stop(desired, &pick(observed, replicas), facts).await,
            Step::Remove { replicas } => {
                all(join_all(replicas.iter().map(|id| self.engine.remove(id))).await)
            }
            Step::Rename { names } => {
                all(join_all(names.iter().map(|(id, name)| self.engine.rename(id, name))).await)
            }
            Step::Release => {
                let all: Vec<&Replica> = observed.replicas.iter().collect();
                self.proxy.release(&desired.rollout, &all).await
            }
        }
    }

    fn take_logs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.memory.logs)
    }
}

impl Live<'_> {
    async fn route(&mut self, desired: &Desired, sets: &Sets<'_>, stage: Stage) -> Result<()> {
        let change = Change {
            rollout: &desired.rollout,
            stage,
            news: &sets.news,
            olds: &sets.olds,
        };
        self.memory.confirmed_at = None;
        self.proxy.route(change).await
    }

    async fn create(
        &mut self,
        desired: &Desired,
        replicas: u32,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let request = CreateRequest {
            project: self.project,
            service: &self.service.name,
            replicas,
            dependencies: self.dependencies.clone(),
            rollout: &desired.rollout.0,
            labels: self.labels.clone(),
            renew_anon_volumes: self.settings.renew_anon_volumes,
        };
        let events = self.events.clone();
        // The drain must see every answer from its beginning: what has to be there by then starts alongside.
        let watching = start_watchers(self.engine, self.unwatched(desired, sets));
        let creating = self
            .compose
            .create(&request, |line| events.emit(Event::Compose { line }));
        let (created, watchers) = tokio::join!(creating, watching);
        self.memory.watchers.extend(watchers);
        if created.is_err() {
            self.keep_logs_of_the_ill(desired).await;
        }
        facts.created = true;
        created
    }

    async fn keep_logs_of_the_ill(&mut self, desired: &Desired) {
        let replicas = self.engine.replicas(&self.key).await.unwrap_or_default();
        let ill = replicas
            .iter()
            .find(|new| new.rollout.as_ref() == Some(&desired.rollout) && !new.serves());
        if let Some(ill) = ill {
            self.memory.logs = self.engine.last_lines(&ill.id, LOG_LINES).await;
        }
    }

    async fn await_ready(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let limit = match sets.news.iter().any(|new| new.check.is_some()) {
            true => self.settings.timeout + self.settings.wait_after_healthy,
            false => self.settings.wait,
        };
        let deadline = *self
            .memory
            .ready_by
            .get_or_insert_with(|| Instant::now() + limit.max(self.settings.stable + MARGIN));
        let pending: Vec<&Replica> = sets
            .news
            .iter()
            .copied()
            .filter(|new| !facts.verdicts.contains_key(&new.id))
            .collect();
        let details: Vec<Mutex<String>> = pending.iter().map(|_| Mutex::default()).collect();
        let gates: Vec<Gates> = pending
            .iter()
            .map(|new| self.gates(new, desired.routed))
            .collect();
        let watched = self.unwatched(desired, sets);
        let (engine, watch, events) = (self.engine, self.watch, self.events);
        let mut judging: FuturesUnordered<_> = pending
            .iter()
            .zip(details.iter().zip(&gates))
            .map(|(new, (detail, gates))| async move {
                (
                    *new,
                    ready::judge(engine, watch, &new.id, gates, detail).await,
                )
            })
            .collect();
        let mut watching = Box::pin(start_watchers(engine, watched));
        let mut watchers = None;
        let mut changed = Box::pin(others_changed(engine, watch, &self.key, sets));
        let mut failed = None;
        let ended = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    started = &mut watching, if watchers.is_none() => watchers = Some(started),
                    changed = &mut changed => return changed,
                    judged = judging.next() => match judged {
                        None => return Ok(()),
                        Some((new, judged)) => {
                            let judged = judged?;
                            let is_ready = judged.verdict == Verdict::Ready;
                            facts.verdicts.insert(new.id.clone(), judged.verdict);
                            if !is_ready {
                                failed = Some(new.id.clone());
                                return Ok(());
                            }
                            events.emit(Event::Ready { replica: new.target_name().to_owned(), by: judged.by });
                        }
                    },
                }
            }
        })
        .await;
        drop((judging, changed));
        // Where an earlier run has created the replicas: the cutover waits for the watchers.
        if watchers.is_none() && failed.is_none() && ended.is_ok() {
            watchers = Some(watching.await);
        }
        self.memory.watchers.extend(watchers.into_iter().flatten());
        if ended.is_err() {
            facts.ready_expired = true;
            failed = pending
                .iter()
                .find(|new| !facts.verdicts.contains_key(&new.id))
                .map(|new| new.id.clone());
            explain(&pending, &details, facts);
        }
        if let Some(failed) = failed {
            self.memory.logs = self.engine.last_lines(&failed, LOG_LINES).await;
        }
        ended.unwrap_or(Ok(()))
    }

    fn gates(&self, new: &Replica, routed: bool) -> Gates {
        let ports = routed_ports(new);
        // Nothing can be told of a UDP port from outside but that it is silent.
        let wants_probe =
            (routed && !names::only_datagrams(&new.labels)) || self.settings.ready_http.is_some();
        let probe = self
            .helper_image
            .clone()
            .filter(|_| wants_probe)
            .map(|image| Probe {
                image,
                ports,
                http: self.settings.ready_http.clone(),
            });
        Gates {
            stable: self.settings.stable,
            after_healthy: self.settings.wait_after_healthy,
            probe,
        }
    }

    /// Old replicas that nobody watches yet, and how each is to be watched.
    fn unwatched(&self, desired: &Desired, sets: &Sets<'_>) -> Vec<(ContainerId, Watched)> {
        let olds = sets
            .olds
            .iter()
            .filter(|old| old.run == Run::Running && desired.routed);
        olds.filter(|old| !self.memory.watchers.contains_key(&old.id))
            .map(|old| (old.id.clone(), self.watched(old)))
            .collect()
    }

    fn watched(&self, replica: &Replica) -> Watched {
        let protocol = match names::server_protocol(&replica.labels) {
            names::ServerProtocol::Http1 => "http1",
            names::ServerProtocol::H2c => "h2c",
            names::ServerProtocol::Stream => "stream",
        };
        // Datagrams belong to no connection: the network counters tell when the last session is over.
        let image = self
            .helper_image
            .clone()
            .filter(|_| !names::only_datagrams(&replica.labels));
        Watched {
            image,
            ports: routed_ports(replica),
            protocol,
            quiet: self.settings.drain_quiet,
        }
    }

    async fn confirm(&mut self, side: Side, sets: &Sets<'_>, facts: &mut Facts) -> Result<()> {
        let deadline = Instant::now() + self.settings.confirm_timeout;
        let replicas: Vec<Replica> = sets
            .news
            .iter()
            .chain(&sets.olds)
            .map(|replica| (*replica).clone())
            .collect();
        // On the way back the new ones do not matter.
        let watched = if side == Side::New {
            serving(&sets.news)
        } else {
            Vec::new()
        };
        let mut ill = Box::pin(fell_ill(self.engine, self.watch, watched));
        let proxy = tokio::sync::Mutex::new((&mut *self.proxy, Vec::new()));
        let agreed = retry::until(
            Duration::from_millis(20),
            Duration::from_millis(250),
            async || {
                let mut guard = proxy.lock().await;
                let (proxy, trouble) = &mut *guard;
                match proxy.observed(&replicas).await {
                    None => false,
                    Some(observation) => {
                        *trouble = observation.trouble.values().flatten().cloned().collect();
                        observation.agrees(side, &sets.news, &sets.olds)
                    }
                }
            },
        );
        tokio::select! {
            () = agreed => {
                facts.confirmed = Some(side);
                self.memory.confirmed_at = Some(Instant::now());
            }
            // A replica that dies meanwhile changes what there is to confirm; the planner sees it.
            () = &mut ill => {}
            () = sleep_until(deadline) => {
                facts.confirm_expired = Some(side);
                for trouble in &proxy.into_inner().1 {
                    self.events.notice(format!("Traefik: {trouble}"));
                }
            }
        }
        Ok(())
    }

    async fn drain(
        &mut self,
        replicas: &[&Replica],
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let begin = self.memory.confirmed_at.unwrap_or_else(Instant::now) + self.settle;
        let mut watchers = Vec::new();
        for replica in replicas {
            let watcher = match self.memory.watchers.remove(&replica.id) {
                Some(watcher) => watcher,
                None => Watcher::start(self.engine, &replica.id, &self.watched(replica)).await,
            };
            watchers.push((*replica, watcher));
        }
        sleep_until(begin).await;
        let deadline = Instant::now() + self.settings.drain_timeout;
        let (engine, events, quiet) = (self.engine, self.events, self.settings.drain_quiet);
        let mut draining: FuturesUnordered<_> = watchers
            .into_iter()
            .map(|(replica, mut watcher)| async move {
                (
                    replica,
                    drain::drain(engine, replica, &mut watcher, quiet, deadline, events).await,
                )
            })
            .collect();
        // When the new ones themselves are drained, they are on their way out anyway.
        let forward = !replicas
            .iter()
            .any(|own| sets.news.iter().any(|new| new.id == own.id));
        let live = if forward {
            serving(&sets.news)
        } else {
            Vec::new()
        };
        let mut ill = Box::pin(fell_ill(engine, self.watch, live));
        loop {
            tokio::select! {
                ended = draining.next() => match ended {
                    None => return Ok(()),
                    Some((replica, how)) => {
                        let how = how?;
                        events.emit(Event::Drained { replica: replica.name.clone(), how });
                        if how == Drained::TimedOut {
                            events.notice(format!("{} was still answering after --drain-timeout", replica.name));
                        }
                        facts.drained.insert(replica.id.clone(), how);
                    }
                },
                // The way back is open only as long as the old replicas run.
                () = &mut ill => return Ok(()),
            }
        }
    }

    async fn stop(
        &mut self,
        desired: &Desired,
        replicas: &[&Replica],
        facts: &mut Facts,
    ) -> Result<()> {
        let is_old = |replica: &&&Replica| {
            replica.rollout.as_ref() != Some(&desired.rollout) && replica.run == Run::Running
        };
        // A stop that is tried again finds its hooks run.
        let fresh = replicas
            .iter()
            .filter(is_old)
            .filter(|old| !facts.hooked.contains(&old.id));
        let fresh: Vec<&Replica> = fresh.copied().collect();
        join_all(fresh.iter().map(|old| self.hooks(old))).await;
        facts.hooked.extend(fresh.iter().map(|old| old.id.clone()));
        let stopping = replicas
            .iter()
            .map(|replica| self.engine.stop(&replica.id, None));
        all(join_all(stopping).await)?;
        Ok(())
    }

    /// Runs what the operator wants done in an old replica before it is stopped; a failure is told and stops nothing,
    /// since the new version serves already.
    async fn hooks(&self, replica: &Replica) {
        let label = |labels: &BTreeMap<String, String>| labels.get(label::PRE_STOP_HOOK).cloned();
        let line = self.settings.pre_stop_hook.clone();
        let line = line
            .or_else(|| label(&self.service.labels))
            .or_else(|| label(&replica.labels));
        let shell = line.map(|line| ExecCommand {
            command: vec!["sh".into(), "-c".into(), line],
            ..Default::default()
        });
        let hooks = self.service.pre_stop.iter().map(|hook| ExecCommand {
            command: hook.command.clone(),
            user: hook.user.clone(),
            privileged: hook.privileged,
            working_dir: hook.working_dir.clone(),
            environment: hook.environment.clone(),
        });
        for hook in shell.into_iter().chain(hooks) {
            let command = hook.command.join(" ");
            match self
                .engine
                .exec(&replica.id, &hook, self.settings.drain_timeout)
                .await
            {
                Ok(outcome) if outcome.code == 0 => {}
                Ok(outcome) => self.events.notice(format!(
                    "pre-stop hook {command:?} in {} ended with {}: {}",
                    replica.name,
                    outcome.code,
                    outcome.output.lines().last().unwrap_or_default()
                )),
                Err(error) => self.events.notice(format!(
                    "pre-stop hook in {}: {}",
                    replica.name, error.message
                )),
            }
        }
    }
}

/// What each replica that is not ready in time still lacks, where it is known, is the reason why it fails.
fn explain(pending: &[&Replica], details: &[Mutex<String>], facts: &mut Facts) {
    for (new, detail) in pending.iter().zip(details) {
        let detail = detail
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !detail.is_empty() {
            let why = format!("did not become ready in time: {detail}");
            facts
                .verdicts
                .entry(new.id.clone())
                .or_insert(Verdict::Failed(why));
        }
    }
}

/// The ports that Traefik routes to: the labelled ones, else the lowest exposed one (`pkg/provider/docker` `getPort`).
fn routed_ports(replica: &Replica) -> Vec<u16> {
    let mut ports = names::labelled_ports(&replica.labels);
    if ports.len() < names::names(&replica.labels).services.len() {
        ports.extend(replica.ports.iter().min());
    }
    ports.into_iter().collect()
}

fn pick<'a>(observed: &'a Observed, ids: &[ContainerId]) -> Vec<&'a Replica> {
    observed
        .replicas
        .iter()
        .filter(|replica| ids.contains(&replica.id))
        .collect()
}

fn all(results: Vec<Result<()>>) -> Result<()> {
    results
        .into_iter()
        .collect::<Result<Vec<()>, Error>>()
        .map(drop)
}

async fn start_watchers(
    engine: &Engine,
    watched: Vec<(ContainerId, Watched)>,
) -> Vec<(ContainerId, Watcher)> {
    let starting = watched.into_iter().map(|(id, watched)| async move {
        let watcher = Watcher::start(engine, &id, &watched).await;
        (id, watcher)
    });
    join_all(starting).await
}

/// Ends when the old set is not what it was: a replica has gone, stopped, or joined.
async fn others_changed(
    engine: &Engine,
    watch: &Watch,
    key: &ServiceKey,
    sets: &Sets<'_>,
) -> Result<()> {
    let state = |replica: &Replica| (replica.id.clone(), replica.run);
    let new: Vec<&ContainerId> = sets.news.iter().map(|new| &new.id).collect();
    let before: Vec<_> = sets.olds.iter().map(|old| state(old)).collect();
    loop {
        let changed = watch.next();
        let now = engine.replicas(key).await?;
        let olds: Vec<_> = now
            .iter()
            .filter(|replica| !new.contains(&&replica.id))
            .map(state)
            .collect();
        if olds != before {
            return Ok(());
        }
        changed.await;
    }
}

/// Only who serves now can fall ill.
fn serving(replicas: &[&Replica]) -> Vec<ContainerId> {
    let serving = replicas.iter().filter(|replica| replica.serves());
    serving.map(|replica| replica.id.clone()).collect()
}

/// Ends when one of these does not serve any more.
async fn fell_ill(engine: &Engine, watch: &Watch, replicas: Vec<ContainerId>) {
    loop {
        let changed = watch.next();
        for id in &replicas {
            if let Ok(now) = engine.replica(id).await
                && !now.is_some_and(|now| now.serves())
            {
                return;
            }
        }
        changed.await;
    }
}
