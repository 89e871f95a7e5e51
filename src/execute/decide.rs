//! What follows from a signal during a step, and from a step that fails. Pure.

use std::time::Duration;

use crate::{
    error::Outcome,
    model::{Goal, Side},
    plan::Step,
};

/// How often a step that must not be given up is tried.
const TRIES: u32 = 4;

/// What a signal does while a step is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// Nothing until the step is over: a change of the routing takes milliseconds, and must be known to have happened or
    /// not.
    Wait,
    /// Ends the step and turns the rollout back.
    TurnBack,
    /// Ends the wait of the step as if its time were over.
    CutShort(&'static str),
    /// Nothing but a notice: it is too late to turn back.
    GoOn(&'static str),
}

/// After the confirmed cutover the shortest way to a settled service is forward.
pub fn on_signal(step: &Step, goal: &Goal, confirmed: Option<Side>) -> OnSignal {
    let early = *goal == Goal::Roll && confirmed != Some(Side::New);
    match (goal, step) {
        (_, Step::Hold | Step::Cutover) if early => OnSignal::Wait,
        _ if early => OnSignal::TurnBack,
        (Goal::Undo(_), _) => {
            OnSignal::GoOn("interrupted, but going back already; once more leaves at once")
        }
        (Goal::Roll | Goal::Finish, Step::Bake) => OnSignal::CutShort(FINISHING),
        (Goal::Roll | Goal::Finish, _) => OnSignal::GoOn(FINISHING),
    }
}

const FINISHING: &str =
    "interrupted, but the new version serves already: finishing; once more leaves at once";

/// What follows from a step that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    TurnBack,
    /// The same step again, after a pause.
    Retry(Duration),
    /// The run ends with the step's own error.
    End,
    /// The run ends: the step has failed as often as it is tried.
    GiveUp,
}

/// `failures` counts those of the step in a row.
pub fn on_failure(step: &Step, goal: &Goal, outcome: Outcome, failures: u32) -> OnFailure {
    let last = failures >= TRIES;
    match (step, goal) {
        (Step::Hold | Step::Create { .. } | Step::Cutover, Goal::Roll) => OnFailure::TurnBack,
        // A wait that fails is an engine that does not answer for a moment: nothing was to be changed.
        (Step::AwaitReady, Goal::Roll) if last => OnFailure::TurnBack,
        // Another try would wait to the end again.
        _ if outcome == Outcome::NeedsPerson => OnFailure::End,
        _ if last => OnFailure::GiveUp,
        _ => OnFailure::Retry(Duration::from_millis(250) * failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    const CREATE: Step = Step::Create { replicas: 1 };
    const CONFIRM: Step = Step::Confirm { side: Side::New };
    const BACK: Goal = Goal::Undo(Reason::Interrupted);

    #[test]
    fn a_signal_turns_back_until_the_cutover_is_confirmed_and_never_in_the_middle_of_a_change() {
        for step in [Step::Hold, Step::Cutover] {
            assert_eq!(on_signal(&step, &Goal::Roll, None), OnSignal::Wait);
        }
        for step in [CREATE, Step::AwaitReady, CONFIRM] {
            assert_eq!(on_signal(&step, &Goal::Roll, None), OnSignal::TurnBack);
        }
    }

    #[test]
    fn after_the_confirmed_cutover_a_signal_only_shortens_the_bake() {
        let new = Some(Side::New);
        for goal in [Goal::Roll, Goal::Finish] {
            let bake = on_signal(&Step::Bake, &goal, new);
            assert_eq!(bake, OnSignal::CutShort(FINISHING));
            let release = on_signal(&Step::Release, &goal, new);
            assert_eq!(release, OnSignal::GoOn(FINISHING));
        }
        let finishing = on_signal(&Step::Cutover, &Goal::Finish, None);
        assert_eq!(finishing, OnSignal::GoOn(FINISHING));
        for step in [Step::CutBack, Step::Bake, CREATE] {
            let back = on_signal(&step, &BACK, None);
            assert!(matches!(back, OnSignal::GoOn(text) if text.contains("going back already")));
        }
    }

    #[test]
    fn a_change_that_fails_on_the_way_forward_turns_back_at_once_and_a_wait_after_four_tries() {
        let failed =
            |step: &Step, failures| on_failure(step, &Goal::Roll, Outcome::Failed, failures);
        for step in [Step::Hold, CREATE, Step::Cutover] {
            assert_eq!(failed(&step, 1), OnFailure::TurnBack);
        }
        assert!(matches!(failed(&Step::AwaitReady, 3), OnFailure::Retry(_)));
        assert_eq!(failed(&Step::AwaitReady, 4), OnFailure::TurnBack);
    }

    #[test]
    fn what_must_not_be_given_up_is_tried_four_times_with_growing_pauses() {
        let failed = |goal, failures| on_failure(&Step::CutBack, goal, Outcome::Failed, failures);
        let pause = |ms| OnFailure::Retry(Duration::from_millis(ms));
        let tries = [1, 2, 3, 4].map(|failures| failed(&BACK, failures));
        assert_eq!(
            tries,
            [pause(250), pause(500), pause(750), OnFailure::GiveUp]
        );
        let forward = on_failure(&CREATE, &Goal::Finish, Outcome::Failed, 1);
        assert_eq!(forward, pause(250));
        let person = on_failure(&Step::Release, &Goal::Roll, Outcome::NeedsPerson, 1);
        assert_eq!(person, OnFailure::End);
    }
}
