//! The images of a rollout: the service's own and the helper image.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::prepare::Prepared;
use crate::{
    compose::{Pull, Service},
    context::{RunContext, ServiceContext},
    docker::engine::Image,
    error::{Error, Result},
    event::Event,
    proxy::{helper_image, landscape::Landscape},
    settings::{PullPolicy, Settings},
};

impl Prepared<'_> {
    pub(super) async fn helper_image(&self, landscape: &Landscape) -> Result<Option<String>> {
        let image = self.run.helper_image(landscape).await;
        image.map_err(Error::untouched)
    }

    /// Fetches the image of one of several services before the first is touched.
    ///
    /// A failure refuses the whole command.
    pub async fn fetch_ahead(&mut self) -> Result<()> {
        let (run, context) = (&self.run, &mut self.context);
        if !builds(context) && matches!(run.pull(context), Pull::Never) {
            return Ok(());
        }
        let mut phases = BTreeMap::new();
        let fetched = async {
            run.fetch_image(context, &mut phases).await?;
            // The rollout takes this image: a second pull or build might give another one.
            (context.settings.pull, context.settings.build) = (PullPolicy::Never, false);
            run.image_of_version(context.service, &context.settings)
                .await
        };
        context.image = fetched.await.map_err(Error::untouched)?;
        match context.runs_once {
            true => Ok(()),
            // What is ignored is said once the rollout begins.
            false => run.refuse_two_sets(context, context.image.as_ref(), &mut Vec::new()),
        }
    }
}

impl RunContext<'_> {
    /// The image of helpers; without one, a notice says so.
    pub async fn helper_image(&self, landscape: &Landscape) -> Result<Option<String>> {
        if let Some(image) = helper_image::found(self.engine, &landscape.socket_proxies).await? {
            return Ok(Some(image));
        }
        let loaded = helper_image::load(self.engine).await;
        let complain = |error: &Error| {
            self.events.notice(format!(
                "no helper can run beside the replicas: {}",
                error.message
            ));
        };
        Ok(loaded.inspect_err(complain).ok())
    }

    /// The image of the new version, if the engine has it and it is not pulled again; others are checked after the pull.
    pub(super) async fn image_of_version(
        &self,
        service: &Service,
        settings: &Settings,
    ) -> Result<Option<Image>> {
        if let Some(back) = self.back {
            return self.engine.image(&back.image.id).await;
        }
        let stays = match settings.pull {
            PullPolicy::Always => false,
            PullPolicy::Policy => !matches!(
                service.pull_policy.as_deref(),
                Some("always" | "build" | "daily" | "weekly")
            ),
            PullPolicy::Missing | PullPolicy::Never => true,
        };
        let built = service.has_build && settings.build;
        match &service.image {
            Some(reference) if stays && !built => self.engine.image(reference).await,
            _ => Ok(None),
        }
    }

    /// Like `docker compose up`, asks no registry for an image that the engine has.
    fn pull(&self, context: &ServiceContext<'_>) -> Pull {
        let missing = match context.image {
            // `compose pull` asks a registry for every `latest` tag, unlike `compose up`.
            Some(_) => Pull::Never,
            None => Pull::Missing,
        };
        match context.settings.pull {
            PullPolicy::Policy if context.service.pull_policy.is_none() => missing,
            PullPolicy::Policy => Pull::Policy,
            PullPolicy::Always => Pull::Always,
            PullPolicy::Missing => missing,
            PullPolicy::Never => Pull::Never,
        }
    }

    /// Whether the image that the engine has may be replaced by a pull or a build.
    pub(super) fn may_fetch(&self, context: &ServiceContext<'_>) -> bool {
        let service = context.service;
        let has_name = !service.raw(self.project)["image"].is_null();
        builds(context)
            || has_name
                && match self.pull(context) {
                    Pull::Never => false,
                    Pull::Policy => {
                        !matches!(service.pull_policy.as_deref(), Some("never" | "build"))
                    }
                    Pull::Always | Pull::Missing => true,
                }
    }

    pub(super) async fn fetch_image(
        &self,
        context: &ServiceContext<'_>,
        phases: &mut BTreeMap<&'static str, u64>,
    ) -> Result<()> {
        if let Some(back) = self.back {
            return self.fetch_recorded(back).await;
        }
        let name = &context.service.name;
        let (build, step) = (builds(context), step_of_fetch(context));
        let policy = self.pull(context);
        let started = Instant::now();
        self.events.emit(Event::StepStarted {
            step,
            replicas: Vec::new(),
            limit_ms: None,
            batch: None,
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
            let on = self.events.scope().on();
            return Err(error.or_hint(match build {
                true => format!("fix the build and run `rollout {name}{on} --build` again"),
                false => format!(
                    "fix the image of {name} or log in to its registry, and run `rollout {name}{on}` again"
                ),
            }));
        }
        let ms = started.elapsed().as_millis() as u64;
        phases.insert(step, ms);
        self.events.emit(Event::StepFinished { step, ms });
        Ok(())
    }
}

fn builds(context: &ServiceContext<'_>) -> bool {
    context.service.has_build && context.settings.build
}

/// The name of the step that fetches the image.
pub(super) fn step_of_fetch(context: &ServiceContext<'_>) -> &'static str {
    match builds(context) {
        true => "build",
        false => "pull",
    }
}
