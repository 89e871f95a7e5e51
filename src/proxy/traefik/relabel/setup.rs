//! Finds out whether the socket proxies can move the traffic of a service, and refuses it with a reason where they cannot.

use std::sync::Arc;

use bollard::models::ContainerSummary;

use super::{Relabel, is_concerned};
use crate::{
    check::Check,
    context::ServiceContext,
    docker::engine::summary::reaches,
    error::{Error, Result},
    model::ServiceKey,
    proxy::{
        landscape::Landscape,
        socket_proxies::{Control, SocketProxy, showing},
        traefik::{
            api::{Api, named},
            config::{Reads, TraefikContainer, Version, advice},
            discover::{Instances, may_matter, readers},
            preview::Preview,
        },
    },
    settings::Settings,
};

/// The Traefiks in front of a service, ready to be asked; refused where there is no way to move traffic at once.
///
/// `all` are those that share a network with it, and have to do with it.
pub async fn relabel(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
) -> Result<Relabel> {
    let ServiceContext { key, settings, .. } = context;
    let found = &landscape.socket_proxies;
    let (running, networks) = (&landscape.running, context.networks());
    let answers = landscape.ask_all(showing(found)).await;
    let readers = readers(answers, running, &networks)?;
    if !settings.ignores(Check::Switch) {
        refuse_bypass(all, &key.project)?;
    }
    if readers.is_empty() {
        return Err(no_reader(key, found, all, running));
    }
    let apis = match settings.traefik_url.is_empty() {
        true => apis(landscape, all, settings).await?,
        false => named(settings, all).await?,
    };
    let reads = |found: &&SocketProxy| {
        readers
            .iter()
            .any(|(own, _)| own.control.container == found.control.container)
    };
    let matter =
        showing(found).filter(|found| reads(found) || may_matter(found, running, &networks));
    let controls: Vec<Control> = matter.clone().map(|found| found.control.clone()).collect();
    let mut instances = Instances::new(context, landscape, matter.cloned().collect());
    for api in apis {
        instances.add(api, ());
    }
    let concerned = all.iter().filter(|own| is_concerned(own));
    let versions = concerned.clone().map(|own| own.version);
    let mut relabel = Relabel {
        key: key.clone(),
        epoch: context.epoch,
        controls,
        weights: know_weights(&versions.collect::<Vec<_>>()),
        verifies_servers: all.iter().any(|own| own.config.verifies_servers),
        preview: Preview::new(settings.preview(), concerned),
        instances,
    };
    relabel.learn_baseline(&context.olds).await?;
    Ok(relabel)
}

/// Whether every Traefik that follows the overlay knows the weight of a server: an older one would leave the container out.
fn know_weights(versions: &[Option<Version>]) -> bool {
    let know = |own: &Option<Version>| own.is_some_and(Version::takes_pins_and_weights);
    !versions.is_empty() && versions.iter().all(know)
}

/// What has to be added to a stack whose Traefik reads the engine's socket itself, as that Traefik wants it.
fn how_to_add(traefik: Option<&TraefikContainer>, project: &str) -> String {
    let lines = match traefik {
        Some(traefik) => traefik.how_to_add(project),
        None => advice::how_to_add(advice::IMAGE, &advice::Reader::default()),
    };
    format!("{lines}\n      or go on without an atomic cutover: --allow-split")
}

/// Names a socket proxy of another project only where a Traefik in front of the service could read through it.
fn no_reader(
    key: &ServiceKey,
    found: &[SocketProxy],
    all: &[TraefikContainer],
    running: &[ContainerSummary],
) -> Error {
    let own = |found: &&SocketProxy| found.project.as_ref() == Some(&key.project);
    let is_in_front = |own: &&ContainerSummary| {
        let mut fronts = all.iter();
        fronts.any(|front| own.id.as_ref() == Some(&front.id))
    };
    let near = |found: &&SocketProxy| {
        let mut fronts = running.iter().filter(is_in_front);
        fronts.any(|front| reaches(front, &found.networks))
    };
    match found.iter().find(own).or_else(|| found.iter().find(near)) {
        None if all.is_empty() => no_traefik(&key.service),
        None => Error::refused("Traefik does not read through a socket proxy: none runs beside it")
            .hint(how_to_add(all.first(), &key.project)),
        Some(found) => Error::refused(format!(
            "no Traefik in front of {} is connected to the socket proxy {}",
            key.service, found.control.name
        ))
        .hint(match all.iter().find(|own| own.config.swarm.is_some()) {
            Some(traefik) => traefik.how_to_add(&key.project),
            None => format!(
                "see that Traefik runs, has {} in its environment, and shares a network with the socket proxy and one \
                 with the service; docker compose logs says what it tries",
                advice::docker_host()
            ),
        }),
    }
}

/// One in the host's network shares none with the service, and may still leave it out by its configuration.
pub fn no_traefik(service: &str) -> Error {
    Error::refused(format!(
        "no Traefik on this engine reads the labels of {service}"
    ))
    .hint(format!(
        "start Traefik, put it and {service} into one network, and see that its constraints keep {service}; if a Traefik on another host reads the labels \
         (traefik-kop), --proxy none rolls on health alone, with both versions reachable for a while, and --strategy \
         recreate stops the old version first"
    ))
    .of(Check::Traefik)
}

/// The API of each Traefik that reads through a socket proxy.
async fn apis(
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
    settings: &Settings,
) -> Result<Vec<Arc<Api>>> {
    let mut apis = Vec::new();
    for traefik in traefiks {
        if is_concerned(traefik) {
            let api = landscape.api(traefik, settings).await;
            apis.push(api.map_err(|error| error.of(Check::Api))?);
        }
    }
    match apis.is_empty() {
        false => Ok(apis),
        true => Err(Error::refused(
            "the Traefik that reads through the socket proxy is no container of this engine",
        )
        .hint("name its API with --traefik-url http://HOST:8080")),
    }
}

/// A Traefik that reads the socket itself and shares a network with the service would see both sets at once.
fn refuse_bypass(traefiks: &[TraefikContainer], project: &str) -> Result<()> {
    let bypasses = |traefik: &&TraefikContainer| matches!(traefik.reads, Reads::Socket(_));
    match traefiks.iter().find(bypasses) {
        None => Ok(()),
        Some(traefik) if traefik.ignores_docker_host() => Err(Error::refused(format!(
            "{} is a Traefik older than 3.6.1, which ignores DOCKER_HOST",
            traefik.name
        ))
        .hint(traefik.how_to_read(project))
        .of(Check::Traefik)),
        Some(traefik) => Err(Error::refused(format!(
            "{} is a Traefik that does not read through a socket proxy",
            traefik.name
        ))
        .hint(how_to_add(Some(traefik), project))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weights_need_every_traefik_to_be_of_version_3_and_one_that_is_not_known_counts_as_older() {
        let know = |texts: &[&str]| {
            let versions = texts.iter().map(|own| own.parse().ok());
            know_weights(&versions.collect::<Vec<_>>())
        };
        assert!(know(&["3.0.0", "3.7.15"]));
        for older in [&["2.11.31"][..], &["3.7.15", "2.9"], &["latest"], &[]] {
            assert!(!know(older), "{older:?}");
        }
    }

    fn key() -> ServiceKey {
        ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        }
    }

    #[test]
    fn a_socket_proxy_of_another_project_is_named_only_where_a_traefik_in_front_can_reach_it() {
        let found = [SocketProxy::of_project("blog", &["edge"])];
        let fronts = [TraefikContainer::of_arguments("t", "--providers.docker")];
        let names_it = |all: &[TraefikContainer], network: &str| {
            let front = json!({"Id": "t", "NetworkSettings": {"Networks": {network: {}}}});
            let running = [serde_json::from_value(front).unwrap()];
            let error = no_reader(&key(), &found, all, &running);
            format!("{error:?}").contains(&found[0].control.name)
        };
        assert!(!names_it(&[], "edge"));
        assert!(!names_it(&fronts, "front"));
        assert!(names_it(&fronts, "edge"));
    }

    #[test]
    fn a_traefik_in_the_hosts_network_that_leaves_the_service_out_is_not_said_to_be_in_another_network()
     {
        let traefik =
            json!({"Id": "t", "Command": "traefik", "HostConfig": {"NetworkMode": "host"}});
        let running = [serde_json::from_value(traefik).unwrap()];
        let error = no_reader(&key(), &[], &[], &running);
        assert_eq!(error.check, Some(Check::Traefik));
        assert_eq!(
            error.message,
            "no Traefik on this engine reads the labels of web"
        );
        assert!(error.hint.unwrap().contains("its constraints keep web"));
    }
}
