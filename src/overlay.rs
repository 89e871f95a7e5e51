//! The overlay: what readers of the socket proxy see of containers and Swarm services instead of Docker's own answers.
//! Pure. The CLI and the socket proxy share it and the [`control`] protocol between them.

mod by_hand;
pub mod control;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::{
    by_hand::key_by_hand,
    rule::{ENABLE, Effect, Health, Labels, Match, Rule},
};

/// All rules of one service's rollout, or the labels that an operator sets on one container. It is replaced as a whole.
///
/// The stage is the CLI's commit record, so a claim without rules stays until its owner clears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// `project/service`.
    pub key: String,
    /// The rollout that owns it.
    pub rollout: String,
    /// Grows with each owner of the key; an older owner is refused.
    pub epoch: u64,
    /// The owner's word for its phase, or [`Claim::SHOWN`] if the socket proxy itself has ended the hiding.
    pub stage: String,
    /// A later rule wins, label by label.
    #[serde(deserialize_with = "rule::read")]
    pub rules: Vec<Rule>,
}

impl Claim {
    /// The stage of a claim whose hidden containers were shown because no visible one was left.
    pub const SHOWN: &str = "shown";
    /// The stage of a claim whose rollout is over: only its rules on health are left.
    pub const SETTLED: &str = "settled";

    /// Refuses rules without a meaning; the text says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let (project, service) = self.key.split_once('/').unwrap_or_default();
        if project.is_empty() || service.is_empty() {
            return Err(format!("the key {:?} is not project/service", self.key));
        }
        if self.rules.iter().any(|rule| rule.on.is_empty()) {
            return Err("a rule matches on nothing".to_owned());
        }
        match self.rules.iter().all(Rule::fits) {
            true => Ok(()),
            false => Err("a rule on a Swarm service has another effect than omit or tasks_of, or one on containers has tasks_of".to_owned()),
        }
    }

    /// The first version of the control protocol that can express it.
    pub fn since(&self) -> u32 {
        self.rules.iter().map(Rule::since).max().unwrap_or(1)
    }
}

/// A change by an owner that a later one has replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} belongs to a later rollout (epoch {last})")]
pub struct Stale {
    /// `project/service`.
    pub key: String,
    pub last: u64,
}

/// Every claim at one moment; a change makes a new generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Grows by one with each change.
    pub generation: u64,
    /// By key.
    #[serde(default)]
    pub claims: BTreeMap<String, Claim>,
    /// The newest epoch of each key that ever had a claim; outlives the claim.
    #[serde(default)]
    pub last_epochs: BTreeMap<String, u64>,
    /// Containers under a health rule whose health Docker has reported: no health rule applies to them again.
    #[serde(default)]
    pub settled: BTreeSet<String>,
}

impl Overlay {
    /// Replaces the key's claim; returns the first generation with the new one.
    pub fn set(&mut self, claim: Claim) -> Result<u64, Stale> {
        self.admit(&claim.key, claim.epoch)?;
        let held = self.claims.get(&claim.key);
        if held.is_some_and(|held| held.epoch == claim.epoch && held.rollout != claim.rollout) {
            return Err(self.stale(&claim.key));
        }
        if held == Some(&claim) {
            return Ok(self.generation);
        }
        self.last_epochs.insert(claim.key.clone(), claim.epoch);
        self.claims.insert(claim.key.clone(), claim);
        Ok(self.changed())
    }

    /// Replaces several claims in one generation: all of them, or none if the owner of one is stale.
    pub fn set_all(&mut self, claims: Vec<Claim>) -> Result<u64, Stale> {
        let mut next = self.clone();
        for claim in claims {
            next.set(claim)?;
        }
        if next.generation > self.generation {
            next.generation = self.generation + 1;
            *self = next;
        }
        Ok(self.generation)
    }

    /// Ends a key's claim; returns the first generation without it.
    pub fn clear(&mut self, key: &str, epoch: u64) -> Result<u64, Stale> {
        self.admit(key, epoch)?;
        let held = self.claims.remove(key).is_some();
        let newer = self.note_epoch(key, epoch);
        match held || newer {
            true => Ok(self.changed()),
            false => Ok(self.generation),
        }
    }

    /// Drops the rules on a removed container. Rules on labels stay until their owner ends them.
    pub fn forget_container(&mut self, id: &str) -> bool {
        let mut dropped = self.settled.remove(id);
        dropped |= self.forget_by_hand(id);
        for claim in self.claims.values_mut() {
            let before = claim.rules.len();
            claim
                .rules
                .retain(|rule| !matches!(&rule.on, Match::Id(own) if own == id));
            dropped |= claim.rules.len() != before;
        }
        if dropped {
            self.changed();
        }
        dropped
    }

    /// Notes that Docker has reported a health other than `starting` for a container: its health rules end.
    pub fn settle(&mut self, id: &str, labels: &Labels) -> bool {
        let ruled = self.rules_on(id, labels).any(Rule::is_on_health);
        let news = ruled && self.settled.insert(id.to_owned());
        if news {
            self.changed();
        }
        news
    }

    /// Ends the claim of a rollout that is over, if Docker has reported the health of all its containers.
    pub fn end_settled(&mut self, key: &str) -> bool {
        let over = |claim: &Claim| claim.stage == Claim::SETTLED;
        let ended = self.claims.get(key).is_some_and(over) && self.claims.remove(key).is_some();
        if ended {
            self.changed();
        }
        ended
    }

    /// Ends the hiding or the preview of these containers by the key's claim, and marks its stage.
    pub fn show(&mut self, key: &str, containers: &[(String, Labels)]) -> bool {
        let Some(claim) = self.claims.get_mut(key) else {
            return false;
        };
        let mut shown = false;
        for rule in &mut claim.rules {
            let on = |(id, labels): &(String, Labels)| rule.on.matches(id, labels);
            if containers.iter().any(on) && (rule.hides() || rule.unsets()) {
                rule.end_hiding();
                shown = true;
            }
        }
        if shown {
            claim.stage = Claim::SHOWN.to_owned();
            self.changed();
        }
        shown
    }

    /// Changes a container's labels to those that readers see; returns their health if it differs from Docker's.
    ///
    /// `starting` says whether Docker reports the health `starting`.
    pub fn apply(&self, id: &str, labels: &mut Labels, starting: bool) -> Option<Health> {
        let mut health = None;
        let mut seen = labels.clone();
        for rule in self.rules_on(id, labels) {
            rule.effect.change(&mut seen);
            if let Effect::Health(own) = &rule.effect {
                health = Some(*own);
            }
        }
        *labels = seen;
        health.filter(|_| starting && !self.settled.contains(id))
    }

    /// Whether a rule hides or omits the container; its own labels do not count.
    pub fn hides(&self, id: &str, labels: &Labels) -> bool {
        let last = self
            .rules_on(id, labels)
            .filter_map(|rule| rule.label(ENABLE))
            .next_back();
        last == Some(Some("false")) || self.omits(id, labels)
    }

    /// Whether rules keep the requests of the public from the container: it is hidden, or previewed.
    pub fn keeps_back(&self, id: &str, labels: &Labels) -> bool {
        self.hides(id, labels) || self.rules_on(id, labels).any(Rule::unsets)
    }

    /// Whether a rule omits the container, so that readers do not see it at all.
    pub fn omits(&self, id: &str, labels: &Labels) -> bool {
        self.rules_on(id, labels)
            .any(|rule| rule.effect == Effect::Omit)
    }

    /// Whether a rule omits the Swarm service.
    pub fn omits_service(&self, id: &str) -> bool {
        self.effects_on_service(id)
            .any(|effect| *effect == Effect::Omit)
    }

    /// The Swarm service whose tasks are listed as those of this one, as long as one of them runs.
    pub fn tasks_of<'a>(&'a self, id: &'a str) -> Option<&'a str> {
        let named = self
            .effects_on_service(id)
            .filter_map(|effect| match effect {
                Effect::TasksOf(other) => Some(other.as_str()),
                _ => None,
            });
        named.last()
    }

    /// Whether a claim hides containers of a service by their ids. These are replicas that served before.
    pub fn may_fall_back(&self, key: &str) -> bool {
        let claim = self.claims.get(key);
        let rules = claim.into_iter().flat_map(|claim| &claim.rules);
        let mut before = rules.filter(|rule| matches!(rule.on, Match::Id(_)));
        before.any(Rule::hides)
    }

    /// The ids that rules are about, each once.
    pub fn ids(&self) -> BTreeSet<String> {
        let rules = self.claims.values().flat_map(|claim| &claim.rules);
        rules
            .filter_map(|rule| match &rule.on {
                Match::Id(id) => Some(id.clone()),
                Match::Label { .. } | Match::Service(_) => None,
            })
            .collect()
    }

    /// The first version of the overlay's file that can express it.
    pub fn since(&self) -> u32 {
        self.claims.values().map(Claim::since).max().unwrap_or(1)
    }

    fn rules_on<'a>(
        &'a self,
        id: &'a str,
        labels: &'a Labels,
    ) -> impl DoubleEndedIterator<Item = &'a Rule> {
        let rules = self.claims.values().flat_map(|claim| &claim.rules);
        rules.filter(move |rule| rule.on.matches(id, labels))
    }

    fn effects_on_service<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Effect> {
        let rules = self.claims.values().flat_map(|claim| &claim.rules);
        let on_it = rules.filter(move |rule| rule.on.is_service(id));
        on_it.map(|rule| &rule.effect)
    }

    fn admit(&self, key: &str, epoch: u64) -> Result<(), Stale> {
        match self.last_epochs.get(key) {
            Some(last) if epoch < *last => Err(self.stale(key)),
            _ => Ok(()),
        }
    }

    /// Whether a cleared key has got a newer owner.
    fn note_epoch(&mut self, key: &str, epoch: u64) -> bool {
        if by_hand::is_key(key) {
            self.last_epochs.remove(key);
            return false;
        }
        self.last_epochs.insert(key.to_owned(), epoch) != Some(epoch)
    }

    fn stale(&self, key: &str) -> Stale {
        let last = self.last_epochs.get(key).copied().unwrap_or_default();
        let key = key.to_owned();
        Stale { key, last }
    }

    fn changed(&mut self) -> u64 {
        // Without health rules there is no need to remember reported health.
        let mut rules = self.claims.values().flat_map(|claim| &claim.rules);
        if !rules.any(Rule::is_on_health) {
            self.settled.clear();
        }
        self.generation += 1;
        self.generation
    }
}
