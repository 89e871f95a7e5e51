//! The facts that the checks look at. They are gathered beforehand.

use std::{collections::BTreeMap, fmt};

use crate::{
    compose::{Project, Service},
    docker::engine::{About, Image, shared::Joined},
    error::Error,
    here::LostBind,
    model::Replica,
    proxy::{
        Bypass, Hazard,
        socket_proxies::OtherVersion,
        traefik::{
            config::{Holder, StaticConfig, Version},
            labels::Neighbour,
        },
    },
    roll::Way,
    settings::Settings,
};

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub engine: About,
    pub compose: String,
    pub project: Project,
    /// Every Traefik that shares a network with one of the services.
    pub traefiks: Vec<TraefikFacts>,
    /// Every socket proxy that runs on the engine.
    pub socket_proxies: Vec<SocketProxyFacts>,
    /// Those of another version than this program.
    pub other_versions: Vec<OtherVersion>,
    /// The services that were asked for.
    pub services: Vec<ServiceFacts>,
}

#[derive(Clone, Debug)]
pub struct TraefikFacts {
    /// The name of its container.
    pub name: String,
    /// Its service, if it is in the same project.
    pub service: Option<String>,
    /// The folder of its project, if that is another one.
    pub folder: Option<String>,
    /// From its API, else from its image.
    pub version: Option<Version>,
    pub reads: Reads,
    /// Its socket proxy shows it every container.
    pub sees_all: bool,
    /// It has `DOCKER_HOST`, which its version ignores.
    pub is_deaf: bool,
    pub config: StaticConfig,
    /// Why its configuration file could not be read.
    pub unread: Option<String>,
    /// Where a pin file would be, or why none is possible.
    pub pin: Result<String, Error>,
    /// Where its API answers, or why it does not.
    pub api: Result<String, Error>,
    /// Whether it is in the host's network.
    pub in_host_network: bool,
    /// The container whose network namespace it is in.
    pub holder: Option<Holder>,
    /// The socket proxy that its Swarm provider reads through, by the name of its container.
    pub swarm_through: Option<String>,
}

/// How a Traefik reads Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Through this socket proxy, by an open event stream.
    SocketProxy(String),
    /// From a socket at this path in its container.
    Socket(String),
    /// From another endpoint.
    Other(String),
    Nothing,
}

#[derive(Clone, Debug)]
pub struct SocketProxyFacts {
    /// The name of its container.
    pub name: String,
    /// Its service, if it is in the same project.
    pub service: Option<String>,
    /// Whether it rejects the reads of Traefik's Swarm provider.
    pub rejects_swarm: bool,
}

/// The part in rollouts of a service that is not rolled itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Traefik,
    SocketProxy,
}

#[derive(Clone, Debug)]
pub struct ServiceFacts {
    pub service: Service,
    /// Its part in rollouts of others.
    pub part: Option<Part>,
    /// How it would be rolled.
    pub settings: Settings,
    /// How many replicas it would have.
    pub replicas: u32,
    /// Whether it runs to completion, and others wait for that.
    pub runs_once: bool,
    pub olds: Vec<Replica>,
    pub image: Image,
    /// The paths of programs in its containers that can request a page.
    pub programs: Option<Vec<String>>,
    /// The labels of its new version.
    pub labels: BTreeMap<String, String>,
    /// Whether they ask for Traefik.
    pub is_labelled: bool,
    /// Whether no Traefik shares a network with it.
    pub is_alone: bool,
    /// The Traefiks in front of it, by name.
    pub fronts: Vec<String>,
    /// How its traffic would be moved, or why it cannot be.
    pub way: Result<Way, Error>,
    /// Parts of Traefik that reach it but not through the router of its labels.
    pub bypasses: Vec<Bypass>,
    /// Servers of other services of its Traefiks that fail their health check.
    pub hazards: Vec<Hazard>,
    /// Containers of other services behind the same Traefik, and the new versions of those that are examined before.
    pub neighbours: Vec<Neighbour>,
    /// Containers that use namespaces or volumes of its containers.
    pub joined: Vec<Joined>,
    /// Why a rollout would be refused.
    pub refused: Option<Error>,
    /// The holder of its lock, and whether its lease is still renewed.
    pub lock: Option<(String, bool)>,
    /// Folders that have another path for the engine.
    pub lost_binds: Vec<LostBind>,
    pub unfinished: Option<String>,
}

impl ServiceFacts {
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// Whether a proxy routes to it, or should.
    pub fn is_routed(&self) -> bool {
        self.is_labelled || self.way.as_ref().is_ok_and(|way| way.routes)
    }

    /// Whether two sets of it would run side by side.
    pub fn runs_twice(&self) -> bool {
        self.settings.strategy != crate::settings::Strategy::Recreate
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traefik => "the Traefik that rollouts go through",
            Self::SocketProxy => "the socket proxy that rollouts go through",
        })
    }
}
