//! Wakes whoever waits for something to happen to a service's containers.

pub mod front;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::{
    engine::Engine,
    model::{ContainerId, ServiceKey, label},
};

pub use self::front::{Front, Role};

/// An event can be lost together with its stream: a waiter looks again after this long all the same.
const LOST: Duration = Duration::from_secs(3);

/// When each container last started and last died, by our own clock.
#[derive(Default)]
struct Lives {
    started: HashMap<String, Instant>,
    died: HashMap<String, Instant>,
}

impl Lives {
    fn heard(&mut self, id: String, action: &str) {
        match action {
            "start" => drop(self.started.insert(id, Instant::now())),
            "die" => drop(self.died.insert(id, Instant::now())),
            _ => {}
        }
    }

    fn dead_for(&self, id: &str) -> Option<Duration> {
        let died = *self.died.get(id)?;
        let again = self.started.get(id).filter(|again| **again > died);
        let until = again.copied().unwrap_or_else(Instant::now);
        Some(until.duration_since(died))
    }
}

/// Container events of one service, as a wake-up call; what has changed, the waiter reads for itself.
pub struct Watch {
    changed: Arc<Notify>,
    lives: Arc<Mutex<Lives>>,
    task: AbortHandle,
}

impl Watch {
    /// Begins to listen; after a lost stream it listens again, and wakes, since something may have been missed.
    pub fn start(engine: &Engine, key: &ServiceKey) -> Self {
        Self::with_front(engine, key, Front::default())
    }

    /// The same, and tells what happens to the containers in front of the service.
    pub fn with_front(engine: &Engine, key: &ServiceKey, mut front: Front) -> Self {
        let changed = Arc::new(Notify::new());
        let lives: Arc<Mutex<Lives>> = Arc::default();
        let heard = lives.clone();
        let (engine, key, notify) = (engine.clone(), key.clone(), changed.clone());
        let task = tokio::spawn(async move {
            loop {
                let mut events = Box::pin(engine.events());
                while let Some(Ok(event)) = events.next().await {
                    let actor = event.actor.unwrap_or_default();
                    let attributes = actor.attributes.unwrap_or_default();
                    let is = |label: &str, value: &str| {
                        attributes.get(label).is_some_and(|own| own == value)
                    };
                    let action = event.action.unwrap_or_default();
                    if let Some(name) = attributes.get("name") {
                        front.heard(name, &action);
                    }
                    if is(label::COMPOSE_PROJECT, &key.project)
                        && is(label::COMPOSE_SERVICE, &key.service)
                        && matters(&action)
                    {
                        let mut lives = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        lives.heard(actor.id.unwrap_or_default(), &action);
                        drop(lives);
                        notify.notify_waiters();
                    }
                }
                notify.notify_waiters();
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        Self {
            changed,
            lives,
            task: task.abort_handle(),
        }
    }

    /// When a container last started, by our own clock; `None` where that was before this watch began.
    pub fn started(&self, id: &ContainerId) -> Option<Instant> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.started.get(&id.0).copied()
    }

    /// How long a container was dead the last time, until now or until it was started again; `None` where it did not die.
    pub fn dead_for(&self, id: &ContainerId) -> Option<Duration> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.dead_for(&id.0)
    }

    /// A call that is already listening when this returns: take it before reading the state that it guards.
    pub fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut call = Box::pin(self.changed.clone().notified_owned());
        call.as_mut().enable();
        async move {
            let _ = tokio::time::timeout(LOST, call).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Commands run inside a container are no change of it.
fn matters(action: &str) -> bool {
    [
        "create",
        "start",
        "die",
        "destroy",
        // Podman's word for it.
        "remove",
        "restart",
        "pause",
        "unpause",
        "rename",
        "health_status",
    ]
    .iter()
    .any(|known| action.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_container_is_dead_until_it_is_started_again() {
        let mut lives = Lives::default();
        let heard = |lives: &mut Lives, action| lives.heard("a".to_owned(), action);
        heard(&mut lives, "start");
        assert_eq!(lives.dead_for("a"), None);
        tokio::time::advance(Duration::from_secs(9)).await;
        heard(&mut lives, "die");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(lives.dead_for("a"), Some(Duration::from_secs(2)));
        heard(&mut lives, "start");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(lives.dead_for("a"), Some(Duration::from_secs(2)));
    }
}
