//! The view's rules: which requests of Docker's API it changes, refuses and passes. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::form_urlencoded;

use super::volumes::{self, Volume};
pub use crate::model::label::{
    COMPOSE_ONEOFF as LABEL_ONE_OFF, COMPOSE_PROJECT as LABEL_PROJECT,
    COMPOSE_SERVICE as LABEL_SERVICE, NAME as LABEL_NAME, ROLLOUT as LABEL_ROLLOUT,
};
use crate::{model::label, overlay::ENABLE};

/// The service of a view, and its new containers.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    pub project: String,
    pub service: String,
    /// The rollout that creates a new set; Compose does not see other containers of the service. `None`: Compose replaces
    /// the containers of the service itself.
    pub rollout: Option<String>,
    /// Labels that every new container gets.
    pub labels: BTreeMap<String, String>,
    /// Volumes that new containers take over, by container number.
    pub volumes: BTreeMap<u32, Vec<Volume>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Forwarded unchanged.
    Pass,
    /// The list of containers, whose answer is filtered.
    List,
    /// The creation of a container, whose request is rewritten.
    Create,
    /// The start of any container.
    Start,
    /// A change of one container, allowed only for those of this rollout.
    Change {
        /// Completes "to … the container".
        verb: &'static str,
        /// Id or name, as in the path.
        container: String,
    },
    /// The creation of a network, which the body names.
    CreateNetwork,
    /// The body names the container.
    Disconnect,
    /// Always refused; the text completes "to …".
    Never(String),
}

/// The path may begin with a version such as `/v1.41`.
pub fn route(method: &str, path: &str) -> Route {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let segments = match segments.split_first() {
        Some((first, rest)) if is_version(first) => rest,
        _ => &segments,
    };
    let change = |verb, container: &str| Route::Change {
        verb,
        container: container.to_owned(),
    };
    match (method, segments) {
        ("GET", ["containers", "json"]) => Route::List,
        ("POST", ["containers", "create"]) => Route::Create,
        ("POST", ["containers", _, "start"]) => Route::Start,
        ("DELETE", ["containers", id]) => change("remove", id),
        ("PUT", ["containers", id, "archive"]) => change("write into", id),
        ("POST", ["containers", id, action]) => {
            changing(action).map_or(Route::Pass, |verb| change(verb, id))
        }
        ("POST", ["networks", "create"]) => Route::CreateNetwork,
        ("POST", ["networks", _, "disconnect"]) => Route::Disconnect,
        ("DELETE", ["networks", name]) => Route::Never(format!("remove network {name}")),
        ("DELETE", ["volumes", name]) => Route::Never(format!("remove volume {name}")),
        ("POST", [kind, "prune"]) => Route::Never(format!("prune {kind}")),
        _ => Route::Pass,
    }
}

/// The actions under `/containers/{id}/` that change a running container.
fn changing(action: &str) -> Option<&'static str> {
    [
        "stop", "kill", "rename", "update", "restart", "pause", "unpause",
    ]
    .into_iter()
    .find(|known| *known == action)
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(major, minor)| {
            [major, minor]
                .iter()
                .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
}

impl Subject {
    /// True for the labels of any container of the service.
    fn is_of_service(&self, labels: &Value) -> bool {
        labels[LABEL_PROJECT] == *self.project && labels[LABEL_SERVICE] == *self.service
    }

    /// True if Compose may change a container with these labels.
    pub fn owns(&self, labels: &Value) -> bool {
        let rollout = self.rollout.as_ref();
        self.is_of_service(labels) && rollout.is_none_or(|own| labels[LABEL_ROLLOUT] == **own)
    }

    /// Removes the service's earlier containers from the answer to `/containers/json`; `None` where it is not a list.
    pub fn visible(&self, list: &[u8]) -> Option<Vec<u8>> {
        let list: Vec<Value> = serde_json::from_slice(list).ok()?;
        let visible: Vec<Value> = list
            .into_iter()
            .filter(|container| {
                let labels = &container["Labels"];
                let is_one_off = labels[LABEL_ONE_OFF] == "True";
                !self.is_of_service(labels) || self.owns(labels) || is_one_off
            })
            .collect();
        serde_json::to_vec(&visible).ok()
    }

    /// The query and body for the engine; the error is a refusal that completes "to …".
    pub fn creation(&self, query: &str, body: &[u8]) -> Result<(String, Vec<u8>), String> {
        let name = query_value(query, "name").unwrap_or_default();
        let mut body: Value =
            serde_json::from_slice(body).map_err(|_| format!("create container {name}"))?;
        if !self.is_of_service(&body["Labels"]) {
            let service = body["Labels"][LABEL_SERVICE].as_str().unwrap_or("another");
            return Err(format!(
                "create container {name}: it belongs to service {service}, not to {}",
                self.service
            ));
        }
        let Some(rollout) = &self.rollout else {
            return Ok((query.to_owned(), body.to_string().into_bytes()));
        };
        let temporary = || with_query_value(query, "name", &temporary_name(&name, rollout));
        let query = match is_one_off(&body["Labels"]) {
            true => {
                adapt_hook(&mut body, rollout);
                match name.is_empty() {
                    true => query.to_owned(),
                    false => temporary(),
                }
            }
            false => {
                label(&mut body, &self.labels, &name, rollout);
                self.take_over_volumes(&mut body);
                temporary()
            }
        };
        Ok((query, body.to_string().into_bytes()))
    }

    fn take_over_volumes(&self, body: &mut Value) {
        let number = body["Labels"][label::COMPOSE_NUMBER].as_str();
        let number = number.and_then(|text| text.parse().ok());
        if let Some(own) = number.and_then(|number: u32| self.volumes.get(&number))
            && (body["HostConfig"].is_object() || body["HostConfig"].is_null())
        {
            volumes::mount(body, own);
        }
    }
}

/// True for the labels of a container that runs a hook or another command, and is no replica.
pub fn is_one_off(labels: &Value) -> bool {
    label::is_one_off(|key| labels[key].as_str())
}

/// Marks a hook's container for removal by the rollout, and hides it from the proxy.
fn adapt_hook(body: &mut Value, rollout: &str) {
    if let Some(labels) = body["Labels"].as_object_mut() {
        labels.retain(|key, _| !key.to_ascii_lowercase().starts_with("traefik."));
        labels.insert(ENABLE.to_owned(), Value::from("false"));
        labels.insert(LABEL_ROLLOUT.to_owned(), Value::from(rollout));
    }
    // The rollout reads its log after it has ended.
    if body["HostConfig"].is_object() {
        body["HostConfig"]["AutoRemove"] = Value::from(false);
    }
}

/// The name of a new replica until the old one with its final name is removed.
pub fn temporary_name(name: &str, rollout: &str) -> String {
    format!("{name}.{rollout}")
}

/// True if the engine accepts the container name (its `RestrictedNamePattern`).
pub fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() > 1
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn label(body: &mut Value, ours: &BTreeMap<String, String>, name: &str, rollout: &str) {
    let empty = Value::Object(Map::new());
    let labels = &mut body["Labels"];
    if !labels.is_object() {
        *labels = empty;
    }
    for (key, value) in ours {
        labels[key.as_str()] = Value::from(value.as_str());
    }
    labels[LABEL_ROLLOUT] = Value::from(rollout);
    labels[LABEL_NAME] = Value::from(name);
}

fn query_value(query: &str, key: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == key)
        .map(|(_, value)| value.into_owned())
}

fn with_query_value(query: &str, key: &str, value: &str) -> String {
    let others = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found != key);
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair(key, value)
        .finish()
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
