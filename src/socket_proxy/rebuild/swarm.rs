//! Rebuilds the answers about Swarm: services without their containers' specification, tasks, nodes, and this node's part.
//! Pure.
//!
//! The fields are those that Traefik reads (`pkg/provider/docker/pswarm.go`, v3.7), and ids and names.

use serde::{Deserialize, Serialize};

use super::{DIGEST, OWN, nullable};
use crate::{
    overlay::{Labels, Overlay},
    socket_proxy::only::{self, Wanted},
};

docker!(
    /// `GET /services/{id}`, and one element of `GET /services`
    Service {
        #[serde(rename = "ID")]
        id: String,
        version: Index,
        spec: ServiceSpec,
        endpoint: ServiceEndpoint,
    }
);

docker!(
    /// The number of the last change.
    Index { index: u64 }
);

docker!(
    /// Without the template of its tasks, which contains environment, commands, mounts, secrets and configs.
    ServiceSpec {
        name: String,
        labels: Labels,
        mode: Mode,
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint_spec: Option<EndpointSpec>,
    }
);

docker!(
    /// Jobs have neither.
    Mode {
        #[serde(skip_serializing_if = "Option::is_none")]
        replicated: Option<Replicated>,
        #[serde(skip_serializing_if = "Option::is_none")]
        global: Option<Global>,
    }
);

docker!(
    /// A service with a number of replicas.
    Replicated {
        #[serde(skip_serializing_if = "Option::is_none")]
        replicas: Option<u64>,
    }
);

docker!(
    /// A service with one replica on each node.
    Global {}
);

docker!(
    /// How its name is resolved: `vip` or `dnsrr`.
    EndpointSpec { mode: String }
);

docker!(
    /// Where the service is reached.
    ServiceEndpoint {
        ports: Vec<ServicePort>,
        #[serde(rename = "VirtualIPs")]
        virtual_ips: Vec<VirtualIp>,
    }
);

docker!(
    /// A published port.
    ServicePort {
        protocol: String,
        target_port: u32,
        published_port: u32,
        publish_mode: String,
    }
);

docker!(
    /// An address with its prefix, such as `10.0.1.2/24`.
    VirtualIp {
        #[serde(rename = "NetworkID")]
        network_id: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        addr: String,
    }
);

docker!(
    /// One element of `GET /tasks`
    Task {
        #[serde(rename = "ID")]
        id: String,
        version: Index,
        #[serde(rename = "ServiceID")]
        service_id: String,
        #[serde(rename = "NodeID")]
        node_id: String,
        slot: u64,
        status: TaskStatus,
        desired_state: String,
        networks_attachments: Vec<Attachment>,
    }
);

docker!(
    /// Without messages and errors, which may contain output. An empty time would be no time.
    TaskStatus {
        #[serde(skip_serializing_if = "String::is_empty")]
        timestamp: String,
        state: String,
    }
);

docker!(
    /// A task on a network.
    Attachment {
        network: AttachedNetwork,
        addresses: Vec<String>,
    }
);

docker!(
    /// The network of a task.
    AttachedNetwork {
        #[serde(rename = "ID")]
        id: String,
        spec: NetworkSpec,
    }
);

docker!(
    /// Without driver options.
    NetworkSpec { name: String }
);

docker!(
    /// `GET /nodes/{id}`, and one element of `GET /nodes`
    Node {
        #[serde(rename = "ID")]
        id: String,
        version: Index,
        spec: NodeSpec,
        description: Description,
        status: NodeStatus,
    }
);

docker!(
    /// Without labels.
    NodeSpec { role: String, availability: String }
);

docker!(
    /// Without certificates, resources and plugins.
    Description { hostname: String }
);

docker!(
    /// Where the node is reached.
    NodeStatus { addr: String }
);

docker!(
    /// `GET /info`: Swarm alone.
    Info { swarm: Membership }
);

docker!(
    /// This node's part in Swarm, without the cluster's certificates and the addresses of managers.
    Membership {
        #[serde(rename = "NodeID")]
        node_id: String,
        node_addr: String,
        local_node_state: String,
        control_available: bool,
    }
);

impl Service {
    /// The service as readers see it; `None` for rollout's own services, omitted ones, and those that `only` leaves out.
    pub fn for_reader(mut self, overlay: &Overlay, only: &[Wanted]) -> Option<Self> {
        let labels = &mut self.spec.labels;
        let out = labels.contains_key(OWN) || overlay.omits_service(&self.id);
        if out || !only::admits(only, labels) {
            return None;
        }
        labels.remove(DIGEST);
        Some(self)
    }
}

impl Task {
    pub fn runs(&self) -> bool {
        self.status.state == "running"
    }
}

#[cfg(test)]
#[path = "swarm_tests.rs"]
mod tests;
