//! The lock of a service: a never-started container with a unique name and a lease.

use std::time::Duration;

use bollard::models::ContainerSummary;
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    lease,
    owner::{self, Labels, is_dead, whose},
    store,
};
use crate::{
    docker::engine::{Engine, own_labels, summary},
    error::{Error, Result},
    event::Events,
    model::ServiceKey,
};

/// The label with the service that it is about.
pub const KEY: &str = "io.rollout.lock";

/// How often the lock is tried if it is taken and released repeatedly.
const TRIES: u32 = 10;

/// A lock that this process holds until it is released; a dropped lock becomes stale.
pub struct Lock {
    engine: Engine,
    /// The container, which also has the state volume mounted.
    pub id: String,
    key: ServiceKey,
    /// The engine's clock when it was taken, in milliseconds: later owners have later ones.
    pub epoch: u64,
    /// Another process held it first: earlier reads may be outdated.
    pub waited: bool,
    renewal: AbortHandle,
}

#[derive(Clone, Debug)]
pub struct Holder {
    id: String,
    labels: Labels,
}

/// The name of the lock's container; the same on every machine.
pub fn lock_name(key: &ServiceKey) -> String {
    format!("rollout-lock.{}.{}", key.project, key.service)
}

/// Whether one of these containers is the lock of a service, also of a run that has been killed.
pub fn is_among(containers: &[ContainerSummary], key: &ServiceKey) -> bool {
    let name = lock_name(key);
    containers.iter().any(|own| summary::name(own) == name)
}

/// Takes the lock of a service, waiting up to `wait`. Exit code 4, with the holder and its start time, if another
/// process holds it for longer.
///
/// Removes a stale lock: its process is dead on this machine, or its lease has expired. It is removed by container id, so
/// that two processes cannot remove each other's new lock.
pub async fn lock(
    engine: &Engine,
    key: &ServiceKey,
    image: &str,
    wait: Duration,
    events: &Events,
) -> Result<Lock> {
    let on = events.scope().on();
    let deadline = Instant::now() + wait;
    let mut waited = false;
    let mut tries = 0;
    while tries < TRIES {
        if let Some(mut lock) = take(engine, key, image, &on).await? {
            lock.waited = waited;
            return Ok(lock);
        }
        let Some(holder) = holder(engine, key).await? else {
            tries += 1;
            continue;
        };
        let rest = holder.rest(engine).await;
        if rest.is_zero() {
            let why = match is_dead(&holder.labels) {
                true => "its process is not running",
                false => "its lease has expired",
            };
            let whose = whose(&holder.labels);
            events.notice(format!("removed a stale lock of {whose}: {why}"));
            engine.discard(&holder.id).await?;
            tries += 1;
            continue;
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Err(holder.locked(key, &on, "wait for it with `--lock-wait 5m`"));
        }
        if !waited {
            events.notice(format!(
                "{key} is being rolled by {}; waiting for it, {} at most",
                whose(&holder.labels),
                humantime::format_duration(wait)
            ));
        }
        waited = true;
        let _ = timeout(patience.min(rest), engine.wait_until_removed(&holder.id)).await;
    }
    Err(Error::locked(format!(
        "the lock of {key} is taken and released again and again by another process"
    )))
}

async fn take(engine: &Engine, key: &ServiceKey, image: &str, on: &str) -> Result<Option<Lock>> {
    let epoch = engine.clock_ms().await;
    let mut labels = own_labels("lock");
    labels.insert(KEY.to_owned(), key.to_string());
    labels.extend(owner::labels(epoch));
    let (name, volume) = (lock_name(key), store::volume());
    let mounted = Some(store::mounted(&volume));
    let created = engine.create_shelf(Some(&name), image, labels, mounted);
    let created = created.await.map_err(|error| not_taken(key, on, error))?;
    Ok(created.map(|id| Lock {
        renewal: lease::keep(engine, &id, epoch),
        engine: engine.clone(),
        id,
        key: key.clone(),
        epoch,
        waited: false,
    }))
}

/// Nothing has been touched yet.
fn not_taken(key: &ServiceKey, on: &str, error: Error) -> Error {
    let why = format!("cannot lock {key}: {}", error.message);
    Error::refused(why).hint(format!(
        "check the engine with `docker info`, then run `rollout {}{on}` again",
        key.service
    ))
}

/// The holder of the lock of a service; `None` if it is free.
pub async fn holder(engine: &Engine, key: &ServiceKey) -> Result<Option<Holder>> {
    let found = engine.inspect(&lock_name(key)).await?;
    Ok(found.map(|found| Holder {
        id: found.id.unwrap_or_default(),
        labels: found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default(),
    }))
}

/// Removes the lock of a service and returns its holder; `None` if there was none. Exit code 4 if its process lives or
/// its lease runs, unless forced.
pub async fn unlock(engine: &Engine, key: &ServiceKey, force: bool) -> Result<Option<String>> {
    let Some(holder) = holder(engine, key).await? else {
        return Ok(None);
    };
    if !force && holder.lives(engine).await {
        return Err(holder.locked(key, "", "stop that rollout first"));
    }
    engine.discard(&holder.id).await?;
    Ok(Some(holder.whose()))
}

impl Holder {
    /// The container that is the lock.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// User, process and start time.
    pub fn whose(&self) -> String {
        whose(&self.labels)
    }

    /// How long the lock is valid without a further heartbeat; zero if it is stale.
    pub async fn rest(&self, engine: &Engine) -> Duration {
        if is_dead(&self.labels) {
            return Duration::ZERO;
        }
        let left = lease::left(engine, &self.id, &self.labels).await;
        left.unwrap_or(lease::LEASE)
    }

    /// Whether its process lives, or its lease runs.
    pub async fn lives(&self, engine: &Engine) -> bool {
        !self.rest(engine).await.is_zero()
    }

    /// `on` chooses the host of the service in hints, where there are several; `first` is the advice if that rollout is still running.
    pub fn locked(&self, key: &ServiceKey, on: &str, first: &str) -> Error {
        Error::locked(format!("{key} is being rolled by {}", self.whose())).hint(format!(
            "{first}, or, if that process is certainly dead: rollout unlock --force {}{on}",
            key.service
        ))
    }
}

impl Lock {
    /// An error unless this process still holds the lock: it may have been removed by hand or after its lease expired.
    pub async fn check(&self) -> Result<()> {
        match self.engine.inspect(&self.id).await? {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!(
                "the lock {} was removed by another command",
                lock_name(&self.key)
            ))),
        }
    }

    pub async fn release(self) -> Result<()> {
        self.renewal.abort();
        self.engine.discard(&self.id).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
