//! The whole loop with another kind of proxy: one that has weights and no drain signal of its own.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Summary, World, run};
use crate::{
    error::{Outcome, Result},
    event::Events,
    model::{Desired, Facts, Health, Observed, Phase, Replica, Run, Share},
    plan::{
        Step, claim, route_plan,
        simulator::{Simulator, WELL, old, replica},
    },
    proxy::{
        Router,
        agree::{Limits, Question, agree},
        testing::Weighted,
    },
};

/// Simulated replicas behind the proxy.
struct Behind {
    replicas: Simulator,
    proxy: Weighted,
}

impl Behind {
    async fn confirm(&mut self, phase: Phase, desired: &Desired, facts: &mut Facts) {
        let observed = &self.replicas.observed;
        let plan = route_plan(phase, desired, observed);
        let awaited: Vec<&Replica> = observed.replicas.iter().collect();
        let known = BTreeSet::new();
        let question = Question {
            plan: &plan,
            replicas: &observed.replicas,
            awaited: &awaited,
            known: Some(&known),
        };
        let limits = Limits {
            total: Duration::from_secs(30),
            stand: Duration::ZERO,
            held_back: self.proxy.held_back(),
            way_back: true,
        };
        match agree(&mut self.proxy, &question, &limits).await.has_stood {
            true => facts.confirmed = Some(phase),
            false => facts.confirm_expired = Some(phase),
        }
    }
}

#[async_trait(?Send)]
impl World for Behind {
    async fn observe(&mut self) -> Result<Observed> {
        let replicas = self.replicas.observed.replicas.clone();
        let claim = self.proxy.claim(&replicas).await?;
        Ok(Observed { replicas, claim })
    }

    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        match step {
            Step::Route(phase) => {
                let claim = claim(*phase, desired, observed);
                self.proxy.apply(&claim, &observed.replicas).await?;
            }
            Step::Confirm(phase) => self.confirm(*phase, desired, facts).await,
            Step::Release => {
                let replicas = &observed.replicas;
                self.proxy.release(&desired.rollout, replicas).await?;
            }
            _ => {
                self.replicas.observed = observed.clone();
                self.replicas.act(step, desired, facts);
            }
        }
        Ok(())
    }
}

async fn roll(is_stuck: bool) -> (Behind, Result<Summary>) {
    let olds = vec![old("old-1"), old("old-2")];
    let mut replicas = Simulator::new(olds, 1, true, WELL);
    replicas.desired.policy.shifts = vec![10, 50];
    let desired = replicas.desired.clone();
    let mut proxy = Weighted::default();
    proxy.is_stuck = is_stuck;
    let mut world = Behind { replicas, proxy };
    let (_raise, raised) = watch::channel(false);
    let (facts, events) = (Facts::default(), Events::default());
    let end = run(&mut world, desired, facts, &events, raised).await;
    (world, end)
}

/// The shares of the new replica and of the first old one in each plan.
fn shares(world: &Behind) -> Vec<(String, Option<Share>, Option<Share>)> {
    let of = &world.replicas.desired.rollout;
    let new = replica("new-1", Some(of), Run::Running, Health::Healthy);
    let before = old("old-1");
    let all = world.proxy.applied.iter();
    all.map(|claim| {
        let share = |own: &Replica| claim.plan.share(own);
        (claim.phase.to_string(), share(&new), share(&before))
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_with_weights_is_shifted_step_by_step_and_each_step_confirmed() {
    let (world, end) = roll(false).await;
    end.unwrap();
    let (hidden, live) = (Some(Share::Hidden), Some(Share::Live));
    let weight = |own| Some(Share::Weight(own));
    let wanted = [
        ("hold", hidden, None),
        ("shift-1", weight(2), weight(9)),
        ("shift-2", weight(2), weight(1)),
        ("cutover", live, hidden),
    ];
    let wanted = wanted.map(|(phase, new, old)| (phase.to_owned(), new, old));
    assert_eq!(shares(&world), wanted);
    let left: Vec<&str> = world
        .replicas
        .observed
        .replicas
        .iter()
        .map(|own| &*own.name)
        .collect();
    assert_eq!(left, ["web-new-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_never_takes_a_shift_over_is_taken_back() {
    let (world, end) = roll(true).await;
    assert_eq!(end.unwrap_err().outcome, Outcome::NeedsPerson);
    let phases: Vec<String> = shares(&world)
        .into_iter()
        .map(|(phase, ..)| phase)
        .collect();
    assert_eq!(phases, ["hold", "shift-1", "back"]);
    let left = world.replicas.observed.replicas.len();
    assert_eq!(left, 3, "what cannot be confirmed is left running");
}
