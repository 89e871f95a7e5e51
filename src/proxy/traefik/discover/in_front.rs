//! Which Traefiks route to a service, and whether each would keep its new version and get through to it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    context::ServiceContext,
    error::{Error, Result},
    model::{Replica, label},
    proxy::traefik::{
        config::{Docker, Reads, TraefikContainer},
        labels::{LeftOut, astray, left_out},
    },
};

/// A service as Traefiks will see the containers of its new version.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name in the Compose file.
    pub service: String,
    /// Every label that is known: the file's, Compose's own, and its image's where that is here.
    pub labels: BTreeMap<String, String>,
    /// Whether no label is missing.
    pub certain: bool,
    /// The engine's names of its networks.
    pub networks: BTreeSet<String>,
}

impl Wanted {
    pub fn of(context: &ServiceContext<'_>) -> Self {
        Self {
            service: context.key.service.clone(),
            labels: context.labels(context.image.as_ref()),
            certain: context.image.is_some(),
            networks: context.declared_networks.clone(),
        }
    }

    fn left_out(&self, docker: &Docker) -> Option<LeftOut> {
        let why = left_out(docker, &self.labels)?;
        // What the image might still say.
        (self.certain || why == LeftOut::Disabled).then_some(why)
    }
}

/// Refuses a new version that a Traefik would lose or not get through to, and one that no Traefik would ever route to.
pub fn refuse_lost(traefiks: &[TraefikContainer], wanted: &Wanted, olds: &[Replica]) -> Result<()> {
    let mut left = None;
    let mut reads = false;
    for traefik in traefiks {
        match judge(traefik, wanted, olds) {
            Judgement::InFront => {
                refuse_astray(traefik, wanted)?;
                reads |= !matches!(traefik.reads, Reads::Nothing);
            }
            // From the host's network it reaches every project, and may have to do with others alone.
            Judgement::Elsewhere(why)
                if traefik.networks().is_some() || is_of_project(traefik, wanted) =>
            {
                left = left.or(Some((&traefik.name, why)));
            }
            Judgement::Elsewhere(_) => {}
            Judgement::Loses(why) => {
                return Err(Error::refused(format!(
                    "Traefik ({}) would leave the new version of {} out: {why}",
                    traefik.name, wanted.service
                ))
                .hint(why.hint()));
            }
        }
    }
    match left {
        Some((name, why)) if !reads => Err(Error::refused(format!(
            "Traefik ({name}) leaves {} out: {why}",
            wanted.service
        ))
        .hint(why.hint())),
        _ => Ok(()),
    }
}

fn is_of_project(traefik: &TraefikContainer, wanted: &Wanted) -> bool {
    let project = wanted.labels.get(label::COMPOSE_PROJECT);
    traefik.label(label::COMPOSE_PROJECT) == project.map(String::as_str)
}

/// Refuses a Traefik whose Docker provider does not watch: it would never hear of a cutover, and route to containers that
/// are gone.
pub fn refuse_unwatched(traefiks: &[TraefikContainer]) -> Result<()> {
    let watches = |own: &TraefikContainer| own.config.docker.as_ref().is_none_or(|own| own.watch);
    match traefiks.iter().find(|own| !watches(own)) {
        None => Ok(()),
        Some(traefik) => Err(Error::refused(format!(
            "Traefik ({}) does not watch Docker (providers.docker.watch=false), so it would never hear of the new \
             containers",
            traefik.name
        ))
        .hint(traefik.config.how_to_add("providers.docker.watch=true"))),
    }
}

/// Whether a Traefik has to do with the service at all, as far as labels tell.
pub fn concerns(traefik: &TraefikContainer, wanted: &Wanted, olds: &[Replica]) -> bool {
    !matches!(judge(traefik, wanted, olds), Judgement::Elsewhere(_))
}

enum Judgement {
    /// It routes to it, or may.
    InFront,
    /// It routes to neither version.
    Elsewhere(LeftOut),
    /// It routes to the old version alone.
    Loses(LeftOut),
}

fn judge(traefik: &TraefikContainer, wanted: &Wanted, olds: &[Replica]) -> Judgement {
    // Of a configuration that is not known nothing is concluded.
    let docker = match (&traefik.unread, &traefik.config.docker) {
        (None, Some(docker)) => docker,
        _ => return Judgement::InFront,
    };
    let keeps_old = olds
        .iter()
        .any(|old| left_out(docker, &old.labels).is_none());
    match wanted.left_out(docker) {
        None => Judgement::InFront,
        Some(why) if keeps_old => Judgement::Loses(why),
        Some(why) => Judgement::Elsewhere(why),
    }
}

fn refuse_astray(traefik: &TraefikContainer, wanted: &Wanted) -> Result<()> {
    let Some(docker) = traefik.config.docker.as_ref() else {
        return Ok(());
    };
    // A published port is no address in a network.
    let Some(its) = traefik.networks().filter(|_| !docker.use_bind_port_ip) else {
        return Ok(());
    };
    let Some(astray) = astray(docker, &wanted.labels, &its, &wanted.networks) else {
        return Ok(());
    };
    let hint = match astray.shared {
        Some(network) => format!(
            "add the label traefik.docker.network: {network} to {}",
            wanted.service
        ),
        None => format!(
            "put Traefik ({}) and {} into one network",
            traefik.name, wanted.service
        ),
    };
    Err(Error::refused(format!(
        "Traefik ({}) may not get through to {}: it {}",
        traefik.name, wanted.service, astray.message
    ))
    .hint(hint))
}

#[cfg(test)]
#[path = "in_front_tests.rs"]
mod tests;
