//! Watchers of the old replicas' sockets, started before the cutover.

use futures_util::future::join_all;

use super::{Live, Sets};
use crate::{
    docker::engine::Engine,
    drain::{Watched, Watcher},
    model::{ContainerId, Desired, Replica, Run},
};

impl Live<'_> {
    /// Old replicas without a watcher, and how to watch each.
    pub(super) fn unwatched(
        &self,
        desired: &Desired,
        sets: &Sets<'_>,
    ) -> Vec<(ContainerId, Watched)> {
        let old = sets
            .old
            .iter()
            .filter(|old| old.run == Run::Running && (desired.routed || !old.borrows_network));
        old.filter(|old| !self.memory.watchers.contains_key(&old.id))
            .map(|old| (old.id.clone(), self.watched(old)))
            .collect()
    }

    pub(super) fn watched(&self, replica: &Replica) -> Watched {
        let routed = self.proxy.routes();
        // Datagrams belong to no connection: the network counters show when the last session ends.
        let image = self
            .helper_image
            .clone()
            .filter(|_| !(routed && self.proxy.labels().only_datagrams(replica)));
        Watched {
            image,
            ports: routed.then(|| {
                let mut ports = self.called_ports.clone();
                ports.extend(self.proxy.labels().routed_ports(replica));
                ports
            }),
            quiet: self.context.settings.drain_quiet,
        }
    }
}

pub(super) async fn start_watchers(
    engine: &Engine,
    watched: Vec<(ContainerId, Watched)>,
) -> Vec<(ContainerId, Watcher)> {
    let starting = watched.into_iter().map(|(id, watched)| async move {
        let watcher = Watcher::start(engine, &id, &watched).await;
        (id, watcher)
    });
    join_all(starting).await
}
