//! Tables of whole step lists: what is there, and everything that is done until the end.

use super::{
    Failure, Next, Step,
    properties::HOOKS,
    simulator::{Fate, Ready, Simulator, WELL, live, replica, rollout},
    unfinished,
};
use crate::model::{
    Claim, Goal, Health, HookPhase, Observed, Phase, Reason, Replica, RoutePlan, Run,
};

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
pub(super) fn steps(world: &mut Simulator) -> (Vec<String>, Next) {
    let end = world.run();
    (world.steps.iter().map(line).collect(), end)
}

fn line(step: &Step) -> String {
    let ids: Vec<&str> = match step {
        Step::Drain { replicas }
        | Step::Hooks { replicas }
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
pub(super) fn expect(world: &mut Simulator, wanted: &[&str], end: &Next) {
    let (steps, ended) = steps(world);
    assert_eq!(steps, wanted);
    assert_eq!(&ended, end);
}

pub(super) fn old_serves(text: &str) -> Next {
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
    let shifted = |fate| {
        let mut world = Simulator::new(old_set(1), 1, true, fate);
        world.desired.policy.shifts = vec![10, 50];
        world
    };
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
fn a_released_record_whose_reply_was_lost_is_not_written_again() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.until(|step| *step == Step::Release);
    world.observed.claim = None;
    // To hold the new replica now would hide the only one that serves.
    assert_eq!(world.next(), Next::Done);
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
fn hooks_run_while_the_way_back_is_still_open() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.desired.hooks = true;
    world.until(|step| matches!(step, Step::Hooks { .. }));
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

/// The steps up to the end of the watch.
const BAKED: [&str; 6] = [
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
fn a_signal_before_the_cutover_removes_what_was_made() {
    let mut world = Simulator::new(old_set(1), 1, true, WELL);
    world.through(|step| matches!(step, Step::Create { .. }));
    world.desired.goal = Goal::Undo(Reason::Interrupted);
    world.steps.clear();
    let wanted = ["stop new-1", "remove new-1", "release"];
    expect(&mut world, &wanted, &Next::Fail(Failure::Interrupted));
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
    resumes(Some(Phase::Shifted { step: 1 }), old_set(2), 2, undo());
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
