//! Fetches the image of the desired version and compares the version with what runs.

use std::collections::BTreeMap;

use super::{Ended, prepare::Prepared, record::Version, rolling::refuse_mix, unfinished::Settled};
use crate::{
    check::Check,
    compose::Service,
    context::{Purpose, RunContext},
    docker::engine::Image,
    error::{Error, Result},
    event::{Event, ServiceResult},
    execute,
    model::image_change,
    proxy::landscape::Landscape,
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

    /// Whether another run has replaced the revision that this one was to replace.
    pub fn is_replaced(&self) -> bool {
        let chosen = self.locked.prepared.run.replaces;
        chosen.is_some() && chosen != self.memory.revisions.running(&self.replicas)
    }

    /// Whether the project was read before the variables of the rollout that has just been finished were written.
    pub fn is_outdated(&self) -> bool {
        let run = &self.locked.prepared.run;
        let is_outdated = self.has_written && run.back.is_none();
        if is_outdated {
            let name = &self.locked.prepared.context.service.name;
            run.events.notice(format!(
                "{name} runs what the unfinished rollout was given; run the same command again for other changes"
            ));
        }
        is_outdated
    }

    pub fn left_alone(&self) -> Ended {
        Ended {
            result: ServiceResult::LeftAlone,
            ..self.unchanged()
        }
    }

    /// Fetches the image, and records the running version if it has no record.
    pub async fn fetch_version(&mut self, landscape: &mut Landscape) -> Result<Fetched> {
        let was_unfinished = self.was_unfinished;
        let fetched = self.fetch(landscape).await;
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

    async fn fetch(
        &mut self,
        landscape: &mut Landscape,
    ) -> Result<(Version, Image, BTreeMap<&'static str, u64>)> {
        let message = match self.was_unfinished {
            true => "interrupted; the unfinished rollout is settled, and no new one was started",
            false => execute::UNCHANGED,
        };
        let mut phases = BTreeMap::new();
        let (prepared, held) = (&mut self.locked.prepared, &self.locked.held);
        let fetching = prepared.run.fetch_image(&prepared.context, &mut phases);
        execute::unless_interrupted(&held.interrupted, message, fetching).await?;
        let image = prepared.image().await?.ok_or_else(|| prepared.no_image())?;
        prepared.context.image = Some(image.clone());
        if prepared.lacked_image() {
            landscape.refresh().await?;
            prepared.context.olds.clone_from(&self.replicas);
            let said = prepared.notices.clone();
            prepared.judge_again(BTreeMap::new(), landscape).await?;
            prepared.proxy.fence(held.lock).await?;
            let new = prepared.notices.iter();
            for notice in new.filter(|own| !said.contains(own)) {
                prepared.run.events.notice(notice);
            }
        }
        Ok((prepared.version(&image).await?, image, phases))
    }

    pub async fn already_runs(&mut self, fetched: &Fetched) -> Result<bool> {
        let prepared = &mut self.locked.prepared;
        prepared
            .already_runs(&fetched.version, &self.replicas)
            .await
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
        let revisions = &self.memory.revisions;
        let runs = revisions.running(&self.replicas);
        let recorded = runs.and_then(|number| revisions.get(number));
        let image = match recorded {
            Some(recorded) => Some(recorded.image.reference.clone()),
            None => self.locked.prepared.context.service.image.clone(),
        };
        Ended {
            result: ServiceResult::Unchanged,
            revision: runs,
            before: runs,
            image: image.unwrap_or_default(),
        }
    }
}

impl Prepared<'_> {
    /// The image of the new version, as it is on the engine now.
    pub(super) async fn image(&self) -> Result<Option<Image>> {
        let reference = match self.run.back {
            Some(back) => back.image.id.as_str(),
            None => self.reference(),
        };
        self.run.engine.image(reference).await
    }

    /// The image as the Compose file names it.
    pub(super) fn reference(&self) -> &str {
        self.context.service.image.as_deref().unwrap_or_default()
    }

    pub(super) fn no_image(&self) -> Error {
        let missing = Error::failed(format!("there is no image {}", self.reference()));
        missing.hint(match self.context.service.has_build {
            true => "add --build",
            false => "add --pull missing, or docker pull it",
        })
    }

    /// The version with this image, unless it is refused.
    pub(super) async fn version(&self, image: &Image) -> Result<Version> {
        let (run, context) = (&self.run, &self.context);
        let mut notices = Vec::new();
        run.refuse_two_sets(context, Some(image), &mut notices)?;
        refuse_mix(context, Some(image), &*self.proxy)?;
        let refused = self.proxy.labels().refuse_version(context, image);
        let settings = &context.settings;
        settings.pass_over(Check::Rollout, refused, &mut notices)?;
        // The other notices were emitted before the image was fetched.
        notices.retain(|notice| !self.notices.contains(notice));
        for notice in notices {
            run.events.notice(notice);
        }
        if let Some(back) = run.back {
            return run.recorded_version(context, back).await;
        }
        Ok(Version {
            image: image.id.clone(),
            digests: image.digests.clone(),
            content: image.content.clone(),
            hash: self.hash().await?,
            config: yaml::json(&run.project.alone(&context.service.name)),
        })
    }

    /// The config hash of the service in the Compose file.
    pub(super) async fn hash(&self) -> Result<String> {
        self.run.hash(self.context.service).await
    }
}

impl RunContext<'_> {
    /// The config hash of a service in the Compose file.
    pub(super) async fn hash(&self, service: &Service) -> Result<String> {
        let begun = match self.hashes {
            Some(hashes) => hashes.of(&service.name).await,
            None => None,
        };
        match begun {
            Some(hash) => Ok(hash),
            None => self.compose.config_hash(self.project, &service.name).await,
        }
    }
}
