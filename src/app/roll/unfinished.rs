//! What an earlier run has left unfinished: finished or undone before anything else.

use std::time::Duration;

use tokio::sync::watch;

use super::{Purpose, Scene, Subject, desired, record::Memory, refuse::Before};
use crate::{
    error::{Error, Outcome, Result},
    event::Event,
    execute::{self, UNROUTED, World, live::Live},
    model::{Desired, Facts, Goal, Phase, Reason, Replica, RolloutId},
    plan,
    proxy::Proxy,
    settings::OnUnfinished,
    state::Lock,
    watch::Watch,
};

/// What is there once nothing is unfinished any more.
pub(super) struct Settled {
    /// Every replica.
    pub olds: Vec<Replica>,
    pub was_unfinished: bool,
    /// What ails their routing, where something was unfinished.
    pub before: Before,
}

impl Settled {
    /// Nothing was unfinished.
    fn as_it_was(olds: Vec<Replica>) -> Self {
        Self {
            olds,
            was_unfinished: false,
            before: Before::default(),
        }
    }
}

impl Scene<'_> {
    pub(super) async fn settle_unfinished(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        (lock, watch, memory): (&Lock, &Watch, &Memory),
        interrupted: watch::Receiver<bool>,
    ) -> Result<Settled> {
        proxy.fence().await?;
        let (routed, confirm_hold) = (proxy.routes(), proxy.capabilities().hold_reroutes);
        let replicas = self.engine.replicas(&subject.key).await?;
        let settle = self.settle(subject, proxy, &replicas).await;
        let mut live = self.live(subject, proxy, lock, watch, settle);
        let observed = live.observe().await?;
        let name = &subject.service.name;
        let begun = memory.stop_first(&observed.replicas);
        let unfinished = plan::unfinished(&observed, routed, begun.as_ref());
        let Some((rollout, goal, wanted)) = unfinished else {
            if subject.purpose == Purpose::Settle {
                self.events
                    .notice(format!("{name} has no unfinished rollout"));
            }
            return Ok(Settled::as_it_was(observed.replicas));
        };
        if memory.is_unread && goal != Goal::Finish {
            refuse_unread(name, &observed.replicas)?;
        }
        let goal = chosen(subject, &rollout, goal)?;
        let forward = goal == Goal::Finish;
        let events = self.events.of_rollout(&rollout);
        live.events = &events;
        events.emit(Event::Unfinished { forward });
        let stage = observed.claim.as_ref().map(|claim| claim.phase);
        // At these stages nothing of the rollout keeps the old replicas from being routed to.
        let untouched = routed && matches!(stage, Some(Phase::Prepared | Phase::RolledBack));
        let (news, others): (Vec<Replica>, Vec<Replica>) = observed
            .replicas
            .into_iter()
            .partition(|replica| replica.rollout.as_ref() == Some(&rollout));
        let now = Before::read(&mut *live.proxy, &others, untouched).await;
        let mut desired = desired(goal, rollout, wanted, routed, &others);
        if let Some(begun) = begun {
            begun.resume(&mut desired, &others);
        }
        desired.unrouted = now.unrouted;
        desired.unrouted.extend(memory.unrouted(&desired.rollout));
        let settled = settled(name, forward, &others, &desired);
        desired.confirm_hold = confirm_hold;
        desired.hooks = subject.has_hooks(&others);
        if forward && routed {
            live.bake = self.bake_again(subject, wanted, &news, &others);
            desired.policy.bake = !live.bake.is_zero();
        }
        let facts = Facts {
            created: true,
            ..Facts::default()
        };
        match execute::run(&mut live, desired, facts, &events, interrupted).await {
            Ok(_) if subject.purpose == Purpose::Settle => self.events.notice(settled),
            Ok(_) => {}
            // The old version serves again: what was asked for can go on from there.
            Err(error) if error.outcome == Outcome::Failed && subject.purpose == Purpose::Roll => {
                self.events.notice(error.message);
            }
            Err(error) => return Err(error.within(events.scope())),
        }
        let goes_on = routed && subject.purpose == Purpose::Roll;
        settled_now(&mut live, goes_on).await
    }

    /// How long the new replicas are watched for what only Traefik can check: the run before may have ended in the middle
    /// of that.
    fn bake_again(
        &self,
        subject: &Subject<'_>,
        wanted: u32,
        news: &[Replica],
        others: &[Replica],
    ) -> Duration {
        match news.first() {
            Some(new) if others.iter().any(Replica::serves) => {
                self.unasked(subject, wanted, &new.labels, &new.ports)
            }
            _ => Duration::ZERO,
        }
    }
}

/// What is there once the run is settled, and how it is routed where the rollout goes on.
async fn settled_now(live: &mut Live<'_>, goes_on: bool) -> Result<Settled> {
    let olds = live.observe().await?.replicas;
    let before = Before::read(&mut *live.proxy, &olds, goes_on).await;
    Ok(Settled {
        olds,
        was_unfinished: true,
        before,
    })
}

/// What is said of a service once nothing is unfinished any more.
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

/// Old replicas that are all stopped may have been stopped by the rollout, which only its record tells.
fn refuse_unread(service: &str, replicas: &[Replica]) -> Result<()> {
    let stopped = |own: &Replica| own.rollout.is_none() && !own.may_run();
    if replicas.iter().any(Replica::serves) || !replicas.iter().any(stopped) {
        return Ok(());
    }
    Err(Error::needs_person(format!(
        "an unfinished rollout of {service} may have stopped the old replicas, and its record cannot be read"
    ))
    .hint(format!(
        "run the same command again; docker compose up -d {service} starts what the Compose file describes"
    )))
}

/// What is to become of it.
fn chosen(subject: &Subject<'_>, rollout: &RolloutId, goal: Goal) -> Result<Goal> {
    match subject.settings.on_unfinished {
        OnUnfinished::Resume => Ok(goal),
        OnUnfinished::Abort => Ok(Goal::Undo(Reason::Unfinished)),
        OnUnfinished::Fail => Err(refuse(&subject.service.name, rollout, &goal)),
    }
}

fn refuse(service: &str, rollout: &RolloutId, goal: &Goal) -> Error {
    let (stands, way) = match goal {
        Goal::Finish => ("after", "finishes it"),
        _ => ("before", "undoes it"),
    };
    Error::refused(format!(
        "rollout {rollout} of {service} was left unfinished, {stands} its cutover"
    ))
    .hint(format!(
        "rollout resume {service} {way}; rollout abort {service} takes the traffic back to the old replicas"
    ))
}
