//! Tables with hooks: those of the phases, and the pre-stop ones.

use super::{
    super::{
        Next, Step,
        properties::HOOKS,
        simulator::{Fate, Simulator, WELL},
    },
    expect, old_serves, old_set, steps,
};
use crate::model::{HookPhase, Run};

#[test]
fn pre_stop_hooks_run_while_the_way_back_is_still_open() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.desired.pre_stop = true;
    world.until(|step| matches!(step, Step::PreStop { .. }));
    world.observed.replicas[1].run = Run::Exited;
    let (_, end) = steps(&mut world);
    assert_eq!(
        end,
        old_serves("new replica web-new-1 failed after the cutover")
    );
}

/// The same rollout with hooks in each phase; one of them may fail.
fn hooked(olds: usize, routed: bool, fails_hook: Option<HookPhase>) -> Simulator {
    let fate = Fate { fails_hook, ..WELL };
    let mut world = Simulator::new(old_set(olds), 1, routed, fate);
    world.desired.hook_phases = HOOKS.into();
    world
}

const HOOKED: [&str; 8] = [
    "pre-deploy",
    "hold",
    "create 1",
    "ready",
    "pre-cutover",
    "cutover",
    "confirm new",
    "post-cutover",
];

#[test]
fn the_hooks_of_each_phase_run_once_in_their_places() {
    let rest = [
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    let wanted = [&HOOKED[..], &rest].concat();
    expect(&mut hooked(1, true, None), &wanted, &Next::Done);
    let unrouted: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|step| *step != "confirm new")
        .collect();
    expect(&mut hooked(1, false, None), &unrouted, &Next::Done);
}

#[test]
fn a_hook_that_fails_before_the_cutover_leaves_the_old_version_as_it_is() {
    let end = old_serves("the hook ended with exit code 3");
    let mut before = hooked(1, true, Some(HookPhase::PreDeploy));
    expect(&mut before, &HOOKED[..1], &end);
    assert_eq!(before.observed.claim, None);
    let mut ready = hooked(1, true, Some(HookPhase::PreCutover));
    let rest = ["stop new-1", "remove new-1", "release"];
    expect(&mut ready, &[&HOOKED[..5], &rest].concat(), &end);
}

#[test]
fn a_hook_that_fails_after_the_cutover_gives_the_traffic_back() {
    let end = old_serves("the hook ended with exit code 3");
    let back = [
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    for olds in [1, 0] {
        let mut world = hooked(olds, true, Some(HookPhase::PostCutover));
        expect(&mut world, &[&HOOKED[..], &back].concat(), &end);
    }
}

#[test]
fn hooks_that_a_crash_cut_short_after_the_cutover_run_again_and_those_before_it_do_not() {
    let mut world = hooked(1, true, None);
    world.until(|step| *step == Step::Hook(HookPhase::PostCutover));
    let (after, _) = steps(&mut world.restarted().unwrap());
    assert_eq!(after[..3], ["confirm new", "post-cutover", "drain old-1"]);
    let mut world = hooked(1, true, None);
    world.until(|step| *step == Step::Hook(HookPhase::PreCutover));
    let (before, end) = steps(&mut world.restarted().unwrap());
    assert_eq!(before, ["stop new-1", "remove new-1", "release"]);
    assert_eq!(end, Next::Done);
}
