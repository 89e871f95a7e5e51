//! Reads all facts of a service before a rollout, and whether one would be refused; changes nothing.

use bollard::models::ContainerInspectResponse;

use super::{rolling::refuse_mix, stand::left};
use crate::{
    compose::Service,
    context::{Beside, Purpose, RunContext, ServiceContext},
    docker::engine::shared::by_processes,
    error::{Error, Result},
    model::{Health, Observed, Replica},
    plan,
    proxy::{Bypass, Hazard, detect::detect, driver::Detection, landscape::Landscape},
    settings::Partial,
};

pub struct Examined<'a> {
    pub context: ServiceContext<'a>,
    /// How its traffic would be moved.
    pub way: Result<Way>,
    /// The unfinished rollout of an earlier run.
    pub unfinished: Option<String>,
    pub bypasses: Vec<Bypass>,
    pub hazards: Vec<Hazard>,
    /// Why a rollout would be refused.
    pub refused: Option<Error>,
}

#[derive(Clone, Debug, Default)]
pub struct Way {
    pub describe: String,
    /// Whether a proxy routes to it at all.
    pub routes: bool,
    /// Whether by a pin file.
    pub is_pinned: bool,
    /// The notice for the operator.
    pub notice: Option<String>,
    /// What the proxy complains of now.
    pub trouble: Option<String>,
    /// Replicas that the proxy's own health check has found down, by name.
    pub down: Vec<String>,
}

impl<'a> Examined<'a> {
    fn without_a_way(context: ServiceContext<'a>, error: Error) -> Self {
        Self {
            context,
            way: Err(error),
            unfinished: None,
            bypasses: Vec::new(),
            hazards: Vec::new(),
            refused: None,
        }
    }
}

impl<'a> RunContext<'a> {
    /// Examines a service; an error only where its own settings, or the engine, cannot be read. `beside` is what is
    /// examined too, and `inspects` are the containers that run.
    pub async fn examine(
        &self,
        service: &Service,
        flags: &Partial,
        beside: Beside,
        landscape: &mut Landscape,
        inspects: &[ContainerInspectResponse],
    ) -> Result<Examined<'a>> {
        let (name, purpose) = (&service.name, Purpose::Roll);
        let mut context = self.context(name, flags, purpose, landscape).await?;
        context.beside = beside;
        let mut examined = match detect(self, &context, landscape).await {
            Ok(detection) => self.examined(context, landscape, detection).await,
            // If detection fails, its error is the finding.
            Err(error) => Examined::without_a_way(context, error),
        };
        let context = &mut examined.context;
        for own in by_processes(inspects, &context.olds) {
            if !context.joined.iter().any(|known| known.is_same(&own)) {
                context.joined.push(own);
            }
        }
        Ok(examined)
    }

    async fn examined(
        &self,
        context: ServiceContext<'a>,
        landscape: &Landscape,
        mut detection: Detection,
    ) -> Examined<'a> {
        let (way, unfinished) = look(&mut detection, &context.olds).await;
        let mix = refuse_mix(&context, context.image.as_ref(), &*detection.router);
        let objections = mix.and(detection.objections);
        let refused = match &way {
            Ok(_) => self.refuse(&context, landscape, objections).await.err(),
            Err(_) => None,
        };
        Examined {
            context,
            way,
            unfinished,
            bypasses: detection.bypasses,
            hazards: detection.hazards,
            refused,
        }
    }

    /// Returns the refusal that a rollout would get.
    async fn refuse(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
        objections: Result<Vec<String>>,
    ) -> Result<()> {
        let refused = self.refuse_service(context, landscape).await;
        refused.and(objections).map(drop).map_err(Error::untouched)
    }
}

async fn look(detection: &mut Detection, olds: &[Replica]) -> (Result<Way>, Option<String>) {
    let (proxy, notices) = (&mut detection.router, &detection.notices);
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
    // The proxy may not have read starting replicas yet.
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
