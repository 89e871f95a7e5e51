//! Tables with a bake after the cutover.

use super::{
    super::{
        Next, Step,
        simulator::{Fate, Simulator, WELL},
    },
    expect, old_serves, old_set, steps,
};

/// The steps up to the end of the watch.
pub(super) const BAKED: [&str; 6] = [
    "hold",
    "create 1",
    "ready",
    "cutover",
    "confirm new",
    "bake",
];

#[test]
fn the_old_set_goes_only_once_the_new_one_has_been_watched() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.desired.policy.bake = true;
    let rest = [
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &[&BAKED[..], &rest].concat(), &Next::Done);
}

#[test]
fn a_new_set_that_fails_while_it_bakes_gives_the_traffic_back() {
    let fate = Fate {
        bakes_well: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    world.desired.policy.bake = true;
    let rest = [
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    let end = old_serves("web-new-1 restarted");
    expect(&mut world, &[&BAKED[..], &rest].concat(), &end);
}

#[test]
fn a_watch_that_was_cut_short_by_a_crash_is_made_by_the_next_run() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.desired.policy.bake = true;
    world.until(|step| *step == Step::Bake);
    let mut next = world.restarted().unwrap();
    next.fate.bakes_well = false;
    let (steps, end) = steps(&mut next);
    assert_eq!(steps[..3], ["confirm new", "bake", "cut_back"]);
    assert_eq!(end, old_serves("web-new-1 restarted"));
}

#[test]
fn a_first_start_has_nothing_to_go_back_to_and_is_not_watched() {
    let mut world = Simulator::new(Vec::new(), 1, true, WELL);
    world.desired.policy.bake = true;
    let (steps, end) = steps(&mut world);
    assert!(!steps.contains(&"bake".to_owned()), "{steps:?}");
    assert_eq!(end, Next::Done);
}
