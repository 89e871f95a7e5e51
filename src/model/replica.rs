//! One container of a Compose service, as the engine reports it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ContainerId, RolloutId};

/// One container of a Compose service, one-offs aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    pub id: ContainerId,
    /// Its name now, without a slash.
    pub name: String,
    /// Its final name, if a rollout gave it a temporary one.
    pub final_name: Option<String>,
    /// The rollout that created it; `None` for what Compose itself made.
    pub rollout: Option<RolloutId>,
    /// How many replicas that rollout wanted.
    pub wanted: Option<u32>,
    /// Its batch of a rolling update, from 1.
    pub batch: Option<u16>,
    /// The revision it runs, where known.
    pub revision: Option<u64>,
    pub run: Run,
    pub health: Health,
    /// How often its restart policy has started it again.
    pub restarts: i64,
    /// The kernel has ended a process in it for want of memory, in this life of the container.
    pub oom_killed: bool,
    /// When it last started, as the engine wrote it (RFC 3339); names one life of the container.
    pub started_at: String,
    /// The image it runs, by id.
    pub image: String,
    /// The image that was asked for, as the engine has kept it.
    pub reference: String,
    pub hash: String,
    /// Our digest of configs and secrets, where it has one.
    pub digest: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The engine's names of its networks.
    pub networks: Vec<String>,
    /// Its address in each network.
    pub addresses: Vec<IpAddr>,
    /// Network → its address there, IPv4 where it has both.
    pub endpoints: BTreeMap<String, IpAddr>,
    /// Network → the names by which it is found there.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// TCP ports that its image or its service exposes.
    pub ports: Vec<u16>,
    /// The lowest port that they expose, UDP ones among them.
    pub lowest_port: Option<u16>,
    /// Where its ports are published on a certain address of the engine's machine.
    pub published: BTreeSet<SocketAddr>,
    /// Whether it has no network of its own, but the host's or another container's.
    pub borrows_network: bool,
    /// How Docker checks its health, where it does.
    pub check: Option<HealthCheck>,
    /// The last lines of what that check printed, where it failed the last time.
    pub complaint: Option<String>,
}

impl Replica {
    /// Whether its process runs, or may run again by its restart policy.
    pub fn may_run(&self) -> bool {
        !matches!(self.run, Run::Exited | Run::Created)
    }

    /// Whether its process runs and Docker does not call it unhealthy.
    pub fn serves(&self) -> bool {
        self.run == Run::Running && self.health != Health::Unhealthy
    }

    /// The longest time until Docker has its first health result.
    pub fn undecided_for(&self) -> Duration {
        let check = self
            .check
            .as_ref()
            .filter(|_| self.health == Health::Starting);
        check.map_or(Duration::ZERO, |check| check.interval + check.timeout)
    }

    /// The text with the output of its failing health check.
    pub fn with_complaint(&self, said: &str) -> String {
        match &self.complaint {
            Some(complaint) => format!("{said} (health check: {complaint})"),
            None => said.to_owned(),
        }
    }

    pub fn target_name(&self) -> &str {
        self.final_name.as_deref().unwrap_or(&self.name)
    }
}

/// What the engine says a container is doing (`State.Status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// Made, never started.
    #[default]
    Created,
    Running,
    /// Between two starts of its restart policy.
    Restarting,
    Paused,
    /// Ended, or on its way out.
    Exited,
}

/// What Docker's health check says (`State.Health.Status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The container has no health check.
    #[default]
    None,
    /// No verdict yet.
    Starting,
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}

/// The health check of a container (`Config.Healthcheck`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// The command to exec, `CMD-SHELL` already unfolded.
    pub command: Vec<String>,
    /// How long Docker waits between two checks.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}
