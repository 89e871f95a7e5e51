//! The whole loop with another kind of proxy: one that has weights and no drain signal of its own.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Summary, World, run,
    together::{Group, Member},
};
use crate::{
    error::{Outcome, Result},
    event::{Event, Events, Scope, Sink},
    model::{Desired, Facts, Goal, Health, Observed, Pause, Phase, Replica, Run, Share},
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
struct Behind<'a> {
    replicas: Simulator,
    proxy: Weighted,
    /// The other services of a joint cutover.
    member: Option<Member<'a>>,
}

impl Behind<'_> {
    async fn route(&mut self, phase: Phase, desired: &Desired, observed: &Observed) -> Result<()> {
        let claim = claim(phase, desired, observed);
        let is_joint = matches!(phase, Phase::Committed | Phase::RolledBack);
        if let Some(member) = self.member.filter(|_| is_joint) {
            member.write(phase, Vec::new()).await?;
        }
        self.proxy.apply(&claim, &observed.replicas).await.map(drop)
    }

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
impl World for Behind<'_> {
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
        if let (Some(member), Goal::Undo(_)) = (self.member, &desired.goal) {
            member.fail();
        }
        match step {
            Step::Route(phase) => self.route(*phase, desired, observed).await?,
            Step::AwaitOthers(all) => {
                let member = self.member.unwrap();
                tokio::select! {
                    () = member.reach(*all) => facts.all_reached = Some(*all),
                    why = member.failed() => facts.others_failed = Some(why),
                }
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

/// Two old replicas and one new one.
fn behind<'a>(is_stuck: bool) -> Behind<'a> {
    let olds = vec![old("old-1"), old("old-2")];
    let mut proxy = Weighted::default();
    proxy.is_stuck = is_stuck;
    Behind {
        replicas: Simulator::new(olds, 1, true, WELL),
        proxy,
        member: None,
    }
}

async fn rolled<'a>(world: Behind<'a>) -> (Behind<'a>, Result<Summary>) {
    seen(world, &Events::default()).await
}

async fn seen<'a>(mut world: Behind<'a>, events: &Events) -> (Behind<'a>, Result<Summary>) {
    let desired = world.replicas.desired.clone();
    let (_raise, raised) = watch::channel(false);
    let end = run(&mut world, desired, Facts::default(), events, raised).await;
    (world, end)
}

/// What the new replicas get of the traffic, as it is reported.
#[derive(Clone, Default)]
struct Percents(Arc<Mutex<Vec<u32>>>);

impl Sink for Percents {
    fn event(&mut self, _: SystemTime, _: &Scope, event: &Event) {
        if let Event::Traffic { percent } = event {
            self.0.lock().unwrap().push(*percent);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_split_of_the_traffic_is_reported_once_it_is_confirmed() {
    let shifts: [&[(u16, Option<Pause>)]; 2] = [&[], &[(10, None), (50, None)]];
    for (shifts, wanted) in shifts.into_iter().zip([&[100][..], &[10, 50, 100]]) {
        for is_stuck in [false, true] {
            let mut world = behind(is_stuck);
            world.replicas = world.replicas.canary(shifts);
            let percents = Percents::default();
            let events = Events::new(vec![Box::new(percents.clone())]);
            let (_, end) = seen(world, &events).await;
            assert_eq!(end.is_err(), is_stuck);
            let wanted = if is_stuck { &[] } else { wanted };
            assert_eq!(*percents.0.lock().unwrap(), wanted);
        }
    }
}

async fn shifted<'a>(is_stuck: bool) -> (Behind<'a>, Result<Summary>) {
    let mut world = behind(is_stuck);
    world.replicas = world.replicas.canary(&[(0, None), (10, None), (50, None)]);
    rolled(world).await
}

/// The shares of the new replica and of the first old one in each plan.
fn shares(world: &Behind<'_>) -> Vec<(String, Option<Share>, Option<Share>)> {
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
async fn a_proxy_with_weights_previews_and_is_shifted_step_by_step_and_each_step_confirmed() {
    let (world, end) = shifted(false).await;
    end.unwrap();
    let (hidden, live) = (Some(Share::Hidden), Some(Share::Live));
    let weight = |own| Some(Share::Weight(own));
    let wanted = [
        ("hold", hidden, None),
        ("shift-1", Some(Share::Preview), None),
        ("shift-2", weight(4), weight(18)),
        ("shift-3", weight(4), weight(2)),
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
    let (world, end) = shifted(true).await;
    assert_eq!(end.unwrap_err().outcome, Outcome::NeedsPerson);
    let phases: Vec<String> = shares(&world)
        .into_iter()
        .map(|(phase, ..)| phase)
        .collect();
    assert_eq!(phases, ["hold", "shift-1", "back"]);
    let left = world.replicas.observed.replicas.len();
    assert_eq!(left, 3, "what cannot be confirmed is left running");
}

/// Two services that cut over together, of which one may not be taken over by its proxy; what is left of each.
async fn both(is_stuck: bool) -> [(usize, Vec<String>, Result<Summary>); 2] {
    let group = Group::default();
    group.expect(["api", "web"].into_iter());
    let one = async |name, is_stuck| {
        let mut world = behind(is_stuck);
        world.member = Some(group.member(name));
        world.replicas.desired.policy.together = true;
        let (world, end) = rolled(world).await;
        group.leave(name, end.is_err());
        let phases = shares(&world).into_iter().map(|(phase, ..)| phase);
        let phases = phases.collect();
        (world.replicas.observed.replicas.len(), phases, end)
    };
    let (api, web) = tokio::join!(one("api", is_stuck), one("web", false));
    [api, web]
}

#[tokio::test(start_paused = true)]
async fn two_services_behind_it_cut_over_together() {
    for (left, phases, end) in both(false).await {
        end.unwrap();
        assert_eq!(
            (left, phases),
            (1, vec!["hold".to_owned(), "cutover".to_owned()])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_proxy_of_one_does_not_take_over_both_go_back_from() {
    for (left, phases, end) in both(true).await {
        assert!(end.is_err());
        assert_eq!(phases, ["hold", "cutover", "back"]);
        assert!(left >= 2, "the old replicas are there");
    }
}
