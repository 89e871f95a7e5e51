//! Watches the tasks of both sides on this node: what they answer, and when those that get no new traffic have answered
//! their last requests. The sockets of tasks on other nodes cannot be seen from here: their drain is a wait.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use super::{
    live::{Live, PAUSE, Seen},
    plan::{Side, Stage},
    tasks::{Health, grace, health},
};
use crate::{
    analysis::Verdict,
    docker::engine::swarm::Task,
    drain::{
        Watched, Watcher, drain, report,
        watchers::{Old, start_all},
    },
    error::{Error, Result},
    event::Event,
    figures::{Moment, Spans},
    model::{ContainerId, Replica},
    proxy::traefik::labels::routed,
    settings::{Analysis, NoData},
};

/// Where the tasks of one side run.
struct Places {
    here: Vec<Replica>,
    elsewhere: usize,
}

impl Live<'_> {
    /// Watches the tasks of a side on this node, unless they are watched: from before the traffic leaves them, so that each
    /// answer is seen from its beginning. Those of the twin are to stay for long, and are looked at seldom.
    pub(super) async fn watch(&self, side: Side) -> Result<()> {
        if self.routes.is_none() {
            return Ok(());
        }
        let here = self.places(side).await?.here;
        let watched = self.watched().await?;
        let mut watchers = self.watchers.lock().await;
        let new = here.into_iter().filter(|own| !watchers.has(&own.id));
        let new: Vec<Replica> = new.collect();
        match side {
            Side::Twin => new
                .iter()
                .for_each(|own| watchers.begin(self.engine, own, watched.clone())),
            Side::Service => {
                let new = new.into_iter().map(|own| (own, watched.clone())).collect();
                let started = start_all(self.engine, new).await;
                watchers.add(started, false);
            }
        }
        Ok(())
    }

    /// Watches what a claim takes the traffic from, and gives it to. Without watchers a drain starts its own, so an error does
    /// not hold up a change of the traffic.
    pub(super) async fn watch_for(&self, stage: Stage) {
        let sides: &[Side] = match stage {
            Stage::Cutover => &[Side::Service, Side::Twin],
            Stage::Update => &[],
            Stage::Release => &[Side::Twin],
        };
        for side in sides {
            if let Err(error) = self.watch(*side).await {
                tracing::info!(%error, ?side, "its tasks are not watched");
            }
        }
        if stage == Stage::Cutover {
            self.watchers.lock().await.cut_over(self.engine).await;
        }
    }

    /// Ends once the tasks of a side have answered what they had, or the time for it is over.
    pub(super) async fn drain(&self, side: Side, seen: &Seen) -> Result<()> {
        let places = self.places(side).await?;
        let watched = self.watched().await?;
        let settle = self.settle(seen).await;
        let here = places.here.iter();
        let longest = self.settings.drain_timeout.max(self.drain_wait(side, seen));
        let here = here.map(|own| self.drain_here(own, (side, &watched), (settle, longest)));
        let here = join_all(here);
        let drained = join(here, self.wait_elsewhere(side, seen, places.elsewhere));
        // From the update on, the way back is the longer one.
        let may_fail = side == Side::Service && seen.observed.claim == Some(Stage::Cutover);
        tokio::select! {
            (here, ()) = drained => here.into_iter().collect::<Result<()>>()?,
            error = self.twin_failure(), if may_fail => return Err(error),
        }
        if side == Side::Service {
            let mut watchers = self.watchers.lock().await;
            watchers.mark(self.engine, Moment::Drained).await;
        }
        Ok(())
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

    /// What the tasks on this node have answered and used; `None` where none was watched.
    pub(super) async fn figures(&self) -> Option<Spans> {
        let mut watchers = self.watchers.lock().await;
        if watchers.is_empty() {
            return None;
        }
        let figures = watchers.figures(self.engine).await;
        let event = Event::Figures(Box::new(figures.clone()));
        self.events.emit(event);
        Some(figures)
    }

    async fn drain_here(
        &self,
        own: &Replica,
        (side, watched): (Side, &Watched),
        (settle, longest): (Duration, Duration),
    ) -> Result<()> {
        let watcher = self.watchers.lock().await.take(&own.id).await;
        // A container that has restarted since has another network namespace.
        let mut watcher = match watcher.filter(|watcher| watcher.follows(&own.started_at)) {
            Some(watcher) => watcher,
            None => Watcher::start(self.engine, own, watched).await,
        };
        sleep(settle).await;
        let deadline = Instant::now() + longest;
        let (quiet, events) = (watched.quiet, self.events);
        let how = drain(self.engine, own, &mut watcher, quiet, deadline, events).await;
        let moment = match side {
            Side::Service => Moment::Drained,
            Side::Twin => Moment::End,
        };
        let mut watchers = self.watchers.lock().await;
        watchers.ended(&own.id, &watcher, moment);
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
        let node = self.engine.swarm_node().await?;
        let is_here = |own: &Task| node.as_ref() == Some(&own.node);
        let running = tasks.into_iter().filter(Task::runs);
        let (here, elsewhere): (Vec<Task>, Vec<Task>) = running.partition(is_here);
        let containers = here
            .into_iter()
            .map(|own| ContainerId(own.status.container_status.container));
        let found = join_all(containers.map(async |id| self.engine.replica(&id).await)).await;
        let found: Result<Vec<Option<Replica>>> = found.into_iter().collect();
        Ok(Places {
            here: found?.into_iter().flatten().collect(),
            elsewhere: elsewhere.len(),
        })
    }

    /// Watches the tasks of the twin: their health, and what those on this node answer.
    pub(super) async fn bake(&self) -> Result<()> {
        let analysis = self.analysis().await?;
        let mut verdict = Verdict::at_first(&analysis);
        // A run that goes on has not watched any of them.
        self.watch(Side::Twin).await?;
        let mut watchers = self.watchers.lock().await;
        watchers.begin_watch(self.engine, Old::AreHidden).await;
        let bake = self.settings.bake;
        let healthy = self.await_tasks(Side::Twin, bake, "has failed in its bake", |_| {});
        tokio::select! {
            healthy = healthy => healthy?,
            why = watchers.first_failure(self.engine, (&analysis, Old::AreHidden), &mut verdict) => {
                let why = format!("the new version fails the analysis: {why}");
                return Err(Error::failed(why));
            }
        }
        match verdict {
            Verdict::NoData(why) if analysis.no_data == NoData::Fail => {
                Err(Error::failed(format!("the analysis has no data: {why}")))
            }
            Verdict::NoData(why) => {
                let notice = format!("the bake passes, not analysed in full: {why}");
                self.events.notice(notice);
                Ok(())
            }
            Verdict::Pass | Verdict::Fail(_) => Ok(()),
        }
    }

    /// The conditions that the tasks on this node can be judged by.
    async fn analysis(&self) -> Result<Analysis> {
        let mut analysis = self.settings.analysis.clone();
        let places = [
            self.places(Side::Service).await?,
            self.places(Side::Twin).await?,
        ];
        let elsewhere: usize = places.iter().map(|own| own.elsewhere).sum();
        if elsewhere > 0 && analysis.cpu.take().is_some() {
            self.events.notice(
                "the condition cpu has no effect: tasks run on other nodes, where it cannot be measured",
            );
        }
        Ok(analysis)
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

fn counted(tasks: usize) -> String {
    match tasks {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    }
}
