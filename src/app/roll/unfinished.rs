//! What an earlier run has left unfinished: finished or undone before anything else.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::{Purpose, Scene, Subject, desired, record::Memory, refuse::unrouted};
use crate::{
    error::{Error, Outcome, Result},
    event::Event,
    execute::{self, UNROUTED, World},
    model::{ContainerId, Facts, Goal, Reason, Replica, RolloutId, Stage},
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
    /// Those that no proxy routes to, where something was unfinished.
    pub unrouted: BTreeSet<ContainerId>,
}

impl Scene<'_> {
    pub(super) async fn settle_unfinished(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        (lock, watch, memory): (&Lock, &Watch, &Memory),
        interrupted: watch::Receiver<bool>,
    ) -> Result<Settled> {
        proxy.take_over().await?;
        let (routed, confirm_hold) = (proxy.routes(), proxy.confirms_hold());
        let replicas = self.engine.replicas(&subject.key).await?;
        let settle = self.settle(subject, proxy, &replicas).await;
        let mut live = self.live(subject, proxy, lock, watch, settle);
        let observed = live.observe().await?;
        let name = &subject.service.name;
        let Some((rollout, goal, wanted)) = plan::unfinished(&observed, routed) else {
            if subject.purpose == Purpose::Settle {
                self.events
                    .notice(format!("{name} has no unfinished rollout"));
            }
            return Ok(Settled {
                olds: observed.replicas,
                was_unfinished: false,
                unrouted: BTreeSet::new(),
            });
        };
        let goal = match subject.settings.on_unfinished {
            OnUnfinished::Resume => goal,
            OnUnfinished::Abort => Goal::Undo(Reason::Unfinished),
            OnUnfinished::Fail => return Err(refuse(name, &rollout, &goal)),
        };
        let forward = goal == Goal::Finish;
        self.events.emit(Event::Unfinished {
            rollout: rollout.clone(),
            forward,
        });
        let stage = observed.claim.as_ref().map(|claim| claim.stage);
        let others: Vec<Replica> = observed
            .replicas
            .into_iter()
            .filter(|replica| replica.rollout.as_ref() != Some(&rollout))
            .collect();
        let mut unrouted = memory.unrouted(&rollout);
        // At these stages nothing of the rollout keeps the old replicas from being routed to.
        if routed && matches!(stage, Some(Stage::Hold | Stage::Back)) {
            unrouted.extend(unrouted_now(&mut *live.proxy, &others).await);
        }
        let mut desired = desired(goal, rollout, wanted, routed, &others);
        desired.unrouted = unrouted;
        let serves = others
            .iter()
            .any(|own| own.serves() && !desired.unrouted.contains(&own.id));
        desired.confirm_hold = confirm_hold;
        desired.hooks = subject.has_hooks(&others);
        let facts = Facts {
            created: true,
            ..Facts::default()
        };
        match execute::run(&mut live, desired, facts, self.events, interrupted).await {
            Ok(_) if subject.purpose == Purpose::Settle => self.events.notice(match forward {
                true => format!("{name} is settled: the new version serves"),
                false if serves => format!("{name} is settled: the old version serves"),
                false => format!("{name} is settled: {UNROUTED}"),
            }),
            Ok(_) => {}
            // The old version serves again: what was asked for can go on from there.
            Err(error) if error.outcome == Outcome::Failed && subject.purpose == Purpose::Roll => {
                self.events.notice(error.message);
            }
            Err(error) => return Err(error),
        }
        let olds = live.observe().await?.replicas;
        let unrouted = match routed && subject.purpose == Purpose::Roll {
            true => unrouted_now(&mut *live.proxy, &olds).await,
            false => BTreeSet::new(),
        };
        Ok(Settled {
            olds,
            was_unfinished: true,
            unrouted,
        })
    }
}

async fn unrouted_now(proxy: &mut dyn Proxy, replicas: &[Replica]) -> BTreeSet<ContainerId> {
    let observation = proxy.observed(replicas).await;
    observation.map_or_else(BTreeSet::new, |now| unrouted(&now, replicas))
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
