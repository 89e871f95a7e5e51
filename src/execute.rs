//! Observe, plan, act: the loop that rolls, resumes, aborts and undoes, whatever the strategy.

pub mod live;
#[cfg(test)]
mod order_tests;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{
    error::{Error, Outcome, Result},
    event::{Event, Events},
    model::{Baked, Desired, Facts, Goal, Observed, Order, Reason, Side, Verdict},
    plan::{self, Failure, Next, Step},
    retry,
};

/// How often a step that must not be given up is tried again.
const TRIES: u32 = 4;

/// What the loop acts on: the real engine and proxy, or a script of a test.
#[async_trait(?Send)]
pub trait World {
    async fn observe(&mut self) -> Result<Observed>;

    /// Does one step, checking first what is left of it to do; what it finds out goes into the facts.
    ///
    /// Dropping the future at any point must leave a state that the planner can go on from.
    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()>;

    /// The last log lines of the replica that failed, if one did.
    fn take_logs(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What a finished run tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From the change of the routing to its confirmation.
    pub cutover: Option<Duration>,
    /// Where the old replicas were stopped first: from their stop until the new ones served.
    pub gap: Option<Duration>,
    /// How long each step took, by its name.
    pub phases: BTreeMap<&'static str, u64>,
}

/// Runs the loop until the planner says that it is over. `interrupted` turns true on the first signal.
#[expect(
    clippy::too_many_lines,
    reason = "to be cut up: one attempt at a step, and what follows from a failure"
)]
pub async fn run(
    world: &mut dyn World,
    mut desired: Desired,
    mut facts: Facts,
    events: &Events,
    mut interrupted: watch::Receiver<bool>,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut routed_at: Option<Instant> = None;
    let mut stopped_at: Option<Instant> = None;
    let mut failures = 0;
    let mut told = false;
    let mut seen = None;
    let mut goes_on = false;
    loop {
        let observed = match seen.take() {
            Some(observed) => observed,
            None => observe(world).await?,
        };
        let step = match plan::plan(&desired, &observed, &facts) {
            Next::Step(step) => step,
            Next::Undo(reason) => {
                turn(&mut desired, &mut facts, reason, events);
                // On the way back no time is lost by looking again.
                seen = Some(observed);
                continue;
            }
            Next::Finish(why) => {
                events.notice(why);
                desired.goal = Goal::Finish;
                continue;
            }
            Next::Done => return Ok(summary),
            Next::Fail(failure) => {
                return Err(error(failure, &desired, &observed, world.take_logs()));
            }
        };
        let names = names(&step, &observed);
        tracing::info!(?step, "next");
        if !(goes_on && step == Step::Bake) {
            events.emit(Event::StepStarted {
                step: step.name(),
                replicas: names,
            });
        }
        let started = Instant::now();
        if moves_traffic(&step) {
            (facts.confirmed, facts.confirm_expired) = (None, None);
            routed_at = (step != Step::Hold).then_some(started);
        }
        let early = can_turn_back(&step, &desired, &facts);
        let makes_room = early && matches!(step, Step::Stop { .. });
        if makes_room {
            stopped_at.get_or_insert(started);
        }
        // A change of the routing takes milliseconds: it must be known to have happened or not. So must a stop, which goes
        // on in the engine once it was asked for.
        let deaf = early && (makes_room || matches!(step, Step::Hold | Step::Cutover));
        let mut announced = !makes_room;
        let mut signal = interrupted.clone();
        let acted = {
            let mut acting = world.act(&step, &desired, &observed, &mut facts);
            loop {
                tokio::select! {
                    biased;
                    () = raised(&mut signal), if !announced => {
                        announced = true;
                        events.notice(STOPPING);
                    }
                    () = raised(&mut interrupted), if !told && !deaf => {
                        told = true;
                        if early {
                            break None;
                        }
                        events.notice(on_signal(&desired.goal));
                        if step == Step::Bake {
                            break None;
                        }
                    }
                    acted = &mut acting => break Some(acted),
                }
            }
        };
        let acted = match acted {
            // The watch is cut short: what is left to do after it is done.
            None if step == Step::Bake => {
                facts.baked = Some(Baked::Well);
                Some(Ok(()))
            }
            other => other,
        };
        let Some(acted) = acted else {
            turn(&mut desired, &mut facts, Reason::Interrupted, events);
            settle_down(&step).await;
            continue;
        };
        let took = started.elapsed();
        match acted {
            Ok(()) => {
                failures = 0;
                facts.released |= step == Step::Release;
                *summary.phases.entry(step.name()).or_default() += took.as_millis() as u64;
                // Something else has happened meanwhile, and the watch is not over.
                goes_on = step == Step::Bake && facts.baked.is_none();
                if goes_on {
                    continue;
                }
                events.emit(match unmet(&step, &facts) {
                    Some(reason) => Event::StepFailed {
                        step: step.name(),
                        reason,
                    },
                    None => Event::StepFinished {
                        step: step.name(),
                        ms: took.as_millis() as u64,
                    },
                });
                if ends_gap(&step, &desired, &facts) {
                    summary.gap = stopped_at.take().map(|since| since.elapsed());
                }
                if let (Step::Confirm { side }, Some(since)) = (&step, routed_at)
                    && facts.confirmed == Some(*side)
                {
                    summary.cutover = Some(since.elapsed());
                    events.emit(Event::Confirmed {
                        side: *side,
                        ms: since.elapsed().as_millis() as u64,
                    });
                }
            }
            Err(cause) => {
                events.emit(Event::StepFailed {
                    step: step.name(),
                    reason: cause.message.clone(),
                });
                failures += 1;
                let give_up = failures >= TRIES;
                let turns = match &step {
                    Step::Hold | Step::Create { .. } | Step::Cutover => true,
                    // An engine that stumbles while it is waited for is asked again: nothing was to be changed.
                    Step::AwaitReady => give_up,
                    _ => makes_room && give_up,
                };
                match desired.goal {
                    Goal::Roll if turns => {
                        failures = 0;
                        turn(
                            &mut desired,
                            &mut facts,
                            Reason::Failed(cause.message),
                            events,
                        );
                    }
                    // Another try would find what this one has waited for to its end.
                    _ if cause.outcome == Outcome::NeedsPerson => return Err(cause),
                    _ if give_up => return Err(stuck(&step, &desired, cause)),
                    _ => tokio::time::sleep(Duration::from_millis(250) * failures).await,
                }
            }
        }
    }
}

async fn observe(world: &mut dyn World) -> Result<Observed> {
    // A busy engine or a socket proxy that restarts answers again soon; a rollout does not end for that.
    retry::for_a_while(Duration::from_secs(30), async || world.observe().await)
        .await
        .map_err(|cause| Error {
            outcome: Outcome::NeedsPerson,
            ..cause
        })
}

/// Whether what a proxy has confirmed before says nothing any more.
fn moves_traffic(step: &Step) -> bool {
    matches!(
        step,
        Step::Hold | Step::Cutover | Step::CutBack | Step::Start { .. }
    )
}

/// Whether a signal turns the rollout back. After the confirmed cutover, or once old replicas go for good, the shortest way
/// to a settled service is forward.
fn can_turn_back(step: &Step, desired: &Desired, facts: &Facts) -> bool {
    let is_final = match step {
        Step::Remove { .. } | Step::Rename { .. } | Step::Release => true,
        Step::Stop { .. } => desired.order == Order::StartFirst,
        _ => false,
    };
    desired.goal == Goal::Roll && facts.confirmed != Some(Side::New) && !is_final
}

/// What is said of a signal that comes while old replicas are stopped to make room.
const STOPPING: &str = "interrupted: the old replicas are started again once they have stopped; once more leaves at once";

/// Whether the new replicas serve from here on.
fn ends_gap(step: &Step, desired: &Desired, facts: &Facts) -> bool {
    match step {
        Step::Confirm { .. } => facts.confirmed == Some(Side::New),
        Step::AwaitReady => !desired.routed && unmet(step, facts).is_none(),
        _ => false,
    }
}

fn turn(desired: &mut Desired, facts: &mut Facts, reason: Reason, events: &Events) {
    let text = match &reason {
        Reason::Failed(text) => text.clone(),
        Reason::Interrupted => "interrupted".to_owned(),
        Reason::Unfinished => "an earlier rollout was interrupted".to_owned(),
    };
    events.emit(Event::Undoing { reason: text });
    desired.goal = Goal::Undo(reason);
    facts.drained.clear();
}

/// What a signal does that comes too late to turn back.
fn on_signal(goal: &Goal) -> &'static str {
    match goal {
        Goal::Undo(_) => "interrupted, but going back already; once more leaves at once",
        Goal::Roll | Goal::Finish => {
            "interrupted, but the new version serves already: finishing; once more leaves at once"
        }
    }
}

/// A creation that was under way in the engine may still come to its end: what it made must be seen.
async fn settle_down(step: &Step) {
    if matches!(step, Step::Create { .. }) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Ends when a signal has come; never, once nobody can send one any more.
pub(crate) async fn raised(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|raised| *raised).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn names(step: &Step, observed: &Observed) -> Vec<String> {
    let ids = match step {
        Step::Drain { replicas }
        | Step::Hooks { replicas }
        | Step::Stop { replicas }
        | Step::Start { replicas }
        | Step::Remove { replicas } => replicas.clone(),
        Step::Rename { names } => names.iter().map(|(id, _)| id.clone()).collect(),
        _ => Vec::new(),
    };
    let name = |id| {
        observed
            .replicas
            .iter()
            .find(|replica| &replica.id == id)
            .map(|replica| replica.name.clone())
    };
    ids.iter().filter_map(name).collect()
}

/// Why a wait is over without what it waited for.
fn unmet(step: &Step, facts: &Facts) -> Option<String> {
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_));
    match step {
        Step::AwaitReady if facts.ready_expired => Some("the time is over".to_owned()),
        Step::AwaitReady if facts.verdicts.values().any(failed) => {
            Some("a new replica has failed".to_owned())
        }
        Step::Confirm { side } if facts.confirm_expired == Some(*side) => {
            Some("the proxy does not agree".to_owned())
        }
        Step::Bake if matches!(facts.baked, Some(Baked::Ill(_))) => {
            Some("the traffic goes back".to_owned())
        }
        _ => None,
    }
}

fn error(failure: Failure, desired: &Desired, observed: &Observed, logs: Vec<String>) -> Error {
    match failure {
        Failure::OldServes(text) => match serves(desired, observed) {
            Ok(now) => Error::failed(format!("{text}; {now}")).logs(logs),
            Err(now) => Error::needs_person(format!("{text}; {now}")).logs(logs),
        },
        Failure::Interrupted => match serves(desired, observed) {
            Ok(now) => Error::interrupted(format!("interrupted; {now}")),
            Err(now) => Error::needs_person(format!("interrupted; {now}")),
        },
        Failure::NeedsPerson(text) => Error::needs_person(text).logs(logs),
    }
}

/// What is left of a rollout that was undone, where the old version had no route before it either.
pub(crate) const UNROUTED: &str =
    "the old version runs as before, and the proxy does not route to it, as before";

/// What serves now that the rollout is undone, as it was seen last; an error where it is less than before.
fn serves(desired: &Desired, observed: &Observed) -> Result<&'static str, &'static str> {
    let others = observed
        .replicas
        .iter()
        .filter(|own| own.rollout.as_ref() != Some(&desired.rollout));
    let mut serving = others.filter(|own| own.serves()).peekable();
    let somebody = serving.peek().is_some();
    let there: Vec<_> = serving
        .filter(|own| desired.olds_at_start.contains(&own.id))
        .collect();
    let routed = there.iter().any(|own| !desired.unrouted.contains(&own.id));
    match (somebody, desired.served) {
        (true, _) if routed => Ok("the old version serves"),
        (true, _) if !there.is_empty() => Ok(UNROUTED),
        (true, _) => Ok("what somebody else has started meanwhile serves"),
        (false, true) => Err("the old version does not serve any more either"),
        (false, false) if observed.replicas.is_empty() => Ok("nothing was running before"),
        (false, false) => Ok("what was there before did not serve, and is as it was"),
    }
}

fn stuck(step: &Step, desired: &Desired, cause: Error) -> Error {
    let serves = match &desired.goal {
        Goal::Undo(_) if matches!(step, Step::Start { .. }) => "the old version is stopped",
        Goal::Undo(_) => "nothing that serves was removed",
        Goal::Roll | Goal::Finish => "the new version serves",
    };
    Error::needs_person(format!(
        "{} failed {TRIES} times: {}; {serves}",
        step.name(),
        cause.message
    ))
    .hint("run the same command again: it goes on from here")
}
