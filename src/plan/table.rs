//! Tables of whole step lists: what is there, and everything that is done until the end.

mod bake;
mod canary;
mod failures;
mod hooks;
mod preview;
mod rolling;
mod stop_first;
mod together;
mod unfinished;

use super::{
    Failure, Next, Step,
    simulator::{Fate, Simulator, WELL, replica},
};
use crate::model::{Health, Phase, Replica, Run};

fn old_set(count: usize) -> Vec<Replica> {
    let old = |number| {
        replica(
            &format!("old-{number}"),
            None,
            Run::Running,
            Health::Healthy,
        )
    };
    (1..=count).map(old).collect()
}

/// Runs to the end; the names of the steps, each with the replicas that it is about.
fn steps(world: &mut Simulator) -> (Vec<String>, Next) {
    let end = world.run();
    (world.steps.iter().map(line).collect(), end)
}

fn line(step: &Step) -> String {
    let ids: Vec<&str> = match step {
        Step::Drain { replicas }
        | Step::PreStop { replicas }
        | Step::Stop { replicas }
        | Step::Start { replicas }
        | Step::Remove { replicas } => replicas.iter().map(|id| id.0.as_str()).collect(),
        Step::Rename { names } => names.iter().map(|(_, name)| name.as_str()).collect(),
        Step::Confirm(Phase::Prepared | Phase::RolledBack) => vec!["old"],
        Step::Confirm(Phase::Shifted { step }) => return format!("confirm shift {step}"),
        Step::Route(Phase::Shifted { step }) => return format!("shift {step}"),
        Step::Confirm(_) => vec!["new"],
        Step::Create { replicas } => return format!("create {replicas}"),
        _ => Vec::new(),
    };
    [&[step.name()], ids.as_slice()].concat().join(" ")
}

#[track_caller]
fn expect(world: &mut Simulator, wanted: &[&str], end: &Next) {
    let (steps, ended) = steps(world);
    assert_eq!(steps, wanted);
    assert_eq!(&ended, end);
}

fn old_serves(text: &str) -> Next {
    Next::Fail(Failure::OldServes(text.to_owned()))
}

#[test]
fn one_replica_is_rolled_in_ten_steps() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn shifts_come_one_after_the_other_each_confirmed_before_the_next() {
    let shifted =
        |fate| Simulator::new(old_set(1), 1, true, fate).canary(&[(10, None), (50, None)]);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "shift 1",
        "confirm shift 1",
        "shift 2",
        "confirm shift 2",
        "cutover",
        "confirm new",
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut shifted(WELL), &wanted, &Next::Done);
    let refused = Fate {
        confirms: false,
        ..WELL
    };
    let back = [
        "hold",
        "create 1",
        "ready",
        "shift 1",
        "confirm shift 1",
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    let end = old_serves("the proxy did not confirm the cutover in time");
    expect(&mut shifted(refused), &back, &end);
}

#[test]
fn three_replicas_move_together() {
    let mut world = Simulator::new(old_set(3), 3, true, WELL);
    let wanted = [
        "hold",
        "create 3",
        "ready",
        "cutover",
        "confirm new",
        "drain old-1 old-2 old-3",
        "stop old-1 old-2 old-3",
        "remove old-1 old-2 old-3",
        "rename web-new-1 web-new-2 web-new-3",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

/// A hold that moves the traffic itself: without it the new replicas would get some as soon as they are healthy.
#[test]
fn a_hold_that_moves_the_traffic_is_confirmed_before_anything_is_created() {
    let mut world = pinned(old_set(2), WELL);
    let wanted = [
        "hold",
        "confirm old",
        "create 2",
        "ready",
        "cutover",
        "confirm new",
        "drain old-1 old-2",
        "stop old-1 old-2",
        "remove old-1 old-2",
        "rename web-new-1 web-new-2",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn a_hold_that_is_not_confirmed_is_given_up_and_nothing_is_created() {
    let fate = Fate {
        confirms_back: false,
        ..WELL
    };
    let mut world = pinned(old_set(1), fate);
    expect(
        &mut world,
        &["hold", "confirm old", "release"],
        &old_serves("the proxy did not confirm in time that it still routes to the old replicas"),
    );
    assert_eq!(world.observed.replicas, old_set(1));
}

fn pinned(replicas: Vec<Replica>, fate: Fate) -> Simulator {
    let count = replicas.len() as u32;
    let mut world = Simulator::new(replicas, count, true, fate);
    world.desired.confirm_hold = true;
    world
}

/// The steps that follow when a replica of the live side gets another address right after `at`.
#[track_caller]
fn moves(at: &Step, wanted: &[&str]) {
    let mut world = pinned(old_set(1), WELL);
    world.through(|step| step == at);
    world.observed.claim.as_mut().unwrap().stale = true;
    world.steps.clear();
    let (steps, end) = steps(&mut world);
    assert_eq!(steps[..wanted.len()], *wanted);
    assert_eq!(end, Next::Done);
}

#[test]
fn a_record_that_does_not_fit_any_more_is_written_and_confirmed_again() {
    moves(
        &Step::Create { replicas: 1 },
        &["hold", "confirm old", "ready", "cutover"],
    );
    moves(
        &Step::Confirm(Phase::Committed),
        &["cutover", "confirm new", "drain old-1"],
    );
}

#[test]
fn a_first_start_has_nothing_to_drain() {
    let mut world = Simulator::new(Vec::new(), 1, true, WELL);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn an_exited_leftover_is_replaced_and_not_stopped() {
    let left = replica("left", None, Run::Exited, Health::None);
    let mut world = Simulator::new(vec![left], 1, true, WELL);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "remove left",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn without_a_proxy_health_alone_decides() {
    let mut world = Simulator::new(old_set(1), 1, false, WELL);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "drain old-1",
        "stop old-1",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}
