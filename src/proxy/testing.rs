//! Proxies for tests: one that answers from a list, and one of another kind than Traefik.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;

use super::{Capabilities, LabelRules, Observation, Router};
use crate::{
    error::Result,
    model::{Claim, Replica, RolloutId, Share},
};

/// Gives one answer after the other, the last one again and again.
pub struct Scripted {
    pub answers: VecDeque<Option<Observation>>,
    pub held_back: Duration,
    /// The longest that a change took.
    pub slowest: Duration,
}

/// Labels that route nothing.
struct NoLabels;

impl LabelRules for NoLabels {}

#[async_trait(?Send)]
impl Router for Scripted {
    fn name(&self) -> &'static str {
        "the proxy"
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }

    fn routes(&self) -> bool {
        true
    }

    fn labels(&self) -> &'static dyn LabelRules {
        &NoLabels
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        Ok(None)
    }

    fn held_back(&self) -> Duration {
        self.held_back
    }

    fn took(&mut self, span: Duration) {
        self.slowest = self.slowest.max(span);
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

/// A proxy with weights and previews. It reports a plan only after it was asked a few times.
#[derive(Default)]
pub struct Weighted {
    /// Every claim that was applied, in order.
    pub applied: Vec<Claim>,
    held: Option<Claim>,
    /// How often it still reports the plan of before.
    behind: usize,
    /// Whether it goes on reporting the plan of before.
    pub is_stuck: bool,
}

impl Weighted {
    const BEHIND: usize = 2;

    fn reported(&self) -> Option<&Claim> {
        let count = self.applied.len();
        match self.behind > 0 || self.is_stuck {
            true => self.applied.get(count.wrapping_sub(2)),
            false => self.held.as_ref(),
        }
    }
}

#[async_trait(?Send)]
impl Router for Weighted {
    fn name(&self) -> &'static str {
        "the balancer"
    }

    fn describe(&self) -> String {
        "weighted".to_owned()
    }

    fn routes(&self) -> bool {
        true
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            weights: true,
            preview: true,
            ..Capabilities::default()
        }
    }

    fn labels(&self) -> &'static dyn LabelRules {
        &NoLabels
    }

    async fn claim(&mut self, _: &[Replica]) -> Result<Option<Claim>> {
        Ok(self.held.clone())
    }

    async fn apply(&mut self, claim: &Claim, _: &[Replica]) -> Result<Option<String>> {
        self.applied.push(claim.clone());
        self.held = Some(claim.clone());
        self.behind = Self::BEHIND;
        Ok(None)
    }

    async fn release(&mut self, _: &RolloutId, _: &[Replica]) -> Result<()> {
        self.held = None;
        Ok(())
    }

    async fn switch_delay(&mut self, _: &[Replica]) -> Duration {
        Duration::ZERO
    }

    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation> {
        let plan = self.reported().map(|claim| claim.plan.clone());
        self.behind = self.behind.saturating_sub(1);
        let share = |own: &Replica| plan.as_ref().and_then(|plan| plan.share(own));
        let routing = replicas
            .iter()
            .map(|own| (own.id.clone(), share(own).unwrap_or(Share::Live)));
        Some(Observation {
            routing: routing.collect(),
            ..Observation::default()
        })
    }
}
