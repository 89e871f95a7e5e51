//! The same tables where the old replicas are stopped first.

use super::{
    super::{
        Failure, Next, Step, StopFirst,
        simulator::{Fate, Ready, Simulator, WELL, live, old, replica, rollout},
        unfinished,
    },
    expect, old_serves, steps,
};
use crate::model::{Claim, Goal, Health, Observed, Phase, Reason, Run};

fn world(count: usize, routed: bool, fate: Fate) -> Simulator {
    let olds = (1..=count).map(|number| old(&format!("old-{number}")));
    Simulator::new(olds.collect(), count as u32, routed, fate).stop_first()
}

const NEVER: Fate = Fate {
    ready: Ready::Never,
    ..WELL
};

#[test]
fn the_old_replicas_make_room_and_go_once_the_new_ones_are_confirmed() {
    let wanted = [
        "hold",
        "stop old-1 old-2",
        "create 2",
        "ready",
        "cutover",
        "confirm new",
        "remove old-1 old-2",
        "rename web-new-1 web-new-2",
        "release",
    ];
    expect(&mut world(2, true, WELL), &wanted, &Next::Done);
}

#[test]
fn without_a_proxy_they_go_once_the_new_ones_are_ready() {
    let mut world = world(1, false, WELL);
    world.desired.pre_stop = true;
    let wanted = [
        "hold",
        "hooks old-1",
        "stop old-1",
        "create 1",
        "ready",
        "cutover",
        "remove old-1",
        "rename web-new-1",
        "release",
    ];
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn a_version_that_is_not_ready_makes_room_again_and_the_old_one_is_started_and_confirmed() {
    let mut world = world(1, true, NEVER);
    let wanted = [
        "hold",
        "stop old-1",
        "create 1",
        "ready",
        "stop new-1",
        "remove new-1",
        "start old-1",
        "confirm old",
        "release",
    ];
    let end = old_serves("new replica web-new-1 did not become ready in time");
    expect(&mut world, &wanted, &end);
    assert_eq!(live(&world.observed), [old("old-1").id].into());
}

#[test]
fn a_cutover_that_is_not_confirmed_is_taken_back_before_the_old_one_is_started() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let wanted = [
        "hold",
        "stop old-1",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "cut_back",
        "stop new-1",
        "remove new-1",
        "start old-1",
        "confirm old",
        "release",
    ];
    let end = old_serves("the proxy did not confirm the cutover in time");
    expect(&mut world(1, true, fate), &wanted, &end);
}

#[test]
fn a_signal_before_the_stop_finds_nothing_to_start_and_one_after_it_does() {
    for (stopped, wanted) in [
        (false, &["release"][..]),
        (true, &["start old-1", "confirm old", "release"]),
    ] {
        let mut world = world(1, true, WELL);
        world.take(Step::Route(Phase::Prepared));
        if stopped {
            let replicas = vec![old("old-1").id];
            world.take(Step::Stop { replicas });
        }
        world.desired.goal = Goal::Undo(Reason::Interrupted);
        world.steps.clear();
        expect(&mut world, wanted, &Next::Fail(Failure::Interrupted));
    }
}

#[test]
fn what_did_not_run_before_is_not_started() {
    let mut olds = vec![old("old-1"), old("old-2")];
    olds[1].run = Run::Exited;
    let mut world = Simulator::new(olds, 1, false, NEVER).stop_first();
    let (steps, _) = steps(&mut world);
    assert!(steps.contains(&"start old-1".to_owned()), "{steps:?}");
    assert_eq!(world.old_replicas()[1].run, Run::Exited);
}

#[test]
fn an_old_replica_that_ends_again_is_for_a_person_and_is_started_once() {
    let fate = Fate {
        restarts: false,
        ..NEVER
    };
    let mut world = world(1, false, fate);
    let (steps, end) = steps(&mut world);
    assert_eq!(steps.last().unwrap(), "start old-1");
    assert!(
        matches!(&end, Next::Fail(Failure::NeedsPerson(why)) if why.contains("and exited")),
        "{end:?}"
    );
}

#[test]
fn a_new_version_that_serves_over_an_unhealthy_one_stays_although_it_is_not_confirmed() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let sick = replica("old-1", None, Run::Running, Health::Unhealthy);
    let mut world = Simulator::new(vec![sick], 1, true, fate).stop_first();
    let (steps, end) = steps(&mut world);
    assert_eq!(steps.last().unwrap(), "confirm new");
    assert!(
        matches!(end, Next::Fail(Failure::NeedsPerson(_))),
        "{end:?}"
    );
    assert_eq!(live(&world.observed).len(), 1);
}

#[test]
fn a_run_that_dies_after_any_step_is_settled_by_the_next_and_something_serves() {
    for (fate, routed, confirm_hold) in [
        (WELL, true, false),
        (WELL, true, true),
        (WELL, false, false),
        (NEVER, true, false),
        (NEVER, true, true),
        (NEVER, false, false),
    ] {
        for crash in 0..13 {
            let mut world = world(2, routed, fate);
            world.desired.confirm_hold = confirm_hold;
            for _ in 0..crash {
                if let Next::Step(step) = world.next() {
                    world.take(step);
                }
            }
            world.fate = WELL;
            if let Some(mut next) = world.restarted() {
                let end = next.run();
                assert!(
                    matches!(end, Next::Done | Next::Fail(Failure::OldServes(_))),
                    "{crash}: {end:?}"
                );
                assert!(next.restarted().is_none(), "{crash}: {:#?}", next.observed);
                world = next;
            }
            assert_eq!(live(&world.observed).len(), 2, "{crash}: {world:#?}");
        }
    }
}

/// What becomes of one stopped replica.
fn resumes(claim: Option<Phase>, ran: &[&str]) -> Option<Goal> {
    let id = |name: &&str| old(name).id;
    let begun = StopFirst {
        rollout: rollout("r2"),
        ran: ran.iter().map(id).collect(),
        batches: None,
    };
    let mut stopped = old("old-1");
    stopped.run = Run::Exited;
    let claim = claim.map(|phase| Claim {
        rollout: rollout("r2"),
        phase,
        plan: Default::default(),
        stale: false,
    });
    let observed = Observed {
        replicas: vec![stopped],
        claim,
    };
    let routed = unfinished(&observed, true, Some(&begun)).map(|(_, goal, _)| goal);
    let unrouted = unfinished(&observed, false, Some(&begun)).map(|(_, goal, _)| goal);
    assert_eq!(routed, unrouted);
    routed
}

#[test]
fn a_stop_that_only_the_record_tells_of_is_undone_and_one_by_an_operator_is_none() {
    let undo = Some(Goal::Undo(Reason::Unfinished));
    assert_eq!(resumes(None, &["old-1"]), undo);
    assert_eq!(resumes(None, &["another"]), None);
    assert_eq!(resumes(Some(Phase::Prepared), &["old-1"]), undo);
    assert_eq!(resumes(Some(Phase::Settled), &["another"]), None);
}

#[test]
fn a_stop_that_may_still_go_on_is_waited_for_before_the_old_replica_is_started() {
    for routed in [true, false] {
        let mut held = world(1, routed, WELL);
        held.take(Step::Route(Phase::Prepared));
        let mut next = held.restarted().unwrap();
        let mut wanted = vec!["stop old-1", "start old-1"];
        wanted.extend(routed.then_some("confirm old"));
        wanted.push("release");
        expect(&mut next, &wanted, &Next::Done);
    }
}
