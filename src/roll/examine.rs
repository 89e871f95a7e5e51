//! All that is known of a service before a rollout, whether or not one would be refused; changes nothing.

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::{front::InFront, stand::left, untouched};
use crate::{
    compose::Service,
    context::{Purpose, RunContext, ServiceContext},
    engine::shared::by_processes,
    error::{Error, Result},
    model::{Health, Observed, Replica},
    plan,
    proxy::traefik::{
        by_name::Caller,
        discover::{self, Landscape, TraefikContainer, Wanted, concerns},
        down::Down,
    },
    settings::Partial,
};

pub struct Examined<'a> {
    pub context: ServiceContext<'a>,
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
    /// Why a rollout would be refused.
    pub refused: Option<Error>,
}

/// How traffic is moved.
#[derive(Clone, Debug, Default)]
pub struct Way {
    pub describe: String,
    /// Whether a proxy routes to it at all.
    pub routes: bool,
    /// Whether by a pin file.
    pub is_pinned: bool,
    /// What an operator is told of it.
    pub notice: Option<String>,
    /// What Traefik complains of now.
    pub trouble: Option<String>,
    /// Replicas that Traefik's own health check has found down, by name.
    pub down: Vec<String>,
}

impl<'a> RunContext<'a> {
    /// Examines a service; an error only where its own settings, or the engine, cannot be read. `inspects` are the
    /// containers that run.
    pub async fn examine(
        &self,
        service: &Service,
        flags: &Partial,
        landscape: &mut Landscape,
        inspects: &[ContainerInspectResponse],
    ) -> Result<Examined<'a>> {
        let (name, purpose) = (&service.name, Purpose::Roll);
        let context = self.context(name, flags, purpose, landscape).await?;
        let olds = &context.olds;
        let wanted = Wanted::of(&context);
        let mut networks = context.networks();
        networks.extend(shared_networks(landscape, olds));
        let mut traefiks = discover::traefiks(landscape, &networks).await?;
        let is_old = |own: &TraefikContainer| olds.iter().any(|old| own.is_part(&old.id.0));
        let is_traefik = traefiks.iter().any(is_old);
        let is_alone = traefiks.is_empty();
        traefiks.retain(|own| is_old(own) || concerns(own, &wanted, olds));
        let (way, unfinished, callers, down, refused) = match self.front(&context, landscape).await
        {
            Ok(mut front) => {
                let (way, unfinished) = look(&mut front, olds).await;
                let refused = match &way {
                    Ok(_) => self.refuse(&context, landscape, &mut front).await.err(),
                    Err(_) => None,
                };
                (way, unfinished, front.callers, front.down, refused)
            }
            // Without a way, that is why.
            Err(error) => (Err(error), None, Vec::new(), Vec::new(), None),
        };
        let mut context = context;
        for own in by_processes(inspects, &context.olds) {
            if !context.joined.iter().any(|known| known.is_same(&own)) {
                context.joined.push(own);
            }
        }
        Ok(Examined {
            context,
            is_traefik,
            is_alone,
            traefiks,
            way,
            unfinished,
            callers,
            down,
            refused,
        })
    }

    /// Refuses what a rollout would be refused for.
    async fn refuse(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
        front: &mut InFront,
    ) -> Result<()> {
        let refused = async {
            let mut notices = self.refuse_service(context, landscape).await?;
            self.refuse_labels(context, landscape, front, &mut notices)
                .await
        };
        refused.await.map(drop).map_err(untouched)
    }
}

/// The networks of replicas, those of a namespace that they share among them.
fn shared_networks(landscape: &Landscape, olds: &[Replica]) -> Vec<String> {
    let is = |own: &&ContainerSummary| olds.iter().any(|old| own.id.as_ref() == Some(&old.id.0));
    let own = landscape.running.iter().filter(is);
    own.flat_map(discover::networks_of).cloned().collect()
}

async fn look(front: &mut InFront, olds: &[Replica]) -> (Result<Way>, Option<String>) {
    let (proxy, notices) = (&mut front.proxy, &front.notices);
    let routes = proxy.routes();
    let claim = match proxy.claim(olds).await {
        Ok(claim) => claim,
        Err(error) => return (Err(error), None),
    };
    let observed = Observed {
        claim,
        replicas: olds.to_vec(),
    };
    let unfinished =
        plan::unfinished(&observed, routes, None).map(|(rollout, goal, _)| left(&rollout, &goal));
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
