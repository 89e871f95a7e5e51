//! Decides what follows a signal during a step, or a failed step. Pure.

use std::time::Duration;

use crate::{
    ask::Request,
    error::Outcome,
    model::{Claim, Desired, Goal, Order, Phase, Promote},
    plan::Step,
};

/// How often a step is tried that must succeed.
const TRIES: u32 = 4;

/// The effect of a signal during a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// Nothing until the step ends: a routing change takes milliseconds, and its result must be known.
    Wait,
    /// The same, with a notice: a stop takes longer and cannot be cancelled in the engine.
    Announce(&'static str),
    /// Ends the step and rolls back.
    TurnBack,
    /// Ends the wait of the step as if its time had passed.
    CutShort(&'static str),
    /// Only a notice: it is too late to roll back.
    GoOn(&'static str),
}

pub fn on_signal(step: &Step, desired: &Desired, confirmed: Option<Phase>) -> OnSignal {
    let early = can_turn_back(step, desired, confirmed);
    match (&desired.goal, step) {
        (_, Step::Route(_)) if early => OnSignal::Wait,
        (_, Step::Stop { .. }) if early => OnSignal::Announce(STOPPING),
        _ if early => OnSignal::TurnBack,
        (Goal::Undo(_), _) => OnSignal::GoOn(ROLLING_BACK),
        (Goal::Roll | Goal::Finish, Step::Bake | Step::Watch { .. }) => {
            OnSignal::CutShort(FINISHING)
        }
        (Goal::Roll | Goal::Finish, _) => OnSignal::GoOn(FINISHING),
    }
}

/// After the confirmed cutover, or once old replicas are removed for good, finishing is the shortest way to a
/// settled service. A hook that is interrupted has failed, so the rollout goes back.
fn can_turn_back(step: &Step, desired: &Desired, confirmed: Option<Phase>) -> bool {
    let is_final = match step {
        Step::Remove { .. } | Step::Rename { .. } | Step::Release => true,
        Step::Stop { .. } => {
            desired.policy.order == Order::StartFirst && desired.policy.batches.is_none()
        }
        _ => false,
    };
    // In a joint cutover the others may not be confirmed yet.
    let is_joint = desired.policy.together && matches!(step, Step::AwaitOthers(_) | Step::Bake);
    let is_open = confirmed != Some(Phase::Committed) || matches!(step, Step::Hook(_)) || is_joint;
    desired.goal == Goal::Roll && is_open && !is_final
}

/// Whether a step of a joint cutover ends as soon as another service goes back.
pub fn hears_others(step: &Step) -> bool {
    matches!(
        step,
        Step::AwaitReady | Step::AwaitOthers(_) | Step::Confirm(Phase::Committed) | Step::Bake
    )
}

/// Whether `rollout undo` ends the step: a wait while the traffic can be moved back. A hook hears it by itself.
pub fn may_be_undone(step: &Step, desired: &Desired, claim: Option<&Claim>) -> bool {
    match step {
        Step::Bake | Step::Watch { .. } | Step::Pause { .. } | Step::AwaitOthers(_) => true,
        Step::AwaitReady | Step::Confirm(_) | Step::Drain { .. } => {
            let is_open = claim.is_some_and(|claim| claim.phase != Phase::Committed);
            desired.goal == Goal::Roll && is_open
        }
        _ => false,
    }
}

/// What another run may ask for during this step. What comes during any other is heard after it, see [`plan::hears`].
///
/// [`plan::hears`]: crate::plan::hears
pub fn hears(step: &Step, desired: &Desired, claim: Option<&Claim>) -> Vec<Request> {
    let is_between = claim.is_some_and(|claim| matches!(claim.phase, Phase::Shifted { .. }));
    let more: &[Request] = match step {
        Step::Pause { .. } => &[
            Request::Promote(Promote::Next),
            Request::Promote(Promote::Full),
            Request::Hold,
            Request::Resume,
        ],
        _ if desired.goal == Goal::Roll && is_between && step.is_wait() => &[Request::Hold],
        _ => &[],
    };
    let undo = may_be_undone(step, desired, claim).then_some(Request::Undo);
    undo.into_iter().chain(more.iter().copied()).collect()
}

/// Whether the step stops old replicas that a rollback starts again.
pub fn stops_early(step: &Step, desired: &Desired, confirmed: Option<Phase>) -> bool {
    matches!(step, Step::Stop { .. }) && can_turn_back(step, desired, confirmed)
}

const STOPPING: &str = "interrupted: the old replicas are started again once they have stopped; press Ctrl-C again to quit now";
const ROLLING_BACK: &str = "interrupted: already rolling back; press Ctrl-C again to quit now";
const FINISHING: &str =
    "interrupted: the new version is already live, finishing; press Ctrl-C again to quit now";

/// The reaction to a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    TurnBack,
    /// The same step again, after a pause.
    Retry(Duration),
    /// The run ends with the step's own error.
    End,
    /// The run ends: the step has used up its tries.
    GiveUp,
}

/// `failures` counts consecutive failures of the step; `outcome` is that of the last one.
pub fn on_failure(
    step: &Step,
    desired: &Desired,
    confirmed: Option<Phase>,
    (outcome, failures): (Outcome, u32),
) -> OnFailure {
    let last = failures >= TRIES;
    match (step, &desired.goal) {
        (Step::Route(_) | Step::Create { .. } | Step::Hook(_), Goal::Roll) => OnFailure::TurnBack,
        // A failed wait means that the engine did not answer for a moment; nothing was being changed.
        (Step::AwaitReady | Step::Pause { .. }, Goal::Roll) if last => OnFailure::TurnBack,
        (Step::Watch { .. } | Step::Drain { .. }, Goal::Roll)
            if last && confirmed != Some(Phase::Committed) =>
        {
            OnFailure::TurnBack
        }
        _ if last && stops_early(step, desired, confirmed) => OnFailure::TurnBack,
        // Another try would wait for the whole timeout again.
        _ if outcome == Outcome::NeedsPerson => OnFailure::End,
        _ if last => OnFailure::GiveUp,
        _ => OnFailure::Retry(Duration::from_millis(250) * failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Batches, HookPhase, Policy, Reason, RoutePlan, Shift},
        plan::simulator::{Simulator, WELL, old},
    };

    const CREATE: Step = Step::Create { replicas: 1 };
    const CONFIRM: Step = Step::Confirm(Phase::Committed);
    const STOP: Step = Step::Stop {
        replicas: Vec::new(),
    };
    const NEW: Option<Phase> = Some(Phase::Committed);

    fn desired(goal: Goal, order: Order) -> Desired {
        let desired = Simulator::new(vec![old("one")], 1, true, WELL)
            .preview
            .desired;
        let policy = Policy {
            order,
            ..Policy::default()
        };
        Desired {
            goal,
            policy,
            ..desired
        }
    }

    fn signal(step: &Step, goal: Goal, confirmed: Option<Phase>) -> OnSignal {
        on_signal(step, &desired(goal, Order::StartFirst), confirmed)
    }

    fn failed(step: &Step, goal: Goal, outcome: Outcome, failures: u32) -> OnFailure {
        let desired = desired(goal, Order::StartFirst);
        on_failure(step, &desired, None, (outcome, failures))
    }

    #[test]
    fn a_signal_turns_back_until_the_cutover_is_confirmed_and_never_in_the_middle_of_a_change() {
        for step in [Step::Route(Phase::Prepared), Step::Route(Phase::Committed)] {
            assert_eq!(signal(&step, Goal::Roll, None), OnSignal::Wait);
        }
        for step in [CREATE, Step::AwaitReady, CONFIRM] {
            assert_eq!(signal(&step, Goal::Roll, None), OnSignal::TurnBack);
        }
    }

    #[test]
    fn a_signal_during_a_hook_turns_back_and_a_hook_is_never_tried_again() {
        for (phase, confirmed) in [
            (HookPhase::PreDeploy, None),
            (HookPhase::PreCutover, None),
            (HookPhase::PostCutover, NEW),
        ] {
            let hook = Step::Hook(phase);
            assert_eq!(signal(&hook, Goal::Roll, confirmed), OnSignal::TurnBack);
            let failed = failed(&hook, Goal::Roll, Outcome::Failed, 1);
            assert_eq!(failed, OnFailure::TurnBack);
        }
        let finishing = signal(&Step::Hook(HookPhase::PostCutover), Goal::Finish, NEW);
        assert_eq!(finishing, OnSignal::GoOn(FINISHING));
    }

    #[test]
    fn after_the_confirmed_cutover_a_signal_only_shortens_the_bake() {
        for goal in [Goal::Roll, Goal::Finish] {
            let bake = signal(&Step::Bake, goal.clone(), NEW);
            assert_eq!(bake, OnSignal::CutShort(FINISHING));
            let release = signal(&Step::Release, goal, NEW);
            assert_eq!(release, OnSignal::GoOn(FINISHING));
        }
        let finishing = signal(&Step::Route(Phase::Committed), Goal::Finish, None);
        assert_eq!(finishing, OnSignal::GoOn(FINISHING));
        for step in [Step::Route(Phase::RolledBack), Step::Bake, CREATE] {
            let back = signal(&step, Goal::Undo(Reason::Interrupted), None);
            assert_eq!(back, OnSignal::GoOn(ROLLING_BACK));
        }
    }

    #[test]
    fn a_stop_that_makes_room_comes_to_its_end_and_is_turned_back_and_any_other_is_final() {
        let first = desired(Goal::Roll, Order::StopFirst);
        assert_eq!(on_signal(&STOP, &first, None), OnSignal::Announce(STOPPING));
        assert_eq!(on_signal(&STOP, &first, NEW), OnSignal::GoOn(FINISHING));
        let stop = signal(&STOP, Goal::Roll, None);
        assert_eq!(stop, OnSignal::GoOn(FINISHING));
        let tried = |failures| on_failure(&STOP, &first, None, (Outcome::Failed, failures));
        assert!(matches!(tried(3), OnFailure::Retry(_)));
        assert_eq!(tried(4), OnFailure::TurnBack);
        let last = failed(&STOP, Goal::Roll, Outcome::Failed, 4);
        assert_eq!(last, OnFailure::GiveUp);
    }

    #[test]
    fn between_two_batches_a_stop_is_turned_back_and_an_undo_ends_each_wait() {
        let mut rolling = desired(Goal::Roll, Order::StartFirst);
        rolling.policy.batches = Some(Batches {
            size: 1,
            ahead: 0,
            replicas: 4,
            olds: 4,
        });
        let first = Some(Phase::Shifted { step: 1 });
        let stop = on_signal(&STOP, &rolling, first);
        assert_eq!(stop, OnSignal::Announce(STOPPING));
        let drain = Step::Drain {
            replicas: Vec::new(),
        };
        assert_eq!(on_signal(&drain, &rolling, first), OnSignal::TurnBack);
        let last = on_signal(&STOP, &rolling, NEW);
        assert_eq!(last, OnSignal::GoOn(FINISHING));
        let claim = |phase| Claim {
            rollout: rolling.rollout.clone(),
            phase,
            plan: RoutePlan::default(),
            stale: false,
        };
        let undone = |step: &Step, goal, phase| {
            let mut desired = rolling.clone();
            desired.goal = goal;
            may_be_undone(step, &desired, Some(&claim(phase)))
        };
        let shifted = Phase::Shifted { step: 1 };
        for wait in [drain.clone(), Step::AwaitReady, Step::Confirm(shifted)] {
            assert!(undone(&wait, Goal::Roll, shifted));
            assert!(!undone(&wait, Goal::Roll, Phase::Committed));
            assert!(!undone(&wait, Goal::Undo(Reason::Interrupted), shifted));
            // The same before a cutover in one step.
            let whole = desired(Goal::Roll, Order::StartFirst);
            assert!(may_be_undone(&wait, &whole, Some(&claim(Phase::Prepared))));
            assert!(!may_be_undone(
                &wait,
                &whole,
                Some(&claim(Phase::Committed))
            ));
        }
        assert!(!undone(&STOP, Goal::Roll, shifted));
        assert!(undone(&Step::Bake, Goal::Finish, Phase::Committed));
    }

    #[test]
    fn a_pause_hears_every_request_and_a_wait_between_two_steps_only_some() {
        let mut canary = desired(Goal::Roll, Order::StartFirst);
        canary.policy.shifts = vec![Shift {
            percent: 10,
            pause: None,
            analysis: false,
        }];
        let claim = |phase| Claim {
            rollout: canary.rollout.clone(),
            phase,
            plan: RoutePlan::default(),
            stale: false,
        };
        let shifted = Phase::Shifted { step: 1 };
        let pause = Step::Pause {
            shift: 1,
            span: None,
        };
        assert_eq!(hears(&pause, &canary, Some(&claim(shifted))).len(), 5);
        let confirm = hears(&Step::Confirm(shifted), &canary, Some(&claim(shifted)));
        assert_eq!(confirm, [Request::Undo, Request::Hold]);
        let ready = |phase| hears(&Step::AwaitReady, &canary, Some(&claim(phase)));
        assert_eq!(ready(Phase::Prepared), [Request::Undo]);
        // The next batch of a rolling update.
        assert_eq!(ready(shifted), [Request::Undo, Request::Hold]);
        let mut back = canary.clone();
        back.goal = Goal::Undo(Reason::Interrupted);
        assert_eq!(hears(&Step::AwaitReady, &back, Some(&claim(shifted))), []);
        assert_eq!(hears(&CREATE, &canary, None), []);
        assert_eq!(
            on_signal(&pause, &canary, Some(shifted)),
            OnSignal::TurnBack
        );
    }

    #[test]
    fn a_change_that_fails_on_the_way_forward_turns_back_at_once_and_a_wait_after_four_tries() {
        let failed = |step: &Step, failures| failed(step, Goal::Roll, Outcome::Failed, failures);
        for step in [
            Step::Route(Phase::Prepared),
            CREATE,
            Step::Route(Phase::Committed),
        ] {
            assert_eq!(failed(&step, 1), OnFailure::TurnBack);
        }
        assert!(matches!(failed(&Step::AwaitReady, 3), OnFailure::Retry(_)));
        assert_eq!(failed(&Step::AwaitReady, 4), OnFailure::TurnBack);
    }

    #[test]
    fn what_must_not_be_given_up_is_tried_four_times_with_growing_pauses() {
        let back = || Goal::Undo(Reason::Interrupted);
        let tries = [1, 2, 3, 4]
            .map(|n| failed(&Step::Route(Phase::RolledBack), back(), Outcome::Failed, n));
        let pause = |ms| OnFailure::Retry(Duration::from_millis(ms));
        let wanted = [pause(250), pause(500), pause(750), OnFailure::GiveUp];
        assert_eq!(tries, wanted);
        let forward = failed(&CREATE, Goal::Finish, Outcome::Failed, 1);
        assert_eq!(forward, pause(250));
        let person = failed(&Step::Release, Goal::Roll, Outcome::NeedsPerson, 1);
        assert_eq!(person, OnFailure::End);
    }
}
