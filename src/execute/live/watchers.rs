//! Which replicas of a rollout are watched, and how.

use super::{Live, Sets};
use crate::{
    drain::{Watched, watchers::start_all},
    figures::Spans,
    model::{Desired, Observed, Replica, Run},
};

impl Live<'_> {
    /// Watches the replicas of both versions from the start of a run that goes on with a rollout.
    pub async fn watch_both(&mut self, desired: &Desired, replicas: &[Replica]) {
        let observed = Observed {
            claim: None,
            replicas: replicas.to_vec(),
        };
        let sets = Sets::of(desired, &observed);
        self.watch_new(&sets);
        let started = start_all(self.run.engine, self.unwatched(desired, &sets)).await;
        self.memory.watchers.add(started, false);
    }

    /// The figures by the end of the run.
    pub async fn figures(&mut self) -> Spans {
        self.memory.watchers.figures(self.run.engine).await
    }

    /// Old replicas without a watcher, and how to watch each.
    pub(super) fn unwatched(&self, desired: &Desired, sets: &Sets<'_>) -> Vec<(Replica, Watched)> {
        let watchers = &self.memory.watchers;
        let old = sets
            .old
            .iter()
            .filter(|old| old.run == Run::Running && (desired.routed || !old.borrows_network));
        old.filter(|old| !watchers.has(&old.id))
            .map(|old| ((*old).clone(), self.watched(old)))
            .collect()
    }

    pub(super) fn watch_new(&mut self, sets: &Sets<'_>) {
        let routed = self.proxy.routes();
        for new in &sets.new {
            if !self.memory.watchers.has(&new.id) && (routed || !new.borrows_network) {
                let watched = self.watched(new);
                self.memory.watchers.begin(self.run.engine, new, watched);
            }
        }
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
