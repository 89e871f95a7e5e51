//! The overlay: what readers are told about containers instead of what Docker says. Pure, shared with the CLI.

mod by_hand;

use std::collections::{BTreeMap, BTreeSet};

pub use by_hand::key_by_hand;
use serde::{Deserialize, Serialize};

/// The label whose value `false`, set by a rule, hides a container from Traefik.
pub const ENABLE: &str = "traefik.enable";

/// Labels of a container, by key.
pub type Labels = BTreeMap<String, String>;

/// Which containers a rule is about. In JSON: `{"id": "…"}` or `{"label": {"key": "…", "value": "…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// The container with this full id.
    Id(String),
    /// Every container that Docker itself labels so, those that do not exist yet included.
    Label {
        /// A whole label key.
        key: String,
        value: String,
    },
}

impl Match {
    fn matches(&self, id: &str, labels: &Labels) -> bool {
        match self {
            Self::Id(own) => own == id,
            Self::Label { key, value } => labels.get(key) == Some(value),
        }
    }
}

/// What a reader is told of a container's health, in Docker's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not known yet.
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    /// The word in Docker's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What some containers look like to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub on: Match,
    /// Labels that are added, or take the place of Docker's.
    #[serde(default)]
    pub labels: Labels,
    /// The health that is told as long as Docker says `starting`, and never again once Docker has said anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// All rules of one service's rollout, replaced as a whole; or what an operator says of one container.
///
/// The stage is the CLI's commit record: a claim without any rule left stays until its owner clears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// `project/service`.
    pub key: String,
    /// The rollout that owns it.
    pub rollout: String,
    /// Grows with each owner of the key; an older owner is refused.
    pub epoch: u64,
    /// A word of the owner's; [`Claim::SHOWN`] where the socket proxy itself has ended the hiding.
    pub stage: String,
    /// A later rule wins, label by label.
    pub rules: Vec<Rule>,
}

impl Claim {
    /// The stage of a claim whose hidden containers were shown because no visible one was left.
    pub const SHOWN: &str = "shown";
    /// The stage of a claim whose rollout is over: of its rules only those on health are left.
    pub const SETTLED: &str = "settled";

    /// Checks what no rule can mean; the text says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let (project, service) = self.key.split_once('/').unwrap_or_default();
        if project.is_empty() || service.is_empty() {
            return Err(format!("the key {:?} is not project/service", self.key));
        }
        let empty = |rule: &Rule| match &rule.on {
            Match::Id(id) => id.is_empty(),
            Match::Label { key, .. } => key.is_empty(),
        };
        match self.rules.iter().any(empty) {
            true => Err("a rule matches on nothing".to_owned()),
            false => Ok(()),
        }
    }
}

/// A change by an owner who has been followed by another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} belongs to a later rollout (epoch {last})")]
pub struct Stale {
    /// `project/service`.
    pub key: String,
    /// The last epoch that was let through.
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
    /// Containers under a health rule of whose health Docker has said something: no such rule applies to them again.
    #[serde(default)]
    pub settled: BTreeSet<String>,
}

impl Overlay {
    /// Puts a claim in the place of the key's last one; the generation in which it holds.
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

    /// Ends a key's claim; the generation from which on it does not hold.
    pub fn clear(&mut self, key: &str, epoch: u64) -> Result<u64, Stale> {
        self.admit(key, epoch)?;
        let held = self.claims.remove(key).is_some();
        let newer = self.note_epoch(key, epoch);
        match held || newer {
            true => Ok(self.changed()),
            false => Ok(self.generation),
        }
    }

    /// Drops what is said about a container that is gone for good. Rules on labels stay: they are their owner's.
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

    /// Notes that Docker has said something else than `starting` about a container: its health rules have ended.
    pub fn settle(&mut self, id: &str, labels: &Labels) -> bool {
        let ruled = self.rules_on(id, labels).any(|rule| rule.health.is_some());
        let news = ruled && self.settled.insert(id.to_owned());
        if news {
            self.changed();
        }
        news
    }

    /// Ends the claim of a rollout that is over, whose health rules have all been overtaken by what Docker says.
    pub fn end_settled(&mut self, key: &str) -> bool {
        let over = |claim: &Claim| claim.stage == Claim::SETTLED;
        let ended = self.claims.get(key).is_some_and(over) && self.claims.remove(key).is_some();
        if ended {
            self.changed();
        }
        ended
    }

    /// Ends the hiding of these containers by the key's claim, and marks its stage.
    pub fn show(&mut self, key: &str, containers: &[(String, Labels)]) -> bool {
        let Some(claim) = self.claims.get_mut(key) else {
            return false;
        };
        let mut shown = false;
        for rule in &mut claim.rules {
            let on = |(id, labels): &(String, Labels)| rule.on.matches(id, labels);
            if containers.iter().any(on) && hiding(rule) {
                rule.labels.remove(ENABLE);
                shown = true;
            }
        }
        if shown {
            claim.stage = Claim::SHOWN.to_owned();
            self.changed();
        }
        shown
    }

    /// Gives a container the labels that a reader is told, and the health where it is not Docker's.
    ///
    /// `starting` is what Docker says now.
    pub fn apply(&self, id: &str, labels: &mut Labels, starting: bool) -> Option<Health> {
        let mut health = None;
        let mut told = Labels::new();
        for rule in self.rules_on(id, labels) {
            told.extend(rule.labels.clone());
            health = rule.health.or(health);
        }
        labels.extend(told);
        health.filter(|_| starting && !self.settled.contains(id))
    }

    /// Whether a rule hides the container; what the container says of itself does not count.
    pub fn hides(&self, id: &str, labels: &Labels) -> bool {
        self.rules_on(id, labels)
            .filter_map(|rule| rule.labels.get(ENABLE))
            .next_back()
            .is_some_and(|enabled| enabled == "false")
    }

    /// Whether a claim hides containers of a service by their ids: those that served before, as long as they exist.
    pub fn may_fall_back(&self, key: &str) -> bool {
        let claim = self.claims.get(key);
        let rules = claim.into_iter().flat_map(|claim| &claim.rules);
        let mut before = rules.filter(|rule| matches!(rule.on, Match::Id(_)));
        before.any(hiding)
    }

    /// The ids that rules are about, each once.
    pub fn ids(&self) -> BTreeSet<String> {
        let rules = self.claims.values().flat_map(|claim| &claim.rules);
        rules
            .filter_map(|rule| match &rule.on {
                Match::Id(id) => Some(id.clone()),
                Match::Label { .. } => None,
            })
            .collect()
    }

    fn rules_on<'a>(
        &'a self,
        id: &'a str,
        labels: &'a Labels,
    ) -> impl DoubleEndedIterator<Item = &'a Rule> {
        let rules = self.claims.values().flat_map(|claim| &claim.rules);
        rules.filter(move |rule| rule.on.matches(id, labels))
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
        // Nothing that is settled matters without a rule on health.
        let mut rules = self.claims.values().flat_map(|claim| &claim.rules);
        if !rules.any(|rule| rule.health.is_some()) {
            self.settled.clear();
        }
        self.generation += 1;
        self.generation
    }
}

fn hiding(rule: &Rule) -> bool {
    rule.labels
        .get(ENABLE)
        .is_some_and(|value| value == "false")
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
