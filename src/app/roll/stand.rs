//! How a service stands: what runs, what the proxy does with it, and how it differs from what is wanted.

use super::{Checked, Purpose, Scene, variables};
use crate::{
    compose::Service,
    error::Result,
    model::{Goal, Health, Observed, Replica, RolloutId, Route, Run, ServiceKey},
    plan,
    proxy::{Observation, traefik::discover},
    settings::Partial,
    state::lock,
};

/// What a service is like at one moment.
#[derive(Debug, Default)]
pub struct Standing {
    pub replicas: Vec<Replica>,
    /// What the proxy says; `None` where there is none or it cannot tell.
    pub observed: Option<Observation>,
    /// Whether a proxy routes to it.
    pub routed: bool,
    /// How what runs differs from the Compose file, a few words each.
    pub drift: Vec<String>,
    /// A rollout that was left unfinished, and what would be done with it.
    pub unfinished: Option<String>,
    pub holder: Option<Holder>,
}

/// The run that has locked a service.
#[derive(Debug)]
pub struct Holder {
    /// Who, and since when.
    pub whose: String,
    /// Whether its process lives, or its lease runs.
    pub lives: bool,
}

/// What the Compose file asks for.
pub struct Wanted {
    image: Option<String>,
    reference: String,
    hash: String,
    digest: String,
    replicas: u32,
}

impl Scene<'_> {
    /// An image that the engine has, for a container that is never started.
    pub async fn any_image(&self, key: &ServiceKey) -> Result<String> {
        if let Some(replica) = self.engine.replicas(key).await?.into_iter().next() {
            return Ok(replica.image);
        }
        let found = discover::socket_proxies(self.engine, key).await?;
        Ok(self.helper_image(&found).await?.unwrap_or_default())
    }

    /// Reads what a status tells; changes nothing.
    pub async fn standing(
        &self,
        service: &Service,
        flags: &Partial,
        wanted: &Wanted,
    ) -> Result<Standing> {
        let key = self.key(&service.name);
        let mut standing = Standing::default();
        if let Some(holder) = lock::holder(self.engine, &key).await? {
            standing.holder = Some(Holder {
                whose: holder.whose(),
                lives: holder.lives(self.engine).await,
            });
        }
        let checked = self.check(&service.name, flags, &[], Purpose::Settle);
        match checked.await {
            Ok(checked) => observe(&mut standing, checked).await?,
            Err(error) => {
                self.events
                    .notice(format!("what Traefik does is not known: {}", error.message));
                standing.replicas = self.engine.replicas(&key).await?;
                standing.routed = true;
            }
        }
        standing.drift = wanted.differences(&standing.replicas);
        Ok(standing)
    }

    /// What the Compose file asks for now.
    pub async fn wanted(&self, service: &Service, flags: &Partial) -> Result<Wanted> {
        let reference = service.image.clone().unwrap_or_default();
        let file = Partial::from_service(&service.name, service.x_rollout.as_ref())?;
        let environment = Partial::from_environment(variables())?;
        let scale = flags.scale.or(file.scale).or(environment.scale);
        let scale = scale.map(|count| count.0);
        Ok(Wanted {
            image: self.engine.image(&reference).await?.map(|image| image.id),
            reference,
            hash: self.compose.config_hash(&service.name).await?,
            digest: service.inline_digest.clone(),
            replicas: scale.unwrap_or(service.scale),
        })
    }

    pub(super) fn key(&self, service: &str) -> ServiceKey {
        ServiceKey {
            project: self.project.name.clone(),
            service: service.to_owned(),
        }
    }
}

/// What is unfinished, and what would be done with it.
pub(super) fn left(rollout: &RolloutId, goal: &Goal) -> String {
    let becomes = match goal {
        Goal::Finish => "finish",
        _ => "undo",
    };
    format!("rollout {rollout} is unfinished; the next run would {becomes} it")
}

async fn observe(standing: &mut Standing, checked: Checked<'_>) -> Result<()> {
    let mut proxy = checked.proxy;
    standing.routed = proxy.routes();
    let observed = Observed {
        claim: proxy.claim(&checked.olds).await?,
        replicas: checked.olds,
    };
    standing.unfinished = plan::unfinished(&observed, standing.routed)
        .map(|(rollout, goal, _)| left(&rollout, &goal));
    standing.observed = proxy.observed(&observed.replicas).await;
    standing.replicas = observed.replicas;
    Ok(())
}

impl Standing {
    /// Whether nothing is under way, nothing differs, and every replica answers.
    pub fn is_settled(&self) -> bool {
        let well = |replica: &Replica| {
            replica.run == Run::Running
                && matches!(replica.health, Health::None | Health::Healthy)
                && (!self.routed || self.route(replica) == Some(Route::Live))
        };
        !self.replicas.is_empty()
            && self.replicas.iter().all(well)
            && self.drift.is_empty()
            && self.unfinished.is_none()
            && self.holder.is_none()
    }

    /// Whether a run has died in the middle: by itself nothing will change.
    pub fn is_abandoned(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| !holder.lives)
    }

    /// What the proxy does with a replica; `None` where it cannot tell, or its instances differ.
    pub fn route(&self, replica: &Replica) -> Option<Route> {
        let observed = self.observed.as_ref()?;
        observed.routing.get(&replica.id).copied()
    }
}

impl Wanted {
    fn differences(&self, replicas: &[Replica]) -> Vec<String> {
        let mut drift = Vec::new();
        let other = |differs: &dyn Fn(&Replica) -> bool| replicas.iter().any(differs);
        match &self.image {
            None => drift.push(format!("image: {} is not on the engine", self.reference)),
            Some(image) if other(&|own| own.image != *image) => {
                drift.push(format!("image: {} is another one now", self.reference));
            }
            Some(_) => {}
        }
        if other(&|own| own.hash != self.hash) {
            drift.push("config: the Compose file says something else".to_owned());
        }
        if other(&|own| own.digest.as_ref().is_some_and(|own| *own != self.digest)) {
            drift.push("contents: a config or secret has changed".to_owned());
        }
        if replicas.len() != self.replicas as usize {
            drift.push(format!(
                "replicas: {} are there, {} are wanted",
                replicas.len(),
                self.replicas
            ));
        }
        drift
    }
}
