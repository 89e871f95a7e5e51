//! The status of a service: what runs, its routes, and how it differs from the Compose file.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;

use super::prepare::{Prepared, settings_of};
use crate::{
    compose::Service,
    context::{Beside, Purpose, RunContext},
    error::Result,
    model::{
        ContainerId, Goal, Health, Observed, Phase, Replica, RolloutId, Run, ServiceKey, Share,
        image_change,
    },
    plan,
    proxy::{Observation, detect::refuse_own_parts, landscape::Landscape},
    settings::Partial,
    state::lock,
};

/// How the differences of the image begin.
const IMAGE: &str = "image: ";

#[derive(Debug, Default)]
pub struct Standing {
    pub replicas: Vec<Replica>,
    /// What the proxy says; `None` where there is none or it cannot tell.
    pub observed: Option<Observation>,
    /// Whether a proxy routes to it.
    pub routed: bool,
    /// How what runs differs from the Compose file, a few words each.
    pub drift: Vec<String>,
    /// An unfinished rollout, and what the next run would do with it.
    pub unfinished: Option<String>,
    /// How far a canary, a rolling update or a preview is.
    pub shifted: Option<Shifted>,
    pub holder: Option<Holder>,
    /// Why the routes are unknown; `None` if they are known.
    pub unknown: Option<String>,
    /// How many replicas the Compose file asks for.
    pub desired: u32,
    /// The replicas that have done the one job that they were started for, and which other services wait for.
    pub ended: BTreeSet<ContainerId>,
}

/// The run that has locked a service.
#[derive(Debug)]
pub struct Holder {
    /// User, process and start time.
    pub whose: String,
    /// Whether its process lives, or its lease runs.
    pub lives: bool,
}

/// The version that the Compose file describes.
pub struct Wanted {
    image: Option<String>,
    reference: String,
    hash: String,
    replicas: u32,
}

impl RunContext<'_> {
    /// An image that the engine has, for a container that is never started.
    pub async fn any_image(&self, key: &ServiceKey) -> Result<String> {
        if let Some(replica) = self.engine.replicas(key).await?.into_iter().next() {
            return Ok(replica.image);
        }
        let landscape = self.landscape().await?;
        self.image_in(&landscape).await
    }

    /// The same, for a command on the whole project.
    pub async fn image_in(&self, landscape: &Landscape) -> Result<String> {
        if let Some(image) = landscape.any_image() {
            return Ok(image);
        }
        Ok(self.helper_image(landscape).await?.unwrap_or_default())
    }

    /// Reads the status; changes nothing. The landscape serves all services of a project.
    pub async fn standing(
        &self,
        service: &Service,
        flags: &Partial,
        wanted: &Wanted,
        landscape: &mut Landscape,
    ) -> Result<Standing> {
        let key = self.project.key(&service.name);
        let mut standing = Standing {
            desired: wanted.replicas,
            ..Standing::default()
        };
        if let Some(holder) = lock::holder(self.engine, &key).await? {
            standing.holder = Some(Holder {
                whose: holder.whose(),
                lives: holder.lives(self.engine).await,
            });
        }
        let listed = &landscape.containers;
        let replicas = self.engine.replicas_among(listed, &key).await?;
        // Proxies are not behind a proxy.
        if refuse_own_parts(landscape, &replicas).await.is_err() {
            standing.replicas = replicas;
        } else {
            let (name, purpose) = (&service.name, Purpose::Settle);
            let prepared = self.prepare(name, flags, Beside::default(), purpose, landscape);
            match prepared.await {
                Ok(prepared) => observe(&mut standing, prepared).await?,
                Err(error) => {
                    standing.unknown = Some(error.message);
                    standing.replicas = replicas;
                    standing.routed = true;
                }
            }
        }
        if self.project.is_awaited(&service.name) {
            standing.ended = ended(&landscape.containers).collect();
        }
        standing.drift = wanted.differences(&standing.replicas);
        if self
            .have_other_contents(service, &standing.replicas)
            .await?
        {
            let changed = "contents: a config or secret has changed";
            standing.drift.push(changed.to_owned());
        }
        Ok(standing)
    }

    /// The version that the Compose file describes now.
    pub async fn wanted(&self, service: &Service, flags: &Partial) -> Result<Wanted> {
        let reference = service.image.clone().unwrap_or_default();
        let scale = settings_of(self.project, service, flags, false)?.scale;
        Ok(Wanted {
            image: self.engine.image(&reference).await?.map(|image| image.id),
            reference,
            hash: self.hash(service).await?,
            replicas: scale.unwrap_or(service.scale),
        })
    }
}

/// The unfinished rollout, and what the next run would do with it.
pub(super) fn left(rollout: &RolloutId, goal: &Goal) -> String {
    let becomes = match goal {
        Goal::Finish => "finish it",
        Goal::Roll => "go on with it, if the Compose file still describes it",
        Goal::Undo(_) => "roll it back",
    };
    format!("rollout {rollout} is unfinished; the next run would {becomes}")
}

/// A rollout between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shifted {
    pub step: u16,
    /// What the new version has, in per cent of the traffic.
    pub percent: u32,
    pub is_preview: bool,
    /// Its steps are the batches of a rolling update.
    pub is_rolling: bool,
}

impl Shifted {
    fn of(observed: &Observed) -> Option<Self> {
        let claim = observed.claim.as_ref()?;
        let Phase::Shifted { step } = claim.phase else {
            return None;
        };
        let is_preview = claim.plan.is_preview();
        let percent = match is_preview {
            true => 0,
            false => claim.plan.percent(&claim.rollout, &observed.replicas)?,
        };
        let (new, _) = observed.split(&claim.rollout);
        Some(Self {
            step,
            percent,
            is_preview,
            is_rolling: new.iter().any(|own| own.batch.is_some()),
        })
    }
}

/// The containers that have ended well.
fn ended(listed: &[ContainerSummary]) -> impl Iterator<Item = ContainerId> {
    let well = |own: &&ContainerSummary| {
        let status = own.status.as_deref().unwrap_or_default();
        status.starts_with("Exited (0)")
    };
    let ids = listed.iter().filter(well);
    ids.filter_map(|own| own.id.clone().map(ContainerId))
}

async fn observe(standing: &mut Standing, prepared: Prepared<'_>) -> Result<()> {
    let (mut proxy, olds) = (prepared.proxy, prepared.context.olds);
    standing.routed = proxy.routes();
    let observed = Observed {
        claim: proxy.claim(&olds).await?,
        replicas: olds,
    };
    standing.unfinished = plan::unfinished(&observed, standing.routed, None)
        .map(|(rollout, goal, _)| left(&rollout, &goal));
    standing.shifted = Shifted::of(&observed);
    standing.observed = proxy.observed(&observed.replicas).await;
    standing.replicas = observed.replicas;
    Ok(())
}

impl Standing {
    /// Whether nothing is in progress, nothing differs, and every replica answers.
    pub fn is_settled(&self) -> bool {
        // A rollout has run the health check itself; Docker's first result may be minutes away.
        let passed = |replica: &Replica| match replica.health {
            Health::None | Health::Healthy => true,
            Health::Starting => replica.rollout.is_some(),
            Health::Unhealthy => false,
        };
        let well = |replica: &Replica| {
            self.ended.contains(&replica.id)
                || replica.run == Run::Running
                    && passed(replica)
                    && (!self.routed || self.route(replica) == Some(Share::Live))
        };
        self.replicas.len() == self.desired as usize
            && self.replicas.iter().all(well)
            && self.not_served().is_none()
            && self.drift.is_empty()
            && self.unfinished.is_none()
            && self.holder.is_none()
    }

    /// The proxy's reason for not serving the service although its replicas serve.
    pub fn not_served(&self) -> Option<&str> {
        let serving = self.replicas.iter().filter(|replica| replica.serves());
        serving.filter_map(|replica| self.trouble(replica)).next()
    }

    /// The proxy's error for a replica; during an unfinished rollout errors are expected.
    pub fn trouble(&self, replica: &Replica) -> Option<&str> {
        let observed = self
            .observed
            .as_ref()
            .filter(|_| self.unfinished.is_none())?;
        let all = observed.trouble.get(&replica.id)?;
        all.first().map(String::as_str)
    }

    /// How the Compose file differs from what runs, apart from the image that a tag stands for.
    pub fn drift_beside_image(&self) -> Option<&str> {
        let mut all = self.drift.iter().map(String::as_str);
        all.find(|own| !own.starts_with(IMAGE))
    }

    /// Whether the rollout between two steps waits for a person, or for the next run.
    pub fn is_paused(&self) -> bool {
        self.shifted.is_some() && self.holder.is_none()
    }

    /// Whether the run that holds the lock goes on.
    pub fn is_rolled(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lives)
    }

    /// Whether the run that holds the lock is dead, so that nothing changes by itself.
    pub fn is_abandoned(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| !holder.lives)
    }

    /// The share of a replica by the proxy; `None` if it cannot tell or its instances differ.
    pub fn route(&self, replica: &Replica) -> Option<Share> {
        let observed = self.observed.as_ref()?;
        observed.routing.get(&replica.id).copied()
    }
}

#[cfg(test)]
impl Wanted {
    /// One replica of this image.
    pub fn of(image: &str) -> Self {
        Self {
            image: Some(image.to_owned()),
            reference: image.to_owned(),
            hash: String::new(),
            replicas: 1,
        }
    }
}

impl Wanted {
    fn image_difference(&self, image: &str, replicas: &[Replica]) -> String {
        let (wanted, running) = image_change(&self.reference, image, replicas);
        let running = running.unwrap_or_default();
        format!("{IMAGE}running {running}, the Compose file wants {wanted}")
    }

    fn differences(&self, replicas: &[Replica]) -> Vec<String> {
        let mut drift = Vec::new();
        if self.replicas == 0 && replicas.is_empty() {
            return drift;
        }
        let other = |differs: &dyn Fn(&Replica) -> bool| replicas.iter().any(differs);
        match &self.image {
            None => drift.push(format!("{IMAGE}{} is not on the engine", self.reference)),
            Some(image) if other(&|own| own.image != *image) => {
                drift.push(self.image_difference(image, replicas));
            }
            Some(_) => {}
        }
        if other(&|own| own.hash != self.hash) {
            drift.push("config: what runs differs from the Compose file".to_owned());
        }
        if replicas.len() != self.replicas as usize {
            drift.push(format!(
                "replicas: {} running, {} desired",
                replicas.len(),
                self.replicas
            ));
        }
        drift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Pause,
        plan::{
            Next,
            simulator::{self, Simulator, WELL},
        },
    };

    fn routed(trouble: &[&str]) -> Standing {
        let replica = simulator::old("a");
        let trouble: Vec<String> = trouble.iter().map(|text| (*text).to_owned()).collect();
        let observed = Observation {
            routing: [(replica.id.clone(), Share::Live)].into(),
            trouble: [(replica.id.clone(), trouble)].into(),
            ..Observation::default()
        };
        Standing {
            replicas: vec![replica],
            observed: Some(observed),
            routed: true,
            desired: 1,
            ..Standing::default()
        }
    }

    #[test]
    fn a_live_replica_whose_router_the_proxy_has_disabled_is_not_served_and_not_settled() {
        let standing = routed(&["router web is disabled: middleware \"x@docker\" does not exist"]);
        assert!(!standing.is_settled());
        assert!(
            standing
                .not_served()
                .is_some_and(|why| why.contains("disabled"))
        );
        let well = routed(&[]);
        assert!(well.is_settled());
        assert_eq!(well.not_served(), None);
    }

    #[test]
    fn a_canary_is_paused_as_long_as_no_run_holds_its_lock() {
        let mut world = Simulator::new(vec![simulator::old("a")], 1, true, WELL);
        world = world.canary(&[(10, Some(Pause::Open))]);
        assert!(matches!(world.run(), Next::Pause { shift: 1 }));
        let shifted = Shifted::of(&world.observed);
        let wanted = Shifted {
            step: 1,
            percent: 10,
            is_preview: false,
            is_rolling: false,
        };
        assert_eq!(shifted, Some(wanted));
        let mut standing = routed(&[]);
        assert!(!standing.is_paused());
        standing.shifted = shifted;
        assert!(standing.is_paused());
        standing.holder = Some(Holder {
            whose: "ada".to_owned(),
            lives: true,
        });
        assert!(!standing.is_paused());
        world.observed.claim = None;
        assert_eq!(Shifted::of(&world.observed), None);
    }

    #[test]
    fn a_new_replica_whose_first_check_is_minutes_away_is_settled() {
        let mut standing = routed(&[]);
        standing.replicas[0].health = Health::Starting;
        assert!(!standing.is_settled());
        standing.replicas[0].rollout = Some(RolloutId("r".to_owned()));
        assert!(standing.is_settled());
        standing.replicas[0].health = Health::Unhealthy;
        assert!(!standing.is_settled());
    }

    #[test]
    fn a_job_that_has_ended_well_is_settled() {
        let mut standing = routed(&[]);
        standing.replicas[0].run = Run::Exited;
        assert!(!standing.is_settled());
        let listed = |status: &str| ContainerSummary {
            id: Some(standing.replicas[0].id.0.clone()),
            status: Some(status.to_owned()),
            ..ContainerSummary::default()
        };
        assert_eq!(ended(&[listed("Exited (1) 2 hours ago")]).count(), 0);
        standing.ended = ended(&[listed("Exited (0) 2 hours ago")]).collect();
        assert!(standing.is_settled());
    }

    #[test]
    fn a_service_with_a_scale_of_0_and_no_replica_is_settled() {
        let wanted = Wanted {
            image: None,
            reference: "app:v1".to_owned(),
            hash: String::new(),
            replicas: 0,
        };
        assert_eq!(wanted.differences(&[]), [""; 0]);
        assert!(!wanted.differences(&[simulator::old("a")]).is_empty());
        assert!(Standing::default().is_settled());
        let missing = Standing {
            desired: 1,
            ..Standing::default()
        };
        assert!(!missing.is_settled());
    }

    #[test]
    fn what_the_proxy_complains_of_in_an_unfinished_rollout_is_part_of_it() {
        let standing = Standing {
            unfinished: Some("rollout r is unfinished".to_owned()),
            ..routed(&["router web does not exist"])
        };
        assert_eq!(standing.not_served(), None);
    }
}
