//! Rolls a recorded revision in place of what the Compose file describes.

use tokio::sync::watch;

use super::Opened;
use crate::{
    compose::{Compose, Project},
    context::{Purpose, RunContext},
    error::{Error, Outcome, Result},
    event::Events,
    roll::{Ended, Prepared, roll},
    settings::Partial,
    state::revisions::Revision,
};

/// Why a revision is rolled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Undo,
    Restart,
}

/// A revision with the project that its record describes.
pub struct Recorded {
    pub revision: Revision,
    compose: Compose,
    project: Project,
    why: Why,
}

impl Recorded {
    pub async fn of(opened: &Opened, service: &str, revision: &Revision, why: Why) -> Result<Self> {
        refuse_lost(revision, service)?;
        let name = &opened.project.name;
        let compose = opened.compose.recorded(&revision.config, name);
        let mut project = compose.project_for(&[service]).await?;
        project.directory.clone_from(&opened.project.directory);
        Ok(Self {
            revision: revision.clone(),
            compose,
            project,
            why,
        })
    }

    /// The settings: the recorded image is neither pulled nor built, and as many replicas as recorded are wanted.
    pub fn flags(&self, given: Partial) -> Partial {
        flags(given, self.revision.replicas)
    }

    fn run<'a>(&'a self, opened: &'a Opened, events: &'a Events) -> RunContext<'a> {
        RunContext {
            compose: &self.compose,
            project: &self.project,
            hashes: None,
            back: Some(&self.revision),
            restarts: self.why == Why::Restart,
            ..opened.run(events)
        }
    }

    /// Refuses what cannot be rolled; changes nothing.
    pub async fn check(
        &self,
        (opened, service, flags): (&Opened, &str, &Partial),
        events: &Events,
    ) -> Result<()> {
        let run = self.run(opened, events);
        let mut landscape = run.landscape().await?;
        let prepared = run.prepare(service, flags, &[], Purpose::Roll, &mut landscape);
        prepared.await.map(drop)
    }

    pub async fn roll(
        &self,
        (opened, service, flags): (&Opened, &str, &Partial),
        events: &Events,
        interrupted: watch::Receiver<bool>,
    ) -> Result<Ended> {
        let run = self.run(opened, events);
        let mut landscape = run.landscape().await?;
        let prepared = run.prepare(service, flags, &[], Purpose::Roll, &mut landscape);
        let prepared: Prepared<'_> = prepared.await?;
        roll(prepared, &mut landscape, interrupted).await
    }
}

pub fn flags(given: Partial, replicas: u32) -> Partial {
    Partial::no_fetch()
        .or(given)
        .or(Partial::of("scale", &replicas.max(1).to_string()))
}

/// Refuses a revision whose containers cannot be recreated in full.
pub fn refuse_lost(back: &Revision, service: &str) -> Result<()> {
    if back.lost.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "revision {} of {service} was not created by a rollout, and its containers have parts that cannot be recorded: {}",
        back.number,
        back.lost.join(", ")
    ))
    .hint(format!(
        "put the earlier version into the Compose file, then run: rollout {service}"
    )))
}

/// After the rollout of other services, a refusal is a failure: something was touched.
pub fn after_others(error: Error, service: &str) -> Error {
    match error.outcome {
        Outcome::Refused => Error {
            outcome: Outcome::Failed,
            message: format!("{}; {service} was not touched", error.message),
            ..error
        },
        _ => error,
    }
}
