//! Observe, plan, act, for a rollout in a Swarm.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    live::{Live, Seen},
    plan::{Facts, Next, Observed, Side, Stage, Step, Undo, learn, plan},
};
use crate::{
    error::{Error, Result},
    event::{self, Event},
    execute::{Summary, raised},
    retry,
};

/// How often a step is tried that does not turn the rollout back.
const TRIES: u32 = 4;
/// How long the engine and the socket proxies are asked again for what is there.
pub const READING: Duration = Duration::from_secs(30);

struct Running<'a> {
    live: &'a Live<'a>,
    facts: Facts,
    /// What was there last, with the claim of a step since then.
    last: Observed,
    interrupted: watch::Receiver<bool>,
    summary: Summary,
    routed_at: Option<Instant>,
    failures: u32,
    is_notified: bool,
    logs: Vec<String>,
}

/// Runs the loop until there is no further step. Returns too whether the tasks are those that ran before.
pub async fn run(
    live: &Live<'_>,
    facts: Facts,
    last: Observed,
    interrupted: watch::Receiver<bool>,
) -> Result<(Summary, bool)> {
    let mut run = Running {
        live,
        facts,
        last,
        interrupted,
        summary: Summary::default(),
        routed_at: None,
        failures: 0,
        is_notified: false,
        logs: Vec::new(),
    };
    while let Some((step, seen)) = run.next().await? {
        run.take(step, &seen).await?;
    }
    Ok((run.summary, run.facts.in_place))
}

impl Running<'_> {
    async fn next(&mut self) -> Result<Option<(Step, Seen)>> {
        let seen = retry::for_a_while(READING, || self.live.observe()).await;
        let seen = seen.map_err(|error| self.ended(error))?;
        self.last = seen.observed;
        loop {
            match plan(&seen.observed, &self.facts) {
                Next::Step(step) => return Ok(Some((step, seen))),
                Next::Undo(why) => self.undo(Undo::Failed(why)),
                Next::Done => return Ok(None),
                Next::Failed(undo) => return self.failed(undo).map(|()| None),
                Next::NeedsPerson(why) => return Err(self.open(&why)),
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        let reason = match &undo {
            Undo::Failed(why) => why.clone(),
            Undo::Interrupted => "interrupted".to_owned(),
            Undo::Asked => "asked for".to_owned(),
        };
        self.live.events.emit(Event::Undoing { reason });
        self.facts.undo = Some(undo);
    }

    async fn take(&mut self, step: Step, seen: &Seen) -> Result<()> {
        tracing::info!(?step, "next");
        let events = self.live.events;
        events.emit(Event::StepStarted {
            step: step.name(),
            replicas: self.replicas(step),
            limit_ms: self
                .live
                .limit(step, seen)
                .map(|own| own.as_millis() as u64),
            batch: None,
        });
        let began = Instant::now();
        if let Step::Claim(stage) = step {
            self.last.claim = Some(stage);
        }
        if step == Step::Claim(Stage::Cutover) {
            self.routed_at = Some(began);
        }
        let turns_back = step.turns_back(&seen.observed, &self.facts);
        let mut interrupted = self.interrupted.clone();
        let acted = tokio::select! {
            biased;
            () = raised(&mut interrupted), if turns_back => None,
            acted = self.live.act(step, seen, &mut self.facts) => Some(acted),
        };
        let is_late = !turns_back && self.facts.undo.is_none();
        if is_late && *self.interrupted.borrow() && !std::mem::replace(&mut self.is_notified, true)
        {
            events.notice(
                "interrupted: the rollout is being finished; press Ctrl-C again to quit now",
            );
        }
        match acted {
            None => self.undo(Undo::Interrupted),
            Some(Ok(())) => self.succeeded(step, began),
            Some(Err(error)) => return self.stumbled(step, turns_back, error).await,
        }
        Ok(())
    }

    fn replicas(&self, step: Step) -> Vec<String> {
        match step {
            Step::Drain(Side::Service) => vec![self.live.name()],
            Step::Drain(Side::Twin) | Step::Remove => vec![self.live.twin_name()],
            _ => Vec::new(),
        }
    }

    fn succeeded(&mut self, step: Step, began: Instant) {
        self.failures = 0;
        let ms = began.elapsed().as_millis() as u64;
        *self.summary.phases.entry(step.name()).or_default() += ms;
        learn(step, &mut self.facts);
        let events = self.live.events;
        events.emit(Event::StepFinished {
            step: step.name(),
            ms,
        });
        if let (Step::Confirm(Side::Twin), Some(since)) = (step, self.routed_at) {
            self.summary.cutover = Some(since.elapsed());
            self.summary.live_at = Some(Instant::now());
            events.emit(Event::Confirmed {
                side: event::Side::New,
                ms: since.elapsed().as_millis() as u64,
            });
        }
    }

    async fn stumbled(&mut self, step: Step, turns_back: bool, error: Error) -> Result<()> {
        self.live.events.emit(Event::StepFailed {
            step: step.name(),
            reason: error.message.clone(),
        });
        if turns_back {
            self.logs = error.logs;
            self.undo(Undo::Failed(error.message));
            return Ok(());
        }
        self.failures += 1;
        // A confirmation has waited for long enough already.
        if self.failures < TRIES && !matches!(step, Step::Confirm(_)) {
            sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        Err(self.ended(error))
    }

    /// The error of a run that cannot go on: where Traefik may send to a twin, it is not said that the old version serves.
    fn ended(&self, error: Error) -> Error {
        let is_left = self.last.twin.is_some() && !self.facts.created;
        match self.last.claim.is_some() || is_left {
            true => self.open(&error.message),
            false => error,
        }
    }

    /// The error of a rollout that has gone back, unless that was asked for.
    fn failed(&mut self, undo: Undo) -> Result<()> {
        let (service, name) = (&self.live.key.service, self.live.name());
        let mut error = match (undo, &self.facts.updated) {
            (Undo::Asked, _) => return Ok(()),
            (Undo::Interrupted, _) => {
                Error::interrupted(format!("interrupted; the old version of {service} serves"))
            }
            (Undo::Failed(why), Some(_)) => {
                Error::failed(format!("Swarm's update of {name} has failed: {why}"))
                    .hint(format!("see docker service ps {name}"))
            }
            (Undo::Failed(why), None) => {
                Error::failed(format!("{why}; the old version of {service} serves"))
            }
        };
        error.logs = std::mem::take(&mut self.logs);
        Err(error)
    }

    /// The error of a rollout that a later run goes on with.
    fn open(&self, why: &str) -> Error {
        let (name, twin) = (self.live.name(), self.live.twin_name());
        let is_updated = self.facts.updated == Some(Ok(()));
        let state = match (self.last.claim, self.last.twin) {
            (None, _) => format!("{twin} of an earlier run is kept, for it may have the traffic"),
            (Some(Stage::Release), None) => "only its claim in the socket proxy is left".to_owned(),
            (Some(Stage::Release), Some(_)) => {
                format!("the traffic returns to {name}, and {twin} is kept until then")
            }
            (Some(_), _) if is_updated => {
                format!("{name} is updated, and {twin} still has the traffic")
            }
            (Some(_), _) => format!("{name} is not updated, and {twin} has the traffic"),
        };
        Error::needs_person(format!(
            "the rollout of {name} is not finished: {why}; {state}"
        ))
        .hint(format!(
            "see docker service ps {name}, fix the cause, and run the same command again: it goes on from here"
        ))
    }
}
