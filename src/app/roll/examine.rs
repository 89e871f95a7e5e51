//! All that is known of a service before a rollout, whether or not one would be refused; changes nothing.

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::{Purpose, Scene, front, settings};
use crate::{
    compose::Service,
    doctor::Way,
    engine::{
        Image,
        shared::{self, Joined},
    },
    error::{Error, Result},
    model::{Health, Observed, Replica},
    plan,
    proxy::{
        Proxy,
        traefik::{
            by_name::Caller,
            discover::{self, TraefikContainer, Wanted, concerns},
            down::Down,
        },
    },
    settings::{Partial, Settings},
};

pub struct Examined {
    /// How it would be rolled.
    pub settings: Settings,
    /// The replicas that are there.
    pub olds: Vec<Replica>,
    /// The image of the new version, where it is here.
    pub image: Option<Image>,
    /// The new version, as Traefik would see it.
    pub wanted: Wanted,
    /// Whether its containers are a Traefik themselves.
    pub is_traefik: bool,
    /// Whether no Traefik shares a network with it.
    pub is_alone: bool,
    /// Every Traefik in front of it.
    pub traefiks: Vec<TraefikContainer>,
    /// How its traffic would be moved.
    pub way: Result<Way>,
    /// What an earlier rollout has left.
    pub unfinished: Option<String>,
    /// What reaches it past the router of its labels.
    pub callers: Vec<Caller>,
    /// Servers of other services that fail their health check.
    pub down: Vec<Down>,
    /// What lives in namespaces or volumes of its containers.
    pub joined: Vec<Joined>,
    /// Why a rollout would be refused.
    pub refused: Option<Error>,
}

/// What runs on the engine, read once for every service.
pub struct Around<'a> {
    pub running: &'a [ContainerSummary],
    pub inspects: Vec<ContainerInspectResponse>,
    pub found: &'a [discover::Found],
}

impl Around<'_> {
    /// The networks of containers, those of a namespace that they share among them.
    fn networks(&self, olds: &[Replica]) -> impl Iterator<Item = String> {
        let is =
            |own: &&ContainerSummary| olds.iter().any(|old| own.id.as_ref() == Some(&old.id.0));
        let own = self.running.iter().filter(is);
        own.flat_map(discover::networks_of).cloned()
    }

    fn joined(&self, olds: &[Replica]) -> Vec<Joined> {
        let by_network = shared::by_network(self.running, olds);
        let by_processes = shared::by_processes(&self.inspects, olds);
        by_network.into_iter().chain(by_processes).collect()
    }
}

impl Scene<'_> {
    /// Examines a service; an error only where its own settings, or the engine, cannot be read.
    pub async fn examine(
        &self,
        service: &Service,
        flags: &Partial,
        around: &Around<'_>,
    ) -> Result<Examined> {
        let found = around.found;
        let settings = settings(self.project, service, flags)?;
        let key = self.key(&service.name);
        let olds = self.engine.replicas(&key).await?;
        let image = self.image_that_stays(service, &settings).await?;
        let networks = self.networks(service, &olds);
        let labels = image.as_ref().map(|image| &image.labels);
        let declared = self.declared_networks(service);
        let wanted = Wanted::new(&key, &service.labels, labels, declared);
        let networks = networks.into_iter().chain(around.networks(&olds)).collect();
        let mut traefiks = discover::traefiks(self.engine, found, &networks).await?;
        let is_old = |own: &TraefikContainer| olds.iter().any(|old| own.is_part(&old.id.0));
        let is_traefik = traefiks.iter().any(is_old);
        let is_alone = traefiks.is_empty();
        traefiks.retain(|own| is_old(own) || concerns(own, &wanted, &olds));
        let case = front::Case {
            key: &key,
            service,
            settings: &settings,
            epoch: self.engine.clock_ms().await,
            found,
            olds: &olds,
            image: image.as_ref(),
            purpose: Purpose::Roll,
        };
        let (way, unfinished, callers, down) = match self.proxy(case).await {
            Ok(front) => {
                let (way, unfinished) = look(front.proxy, front.notices, &olds).await;
                (way, unfinished, front.callers, front.down)
            }
            Err(error) => (Err(error), None, Vec::new(), Vec::new()),
        };
        // Without a way, that is why.
        let refused = match &way {
            Ok(_) => self
                .check(&service.name, flags, &[], Purpose::Roll)
                .await
                .err(),
            Err(_) => None,
        };
        let joined = self.joined(service, around.joined(&olds), &olds);
        Ok(Examined {
            joined,
            settings,
            image,
            wanted,
            is_traefik,
            is_alone,
            traefiks,
            way,
            unfinished,
            callers,
            down,
            refused,
            olds,
        })
    }
}

async fn look(
    mut proxy: Box<dyn Proxy>,
    notices: Vec<String>,
    olds: &[Replica],
) -> (Result<Way>, Option<String>) {
    let routes = proxy.routes();
    let claim = match proxy.claim(olds).await {
        Ok(claim) => claim,
        Err(error) => return (Err(error), None),
    };
    let observed = Observed {
        claim,
        replicas: olds.to_vec(),
    };
    let unfinished = plan::unfinished(&observed, routes, None)
        .map(|(rollout, goal, _)| super::stand::left(&rollout, &goal));
    // Of what still starts Traefik knows nothing yet.
    let settled = |old: &&Replica| old.health != Health::Starting;
    let serves = olds.iter().filter(settled).any(Replica::serves);
    let observation = match routes && serves && unfinished.is_none() {
        true => proxy.observed(olds).await.unwrap_or_default(),
        false => Default::default(),
    };
    let is_down = |old: &&Replica| observation.down.contains_key(&old.id);
    let down = olds.iter().filter(is_down);
    let way = Way {
        describe: proxy.describe(),
        routes,
        is_pinned: proxy.capabilities().hold_reroutes,
        notice: (!notices.is_empty()).then(|| notices.join("; ")),
        down: down.map(|old| old.name.clone()).collect(),
        trouble: observation.trouble.into_values().flatten().next(),
    };
    (Ok(way), unfinished)
}
