//! The strategy for services that cannot run twice: stop first, then start.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{Scene, Subject};
use crate::{
    compose::{Service, check},
    engine::shared::Joined,
    error::{Error, Outcome, Result},
    event::Event,
    execute::{self, Summary},
    model::{Health, Replica, Side, Verdict},
    proxy::Proxy,
    ready::{self, EarlyChecks, Gates},
    retry,
    watch::Watch,
};

/// When it is said what has to be recreated by hand.
#[derive(Clone, Copy)]
pub(super) enum Told {
    Before,
    After,
}

impl Scene<'_> {
    /// What lives in namespaces or volumes of a service's containers: as the file says, and as it runs.
    pub(super) fn joined(
        &self,
        service: &Service,
        running: Vec<Joined>,
        olds: &[Replica],
    ) -> Vec<Joined> {
        let mut joined = check::joined(self.project, service, olds);
        for own in running {
            if !joined.iter().any(|known| known.is_same(&own)) {
                joined.push(own);
            }
        }
        joined
    }

    /// What is left in a namespace that ends with the old containers is for the operator to recreate.
    pub(super) fn tell_joined(&self, subject: &Subject<'_>, told: Told) {
        let name = &subject.service.name;
        for own in &subject.joined {
            let (called, way) = (own.called(&self.project.name), own.way);
            let command = own.recreate(&self.project.name);
            self.events.notice(match told {
                Told::Before => format!(
                    "{called} joins {name} by {way} and will stay with its old containers; recreate it afterwards: {command}"
                ),
                Told::After => format!("recreate {called} now: {command}"),
            });
        }
    }

    /// Stops first, as Compose does: for services that cannot run twice. The gap is the strategy's own.
    pub(super) async fn recreate(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        watch: &Watch,
        (olds, complaints): (&[Replica], &BTreeSet<String>),
    ) -> Result<Summary> {
        let mut phases = BTreeMap::new();
        let mut time = Clock::start(self, "recreate");
        let on_line = |line| self.events.emit(Event::Compose { line });
        let name = &subject.service.name;
        let recreated = self.compose.recreate(name, subject.replicas, on_line).await;
        if let Err(error) = recreated {
            time.fail(&error.message);
            return Err(self.not_recreated(subject, olds, error).await);
        }
        phases.extend([time.stop()]);
        time = Clock::start(self, "ready");
        let news = self.engine.replicas(&subject.key).await?;
        self.all_ready(subject, watch, &news).await?;
        phases.extend([time.stop()]);
        if proxy.routes() {
            time = Clock::start(self, "confirm");
            self.all_live(subject, proxy, complaints).await?;
            phases.extend([time.stop()]);
        }
        Ok(Summary {
            cutover: None,
            phases,
        })
    }

    /// What a failure of Compose means depends on how far it came.
    async fn not_recreated(&self, subject: &Subject<'_>, olds: &[Replica], error: Error) -> Error {
        let lives = |all: &[Replica]| -> Vec<_> {
            let serving = all.iter().filter(|own| own.serves());
            serving
                .map(|own| (own.id.clone(), own.started_at.clone()))
                .collect()
        };
        let untouched = match self.engine.replicas(&subject.key).await {
            Ok(now) => !lives(olds).is_empty() && lives(&now) == lives(olds),
            Err(_) => false,
        };
        let (outcome, serves) = match (error.outcome, untouched) {
            (Outcome::Refused, _) => return error,
            (_, true) => (Outcome::Failed, "; the old version serves"),
            (_, false) => (Outcome::NeedsPerson, ""),
        };
        Error {
            outcome,
            message: format!("{}{serves}", error.message),
            ..error
        }
    }

    /// Lets work that cannot be turned back come to its end, although a signal has come.
    pub(super) async fn to_its_end(
        &self,
        work: impl Future<Output = Result<Summary>>,
        mut interrupted: tokio::sync::watch::Receiver<bool>,
    ) -> Result<Summary> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = execute::raised(&mut interrupted) => self.events.notice(
                "interrupted, but the old replicas are being replaced: finishing; once more leaves at once",
            ),
        }
        work.await
    }

    /// The gates of every other strategy, less the port: nobody would be spared by waiting for it.
    async fn all_ready(
        &self,
        subject: &Subject<'_>,
        watch: &Watch,
        news: &[Replica],
    ) -> Result<()> {
        let settings = &subject.settings;
        let gates = Gates {
            stable: settings.stable,
            after_healthy: Duration::ZERO,
            probe: None,
        };
        let deadline = Instant::now() + settings.timeout.max(settings.stable * 2);
        let early = EarlyChecks::default();
        for new in news {
            let detail = Default::default();
            let judging = ready::judge(self.engine, watch, &new.id, &gates, &early, &detail);
            let why = match timeout_at(deadline, judging).await {
                Ok(judged) => match judged?.verdict {
                    Verdict::Ready => continue,
                    Verdict::Failed(why) => why,
                },
                Err(_) => "did not become healthy in time".to_owned(),
            };
            let logs = self.engine.last_lines(&new.id).await;
            let message = format!("new replica {} {why}; the old version is gone", new.name);
            return Err(Error::needs_person(message).logs(logs));
        }
        Ok(())
    }

    /// The old set is gone, so there is nothing to go back to: what Traefik does not confirm is for a person to see.
    /// `complaints` are those of before.
    async fn all_live(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        complaints: &BTreeSet<String>,
    ) -> Result<()> {
        let news = self.engine.replicas(&subject.key).await?;
        let refs: Vec<&Replica> = news.iter().collect();
        // Traefik waits for Docker's own verdict, which a rare check may put off for one interval.
        let starting = news.iter().filter(|new| new.health == Health::Starting);
        let intervals = starting.filter_map(|new| Some(new.check.as_ref()?.interval));
        let limit = subject.settings.confirm_timeout.max(proxy.held_back());
        let limit = limit + intervals.max().unwrap_or_default();
        let mut trouble = Vec::new();
        let agreed = retry::until(limit, async || {
            let Some(mut observation) = proxy.observed(&news).await else {
                return false;
            };
            observation.forget(complaints);
            trouble = observation.trouble.values().flatten().cloned().collect();
            observation.agrees(Side::New, &refs, &[])
        });
        if agreed.await {
            return Ok(());
        }
        let why = trouble
            .first()
            .map_or_else(String::new, |why| format!(": {why}"));
        Err(Error::needs_person(format!(
            "the proxy did not confirm the new replicas in time{why}; the old version is gone"
        )))
    }
}

/// One step of the report, and how long it takes.
struct Clock<'a> {
    scene: &'a Scene<'a>,
    step: &'static str,
    began: Instant,
}

impl<'a> Clock<'a> {
    fn start(scene: &'a Scene<'a>, step: &'static str) -> Self {
        scene.events.emit(Event::StepStarted {
            step,
            replicas: Vec::new(),
        });
        Self {
            scene,
            step,
            began: Instant::now(),
        }
    }

    fn fail(&self, reason: &str) {
        self.scene.events.emit(Event::StepFailed {
            step: self.step,
            reason: reason.to_owned(),
        });
    }

    fn stop(&self) -> (&'static str, u64) {
        let ms = self.began.elapsed().as_millis() as u64;
        let step = self.step;
        self.scene.events.emit(Event::StepFinished { step, ms });
        (step, ms)
    }
}
