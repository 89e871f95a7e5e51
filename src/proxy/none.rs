//! No proxy: a worker without a router, which is rolled on health alone. Its claim is kept in the state volume.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use super::{
    Observation, Router,
    traefik::{names, ports},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    model::{Claim, Phase, Replica, RolloutId, RoutePlan, ServiceKey, Share},
    namespace::traffic::Protocol,
    state::{
        Lock,
        claims::Entry,
        lock,
        store::{self, File},
    },
};

/// Routes nothing.
pub struct NoProxy {
    engine: Engine,
    key: ServiceKey,
    held: Option<Held>,
}

/// What the run that holds the lock knows; it alone writes.
struct Held {
    /// The lock's container, which has the state volume mounted.
    container: String,
    epoch: u64,
    last: Option<Entry>,
}

impl NoProxy {
    pub fn new(engine: &Engine, key: &ServiceKey) -> Self {
        Self {
            engine: engine.clone(),
            key: key.clone(),
            held: None,
        }
    }

    fn last(&self, files: &[File]) -> Result<Option<Entry>> {
        Entry::last(files).map_err(|why| {
            Error::refused(format!("the claim of {} cannot be read: {why}", self.key)).hint(format!(
                "docker volume inspect {} says where it is; without its folder claim the rollout begins anew",
                store::volume()
            ))
        })
    }

    async fn write(&mut self, claim: &Claim) -> Result<()> {
        let Some(held) = &mut self.held else {
            return Err(Error::failed("a claim is written under the lock alone"));
        };
        let entry = Entry {
            epoch: held.epoch,
            number: held.last.as_ref().map_or(0, |last| last.number) + 1,
            rollout: claim.rollout.clone(),
            phase: claim.phase,
            hides: claim.plan.hidden().cloned().collect(),
        };
        let (engine, path) = (&self.engine, entry.path());
        store::write(engine, &held.container, &self.key, &path, &entry).await?;
        held.last = Some(entry);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Router for NoProxy {
    fn name(&self) -> &'static str {
        "the proxy"
    }

    fn describe(&self) -> String {
        "no proxy, on health alone".to_owned()
    }

    fn routes(&self) -> bool {
        false
    }

    /// Of the labels, which a proxy that is not asked may go by.
    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Protocol> {
        ports::routed(&replica.labels, &replica.ports)
    }

    fn only_datagrams(&self, replica: &Replica) -> bool {
        names::only_datagrams(&replica.labels)
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        let last = match &self.held {
            Some(held) => held.last.clone(),
            // A run that was killed left its lock, whose container has the state volume mounted.
            None => match lock::holder(&self.engine, &self.key).await? {
                Some(holder) => {
                    let files = store::read(&self.engine, holder.id(), &self.key).await?;
                    self.last(&files)?
                }
                None => None,
            },
        };
        let open = last.filter(|last| last.phase != Phase::Settled);
        Ok(open.map(|last| Claim {
            plan: RoutePlan::of(&last.rollout, Share::Live, last.hides),
            rollout: last.rollout,
            phase: last.phase,
            stale: false,
        }))
    }

    async fn fence(&mut self, lock: &Lock) -> Result<()> {
        let files = store::read(&self.engine, &lock.id, &self.key).await?;
        let last = self.last(&files)?;
        self.held = Some(Held {
            container: lock.id.clone(),
            epoch: lock.epoch,
            last,
        });
        Ok(())
    }

    async fn apply(&mut self, claim: &Claim, _: &[Replica]) -> Result<Option<String>> {
        self.write(claim).await?;
        Ok(None)
    }

    async fn release(&mut self, rollout: &RolloutId, _: &[Replica]) -> Result<()> {
        self.write(&Claim::settled(rollout)).await
    }

    async fn switch_delay(&mut self, _: &[Replica]) -> Duration {
        Duration::ZERO
    }

    async fn observed(&mut self, _: &[Replica]) -> Option<Observation> {
        None
    }
}
