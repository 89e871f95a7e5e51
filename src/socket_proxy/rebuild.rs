//! Rebuilds answers from the fields named here and in [`swarm`]; all other fields of Docker's answers are dropped. Pure.
//!
//! The fields are those that Traefik reads (`pkg/provider/docker/shared.go`, v3.7), and ids and names.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::overlay::{Health, Labels, Overlay};

/// The label of rollout's own containers (locks, helpers): readers never see them.
pub const OWN: &str = "io.rollout.role";
/// Traefik's label for containers that are routed although they do not run.
const ALLOW_NON_RUNNING: &str = "traefik.docker.allownonrunning";
/// A digest of secrets, from which a weak secret could be guessed.
pub const DIGEST: &str = crate::model::label::DIGEST;

// Docker writes null for what is empty.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! docker {
    ($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $(#[doc = "As in Docker's API."] $(#[$meta])* #[serde(deserialize_with = "nullable")] pub $field: $type),*
        }
    };
}

pub mod swarm;

docker!(
    /// `GET /version`
    Version {
        version: String,
        api_version: String,
        #[serde(rename = "MinAPIVersion")]
        min_api_version: String,
        os: String,
        arch: String,
    }
);

docker!(
    /// `GET /containers/{id}/json`
    Inspect {
        id: String,
        name: String,
        created: String,
        state: State,
        host_config: HostConfig,
        config: Config,
        network_settings: InspectNetworks,
    }
);

docker!(
    /// Traefik needs it for every container.
    State {
        status: String,
        running: bool,
        paused: bool,
        restarting: bool,
        dead: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        health: Option<HealthState>,
    }
);

docker!(
    /// Without the log, which contains the output of the check.
    HealthState { status: String }
);

docker!(
    /// Without mounts and limits.
    HostConfig { network_mode: String }
);

docker!(
    /// The labels alone: the environment and the command often contain secrets.
    Config { labels: Labels }
);

docker!(
    /// Ports and networks of an inspected container.
    InspectNetworks {
        ports: BTreeMap<String, Option<Vec<PortBinding>>>,
        networks: BTreeMap<String, Endpoint>,
    }
);

docker!(
    /// Where a port is published.
    PortBinding { host_ip: String, host_port: String }
);

docker!(
    /// A container on a network.
    Endpoint {
        #[serde(rename = "NetworkID")]
        network_id: String,
        #[serde(rename = "IPAddress")]
        ip_address: String,
        #[serde(rename = "GlobalIPv6Address")]
        global_ipv6_address: String,
    }
);

docker!(
    /// One line of `GET /containers/json`
    Listed {
        id: String,
        names: Vec<String>,
        labels: Labels,
        state: String,
        status: String,
        host_config: HostConfig,
        network_settings: ListNetworks,
        ports: Vec<Port>,
    }
);

docker!(
    /// Networks of a listed container.
    ListNetworks { networks: BTreeMap<String, Endpoint> }
);

docker!(
    /// A port of a listed container.
    Port {
        #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
        ip: String,
        private_port: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        public_port: Option<u16>,
        r#type: String,
    }
);

docker!(
    /// `GET /networks/{id}`, and one line of `GET /networks`
    Network {
        id: String,
        name: String,
        driver: String,
        scope: String,
        internal: bool,
        attachable: bool,
        ingress: bool,
        labels: Labels,
    }
);

impl Inspect {
    /// The container as readers see it; `None` for rollout's own containers.
    pub fn for_reader(mut self, overlay: &Overlay) -> Option<Self> {
        if self.config.labels.contains_key(OWN) {
            return None;
        }
        self.config.labels.remove(DIGEST);
        let starting = self.starting();
        let health = overlay.apply(&self.id, &mut self.config.labels, starting);
        if let (Some(health), Some(state)) = (health, &mut self.state.health) {
            state.status = health.as_str().to_owned();
        }
        Some(self)
    }

    /// Whether the first health check has not passed yet.
    pub fn starting(&self) -> bool {
        self.health() == Some(Health::Starting.as_str())
    }

    /// Whether Docker has a result of its health check.
    pub fn checked(&self) -> bool {
        let verdicts = [Health::Healthy, Health::Unhealthy].map(Health::as_str);
        self.health()
            .is_some_and(|health| verdicts.contains(&health))
    }

    fn health(&self) -> Option<&str> {
        let health = self.state.health.as_ref()?;
        Some(&health.status)
    }
}

impl Listed {
    /// The container as readers see it; `None` for rollout's own containers, omitted ones, and those that Traefik would
    /// inspect and then drop.
    pub fn for_reader(mut self, overlay: &Overlay) -> Option<Self> {
        const STARTING: &str = "(health: starting)";
        if self.labels.contains_key(OWN) || overlay.omits(&self.id, &self.labels) {
            return None;
        }
        self.labels.remove(DIGEST);
        let starting = self.status.ends_with(STARTING);
        let health = match overlay.apply(&self.id, &mut self.labels, starting) {
            Some(Health::Healthy) => "(healthy)",
            Some(Health::Unhealthy) => "(unhealthy)",
            Some(Health::Starting) | None => STARTING,
        };
        self.status = self.status.replace(STARTING, health);
        self.may_be_kept().then_some(self)
    }

    /// The id of the container whose network it joins.
    pub fn joined(&self) -> Option<String> {
        let mode = self.host_config.network_mode.strip_prefix("container:");
        mode.map(str::to_owned)
    }

    // Traefik drops a container that does not run, unless this label is true (`keepContainer`, v3.6); Traefik itself
    // decides what another value means. When a container starts, its event makes readers list again.
    fn may_be_kept(&self) -> bool {
        let ended = ["created", "exited", "dead"].contains(&self.state.as_str());
        let allowed = |key: &String| key.eq_ignore_ascii_case(ALLOW_NON_RUNNING);
        !ended || self.labels.keys().any(allowed)
    }
}

#[cfg(test)]
#[path = "rebuild_tests.rs"]
mod tests;
