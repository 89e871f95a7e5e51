//! Watches the tasks of both sides on this node: what they answer, and when those that get no new traffic have answered
//! their last requests. The sockets of tasks on other nodes cannot be seen from here: their drain is a wait.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use super::{
    live::{Live, PAUSE, Seen},
    plan::{Side, Stage},
    tasks::{Health, health},
};
use crate::{
    docker::engine::swarm::{ServiceSpec, Task},
    drain::{Watched, Watcher, drain, report, watchers::start_all},
    error::{Error, Result},
    event::Event,
    figures::Spans,
    model::{ContainerId, Replica},
    proxy::traefik::labels::routed,
};

/// Swarm's own default between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Where the tasks of one side run.
struct Places {
    here: Vec<Replica>,
    elsewhere: usize,
}

impl Live<'_> {
    /// Watches the tasks of a side, unless they are watched: from before the traffic leaves them, so that each answer is seen
    /// from its beginning.
    pub(super) async fn watch(&self, side: Side) -> Result<()> {
        if self.routes.is_none() {
            return Ok(());
        }
        let here = self.places(side).await?.here;
        let watched = self.watched().await?;
        let mut watchers = self.watchers.lock().await;
        let new = here.into_iter().filter(|own| !watchers.has(&own.id));
        let new = new.map(|own| (own, watched.clone())).collect();
        let started = start_all(self.engine, new).await;
        watchers.add(started, side == Side::Twin);
        Ok(())
    }

    /// Ends once the tasks of a side have answered what they had, or the time for it is over.
    pub(super) async fn drain(&self, side: Side, seen: &Seen) -> Result<()> {
        let places = self.places(side).await?;
        let watched = self.watched().await?;
        let settle = self.settle(seen).await;
        let here = places.here.iter();
        let here = join_all(here.map(|own| self.drain_here(own, &watched, settle)));
        let drained = join(here, self.wait_elsewhere(side, seen, places.elsewhere));
        // From the update on, the way back is the longer one.
        let may_fail = side == Side::Service && seen.observed.claim == Some(Stage::Cutover);
        tokio::select! {
            (here, ()) = drained => here.into_iter().collect(),
            error = self.twin_failure(), if may_fail => Err(error),
        }
    }

    /// Completes with the reason when a task of the twin fails.
    async fn twin_failure(&self) -> Error {
        loop {
            sleep(PAUSE).await;
            if let Ok(Some((own, tasks))) = self.tasks_of(Side::Twin).await
                && let Health::Failed(why) = health(&tasks, own.spec.replicas())
            {
                let service = &self.key.service;
                let error =
                    Error::failed(format!("the new version of {service} has failed: {why}"));
                return self.with_logs(error, &tasks).await;
            }
        }
    }

    /// What the tasks on this node have answered and used; `None` without a proxy.
    pub(super) async fn figures(&self) -> Option<Spans> {
        self.routes.as_ref()?;
        let figures = self.watchers.lock().await.figures(self.engine).await;
        let event = Event::Figures(Box::new(figures.clone()));
        self.events.emit(event);
        Some(figures)
    }

    async fn drain_here(&self, own: &Replica, watched: &Watched, settle: Duration) -> Result<()> {
        let watcher = self.watchers.lock().await.take(&own.id).await;
        // A container that has restarted since has another network namespace.
        let mut watcher = match watcher.filter(|watcher| watcher.follows(&own.started_at)) {
            Some(watcher) => watcher,
            None => Watcher::start(self.engine, own, watched).await,
        };
        sleep(settle).await;
        let deadline = Instant::now() + self.settings.drain_timeout;
        let (quiet, events) = (watched.quiet, self.events);
        let how = drain(self.engine, own, &mut watcher, quiet, deadline, events).await;
        let mut watchers = self.watchers.lock().await;
        watchers.drained(&own.id, &watcher);
        report(events, "task", &own.name, how?);
        Ok(())
    }

    async fn wait_elsewhere(&self, side: Side, seen: &Seen, tasks: usize) {
        if tasks == 0 {
            return;
        }
        let wait = self.drain_wait(side, seen);
        let name = match side {
            Side::Service => self.name(),
            Side::Twin => self.twin_name(),
        };
        let long = humantime::format_duration(wait);
        self.events.notice(format!(
            "{name}: the connections of {} on other nodes cannot be seen, so their drain is a wait of {long} (--drain-wait)",
            counted(tasks)
        ));
        sleep(wait).await;
    }

    async fn places(&self, side: Side) -> Result<Places> {
        let tasks = self.tasks_of(side).await?;
        let tasks = tasks.map(|(_, own)| own).unwrap_or_default();
        let running = tasks.into_iter().filter(Task::runs);
        let containers = running.map(|own| ContainerId(own.status.container_status.container));
        let found = join_all(containers.map(async |id| self.engine.replica(&id).await)).await;
        let found: Result<Vec<Option<Replica>>> = found.into_iter().collect();
        let found = found?;
        let all = found.len();
        let here: Vec<Replica> = found.into_iter().flatten().collect();
        Ok(Places {
            elsewhere: all - here.len(),
            here,
        })
    }

    /// What to watch of a task: the ports that Traefik sends to, by the labels of the service.
    async fn watched(&self) -> Result<Watched> {
        let labels = self.services().await?.0.spec.labels;
        Ok(Watched {
            image: self.routes.as_ref().map(|own| own.image.clone()),
            ports: Some(routed(&labels, &[])),
            quiet: self.settings.drain_quiet,
        })
    }

    async fn settle(&self, seen: &Seen) -> Duration {
        match (self.settings.settle, &self.routes) {
            (Some(settle), _) => settle,
            (None, Some(routes)) => {
                let labels = &seen.service.spec.labels;
                routes.switch_delay(&self.name(), labels).await
            }
            (None, None) => Duration::ZERO,
        }
    }

    pub(super) fn drain_wait(&self, side: Side, seen: &Seen) -> Duration {
        let spec = match (side, &seen.twin) {
            (Side::Twin, Some(twin)) => &twin.spec,
            _ => &seen.service.spec,
        };
        self.settings.drain_wait.unwrap_or_else(|| grace(spec))
    }
}

/// The time that Swarm gives a task between SIGTERM and SIGKILL.
pub fn grace(spec: &ServiceSpec) -> Duration {
    let own = spec.task_template["ContainerSpec"]["StopGracePeriod"].as_u64();
    own.map_or(GRACE, Duration::from_nanos)
}

fn counted(tasks: usize) -> String {
    match tasks {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    }
}
