//! The end of a pin: only once Traefik's Docker provider says the same, and only done once Traefik has let go of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{Pin, Record, Watched, all_names, observation, pinned_names};
use crate::{
    error::{Error, Result},
    model::{ContainerId, Phase, Replica, Share},
    proxy::{
        Router,
        traefik::api::{PinnedName, Place, Servers},
    },
    retry,
};

/// What was seen last of a Traefik that is to take over.
struct Look<'a> {
    pin: &'a mut Pin,
    missing: Option<String>,
    agreed_since: Option<Instant>,
    /// What is shown is not where it was.
    moved: bool,
}

impl Look<'_> {
    /// Looks once more; whether there is nothing left to wait for.
    async fn again(&mut self, awaited: &BTreeSet<ContainerId>, stand: Duration) -> bool {
        // A replica that has been restarted meanwhile has another address.
        let replicas = match self.pin.engine.replicas(&self.pin.key).await {
            Ok(replicas) => replicas,
            Err(error) => {
                (self.missing, self.agreed_since) = (Some(error.message), None);
                return false;
            }
        };
        let pin = &self.pin;
        self.moved = pin.places.iter().any(|own| pin.is_stale(own, &replicas));
        let awaited = |own: &&Replica| awaited.contains(&own.id);
        let expected: Vec<&Replica> = replicas.iter().filter(awaited).collect();
        // One that has just ended may come back, and the pin is all that would lead to it then.
        self.missing = match expected.iter().find(|own| !own.serves()) {
            Some(own) => Some(format!("{} does not serve now", own.target_name())),
            None => self.pin.missing(&replicas, &expected).await,
        };
        match self.missing {
            Some(_) => self.agreed_since = None,
            None => drop(self.agreed_since.get_or_insert_with(Instant::now)),
        }
        let agreed = self.agreed_since;
        self.moved || agreed.is_some_and(|since| since.elapsed() >= stand)
    }
}

impl Pin {
    /// Removes the pin, of whose service these replicas are left.
    pub(super) async fn give_up(&mut self, replicas: &[Replica]) -> Result<()> {
        self.read().await?;
        let record = |place: &Watched| place.record().cloned();
        let before: Vec<Option<Record>> = self.places.iter().map(record).collect();
        let shown: BTreeSet<ContainerId> = before
            .iter()
            .flatten()
            .flat_map(|record| record.shows.keys().cloned())
            .collect();
        if self.places.iter().any(|place| place.pins()) {
            self.docker_takes_over(replicas, &shown).await?;
        }
        // The wait may have been long: another run may have taken over from one that was suspended meanwhile.
        self.read().await?;
        let now: Vec<Option<Record>> = self.places.iter().map(record).collect();
        if now != before {
            return Err(Error::failed(format!(
                "the pin of {} has changed while it was to be removed",
                self.key
            )));
        }
        let (name, prefix) = (self.file_name(), self.prefix());
        let mut left = Vec::new();
        for place in &mut self.places {
            if let Some(placed) = place.placed.take() {
                placed.take_out(&place.directory, &name, None).await?;
                place.directory.remove(&name).await?;
                let (services, routers) = pinned_names(&prefix, &placed.file);
                left.extend(services.into_iter().map(|own| ("services", own)));
                left.extend(routers.into_iter().map(|own| ("routers", own)));
            }
        }
        self.traefik_lets_go(&left).await
    }

    /// Waits until the Docker provider alone would route to the replicas that are shown, and to no other.
    async fn docker_takes_over(
        &mut self,
        replicas: &[Replica],
        shown: &BTreeSet<ContainerId>,
    ) -> Result<()> {
        let serves = |own: &&Replica| shown.contains(&own.id) && own.serves();
        let expected: Vec<&Replica> = replicas.iter().filter(serves).collect();
        let awaited: BTreeSet<ContainerId> = expected.iter().map(|own| own.id.clone()).collect();
        let undecided = expected.iter().map(|own| own.undecided_for()).max();
        let limit = self.settings.confirm_timeout.max(self.stand());
        let limit = limit + undecided.unwrap_or_default();
        // On the way back Traefik may have read new replicas while they were healthy, and be holding that back still.
        let forward = |place: &Watched| {
            place
                .record()
                .is_none_or(|record| record.phase == Phase::Committed)
        };
        let stand = match self.places.iter().all(forward) {
            true => Duration::ZERO,
            false => self.stand(),
        };
        let mut look = Look {
            pin: &mut *self,
            missing: None,
            agreed_since: None,
            moved: false,
        };
        let again = async || look.again(&awaited, stand).await;
        match retry::until(limit + stand, again).await {
            true if look.moved => Err(Error::failed(
                "a replica that the pin routes to has got another address",
            )),
            true => Ok(()),
            false => {
                let missing = look.missing.unwrap_or_default();
                Err(Error::needs_person(format!(
                    "Traefik would not route to the same replicas by itself: {missing}; the pin file {} stays in place and routes to them",
                    self.file_name()
                ))
                .hint("see that they get healthy, and run the same command again: it removes the pin"))
            }
        }
    }

    /// What the Docker provider lacks, in a few words.
    async fn missing(&mut self, replicas: &[Replica], expected: &[&Replica]) -> Option<String> {
        if let Err(error) = self.refresh().await {
            return Some(error.message);
        }
        if self.instances.all.is_empty() {
            return Some("no Traefik runs that could be asked".to_owned());
        }
        let names = all_names(replicas);
        for own in &self.instances.all {
            if self.pin_of(own).is_none() {
                continue;
            }
            let servers = match own.api.servers(&names).await {
                Ok(servers) => servers,
                Err(error) => {
                    self.instances.expire();
                    return Some(error.message);
                }
            };
            let foreign = foreign_servers(&servers, replicas);
            let seen = observation(replicas, &BTreeMap::new(), vec![servers]);
            if let Some(server) = foreign.first() {
                return Some(format!("it still lists {server}"));
            }
            for own in expected {
                if let Some(trouble) = seen.trouble.get(&own.id).and_then(|all| all.first()) {
                    return Some(trouble.clone());
                }
                if seen.routing.get(&own.id) != Some(&Share::Live) {
                    return Some(format!("it does not list {}", own.target_name()));
                }
            }
        }
        None
    }

    /// Waits until no Traefik lists anything of the pin.
    async fn traefik_lets_go(&mut self, left: &[(&'static str, PinnedName)]) -> Result<()> {
        let limit = self.settings.confirm_timeout;
        let gone = retry::until(limit, async || {
            if self.refresh().await.is_err() {
                return false;
            }
            for own in &self.instances.all {
                match own.api.knows_pinned(left).await {
                    Ok(false) => {}
                    Ok(true) => return false,
                    Err(_) => {
                        self.instances.expire();
                        return false;
                    }
                }
            }
            true
        });
        match gone.await {
            true => Ok(()),
            false => Err(Error::needs_person(
                "the pin file is removed, but Traefik goes on as if it were there",
            )
            .hint("a broken file in its directory is the usual reason: docker logs names it, and docker restart helps")),
        }
    }
}

/// Servers that belong to none of the replicas.
pub(super) fn foreign_servers(servers: &Servers, replicas: &[Replica]) -> Vec<Place> {
    let places = servers.services.values().flat_map(|places| places.keys());
    let own = |place: &&Place| replicas.iter().any(|own| place.is_of(own));
    places.filter(|place| !own(place)).copied().collect()
}
