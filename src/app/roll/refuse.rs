//! What a rollout of a service is refused for before anything is touched, and what it needs to be there.

use super::Scene;
use crate::{
    compose::{
        Service,
        check::{Kind, check},
    },
    error::{Error, Result},
    model::ServiceKey,
    settings::{PullPolicy, Settings, Strategy},
};

impl Scene<'_> {
    pub(super) fn refuse_two_sets(
        &self,
        service: &Service,
        replicas: u32,
        settings: &Settings,
        image_volumes: &[String],
    ) -> Result<()> {
        if settings.strategy == Strategy::Recreate {
            return Ok(());
        }
        let mut problems = check(self.project, service, replicas, image_volumes);
        problems.retain(|problem| {
            problem.kind != Kind::AnonymousVolumes || !settings.renew_anon_volumes
        });
        match problems.first() {
            None => Ok(()),
            Some(first) => {
                let others = problems[1..]
                    .iter()
                    .map(|problem| format!("\n      also: {}", problem.message));
                Err(Error::refused(&first.message).hint(format!(
                    "{}{}",
                    first.hint,
                    others.collect::<String>()
                )))
            }
        }
    }

    /// The volumes of an image that is here already and stays; those of another are checked once it is here.
    pub(super) async fn image_volumes(
        &self,
        service: &Service,
        settings: &Settings,
    ) -> Result<Vec<String>> {
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
            Some(reference) if stays && !built => {
                let image = self.engine.image(reference).await?;
                Ok(image.map(|image| image.volumes).unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Every service that this one needs, and how many replicas it has; one that does not exist yet is refused.
    pub(super) async fn dependencies(
        &self,
        service: &Service,
        earlier: &[&str],
    ) -> Result<Vec<(String, u32)>> {
        let mut dependencies = Vec::new();
        for name in self.project.dependencies(&service.name) {
            let key = ServiceKey {
                project: self.project.name.clone(),
                service: name.clone(),
            };
            let replicas = self.engine.replicas(&key).await?;
            let required = service
                .depends_on
                .iter()
                .find(|own| own.service == name)
                .is_none_or(|own| own.required);
            let comes = earlier.contains(&name.as_str());
            let known = self.project.services.contains_key(&name);
            if replicas.is_empty() && required && known && !comes {
                return Err(Error::refused(format!(
                    "{} depends on {name}, which has no container yet",
                    service.name
                ))
                .hint(format!("docker compose up -d {name}")));
            }
            if !replicas.is_empty() {
                dependencies.push((name, replicas.len() as u32));
            }
        }
        Ok(dependencies)
    }
}
