//! The services and tasks of a Swarm, as its manager answers them. The models of bollard lack the addresses of a task.

use std::collections::BTreeMap;

use hyper::{Method, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};

use super::Engine;
use crate::{
    docker::http::{Upstream, empty, read_whole},
    error::{Error, Result},
};

/// The label of what belongs to a stack.
pub const NAMESPACE: &str = "com.docker.stack.namespace";

/// A service of a Swarm.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    #[serde(rename = "ID")]
    pub id: String,
    pub spec: ServiceSpec,
    #[serde(default)]
    pub update_status: Option<UpdateStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSpec {
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub task_template: Value,
    #[serde(default)]
    pub mode: Value,
    #[serde(default)]
    pub update_config: Value,
    #[serde(default)]
    pub endpoint_spec: Value,
}

impl ServiceSpec {
    /// How many tasks it wants; `None` for one on each node.
    pub fn replicas(&self) -> Option<u64> {
        self.mode["Replicated"]["Replicas"].as_u64()
    }

    /// With its digest, where Swarm has found one.
    pub fn image(&self) -> &str {
        let image = self.task_template["ContainerSpec"]["Image"].as_str();
        image.unwrap_or_default()
    }
}

/// A config or a secret.
#[derive(Deserialize)]
struct Kept {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Spec")]
    spec: KeptSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptSpec {
    name: String,
}

/// How far its last update is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateStatus {
    /// `updating`, `completed`, `paused`, `rollback_completed` or the like.
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub message: String,
}

/// One task of a service: the wish for a container, and what has become of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    #[serde(default)]
    pub slot: u64,
    #[serde(rename = "NodeID", default)]
    pub node: String,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: TaskStatus,
    #[serde(default)]
    pub desired_state: String,
    #[serde(default, deserialize_with = "or_default")]
    pub networks_attachments: Vec<Attachment>,
}

impl Task {
    pub fn is_wanted(&self) -> bool {
        self.desired_state == "running"
    }

    pub fn runs(&self) -> bool {
        self.is_wanted() && self.status.state == "running"
    }

    /// Its number in its service, or its node where there is one on each.
    pub fn place(&self) -> String {
        match self.slot {
            0 => self.node.clone(),
            slot => slot.to_string(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskStatus {
    /// `running` once its health check has passed.
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub err: String,
    #[serde(default, deserialize_with = "or_default")]
    pub container_status: ContainerStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerStatus {
    #[serde(rename = "ContainerID", default)]
    pub container: String,
}

/// The addresses of a task in one network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attachment {
    /// With the length of the network's prefix.
    #[serde(default, deserialize_with = "or_default")]
    pub addresses: Vec<String>,
}

/// Go writes what is empty as null.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The manager of a Swarm; clones share its connections.
#[derive(Clone)]
pub struct Swarm(Upstream);

impl Swarm {
    pub fn of(engine: &Engine) -> Self {
        Self(Upstream::new(engine.endpoint().clone()))
    }

    /// The services of a stack; `None` where the engine is no manager of a Swarm.
    pub async fn services(&self, stack: &str) -> Result<Option<Vec<Service>>> {
        let filters = json!({ "label": [format!("{NAMESPACE}={stack}")] });
        let path = format!("/services?filters={}", encoded(&filters));
        match self.call(Method::GET, &path).await? {
            (StatusCode::OK, body) => read(&body, "services").map(Some),
            // Docker without a Swarm, a proxy in front of Docker that forbids it, and Podman.
            (
                StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::NOT_FOUND,
                _,
            ) => Ok(None),
            (_, body) => Err(refused("list services", &body)),
        }
    }

    /// Every task of a service that is kept, those that have ended too; none of one that does not exist any more.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let filters = json!({ "service": [service] });
        let path = format!("/tasks?filters={}", encoded(&filters));
        match self.call(Method::GET, &path).await? {
            (StatusCode::OK, body) => read(&body, "tasks"),
            (StatusCode::NOT_FOUND, _) => Ok(Vec::new()),
            (_, body) => Err(refused("list tasks", &body)),
        }
    }

    /// The ids of all `configs` or `secrets`, by name. Another content has another id.
    pub async fn ids(&self, kind: &str) -> Result<BTreeMap<String, String>> {
        match self.call(Method::GET, &format!("/{kind}")).await? {
            (StatusCode::OK, body) => {
                let all: Vec<Kept> = read(&body, kind)?;
                Ok(all.into_iter().map(|own| (own.spec.name, own.id)).collect())
            }
            (_, body) => Err(refused(&format!("list {kind}"), &body)),
        }
    }

    /// Removes a service. Succeeds if it does not exist.
    pub async fn remove(&self, service: &str) -> Result<()> {
        match self
            .call(Method::DELETE, &format!("/services/{service}"))
            .await?
        {
            (status, _) if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            (_, body) => Err(refused("remove a service", &body)),
        }
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Vec<u8>)> {
        let called = async {
            let request = Request::builder().method(method).uri(path).body(empty())?;
            let response = self.0.send(request).await?;
            let status = response.status();
            Ok((status, read_whole(response.into_body()).await?.to_vec()))
        };
        let called: Result<_, crate::docker::http::BoxError> = called.await;
        called.map_err(|error| Error::failed(format!("the Docker engine does not answer: {error}")))
    }
}

fn encoded(filters: &Value) -> String {
    utf8_percent_encode(&filters.to_string(), NON_ALPHANUMERIC).to_string()
}

fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::failed(format!(
            "the engine's list of {what} cannot be read: {error}"
        ))
    })
}

fn refused(doing: &str, body: &[u8]) -> Error {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let why = answer["message"].as_str().unwrap_or("no reason given");
    Error::failed(format!("failed to {doing}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_with_what_go_leaves_out_or_writes_as_null() {
        let full = json!([{
            "ID": "t", "Slot": 2, "Spec": {"ContainerSpec": {"Image": "a"}}, "DesiredState": "running",
            "Status": {"State": "running", "ContainerStatus": {"ContainerID": "c"}},
            "NetworksAttachments": [{"Network": {"ID": "n"}, "Addresses": ["10.0.1.4/24"]}],
        }]);
        let tasks: Vec<Task> = read(full.to_string().as_bytes(), "tasks").unwrap();
        assert_eq!(tasks[0].networks_attachments[0].addresses, ["10.0.1.4/24"]);
        assert_eq!(tasks[0].status.container_status.container, "c");
        let bare = json!([{"NetworksAttachments": null, "Status": {"State": "pending", "Err": "no suitable node", "ContainerStatus": null}}]);
        let tasks: Vec<Task> = read(bare.to_string().as_bytes(), "tasks").unwrap();
        assert_eq!(tasks[0].status.err, "no suitable node");
        assert!(tasks[0].networks_attachments.is_empty());
    }

    #[test]
    fn a_service_on_each_node_wants_no_number_of_tasks() {
        let spec = |mode| ServiceSpec {
            mode,
            ..ServiceSpec::default()
        };
        assert_eq!(
            spec(json!({"Replicated": {"Replicas": 3}})).replicas(),
            Some(3)
        );
        assert_eq!(spec(json!({"Global": {}})).replicas(), None);
    }
}
