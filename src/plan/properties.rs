//! From any observed state the plan comes to an end, keeps the invariants at each step, and leaves what can be settled.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};

use super::{
    Failure, Next, Step, route_plan,
    simulator::{Fate, Ready, Simulator, live, replica, rollout},
};
use crate::model::{
    Claim, Goal, Health, HookPhase, Milestone, Phase, Reason, Replica, RoutePlan, Run, Target,
    Verdict,
};

fn run() -> impl Strategy<Value = Run> {
    prop_oneof![
        4 => Just(Run::Running),
        1 => Just(Run::Created),
        1 => Just(Run::Restarting),
        1 => Just(Run::Paused),
        1 => Just(Run::Exited),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        Just(Health::None),
        Just(Health::Starting),
        Just(Health::Healthy),
        Just(Health::Unhealthy)
    ]
}

/// The phases whose hooks are steps.
pub(super) const HOOKS: [HookPhase; 3] = [
    HookPhase::PreDeploy,
    HookPhase::PreCutover,
    HookPhase::PostCutover,
];

fn hooks() -> impl Strategy<Value = BTreeSet<HookPhase>> {
    prop::sample::subsequence(HOOKS.to_vec(), 0..=HOOKS.len())
        .prop_map(|phases| phases.into_iter().collect())
}

fn fate() -> impl Strategy<Value = Fate> {
    let ready = prop_oneof![Just(Ready::Soon), Just(Ready::Never), Just(Ready::Crashes)];
    let fails_hook = prop::option::weighted(0.2, prop::sample::select(HOOKS.to_vec()));
    let milestones = vec![Milestone::Ready, Milestone::Live];
    let fails_others = prop::option::weighted(0.2, prop::sample::select(milestones));
    let fate = (ready, any::<[bool; 5]>(), fails_hook, fails_others);
    fate.prop_map(|(ready, bits, fails_hook, fails_others)| {
        let [confirms, confirms_back, bakes_well, harms, restarts] = bits;
        Fate {
            ready,
            confirms,
            confirms_back,
            bakes_well,
            harms,
            restarts,
            fails_hook,
            fails_others,
        }
    })
}

fn goal() -> impl Strategy<Value = Goal> {
    prop_oneof![
        3 => Just(Goal::Roll),
        2 => Just(Goal::Finish),
        1 => Just(Goal::Undo(Reason::Unfinished)),
        1 => Just(Goal::Undo(Reason::Interrupted)),
        1 => Just(Goal::Undo(Reason::Failed("why".to_owned()))),
    ]
}

fn phase() -> impl Strategy<Value = Option<Phase>> {
    prop::option::weighted(
        0.8,
        prop_oneof![
            Just(Phase::Prepared),
            Just(Phase::Committed),
            Just(Phase::RolledBack),
            Just(Phase::ForceShown),
            Just(Phase::Settled)
        ],
    )
}

/// Replicas of one side; some have their final name already.
fn set(of: &'static str) -> impl Strategy<Value = Vec<Replica>> {
    let one = (run(), health(), any::<bool>());
    prop::collection::vec(one, 0..4).prop_map(move |all| {
        let made = |(number, (run, health, named)): (usize, (Run, Health, bool))| {
            let id = rollout("r2");
            let own = (of == "new").then_some(&id);
            let mut replica = replica(&format!("{of}-{number}"), own, run, health);
            if named {
                replica
                    .target_name()
                    .to_owned()
                    .clone_into(&mut replica.name);
            }
            replica
        };
        all.into_iter().enumerate().map(made).collect()
    })
}

/// Any state in which a run can find a service, and anything that it may have found out.
fn world() -> impl Strategy<Value = Simulator> {
    let sets = (set("old"), set("new"), phase(), any::<[bool; 9]>());
    let wants = (
        goal(),
        1..4_u32,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        (fate(), hooks()),
    );
    (sets, wants).prop_map(
        |(
            (olds, mut new, phase, bits),
            (goal, replicas, routed, created, confirm_hold, (fate, hooks)),
        )| {
            // A rollout that has just begun holds before it creates.
            if goal == Goal::Roll && phase.is_none() {
                new.clear();
            }
            let mut world = Simulator::new(olds.clone(), replicas, routed, fate);
            if bits[8] {
                world = stopped_first(world);
            }
            world.desired.goal = goal;
            world.desired.confirm_hold = routed && confirm_hold;
            world.desired.served &= bits[0] || bits[1];
            world.desired.policy.bake = bits[6];
            world.desired.policy.together = bits[0] && bits[7];
            world.desired.pre_stop = bits[7];
            world.desired.hook_phases = hooks;
            if bits[2] && !olds.is_empty() {
                world.desired.old_at_start.remove(&olds[0].id);
            }
            world.facts.created = created;
            world.facts.is_continued = world.desired.goal == Goal::Undo(Reason::Unfinished);
            world.facts.ready_expired = bits[3] && bits[4];
            world.observed.claim = phase.map(|phase| Claim {
                rollout: world.desired.rollout.clone(),
                phase,
                plan: partly(phase, &world, bits[5]),
                stale: bits[6] && bits[7],
            });
            for (number, new) in new.iter().enumerate().filter(|(number, _)| bits[*number]) {
                let failed = Verdict::Failed("exited".to_owned());
                let verdict = if bits[number + 4] {
                    Verdict::Ready
                } else {
                    failed
                };
                world.facts.verdicts.insert(new.id.clone(), verdict);
            }
            world.observed.replicas.extend(new);
            world
        },
    )
}

/// Whatever state the old replicas are in by now, they ran when the rollout began.
fn stopped_first(mut world: Simulator) -> Simulator {
    let runs = world.observed.replicas.clone();
    let all = world.observed.replicas.iter_mut();
    all.for_each(|own| own.run = Run::Running);
    world = world.stop_first();
    world.observed.replicas = runs;
    world
}

/// The plan of a phase; one old replica that it does not name may have been added since.
fn partly(phase: Phase, world: &Simulator, all: bool) -> RoutePlan {
    let mut plan = route_plan(phase, &world.desired, &world.observed);
    if let Some(first) = world.old_replicas().first().filter(|_| !all) {
        plan.shares.remove(&Target::Replica(first.id.clone()));
    }
    plan
}

/// What the end claims must be so.
pub(super) fn judge(world: &Simulator, end: &Next) {
    let state = || format!("{end:?} after {:?}\n{world:#?}", world.steps);
    let undone = match end {
        Next::Done => matches!(world.desired.goal, Goal::Undo(_)),
        Next::Fail(Failure::OldServes(_) | Failure::Interrupted) => true,
        _ => false,
    };
    let stopped = |old: &&Replica| world.desired.restartable.contains(&old.id) && !old.may_run();
    assert!(
        !undone || !world.old_replicas().iter().any(stopped),
        "what ran before does not run again: {}",
        state()
    );
    let unsettled = world
        .observed
        .claim
        .as_ref()
        .is_some_and(|claim| claim.phase != Phase::Settled);
    match end {
        Next::Done if matches!(world.desired.goal, Goal::Undo(_)) => {
            assert!(world.new_replicas().is_empty() && !unsettled, "{}", state());
        }
        Next::Done => {
            let serve = world.new_replicas().iter().all(|new| new.serves());
            assert!(
                serve || world.desired.goal != Goal::Roll,
                "a replica that is reported live does not serve: {}",
                state()
            );
            let named = world
                .new_replicas()
                .iter()
                .all(|new| new.name == new.target_name());
            // An unconfirmed leftover of another run is replaced by the next rollout.
            let left =
                world.facts.confirm_expired == Some(Phase::Committed) && !world.desired.served;
            assert!(
                !unsettled && (named || left || !world.old_replicas().is_empty()),
                "{}",
                state()
            );
            let olds = world.old_replicas();
            let old = olds
                .iter()
                .any(|old| world.desired.old_at_start.contains(&old.id));
            assert!(
                !world.steps.contains(&Step::Route(Phase::Committed)) || left || !old,
                "{}",
                state()
            );
        }
        Next::Fail(Failure::OldServes(_) | Failure::Interrupted) => {
            assert!(world.new_replicas().is_empty() && !unsettled, "{}", state());
        }
        Next::Fail(Failure::NeedsPerson(_)) => {}
        Next::Fail(Failure::InPart(_)) => judge_in_part(world),
        Next::Pause { shift } => judge_pause(world, *shift),
        other => panic!("{other:?} is no end"),
    }
}

/// A rollout that ends with a part of its batches is left between two of them.
fn judge_in_part(world: &Simulator) {
    let claim = world.observed.claim.as_ref();
    let Some(Phase::Shifted { step }) = claim.map(|claim| claim.phase) else {
        panic!("between no two batches: {world:#?}");
    };
    judge_pause(world, step);
}

/// A rollout that pauses has moved a part of the traffic or previews the new version, and a canary can go back.
fn judge_pause(world: &Simulator, shift: u16) {
    let phase = Phase::Shifted { step: shift };
    let claim = world.observed.claim.as_ref();
    let is_there = claim.is_some_and(|claim| claim.phase == phase);
    let old_serves = world.old_replicas().iter().any(|old| old.serves());
    let way_back = old_serves || world.desired.policy.batches.is_some();
    let is_confirmed = world.facts.confirmed == Some(phase);
    assert!(is_there && way_back && is_confirmed, "{world:#?}");
}

/// A signal, an error, or another command between two steps.
#[derive(Clone, Debug)]
enum Trouble {
    Exits(Index),
    Unhealthy(Index),
    Vanishes(Index),
    Joins,
    Moves,
    Killed,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        any::<Index>().prop_map(Trouble::Exits),
        any::<Index>().prop_map(Trouble::Unhealthy),
        any::<Index>().prop_map(Trouble::Vanishes),
        Just(Trouble::Joins),
        Just(Trouble::Moves),
        Just(Trouble::Killed),
    ]
}

fn strike(world: &mut Simulator, trouble: &Trouble) {
    let replicas = &mut world.observed.replicas;
    let count = replicas.len();
    match trouble {
        Trouble::Joins if replicas.iter().any(|own| own.name == "joined") => {}
        Trouble::Joins => replicas.push(replica("joined", None, Run::Running, Health::Healthy)),
        Trouble::Moves => {
            if let Some(claim) = world.observed.claim.as_mut() {
                claim.stale = true;
            }
        }
        Trouble::Killed => {
            if let Some(next) = world.restarted() {
                *world = next;
            }
        }
        _ if count == 0 => {}
        Trouble::Exits(which) => replicas[which.index(count)].run = Run::Exited,
        Trouble::Unhealthy(which) => replicas[which.index(count)].health = Health::Unhealthy,
        Trouble::Vanishes(which) => drop(replicas.remove(which.index(count))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_state_the_plan_ends_and_keeps_the_invariants(mut world in world()) {
        let end = world.run();
        judge(&world, &end);
    }

    #[test]
    fn a_preview_of_any_state_comes_to_an_end(world in world()) {
        let mut preview = world.preview;
        let ends = (0..64).any(|_| match preview.next() {
            Next::Step(step) => {
                preview.apply(&step);
                false
            }
            Next::Undo(_) | Next::Finish(_) | Next::GoOn => false,
            Next::Done | Next::Pause { .. } | Next::Fail(_) => true,
        });
        prop_assert!(ends, "{preview:#?}");
    }

    #[test]
    fn whatever_happens_in_between_the_plan_ends_and_keeps_the_invariants(
        count in 0..4_usize,
        replicas in 1..4_u32,
        (routed, confirm_hold) in any::<(bool, bool)>(),
        (fate, hooks) in (fate(), hooks()),
        (bake, stop_first, together) in any::<(bool, bool, bool)>(),
        troubles in prop::collection::vec((0..8_usize, trouble()), 0..4),
    ) {
        let old = |number| replica(&format!("old-{number}"), None, Run::Running, Health::Healthy);
        let mut world = Simulator::new((0..count).map(old).collect(), replicas, routed, fate);
        if stop_first {
            world = world.stop_first();
        }
        world.desired.confirm_hold = routed && confirm_hold;
        world.desired.policy.bake = bake && !stop_first;
        world.desired.policy.together = together && !stop_first;
        world.desired.hook_phases = hooks;
        for (steps, trouble) in &troubles {
            for _ in 0..*steps {
                if let Next::Step(step) = world.next() {
                    world.take(step);
                }
            }
            strike(&mut world, trouble);
        }
        let end = world.run();
        judge(&world, &end);
    }

    #[test]
    fn what_any_run_has_left_does_not_stop_the_one_after_the_next(mut world in world(), steps in 0..12_usize) {
        for _ in 0..steps {
            if let Next::Step(step) = world.next() {
                world.take(step);
            }
        }
        world.fate = super::simulator::WELL;
        let lived = live(&world.observed).len();
        // A first start without a proxy that never got as far may be removed, though a part of it runs.
        let phase = world.observed.claim.as_ref().map(|claim| claim.phase);
        let served = world.desired.routed || phase == Some(Phase::Committed);
        let mut stuck = false;
        for _ in 0..2 {
            let starting = |own: &&mut Replica| own.health == Health::Starting;
            for own in world.observed.replicas.iter_mut().filter(starting) {
                own.health = Health::Healthy;
            }
            let Some(mut next) = world.restarted() else {
                // Nothing is left to settle, whatever the run before had to say.
                stuck = false;
                break;
            };
            let end = next.run();
            judge(&next, &end);
            stuck = matches!(end, Next::Fail(Failure::NeedsPerson(_)));
            world = next;
        }
        prop_assert!(!stuck, "{:#?}", world.observed);
        prop_assert!(!served || lived == 0 || !live(&world.observed).is_empty(), "{world:#?}");
    }
}

/// A fact cannot be older than the routing that it is about.
#[test]
fn a_confirmation_counts_for_one_routing_alone() {
    let old = replica("old", None, Run::Running, Health::Healthy);
    let mut world = Simulator::new(vec![old], 1, true, super::simulator::WELL);
    while world.facts.confirmed != Some(Phase::Committed) {
        let Next::Step(step) = world.next() else {
            panic!()
        };
        world.take(step);
    }
    world
        .observed
        .replicas
        .push(replica("joined", None, Run::Running, Health::Healthy));
    assert_eq!(world.next(), Next::Step(Step::Route(Phase::Committed)));
    world.take(Step::Route(Phase::Committed));
    assert_eq!(world.next(), Next::Step(Step::Confirm(Phase::Committed)));
}
