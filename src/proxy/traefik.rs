//! Traefik: routed by relabelling through its socket proxy, confirmed by its own API.

pub mod access;
pub mod advice;
pub mod api;
pub mod by_name;
pub mod checks;
pub mod conflicts;
pub mod control;
pub mod discover;
pub mod down;
pub mod driver;
pub mod fields;
pub mod http;
pub mod kept;
pub mod names;
pub mod neighbours;
pub mod network;
mod observe;
mod others;
pub mod pin;
pub mod ports;
pub mod providers;
pub mod reach;
mod refuse;
pub mod relabel;
pub mod static_config;
pub mod tunnel;
pub mod version;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use self::{
    api::Api,
    control::Control,
    discover::{Lookout, Reads},
    names::{Names, names},
    observe::observation,
    others::Others,
};
use super::{Observation, Router, ServiceCheck, combine};
use crate::{
    context::ServiceContext,
    engine::Image,
    error::Result,
    model::{Claim, ContainerId, Health, Phase, Replica, RolloutId, ServiceKey},
    namespace::traffic::Protocol,
    overlay::{self, Labels},
    state::Lock,
    watch::Role,
};

/// Every Traefik that routes to one service, and the socket proxies that they read through.
pub struct Traefik {
    key: ServiceKey,
    epoch: u64,
    controls: Vec<Control>,
    instances: Vec<Instance>,
    lookout: Option<Lookout>,
    others: Others,
}

struct Instance {
    api: Arc<Api>,
    /// It did not know the service when the rollout began: it may belong to somebody else.
    stranger: bool,
}

impl Traefik {
    /// `epoch` grows with each rollout of the service; the overlay refuses an older one.
    ///
    /// Without a lookout the instances stay those that the operator has named.
    pub fn new(
        key: ServiceKey,
        epoch: u64,
        controls: Vec<Control>,
        apis: Vec<Arc<Api>>,
        lookout: Option<Lookout>,
        others: Others,
    ) -> Self {
        let instances = apis
            .into_iter()
            .map(|api| Instance {
                api,
                stranger: false,
            })
            .collect();
        Self {
            key,
            epoch,
            controls,
            instances,
            lookout,
            others,
        }
    }

    /// Adds Traefiks that have come or moved, and removes those that do not run any more.
    async fn look_around(&mut self) -> Result<()> {
        let Some(lookout) = &mut self.lookout else {
            return Ok(());
        };
        let known = self.instances.iter().map(|own| own.api.identity.clone());
        let Some(view) = lookout.look(&known.flatten().collect()).await? else {
            return Ok(());
        };
        self.instances
            .retain(|instance| view.running.contains(&instance.api.name));
        for traefik in &view.fresh {
            if !matches!(traefik.reads, Reads::SocketProxy(..)) {
                continue;
            }
            let api = lookout.api(traefik).await?;
            match self
                .instances
                .iter_mut()
                .find(|own| own.api.name == api.name)
            {
                Some(known) => known.api = api,
                // What it lists shows whether it is in front of this service at all.
                None => self.instances.push(Instance {
                    api,
                    stranger: true,
                }),
            }
        }
        lookout.keep(&view);
        Ok(())
    }

    /// Finds the Traefiks anew at the next look.
    fn expire(&mut self) {
        if let Some(lookout) = &mut self.lookout {
            lookout.expire();
        }
    }

    async fn set_aside(&self) -> Result<BTreeSet<ContainerId>> {
        let mut all = BTreeSet::new();
        for control in &self.controls {
            let overlay = control.overlay().await?;
            let hidden = overlay.hidden_by_hand().into_iter();
            all.extend(hidden.map(|id| ContainerId(id.to_owned())));
        }
        Ok(all)
    }

    /// Whether any instance knew the service when it was asked before the rollout.
    pub fn knows_the_service(&self) -> bool {
        self.instances.iter().any(|instance| !instance.stranger)
    }

    /// Takes note of which instances know the service before anything is changed, and how the way is called.
    pub async fn get_acquainted(&mut self, replicas: &[Replica]) -> Result<()> {
        let names = all_names(replicas);
        for instance in &mut self.instances {
            instance.stranger = instance.api.servers(&names).await?.services.is_empty();
        }
        for control in &self.controls {
            let last = control
                .overlay()
                .await?
                .last_epochs
                .get(&self.key.to_string())
                .copied()
                .unwrap_or(0);
            self.epoch = self.epoch.max(last.saturating_add(1));
        }
        Ok(())
    }
}

impl Traefik {
    /// Writes a claim to every socket proxy.
    async fn write(&self, claim: &Claim) -> Result<()> {
        let key = self.key.to_string();
        for control in &self.controls {
            let before = control.overlay().await?.claims.get(&key).cloned();
            let claim = relabel::write(&key, self.epoch, claim, before.as_ref())?;
            control.set(claim).await?;
        }
        Ok(())
    }
}

/// A handler of before may still pass a request on for this long.
const SETTLE: Duration = Duration::from_millis(250);
/// The same, where a middleware holds requests.
const SETTLE_HELD: Duration = Duration::from_secs(5);

/// See [`Router::switch_delay`].
async fn switch_delay(apis: impl Iterator<Item = &Api>, names: &Names) -> Duration {
    for api in apis {
        // Where Traefik does not say, the longer pause is the safe answer.
        if api.holds_requests(names).await.unwrap_or(true) {
            return SETTLE_HELD;
        }
    }
    SETTLE
}

#[async_trait(?Send)]
impl Router for Traefik {
    fn name(&self) -> &'static str {
        "Traefik"
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self
            .instances
            .iter()
            .map(|instance| instance.api.name.as_str())
            .collect();
        format!("Traefik ({}) through the socket proxy", names.join(", "))
    }

    fn routes(&self) -> bool {
        true
    }

    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Protocol> {
        ports::routed(&replica.labels, &replica.ports)
    }

    fn only_datagrams(&self, replica: &Replica) -> bool {
        names::only_datagrams(&replica.labels)
    }

    fn refuse_version(&self, context: &ServiceContext<'_>, image: &Image) -> Result<()> {
        refuse::ports(context, image)
    }

    fn checks(&self, labels: &Labels, ports: &[u16]) -> Vec<ServiceCheck> {
        checks::checks(labels, ports)
    }

    fn containers(&self) -> Vec<(String, Role)> {
        let traefiks = self.instances.iter().flat_map(|own| own.api.containers());
        let controls = self
            .controls
            .iter()
            .map(|own| (own.name.clone(), Role::SocketProxy));
        traefiks.chain(controls).collect()
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        let key = self.key.to_string();
        let mut claims = Vec::new();
        for control in &self.controls {
            let overlay = control.overlay().await?;
            claims.push(overlay.claims.get(&key).map(relabel::read).transpose()?);
        }
        Ok(combine(claims))
    }

    fn held_back(&self) -> Duration {
        Api::held_back(self.instances.iter().map(|own| &*own.api))
    }

    async fn fence(&mut self, _: &Lock) -> Result<()> {
        let key = self.key.to_string();
        for control in &self.controls {
            let claim = control.overlay().await?.claims.get(&key).cloned();
            if let Some(claim) = claim.filter(relabel::is_unsettled) {
                // The overlay refuses whoever is older than the last owner.
                let epoch = self.epoch.max(claim.epoch);
                control.set(overlay::Claim { epoch, ..claim }).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, claim: &Claim, _: &[Replica]) -> Result<Option<String>> {
        let mut notice = None;
        if claim.phase == Phase::Committed {
            let apis: Vec<&Api> = self.instances.iter().map(|own| own.api.as_ref()).collect();
            notice = self.others.note(&apis, &claim.rollout).await;
        }
        self.write(claim).await?;
        self.expire();
        Ok(notice)
    }

    async fn release(&mut self, rollout: &RolloutId, replicas: &[Replica]) -> Result<()> {
        // What Docker does not know yet is told of a rollout's replicas alone.
        let starting = replicas
            .iter()
            .any(|replica| replica.rollout.is_some() && replica.health == Health::Starting);
        if starting {
            return self.write(&Claim::settled(rollout)).await;
        }
        for control in &self.controls {
            control.clear(&self.key.to_string(), self.epoch).await?;
        }
        Ok(())
    }

    async fn switch_delay(&mut self, replicas: &[Replica]) -> Duration {
        let names = all_names(replicas);
        switch_delay(self.instances.iter().map(|own| &*own.api), &names).await
    }

    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation> {
        // Before anybody is believed, everybody must be known.
        self.look_around().await.ok()?;
        let set_aside = self.set_aside().await.ok()?;
        let names = all_names(replicas);
        let mut answers = Vec::new();
        for instance in &self.instances {
            match instance.api.servers(&names).await {
                Ok(servers) => answers.push((instance.stranger, servers)),
                Err(error) => {
                    tracing::debug!(%error, "cannot tell");
                    self.expire();
                    return None;
                }
            }
        }
        // A stranger that still does not know the service has no say, as long as somebody else does.
        if answers
            .iter()
            .any(|(_, servers)| !servers.services.is_empty())
        {
            answers.retain(|(stranger, servers)| !stranger || !servers.services.is_empty());
        }
        let answers = answers.into_iter().map(|(_, servers)| servers).collect();
        let mut seen = Observation {
            set_aside,
            ..observation(replicas, answers)
        };
        if seen.is_decided(replicas) {
            let apis: Vec<&Api> = self.instances.iter().map(|own| own.api.as_ref()).collect();
            seen.lost = self.others.lost(&apis, &self.controls).await.ok()?;
        }
        Some(seen)
    }
}

fn all_names(replicas: &[Replica]) -> Names {
    let mut all = Names::default();
    for replica in replicas {
        let own = names(&replica.labels);
        all.routers.extend(own.routers);
        all.services.extend(own.services);
    }
    all
}
