//! How a run ends: the text for a step that failed and for what serves afterwards. Pure.

use crate::{
    error::Error,
    model::{Baked, Desired, Facts, Goal, HookEnd, Observed, Phase, Reason, Verdict},
    plan::{Failure, Step},
};

/// Whether the service is served again from here on, by the new replicas, or by old ones that were started again.
pub fn ends_gap(step: &Step, desired: &Desired, facts: &Facts) -> bool {
    match step {
        Step::Confirm(Phase::RolledBack) if facts.started.is_empty() => false,
        Step::Confirm(phase @ (Phase::Committed | Phase::RolledBack)) => {
            facts.confirmed == Some(*phase)
        }
        Step::AwaitReady => !desired.routed && unmet(step, desired, facts).is_none(),
        // Without a proxy nothing tells when they answer.
        Step::Start { .. } => !desired.routed,
        _ => false,
    }
}

/// Why a wait ended without success.
pub fn unmet(step: &Step, desired: &Desired, facts: &Facts) -> Option<String> {
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_));
    match step {
        Step::AwaitReady if facts.ready_expired => Some("timed out".to_owned()),
        Step::AwaitReady if facts.verdicts.values().any(failed) => {
            Some("a new replica failed".to_owned())
        }
        Step::Confirm(phase) if facts.confirm_expired == Some(*phase) => {
            Some("the proxy did not pick up the change".to_owned())
        }
        Step::Hook(phase) => match facts.hooks.get(phase)? {
            HookEnd::Failed(why) => Some(why.clone()),
            HookEnd::Passed => None,
        },
        Step::AwaitOthers(_) => facts.others_failed.clone(),
        Step::Bake
        | Step::Watch { .. }
        | Step::Pause { .. }
        | Step::AwaitReady
        | Step::Confirm(_)
            if matches!(facts.baked, Some(Baked::Failed(_))) && desired.goal == Goal::Roll =>
        {
            Some("rolling back".to_owned())
        }
        _ => None,
    }
}

pub fn error(failure: Failure, desired: &Desired, observed: &Observed, logs: Vec<String>) -> Error {
    match failure {
        Failure::OldServes(text) => match serves(desired, observed) {
            Ok(now) => Error::failed(format!("{text}; {now}")).logs(logs),
            Err(now) => Error::needs_person(format!("{text}; {now}")).logs(logs),
        },
        Failure::Interrupted => match serves(desired, observed) {
            Ok(now) => Error::interrupted(format!("interrupted; {now}")),
            Err(now) => Error::needs_person(format!("interrupted; {now}")),
        },
        Failure::InPart(text) => {
            let now = share(desired, observed);
            Error::failed(format!("{text}; {now}")).logs(logs).open()
        }
        Failure::NeedsPerson(text) => Error::needs_person(text).logs(logs),
    }
}

/// The notice that a failed batch was taken back.
pub const GOES_ON: &str =
    "the old replicas of the failed batch serve again; the next batch follows";

/// The end of a run at an open-ended pause after a shift or a batch.
pub fn paused(shift: u16, desired: &Desired, observed: &Observed) -> Error {
    let policy = &desired.policy;
    let what = match policy.previews(Phase::Shifted { step: shift }) {
        true => PREVIEWED.to_owned(),
        false => share(desired, observed),
    };
    let batches = policy.batches.as_ref().map(|own| usize::from(own.last()));
    let steps = batches.unwrap_or(policy.shifts.len() + 1);
    let why = match &desired.goal {
        Goal::Undo(Reason::Failed(why)) => format!("{why}; "),
        _ => String::new(),
    };
    Error::paused(format!("{why}paused at step {shift} of {steps}: {what}"))
}

/// What the new version has of the traffic.
fn share(desired: &Desired, observed: &Observed) -> String {
    let plan = observed.claim.as_ref().map(|claim| &claim.plan);
    let percent = plan.and_then(|plan| plan.percent(&desired.rollout, &observed.replicas));
    let percent = percent.unwrap_or_default();
    format!("the new version has {percent} % of the traffic")
}

/// What a preview makes of the traffic.
pub const PREVIEWED: &str = "a preview of the new version; all traffic goes to the old one";

/// The end of a rollback where the old version had no route before the rollout either.
pub const UNROUTED: &str = "the old version runs, and the proxy does not route to it, as before";

/// What serves after the rollback, by the last observation; an error if that is less than before.
fn serves(desired: &Desired, observed: &Observed) -> Result<&'static str, &'static str> {
    let others = observed
        .replicas
        .iter()
        .filter(|own| own.rollout.as_ref() != Some(&desired.rollout));
    let mut serving = others.filter(|own| own.serves()).peekable();
    let anything_serves = serving.peek().is_some();
    let there: Vec<_> = serving
        .filter(|own| desired.old_at_start.contains(&own.id))
        .collect();
    let routed = there.iter().any(|own| !desired.unrouted.contains(&own.id));
    match (anything_serves, desired.served) {
        (true, _) if routed => Ok("the old version serves"),
        (true, _) if !there.is_empty() => Ok(UNROUTED),
        (true, _) => Ok("containers that another command started serve now"),
        (false, true) => Err("the old version does not serve either"),
        (false, false) if observed.replicas.is_empty() => Ok("nothing was running before"),
        (false, false) => Ok("the service did not serve before either"),
    }
}

/// The error of a step that has failed as often as it is tried.
pub fn stuck(step: &Step, tries: u32, desired: &Desired, cause: Error) -> Error {
    let serves = match &desired.goal {
        Goal::Undo(_) if matches!(step, Step::Start { .. }) => "the old version is stopped",
        Goal::Undo(_) => "the rollback stopped there, and replicas that serve were not removed",
        Goal::Roll if desired.policy.batches.is_some() => "old and new replicas serve",
        Goal::Roll | Goal::Finish => "the new version serves",
    };
    Error::needs_person(format!(
        "{} failed {tries} times: {}; {serves}",
        step.name(),
        cause.message
    ))
    .hint("run the same command again to continue from here")
}
