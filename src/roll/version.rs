//! Fetches the image of the desired version and compares the version with what runs.

use std::collections::BTreeMap;

use super::{Ended, record::Version, unfinished::Settled};
use crate::{
    check::Check,
    compose::Service,
    context::{Purpose, RunContext},
    docker::engine::Image,
    error::{Error, Result},
    event::{Event, ServiceResult},
    execute,
    model::image_change,
    yaml,
};

/// The desired version, with its image on the engine.
pub(super) struct Fetched {
    pub version: Version,
    pub image: Image,
    /// The names of its image and of the one that it replaces.
    pub names: (String, Option<String>),
    pub phases: BTreeMap<&'static str, u64>,
}

impl Settled<'_> {
    pub fn purpose(&self) -> Purpose {
        self.locked.prepared.context.purpose
    }

    /// Fetches the image, and records the running version if it has no record.
    pub async fn fetch_version(&mut self) -> Result<Fetched> {
        let was_unfinished = self.was_unfinished;
        let fetched = self.fetch().await;
        let (version, image, phases) = fetched.map_err(|error| match was_unfinished {
            true => error,
            false => error.untouched(),
        })?;
        if self.locked.prepared.run.back.is_none() {
            let adopted = self
                .locked
                .adopt(&mut self.memory, &version, &self.replicas);
            adopted.await;
        }
        let reference = self.locked.prepared.context.service.image.clone();
        Ok(Fetched {
            names: image_change(
                &reference.unwrap_or_default(),
                &version.image,
                &self.replicas,
            ),
            version,
            image,
            phases,
        })
    }

    async fn fetch(&self) -> Result<(Version, Image, BTreeMap<&'static str, u64>)> {
        let message = match self.was_unfinished {
            true => "interrupted; the unfinished rollout is settled, and no new one was started",
            false => execute::UNCHANGED,
        };
        let mut phases = BTreeMap::new();
        let prepared = &self.locked.prepared;
        let fetching = prepared.run.fetch_image(&prepared.context, &mut phases);
        execute::unless_interrupted(&self.locked.held.interrupted, message, fetching).await?;
        let (version, image) = self.version().await?;
        Ok((version, image, phases))
    }

    async fn version(&self) -> Result<(Version, Image)> {
        let prepared = &self.locked.prepared;
        let (run, context) = (&prepared.run, &prepared.context);
        let reference = match run.back {
            Some(back) => back.image.id.clone(),
            None => context.service.image.clone().unwrap_or_default(),
        };
        let image = run.image_that_is_there(&reference, context.service).await?;
        let mut notices = Vec::new();
        run.refuse_two_sets(context, Some(&image), &mut notices)?;
        let refused = prepared.proxy.labels().refuse_version(context, &image);
        let settings = &context.settings;
        settings.pass_over(Check::Rollout, refused, &mut notices)?;
        // The other notices were emitted before the image was fetched.
        notices.retain(|notice| !prepared.notices.contains(notice));
        for notice in notices {
            run.events.notice(notice);
        }
        if let Some(back) = run.back {
            return Ok((run.recorded_version(context, back).await?, image));
        }
        let name = &context.service.name;
        let version = Version {
            image: image.id.clone(),
            digests: image.digests.clone(),
            hash: run.compose.config_hash(run.project, name).await?,
            config: yaml::json(&run.project.alone(name)),
        };
        Ok((version, image))
    }

    pub fn nothing_to_do(&self, fetched: Fetched) -> Ended {
        let prepared = &self.locked.prepared;
        let image = fetched.names.0;
        prepared.run.events.emit(Event::NothingToDo {
            replicas: prepared.context.replicas,
            image: image.clone(),
        });
        Ended {
            image,
            ..self.unchanged()
        }
    }

    pub fn unchanged(&self) -> Ended {
        let runs = self.memory.revisions.running(&self.replicas);
        let image = self.locked.prepared.context.service.image.clone();
        Ended {
            result: ServiceResult::Unchanged,
            revision: runs,
            before: runs,
            image: image.unwrap_or_default(),
        }
    }
}

impl RunContext<'_> {
    /// The image of the new version, which the engine must have by now.
    pub(super) async fn image_that_is_there(
        &self,
        reference: &str,
        service: &Service,
    ) -> Result<Image> {
        if let Some(image) = self.engine.image(reference).await? {
            return Ok(image);
        }
        let missing = Error::failed(format!("there is no image {reference}"));
        Err(missing.hint(match service.has_build {
            true => "add --build",
            false => "add --pull missing, or docker pull it",
        }))
    }
}
