//! No proxy: a worker without a router, which is rolled on health alone.

use async_trait::async_trait;

use super::{Change, Observation, Proxy};
use crate::{
    error::Result,
    model::{Claim, Replica, RolloutId},
};

/// Routes nothing and remembers nothing.
#[derive(Debug, Default)]
pub struct NoProxy;

#[async_trait(?Send)]
impl Proxy for NoProxy {
    fn describe(&self) -> String {
        "no proxy, on health alone".to_owned()
    }

    fn routes(&self) -> bool {
        false
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        Ok(None)
    }

    async fn route(&mut self, _: Change<'_>) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _: &RolloutId, _: &[&Replica]) -> Result<()> {
        Ok(())
    }

    async fn observed(&mut self, _: &[Replica]) -> Option<Observation> {
        None
    }
}
