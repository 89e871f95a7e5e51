//! Runs a one-shot service to completion by Compose itself; one that has completed with the same version is not run again.

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

impl Prepared<'_> {
    pub(super) async fn run_once(&self, held: &Held<'_>) -> Result<Ended> {
        let name = &self.context.service.name;
        let fetched = execute::unless_interrupted(&held.interrupted, UNCHANGED, self.look());
        let (image, is_done) = fetched.await.map_err(Error::untouched)?;
        let reference = self.context.service.image.clone().unwrap_or_default();
        let image = image_name(&reference, &image.id);
        let events = self.run.events;
        let mut ended = Ended {
            result: ServiceResult::Unchanged,
            revision: None,
            before: None,
            image: image.clone(),
        };
        if is_done {
            let replicas = self.context.service.scale;
            events.emit(Event::NothingToDo { replicas, image });
            return Ok(ended);
        }
        let began = Instant::now();
        events.emit(Event::StepStarted {
            step: STEP,
            replicas: Vec::new(),
            limit_ms: None,
        });
        let message = format!("interrupted; {name} may still run");
        let ran =
            execute::unless_interrupted(&held.interrupted, &message, self.complete(held)).await;
        let ms = began.elapsed().as_millis() as u64;
        if let Err(error) = ran {
            events.emit(Event::StepFailed {
                step: STEP,
                reason: error.message.clone(),
            });
            return Err(error);
        }
        events.emit(Event::StepFinished { step: STEP, ms });
        events.emit(Event::Completed { image, ms });
        ended.result = ServiceResult::Completed;
        Ok(ended)
    }

    /// Fetches the image, and finds whether the service has completed with it.
    async fn look(&self) -> Result<(Image, bool)> {
        let (run, context) = (&self.run, &self.context);
        run.fetch_image(context, &mut BTreeMap::new()).await?;
        let image = self.image().await?.ok_or_else(|| self.no_image())?;
        let has_completed = self.has_completed(&image).await?;
        Ok((image, has_completed))
    }

    /// Whether the service has completed with this image and the configuration of the Compose file.
    pub(super) async fn has_completed(&self, image: &Image) -> Result<bool> {
        let (run, context) = (&self.run, &self.context);
        let service = context.service;
        let olds = run.engine.replicas(&context.key).await?;
        let hash = self.hash().await?;
        let same = |old: &Replica| old.image == image.id && old.hash == hash;
        let is_same = olds.len() == service.scale as usize && olds.iter().all(same);
        if context.settings.force || !is_same || run.have_other_contents(service, &olds).await? {
            return Ok(false);
        }
        for old in &olds {
            if run.engine.exit_code(&old.id).await? != Some(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn complete(&self, held: &Held<'_>) -> Result<()> {
        let (run, context) = (&self.run, &self.context);
        let name = &context.service.name;
        let on_line = |line| run.events.emit(Event::Compose { line });
        let lock = &held.lock.id;
        run.compose
            .recreate(run.project, name, lock, on_line)
            .await?;
        for own in run.engine.replicas(&context.key).await? {
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
