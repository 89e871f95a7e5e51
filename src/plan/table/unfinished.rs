//! Tables of what a run does with a rollout that an earlier one left unfinished.

use super::{
    super::{
        Failure, Next, Step,
        simulator::{Simulator, WELL, live, replica, rollout},
        unfinished,
    },
    old_set, steps,
};
use crate::model::{Claim, Goal, Health, Observed, Phase, Reason, Replica, RoutePlan, Run};

/// Which goal an unfinished rollout gets.
#[track_caller]
fn resumes(phase: Option<Phase>, old: Vec<Replica>, new: usize, wanted: Option<Goal>) {
    let own = |number| {
        let mut new = replica(
            &format!("new-{number}"),
            Some(&rollout("r2")),
            Run::Running,
            Health::Healthy,
        );
        new.wanted = Some(2);
        new
    };
    let claim = |phase| Claim {
        rollout: rollout("r2"),
        phase,
        plan: RoutePlan::default(),
        stale: false,
    };
    let observed = Observed {
        claim: phase.map(claim),
        replicas: old.iter().cloned().chain((1..=new).map(own)).collect(),
    };
    let found = unfinished(&observed, true, None);
    assert_eq!(
        found.map(|(_, goal, _)| goal),
        wanted,
        "{phase:?}, {} old, {new} new",
        old.len()
    );
}

#[test]
fn the_routing_decides_whether_an_unfinished_rollout_goes_on_or_back() {
    let undo = || Some(Goal::Undo(Reason::Unfinished));
    resumes(None, old_set(1), 0, None);
    resumes(Some(Phase::Settled), old_set(0), 0, None);
    resumes(Some(Phase::Prepared), old_set(2), 0, undo());
    resumes(Some(Phase::Prepared), old_set(2), 2, undo());
    resumes(Some(Phase::RolledBack), old_set(2), 2, undo());
    let shifted = Some(Phase::Shifted { step: 1 });
    resumes(shifted, old_set(2), 2, Some(Goal::Roll));
    resumes(shifted, old_set(2), 1, undo());
    resumes(shifted, old_set(0), 1, Some(Goal::Finish));
    resumes(Some(Phase::Committed), old_set(2), 2, Some(Goal::Finish));
    resumes(Some(Phase::Committed), old_set(0), 2, Some(Goal::Finish));
    resumes(Some(Phase::ForceShown), old_set(2), 2, undo());
    // Nothing else serves: a rollback would leave nothing that serves.
    resumes(Some(Phase::ForceShown), old_set(0), 2, Some(Goal::Finish));
    resumes(Some(Phase::RolledBack), old_set(0), 2, undo());
    // The record is lost: what is left decides.
    resumes(None, old_set(0), 2, Some(Goal::Finish));
    resumes(None, old_set(2), 2, undo());
}

#[test]
fn a_run_that_dies_after_any_step_is_settled_by_the_next() {
    let cases = [
        (1, true, false),
        (3, true, false),
        (1, true, true),
        (3, true, true),
        (1, false, false),
        (3, false, false),
    ];
    for (count, routed, confirm_hold) in cases {
        for crash in 0..13 {
            let mut world = Simulator::new(old_set(count), count as u32, routed, WELL);
            world.desired.confirm_hold = confirm_hold;
            for _ in 0..crash {
                if let Next::Step(step) = world.next() {
                    world.take(step);
                }
            }
            let mut next = world.restarted();
            if let Some(next) = &mut next {
                assert_eq!(next.run(), Next::Done, "{crash}");
                assert!(next.restarted().is_none(), "{crash}: {:#?}", next.observed);
                world = next.clone();
            }
            assert_eq!(live(&world.observed).len(), count, "{crash}");
        }
    }
}

#[test]
fn a_released_record_whose_reply_was_lost_is_not_written_again() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.until(|step| *step == Step::Release);
    world.observed.claim = None;
    // To hold the new replica now would hide the only one that serves.
    assert_eq!(world.next(), Next::Done);
}

/// What a plain `docker compose up -d` with the new file does while the new version starts.
#[test]
fn a_new_version_that_is_all_that_is_left_is_brought_to_its_end() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.through(|step| matches!(step, Step::Create { .. }));
    world.observed.replicas.retain(|own| own.rollout.is_some());
    let claim = world.observed.claim.as_mut().unwrap();
    claim.phase = Phase::ForceShown;
    claim.plan = RoutePlan::default();
    world.steps.clear();
    let wanted = ["cutover", "confirm new", "rename web-new-1", "release"];
    world.observed.replicas[0].health = Health::Healthy;
    let (steps, end) = steps(&mut world);
    assert_eq!(steps, wanted);
    assert_eq!(end, Next::Done);
}

/// Without a proxy nothing hides the new replicas: what serves is never removed for a record alone.
#[test]
fn without_a_proxy_the_last_that_serves_is_kept_whatever_the_claim_says() {
    for phase in [Phase::Prepared, Phase::RolledBack] {
        let mut world = Simulator::new(old_set(1), 1, false, WELL);
        for step in [
            Step::Route(Phase::Prepared),
            Step::Create { replicas: 1 },
            Step::AwaitReady,
            Step::Route(Phase::Committed),
            Step::Route(phase),
        ] {
            world.apply(&step);
        }
        world.observed.replicas.retain(|own| own.rollout.is_some());
        let mut next = world.restarted().unwrap();
        assert_eq!(next.run(), Next::Done, "{phase:?}");
        assert_eq!(next.new_replicas().len(), 1);
        assert_eq!(next.observed.claim, None);
    }
}

/// What version 0.1.0 makes of a claim that it does not know: it finishes the rollout without it.
#[test]
fn without_a_proxy_replicas_with_their_final_names_are_past_their_cutover() {
    let mut world = Simulator::new(old_set(1), 1, false, WELL);
    world.apply(&Step::Route(Phase::Prepared));
    world.apply(&Step::Create { replicas: 1 });
    let new = world.observed.replicas.last_mut().unwrap();
    new.health = Health::Healthy;
    new.name = new.target_name().to_owned();
    let next = world.restarted().unwrap();
    assert_eq!(next.desired.goal, Goal::Finish);
}

/// `rollout abort` after the old replicas are gone: with or without a proxy there is no way back.
#[test]
fn an_abort_removes_nothing_once_only_the_new_replicas_are_left() {
    for routed in [true, false] {
        let mut world = Simulator::new(old_set(1), 1, routed, WELL);
        world.through(|step| matches!(step, Step::Remove { .. }));
        let mut next = world.restarted().unwrap();
        next.desired.goal = Goal::Undo(Reason::Unfinished);
        let end = next.run();
        assert!(
            matches!(end, Next::Fail(Failure::NeedsPerson(_))),
            "{routed}: {end:?}"
        );
        assert_eq!(next.new_replicas().len(), 1, "{routed}: {:?}", next.steps);
    }
}
