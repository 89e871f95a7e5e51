//! How the traffic of a Swarm service moves to its twin and back: by the socket proxies that Traefik reads through.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bollard::models::ContainerSummary;
use tokio::sync::Mutex;

use super::{
    api::{Api, SWARM, named},
    config::{REFRESH, Sighting, TraefikContainer, looks_like_traefik},
    labels::names_in_swarm,
};
use crate::{
    docker::engine::{
        Engine,
        summary::{name, reaches},
        swarm::Swarm,
    },
    error::{Error, Result},
    overlay::{Claim, Labels},
    proxy::{
        landscape::Landscape,
        socket_proxies::{Control, SocketProxy, of_swarm},
    },
    retry,
    settings::Settings,
};

const HELP: &str = "rollout help swarm shows a stack with both";
/// What Traefik and its API may take beyond the times that they are set to.
const MARGIN: Duration = Duration::from_secs(5);

/// The labels by which a container names the Swarm service and the node of its task.
const SERVICE: &str = "com.docker.swarm.service.id";
const NODE: &str = "com.docker.swarm.node.id";

/// Every Traefik whose Swarm provider routes to a service, and the socket proxies.
pub struct SwarmRoutes {
    engine: Engine,
    project: String,
    settings: Settings,
    networks: BTreeSet<String>,
    ways: Mutex<Arc<Ways>>,
    /// The image of a socket proxy, which the engine has.
    pub image: String,
    /// The longest that a Traefik takes to have what the socket proxies show.
    pub limit: Duration,
}

/// How they are reached. A task that Swarm starts again is another container.
struct Ways {
    apis: Vec<Arc<Api>>,
    controls: Vec<Control>,
    image: String,
    /// The longest that a Traefik takes to have what the socket proxies show.
    slowest: Duration,
}

impl Ways {
    async fn find(
        landscape: &Landscape,
        settings: &Settings,
        networks: &BTreeSet<String>,
    ) -> Result<Self> {
        let traefiks = traefiks(landscape, networks).await?;
        let (controls, image) = socket_proxies(landscape, &traefiks).await?;
        if let Some(traefik) = traefiks.iter().find(|own| own.swarm_by_socket()) {
            return Err(Error::refused(format!(
                "the Swarm provider of Traefik ({}) reads the engine's socket itself, so no rollout can move its traffic",
                traefik.name
            ))
            .hint(format!(
                "let it read through rollout socket-proxy --swarm: {HELP}"
            )));
        }
        let mut apis = named(settings, &traefiks).await?;
        if apis.is_empty() {
            for traefik in &traefiks {
                apis.push(landscape.api(traefik, settings).await?);
            }
        }
        if apis.is_empty() {
            return Err(Error::refused(
                "no Traefik with a Swarm provider shares a network with the service on this node",
            )
            .hint(format!(
                "run rollout on the manager that Traefik runs on, or name its API with --traefik-url; {HELP}"
            )));
        }
        let refresh = traefiks.iter().map(|own| own.config.swarm_refresh).max();
        let held_back = apis.iter().map(|own| own.held_back()).max();
        let slowest = refresh.unwrap_or(REFRESH) + held_back.unwrap_or_default() + MARGIN;
        Ok(Self {
            apis,
            controls,
            image,
            slowest,
        })
    }
}

impl SwarmRoutes {
    /// Refused where one of them is missing; `networks` are those of a service of the stack `project`.
    pub async fn find(
        landscape: &Landscape,
        project: &str,
        settings: &Settings,
        networks: BTreeSet<String>,
    ) -> Result<Self> {
        let ways = Ways::find(landscape, settings, &networks).await?;
        Ok(Self {
            engine: landscape.engine.clone(),
            project: project.to_owned(),
            settings: settings.clone(),
            networks,
            image: ways.image.clone(),
            limit: settings.confirm_timeout.max(ways.slowest),
            ways: Mutex::new(Arc::new(ways)),
        })
    }

    async fn ways(&self) -> Arc<Ways> {
        self.ways.lock().await.clone()
    }

    /// After an error, looks for the containers again, and keeps the present ones while fewer are found.
    async fn or_renew<T>(&self, done: Result<T>) -> Result<T> {
        if done.is_err()
            && let Ok(landscape) = Landscape::read(&self.engine, &self.project).await
            && let Ok(found) = Ways::find(&landscape, &self.settings, &self.networks).await
        {
            let mut ways = self.ways.lock().await;
            let is_whole = found.controls.len() >= ways.controls.len();
            if is_whole && found.apis.len() >= ways.apis.len() {
                *ways = Arc::new(found);
            }
        }
        done
    }

    /// A few words for the events.
    pub async fn describe(&self) -> String {
        let ways = self.ways().await;
        let names: Vec<&str> = ways.apis.iter().map(|own| own.name.as_str()).collect();
        format!("Traefik ({}) by a twin", names.join(", "))
    }

    /// The claim of a service in each socket proxy that has one.
    pub async fn claims(&self, key: &str) -> Result<Vec<Option<Claim>>> {
        let ways = self.ways().await;
        let read = async {
            let mut claims = Vec::new();
            for control in &ways.controls {
                claims.push(control.overlay().await?.claims.remove(key));
            }
            Ok(claims)
        };
        self.or_renew(read.await).await
    }

    pub async fn set(&self, claim: &Claim) -> Result<()> {
        let ways = self.ways().await;
        let set = async {
            for control in &ways.controls {
                control.set(claim.clone()).await?;
            }
            Ok(())
        };
        self.or_renew(set.await).await
    }

    pub async fn clear(&self, key: &str, epoch: u64) -> Result<()> {
        let ways = self.ways().await;
        let clear = async {
            for control in &ways.controls {
                control.clear(key, epoch).await?;
            }
            Ok(())
        };
        self.or_renew(clear.await).await
    }

    /// How long a request can still be on its way to a task that every Traefik has left.
    pub async fn switch_delay(&self, service: &str, labels: &Labels) -> Duration {
        let names = names_in_swarm(labels, service);
        let mut longest = Duration::ZERO;
        for api in &self.ways().await.apis {
            longest = longest.max(api.switch_delay(SWARM, &names).await);
        }
        longest
    }

    /// Waits until every Traefik has these tasks for the service, and no others; `tasks` are read again each time, since a
    /// task that is replaced has another address. Returns what is different once the time is over.
    pub async fn agree(
        &self,
        service: &str,
        read: impl AsyncFn() -> Result<(Labels, Vec<BTreeSet<IpAddr>>)>,
    ) -> Result<(), String> {
        let mut last = "Traefik was not asked".to_owned();
        let agreed = retry::until(self.limit, async || {
            match self.differs(service, &read).await {
                Ok(None) => true,
                Ok(Some(why)) => {
                    last = why;
                    false
                }
                Err(error) => {
                    last = error.message;
                    false
                }
            }
        });
        match agreed.await {
            true => Ok(()),
            false => Err(last),
        }
    }

    async fn differs(
        &self,
        service: &str,
        read: &impl AsyncFn() -> Result<(Labels, Vec<BTreeSet<IpAddr>>)>,
    ) -> Result<Option<String>> {
        let (labels, tasks) = read().await?;
        let names = names_in_swarm(&labels, service);
        for api in &self.ways().await.apis {
            let servers = self.or_renew(api.servers_of_swarm(&names).await).await?;
            for servers in servers {
                if let Some(why) = difference(&servers, &tasks) {
                    return Ok(Some(format!("Traefik ({}) {why}", api.name)));
                }
            }
        }
        Ok(None)
    }
}

/// What of the servers is not what the tasks are.
fn difference(servers: &BTreeMap<IpAddr, bool>, tasks: &[BTreeSet<IpAddr>]) -> Option<String> {
    let is_of = |server: &IpAddr| tasks.iter().any(|task| task.contains(server));
    if let Some(other) = servers.keys().find(|server| !is_of(server)) {
        return Some(format!("still sends to {other}"));
    }
    let has = |task: &BTreeSet<IpAddr>| task.iter().any(|own| servers.contains_key(own));
    let lacking = tasks.iter().filter(|task| !has(task)).count();
    if lacking > 0 {
        return Some(format!("lacks {lacking} of {} tasks", tasks.len()));
    }
    let down = servers.iter().find(|(_, up)| !**up);
    down.map(|(server, _)| format!("has {server} as down, by its own health check"))
}

/// Those that show Swarm's services and that one of the Traefiks can read through, and the image of one.
async fn socket_proxies(
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
) -> Result<(Vec<Control>, String)> {
    let near = near(&landscape.socket_proxies, traefiks);
    let (shows, silent) = of_swarm(near.iter().copied()).await;
    let Some(first) = shows.first() else {
        return Err(silent.unwrap_or_else(|| no_socket_proxy(&near)));
    };
    let mut controls = Vec::new();
    for found in &shows {
        let id = Some(&found.control.container);
        let mut running = landscape.running.iter();
        if let Some(own) = running.find(|own| own.id.as_ref() == id) {
            refuse_elsewhere(&landscape.engine, own, "socket proxy").await?;
        }
        controls.push(found.control.clone());
    }
    Ok((controls, first.image.clone()))
}

/// Those that share a network with one of the Traefiks. All of them, where that says nothing: a Traefik that is reached by
/// its URL or is in the host's network.
fn near<'a>(all: &'a [SocketProxy], traefiks: &[TraefikContainer]) -> Vec<&'a SocketProxy> {
    let networks: Option<Vec<BTreeSet<String>>> =
        traefiks.iter().map(TraefikContainer::networks).collect();
    let networks: BTreeSet<String> = networks.into_iter().flatten().flatten().collect();
    let is_near = |own: &&SocketProxy| networks.is_empty() || !own.networks.is_disjoint(&networks);
    all.iter().filter(is_near).collect()
}

/// Those that run on this node, share a network with the service, and have a Swarm provider.
async fn traefiks(
    landscape: &Landscape,
    networks: &BTreeSet<String>,
) -> Result<Vec<TraefikContainer>> {
    let mut all = Vec::new();
    let near = |own: &&ContainerSummary| looks_like_traefik(own) && reaches(own, networks);
    for summary in landscape.running.iter().filter(near) {
        let sighting = Sighting {
            summary: summary.clone(),
            through: None,
        };
        let traefik = landscape.traefiks.examine(&landscape.engine, &sighting);
        let traefik = traefik.await?;
        let routes = |own: &TraefikContainer| own.config.swarm.is_some() || own.unread.is_some();
        if let Some(traefik) = traefik.filter(routes) {
            refuse_elsewhere(&landscape.engine, summary, "Traefik").await?;
            all.push(traefik);
        }
    }
    Ok(all)
}

/// Refuses a container whose Swarm service has a task on another node: that one would not be switched, or not be asked.
async fn refuse_elsewhere(engine: &Engine, own: &ContainerSummary, what: &str) -> Result<()> {
    let label = |key: &str| own.labels.as_ref()?.get(key);
    let (Some(service), Some(node)) = (label(SERVICE), label(NODE)) else {
        return Ok(());
    };
    let tasks = Swarm::of(engine).tasks(service).await?;
    match tasks.iter().any(|own| own.runs() && own.node != *node) {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "the {what} ({}) also runs on another node, where a rollout does not reach it",
            name(own)
        ))
        .hint(format!(
            "pin Traefik and the socket proxy to one node by deploy.placement.constraints: {HELP}"
        ))),
    }
}

fn no_socket_proxy(found: &[&SocketProxy]) -> Error {
    match found.first() {
        Some(found) => Error::refused(format!(
            "the socket proxy {} does not show Swarm's services",
            found.control.name
        ))
        .hint(format!("add --swarm to its command; {HELP}")),
        None => Error::refused("no socket proxy runs on this node").hint(format!(
            "let Traefik read through rollout socket-proxy --swarm: {HELP}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn servers_are_those_of_the_tasks_if_each_task_has_one_and_there_is_no_other() {
        let tasks = ["10.0.1.2", "10.0.1.3"]
            .map(|own| BTreeSet::from([ip("10.0.0.9"), ip(own)]))
            .to_vec();
        let of = |servers: &[(&str, bool)]| {
            let servers = servers.iter().map(|(own, up)| (ip(own), *up)).collect();
            difference(&servers, &tasks)
        };
        assert_eq!(of(&[("10.0.1.2", true), ("10.0.1.3", true)]), None);
        let why = of(&[("10.0.1.2", true)]).unwrap();
        assert_eq!(why, "lacks 1 of 2 tasks");
        let why = of(&[("10.0.1.2", true), ("10.0.1.3", true), ("10.0.1.4", true)]).unwrap();
        assert_eq!(why, "still sends to 10.0.1.4");
        let why = of(&[("10.0.1.2", false), ("10.0.1.3", true)]).unwrap();
        assert!(why.contains("10.0.1.2 as down"), "{why}");
        assert_eq!(difference(&BTreeMap::new(), &[]), None);
    }
}
