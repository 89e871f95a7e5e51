//! What reads through the socket proxies, and which of it is a Traefik in front of a service.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;

use crate::{
    docker::engine::{
        shared::holder,
        summary::{is_in_the_hosts_network, name, reaches},
    },
    error::{Error, Result},
    model::{ContainerId, Replica},
    overlay::control::Reader,
    proxy::{
        landscape::Landscape, socket_proxies::SocketProxy, traefik::config::looks_like_traefik,
    },
};

impl SocketProxy {
    /// Whether something that reaches a container in these networks can read through it, or it is of the same project.
    pub fn concerns(
        &self,
        project: Option<&str>,
        running: &[ContainerSummary],
        networks: &BTreeSet<String>,
    ) -> bool {
        (project.is_some() && self.project.as_deref() == project)
            || may_matter(self, running, networks)
    }
}

/// The Traefiks that read through a socket proxy now and share a network with the service: no other is in front of it.
pub fn readers<'a>(
    answers: Vec<(&'a SocketProxy, Result<Vec<Reader>>)>,
    running: &[ContainerSummary],
    networks: &BTreeSet<String>,
) -> Result<Vec<(&'a SocketProxy, Reader)>> {
    let container = |id: &str| running.iter().find(|own| own.id.as_deref() == Some(id));
    let mut readers = Vec::new();
    for (found, answer) in answers {
        match answer {
            Ok(all) => readers.extend(all.into_iter().map(|own| (found, own))),
            Err(error) if may_matter(found, running, networks) => return Err(error),
            // Another stack of this engine is just being started or taken down.
            Err(error) => tracing::info!(%error, "a socket proxy of another stack"),
        }
    }
    for (_, reader) in &mut readers {
        if let Some(own) = &mut reader.container
            && let Some(traefik) = traefik_within(&own.id, running)
        {
            own.id = traefik.id.clone().unwrap_or_default();
            own.name = name(traefik);
        }
    }
    readers.retain(|(_, reader)| {
        let container = reader.container.as_ref().and_then(|own| container(&own.id));
        let in_front = match &reader.container {
            Some(_) => container.is_some_and(|own| reaches(own, networks)),
            None => true,
        };
        // Before 3.6.1, a Traefik's User-Agent is that of any Go program.
        let is_traefik = is_traefik(reader) || container.is_some_and(looks_like_traefik);
        in_front && reader.streams > 0 && is_traefik
    });
    Ok(readers)
}

/// The Traefik in the network namespace of another container, which has the address that its reads come from.
fn traefik_within<'a>(id: &str, running: &'a [ContainerSummary]) -> Option<&'a ContainerSummary> {
    let is = |own: &ContainerSummary| own.id.as_deref() == Some(id);
    if running.iter().any(|own| is(own) && looks_like_traefik(own)) {
        return None;
    }
    let within = |own: &&ContainerSummary| holder(own, running).is_some_and(is);
    running
        .iter()
        .filter(|own| looks_like_traefik(own))
        .find(within)
}

/// Whether something that reaches the service can read through this socket proxy. What is in the host's network reaches
/// everything: of that, only a Traefik counts.
pub fn may_matter(
    found: &SocketProxy,
    running: &[ContainerSummary],
    networks: &BTreeSet<String>,
) -> bool {
    running
        .iter()
        .filter(|own| own.id.as_ref() != Some(&found.control.container))
        .filter(|own| !is_in_the_hosts_network(own) || looks_like_traefik(own))
        .any(|own| reaches(own, networks) && reaches(own, &found.networks))
}

/// Whether a reader is a Traefik, by what it says of itself.
pub fn is_traefik(reader: &Reader) -> bool {
    reader.user_agent.contains("Traefik")
}

/// Refuses to roll what carries the traffic of the rollout itself.
pub async fn refuse_own_parts(landscape: &Landscape, replicas: &[Replica]) -> Result<()> {
    let (found, running) = (&landscape.socket_proxies, &landscape.running);
    let is_replica = |id: &str| {
        replicas
            .iter()
            .any(|replica| replica.id == ContainerId(id.to_owned()))
    };
    let itself = |found: &&SocketProxy| is_replica(&found.control.container);
    if let Some(found) = found.iter().find(itself) {
        return Err(Error::refused(format!(
            "{} is the socket proxy that a rollout goes through",
            found.control.name
        ))
        .hint("docker compose up -d replaces it; Traefik keeps its last configuration meanwhile"));
    }
    // What reads through a socket proxy shares a network with it.
    let near = |found: &&SocketProxy| {
        let own = |own: &&ContainerSummary| own.id.as_deref().is_some_and(is_replica);
        let mut replicas = running.iter().filter(own);
        replicas.any(|own| reaches(own, &found.networks))
    };
    for (_, readers) in landscape.ask_all(found.iter().filter(near)).await {
        let readers = readers.unwrap_or_default();
        let traefik = readers
            .iter()
            .filter(|reader| is_traefik(reader))
            .filter_map(|reader| reader.container.as_ref())
            .flat_map(|own| {
                let within = traefik_within(&own.id, running);
                let within = within.and_then(|own| Some((own.id.clone()?, name(own))));
                [Some((own.id.clone(), own.name.clone())), within]
            })
            .flatten()
            .find(|(id, _)| is_replica(id));
        if let Some((_, traefik)) = traefik {
            return Err(traefik_itself(&traefik));
        }
    }
    Ok(())
}

/// The refusal to roll a Traefik that carries the traffic of the rollout itself.
pub fn traefik_itself(name: &str) -> Error {
    Error::refused(format!("{name} is the Traefik that a rollout goes through"))
        .hint("docker compose up -d replaces it, with a short gap for everything behind it")
}
