//! Finishes or rolls back the unfinished rollout of an earlier run before anything else.

use std::{collections::BTreeSet, time::Duration};

use super::{again, before::Before, lock::Locked, prepare::Prepared, record::Memory, with_next};
use crate::{
    context::{Purpose, ServiceContext},
    error::{Error, Outcome, Result},
    event::{Event, Events},
    execute::{self, Summary, UNROUTED, hook::About},
    model::{
        Claim, Desired, Facts, Goal, Observed, Phase, Policy, Promote, Reason, Replica, RolloutId,
    },
    plan::{self, StopFirst},
    proxy::Router,
    settings::OnUnfinished,
};

/// A service without an unfinished rollout.
pub(super) struct Settled<'a> {
    pub locked: Locked<'a>,
    pub memory: Memory,
    pub replicas: Vec<Replica>,
    pub was_unfinished: bool,
    /// The last rollout, if its run was killed before it made a revision or recorded a failure.
    pub killed: Option<RolloutId>,
    /// What is wrong with their routing.
    pub before: Before,
    /// Whether variables of the unfinished rollout were written just now, after the project was read.
    pub has_written: bool,
}

impl<'a> Locked<'a> {
    pub async fn settle_unfinished(mut self) -> Result<Settled<'a>> {
        let mut memory = self.remembered().await;
        let fenced = self.prepared.proxy.fence(self.held.lock).await;
        fenced.map_err(Error::untouched)?;
        let observed = self.observe().await?;
        let (engine, key) = (self.prepared.run.engine, &self.prepared.context.key);
        let ids = observed.replicas.iter().map(|own| own.id.clone());
        let ids: Vec<_> = ids.collect();
        engine
            .sweep_helpers(&ids, self.prepared.context.epoch)
            .await?;
        engine.sweep_one_offs(key, None).await?;
        let routed = self.prepared.proxy.routes();
        let begun = memory.stop_first(&observed, self.held.lock.epoch);
        let left = plan::unfinished(&observed, routed, begun.as_ref());
        let was_unfinished = left.is_some();
        let (replicas, before) = match left {
            Some(left) => {
                let rollout = left.0.clone();
                let settled = self.settle(left, begun, &mut memory, observed).await?;
                self.note_abort(&rollout, &mut memory).await;
                settled
            }
            None => {
                self.report_nothing_unfinished()?;
                (observed.replicas, self.prepared.before.clone())
            }
        };
        let last = memory.unfailed();
        let has_written = self.catch_up(&mut memory, &replicas).await;
        let killed = last.filter(|last| !memory.has_made_revision(last));
        Ok(Settled {
            locked: self,
            memory,
            replicas,
            was_unfinished,
            killed,
            before,
            has_written,
        })
    }

    fn report_nothing_unfinished(&self) -> Result<()> {
        let Prepared { run, context, .. } = &self.prepared;
        if context.purpose == Purpose::Settle {
            let text = format!("{} has no unfinished rollout", context.service.name);
            if run.promotes.is_some() {
                return Err(Error::refused(text).hint(NO_CANARY));
            }
            run.events.notice(text);
        }
        Ok(())
    }

    /// Returns the replicas afterwards, and what is wrong with their routing.
    async fn settle(
        &mut self,
        (rollout, goal, wanted): (RolloutId, Goal, u32),
        begun: Option<StopFirst>,
        memory: &mut Memory,
        observed: Observed,
    ) -> Result<(Vec<Replica>, Before)> {
        let (run, purpose) = (self.prepared.run, self.prepared.context.purpose);
        let name = &self.prepared.context.service.name;
        let left = (&rollout, wanted);
        let goal = self.goal(left, goal, memory, &observed).await?;
        let (forward, goes_on) = (!matches!(goal, Goal::Undo(_)), goal == Goal::Roll);
        let events = run.events.of_rollout(&rollout);
        report(&events, &rollout, &goal);
        let mut desired = self
            .prepared
            .to_settle((rollout, goal, wanted), begun, &observed);
        let phase = observed.claim.as_ref().map(|claim| claim.phase);
        if goes_on {
            desired.policy.shifts = memory.shifts(&desired.rollout);
        }
        let (new, others): (Vec<Replica>, Vec<Replica>) = observed
            .replicas
            .into_iter()
            .partition(|replica| replica.rollout.as_ref() == Some(&desired.rollout));
        let now = self.routing(observed.claim.as_ref(), &others).await;
        desired.unrouted = now.unrouted;
        desired.unrouted.extend(memory.unrouted(&desired.rollout));
        let settled = settled(name, forward, &others, &desired);
        let bake = self.bake(&desired, (&new, &others));
        match goes_on {
            true => self.prepared.set_limits(&mut desired.policy, bake),
            false => desired.policy.bake = !bake.is_zero(),
        }
        let about = self.about_unfinished(&desired.rollout, memory, &others);
        let left = about.as_ref().map(|about| about.left(&desired.goal));
        desired.hook_phases = left.unwrap_or_default();
        let facts = Facts {
            hooks: about.as_ref().map(About::ends).unwrap_or_default(),
            ..self.facts(phase)
        };
        let all: Vec<Replica> = new.into_iter().chain(others).collect();
        let known = (about.clone(), &mut *memory);
        let ended = self
            .run((desired, facts), (&events, &all), known, bake)
            .await;
        if let Err(error) = &ended {
            self.note_unsettled(&events, memory, error).await;
        }
        self.hook_settled((forward, &ended), (&events, about.as_ref()), memory)
            .await?;
        if let Err(error) = ended {
            if goes_on || !may_continue(&error, purpose) {
                return Err(self.over(error, &events, memory).within(events.scope()));
            }
            run.events.notice(error.message);
        }
        let replicas = self.observe().await?.replicas;
        if purpose == Purpose::Settle {
            run.events.notice(settled);
            events.emit(memory.settled(forward, &replicas));
        }
        let goes_on = self.prepared.proxy.routes() && purpose == Purpose::Roll;
        let before = Before::read(&mut *self.prepared.proxy, &replicas, goes_on).await;
        Ok((replicas, before))
    }

    /// What is wrong with the routing of old replicas that a claim leaves as they were, but for those that it hides. Where
    /// the proxy does not go by the claim any more, this says nothing: it is written again first.
    async fn routing(&mut self, claim: Option<&Claim>, others: &[Replica]) -> Before {
        let proxy = &mut *self.prepared.proxy;
        match claim.filter(|own| proxy.routes() && own.phase.keeps_old() && !own.stale) {
            Some(claim) => {
                let shown = others.iter().filter(|own| !claim.plan.hides(own));
                let shown: Vec<Replica> = shown.cloned().collect();
                Before::read(proxy, &shown, true).await
            }
            None => Before::default(),
        }
    }

    /// Records the end of a rollout that a person has taken back: it is not one that was killed.
    async fn note_abort(&self, rollout: &RolloutId, memory: &mut Memory) {
        let is_asked = self.prepared.context.settings.on_unfinished == OnUnfinished::Abort;
        if is_asked && let Some(aborted) = memory.abort(rollout) {
            self.note_end(aborted).await;
        }
    }

    /// Records the failure of an unfinished rollout, as the run that began it does.
    async fn note_unsettled(&self, events: &Events, memory: &mut Memory, error: &Error) {
        let rollout = events.scope().rollout.as_ref();
        let begun = rollout.and_then(|rollout| memory.begun(rollout));
        if let Some(begun) = begun.filter(|_| !error.is_open).cloned() {
            memory.note(self.note_failure(begun, error).await);
        }
    }

    /// The error of a command that names an unfinished rollout. If that has ended, it is rolled again and not settled.
    fn over(&self, error: Error, events: &Events, memory: &Memory) -> Error {
        let Prepared { context, .. } = &self.prepared;
        let is_over = matches!(error.outcome, Outcome::Failed | Outcome::Interrupted);
        if context.purpose == Purpose::Roll || error.is_open || !is_over {
            return error;
        }
        let (name, on) = (&context.service.name, self.prepared.scope().on());
        let begun = events.scope().rollout.as_ref();
        let begun = begun.and_then(|rollout| memory.begun(rollout));
        let made = begun.map(|begun| &begun.revision);
        let undo_to = made.and_then(|made| made.undo_to);
        let restarts = made.is_some_and(|made| made.restart_of.is_some());
        let again = again(&format!("{name}{on}"), undo_to, restarts);
        with_next(error, (name, &on), again)
    }

    /// Takes the steps of an unfinished rollout that are left; a rollout that goes on reports its figures.
    async fn run(
        &mut self,
        (desired, facts): (Desired, Facts),
        (events, replicas): (&Events, &[Replica]),
        (about, memory): (Option<About>, &mut Memory),
        bake: Duration,
    ) -> Result<Summary> {
        let (goes_on, rollout) = (desired.goal == Goal::Roll, desired.rollout.clone());
        let (interrupted, run) = (self.held.interrupted.clone(), self.prepared.run);
        let mut live = self.live(events, replicas).await;
        (live.bake, live.about) = (bake, about);
        if let Some(begun) = memory.begun(&rollout) {
            live.complaints.clone_from(&begun.complaints);
            live.labels = run.revision_labels(&begun.revision, replicas);
            live.image = Some(begun.revision.image.id.clone());
        }
        if goes_on {
            live.watch_both(&desired, replicas).await;
        }
        let ended = execute::run(&mut live, desired, facts, events, interrupted).await;
        if goes_on {
            let figures = live.figures().await;
            events.emit(Event::Figures(Box::new(figures.clone())));
            memory.measured(&rollout, figures);
        }
        ended
    }

    /// How long the new replicas of an unfinished rollout are watched after its cutover.
    fn bake(&self, desired: &Desired, (new, others): (&[Replica], &[Replica])) -> Duration {
        let goes_back = matches!(desired.goal, Goal::Undo(_));
        if goes_back || !desired.routed {
            return Duration::ZERO;
        }
        let (new, others): (Vec<_>, Vec<_>) = (new.iter().collect(), others.iter().collect());
        let has_helper = self.held.helper_image.is_some();
        let needed = self
            .prepared
            .bake_again(desired.replicas, &new, &others, has_helper);
        match desired.goal {
            Goal::Roll => needed.max(self.prepared.context.settings.bake),
            Goal::Finish | Goal::Undo(_) => needed,
        }
    }

    /// What a run that settles a rollout in this phase begins with.
    fn facts(&self, phase: Option<Phase>) -> Facts {
        let promotes = self.prepared.run.promotes;
        Facts {
            created: true,
            is_continued: true,
            passed: match (phase, promotes) {
                (Some(Phase::Shifted { step }), Some(Promote::Next)) => step,
                _ => 0,
            },
            is_promoted: promotes == Some(Promote::Full),
            ..Facts::default()
        }
    }

    /// The goal for an unfinished rollout, if it can be settled.
    async fn goal(
        &self,
        (rollout, wanted): (&RolloutId, u32),
        goal: Goal,
        memory: &Memory,
        observed: &Observed,
    ) -> Result<Goal> {
        let prepared = &self.prepared;
        let context = &prepared.context;
        if memory.is_unread && goal != Goal::Finish {
            refuse_unread(&context.service.name, rollout, &observed.replicas)?;
        }
        let goal = chosen(context, rollout, goal)?;
        let (name, on) = (&context.service.name, prepared.scope().on());
        if goal != Goal::Roll {
            return match prepared.run.promotes {
                None => Ok(goal),
                Some(_) => {
                    let message =
                        format!("the unfinished rollout of {name} is between no two steps");
                    Err(Error::refused(message).hint(NO_CANARY))
                }
            };
        }
        let Some(begun) = memory.begun(rollout).filter(|begun| begun.has_steps()) else {
            let message = format!("the steps of the unfinished rollout of {name} cannot be read");
            return Err(Error::refused(message).hint(format!(
                "run the same command again; rollout abort {name}{on} takes the traffic back"
            )));
        };
        let (new, _) = observed.split(rollout);
        let serve = new.iter().all(|new| new.serves());
        let new: Vec<Replica> = new.into_iter().cloned().collect();
        let are_wanted = prepared.wants(&new, wanted).await?;
        match context.purpose {
            Purpose::Roll if !(serve && are_wanted) => Ok(Goal::Undo(Reason::Unfinished)),
            // A command that names the rollout itself goes on with it, whatever the Compose file says, unless more replicas
            // are to be created.
            Purpose::Settle if begun.batches.is_some() && !are_wanted => {
                let message = format!(
                    "the rolling update of {name} cannot go on: the Compose file describes another version or another \
                     number of replicas"
                );
                Err(Error::refused(message).hint(format!(
                    "put the version back in the file; or rollout abort {name}{on}, which takes the traffic back"
                )))
            }
            Purpose::Roll | Purpose::Settle => Ok(goal),
        }
    }
}

fn report(events: &Events, rollout: &RolloutId, goal: &Goal) {
    match goal {
        Goal::Roll => events.notice(format!("going on with rollout {rollout}")),
        Goal::Finish | Goal::Undo(_) => events.emit(Event::Unfinished {
            forward: *goal == Goal::Finish,
        }),
    }
}

impl Prepared<'_> {
    /// The desired state that finishes or rolls back an unfinished rollout.
    pub(super) fn to_settle(
        &self,
        (rollout, goal, wanted): (RolloutId, Goal, u32),
        begun: Option<StopFirst>,
        observed: &Observed,
    ) -> Desired {
        let (_, others) = observed.split(&rollout);
        let others: Vec<Replica> = others.into_iter().cloned().collect();
        let mut desired = desired(goal, rollout, wanted, &*self.proxy, &others);
        if let Some(begun) = begun {
            begun.resume(&mut desired, &others);
        }
        let replaced = observed.claim.as_ref().is_some_and(Claim::has_replaced_any);
        desired.served |= !desired.routed && replaced;
        desired.pre_stop = self.context.has_pre_stop(&others);
        desired
    }

    /// The bake for checks that only the proxy can run; the earlier run may have ended during its own.
    pub(super) fn bake_again(
        &self,
        wanted: u32,
        new: &[&Replica],
        others: &[&Replica],
        has_helper: bool,
    ) -> Duration {
        match new.first() {
            Some(new) if others.iter().any(|other| other.serves()) => {
                self.unasked(wanted, (&new.labels, &new.ports), has_helper)
            }
            _ => Duration::ZERO,
        }
    }
}

/// The old version serves again, so the requested rollout can continue.
fn may_continue(error: &Error, purpose: Purpose) -> bool {
    error.outcome == Outcome::Failed && purpose == Purpose::Roll
}

/// The desired state with these existing replicas.
pub(super) fn desired(
    goal: Goal,
    rollout: RolloutId,
    replicas: u32,
    proxy: &dyn Router,
    olds: &[Replica],
) -> Desired {
    Desired {
        goal,
        rollout,
        replicas,
        policy: Policy {
            by_number: olds
                .iter()
                .any(|old| proxy.labels().has_streams(&old.labels)),
            ..Policy::default()
        },
        restartable: BTreeSet::new(),
        routed: proxy.routes(),
        confirm_hold: proxy.capabilities().hold_reroutes,
        old_at_start: olds.iter().map(|old| old.id.clone()).collect(),
        unrouted: BTreeSet::new(),
        served: olds.iter().any(Replica::serves),
        pre_stop: false,
        hook_phases: BTreeSet::new(),
    }
}

const NO_CANARY: &str =
    "rollout status shows what there is; rollout resume settles what an ended run has left";

/// The notice once the rollout is finished or rolled back.
fn settled(service: &str, forward: bool, others: &[Replica], desired: &Desired) -> String {
    let serves = |own: &Replica| own.serves() || desired.restartable.contains(&own.id);
    let routed = |own: &Replica| serves(own) && !desired.unrouted.contains(&own.id);
    let serves = match forward {
        true => "the new version serves",
        false if others.iter().any(routed) => "the old version serves",
        false if others.iter().any(serves) => UNROUTED,
        false => "the new replicas are removed",
    };
    format!("{service} is settled: {serves}")
}

/// If old replicas are stopped and none serves, or batches replace them, the rollout may have stopped them; only its record
/// shows that.
fn refuse_unread(service: &str, rollout: &RolloutId, replicas: &[Replica]) -> Result<()> {
    let is_new = |own: &&Replica| own.rollout.as_ref() == Some(rollout);
    let (new, old): (Vec<&Replica>, Vec<&Replica>) = replicas.iter().partition(is_new);
    let in_batches = new.iter().any(|own| own.batch.is_some());
    let serves = replicas.iter().any(Replica::serves) && !in_batches;
    if serves || old.iter().all(|own| own.may_run()) {
        return Ok(());
    }
    Err(Error::needs_person(format!(
        "an unfinished rollout of {service} may have stopped the old replicas, and its record cannot be read"
    ))
    .hint(format!(
        "run the same command again; docker compose up -d {service} starts what the Compose file describes"
    )))
}

/// The goal by `--on-unfinished`.
pub(super) fn chosen(
    context: &ServiceContext<'_>,
    rollout: &RolloutId,
    goal: Goal,
) -> Result<Goal> {
    match context.settings.on_unfinished {
        OnUnfinished::Resume => Ok(goal),
        OnUnfinished::Abort => Ok(Goal::Undo(Reason::Unfinished)),
        OnUnfinished::Fail => Err(refuse(&context.service.name, rollout, &goal)),
    }
}

fn refuse(service: &str, rollout: &RolloutId, goal: &Goal) -> Error {
    let (stands, way) = match goal {
        Goal::Finish => ("after", "finishes it"),
        Goal::Roll => ("before", "goes on with it"),
        Goal::Undo(_) => ("before", "undoes it"),
    };
    Error::refused(format!(
        "rollout {rollout} of {service} was left unfinished, {stands} its cutover"
    ))
    .hint(format!(
        "rollout resume {service} {way}; rollout abort {service} takes the traffic back to the old replicas"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run},
        plan::simulator::{old, replica, rollout},
    };

    #[test]
    fn without_its_record_stopped_replicas_are_left_to_a_person_where_the_rollout_may_have_stopped_them()
     {
        let of = rollout("r2");
        // The old replicas may be those of an earlier rollout.
        let stopped = replica("old-1", Some(&rollout("r1")), Run::Exited, Health::None);
        let new = |batch| Replica {
            batch,
            ..replica("new-1", Some(&of), Run::Running, Health::Healthy)
        };
        let is_refused = |replicas: &[Replica]| refuse_unread("web", &of, replicas).is_err();
        assert!(is_refused(std::slice::from_ref(&stopped)));
        assert!(!is_refused(&[stopped.clone(), old("old-2"), new(None)]));
        assert!(is_refused(&[stopped, old("old-2"), new(Some(1))]));
        assert!(!is_refused(&[old("old-2"), new(Some(1))]));
    }
}
