//! The refusals of a rollout before anything is touched.

use std::collections::BTreeSet;

use crate::{
    compose::check::{Kind, check},
    context::{RunContext, ServiceContext},
    docker::engine::{Image, shared, summary},
    error::{Error, Result},
    model::Order,
    proxy::landscape::Landscape,
    settings::in_spite_of,
};

impl RunContext<'_> {
    /// `image` is that of the new version, where it is known.
    pub(super) fn refuse_two_sets(
        &self,
        context: &ServiceContext<'_>,
        image: Option<&Image>,
        notices: &mut Vec<String>,
    ) -> Result<()> {
        let (service, settings) = (context.service, &context.settings);
        let volumes = image.map_or(&[][..], |image| &image.volumes);
        let (replicas, joined) = (context.replicas, &context.joined);
        let mut problems = check(self.project, service, replicas, volumes, joined);
        if settings.order() == Order::StopFirst {
            problems.retain(|problem| problem.kind.stops_one_set_too());
        }
        problems.retain(|problem| {
            problem.kind != Kind::AnonymousVolumes || !settings.renew_anon_volumes
        });
        problems.retain(|problem| {
            let check = problem.kind.check();
            let passed = settings.ignores(check);
            if passed {
                notices.push(in_spite_of(&problem.message, check));
            }
            !passed
        });
        match problems.first() {
            None => Ok(()),
            Some(first) => {
                let others = problems[1..]
                    .iter()
                    .map(|problem| format!("\n      also: {}", problem.message));
                let hint = format!("{}{}", first.hint, others.collect::<String>());
                let refused = Error::refused(&first.message).hint(hint);
                Err(refused.of(first.kind.check()))
            }
        }
    }

    /// The new replicas get their final names last, when a rollback is not possible any more.
    pub(super) fn refuse_taken_names(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
    ) -> Result<()> {
        let service = context.service;
        let names = self.final_names(context);
        // One that is listed and no replica is being removed: a killed run has asked the engine for it.
        let own: Vec<_> = shared::of_service(&landscape.containers, &context.key).collect();
        let others = landscape.containers.iter();
        let others = others.filter(|one| !own.contains(one));
        let taken: BTreeSet<String> = others.map(summary::name).collect();
        match names.iter().find(|name| taken.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::refused(format!(
                "the name {name} is taken by a container that is no replica of {}",
                service.name
            ))
            .hint(format!("docker rename {name} OTHER, or docker rm {name}"))),
        }
    }

    /// The names that the new replicas get in the end.
    pub(super) fn final_names(&self, context: &ServiceContext<'_>) -> Vec<String> {
        let (service, between) = (context.service, self.compose.separator());
        let numbered = (1..=context.replicas).map(|number| {
            [&self.project.name, &service.name, &number.to_string()]
                .map(String::as_str)
                .join(between)
        });
        match &service.container_name {
            Some(name) => vec![name.clone()],
            None => numbered.collect(),
        }
    }

    /// Refuses a service that needs another one which does not exist yet.
    pub(super) fn refuse_missing(&self, context: &ServiceContext<'_>) -> Result<()> {
        let service = context.service;
        let is_missing = |name: &String| {
            let mut own = service.depends_on.iter();
            let required = own.find(|own| own.service == *name);
            let exists = context.dependencies.iter().any(|(own, _)| own == name);
            required.is_none_or(|own| own.required)
                && self.project.services.contains_key(name)
                && !exists
                && !context.beside.earlier.contains(name)
        };
        match self
            .project
            .dependencies(&service.name)
            .iter()
            .find(|name| is_missing(name))
        {
            None => Ok(()),
            Some(name) => Err(Error::refused(format!(
                "{} depends on {name}, which has no container yet",
                service.name
            ))
            .hint(format!("docker compose up -d {name}"))),
        }
    }
}
