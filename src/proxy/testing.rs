//! A proxy for tests that answers from a list.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;

use super::{Observation, Proxy};
use crate::{
    error::Result,
    model::{Claim, Replica, RolloutId},
    namespace::{check::Check, traffic::Protocol},
};

/// Gives one answer after the other, the last one again and again.
pub struct Scripted {
    pub answers: VecDeque<Option<Observation>>,
    pub held_back: Duration,
}

#[async_trait(?Send)]
impl Proxy for Scripted {
    fn name(&self) -> &'static str {
        "the proxy"
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }

    fn routes(&self) -> bool {
        true
    }

    fn routed_ports(&self, _: &Replica) -> BTreeMap<u16, Protocol> {
        BTreeMap::new()
    }

    fn only_datagrams(&self, _: &Replica) -> bool {
        false
    }

    fn readiness_checks(&self, _: &Replica) -> Vec<Check> {
        Vec::new()
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        Ok(None)
    }

    fn held_back(&self) -> Duration {
        self.held_back
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
        match self.answers.len() {
            1 => self.answers[0].clone(),
            _ => self.answers.pop_front().flatten(),
        }
    }
}
