//! Finds out whether a service can be pinned, and refuses it with a reason where it cannot.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use bollard::models::ContainerSummary;

use super::{
    DefaultRules, Directory, Phase, Pin, Prefix, Reach, Sides, Watched, definition::Definition,
    record::lost_router,
};
use crate::{
    check::Check,
    context::ServiceContext,
    docker::engine::{
        Engine,
        summary::{addresses_of, is_in_the_hosts_network, name},
    },
    error::{Error, Result},
    model::{Replica, ServiceKey},
    proxy::{
        landscape::Landscape,
        traefik::{
            api::{Api, Servers, named},
            config::{FilePlace, Reads, TraefikContainer, advice, looks_like_traefik},
            discover::{Instances, Wanted},
            labels::{Protocol, all_names, names},
            preview::Preview,
            relabel::no_traefik,
        },
    },
};

/// Whether a Traefik routes by Docker's labels at all.
pub fn is_concerned(traefik: &TraefikContainer) -> bool {
    !matches!(traefik.reads, Reads::Nothing)
}

/// Whether an earlier rollout has left a pin of the service.
pub async fn is_left(
    engine: &Engine,
    key: &ServiceKey,
    traefiks: &[TraefikContainer],
) -> Result<bool> {
    let file = Prefix::of(key).file();
    for traefik in traefiks {
        let provider = traefik.config.file.as_ref().map(|file| &file.place);
        let Some(FilePlace::Directory(path)) = provider else {
            continue;
        };
        let path = format!("{}/{file}", absolute(traefik, path));
        if engine.read_file(&traefik.id, &path).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pin of a service, ready to be used.
pub async fn pin(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
) -> Result<Pin> {
    let concerned: Vec<&TraefikContainer> =
        traefiks.iter().filter(|own| is_concerned(own)).collect();
    if concerned.is_empty() {
        return Err(no_traefik(&context.key.service));
    }
    let (engine, settings) = (&landscape.engine, &context.settings);
    let by_url = !settings.traefik_url.is_empty();
    let mut places = Vec::new();
    let found = landscape.socket_proxies.clone();
    let mut instances = Instances::new(context, landscape, found);
    for traefik in &concerned {
        let at = place(engine, &mut places, traefik).await?;
        if !by_url {
            let api = landscape.api(traefik, settings).await;
            instances.add(api.map_err(|error| error.of(Check::Api))?, Some(at));
        }
    }
    if by_url {
        for api in named(settings, traefiks).await? {
            instances.add(api, None);
        }
    }
    let mut pin = Pin {
        engine: engine.clone(),
        key: context.key.clone(),
        settings: settings.clone(),
        epoch: context.epoch,
        wanted: Wanted::of(context),
        instances,
        places,
        shared: None,
        keeps_routers: true,
        preview: Preview::new(settings.preview(), concerned.into_iter()),
        verifies_servers: traefiks.iter().any(|own| own.config.verifies_servers),
    };
    pin.learn_baseline(&context.olds, &landscape.running)
        .await?;
    pin.try_it_out(&context.olds)?;
    Ok(pin)
}

/// The index of a Traefik's directory, which is added unless it is known already.
pub async fn place(
    engine: &Engine,
    places: &mut Vec<Watched>,
    traefik: &TraefikContainer,
) -> Result<usize> {
    let path = absolute(traefik, watched_directory(traefik)?);
    let directory = Directory::find(engine, traefik, &path).await?;
    let reach = reach(traefik);
    if let Some(at) = places.iter().position(|own| own.directory.is(&directory)) {
        places[at].reach.meet(&reach);
        return Ok(at);
    }
    let docker = traefik.config.docker.as_ref();
    places.push(Watched {
        directory: Rc::new(directory),
        reach,
        rules: DefaultRules {
            template: docker.and_then(|docker| docker.default_rule.clone()),
            known: BTreeMap::new(),
        },
        placed: None,
    });
    Ok(places.len() - 1)
}

impl Pin {
    /// Routers that only the version has which is wanted. Before the cutover they are the Docker provider's alone: to pin
    /// them to the old version would take from other services what they may be about to take over.
    pub fn new_routers(&self, replicas: &[Replica]) -> Vec<String> {
        let before = all_names(replicas).routers;
        let new = names(&self.wanted.labels).routers.into_iter();
        let new = new.filter(|name| !before.is_empty() && !before.contains(name));
        new.map(|(_, name)| name).collect()
    }

    /// Notes what Traefik does before anything is changed, and takes an epoch that is later than any.
    async fn learn_baseline(
        &mut self,
        replicas: &[Replica],
        running: &[ContainerSummary],
    ) -> Result<()> {
        self.read().await?;
        let left = self.places.iter().filter_map(Watched::record);
        let last = left.map(|record| record.epoch).max();
        self.epoch = self
            .epoch
            .max(last.map_or(0, |last| last.saturating_add(1)));
        let names = all_names(replicas);
        let pinned = self.places.iter().any(|place| place.pins());
        for at in 0..self.instances.all.len() {
            let api = &self.instances.all[at].api;
            let servers = api.servers(&names).await?;
            if !servers.services.is_empty() && !pinned {
                self.refuse_shared(api, replicas, &servers, running).await?;
            }
            let rules = self.learn_rules(api, replicas).await?;
            for place in &mut self.places {
                place.rules.known.extend(rules.clone());
            }
            self.instances.all[at].routed_before = !servers.services.is_empty() || pinned;
        }
        Ok(())
    }

    /// The default rules that Traefik has made up, for templates that are not understood here.
    async fn learn_rules(
        &self,
        api: &Api,
        replicas: &[Replica],
    ) -> Result<BTreeMap<String, String>> {
        let mut rules = BTreeMap::new();
        let own = replicas
            .iter()
            .map(|own| &own.labels)
            .chain([&self.wanted.labels]);
        let routers = own.flat_map(|labels| {
            let unruled = Definition::of(labels, &|_| None).unruled;
            unruled.into_iter()
        });
        for router in routers.collect::<BTreeSet<String>>() {
            let rule = api.rule(Protocol::Http, &router).await?;
            rules.extend(rule.map(|rule| (router, rule)));
        }
        Ok(rules)
    }

    /// A service that others use or serve too cannot be moved by routers and servers of this one alone.
    async fn refuse_shared(
        &self,
        api: &Api,
        replicas: &[Replica],
        servers: &Servers,
        running: &[ContainerSummary],
    ) -> Result<()> {
        let hint = "let Traefik read through the socket proxy instead";
        let users = api.other_users(&all_names(replicas)).await?;
        if let Some(user) = users.first() {
            return Err(Error::refused(format!(
                "{user} sends to the service of {} by its name, and a pin would not move that",
                self.key.service
            ))
            .hint(hint));
        }
        // With nothing left to route to, Traefik keeps what it knew last, servers that are gone among it
        // (`isEmptyConfiguration` of its watcher).
        for place in super::release::foreign_servers(servers, replicas) {
            if let Some(owner) = owner(place.address, running) {
                return Err(Error::refused(format!(
                    "{owner}, at {place}, is a server of the same Traefik service as {}",
                    self.key.service
                ))
                .hint(hint));
            }
        }
        Ok(())
    }

    /// Makes the files of both versions, so that what cannot be pinned is refused before anything is touched.
    fn try_it_out(&mut self, replicas: &[Replica]) -> Result<()> {
        let olds: Vec<&Replica> = replicas.iter().collect();
        for place in &self.places {
            let made = |phase, olds: &[&Replica]| {
                let sides = Sides::of(phase, (&[], olds), &self.wanted.labels);
                place.content(&self.key, &sides)
            };
            let (before, after) = (made(Phase::Prepared, &olds)?, made(Phase::Committed, &[])?);
            self.keeps_routers &= lost_router(&before.sections, &after.sections).is_none();
        }
        Ok(())
    }
}

/// The name of the container that has this address, or may have it: one in the host's network has all of the host's.
fn owner(address: IpAddr, running: &[ContainerSummary]) -> Option<String> {
    let has = |own: &&ContainerSummary| addresses_of(own).any(|own| own.parse() == Ok(address));
    let may_have =
        |own: &&ContainerSummary| is_in_the_hosts_network(own) && !looks_like_traefik(own);
    let owner = running.iter().find(has);
    owner.or(running.iter().find(may_have)).map(name)
}

/// The directory of its file provider; refused where a pin file would not count there.
pub fn watched_directory(traefik: &TraefikContainer) -> Result<&str> {
    let name = &traefik.name;
    let refused = |why: String, add: &str| {
        let mut hint = traefik.config.how_to_add(add);
        if add == advice::PIN {
            hint += "; it needs a directory to itself";
        }
        Err(Error::refused(format!("Traefik ({name}) {why}")).hint(hint))
    };
    if let Some(version) = traefik.version.filter(|own| !own.takes_pins_and_weights()) {
        let message = format!(
            "Traefik ({name}) is {version}, and pin files are written for Traefik 3.0 and later"
        );
        return Err(Error::refused(message)
            .hint("let it read through the socket proxy instead, or update it to traefik:v3.7"));
    }
    let directory = advice::PIN;
    if let Some(why) = &traefik.unread {
        return refused(
            format!("has a configuration that cannot be read: {why}"),
            directory,
        );
    }
    let docker = traefik.config.docker.as_ref();
    if docker.is_some_and(|docker| docker.use_bind_port_ip) {
        return refused(
            "routes to published ports, which a pin cannot tell apart".to_owned(),
            "providers.docker.useBindPortIP=false",
        );
    }
    match &traefik.config.file {
        None => refused("has no file provider".to_owned(), directory),
        Some(file) if !file.watch => refused(
            "does not watch the directory of its file provider".to_owned(),
            "providers.file.watch=true",
        ),
        Some(file) => match &file.place {
            FilePlace::Directory(path) => Ok(path),
            FilePlace::Filename(path) => refused(
                format!("has a file provider that reads {path} alone"),
                directory,
            ),
        },
    }
}

/// A path of a Traefik's configuration, without a slash at its end.
fn absolute(traefik: &TraefikContainer, path: &str) -> String {
    let config = traefik.inspect.config.as_ref();
    let own = config.and_then(|config| config.working_dir.as_deref());
    let whole = Path::new("/").join(own.unwrap_or_default()).join(path);
    let whole: PathBuf = whole
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    whole.to_string_lossy().into_owned()
}

/// How a Traefik reaches replicas.
fn reach(traefik: &TraefikContainer) -> Reach {
    let docker = traefik.config.docker.as_ref();
    Reach {
        network: docker.and_then(|docker| docker.network.clone()),
        shared: traefik.networks(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traefik_of_version_2_takes_no_pin_whatever_its_file_provider_is() {
        let mut traefik =
            TraefikContainer::of_arguments("edge", "--providers.file.directory=/dynamic");
        traefik.version = "3.0.4".parse().ok();
        assert_eq!(watched_directory(&traefik).unwrap(), "/dynamic");
        for version in ["2.9", "2.11.31"] {
            traefik.version = version.parse().ok();
            let error = watched_directory(&traefik).unwrap_err();
            let text = format!(
                "Traefik (edge) is {version}, and pin files are written for Traefik 3.0 and later"
            );
            assert_eq!(error.message, text);
            assert!(error.hint.unwrap().contains("through the socket proxy"));
        }
    }
}
