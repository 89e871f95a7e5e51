//! The images of a rollout: the version that is wanted, and those that our own containers run.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Checked, Scene, Subject, Version, refuse::pass_over, untouched};
use crate::{
    check::Check,
    compose::{Pull, Service},
    engine::Image,
    error::{Error, Result},
    event::Event,
    model::label,
    namespace,
    proxy::traefik::discover,
    settings::{PullPolicy, Settings},
    yaml,
};

/// The program that helpers run, where `make image` puts it.
const HELPER: &str = "/rollout";

impl Scene<'_> {
    /// An image that holds this program, no older one: a socket proxy's, the one called `rollout:latest`, else one made of
    /// this binary.
    pub(super) async fn helper_image(&self, found: &[discover::Found]) -> Result<Option<String>> {
        let fits = |speaks: Option<&String>| speaks.is_some_and(|own| own == namespace::PROTOCOL);
        let mut found = found.iter();
        let fitting = found.find(|found| found.program == HELPER && fits(found.helper.as_ref()));
        if let Some(found) = fitting {
            return Ok(Some(found.image.clone()));
        }
        let tag = format!("{}-{}", env!("CARGO_PKG_VERSION"), namespace::PROTOCOL);
        for reference in ["rollout:latest".to_owned(), format!("rollout-helper:{tag}")] {
            if let Some(image) = self.engine.image(&reference).await?
                && fits(image.labels.get(label::HELPER))
            {
                return Ok(Some(image.id));
            }
        }
        if let Err(error) = self.load_helper(&tag).await {
            self.events.notice(format!(
                "no helper can run beside the replicas: {}",
                error.message
            ));
            return Ok(None);
        }
        Ok(self
            .engine
            .image(&format!("rollout-helper:{tag}"))
            .await?
            .map(|image| image.id))
    }

    /// Only a static binary runs in an image that holds nothing else; one that does not is no use as a helper.
    pub(super) async fn load_helper(&self, tag: &str) -> Result<()> {
        let failed =
            |error: std::io::Error| Error::failed(format!("cannot read this program: {error}"));
        let program = std::fs::read(std::env::current_exe().map_err(failed)?).map_err(failed)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        let mut archive = tar::Builder::new(Vec::new());
        archive
            .append_data(&mut header, "rollout", program.as_slice())
            .map_err(failed)?;
        self.engine
            .import_image(archive.into_inner().map_err(failed)?, "rollout-helper", tag)
            .await
    }

    /// Fetches the image of one of several services, so that one which cannot be had is known before the first is touched.
    ///
    /// Refused where that fails.
    pub async fn fetch_ahead(&self, checked: &Checked<'_>) -> Result<()> {
        let (service, settings) = (checked.service, &checked.settings);
        let build = service.has_build && settings.build;
        if !build && matches!(self.pull(service, settings).await?, Pull::Never) {
            return Ok(());
        }
        let mut phases = BTreeMap::new();
        let fetched = self.fetch_image(service, settings, &mut phases);
        fetched.await.map_err(untouched)
    }

    /// As `docker compose up` does: a name that the engine has an image for is not asked of a registry.
    async fn pull(&self, service: &Service, settings: &Settings) -> Result<Pull> {
        let policy = match settings.pull {
            PullPolicy::Policy if service.pull_policy.is_none() => Pull::Missing,
            PullPolicy::Policy => Pull::Policy,
            PullPolicy::Always => Pull::Always,
            PullPolicy::Missing => Pull::Missing,
            PullPolicy::Never => Pull::Never,
        };
        // Compose asks a registry for every `latest` all the same, unlike its own `up`.
        let reference = service.image.clone().unwrap_or_default();
        Ok(match policy {
            Pull::Missing if self.engine.image(&reference).await?.is_some() => Pull::Never,
            other => other,
        })
    }

    pub(super) async fn fetch_image(
        &self,
        service: &Service,
        settings: &Settings,
        phases: &mut BTreeMap<&'static str, u64>,
    ) -> Result<()> {
        if let Some(back) = self.back {
            return self.fetch_recorded(back).await;
        }
        let name = &service.name;
        let build = service.has_build && settings.build;
        let step = if build { "build" } else { "pull" };
        let policy = self.pull(service, settings).await?;
        let started = Instant::now();
        self.events.emit(Event::StepStarted {
            step,
            replicas: Vec::new(),
        });
        let on_line = |line| self.events.emit(Event::Compose { line });
        let fetched = match build {
            true => self.compose.build(name, on_line).await,
            false => self.compose.pull(name, policy, on_line).await,
        };
        if let Err(error) = fetched {
            self.events.emit(Event::StepFailed {
                step,
                reason: error.message.clone(),
            });
            return Err(error.or_hint(match build {
                true => format!("correct the build, then run: rollout {name} --build"),
                false => format!(
                    "correct the image of {name} or log in to its registry, then run: rollout {name}"
                ),
            }));
        }
        let ms = started.elapsed().as_millis() as u64;
        phases.insert(step, ms);
        self.events.emit(Event::StepFinished { step, ms });
        Ok(())
    }

    /// The version that is wanted, and its image.
    pub(super) async fn version(
        &self,
        subject: &Subject<'_>,
        routed: bool,
    ) -> Result<(Version, Image)> {
        let reference = match self.back {
            Some(back) => back.image.id.clone(),
            None => subject.service.image.clone().unwrap_or_default(),
        };
        let Some(image) = self.engine.image(&reference).await? else {
            return Err(
                Error::failed(format!("there is no image {reference}")).hint(
                    if subject.service.has_build {
                        "add --build"
                    } else {
                        "add --pull missing, or docker pull it"
                    },
                ),
            );
        };
        let (service, settings) = (subject.service, &subject.settings);
        let mut notices = Vec::new();
        let (replicas, volumes) = (subject.replicas, &image.volumes);
        let joined = &subject.joined;
        self.refuse_two_sets(service, replicas, settings, volumes, joined, &mut notices)?;
        if routed {
            let ports = self.refuse_ports(service, settings, &image);
            pass_over(settings, Check::Rollout, ports, &mut notices)?;
        }
        // The rest was known before the image was.
        notices.retain(|notice| !subject.told.contains(notice));
        for notice in notices {
            self.events.notice(notice);
        }
        if let Some(back) = self.back {
            return Ok((self.recorded_version(subject, back).await?, image));
        }
        let name = &subject.service.name;
        let config = yaml::json(&self.project.alone(name));
        let hash = self.compose.config_hash(self.project, name).await?;
        let version = Version {
            image: image.id.clone(),
            digests: image.digests.clone(),
            hash,
            config,
        };
        Ok((version, image))
    }
}

/// The image of the lock: never started, so any that the engine has will do.
pub(super) fn lock_image(helper: &Option<String>, checked: &Checked<'_>) -> String {
    let old = || checked.olds.first().map(|old| old.image.clone());
    let named = || checked.service.image.clone();
    helper
        .clone()
        .or_else(old)
        .or_else(named)
        .unwrap_or_default()
}
