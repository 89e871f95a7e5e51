//! No proxy: a worker without a router, which is rolled on health alone. Its claim is kept in the state volume.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use super::{Capabilities, LabelRules, Observation, Router, traefik::labels::TraefikLabels};
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    model::{Claim, Phase, Replica, RolloutId, RoutePlan, ServiceKey, Share},
    namespace::traffic::Protocol,
    state::{
        Lock,
        claims::{Entry, FOLDER},
        lock,
        store::{self, File},
    },
};

pub struct NoProxy {
    engine: Engine,
    key: ServiceKey,
    held: Option<Held>,
}

/// The state of the run that holds the lock; it alone writes.
struct Held {
    /// The lock's container, which has the state volume mounted.
    container: String,
    epoch: u64,
    /// How many entries it has written.
    written: u64,
    claim: Option<Claim>,
}

impl NoProxy {
    pub fn new(engine: &Engine, key: &ServiceKey) -> Self {
        Self {
            engine: engine.clone(),
            key: key.clone(),
            held: None,
        }
    }

    /// The last entry, where something looks unfinished; of use without the lock.
    async fn seen(&self, replicas: &[Replica]) -> Result<Option<(Entry, Phase)>> {
        let holder = lock::holder(&self.engine, &self.key).await?;
        let unnamed = replicas.iter().find(|own| own.name != own.target_name());
        let files = match (holder, unnamed) {
            // A run that was killed left its lock, whose container has the state volume mounted.
            (Some(holder), _) => {
                store::read_folder(&self.engine, holder.id(), &self.key, FOLDER).await?
            }
            (None, Some(new)) => store::look(&self.engine, &new.image, &self.key).await?,
            (None, None) => return Ok(None),
        };
        self.last(&files)
    }

    fn last(&self, files: &[File]) -> Result<Option<(Entry, Phase)>> {
        Entry::last(files).map_err(|why| {
            let message = format!("the claim of {} cannot be read: {why}", self.key);
            let (volume, key) = (store::volume(), &self.key);
            Error::refused(message).hint(format!(
                "finish with the newer version of rollout, or remove {}/{}/claim from the volume {volume}",
                key.project, key.service
            ))
        })
    }

    async fn write(&mut self, claim: &Claim) -> Result<()> {
        let Some(held) = &mut self.held else {
            return Err(Error::failed("a claim is written under the lock alone"));
        };
        let number = (held.epoch, held.written + 1);
        // Replicas that it replaces and that have gone meanwhile stay in the record.
        let before = held.claim.iter().filter(|own| own.rollout == claim.rollout);
        let noted = before.flat_map(|own| own.plan.hidden());
        let hides = claim.plan.hidden().chain(noted).cloned().collect();
        let entry = Entry::new(number, claim.rollout.clone(), claim.phase, hides);
        let (engine, path) = (&self.engine, entry.path());
        store::write(engine, &held.container, &self.key, &path, &entry).await?;
        held.written += 1;
        held.claim = Some(self::claim((entry, claim.phase)));
        Ok(())
    }
}

fn claim((entry, phase): (Entry, Phase)) -> Claim {
    Claim {
        plan: RoutePlan::of(&entry.rollout, Share::Live, entry.hides),
        rollout: entry.rollout,
        phase,
        stale: false,
    }
}

/// The ports of Traefik's labels, which a proxy that is not asked may go by; nothing is refused or checked for them.
struct PortsOfLabels;

impl LabelRules for PortsOfLabels {
    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Protocol> {
        TraefikLabels.routed_ports(replica)
    }

    fn only_datagrams(&self, replica: &Replica) -> bool {
        TraefikLabels.only_datagrams(replica)
    }
}

#[async_trait(?Send)]
impl Router for NoProxy {
    fn name(&self) -> &'static str {
        "the proxy"
    }

    /// It moves no traffic, so it can wait for any other service.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            joint_cutover: true,
            ..Capabilities::default()
        }
    }

    fn describe(&self) -> String {
        "no proxy, on health alone".to_owned()
    }

    fn routes(&self) -> bool {
        false
    }

    fn labels(&self) -> &'static dyn LabelRules {
        &PortsOfLabels
    }

    async fn claim(&mut self, replicas: &[Replica]) -> Result<Option<Claim>> {
        let last = match &self.held {
            Some(held) => held.claim.clone(),
            None => self.seen(replicas).await?.map(claim),
        };
        Ok(last.filter(|last| last.phase != Phase::Settled))
    }

    async fn fence(&mut self, lock: &Lock) -> Result<()> {
        let files = store::read_folder(&self.engine, &lock.id, &self.key, FOLDER).await?;
        let last = self.last(&files)?;
        // The engine's clock may have been set back.
        let later = last
            .as_ref()
            .map_or(0, |(last, _)| last.epoch.saturating_add(1));
        self.held = Some(Held {
            container: lock.id.clone(),
            epoch: lock.epoch.max(later),
            written: 0,
            claim: last.map(claim),
        });
        Ok(())
    }

    async fn apply(&mut self, claim: &Claim, _: &[Replica]) -> Result<Option<String>> {
        self.write(claim).await?;
        Ok(None)
    }

    async fn release(&mut self, rollout: &RolloutId, _: &[Replica]) -> Result<()> {
        // Nothing is left to do by now. A claim that stays is released by the next run.
        if let Err(error) = self.write(&Claim::settled(rollout)).await {
            tracing::warn!(%error, "the claim is not released");
        }
        Ok(())
    }

    async fn switch_delay(&mut self, _: &[Replica]) -> Duration {
        Duration::ZERO
    }

    async fn observed(&mut self, _: &[Replica]) -> Option<Observation> {
        None
    }
}
