//! No proxy: a worker without a router, which is rolled on health alone.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use super::{
    Observation, Proxy,
    traefik::{names, ports},
};
use crate::{
    error::Result,
    model::{Claim, Replica, RolloutId},
    namespace::{check::Check, traffic::Protocol},
};

/// Routes nothing and remembers nothing.
#[derive(Debug, Default)]
pub struct NoProxy;

#[async_trait(?Send)]
impl Proxy for NoProxy {
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

    fn readiness_checks(&self, _: &Replica) -> Vec<Check> {
        Vec::new()
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        Ok(None)
    }

    async fn apply(&mut self, _: &Claim, _: &[Replica]) -> Result<Option<String>> {
        Ok(None)
    }

    async fn release(&mut self, _: &RolloutId, _: &[Replica]) -> Result<()> {
        Ok(())
    }

    async fn switch_delay(&mut self, _: &[Replica]) -> Duration {
        Duration::ZERO
    }

    async fn observed(&mut self, _: &[Replica]) -> Option<Observation> {
        None
    }
}
