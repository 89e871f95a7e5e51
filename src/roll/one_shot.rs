//! Runs a one-shot service to completion by Compose itself. One that has completed with the same version is not run again,
//! and one that still runs with it is waited for.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Ended, Held, prepare::Prepared};
use crate::{
    docker::engine::Image,
    error::{Error, Result},
    event::{Event, ServiceResult},
    execute::{self, UNCHANGED},
    model::{Replica, image_name},
};

pub(super) const STEP: &str = "run";

/// How far the containers of the wanted version have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Completed,
    /// An earlier run has begun it and was interrupted.
    Runs,
    /// There is none, or one has failed.
    Open,
}

impl Progress {
    /// `olds` are containers of the wanted version, `ends` their exit codes, and `wanted` how many there should be.
    fn of(olds: &[Replica], ends: &[Option<i64>], wanted: u32) -> Self {
        let have_ended_well = ends.iter().all(|end| *end == Some(0));
        match olds.iter().any(Replica::may_run) {
            // It is not stopped: a migration that ends half-way may do harm.
            true => Self::Runs,
            false if have_ended_well && olds.len() == wanted as usize => Self::Completed,
            false => Self::Open,
        }
    }
}

impl Prepared<'_> {
    pub(super) async fn run_once(&self, held: &Held<'_>) -> Result<Ended> {
        let name = &self.context.service.name;
        let fetched = execute::unless_interrupted(&held.interrupted, UNCHANGED, self.look());
        let (found, progress) = fetched.await.map_err(Error::untouched)?;
        let reference = self.context.service.image.clone().unwrap_or_default();
        let image = image_name(&reference, &found.id);
        let events = self.run.events;
        let mut ended = Ended {
            result: ServiceResult::Unchanged,
            revision: None,
            before: None,
            image: image.clone(),
        };
        if progress == Progress::Completed {
            self.write_given().await?;
            let replicas = self.context.service.scale;
            events.emit(Event::NothingToDo { replicas, image });
            return Ok(ended);
        }
        for notice in &self.notices {
            events.notice(notice);
        }
        let began = Instant::now();
        events.emit(Event::StepStarted {
            step: STEP,
            replicas: Vec::new(),
            limit_ms: None,
            batch: None,
        });
        let message = format!("interrupted; {name} may still run");
        let completing = self.complete(held, &found, progress);
        let ran = execute::unless_interrupted(&held.interrupted, &message, completing).await;
        let ms = began.elapsed().as_millis() as u64;
        if let Err(error) = ran {
            events.emit(Event::StepFailed {
                step: STEP,
                reason: error.message.clone(),
            });
            return Err(error);
        }
        events.emit(Event::StepFinished { step: STEP, ms });
        self.write_given().await?;
        events.emit(Event::Completed { image, ms });
        ended.result = ServiceResult::Completed;
        Ok(ended)
    }

    /// Fetches the image, and finds how far the service has come with it.
    async fn look(&self) -> Result<(Image, Progress)> {
        let (run, context) = (&self.run, &self.context);
        run.fetch_image(context, &mut BTreeMap::new()).await?;
        let image = self.image().await?.ok_or_else(|| self.no_image())?;
        let progress = self.progress(&image).await?;
        Ok((image, progress))
    }

    /// How far the service has come with this image and the configuration of the Compose file.
    pub(super) async fn progress(&self, image: &Image) -> Result<Progress> {
        let (run, context) = (&self.run, &self.context);
        let service = context.service;
        let olds = run.engine.replicas(&context.key).await?;
        let hash = self.hash().await?;
        let same = |old: &Replica| old.image == image.id && old.hash == hash;
        if !olds.iter().all(same) || run.have_other_contents(service, &olds).await? {
            return Ok(Progress::Open);
        }
        let mut ends = Vec::new();
        for old in &olds {
            ends.push(run.engine.exit_code(&old.id).await?);
        }
        Ok(match Progress::of(&olds, &ends, service.scale) {
            Progress::Completed if context.settings.force => Progress::Open,
            progress => progress,
        })
    }

    async fn complete(&self, held: &Held<'_>, image: &Image, mut progress: Progress) -> Result<()> {
        let (run, context) = (&self.run, &self.context);
        let name = &context.service.name;
        if progress == Progress::Runs {
            run.events.notice(format!(
                "{name} still runs with this version; waiting for its end"
            ));
            let olds = run.engine.replicas(&context.key).await?;
            let running: Vec<Replica> = olds.into_iter().filter(Replica::may_run).collect();
            self.await_ends(&running).await?;
            progress = self.progress(image).await?;
        }
        if progress == Progress::Completed {
            return Ok(());
        }
        let on_line = |line| run.events.emit(Event::Compose { line });
        let lock = &held.lock.id;
        run.compose
            .recreate(run.project, name, lock, on_line)
            .await?;
        let made = run.engine.replicas(&context.key).await?;
        self.await_ends(&made).await
    }

    async fn await_ends(&self, begun: &[Replica]) -> Result<()> {
        let run = &self.run;
        for own in begun {
            let code = run.engine.end_of(&own.id).await?;
            if code != 0 {
                let logs = run.engine.last_lines(&own.id).await;
                let ended = Error::failed(format!("{} exited with code {code}", own.name));
                return Err(ended.logs(logs));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Run, plan::simulator::old};

    fn of(all: &[(Run, Option<i64>)], wanted: u32) -> Progress {
        let replica = |run: Run| Replica {
            run,
            ..old("job-1")
        };
        let olds: Vec<Replica> = all.iter().map(|(run, _)| replica(*run)).collect();
        let ends: Vec<Option<i64>> = all.iter().map(|(_, end)| *end).collect();
        Progress::of(&olds, &ends, wanted)
    }

    #[test]
    fn what_runs_is_in_progress_and_what_has_ended_well_in_full_is_completed() {
        let (done, failed) = ((Run::Exited, Some(0)), (Run::Exited, Some(1)));
        let (runs, made) = ((Run::Running, None), (Run::Created, None));
        assert_eq!(of(&[done, done], 2), Progress::Completed);
        for running in [&[runs][..], &[failed, runs], &[(Run::Restarting, None)]] {
            assert_eq!(of(running, 2), Progress::Runs);
        }
        for open in [&[][..], &[done], &[done, failed], &[made, done]] {
            assert_eq!(of(open, 2), Progress::Open);
        }
    }
}
