//! The same tables where the new version is previewed before any traffic moves.

use std::time::Duration;

use super::{
    super::{
        Next, Step,
        simulator::{Fate, Simulator, WELL, live},
    },
    expect, old_serves, old_set, steps,
};
use crate::model::{Goal, HookPhase, Pause, Reason, Share};

const OPEN: Option<Pause> = Some(Pause::Open);

const BEFORE: [&str; 5] = ["hold", "create 1", "ready", "shift 1", "confirm shift 1"];
const AFTER: [&str; 7] = [
    "cutover",
    "confirm new",
    "drain old-1",
    "stop old-1",
    "remove old-1",
    "rename web-new-1",
    "release",
];
const BACK: [&str; 6] = [
    "cut_back",
    "confirm old",
    "drain new-1",
    "stop new-1",
    "remove new-1",
    "release",
];

fn world(shifts: &[(u16, Option<Pause>)]) -> Simulator {
    Simulator::new(old_set(1), 1, true, WELL).canary(shifts)
}

/// A preview with hooks instead of a pause.
fn hooked(fate: Fate) -> Simulator {
    let mut world = Simulator::new(old_set(1), 1, true, fate).canary(&[(0, None)]);
    world.desired.hook_phases = [HookPhase::PreCutover].into();
    world
}

fn next_run(world: &Simulator) -> Simulator {
    let next = world.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Roll);
    next
}

#[test]
fn a_preview_leaves_the_public_with_the_old_version_until_it_is_promoted() {
    let mut paused = world(&[(0, OPEN)]);
    expect(&mut paused, &BEFORE, &Next::Pause { shift: 1 });
    let plan = &paused.observed.claim.as_ref().unwrap().plan;
    let shares = [paused.new_replicas(), paused.old_replicas()].map(|set| plan.share(set[0]));
    assert_eq!(shares, [Some(Share::Preview), None]);
    assert!(live(&paused.observed).iter().all(|id| id.0 == "old-1"));
    // The same rollout again only reports the pause.
    let again = ["confirm shift 1"];
    expect(&mut next_run(&paused), &again, &Next::Pause { shift: 1 });
    let mut promoted = next_run(&paused);
    promoted.facts.passed = 1;
    expect(&mut promoted, &[&again[..], &AFTER].concat(), &Next::Done);
}

#[test]
fn a_preview_comes_before_the_steps_of_a_canary() {
    let timed = Some(Pause::Timed(Duration::from_secs(30)));
    let mut canary = world(&[(0, OPEN), (10, timed)]);
    canary.desired.policy.attach = true;
    let steps = ["pause", "shift 2", "confirm shift 2", "pause"];
    let wanted = [&BEFORE[..], &steps, &AFTER].concat();
    expect(&mut canary, &wanted, &Next::Done);
}

#[test]
fn an_abort_of_a_preview_leaves_the_old_version_as_it_was() {
    let mut paused = world(&[(0, OPEN)]);
    assert_eq!(steps(&mut paused).1, Next::Pause { shift: 1 });
    let mut next = next_run(&paused);
    next.desired.goal = Goal::Undo(Reason::Unfinished);
    expect(&mut next, &BACK, &Next::Done);
    assert_eq!(next.observed.replicas, old_set(1));
}

#[test]
fn the_hooks_before_the_cutover_see_the_preview_and_decide_instead_of_a_person() {
    let hook = ["pre-cutover"];
    let wanted = [&BEFORE[..], &hook, &AFTER].concat();
    expect(&mut hooked(WELL), &wanted, &Next::Done);
    let fate = Fate {
        fails_hook: Some(HookPhase::PreCutover),
        ..WELL
    };
    let wanted = [&BEFORE[..], &hook, &BACK].concat();
    let end = old_serves("the hook ended with exit code 3");
    expect(&mut hooked(fate), &wanted, &end);
}

#[test]
fn hooks_that_a_crash_cut_short_in_a_preview_run_again_before_any_traffic_moves() {
    let mut world = hooked(WELL);
    world.until(|step| *step == Step::Hook(HookPhase::PreCutover));
    let mut next = next_run(&world);
    let wanted = [&["confirm shift 1", "pre-cutover"][..], &AFTER].concat();
    expect(&mut next, &wanted, &Next::Done);
    world.through(|step| *step == Step::Hook(HookPhase::PreCutover));
    let mut ended = next_run(&world);
    expect(
        &mut ended,
        &[&["confirm shift 1"][..], &AFTER].concat(),
        &Next::Done,
    );
}

#[test]
fn a_preview_that_is_not_confirmed_is_taken_back() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate).canary(&[(0, OPEN)]);
    let end = old_serves("the proxy did not confirm the preview in time");
    expect(&mut world, &[&BEFORE[..], &BACK].concat(), &end);
}

#[test]
fn a_preview_whose_old_replicas_are_gone_takes_over() {
    let mut paused = world(&[(0, OPEN)]);
    assert_eq!(steps(&mut paused).1, Next::Pause { shift: 1 });
    paused.observed.replicas.retain(|own| own.rollout.is_some());
    let mut next = paused.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Finish);
    let wanted = ["cutover", "confirm new", "rename web-new-1", "release"];
    expect(&mut next, &wanted, &Next::Done);
}
