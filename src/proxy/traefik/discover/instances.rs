//! The Traefiks in front of one service: found again during a rollout, and asked together.

use std::{cell::Cell, collections::BTreeSet, sync::Arc, time::Duration};

use bollard::models::ContainerSummary;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Wanted, concerns, sightings};
use crate::{
    context::ServiceContext,
    docker::{
        engine::{Engine, summary::name},
        watch::Role,
    },
    error::Result,
    model::{Replica, RolloutId},
    proxy::{
        Observation,
        landscape::Landscape,
        socket_proxies::{Control, SocketProxy, showing},
        traefik::{
            api::{Api, DOCKER, Others, Servers, api_of},
            config::TraefikContainer,
            labels::all_names,
        },
    },
    settings::Settings,
};

/// For how long a search holds. A Traefik that has started since then reads the routing as it is now.
const HOLDS: Duration = Duration::from_secs(1);

/// Every Traefik in front of one service, each with a note of its router's.
pub struct Instances<T> {
    pub all: Vec<Instance<T>>,
    /// `None` where the operator has named the APIs: they stay as they are.
    lookout: Option<Lookout>,
    others: Others,
    /// The longest that they took to go by a change in this run.
    slowest: Duration,
}

pub struct Instance<T> {
    pub api: Arc<Api>,
    pub note: T,
    /// Whether it routed to the service before the rollout. One that did not may not be in front of it.
    pub routed_before: bool,
}

/// Finds Traefiks again, which may have started, ended, or got another address since the rollout began.
struct Lookout {
    engine: Engine,
    settings: Settings,
    socket_proxies: Vec<SocketProxy>,
    networks: BTreeSet<String>,
    wanted: Wanted,
    olds: Vec<Replica>,
    searched: Cell<Option<Instant>>,
}

impl Lookout {
    /// Those in front of the service whose identity is not known.
    async fn fresh(
        &self,
        running: &[ContainerSummary],
        known: &BTreeSet<String>,
    ) -> Result<Vec<TraefikContainer>> {
        let mut fresh = Vec::new();
        let asked = showing(&self.socket_proxies);
        let asked = asked.map(async |own| (own, own.control.readers().await));
        let answers = join_all(asked).await;
        for sighting in sightings(running, answers, &self.networks)? {
            if known.contains(&sighting.identity()) {
                continue;
            }
            let traefik = sighting.examine(&self.engine).await?;
            fresh.extend(traefik.filter(|own| concerns(own, &self.wanted, &self.olds)));
        }
        Ok(fresh)
    }

    async fn api(&self, traefik: &TraefikContainer) -> Result<Arc<Api>> {
        api_of(&self.engine, &self.socket_proxies, traefik, &self.settings).await
    }
}

impl<T> Instances<T> {
    /// None yet. Later searches find those that read through one of these socket proxies, or the engine's socket itself.
    pub fn new(
        context: &ServiceContext<'_>,
        landscape: &Landscape,
        socket_proxies: Vec<SocketProxy>,
    ) -> Self {
        let engine = &landscape.engine;
        let by_url = !context.settings.traefik_url.is_empty();
        Self {
            all: Vec::new(),
            lookout: (!by_url).then(|| Lookout {
                engine: engine.clone(),
                settings: context.settings.clone(),
                socket_proxies,
                networks: context.networks(),
                wanted: Wanted::of(context),
                olds: context.olds.clone(),
                searched: Cell::new(Some(landscape.read_at)),
            }),
            others: Others::new(engine, &context.key),
            slowest: Duration::ZERO,
        }
    }

    /// Adds one that was in front of the service when the rollout began.
    pub fn add(&mut self, api: Arc<Api>, note: T) {
        self.all.push(Instance {
            api,
            note,
            routed_before: true,
        });
    }

    /// Removes Traefiks that do not run any more, and adds those that have started or moved. `join` makes the note of a
    /// new one; `None` leaves it out.
    pub async fn refresh(
        &mut self,
        mut join: impl AsyncFnMut(&TraefikContainer) -> Result<Option<T>>,
    ) -> Result<()> {
        let Some(lookout) = &self.lookout else {
            return Ok(());
        };
        let searched = lookout.searched.get();
        if searched.is_some_and(|at| at.elapsed() < HOLDS) {
            return Ok(());
        }
        let began = Instant::now();
        let running = lookout.engine.running().await?;
        let known = self.all.iter().map(|own| own.api.identity.clone());
        let fresh = lookout.fresh(&running, &known.flatten().collect()).await?;
        let names: BTreeSet<String> = running.iter().map(name).collect();
        self.all.retain(|own| names.contains(&own.api.name));
        for traefik in &fresh {
            let mut all = self.all.iter_mut();
            if let Some(moved) = all.find(|own| own.api.name == traefik.name) {
                moved.api = lookout.api(traefik).await?;
            } else if let Some(note) = join(traefik).await? {
                // Its lists show whether it is in front of this service at all.
                self.all.push(Instance {
                    api: lookout.api(traefik).await?,
                    note,
                    routed_before: false,
                });
            }
        }
        lookout.searched.set(Some(began));
        Ok(())
    }

    /// Searches again at the next refresh: the routing has changed, or a Traefik does not answer.
    pub fn expire(&self) {
        if let Some(lookout) = &self.lookout {
            lookout.searched.set(None);
        }
    }

    /// What all of them answer; `None` means "cannot tell".
    pub async fn answers(
        &self,
        ask: impl AsyncFn(&Instance<T>) -> Result<Servers>,
    ) -> Option<Vec<Servers>> {
        let mut answers = Vec::new();
        for own in &self.all {
            match ask(own).await {
                Ok(servers) => answers.push((own.routed_before, servers)),
                Err(error) => {
                    tracing::debug!(%error, "cannot tell");
                    self.expire();
                    return None;
                }
            }
        }
        // One that did not route to the service before and still does not has no say, as long as another one routes to it.
        let routes = |servers: &Servers| !servers.services.is_empty();
        if answers.iter().any(|(_, servers)| routes(servers)) {
            answers.retain(|(before, servers)| *before || routes(servers));
        }
        Some(answers.into_iter().map(|(_, servers)| servers).collect())
    }

    /// Notes which routers of other services they serve, once. Returns what the operator has to know where that fails.
    pub async fn note_others(&self, rollout: &RolloutId) -> Option<String> {
        self.others.note(&self.apis(), rollout).await
    }

    /// Completes an observation with the routers of other services that are gone since then.
    pub async fn with_lost(
        &self,
        seen: Observation,
        replicas: &[Replica],
        controls: &[Control],
    ) -> Option<Observation> {
        if !seen.is_decided(replicas) {
            return Some(seen);
        }
        let lost = self.others.lost(&self.apis(), controls).await.ok()?;
        Some(Observation { lost, ..seen })
    }

    fn apis(&self) -> Vec<&Api> {
        self.all.iter().map(|own| &*own.api).collect()
    }

    pub fn names(&self) -> String {
        let names: Vec<&str> = self.all.iter().map(|own| own.api.name.as_str()).collect();
        names.join(", ")
    }

    /// Whether any of them routed to the service before the rollout.
    pub fn routed_before(&self) -> bool {
        self.all.iter().any(|own| own.routed_before)
    }

    /// The containers that have to run for requests to come through.
    pub fn containers(&self) -> impl Iterator<Item = (String, Role)> {
        self.all.iter().flat_map(|own| own.api.containers())
    }

    /// The longest that any of them may hold back what it has read.
    pub fn held_back(&self) -> Duration {
        let longest = self.all.iter().map(|own| own.api.held_back()).max();
        longest.unwrap_or_default()
    }

    /// The same; no less than a change has taken before.
    pub fn stand(&self) -> Duration {
        self.held_back().max(self.slowest)
    }

    pub fn took(&mut self, span: Duration) {
        self.slowest = self.slowest.max(span);
    }

    /// How long a request can still be on its way to an old server after they have switched.
    pub async fn switch_delay(&self, replicas: &[Replica]) -> Duration {
        let names = all_names(replicas);
        let mut longest = Duration::ZERO;
        for own in &self.all {
            longest = longest.max(own.api.switch_delay(DOCKER, &names).await);
        }
        longest
    }
}
