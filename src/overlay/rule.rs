//! One rule: which containers or which Swarm service it applies to, and what it changes there for readers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

/// The label whose value `false`, set by a rule, hides a container from Traefik.
pub const ENABLE: &str = "traefik.enable";

/// Labels of a container, by key.
pub type Labels = BTreeMap<String, String>;

/// What a rule applies to. In JSON: `{"id": "…"}`, `{"label": {"key": "…", "value": "…"}}` or `{"service": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// The container with this full id.
    Id(String),
    /// Every container with this label in Docker itself, future ones too.
    Label {
        /// The full key, not a prefix.
        key: String,
        value: String,
    },
    /// The Swarm service with this full id; no container.
    Service(String),
}

impl Match {
    /// Whether it applies to a container.
    pub fn matches(&self, id: &str, labels: &Labels) -> bool {
        match self {
            Self::Id(own) => own == id,
            Self::Label { key, value } => labels.get(key) == Some(value),
            Self::Service(_) => false,
        }
    }

    pub(super) fn is_service(&self, id: &str) -> bool {
        matches!(self, Self::Service(own) if own == id)
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Id(id) | Self::Service(id) => id.is_empty(),
            Self::Label { key, .. } => key.is_empty(),
        }
    }
}

/// A container's health as a reader sees it, in Docker's words.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Labels {
        /// Added, or replaced if Docker or an earlier rule has the label.
        set: Labels,
        /// Removed if Docker or an earlier rule has the label; the same key in `set` wins.
        unset: BTreeSet<String>,
    },
    /// Applies while Docker reports `starting`, and never again after Docker has reported anything else.
    Health(Health),
    /// The container is in no list and no event, and its inspect answers 404. No later rule ends that. The same for a Swarm
    /// service, whose tasks are in no list either.
    Omit,
    /// The tasks of the Swarm service with this id are listed as those of the one that the rule is on. Has no effect while
    /// none of them runs.
    TasksOf(String),
}

impl Effect {
    /// Makes the change of labels in those of a container.
    pub fn change(&self, labels: &mut Labels) {
        if let Self::Labels { set, unset } = self {
            labels.retain(|key, _| !unset.contains(key));
            labels.extend(set.clone());
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Line")]
pub struct Rule {
    pub on: Match,
    pub effect: Effect,
}

impl Rule {
    pub fn set(on: Match, set: Labels) -> Self {
        let unset = BTreeSet::new();
        let effect = Effect::Labels { set, unset };
        Self { on, effect }
    }

    /// Hides containers from Traefik by a label.
    pub fn hide(on: Match) -> Self {
        Self::set(on, [(ENABLE.to_owned(), "false".to_owned())].into())
    }

    pub fn health(on: Match, health: Health) -> Self {
        let effect = Effect::Health(health);
        Self { on, effect }
    }

    /// Whether it changes nothing, like the rest of a rule whose hiding has ended.
    pub fn is_empty(&self) -> bool {
        matches!(&self.effect, Effect::Labels { set, unset } if set.is_empty() && unset.is_empty())
    }

    pub fn is_on_health(&self) -> bool {
        matches!(self.effect, Effect::Health(_))
    }

    /// Whether it hides containers from Traefik by the label; a later rule may set the label again.
    pub fn hides(&self) -> bool {
        self.effect == Effect::Omit || self.label(ENABLE) == Some(Some("false"))
    }

    /// Whether it takes a container's own routes away, and may give it others: to the public it is hidden.
    pub fn unsets(&self) -> bool {
        matches!(&self.effect, Effect::Labels { unset, .. } if !unset.is_empty())
    }

    /// The labels that it sets, where it is about labels.
    pub fn labels(&self) -> Option<&Labels> {
        match &self.effect {
            Effect::Labels { set, .. } => Some(set),
            Effect::Health(_) | Effect::Omit | Effect::TasksOf(_) => None,
        }
    }

    /// Whether its effect has a meaning on what it is on.
    pub(super) fn fits(&self) -> bool {
        match (&self.on, &self.effect) {
            (Match::Service(_), Effect::TasksOf(other)) => !other.is_empty(),
            (Match::Service(_), effect) => *effect == Effect::Omit,
            (_, effect) => !matches!(effect, Effect::TasksOf(_)),
        }
    }

    /// The change of a label: `Some(None)` removes it, `None` leaves it unchanged.
    pub(super) fn label(&self, key: &str) -> Option<Option<&str>> {
        let Effect::Labels { set, unset } = &self.effect else {
            return None;
        };
        let removed = unset.contains(key).then_some(None);
        set.get(key).map(|value| Some(value.as_str())).or(removed)
    }

    /// Ends the hiding of [`Rule::hides`] and the change of [`Rule::unsets`]; the rest stays.
    pub(super) fn end_hiding(&mut self) {
        match &mut self.effect {
            Effect::Labels { set, unset } if !unset.is_empty() => {
                set.clear();
                unset.clear();
            }
            Effect::Labels { set, .. } => drop(set.remove(ENABLE)),
            Effect::Omit => *self = Self::set(self.on.clone(), Labels::new()),
            Effect::Health(_) | Effect::TasksOf(_) => {}
        }
    }

    /// The first version of the control protocol and of the overlay's file that can express it. An older socket proxy
    /// would ignore a part of the rule.
    pub(super) fn since(&self) -> u32 {
        match &self.effect {
            Effect::Labels { unset, .. } if unset.is_empty() => 1,
            Effect::Health(_) => 1,
            Effect::Labels { .. } | Effect::Omit | Effect::TasksOf(_) => 2,
        }
    }
}

/// A rule in JSON. Version 1 has `on`, `labels` and `health`, and always writes `labels`.
#[derive(Serialize, Deserialize)]
struct Line {
    on: Match,
    #[serde(default)]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unset: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    omit: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tasks_of: Option<String>,
}

impl From<Rule> for Line {
    fn from(rule: Rule) -> Self {
        let mut line = Self {
            on: rule.on,
            labels: Labels::new(),
            health: None,
            unset: BTreeSet::new(),
            omit: false,
            tasks_of: None,
        };
        match rule.effect {
            Effect::Labels { set, unset } => (line.labels, line.unset) = (set, unset),
            Effect::Health(health) => line.health = Some(health),
            Effect::Omit => line.omit = true,
            Effect::TasksOf(other) => line.tasks_of = Some(other),
        }
        line
    }
}

impl Line {
    // A line of version 1 may have labels and health at once.
    fn rules(self) -> impl Iterator<Item = Rule> {
        let Self {
            on,
            labels: set,
            health,
            unset,
            omit,
            tasks_of,
        } = self;
        let health = health.map(Effect::Health);
        let omit = omit.then_some(Effect::Omit);
        let tasks_of = tasks_of.map(Effect::TasksOf);
        let is_empty = set.is_empty() && unset.is_empty();
        let other = health.is_some() || omit.is_some() || tasks_of.is_some();
        let labels = (!is_empty || !other).then_some(Effect::Labels { set, unset });
        let effects = [labels, health, omit, tasks_of].into_iter().flatten();
        effects.map(move |effect| Rule {
            on: on.clone(),
            effect,
        })
    }
}

/// Reads the rules of a claim; one object of version 1 may be several rules.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let lines = Vec::<Line>::deserialize(deserializer)?;
    Ok(lines.into_iter().flat_map(Line::rules).collect())
}
