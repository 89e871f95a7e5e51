//! What is on the engine, read once for every service of a run: containers, and the socket proxies among them.

use std::{collections::BTreeMap, sync::Arc};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};
use futures_util::future::join_all;
use tokio::{sync::OnceCell, time::Instant};

use super::{
    socket_proxies::{OtherVersion, SocketProxy, among, showing},
    traefik::{
        api::{Api, Apis},
        config::{Inspected, TraefikContainer, looks_like_traefik},
    },
};
use crate::{
    docker::engine::{Engine, shared},
    error::Result,
    model::ServiceKey,
    overlay::{Overlay, control::Reader},
    settings::Settings,
};

pub struct Landscape {
    pub engine: Engine,
    project: String,
    /// When it was read, by our own clock.
    pub read_at: Instant,
    /// The engine's clock, in milliseconds.
    pub clock_ms: u64,
    /// Every container in whatever state.
    pub containers: Vec<ContainerSummary>,
    /// Those that run; one in another container's network namespace has that one's networks.
    pub running: Vec<ContainerSummary>,
    /// The socket proxies that run, those of the project first.
    pub socket_proxies: Vec<SocketProxy>,
    /// What each socket proxy answers, by its container.
    answers: BTreeMap<String, Answers>,
    /// The Traefiks that are inspected already.
    pub(super) traefiks: Inspected,
    /// Their APIs that are reached already.
    apis: Apis,
}

/// What one socket proxy answers; asked when it is first needed, and again after an error.
#[derive(Default)]
struct Answers {
    readers: OnceCell<Vec<Reader>>,
    overlay: OnceCell<Overlay>,
}

/// Every container of an engine, in whatever state.
pub struct Listed {
    at: Instant,
    pub containers: Vec<ContainerSummary>,
}

impl Listed {
    pub async fn read(engine: &Engine) -> Result<Self> {
        let at = Instant::now();
        let containers = engine.containers().await?;
        Ok(Self { at, containers })
    }
}

impl Landscape {
    /// `project` is the one whose services are rolled.
    pub async fn read(engine: &Engine, project: &str) -> Result<Self> {
        Self::of(engine, Listed::read(engine).await?, project).await
    }

    /// The same, where the containers were listed already.
    pub async fn of(engine: &Engine, listed: Listed, project: &str) -> Result<Self> {
        let Listed { at, containers } = listed;
        let running = containers.iter().filter(|own| runs(own)).cloned().collect();
        let running = shared::with_networks(running);
        let socket_proxies = among(engine, &running, project).await?;
        let container = |own: &SocketProxy| (own.control.container.clone(), Answers::default());
        Ok(Self {
            engine: engine.clone(),
            read_at: at,
            project: project.to_owned(),
            clock_ms: engine.clock_ms().await,
            answers: socket_proxies.iter().map(container).collect(),
            containers,
            running,
            socket_proxies,
            traefiks: Inspected::default(),
            apis: Apis::default(),
        })
    }

    /// Reads all of it again.
    pub async fn refresh(&mut self) -> Result<()> {
        *self = Self::read(&self.engine, &self.project).await?;
        Ok(())
    }

    /// How many replicas a service has, in whatever state.
    pub fn count(&self, key: &ServiceKey) -> usize {
        shared::of_service(&self.containers, key).count()
    }

    /// An image that a container has, for one that is never started.
    pub fn any_image(&self) -> Option<String> {
        let all = self.running.iter().chain(&self.containers);
        all.filter_map(|own| own.image_id.clone()).next()
    }

    /// Whether containers of a service carry the traffic of rollouts: a Traefik, or a socket proxy.
    pub fn carries_traffic(&self, key: &ServiceKey) -> bool {
        let mut own = shared::of_service(&self.containers, key);
        own.any(|own| {
            let mut proxies = self.socket_proxies.iter();
            looks_like_traefik(own)
                || proxies.any(|found| own.id.as_ref() == Some(&found.control.container))
        })
    }

    async fn readers(&self, found: &SocketProxy) -> Result<Vec<Reader>> {
        let ask = || found.control.readers();
        match self.answers.get(&found.control.container) {
            Some(own) => own.readers.get_or_try_init(ask).await.cloned(),
            None => ask().await,
        }
    }

    /// What a socket proxy changes in its answers.
    pub async fn overlay(&self, found: &SocketProxy) -> Result<Overlay> {
        let ask = || found.control.overlay();
        match self.answers.get(&found.control.container) {
            Some(own) => own.overlay.get_or_try_init(ask).await.cloned(),
            None => ask().await,
        }
    }

    /// The socket proxies of another version than this program, among those that can show the project.
    pub async fn other_versions(&self) -> Vec<OtherVersion> {
        let asked = showing(&self.socket_proxies).map(|own| own.other_version(&self.project));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The API of a Traefik; the way to it is looked for once, for all services with the same keys.
    pub async fn api(&self, traefik: &TraefikContainer, settings: &Settings) -> Result<Arc<Api>> {
        self.apis
            .of(&self.engine, &self.socket_proxies, traefik, settings)
            .await
    }

    /// What these socket proxies answer, asked at once: each first answer costs a process in a container.
    pub(super) async fn ask_all<'a>(
        &self,
        found: impl Iterator<Item = &'a SocketProxy>,
    ) -> Vec<(&'a SocketProxy, Result<Vec<Reader>>)> {
        let asked = found.map(async |found| (found, self.readers(found).await));
        join_all(asked).await
    }
}

/// As the engine's list of what runs has it.
fn runs(own: &ContainerSummary) -> bool {
    matches!(
        own.state,
        Some(State::RUNNING | State::PAUSED | State::RESTARTING)
    )
}
