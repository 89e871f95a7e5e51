//! Rolls a recorded revision in place of what the Compose file describes.

use tokio::sync::watch;

use super::opened::Opened;
use crate::{
    compose::{Compose, Project},
    context::{Beside, Purpose, RunContext},
    error::{Error, Result},
    execute::together::Group,
    proxy::landscape::Landscape,
    roll::{Ended, Prepared, roll},
    settings::Partial,
    state::revisions::Revision,
};

/// A revision with the project that its record describes.
pub struct Recorded {
    pub revision: Revision,
    compose: Compose,
    project: Project,
}

impl Recorded {
    pub async fn of(opened: &Opened, service: &str, revision: &Revision) -> Result<Self> {
        refuse_lost(revision, service)?;
        let name = &opened.project.name;
        let compose = opened.compose.recorded(&revision.config, name);
        let mut project = compose.project_for(&[service]).await?;
        project.directory.clone_from(&opened.project.directory);
        Ok(Self {
            revision: revision.clone(),
            compose,
            project,
        })
    }

    /// The settings: the recorded image is neither pulled nor built, and as many replicas as recorded are wanted.
    pub fn flags(&self, given: Partial) -> Partial {
        flags(given, self.revision.replicas)
    }

    /// The run of the command, with this revision in place of what the Compose file describes.
    fn run<'a>(&'a self, run: &RunContext<'a>) -> RunContext<'a> {
        RunContext {
            compose: &self.compose,
            project: &self.project,
            hashes: None,
            back: Some(&self.revision),
            ..*run
        }
    }

    async fn prepare<'a>(
        &'a self,
        run: &RunContext<'a>,
        service: &str,
        flags: &Partial,
    ) -> Result<(Prepared<'a>, Landscape)> {
        let run = self.run(run);
        let mut landscape = run.landscape().await?;
        let beside = Beside::default();
        let prepared = run.prepare(service, flags, beside, Purpose::Roll, &mut landscape);
        Ok((prepared.await?, landscape))
    }

    /// Refuses what cannot be rolled; changes nothing.
    pub async fn check(&self, run: &RunContext<'_>, service: &str, flags: &Partial) -> Result<()> {
        let (prepared, _) = self.prepare(run, service, flags).await?;
        match run.together {
            true => prepared.refuse_alone(),
            false => Ok(()),
        }
    }

    pub async fn roll(
        &self,
        run: &RunContext<'_>,
        (service, flags): (&str, &Partial),
        interrupted: watch::Receiver<bool>,
        group: Option<&Group>,
    ) -> Result<Ended> {
        let (prepared, mut landscape) = self.prepare(run, service, flags).await?;
        roll(prepared, &mut landscape, interrupted, (group, None)).await
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
