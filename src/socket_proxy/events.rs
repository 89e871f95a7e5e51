//! Events: rebuilds those of Docker's that readers may see, and builds the nudge, which makes a reader list again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    rebuild::OWN,
    request::{Filters, Query},
};
use crate::overlay::{Labels, Overlay};

/// The longest line of the engine's stream, in bytes. An event contains all labels of its container.
pub const MAX_LINE: usize = 1024 * 1024;
/// Events that wait for a slow reader; more of them are replaced by one nudge.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Containers whose last health event is kept.
const MAX_VERDICTS: usize = 4096;

/// The actions that pass, and `health_status…`.
const PASSING: [&str; 4] = ["start", "die", "stop", "destroy"];
const HEALTH: &str = "health_status";
/// Podman's names of some actions, in the stream or only in filters, and Docker's names.
const ALIASES: [(&str, &str); 2] = [("died", "die"), ("remove", "destroy")];

/// An event of a container, with an action that passes.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// `start`, `die`, `stop`, `destroy` or `health_status…`.
    pub action: String,
    pub id: String,
    /// The container's labels, and further attributes from Docker, such as `name`.
    pub attributes: Labels,
    time: i64,
    time_nano: i64,
}

impl Event {
    /// Reads a line of the engine's stream; `None` is an event of another kind.
    pub fn parse(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Actor {
            #[serde(rename = "ID", default)]
            id: String,
            #[serde(rename = "Attributes", default)]
            attributes: Option<Labels>,
        }
        #[derive(Deserialize)]
        struct Line {
            #[serde(rename = "Type", default)]
            kind: String,
            #[serde(rename = "Action", default)]
            action: String,
            #[serde(rename = "Actor")]
            actor: Actor,
            #[serde(default)]
            time: i64,
            #[serde(rename = "timeNano", default)]
            time_nano: i64,
            /// The health as Podman writes it; Docker appends it to the action.
            #[serde(rename = "HealthStatus", default)]
            verdict: String,
        }
        let mut line: Line = serde_json::from_str(line).ok()?;
        if let Some((_, action)) = ALIASES.iter().find(|(alias, _)| *alias == line.action) {
            line.action = (*action).to_owned();
        }
        if line.action == HEALTH && !line.verdict.is_empty() {
            line.action = format!("{HEALTH}: {}", line.verdict);
        }
        let passes = PASSING.contains(&line.action.as_str()) || is_health(&line.action);
        (line.kind == "container" && passes).then(|| Self {
            action: line.action,
            id: line.actor.id,
            attributes: line.actor.attributes.unwrap_or_default(),
            time: line.time,
            time_nano: line.time_nano,
        })
    }

    /// Whether the event is about the container's health.
    pub fn is_health(&self) -> bool {
        is_health(&self.action)
    }

    /// Whether a reader loses a server by this event while hidden containers of the same service could take over.
    pub fn is_a_loss_that_may_be_made_good(&self, overlay: &Overlay) -> bool {
        let ends = matches!(self.action.as_str(), "die" | "stop" | "destroy");
        let ails = self.action == "health_status: unhealthy";
        (ends || ails)
            && !overlay.hides(&self.id, &self.attributes)
            && service_key(&self.attributes).is_some_and(|key| overlay.may_fall_back(&key))
    }

    /// Whether it only reports that a container is still starting; Podman sends that for each check that fails meanwhile.
    pub fn is_undecided(&self) -> bool {
        self.is_health() && self.action.ends_with(": starting")
    }

    /// The event as readers see it; `None` for rollout's own containers and for hidden ones, whose events would only use up
    /// Traefik's throttle slot.
    pub fn for_reader(&self, overlay: &Overlay) -> Option<Bytes> {
        let hidden = self.attributes.contains_key(OWN) || overlay.hides(&self.id, &self.attributes);
        let name = self.attributes.get("name").map_or("", String::as_str);
        (!hidden).then(|| encode(&self.action, &self.id, name, self.time, self.time_nano))
    }
}

/// The last health event of each container. Podman sends one for every check that runs, and each would use up a slot of
/// Traefik's throttle.
#[derive(Debug, Default)]
pub struct Verdicts(HashMap<String, String>);

impl Verdicts {
    /// Whether an event differs from the container's last one.
    pub fn is_new(&mut self, event: &Event) -> bool {
        if !event.is_health() {
            self.0.remove(&event.id);
            return true;
        }
        if self.0.len() >= MAX_VERDICTS && !self.0.contains_key(&event.id) {
            self.0.clear();
        }
        let before = self.0.insert(event.id.clone(), event.action.clone());
        event.action == HEALTH || before.as_ref() != Some(&event.action)
    }
}

// The action alone, or with Docker's health after it; nothing else.
fn is_health(action: &str) -> bool {
    action.strip_prefix(HEALTH).is_some_and(|rest| {
        rest.is_empty()
            || rest
                .strip_prefix(": ")
                .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
    })
}

/// A nudge: an event of no real container, which makes a reader list again.
pub fn nudge(now: SystemTime) -> Bytes {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let nanos = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let action = format!("{HEALTH}: healthy");
    encode(
        &action,
        &"0".repeat(64),
        "rollout",
        nanos / 1_000_000_000,
        nanos,
    )
}

fn encode(action: &str, id: &str, name: &str, time: i64, time_nano: i64) -> Bytes {
    #[derive(Serialize)]
    struct Shown<'a> {
        status: &'a str,
        id: &'a str,
        #[serde(rename = "Type")]
        kind: &'a str,
        #[serde(rename = "Action")]
        action: &'a str,
        #[serde(rename = "Actor")]
        actor: serde_json::Value,
        scope: &'a str,
        time: i64,
        #[serde(rename = "timeNano")]
        time_nano: i64,
    }
    let shown = Shown {
        status: action,
        id,
        kind: "container",
        action,
        actor: json!({"ID": id, "Attributes": {"name": name}}),
        scope: "local",
        time,
        time_nano,
    };
    let mut line = super::engine::encode(&shown);
    line.push(b'\n');
    line.into()
}

/// Narrows a reader's query to events that can pass; false if it includes no events of containers.
pub fn narrow(query: &mut Query) -> bool {
    let filters: &mut Filters = &mut query.filters;
    let wanted = filters
        .get("type")
        .is_none_or(|kinds| kinds.contains("container"));
    filters.insert("type".to_owned(), ["container".to_owned()].into());
    // The engine sends three events for each health check that runs.
    let passing = || PASSING.into_iter().chain([HEALTH]);
    filters
        .entry("event".to_owned())
        .or_insert_with(|| with_aliases(passing()));
    wanted
}

/// The names of the actions in a filter, for Docker and for Podman.
pub fn with_aliases<'a>(actions: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let alias = |action: &'a str| {
        let aliases = ALIASES.iter().filter(move |(_, own)| *own == action);
        aliases.map(|(alias, _)| *alias).chain([action])
    };
    actions.flat_map(alias).map(str::to_owned).collect()
}

/// The bounded queue of one reader.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    nudge: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Event(Bytes),
    Nudge,
}

impl Queue {
    /// Adds an event; one nudge replaces all of them if there are too many.
    pub fn push(&mut self, event: Bytes) {
        if self.waiting.len() == MAX_WAITING || self.bytes + event.len() > MAX_WAITING_BYTES {
            *self = Self::default();
            self.nudge = true;
            return;
        }
        self.bytes += event.len();
        self.waiting.push_back(event);
    }

    /// Adds a nudge, unless one is queued.
    pub fn nudge(&mut self) {
        self.nudge = true;
    }

    pub fn pop(&mut self) -> Option<Next> {
        if let Some(event) = self.waiting.pop_front() {
            self.bytes -= event.len();
            return Some(Next::Event(event));
        }
        std::mem::take(&mut self.nudge).then_some(Next::Nudge)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.nudge
    }
}

/// The `project/service` of a container that Compose created, except for one-off containers.
pub fn service_key(labels: &BTreeMap<String, String>) -> Option<String> {
    let one_off = labels.get("com.docker.compose.oneoff");
    let project = labels.get("com.docker.compose.project")?;
    let service = labels.get("com.docker.compose.service")?;
    one_off
        .is_none_or(|value| value != "True")
        .then(|| format!("{project}/{service}"))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
