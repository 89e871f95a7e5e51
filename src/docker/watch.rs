//! Wakes tasks that wait for a change of a service's containers.

pub mod front;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::{
    docker::engine::Engine,
    model::{ContainerId, ServiceKey, label},
};

pub use self::front::{Front, Role};

/// An event can be lost with its stream, so a waiter wakes after this time in any case.
const WAKE_AFTER: Duration = Duration::from_secs(3);

/// The times when each container last started and last died, by this machine's clock, and those that ran out of memory.
#[derive(Default)]
struct Lives {
    started: HashMap<String, Instant>,
    died: HashMap<String, Instant>,
    out_of_memory: HashSet<String>,
}

impl Lives {
    fn record(&mut self, id: String, action: &str) {
        match action {
            "start" => drop(self.started.insert(id, Instant::now())),
            "die" => drop(self.died.insert(id, Instant::now())),
            "oom" => drop(self.out_of_memory.insert(id)),
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

/// The containers in which the kernel ended a process for want of memory. The engine's state of a container says so only
/// where the main process died.
#[derive(Clone, Default)]
pub struct OutOfMemory(Arc<Mutex<Lives>>);

impl OutOfMemory {
    pub fn has(&self, id: &ContainerId) -> bool {
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lives.out_of_memory.contains(&id.0)
    }
}

/// Wakes waiters at each container event of one service. The waiter reads what has changed.
pub struct Watch {
    changed: Arc<Notify>,
    lives: Arc<Mutex<Lives>>,
    task: AbortHandle,
}

impl Watch {
    /// Subscribes to events. When the stream ends, it wakes the waiters, because events may be lost, and subscribes again.
    pub fn start(engine: &Engine, key: &ServiceKey) -> Self {
        Self::with_front(engine, key, Front::default())
    }

    /// As [`Self::start`], and reports restarts of the containers in front of the service.
    pub fn with_front(engine: &Engine, key: &ServiceKey, mut front: Front) -> Self {
        let changed = Arc::new(Notify::new());
        let lives: Arc<Mutex<Lives>> = Arc::default();
        let shared = lives.clone();
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
                        front.record(name, &action);
                    }
                    if is(label::COMPOSE_PROJECT, &key.project)
                        && is(label::COMPOSE_SERVICE, &key.service)
                        && matters(&action)
                    {
                        let mut lives = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        lives.record(actor.id.unwrap_or_default(), &action);
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

    /// The last start of a container by this machine's clock; `None` where it was before this watch began.
    pub fn started(&self, id: &ContainerId) -> Option<Instant> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.started.get(&id.0).copied()
    }

    /// The time from a container's last death to its next start, or to now; `None` where it did not die.
    pub fn dead_for(&self, id: &ContainerId) -> Option<Duration> {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.dead_for(&id.0)
    }

    pub fn out_of_memory(&self) -> OutOfMemory {
        OutOfMemory(self.lives.clone())
    }

    /// Already subscribed when this returns: call it before reading the state, so that no change is missed.
    pub fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut call = Box::pin(self.changed.clone().notified_owned());
        call.as_mut().enable();
        async move {
            let _ = tokio::time::timeout(WAKE_AFTER, call).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Commands that run inside a container (`exec_…`) do not change it.
fn matters(action: &str) -> bool {
    [
        "create",
        "start",
        "die",
        "destroy",
        // Podman's `destroy`.
        "remove",
        "restart",
        "pause",
        "unpause",
        "rename",
        "health_status",
        "oom",
    ]
    .iter()
    .any(|known| action.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_container_is_dead_until_its_next_start() {
        let mut lives = Lives::default();
        let record = |lives: &mut Lives, action| lives.record("a".to_owned(), action);
        record(&mut lives, "start");
        assert_eq!(lives.dead_for("a"), None);
        tokio::time::advance(Duration::from_secs(9)).await;
        record(&mut lives, "die");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(lives.dead_for("a"), Some(Duration::from_secs(2)));
        record(&mut lives, "start");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(lives.dead_for("a"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_container_whose_child_process_is_killed_has_run_out_of_memory() {
        let seen = OutOfMemory::default();
        for (id, action) in [("a", "oom"), ("b", "die")] {
            assert!(matters(action), "{action}");
            seen.0.lock().unwrap().record(id.to_owned(), action);
        }
        let has = |id: &str| seen.has(&ContainerId(id.to_owned()));
        assert_eq!((has("a"), has("b")), (true, false));
    }
}
