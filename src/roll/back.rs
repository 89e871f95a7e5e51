//! The image of an undo: fetched by digest if it is gone, and tagged with its old name again.

use super::record::Version;
use crate::{
    context::{RunContext, ServiceContext},
    error::{Error, Result},
    event::Event,
    state::{journal::Intent, revisions::Revision},
};

impl RunContext<'_> {
    /// Ensures that the engine has the recorded image; pulls it by digest if it is gone.
    pub(super) async fn fetch_recorded(&self, back: &Revision) -> Result<()> {
        if self.engine.image(&back.image.id).await?.is_some() {
            return Ok(());
        }
        let gone = |why: String| {
            Error::refused(format!(
                "the image of revision {} ({}) is gone{why}",
                back.number, back.image.reference
            ))
            .hint("rollout history SERVICE shows which revisions still have theirs; --keep N keeps more")
        };
        let step = "pull";
        for digest in &back.image.digests {
            self.events.emit(Event::StepStarted {
                step,
                replicas: Vec::new(),
                limit_ms: None,
                batch: None,
            });
            let began = tokio::time::Instant::now();
            match self.engine.pull(digest).await {
                Ok(()) => {
                    let ms = began.elapsed().as_millis() as u64;
                    self.events.emit(Event::StepFinished { step, ms });
                }
                Err(error) => {
                    let reason = error.message;
                    self.events.emit(Event::StepFailed { step, reason });
                }
            }
            if self.engine.image(&back.image.id).await?.is_some() {
                return Ok(());
            }
        }
        Err(gone(match back.image.digests.is_empty() {
            true => ", and no registry knows it".to_owned(),
            false => ", and could not be pulled by its digest".to_owned(),
        }))
    }

    /// The recorded version, with the hash that this Compose gives it.
    pub(super) async fn recorded_version(
        &self,
        context: &ServiceContext<'_>,
        back: &Revision,
    ) -> Result<Version> {
        let name = &context.service.name;
        // Keep the recorded hash, so that Compose finds nothing to do if the file still describes this version.
        let hash = match back.of_containers {
            true => back.hash.clone(),
            false => self.compose.config_hash(self.project, name).await?,
        };
        if hash != back.hash && self.compose.version() != back.compose {
            self.events.notice(format!(
                "revision {} was made by Compose {}, and the Compose here computes another config hash for it",
                back.number, back.compose
            ));
        }
        if context.service.inline_digest != back.digest {
            self.events.notice(format!(
                "the configs or secrets of {name} have other contents than at revision {}, and stay as they are",
                back.number
            ));
        }
        Ok(Version {
            image: back.image.id.clone(),
            digests: back.image.digests.clone(),
            content: back.image.content.clone(),
            hash,
            config: back.config.clone(),
        })
    }

    /// The image that the tag names now, if that is not the recorded one.
    pub(super) async fn displaced(&self, back: &Revision) -> Result<Option<String>> {
        let now = self.engine.image(&back.image.reference).await?;
        Ok(now.map(|now| now.id).filter(|id| *id != back.image.id))
    }

    /// Tags the recorded image with its reference again, by which Compose finds it.
    pub(super) async fn name_recorded(&self, intent: &Intent) -> Result<()> {
        let image = &intent.revision.image;
        let now = self.engine.image(&image.reference).await?;
        if now.is_some_and(|now| now.id == image.id) {
            return Ok(());
        }
        // A digest reference cannot be given as a tag.
        self.engine.tag(&image.id, &image.reference).await?;
        if intent.displaced.is_some() {
            let until = match self.restarts() {
                true => "until the restart ends",
                false => "again, in place of a newer one",
            };
            self.events.notice(format!(
                "the tag {} stands for the image of revision {} {until}",
                image.reference,
                intent.revision.copies().unwrap_or_default()
            ));
        }
        Ok(())
    }
}
