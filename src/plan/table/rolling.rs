//! The same tables where the replicas are replaced batch by batch.

use super::{
    super::{
        Failure, Next, Step, StopFirst,
        simulator::{Fate, Ready, Simulator, WELL, live, old},
    },
    expect, old_serves, old_set, steps,
};
use crate::model::{Baked, FailureAction, Goal, Limits, Order, Phase, Reason, Run};

fn world(parallelism: u32, order: Order) -> Simulator {
    let (surge, unavailable) = match order {
        Order::StartFirst => (parallelism, 0),
        Order::StopFirst => (0, parallelism),
    };
    Simulator::new(old_set(4), 4, true, WELL).rolling(Limits {
        parallelism,
        surge,
        unavailable,
        order,
    })
}

/// The old replicas serve as before, and nothing else is there.
#[track_caller]
fn all_back(world: &Simulator) {
    let names = world.observed.replicas.iter().map(|own| own.name.as_str());
    let names: Vec<&str> = names.collect();
    assert_eq!(names, ["old-1", "old-2", "old-3", "old-4"]);
    assert_eq!(live(&world.observed).len(), 4);
    assert_eq!(world.observed.claim, None);
}

#[test]
fn one_by_one_each_is_shown_before_an_old_one_is_stopped_and_all_old_ones_are_kept_until_the_end() {
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "shift 1",
        "confirm shift 1",
        "drain old-1",
        "stop old-1",
        "create 2",
        "ready",
        "shift 2",
        "confirm shift 2",
        "drain old-2",
        "stop old-2",
        "create 3",
        "ready",
        "shift 3",
        "confirm shift 3",
        "drain old-3",
        "stop old-3",
        "create 4",
        "ready",
        "cutover",
        "confirm new",
        "drain old-4",
        "stop old-4",
        "remove old-1 old-2 old-3 old-4",
        "rename web-new-1 web-new-2 web-new-3 web-new-4",
        "release",
    ];
    expect(&mut world(1, Order::StartFirst), &wanted, &Next::Done);
}

#[test]
fn two_by_two_is_two_batches_each_watched_where_that_is_wanted() {
    let wanted = [
        "hold",
        "create 2",
        "ready",
        "shift 1",
        "confirm shift 1",
        "watch",
        "drain old-1 old-2",
        "stop old-1 old-2",
        "create 4",
        "ready",
        "cutover",
        "confirm new",
        "drain old-3 old-4",
        "stop old-3 old-4",
        "remove old-1 old-2 old-3 old-4",
        "rename web-new-1 web-new-2 web-new-3 web-new-4",
        "release",
    ];
    let mut world = world(2, Order::StartFirst);
    world.desired.policy.delay = true;
    expect(&mut world, &wanted, &Next::Done);
}

#[test]
fn stop_first_takes_out_as_many_before_each_batch() {
    let wanted = [
        "hold",
        "confirm old",
        "drain old-1 old-2",
        "stop old-1 old-2",
        "create 2",
        "ready",
        "shift 1",
        "confirm shift 1",
        "drain old-3 old-4",
        "stop old-3 old-4",
        "create 4",
        "ready",
        "cutover",
        "confirm new",
        "remove old-1 old-2 old-3 old-4",
        "rename web-new-1 web-new-2 web-new-3 web-new-4",
        "release",
    ];
    expect(&mut world(2, Order::StopFirst), &wanted, &Next::Done);
    let mut one = world(1, Order::StopFirst);
    let (steps, end) = steps(&mut one);
    let first = [
        "hold",
        "confirm old",
        "drain old-1",
        "stop old-1",
        "create 1",
        "ready",
    ];
    assert_eq!(steps[..6], first);
    let next = [
        "shift 1",
        "confirm shift 1",
        "drain old-2",
        "stop old-2",
        "create 2",
    ];
    assert_eq!(steps[6..11], next);
    assert_eq!(end, Next::Done);
}

/// The new replicas serve alone, by their final names.
#[track_caller]
fn all_new(world: &Simulator) {
    let names = world.observed.replicas.iter().map(|own| own.name.as_str());
    let names: Vec<&str> = names.collect();
    let wanted = ["web-new-1", "web-new-2", "web-new-3", "web-new-4"];
    assert_eq!(names, wanted);
    assert_eq!(world.observed.claim, None);
}

/// A rolling update that a person has stopped while the third batch is created.
fn held() -> Simulator {
    let mut world = world(1, Order::StartFirst);
    world.through(|step| *step == Step::Create { replicas: 3 });
    world.facts.is_held = true;
    world.steps.clear();
    assert_eq!(world.run(), Next::Pause { shift: 2 });
    assert_eq!(world.steps, []);
    world
}

#[test]
fn a_request_to_stop_holds_it_between_two_batches_and_a_later_run_goes_on_from_there() {
    let mut next = held().restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Roll);
    let (steps, end) = steps(&mut next);
    let first = ["confirm shift 2", "ready", "shift 3", "confirm shift 3"];
    assert_eq!(steps[..4], first);
    assert_eq!(end, Next::Done);
    all_new(&next);
}

#[test]
fn an_abort_of_one_that_is_held_goes_back_batch_by_batch() {
    let mut next = held().restarted().unwrap();
    next.desired.goal = Goal::Undo(Reason::Unfinished);
    let (steps, end) = steps(&mut next);
    let routes = steps
        .iter()
        .filter(|step| ["shift 1", "cut_back"].contains(&step.as_str()));
    assert_eq!(routes.count(), 2);
    assert_eq!(end, Next::Done);
    all_back(&next);
}

#[test]
fn one_that_is_held_and_attached_waits_until_it_may_go_on() {
    let mut world = world(2, Order::StopFirst);
    world.desired.policy.attach = true;
    world.through(|step| *step == Step::Confirm(Phase::Shifted { step: 1 }));
    world.facts.is_held = true;
    let pause = Step::Pause {
        shift: 1,
        span: None,
    };
    assert_eq!(world.next(), Next::Step(pause));
    world.facts.is_held = false;
    assert_eq!(world.run(), Next::Done);
    all_new(&world);
}

#[test]
fn a_shown_replica_that_fails_while_no_run_is_at_work_brings_all_old_ones_back() {
    let mut next = held().restarted().unwrap();
    let all = next.observed.replicas.iter_mut();
    let mut new = all.filter(|own| own.rollout.is_some());
    new.next().unwrap().run = Run::Exited;
    let end = next.run();
    let why = "new replica web-new-1 was ready and then failed";
    assert_eq!(end, old_serves(why));
    all_back(&next);
}

#[test]
fn what_the_claim_and_the_replicas_show_of_the_batches_is_what_was_recorded() {
    for order in [Order::StartFirst, Order::StopFirst] {
        for parallelism in [1, 2] {
            let mut world = world(parallelism, order);
            assert_eq!(StopFirst::between_batches(&world.observed), None);
            world.through(|step| *step == Step::Confirm(Phase::Shifted { step: 1 }));
            for own in &mut world.observed.replicas {
                own.wanted = own.rollout.as_ref().map(|_| 4);
            }
            let read = StopFirst::between_batches(&world.observed).unwrap();
            assert_eq!(read.batches, world.desired.policy.batches);
            assert_eq!(read.ran.len(), 4);
        }
    }
}

#[test]
fn a_first_batch_that_is_not_ready_leaves_the_old_replicas_as_they_are() {
    let mut world = world(1, Order::StartFirst);
    world.fate.ready = Ready::Crashes;
    let wanted = ["hold", "create 1", "ready", "remove new-1", "release"];
    let end = old_serves("new replica web-new-1 exited");
    expect(&mut world, &wanted, &end);
    assert_eq!(world.observed.replicas, old_set(4));
}

#[test]
fn a_third_batch_that_is_not_ready_is_undone_one_batch_after_another() {
    let mut world = world(1, Order::StartFirst);
    world.through(|step| *step == Step::Create { replicas: 3 });
    world.fate.ready = Ready::Never;
    world.steps.clear();
    let wanted = [
        "ready",
        "drain new-3",
        "stop new-3",
        "remove new-3",
        "start old-2",
        "ready",
        "shift 1",
        "confirm shift 1",
        "drain new-2",
        "stop new-2",
        "remove new-2",
        "start old-1",
        "ready",
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    let end = old_serves("new replica web-new-3 did not become ready in time");
    expect(&mut world, &wanted, &end);
    all_back(&world);
}

#[test]
fn a_second_batch_that_is_not_confirmed_is_undone_and_what_makes_room_comes_back_last() {
    let mut world = world(2, Order::StopFirst);
    world.through(|step| *step == Step::Route(Phase::Committed));
    world.fate.confirms = false;
    world.steps.clear();
    let wanted = [
        "confirm new",
        "shift 1",
        "confirm shift 1",
        "drain new-3 new-4",
        "stop new-3 new-4",
        "remove new-3 new-4",
        "start old-3 old-4",
        "ready",
        "hold",
        "confirm old",
        "drain new-1 new-2",
        "stop new-1 new-2",
        "remove new-1 new-2",
        "start old-1 old-2",
        "ready",
        "cut_back",
        "confirm old",
        "release",
    ];
    let end = old_serves("the proxy did not confirm the cutover in time");
    expect(&mut world, &wanted, &end);
    all_back(&world);
}

#[test]
fn a_live_replica_that_dies_in_any_batch_brings_all_old_ones_back() {
    for order in [Order::StartFirst, Order::StopFirst] {
        for parallelism in [1, 2] {
            for batch in 1..4 / parallelism as u16 {
                let mut world = world(parallelism, order);
                world.through(|step| *step == Step::Confirm(Phase::Shifted { step: batch }));
                let new = world.observed.replicas.iter_mut();
                let mut new = new.filter(|own| own.rollout.is_some());
                new.next().unwrap().run = Run::Exited;
                let end = world.run();
                assert_eq!(
                    end,
                    old_serves("new replica web-new-1 was ready and then failed")
                );
                all_back(&world);
            }
        }
    }
}

/// Two batches are live, and the third becomes ready never.
fn third_fails(action: FailureAction) -> Simulator {
    let mut world = world(1, Order::StartFirst);
    world.desired.policy.failure_action = action;
    world.through(|step| *step == Step::Create { replicas: 3 });
    world.fate.ready = Ready::Crashes;
    world
}

#[test]
fn after_a_failed_batch_it_pauses_with_those_that_are_live_and_a_later_run_tries_it_again() {
    let mut world = third_fails(FailureAction::Pause);
    world.steps.clear();
    let wanted = ["ready", "remove new-3"];
    expect(&mut world, &wanted, &Next::Pause { shift: 2 });
    assert_eq!(live(&world.observed).len(), 4);
    let mut next = world.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Roll);
    next.fate = WELL;
    assert_eq!(next.run(), Next::Done);
    all_new(&next);
}

#[test]
fn after_a_failed_batch_it_goes_on_with_the_next_and_fails_at_its_end() {
    let mut world = third_fails(FailureAction::Continue);
    loop {
        match world.next() {
            Next::Step(step) => world.take(step),
            Next::GoOn => break,
            next => assert!(matches!(next, Next::Undo(_)), "{next:?}"),
        }
    }
    world.fate = WELL;
    world.steps.clear();
    let (steps, end) = steps(&mut world);
    let wanted = [
        "create 3",
        "ready",
        "shift 3",
        "confirm shift 3",
        "drain old-3",
        "stop old-3",
    ];
    assert_eq!(steps, wanted);
    let why = "1 of 4 batches failed: new replica web-new-3 exited";
    assert_eq!(end, Next::Fail(Failure::InPart(why.to_owned())));
    assert_eq!(live(&world.observed).len(), 4);
    assert_eq!(world.restarted().unwrap().run(), Next::Done);
}

#[test]
fn with_more_failures_than_are_allowed_all_of_it_goes_back() {
    let mut world = third_fails(FailureAction::Rollback);
    world.desired.policy.may_fail = 1;
    let end = old_serves("new replica web-new-3 exited");
    assert_eq!(world.run(), end);
    assert_eq!(world.facts.failed_batches.len(), 1);
    all_back(&world);
}

#[test]
fn a_live_batch_that_fails_gives_its_traffic_back_before_the_pause() {
    let mut world = world(2, Order::StartFirst);
    world.desired.policy.failure_action = FailureAction::Pause;
    world.through(|step| *step == Step::Confirm(Phase::Committed));
    let all = world.observed.replicas.iter_mut();
    all.last().unwrap().run = Run::Exited;
    assert_eq!(world.run(), Next::Pause { shift: 1 });
    let live = live(&world.observed);
    let new = live.iter().filter(|id| id.0.starts_with("new"));
    assert_eq!((live.len(), new.count()), (4, 2));
}

#[test]
fn a_failed_batch_whose_old_replicas_were_stopped_first_takes_all_back() {
    for action in [FailureAction::Pause, FailureAction::Continue] {
        let mut world = world(2, Order::StopFirst);
        world.desired.policy.failure_action = action;
        world.desired.policy.may_fail = 2;
        world.through(|step| *step == Step::Create { replicas: 4 });
        world.fate.ready = Ready::Crashes;
        assert_eq!(world.run(), old_serves("new replica web-new-3 exited"));
        all_back(&world);
    }
}

#[test]
fn a_smaller_last_batch_counts_with_its_own_number_of_replicas() {
    for (may_fail, failed) in [(0, 0), (1, 1)] {
        let mut world = world(3, Order::StartFirst);
        world.desired.policy.may_fail = may_fail;
        world.through(|step| *step == Step::Create { replicas: 4 });
        world.fate.ready = Ready::Crashes;
        let end = world.run();
        let in_part = matches!(end, Next::Fail(Failure::InPart(_)));
        assert_eq!(
            (in_part, world.facts.failed_batches.len()),
            (failed == 1, failed)
        );
    }
}

#[test]
fn a_first_batch_that_fails_an_undo_and_a_signal_take_all_back_whatever_follows_a_failed_batch() {
    for action in [FailureAction::Pause, FailureAction::Continue] {
        let mut first = world(1, Order::StartFirst);
        first.desired.policy.failure_action = action;
        first.fate.ready = Ready::Crashes;
        let end = old_serves("new replica web-new-1 exited");
        assert_eq!(first.run(), end);
        all_back(&first);
        let mut undone = third_fails(action);
        undone.facts.baked = Some(Baked::Failed("undone by ada".to_owned()));
        undone.facts.is_undone = true;
        assert_eq!(undone.run(), old_serves("undone by ada"));
        all_back(&undone);
    }
}

#[test]
fn a_watch_that_fails_goes_back() {
    let mut world = world(1, Order::StartFirst);
    world.desired.policy.monitor = true;
    world.fate.bakes_well = false;
    assert_eq!(world.run(), old_serves("web-new-1 restarted"));
    all_back(&world);
}

#[test]
fn a_signal_after_any_step_before_the_last_confirmation_brings_all_old_ones_back() {
    for order in [Order::StartFirst, Order::StopFirst] {
        for parallelism in [1, 2] {
            for count in 0.. {
                let mut world = world(parallelism, order);
                for _ in 0..count {
                    if let Next::Step(step) = world.next() {
                        world.take(step);
                    }
                }
                if world.facts.confirmed == Some(Phase::Committed) {
                    break;
                }
                world.desired.goal = Goal::Undo(Reason::Interrupted);
                assert_eq!(world.run(), Next::Fail(Failure::Interrupted));
                all_back(&world);
            }
        }
    }
}

#[test]
fn a_run_that_dies_after_any_step_is_settled_by_the_next() {
    for order in [Order::StartFirst, Order::StopFirst] {
        for crash in 0..32 {
            let mut world = world(2, order);
            for _ in 0..crash {
                if let Next::Step(step) = world.next() {
                    world.take(step);
                }
            }
            let phase = world.observed.claim.as_ref().map(|claim| claim.phase);
            if let Some(mut next) = world.restarted() {
                assert_eq!(next.run(), Next::Done, "{crash}");
                assert!(next.restarted().is_none(), "{crash}: {:#?}", next.observed);
                match phase {
                    Some(Phase::Prepared) | None => all_back(&next),
                    _ => all_new(&next),
                }
                world = next;
            }
            assert_eq!(live(&world.observed).len(), 4, "{crash}");
        }
    }
}

#[test]
fn an_old_replica_that_does_not_start_again_is_for_a_person_and_the_new_ones_stay() {
    let mut world = world(1, Order::StartFirst);
    world.through(|step| *step == Step::Create { replicas: 3 });
    world.fate = Fate {
        ready: Ready::Crashes,
        restarts: false,
        ..WELL
    };
    let end = world.run();
    assert!(
        matches!(&end, Next::Fail(Failure::NeedsPerson(why)) if why.contains("old-2 was started again and exited")),
        "{end:?}"
    );
    assert_eq!(live(&world.observed).len(), 4);
}

#[test]
fn an_old_replica_that_may_still_be_stopping_is_stopped_before_it_is_shown_again() {
    let mut world = world(1, Order::StartFirst);
    world.until(|step| matches!(step, Step::Stop { .. }));
    let mut next = world.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Roll);
    next.desired.goal = Goal::Undo(Reason::Unfinished);
    let wanted = [
        "confirm shift 1",
        "drain old-1",
        "stop old-1",
        "start old-1",
        "ready",
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    expect(&mut next, &wanted, &Next::Done);
    assert_eq!(
        live(&next.observed),
        (1..=4).map(|n| old(&format!("old-{n}")).id).collect()
    );
}
