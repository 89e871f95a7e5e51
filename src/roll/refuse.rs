//! What a rollout of a service is refused for before anything is touched.

use std::collections::BTreeSet;

use crate::{
    check::Check,
    compose::check::{Kind, check},
    context::{RunContext, ServiceContext},
    engine::Image,
    error::{Error, Outcome, Result},
    model::Order,
    proxy::traefik::{
        discover::{self, Landscape},
        fields::{Unknown, unknown},
        ports,
    },
    settings::Settings,
};

/// Lets a refusal by a check pass that the operator ignores, and notes that for the time when the rollout begins.
pub(super) fn pass_over(
    settings: &Settings,
    check: Check,
    result: Result<()>,
    notices: &mut Vec<String>,
) -> Result<()> {
    match result {
        Err(error) if error.outcome == Outcome::Refused && settings.ignores(check) => {
            notices.push(in_spite_of(&error.message, check));
            Ok(())
        }
        other => other,
    }
}

fn in_spite_of(refusal: &str, check: Check) -> String {
    format!("{refusal}; going on because of --ignore {check}")
}

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
                Err(Error::refused(&first.message).hint(format!(
                    "{}{}",
                    first.hint,
                    others.collect::<String>()
                )))
            }
        }
    }

    /// Refuses a new version that Traefik would send to the wrong port of, or leave out for want of one.
    pub(super) fn refuse_ports(&self, context: &ServiceContext<'_>, image: &Image) -> Result<()> {
        let exposed = ports::exposed(context.service, &image.ports);
        let labels = context.labels(Some(image));
        let name = &context.service.name;
        if let Some((own, url)) = ports::fixed_address(&labels)
            && context.settings.order() == Order::StartFirst
        {
            let message = format!(
                "Traefik sends to {url} for {name}, whichever version is there (loadbalancer.server.url of {own})"
            );
            return Err(Error::refused(message).hint(
                "give it loadbalancer.server.port and server.scheme instead, or roll with --strategy recreate",
            ));
        }
        let Some(trap) = ports::trap(&labels, &exposed) else {
            return Ok(());
        };
        let message = match trap.taken {
            Some(taken) => format!(
                "Traefik would send to port {}/{} of {name}, the lowest that it exposes",
                taken.port,
                if taken.udp { "udp" } else { "tcp" }
            ),
            None => format!("Traefik would leave {name} out: it exposes no port"),
        };
        let port = trap
            .meant
            .map_or("PORT".to_owned(), |port| port.to_string());
        Err(Error::refused(message).hint(format!(
            "add the label {}: \"{port}\" to {name}",
            trap.label
        )))
    }

    /// Refuses a label for which Traefik would leave the new version out, unless what runs has it already: then there is
    /// nothing to lose.
    pub(super) fn refuse_unknown_labels(&self, context: &ServiceContext<'_>) -> Result<()> {
        let olds = context.olds.iter();
        let before: Vec<Unknown> = olds.flat_map(|old| unknown(&old.labels)).collect();
        let added = |own: &Unknown| own.is_certain && !before.contains(own);
        let found = unknown(&context.service.labels);
        let Some(own) = found.into_iter().find(added) else {
            return Ok(());
        };
        let name = &context.service.name;
        let meant = own
            .meant
            .map_or_else(String::new, |word| format!("did you mean {word}? "));
        Err(Error::refused(format!(
            "Traefik has no option {}: it would leave {name} out because of this label",
            own.label
        ))
        .hint(format!(
            "{meant}Correct the label or remove it; where a Traefik newer than v3.7 has it: rollout {name} --ignore labels"
        )))
    }

    /// The new replicas get their final names last, when nothing could be undone any more.
    pub(super) fn refuse_taken_names(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
    ) -> Result<()> {
        let (service, between) = (context.service, self.compose.separator());
        let numbered = (1..=context.replicas).map(|number| {
            [&self.project.name, &service.name, &number.to_string()]
                .map(String::as_str)
                .join(between)
        });
        let names: Vec<String> = match &service.container_name {
            Some(name) => vec![name.clone()],
            None => numbered.collect(),
        };
        let is_old = |id: &String| context.olds.iter().any(|old| old.id.0 == *id);
        let others = landscape.containers.iter();
        let others = others.filter(|own| !own.id.as_ref().is_some_and(is_old));
        let taken: BTreeSet<String> = others.map(discover::name).collect();
        match names.iter().find(|name| taken.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::refused(format!(
                "the name {name} is taken by a container that is no replica of {}",
                service.name
            ))
            .hint(format!("docker rename {name} OTHER, or docker rm {name}"))),
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
                && !context.earlier.contains(&name.as_str())
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
