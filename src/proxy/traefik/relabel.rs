//! Relabel: the router that moves traffic by what the socket proxies show Traefik of the replicas' labels.

mod claims;
mod setup;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

pub(super) use self::claims::is_unsettled;
pub use self::setup::{no_traefik, relabel};
use super::{
    api::observation,
    config::{Reads, TraefikContainer},
    discover::{Instance, Instances},
    labels::{Names, TraefikLabels, all_names, names},
    preview::Preview,
};
use crate::{
    docker::watch::Role,
    error::Result,
    model::{Claim, ContainerId, Health, Phase, Replica, RolloutId, ServiceKey},
    overlay::{self, Labels, Overlay},
    proxy::{
        Capabilities, LabelRules, Observation, Router, Staged, Write, combine,
        socket_proxies::Control, write_all,
    },
    state::Lock,
};

/// Every Traefik that routes to one service, and the socket proxies that they read through.
pub struct Relabel {
    key: ServiceKey,
    /// Grows with each rollout of the service; the overlay refuses an older one.
    epoch: u64,
    controls: Vec<Control>,
    /// Whether every Traefik knows weights.
    weights: bool,
    /// Whether any of them verifies the certificates of servers.
    verifies_servers: bool,
    preview: Preview,
    pub(super) instances: Instances<()>,
}

/// Whether a Traefik reads through a socket proxy: no other follows the overlay.
fn is_concerned(traefik: &TraefikContainer) -> bool {
    matches!(traefik.reads, Reads::SocketProxy(..))
}

impl Relabel {
    async fn overlays(&self) -> Result<Vec<Overlay>> {
        let mut all = Vec::new();
        for control in &self.controls {
            all.push(control.overlay().await?);
        }
        Ok(all)
    }

    fn previewed(
        &self,
        overlays: &[Overlay],
        replicas: &[Replica],
    ) -> BTreeMap<ContainerId, Labels> {
        let key = self.key.to_string();
        let claims = overlays.iter().filter_map(|own| own.claims.get(&key));
        claims
            .flat_map(|claim| claims::as_previewed(claim, replicas))
            .collect()
    }

    /// Notes which Traefiks route to the service before anything is changed, and takes an epoch that is later than any.
    async fn learn_baseline(&mut self, replicas: &[Replica]) -> Result<()> {
        let names = all_names(replicas);
        for own in &mut self.instances.all {
            own.routed_before = !own.api.servers(&names).await?.services.is_empty();
        }
        let key = self.key.to_string();
        for control in &self.controls {
            let last = control.overlay().await?.last_epochs.get(&key).copied();
            self.epoch = self.epoch.max(last.unwrap_or(0).saturating_add(1));
        }
        Ok(())
    }

    async fn staged(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Staged> {
        let mut notice = None;
        if claim.phase == Phase::Committed {
            notice = self.instances.note_others(&claim.rollout).await;
        }
        // Before the write: one that reports a failure may have taken effect.
        self.instances.expire();
        let writes = self.writes(claim, replicas).await?;
        Ok(Staged { notice, writes })
    }

    /// The writes of a claim, one for every socket proxy.
    async fn writes(&self, claim: &Claim, replicas: &[Replica]) -> Result<Vec<Write>> {
        let key = self.key.to_string();
        let overlays = self.overlays().await?.into_iter();
        let before: Vec<_> = overlays.map(|mut own| own.claims.remove(&key)).collect();
        let rule = self.preview.rule.as_ref();
        let previewed = claims::previewed(&claim.rollout, &before, rule, replicas);
        let owner = (key.as_str(), self.epoch);
        let writes = self.controls.iter().zip(&before).map(|(control, before)| {
            let (before, previewed) = (before.as_ref(), previewed.as_ref());
            Write::Claim {
                control: Box::new(control.clone()),
                claim: claims::write(owner, claim, before, replicas, previewed),
            }
        });
        Ok(writes.collect())
    }
}

#[async_trait(?Send)]
impl Router for Relabel {
    fn name(&self) -> &'static str {
        "Traefik"
    }

    fn describe(&self) -> String {
        let names = self.instances.names();
        format!("Traefik ({names}) through the socket proxy")
    }

    fn routes(&self) -> bool {
        true
    }

    fn labels(&self) -> &'static dyn LabelRules {
        &TraefikLabels
    }

    fn containers(&self) -> Vec<(String, Role)> {
        let controls = self.controls.iter();
        let controls = controls.map(|own| (own.name.clone(), Role::SocketProxy));
        self.instances.containers().chain(controls).collect()
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        let key = self.key.to_string();
        let mut claims = Vec::new();
        for control in &self.controls {
            let overlay = control.overlay().await?;
            claims.push(overlay.claims.get(&key).map(claims::read).transpose()?);
        }
        Ok(combine(claims))
    }

    fn held_back(&self) -> Duration {
        self.instances.held_back()
    }

    fn took(&mut self, span: Duration) {
        self.instances.took(span);
    }

    fn stand(&self) -> Duration {
        self.instances.stand()
    }

    async fn fence(&mut self, _: &Lock) -> Result<()> {
        let key = self.key.to_string();
        for control in &self.controls {
            let claim = control.overlay().await?.claims.get(&key).cloned();
            if let Some(claim) = claim.filter(is_unsettled) {
                // The overlay refuses a run that is older than the last owner.
                let epoch = self.epoch.max(claim.epoch);
                control.set(overlay::Claim { epoch, ..claim }).await?;
            }
        }
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            batches: true,
            weights: self.weights,
            joint_cutover: self.controls.iter().all(Control::speaks_second),
            preview: self.controls.iter().all(Control::speaks_second),
            ..Capabilities::default()
        }
    }

    fn verifies_servers(&self) -> bool {
        self.verifies_servers
    }

    async fn apply(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<String>> {
        let staged = self.staged(claim, replicas).await?;
        write_all(staged.writes).await?;
        Ok(staged.notice)
    }

    async fn stage(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<Staged>> {
        self.staged(claim, replicas).await.map(Some)
    }

    async fn release(&mut self, rollout: &RolloutId, replicas: &[Replica]) -> Result<()> {
        // The socket proxy stands in for a health check that has no result yet, of a rollout's replicas alone.
        let starting = replicas
            .iter()
            .any(|replica| replica.rollout.is_some() && replica.health == Health::Starting);
        if starting {
            return write_all(self.writes(&Claim::settled(rollout), replicas).await?).await;
        }
        for control in &self.controls {
            control.clear(&self.key.to_string(), self.epoch).await?;
        }
        Ok(())
    }

    fn ways_to_preview(&self) -> Vec<String> {
        self.preview.ways()
    }

    async fn switch_delay(&mut self, replicas: &[Replica]) -> Duration {
        self.instances.switch_delay(replicas).await
    }

    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation> {
        // An answer counts only once every Traefik is found.
        let join = async |traefik: &TraefikContainer| Ok(is_concerned(traefik).then_some(()));
        self.instances.refresh(join).await.ok()?;
        let overlays = self.overlays().await.ok()?;
        self.preview.labels = self.previewed(&overlays, replicas);
        let previews = self.preview.labels.values().map(names);
        let names = previews.fold(all_names(replicas), Names::and);
        let ask = async |own: &Instance<()>| own.api.servers(&names).await;
        let answers = self.instances.answers(ask).await?;
        let by_hand = overlays.iter().flat_map(Overlay::hidden_by_hand);
        let seen = Observation {
            set_aside: by_hand.map(|id| ContainerId(id.to_owned())).collect(),
            ..observation(replicas, &self.preview.labels, answers)
        };
        self.instances
            .with_lost(seen, replicas, &self.controls)
            .await
    }
}
