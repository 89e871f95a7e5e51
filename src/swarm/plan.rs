//! The next step of a rollout in a Swarm, from what is observed and what this run has found out. Pure.
//!
//! The twin is a second service with the new version. Traefik gets its tasks in the place of the service's own while
//! Swarm updates the service; then the traffic returns. The claim is the commit record.

use std::{fmt, str::FromStr};

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The twin's tasks get the traffic, and the service still runs the old version.
    Cutover,
    /// The same, and the service may be updated.
    Update,
    /// The service's own tasks get the traffic, and the twin may still be answering.
    Release,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cutover => "swarm-cutover",
            Self::Update => "swarm-update",
            Self::Release => "swarm-release",
        })
    }
}

impl FromStr for Stage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Cutover, Self::Update, Self::Release];
        all.into_iter()
            .find(|own| own.to_string() == text)
            .ok_or(())
    }
}

/// The two services that can have the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Twin,
    Service,
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    pub claim: Option<Stage>,
    /// The twin, where there is one: whether a task of it runs.
    pub twin: Option<bool>,
}

impl Observed {
    /// Whether no rollout is unfinished.
    pub fn is_settled(&self) -> bool {
        self.claim.is_none() && self.twin.is_none()
    }
}

/// What this run has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Swarm's own update moves the service: no Traefik routes to it, or its tasks are the same in both versions.
    pub in_place: bool,
    /// Traefik routes to the service.
    pub routed: bool,
    /// The twin is of this run.
    pub created: bool,
    /// The twin's tasks have run for long enough.
    pub ready: bool,
    /// Which tasks every Traefik has, and no others.
    pub confirmed: Option<Side>,
    /// The twin's tasks are watched while they have the traffic and the service still runs the old version.
    pub bakes: bool,
    /// They have been watched for long enough.
    pub baked: bool,
    /// Those have answered their last requests that had the traffic before.
    pub drained: bool,
    /// How the update of the service has ended.
    pub updated: Option<Result<(), String>>,
    /// The service's own tasks are what the twin's are, or have run for long enough themselves.
    pub proven: bool,
    /// The claim of an earlier run is settled.
    pub settled: bool,
    /// Why the rollout goes back.
    pub undo: Option<Undo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Undo {
    Failed(String),
    Interrupted,
    /// An undo takes back what an earlier run has left.
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Deploy the twin, and compare its tasks with those of the service.
    Create,
    /// Wait until all tasks of this side run, and for as long as they have to.
    AwaitReady(Side),
    Claim(Stage),
    Confirm(Side),
    /// Watch the tasks of the twin while the old ones are still there.
    Bake,
    /// Wait until the tasks of this side have answered their last requests.
    Drain(Side),
    /// Deploy the service, and wait for the result of its update.
    Update,
    /// Remove the twin.
    Remove,
    /// Drop the claim.
    Clear,
}

impl Step {
    /// The name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::AwaitReady(_) => "ready",
            Self::Claim(Stage::Cutover) => "cutover",
            Self::Claim(Stage::Update) => "commit",
            Self::Claim(Stage::Release) => "return",
            Self::Confirm(_) => "confirm",
            Self::Bake => "bake",
            Self::Drain(_) => "drain",
            Self::Update => "update",
            Self::Remove => "remove",
            Self::Clear => "release",
        }
    }

    /// Whether a signal or a failure turns the rollout back. From the update on, the way forward is the shorter one.
    pub fn turns_back(self, observed: &Observed, facts: &Facts) -> bool {
        let is_early = observed.claim.is_none_or(|stage| stage == Stage::Cutover);
        let is_late = matches!(
            self,
            Self::Update
                | Self::Remove
                | Self::Claim(Stage::Update | Stage::Release)
                | Self::Confirm(Side::Service)
                | Self::Drain(Side::Twin)
        );
        is_early && !is_late && facts.undo.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Step(Step),
    /// Go back for this reason.
    Undo(String),
    Done,
    /// The old version has the traffic.
    Failed(Undo),
    /// The twin has the traffic, and the update of the service has failed: why.
    NeedsPerson(String),
}

pub fn plan(observed: &Observed, facts: &Facts) -> Next {
    let serves = observed.twin == Some(true);
    match observed.claim {
        None if facts.in_place => in_place(observed, facts),
        None => unclaimed(observed, facts),
        // Without its tasks, readers see those of the service again.
        Some(Stage::Cutover) if !serves && facts.created && facts.undo.is_none() => {
            Next::Undo("no task of the twin runs any more".to_owned())
        }
        Some(Stage::Cutover) if !serves || facts.undo.is_some() => {
            Next::Step(Step::Claim(Stage::Release))
        }
        Some(Stage::Cutover) => Next::Step(match facts.confirmed {
            Some(Side::Twin) if facts.bakes && !facts.baked => Step::Bake,
            _ => once_idle(facts, Step::Claim(Stage::Update)),
        }),
        Some(Stage::Update) => match &facts.updated {
            None if serves => Next::Step(once_idle(facts, Step::Update)),
            Some(Err(why)) if serves => Next::NeedsPerson(why.clone()),
            Some(Ok(())) if serves && !facts.proven => Next::Step(Step::AwaitReady(Side::Service)),
            // An update of tasks that have the traffic would lose requests.
            _ => Next::Step(Step::Claim(Stage::Release)),
        },
        Some(Stage::Release) => Next::Step(match (facts.confirmed, observed.twin) {
            (Some(Side::Service), Some(true)) if !facts.drained => Step::Drain(Side::Twin),
            (Some(Side::Service), Some(_)) => Step::Remove,
            (Some(Side::Service), None) => Step::Clear,
            _ => Step::Confirm(Side::Service),
        }),
    }
}

/// This step, once the twin has the traffic and the service has answered its last requests.
fn once_idle(facts: &Facts, step: Step) -> Step {
    match (facts.confirmed, facts.drained) {
        (Some(Side::Twin), true) => step,
        (Some(Side::Twin), false) => Step::Drain(Side::Service),
        _ => Step::Confirm(Side::Twin),
    }
}

/// Takes down the twin of an earlier run. A claim may have been lost, so it may have the traffic.
fn take_down(observed: &Observed, facts: &Facts) -> Step {
    match facts.confirmed {
        Some(Side::Service) if facts.drained || observed.twin == Some(false) => Step::Remove,
        Some(Side::Service) => Step::Drain(Side::Twin),
        _ => Step::Confirm(Side::Service),
    }
}

fn is_left(observed: &Observed, facts: &Facts) -> bool {
    observed.twin.is_some() && !facts.created
}

/// A twin of this run has not had any traffic.
fn unclaimed(observed: &Observed, facts: &Facts) -> Next {
    let step = match (&facts.undo, observed.twin) {
        _ if is_left(observed, facts) => take_down(observed, facts),
        (Some(_), Some(_)) => Step::Remove,
        (Some(undo), None) => return Next::Failed(undo.clone()),
        (None, _) if facts.settled => return settled(facts),
        (None, None) if facts.created => {
            return Next::Undo("the twin was removed from outside".to_owned());
        }
        (None, None) => Step::Create,
        (None, Some(_)) if !facts.ready => Step::AwaitReady(Side::Twin),
        (None, Some(_)) => Step::Claim(Stage::Cutover),
    };
    Next::Step(step)
}

fn in_place(observed: &Observed, facts: &Facts) -> Next {
    match (&facts.updated, &facts.undo) {
        _ if is_left(observed, facts) => Next::Step(take_down(observed, facts)),
        _ if observed.twin.is_some() => Next::Step(Step::Remove),
        (Some(Err(why)), _) => Next::Failed(Undo::Failed(why.clone())),
        (Some(Ok(())), _) if facts.routed && facts.confirmed.is_none() => {
            Next::Step(Step::Confirm(Side::Service))
        }
        (Some(Ok(())), _) => Next::Done,
        (None, Some(undo)) => Next::Failed(undo.clone()),
        (None, None) => Next::Step(Step::Update),
    }
}

/// Takes down what a step that has succeeded means for the next ones.
pub fn learn(step: Step, facts: &mut Facts) {
    match step {
        Step::Create => facts.created = true,
        // The same tasks have the traffic as before.
        Step::Claim(Stage::Update) => {}
        Step::Claim(_) | Step::Update => (facts.confirmed, facts.drained) = (None, false),
        Step::Confirm(side) => facts.confirmed = Some(side),
        Step::Drain(_) => facts.drained = true,
        Step::Bake => facts.baked = true,
        // It was the claim of an earlier run that had no more to do: now the rollout begins.
        Step::Clear if facts.updated.is_none() && facts.undo.is_none() => {
            *facts = Facts {
                routed: facts.routed,
                bakes: facts.bakes,
                ..Facts::default()
            }
        }
        Step::Clear => facts.settled = true,
        Step::AwaitReady(Side::Twin) => facts.ready = true,
        Step::AwaitReady(Side::Service) => facts.proven = true,
        Step::Remove => {}
    }
}

/// What a step makes of what is there, if it succeeds.
fn succeed(step: Step, observed: &mut Observed, facts: &mut Facts) {
    match step {
        Step::Create => observed.twin = Some(true),
        Step::Claim(stage) => observed.claim = Some(stage),
        Step::Clear => observed.claim = None,
        Step::Update => (facts.updated, facts.proven) = (Some(Ok(())), true),
        Step::Remove => observed.twin = None,
        Step::AwaitReady(_) | Step::Confirm(_) | Step::Bake | Step::Drain(_) => {}
    }
    learn(step, facts);
}

/// The steps from here on, if each succeeds. `tasks_stay`: those of the twin are of the version that runs.
pub fn steps(mut observed: Observed, mut facts: Facts, tasks_stay: bool) -> Vec<Step> {
    let mut all = Vec::new();
    while let Next::Step(step) = plan(&observed, &facts) {
        succeed(step, &mut observed, &mut facts);
        facts.in_place |= step == Step::Create && tasks_stay;
        all.push(step);
    }
    all
}

/// The claim is dropped: by how the update has ended.
fn settled(facts: &Facts) -> Next {
    match &facts.updated {
        Some(Err(why)) => Next::Failed(Undo::Failed(why.clone())),
        Some(Ok(())) | None => Next::Done,
    }
}

#[cfg(test)]
#[path = "walk.rs"]
mod walk;
