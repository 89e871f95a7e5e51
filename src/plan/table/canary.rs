//! The same tables where the traffic moves in steps, with pauses between them.

use std::time::Duration;

use super::{
    super::{
        Next, Step,
        simulator::{Fate, Simulator, WELL, live},
    },
    expect, old_serves, old_set, steps,
};
use crate::model::{Baked, Goal, Pause, Phase, Reason, Run, Share};

const TIMED: Option<Pause> = Some(Pause::Timed(Duration::from_secs(30)));
const OPEN: Option<Pause> = Some(Pause::Open);

const BEFORE: [&str; 3] = ["hold", "create 1", "ready"];
const SHIFTS: [&str; 6] = [
    "shift 1",
    "confirm shift 1",
    "pause",
    "shift 2",
    "confirm shift 2",
    "pause",
];
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

fn world(first: Option<Pause>, second: Option<Pause>) -> Simulator {
    Simulator::new(old_set(1), 1, true, WELL).canary(&[(10, first), (50, second)])
}

fn all(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

/// The next run, after this one has ended at a pause or was killed.
fn next_run(world: &Simulator) -> Simulator {
    let next = world.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Roll);
    next
}

#[test]
fn timed_pauses_come_between_the_shifts() {
    let wanted = all(&[&BEFORE, &SHIFTS, &AFTER]);
    expect(&mut world(TIMED, TIMED), &wanted, &Next::Done);
    let attached = |mut world: Simulator| {
        world.desired.policy.attach = true;
        world
    };
    expect(&mut attached(world(OPEN, OPEN)), &wanted, &Next::Done);
}

#[test]
fn each_shift_gives_the_new_set_its_share_of_the_traffic_whatever_the_numbers_of_replicas() {
    for (olds, news, wanted) in [
        (1, 1, [(2, 18), (2, 2)]),
        (3, 3, [(2, 18), (2, 2)]),
        (2, 4, [(2, 36), (2, 4)]),
    ] {
        let mut world = Simulator::new(old_set(olds), news, true, WELL);
        world = world.canary(&[(10, None), (50, None)]);
        for (step, (new, old)) in (1..).zip(wanted) {
            world.through(|own| *own == Step::Confirm(Phase::Shifted { step }));
            let plan = &world.observed.claim.as_ref().unwrap().plan;
            let share = |set: Vec<&crate::model::Replica>| plan.share(set[0]);
            let shares = (share(world.new_replicas()), share(world.old_replicas()));
            let wanted = (Some(Share::Weight(new)), Some(Share::Weight(old)));
            assert_eq!(shares, wanted, "{olds} {news} {step}");
            let percent = plan.percent(&world.desired.rollout, &world.observed.replicas);
            assert_eq!(percent, Some([10, 50][usize::from(step) - 1]));
        }
        let (_, end) = steps(&mut world);
        assert_eq!(end, Next::Done);
        assert_eq!(live(&world.observed).len(), news as usize);
    }
}

#[test]
fn an_open_ended_pause_ends_the_run_and_each_promotion_takes_one_step() {
    let mut world = world(OPEN, OPEN);
    let first = all(&[&BEFORE, &SHIFTS[..2]]);
    expect(&mut world, &first, &Next::Pause { shift: 1 });
    // The same rollout again only reports the pause.
    let mut again = next_run(&world);
    expect(&mut again, &["confirm shift 1"], &Next::Pause { shift: 1 });
    let mut promoted = next_run(&world);
    promoted.facts.passed = 1;
    let second = ["confirm shift 1", "shift 2", "confirm shift 2"];
    expect(&mut promoted, &second, &Next::Pause { shift: 2 });
    let mut last = next_run(&promoted);
    last.facts.passed = 2;
    let wanted = all(&[&["confirm shift 2"], &AFTER]);
    expect(&mut last, &wanted, &Next::Done);
}

#[test]
fn a_full_promotion_leaves_out_the_shifts_and_pauses_that_are_left() {
    let mut paused = world(OPEN, OPEN);
    assert_eq!(steps(&mut paused).1, Next::Pause { shift: 1 });
    let mut full = next_run(&paused);
    full.facts.is_promoted = true;
    let wanted = all(&[&["confirm shift 1"], &AFTER]);
    expect(&mut full, &wanted, &Next::Done);
}

#[test]
fn an_abort_takes_the_traffic_back_from_each_shift() {
    for step in [1, 2] {
        let mut world = world(TIMED, TIMED);
        world.through(|own| *own == Step::Confirm(Phase::Shifted { step }));
        let mut next = next_run(&world);
        next.desired.goal = Goal::Undo(Reason::Unfinished);
        expect(&mut next, &BACK, &Next::Done);
        // The run that is at work is asked.
        world.steps.clear();
        world.facts.baked = Some(Baked::Failed("undone by ada".to_owned()));
        expect(&mut world, &BACK, &old_serves("undone by ada"));
    }
}

#[test]
fn a_request_to_go_back_is_heard_before_the_first_shift_too() {
    let mut world = world(TIMED, TIMED);
    world.until(|own| *own == Step::AwaitReady);
    world.facts.baked = Some(Baked::Failed("undone by ada".to_owned()));
    world.steps.clear();
    let wanted = ["stop new-1", "remove new-1", "release"];
    expect(&mut world, &wanted, &old_serves("undone by ada"));
}

#[test]
fn a_request_to_stop_holds_the_canary_before_its_next_shift() {
    let mut world = world(TIMED, TIMED);
    world.until(|own| matches!(own, Step::Pause { .. }));
    world.facts.is_held = true;
    world.steps.clear();
    expect(&mut world, &[], &Next::Pause { shift: 1 });
    let mut resumed = next_run(&world);
    let wanted = all(&[&["confirm shift 1", "pause"], &SHIFTS[3..], &AFTER]);
    expect(&mut resumed, &wanted, &Next::Done);
}

#[test]
fn a_run_that_is_killed_goes_on_from_its_shift() {
    for (at, goal) in [
        ("hold", Goal::Undo(Reason::Unfinished)),
        ("create 1", Goal::Undo(Reason::Unfinished)),
        ("ready", Goal::Undo(Reason::Unfinished)),
        ("shift 1", Goal::Roll),
        ("confirm shift 1", Goal::Roll),
        ("shift 2", Goal::Roll),
        ("confirm shift 2", Goal::Roll),
        ("cutover", Goal::Finish),
        ("confirm new", Goal::Finish),
        ("stop old-1", Goal::Finish),
    ] {
        let mut world = world(TIMED, TIMED);
        world.through(|own| super::line(own) == at);
        let mut next = world.restarted().unwrap();
        assert_eq!(next.desired.goal, goal, "{at}");
        let (_, end) = steps(&mut next);
        assert_eq!(end, Next::Done, "{at}");
        let live = live(&next.observed);
        let is_new = live.iter().all(|id| id.0.starts_with("new"));
        let goes_on = !matches!(goal, Goal::Undo(_));
        assert_eq!((live.len(), is_new), (1, goes_on), "{at}");
    }
}

#[test]
fn what_goes_wrong_in_a_pause_takes_the_traffic_back() {
    let fate = Fate {
        bakes_well: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate).canary(&[(10, TIMED)]);
    let wanted = all(&[&BEFORE, &SHIFTS[..3], &BACK]);
    expect(&mut world, &wanted, &old_serves("web-new-1 restarted"));
}

#[test]
fn a_canary_whose_old_replicas_are_gone_takes_over_and_one_whose_new_ones_are_gone_goes_back() {
    let paused = || {
        let mut world = world(OPEN, OPEN);
        assert_eq!(steps(&mut world).1, Next::Pause { shift: 1 });
        world
    };
    let mut new_left = paused();
    new_left
        .observed
        .replicas
        .retain(|own| own.rollout.is_some());
    let mut next = new_left.restarted().unwrap();
    let wanted = ["cutover", "confirm new", "rename web-new-1", "release"];
    expect(&mut next, &wanted, &Next::Done);
    let mut old_left = paused();
    old_left
        .observed
        .replicas
        .retain(|own| own.rollout.is_none());
    let mut next = old_left.restarted().unwrap();
    expect(
        &mut next,
        &["cut_back", "confirm old", "release"],
        &Next::Done,
    );
    assert_eq!(next.observed.replicas, old_set(1));
}

#[test]
fn an_old_replica_that_dies_in_a_pause_leaves_the_canary_as_it_is() {
    let mut world = Simulator::new(old_set(2), 1, true, WELL).canary(&[(10, TIMED)]);
    world.until(|own| matches!(own, Step::Pause { .. }));
    world.observed.replicas[0].run = Run::Exited;
    world.steps.clear();
    let (steps, end) = steps(&mut world);
    assert_eq!(steps[..2], ["pause", "cutover"]);
    assert_eq!(end, Next::Done);
}
