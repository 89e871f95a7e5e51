//! Tables of failures and signals: what is rolled back, and what is left as it is.

use super::{
    super::{
        Failure, Next, Step,
        simulator::{Fate, Ready, Simulator, WELL, live},
    },
    bake::BAKED,
    expect, old_serves, old_set, steps,
};
use crate::model::{Goal, Health, Phase, Reason, Run};

#[test]
fn a_version_that_is_not_ready_in_time_is_removed() {
    let fate = Fate {
        ready: Ready::Never,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    expect(
        &mut world,
        &wanted,
        &old_serves("new replica web-new-1 did not become ready in time"),
    );
    assert_eq!(world.observed.replicas, old_set(1));
}

#[test]
fn a_version_that_crashes_is_removed() {
    let fate = Fate {
        ready: Ready::Crashes,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    let wanted = ["hold", "create 1", "ready", "remove new-1", "release"];
    expect(
        &mut world,
        &wanted,
        &old_serves("new replica web-new-1 exited"),
    );
}

#[test]
fn an_old_set_that_stumbles_does_not_make_an_unready_new_one_live() {
    for (run, health) in [
        (Run::Running, Health::Unhealthy),
        (Run::Restarting, Health::None),
    ] {
        let fate = Fate {
            ready: Ready::Crashes,
            ..WELL
        };
        let mut world = Simulator::new(old_set(1), 1, true, fate);
        world.through(|step| matches!(step, Step::Create { .. }));
        (
            world.observed.replicas[0].run,
            world.observed.replicas[0].health,
        ) = (run, health);
        let (steps, end) = steps(&mut world);
        assert!(!steps.iter().any(|step| step == "cutover"), "{steps:?}");
        assert_eq!(end, old_serves("new replica web-new-1 exited"));
    }
}

#[test]
fn a_cutover_that_is_not_confirmed_is_taken_back() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    expect(
        &mut world,
        &wanted,
        &old_serves("the proxy did not confirm the cutover in time"),
    );
}

#[test]
fn what_the_proxy_complains_of_is_why_the_traffic_goes_back() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    let why = "the proxy does not serve the new version: router web is disabled";
    world.facts.complaint = Some(why.to_owned());
    let (_, end) = steps(&mut world);
    assert_eq!(end, old_serves(why));
}

#[test]
fn a_first_start_that_is_not_confirmed_is_hidden_again_and_removed() {
    let fate = Fate {
        confirms: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(0), 1, true, fate);
    let wanted = [
        "hold",
        "create 1",
        "ready",
        "cutover",
        "confirm new",
        "cut_back",
        "confirm old",
        "drain new-1",
        "stop new-1",
        "remove new-1",
        "release",
    ];
    expect(
        &mut world,
        &wanted,
        &old_serves("the proxy did not confirm the cutover in time"),
    );
}

/// A rollout over a version that does not serve, and whose cutover is not confirmed.
fn over_a_dead_one(fate: Fate) -> Simulator {
    let mut dead = old_set(1);
    dead[0].health = Health::Unhealthy;
    let fate = Fate {
        confirms: false,
        ..fate
    };
    Simulator::new(dead, 1, true, fate)
}

#[test]
fn what_serves_over_a_dead_version_stays_although_it_is_not_confirmed() {
    let mut world = over_a_dead_one(WELL);
    let (steps, end) = steps(&mut world);
    assert_eq!(steps, BAKED[..5]);
    assert!(
        matches!(&end, Next::Fail(Failure::NeedsPerson(why)) if why.contains("no old one is left")),
        "{end:?}"
    );
    assert_eq!(live(&world.observed).len(), 1);
}

#[test]
fn what_takes_other_services_away_over_a_dead_version_is_hidden_again() {
    let mut world = over_a_dead_one(Fate {
        harms: true,
        ..WELL
    });
    let (steps, end) = steps(&mut world);
    assert!(steps.contains(&"cut_back".to_owned()), "{steps:?}");
    assert_eq!(
        end,
        old_serves("the proxy did not confirm the cutover in time")
    );
    assert!(world.new_replicas().is_empty());
}

#[test]
fn a_way_back_that_is_not_confirmed_either_removes_nothing() {
    let fate = Fate {
        confirms: false,
        confirms_back: false,
        ..WELL
    };
    let mut world = Simulator::new(old_set(1), 1, true, fate);
    let (steps, end) = steps(&mut world);
    assert_eq!(
        steps,
        [
            "hold",
            "create 1",
            "ready",
            "cutover",
            "confirm new",
            "cut_back",
            "confirm old"
        ]
    );
    assert!(
        matches!(end, Next::Fail(Failure::NeedsPerson(_))),
        "{end:?}"
    );
    assert_eq!(world.observed.replicas.len(), 2);
}

#[test]
fn what_may_still_be_asked_is_not_stopped_before_the_way_back_is_confirmed() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.until(|step| *step == Step::Confirm(Phase::Committed));
    world.desired.goal = Goal::Undo(Reason::Interrupted);
    world.take(Step::Route(Phase::RolledBack));
    world.observed.replicas[0].health = Health::Unhealthy;
    assert_eq!(world.next(), Next::Step(Step::Confirm(Phase::RolledBack)));
}

#[test]
fn a_replica_that_dies_after_the_cutover_gives_the_traffic_back() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.through(|step| matches!(step, Step::Confirm(_)));
    world.observed.replicas[1].run = Run::Exited;
    world.steps.clear();
    let wanted = ["cut_back", "confirm old", "remove new-1", "release"];
    expect(
        &mut world,
        &wanted,
        &old_serves("new replica web-new-1 failed after the cutover"),
    );
}

#[test]
fn a_first_start_that_dies_after_the_cutover_is_cleared_away() {
    let mut world = Simulator::new(Vec::new(), 1, true, WELL);
    world.through(|step| *step == Step::Route(Phase::Committed));
    world.observed.replicas[0].run = Run::Exited;
    world.steps.clear();
    expect(
        &mut world,
        &["remove new-1", "release"],
        &old_serves("new replica web-new-1 failed after the cutover"),
    );
}

#[test]
fn a_new_set_that_dies_while_the_old_one_is_stopped_is_no_success() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.through(|step| matches!(step, Step::Stop { .. }));
    let new = world
        .observed
        .replicas
        .iter_mut()
        .find(|own| own.rollout.is_some());
    new.unwrap().run = Run::Exited;
    let (_, end) = steps(&mut world);
    assert!(
        matches!(&end, Next::Fail(Failure::NeedsPerson(why)) if why.contains("nothing serves")),
        "{end:?}"
    );
    assert_eq!(world.old_replicas().len(), 1);
}

#[test]
fn a_signal_before_the_cutover_removes_what_was_made() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.through(|step| matches!(step, Step::Create { .. }));
    world.desired.goal = Goal::Undo(Reason::Interrupted);
    world.steps.clear();
    let wanted = ["stop new-1", "remove new-1", "release"];
    expect(&mut world, &wanted, &Next::Fail(Failure::Interrupted));
}
