//! Observe, plan, act: the loop that rolls, resumes, aborts and undoes, whatever the strategy.

mod decide;
#[cfg(test)]
mod driver_tests;
mod end;
pub mod hook;
pub mod live;
#[cfg(test)]
mod order_tests;
pub mod together;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use self::decide::{OnFailure, OnSignal};
pub(crate) use self::end::{PREVIEWED, UNROUTED, error as failure};
use crate::{
    ask::{Asked, IsHeard},
    error::{Error, Outcome, Result},
    event::{Batch, Event, Events, Side},
    model::{Baked, Desired, Facts, Goal, Observed, Phase, Reason},
    plan::{self, Next, Step},
    retry,
};

/// A watch that has gone well for longer than this has got over its failures before.
const STEADY: Duration = Duration::from_secs(10);

/// What the loop acts on: the real engine and proxy, or a test script.
#[async_trait(?Send)]
pub trait World {
    async fn observe(&mut self) -> Result<Observed>;

    /// Does what is left of one step and records its findings in the facts.
    ///
    /// Dropping the future at any point must leave a state from which the planner can continue.
    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()>;

    /// The longest that a step takes, where it is a wait.
    fn limit(&mut self, _: &Step, _: &Desired, _: &Observed) -> Option<Duration> {
        None
    }

    /// The request that another run makes now, if `is_heard` accepts it.
    async fn asked(&mut self, _: &IsHeard<'_>) -> Option<Asked> {
        None
    }

    /// The last log lines of the replica or the hook that failed, if one did.
    fn take_logs(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The times of a finished run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From the change of the routing to its confirmation.
    pub cutover: Option<Duration>,
    pub live_at: Option<Instant>,
    /// Where the old replicas were stopped first: how long nothing served.
    pub gap: Option<Duration>,
    /// How long each step took, by its name.
    pub phases: BTreeMap<&'static str, u64>,
}

/// What a finished rollout has made.
pub struct Made {
    pub revision: u64,
    pub replicas: u32,
    pub image: String,
    pub replaces: Option<String>,
}

impl Summary {
    /// The last event of a rollout that began then.
    pub fn finished(self, made: Made, began: Instant) -> Event {
        let ms = |own: Duration| own.as_millis() as u64;
        let total_ms = ms(began.elapsed());
        let mut phases = self.phases;
        let steps: u64 = phases.values().sum();
        // Checks, the lock, an earlier rollout, records.
        phases.insert("other", total_ms.saturating_sub(steps));
        Event::Finished {
            revision: made.revision,
            replicas: made.replicas,
            image: made.image,
            replaces: made.replaces,
            cutover_ms: self.cutover.map(ms),
            live_ms: self.live_at.map(|at| ms(at.duration_since(began))),
            gap_ms: self.gap.map(ms),
            total_ms,
            phases,
        }
    }
}

/// Runs the loop until the planner has no further step. `interrupted` turns true on the first signal.
pub async fn run(
    world: &mut dyn World,
    desired: Desired,
    facts: Facts,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<Summary> {
    let mut run = Running {
        world,
        desired,
        facts,
        events,
        interrupted,
        summary: Summary::default(),
        routed_at: None,
        stopped_at: None,
        failures: 0,
        is_signalled: false,
        bakes_on: false,
    };
    while let Some((step, observed)) = run.next().await? {
        run.take(&step, &observed).await?;
    }
    Ok(run.summary)
}

struct Running<'a> {
    world: &'a mut dyn World,
    desired: Desired,
    facts: Facts,
    events: &'a Events,
    interrupted: watch::Receiver<bool>,
    summary: Summary,
    /// When the routing was changed last.
    routed_at: Option<Instant>,
    /// Since when nothing serves: the first of the old replicas was stopped to make room, or the way back has begun there.
    stopped_at: Option<Instant>,
    /// Consecutive failures of the same step.
    failures: u32,
    /// The first signal has been handled.
    is_signalled: bool,
    /// The bake, the watch after a batch, or the pause after a shift was left to look at a change, and its time is not over.
    bakes_on: bool,
}

impl Running<'_> {
    /// The next step with the state that it was planned from; `None` once the goal is reached.
    async fn next(&mut self) -> Result<Option<(Step, Observed)>> {
        let observed = observe(self.world).await?;
        self.hear(&observed).await;
        loop {
            let next = plan::plan(&self.desired, &observed, &self.facts);
            plan::take_goal(&next, &mut self.desired, &observed, &mut self.facts);
            match next {
                Next::Step(step) => return Ok(Some((step, observed))),
                Next::Undo(reason) => self.report_undoing(&reason),
                Next::Finish(why) => self.events.notice(why),
                Next::GoOn => self.events.notice(end::GOES_ON),
                Next::Pause { shift } => return Err(end::paused(shift, &self.desired, &observed)),
                Next::Done => return Ok(None),
                Next::Fail(failure) => {
                    let logs = self.world.take_logs();
                    let gap = self.summary.gap.filter(|_| self.stopped_at.is_none());
                    return Err(Error {
                        gap_ms: gap.map(|gap| gap.as_millis() as u64),
                        ..end::error(failure, &self.desired, &observed, logs)
                    });
                }
            }
        }
    }

    /// Takes a request that has come during the last step. Before another try of a failed step it waits: that step may be done
    /// in part.
    async fn hear(&mut self, observed: &Observed) {
        if self.failures > 0 {
            return;
        }
        let (desired, facts) = (&self.desired, &self.facts);
        let is_heard = |asked: &Asked| plan::hears(asked, desired, observed, facts);
        if let Some(asked) = self.world.asked(&is_heard).await {
            plan::take_request(&asked, &self.desired, observed, &mut self.facts);
        }
    }

    fn turn_back(&mut self, reason: Reason, observed: &Observed) {
        self.report_undoing(&reason);
        plan::turn_back(reason, &mut self.desired, observed, &mut self.facts);
    }

    fn report_undoing(&self, reason: &Reason) {
        let reason = match reason {
            Reason::Failed(text) => text.clone(),
            Reason::Interrupted => "interrupted".to_owned(),
            Reason::Unfinished => "an earlier rollout was interrupted".to_owned(),
        };
        self.events.emit(Event::Undoing { reason });
    }

    async fn take(&mut self, step: &Step, observed: &Observed) -> Result<()> {
        tracing::info!(?step, "next");
        let goes_on = self.bakes_on && step.is_watch();
        if step.is_reported(self.desired.routed) && !goes_on {
            let limit = self.world.limit(step, &self.desired, observed);
            let batch = plan::batch_of(step, &self.desired, observed);
            self.events.emit(Event::StepStarted {
                step: step.name(),
                replicas: step.replicas(observed),
                limit_ms: limit.map(|limit| limit.as_millis() as u64),
                batch: batch.map(|(batch, batches)| Batch { batch, batches }),
            });
        }
        let started = Instant::now();
        if moves_traffic(step) {
            (self.facts.confirmed, self.facts.confirm_expired) = (None, None);
            self.routed_at = (*step != Step::Route(Phase::Prepared)).then_some(started);
        }
        if self.begins_gap(step) {
            self.stopped_at.get_or_insert(started);
        }
        match self.act(step, observed).await {
            Some(Ok(())) => {
                self.succeeded(step, started.elapsed());
                self.report_traffic(step, observed);
            }
            Some(Err(cause)) => {
                if step.is_watch() && started.elapsed() > STEADY {
                    self.failures = 0;
                }
                return self.failed(step, observed, cause).await;
            }
            None => {
                self.turn_back(Reason::Interrupted, observed);
                settle_down(step).await;
            }
        }
        Ok(())
    }

    /// Whether nothing serves from here on: the old replicas are stopped first, or the new ones that replaced them are taken
    /// out again.
    fn begins_gap(&self, step: &Step) -> bool {
        let is_back = matches!(self.desired.goal, Goal::Undo(_));
        let is_out = matches!(step, Step::Route(Phase::RolledBack) | Step::Stop { .. });
        let is_second = is_back && is_out && self.summary.gap.is_some();
        let stops_early = decide::stops_early(step, &self.desired, self.facts.confirmed);
        is_second || (stops_early && self.desired.policy.batches.is_none())
    }

    /// Does the step; `None` if a signal ended it and the rollout has to roll back.
    async fn act(&mut self, step: &Step, observed: &Observed) -> Option<Result<()>> {
        let on_signal = decide::on_signal(step, &self.desired, self.facts.confirmed);
        let listens = !self.is_signalled && on_signal != OnSignal::Wait;
        let mut acting = self
            .world
            .act(step, &self.desired, observed, &mut self.facts);
        tokio::select! {
            biased;
            () = raised(&mut self.interrupted), if listens => {}
            acted = &mut acting => return Some(acted),
        }
        // A postponed signal is handled at the next step.
        self.is_signalled = !matches!(on_signal, OnSignal::Wait | OnSignal::Announce(_));
        match on_signal {
            OnSignal::TurnBack => None,
            OnSignal::Wait => Some(acting.await),
            OnSignal::CutShort(notice) => {
                drop(acting);
                self.events.notice(notice);
                self.facts.baked = Some(Baked::Passed);
                Some(Ok(()))
            }
            OnSignal::Announce(notice) | OnSignal::GoOn(notice) => {
                self.events.notice(notice);
                let acted = acting.await;
                // A rollback after a failed batch becomes one of the whole rollout.
                self.facts.kept = 0;
                Some(acted)
            }
        }
    }

    fn succeeded(&mut self, step: &Step, took: Duration) {
        self.failures = 0;
        self.facts.released |= *step == Step::Release;
        if !step.is_reported(self.desired.routed) {
            return;
        }
        let ms = took.as_millis() as u64;
        *self.summary.phases.entry(step.name()).or_default() += ms;
        self.bakes_on = match step {
            Step::Bake => self.facts.baked.is_none(),
            Step::Watch { batch } => {
                self.facts.baked.is_none() && !self.facts.watched.contains(batch)
            }
            Step::Pause { shift, .. } => {
                let is_asked = self.facts.is_held || self.facts.is_promoted;
                self.facts.baked.is_none() && self.facts.passed < *shift && !is_asked
            }
            _ => false,
        };
        if self.bakes_on {
            return;
        }
        let step_name = step.name();
        self.events
            .emit(match end::unmet(step, &self.desired, &self.facts) {
                Some(reason) => Event::StepFailed {
                    step: step_name,
                    reason,
                },
                None => Event::StepFinished {
                    step: step_name,
                    ms,
                },
            });
        if end::ends_gap(step, &self.desired, &self.facts)
            && let Some(since) = self.stopped_at.take()
        {
            let gap = self.summary.gap.get_or_insert_default();
            *gap += since.elapsed();
            if matches!(self.desired.goal, Goal::Undo(_)) {
                let gap = gap.as_secs_f64();
                let notice = format!("the old version runs again; nothing served for {gap:.1} s");
                self.events.notice(notice);
            }
        }
        if let (Step::Confirm(phase), Some(since)) = (step, self.routed_at)
            && self.facts.confirmed == Some(*phase)
            // Both sides are live.
            && !matches!(phase, Phase::Shifted { .. })
        {
            self.summary.cutover = Some(since.elapsed());
            self.summary.live_at = Some(Instant::now());
            self.events.emit(Event::Confirmed {
                side: Side::of(*phase),
                ms: since.elapsed().as_millis() as u64,
            });
        }
    }

    /// Reports the split of the traffic that a step has confirmed.
    fn report_traffic(&self, step: &Step, observed: &Observed) {
        let Step::Confirm(phase) = step else { return };
        let plan = plan::plan_to_confirm(*phase, &self.desired, observed);
        let percent = plan.percent(&self.desired.rollout, &observed.replicas);
        if let Some(percent) = percent
            && self.facts.confirmed == Some(*phase)
            && self.desired.routed
        {
            self.events.emit(Event::Traffic { percent });
        }
    }

    /// Rolls back, or waits before the next try. Returns an error if the run ends.
    async fn failed(&mut self, step: &Step, observed: &Observed, cause: Error) -> Result<()> {
        self.bakes_on = false;
        self.events.emit(Event::StepFailed {
            step: step.name(),
            reason: cause.message.clone(),
        });
        self.failures += 1;
        let (desired, confirmed) = (&self.desired, self.facts.confirmed);
        match decide::on_failure(step, desired, confirmed, (cause.outcome, self.failures)) {
            OnFailure::TurnBack => {
                self.failures = 0;
                self.turn_back(Reason::Failed(cause.message), observed);
            }
            OnFailure::Retry(pause) => tokio::time::sleep(pause).await,
            OnFailure::End => return Err(cause),
            OnFailure::GiveUp => return Err(end::stuck(step, self.failures, &self.desired, cause)),
        }
        Ok(())
    }
}

async fn observe(world: &mut dyn World) -> Result<Observed> {
    // A busy engine or a restarting socket proxy answers again soon and must not end a rollout.
    retry::for_a_while(Duration::from_secs(30), async || world.observe().await)
        .await
        .map_err(|cause| Error {
            outcome: Outcome::NeedsPerson,
            ..cause
        })
}

/// Whether earlier confirmations of the proxy become invalid.
fn moves_traffic(step: &Step) -> bool {
    matches!(step, Step::Route(_) | Step::Start { .. })
}

/// A creation that has begun in the engine may still complete; the next observation must see its containers.
async fn settle_down(step: &Step) {
    if matches!(step, Step::Create { .. } | Step::Hook(_)) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Drops the work at the first signal and returns an error with this message.
pub(crate) async fn unless_interrupted<T>(
    interrupted: &watch::Receiver<bool>,
    message: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut interrupted = interrupted.clone();
    tokio::select! {
        biased;
        () = raised(&mut interrupted) => Err(Error::interrupted(message)),
        done = work => done,
    }
}

/// The error of a signal before the first change.
pub(crate) const UNCHANGED: &str = "interrupted before anything was changed";

/// Completes at the first signal; never, once the sender is dropped.
pub(crate) async fn raised(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|raised| *raised).await.is_err() {
        std::future::pending::<()>().await;
    }
}
