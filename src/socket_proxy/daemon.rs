//! The state that all parts of the daemon share.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use super::{
    engine::{Ask, Engine, Unanswered},
    limits::{ALL_CONNECTIONS, CONNECTIONS, Quota, RefusalLog, STREAMS},
    only::Wanted,
    rebuild::{Endpoint, Listed},
    rounds::Rounds,
    snapshot::Snapshots,
    store::Store,
};
use crate::overlay::control;

pub struct Daemon {
    pub engine: Engine,
    pub store: Store,
    /// The readers, and the generation that each one sees.
    pub snapshots: Mutex<Snapshots>,
    /// The readers that are between a list and their last inspect.
    pub rounds: Rounds,
    pub connections: Quota,
    pub streams: Quota,
    /// The refusals that were logged.
    pub refusals: Mutex<RefusalLog>,
    /// The labels of `--only`, of which any is enough; if there is none, readers see every container.
    pub only: Vec<Wanted>,
    /// Whether readers see Swarm's services, tasks and nodes.
    pub swarm: bool,
    /// Where readers connect.
    pub listen: SocketAddr,
}

impl Daemon {
    pub fn new(
        engine: Engine,
        store: Store,
        only: Vec<Wanted>,
        swarm: bool,
        listen: SocketAddr,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            store,
            snapshots: Mutex::default(),
            rounds: Rounds::default(),
            connections: Quota::new(CONNECTIONS, ALL_CONNECTIONS),
            streams: Quota::new(STREAMS, ALL_CONNECTIONS / 4),
            refusals: Mutex::default(),
            only,
            swarm,
            listen,
        })
    }

    /// Logs a refusal, once a minute for each peer and path.
    pub fn refuse(&self, peer: IpAddr, path: &str) {
        let admitted = self.refusals.lock().unwrap().admit(peer, path);
        if let Some(path) = admitted {
            tracing::warn!(%peer, ?path, "refused");
        }
    }

    /// Every reader, with the running container that has its address. Asks the engine only if a reader has opened its first
    /// event stream since the last call.
    pub async fn readers(&self) -> Result<Vec<control::Reader>, Unanswered> {
        if self.snapshots.lock().unwrap().has_unknown() {
            let running: Vec<Listed> = self.engine.get(Ask::plain("/containers/json")).await?;
            self.snapshots.lock().unwrap().identify(&owners(&running));
        }
        Ok(self.snapshots.lock().unwrap().readers())
    }
}

fn owners(running: &[Listed]) -> HashMap<IpAddr, control::Container> {
    let mut owners = HashMap::new();
    for container in running {
        let name = container.names.first().map_or("", String::as_str);
        let owner = control::Container {
            id: container.id.clone(),
            name: name.trim_start_matches('/').to_owned(),
        };
        for address in addresses(container.network_settings.networks.values()) {
            owners.insert(address, owner.clone());
        }
    }
    owners
}

fn addresses<'a>(networks: impl Iterator<Item = &'a Endpoint>) -> impl Iterator<Item = IpAddr> {
    networks
        .flat_map(|network| [&network.ip_address, &network.global_ipv6_address])
        .filter_map(|address| address.parse().ok())
}
