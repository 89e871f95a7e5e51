//! Wakes whoever waits for something to happen to a service's containers.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{sync::Notify, task::AbortHandle};

use crate::{
    engine::Engine,
    model::{ServiceKey, label},
};

/// An event can be lost together with its stream: a waiter looks again after this long all the same.
const LOST: Duration = Duration::from_secs(3);

/// Container events of one service, as a wake-up call; what has changed, the waiter reads for itself.
pub struct Watch {
    changed: Arc<Notify>,
    task: AbortHandle,
}

impl Watch {
    /// Begins to listen; after a lost stream it listens again, and wakes, since something may have been missed.
    pub fn start(engine: &Engine, key: &ServiceKey) -> Self {
        let changed = Arc::new(Notify::new());
        let (engine, key, notify) = (engine.clone(), key.clone(), changed.clone());
        let task = tokio::spawn(async move {
            loop {
                let mut events = Box::pin(engine.events());
                while let Some(Ok(event)) = events.next().await {
                    let attributes = event
                        .actor
                        .and_then(|actor| actor.attributes)
                        .unwrap_or_default();
                    let is = |label: &str, value: &str| {
                        attributes.get(label).is_some_and(|own| own == value)
                    };
                    let action = event.action.unwrap_or_default();
                    if is(label::COMPOSE_PROJECT, &key.project)
                        && is(label::COMPOSE_SERVICE, &key.service)
                        && matters(&action)
                    {
                        notify.notify_waiters();
                    }
                }
                notify.notify_waiters();
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        Self {
            changed,
            task: task.abort_handle(),
        }
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
        "restart",
        "pause",
        "unpause",
        "rename",
        "health_status",
    ]
    .iter()
    .any(|known| action.starts_with(known))
}
