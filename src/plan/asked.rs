//! What another run may ask for between two steps, and what a request changes. Pure.

use super::{Next, Step, plan};
use crate::{
    ask::{Asked, Request},
    model::{Baked, Desired, Facts, Goal, Milestone, Observed, Phase, Promote},
};

/// Whether a request that comes between two steps changes what follows. Another one stays open until a later step.
pub fn hears(asked: &Asked, desired: &Desired, observed: &Observed, facts: &Facts) -> bool {
    let next = plan(desired, observed, facts);
    let mut noted = facts.clone();
    note(asked, pause_in(&next), &mut noted);
    let then = plan(desired, observed, &noted);
    match asked.request {
        Request::Undo => {
            // The other services of a joint cutover stay with the new version.
            let is_joint = desired.policy.together && facts.all_reached == Some(Milestone::Live);
            matches!(then, Next::Undo(_)) && !is_joint
        }
        // A later run goes on from a shift or a batch alone.
        Request::Hold => {
            let claim = observed.claim.as_ref();
            let is_between = claim.is_some_and(|own| matches!(own.phase, Phase::Shifted { .. }));
            desired.goal == Goal::Roll && is_between && pause_in(&then).is_some()
        }
        Request::Promote(_) | Request::Resume => then != next,
    }
}

/// Notes a request that was heard before or in this step.
pub fn take_request(asked: &Asked, desired: &Desired, observed: &Observed, facts: &mut Facts) {
    let next = plan(desired, observed, facts);
    note(asked, pause_in(&next), facts);
}

/// The shift or the batch before the pause that comes next.
fn pause_in(next: &Next) -> Option<u16> {
    match next {
        Next::Pause { shift } | Next::Step(Step::Pause { shift, .. }) => Some(*shift),
        _ => None,
    }
}

fn note(asked: &Asked, pause: Option<u16>, facts: &mut Facts) {
    match asked.request {
        Request::Undo => {
            facts.baked = Some(Baked::Failed(format!("undone by {}", asked.who)));
            facts.is_undone = true;
        }
        Request::Promote(Promote::Next) => {
            facts.passed = pause.unwrap_or(facts.passed);
            facts.is_held = false;
        }
        Request::Promote(Promote::Full) => facts.is_promoted = true,
        Request::Hold => facts.is_held = true,
        Request::Resume => facts.is_held = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_changes_what_the_planner_goes_by() {
        let noted = |requests: &[Request]| {
            let mut facts = Facts::default();
            for request in requests {
                let who = "ada".to_owned();
                let request = *request;
                note(&Asked { request, who }, Some(2), &mut facts);
            }
            (facts.passed, facts.is_held, facts.is_promoted, facts.baked)
        };
        let next = Request::Promote(Promote::Next);
        assert_eq!(noted(&[Request::Hold]), (0, true, false, None));
        assert_eq!(
            noted(&[Request::Hold, Request::Resume]),
            (0, false, false, None)
        );
        assert_eq!(noted(&[Request::Hold, next]), (2, false, false, None));
        let full = Request::Promote(Promote::Full);
        assert_eq!(noted(&[full]), (0, false, true, None));
        let undone = Some(Baked::Failed("undone by ada".to_owned()));
        assert_eq!(noted(&[Request::Undo]), (0, false, false, undone));
    }
}
