//! The same tables where several services cut over together.

use super::{
    super::{
        Next,
        simulator::{Fate, Simulator, WELL, old},
    },
    expect, old_serves,
};
use crate::model::Milestone;

fn joint(fails_others: Option<Milestone>) -> Simulator {
    let fate = Fate {
        fails_others,
        ..WELL
    };
    let mut world = Simulator::new(vec![old("old-1")], 1, true, fate);
    world.desired.policy.together = true;
    world.desired.policy.bake = true;
    world
}

const LIVE: [&str; 8] = [
    "hold",
    "create 1",
    "ready",
    "await_others",
    "cutover",
    "confirm new",
    "bake",
    "await_others",
];

#[test]
fn it_waits_for_the_others_before_the_cutover_and_before_the_old_ones_are_drained() {
    let rest = [
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut joint(None), &[&LIVE[..], &rest].concat(), &Next::Done);
}

#[test]
fn where_another_is_not_ready_nothing_moves() {
    let rest = ["stop new-1", "remove new-1", "release"];
    let wanted = [&LIVE[..4], &rest].concat();
    let mut world = joint(Some(Milestone::Ready));
    expect(&mut world, &wanted, &old_serves("api goes back"));
}

#[test]
fn where_another_goes_back_after_the_cutover_so_does_this_one() {
    let rest = [
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    let wanted = [&LIVE[..], &rest].concat();
    let mut world = joint(Some(Milestone::Live));
    expect(&mut world, &wanted, &old_serves("api goes back"));
}
