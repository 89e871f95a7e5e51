//! A request from one run to another run of the same service. The request is a never-started container; its creation is
//! an engine event that the other run receives on any machine.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    docker::engine::{Engine, own_labels},
    error::{Error, Result},
    model::ServiceKey,
};

/// The label with the service that it is about.
pub const KEY: &str = "io.rollout.ask";
const WHO: &str = "io.rollout.ask.who";
const AT: &str = "io.rollout.ask.at";

/// The poll interval in case an event was missed.
const LOST: Duration = Duration::from_secs(5);

/// A request to roll back, open until it is withdrawn or received.
pub struct Ask {
    engine: Engine,
    id: String,
}

fn name(key: &ServiceKey) -> String {
    format!("rollout-ask.{}.{}", key.project, key.service)
}

/// Asks the current rollout of the service to roll back. `image` is any image that the engine has.
pub async fn undo(engine: &Engine, key: &ServiceKey, image: &str, who: &str) -> Result<Ask> {
    let labels = HashMap::from([
        (KEY.to_owned(), key.to_string()),
        (WHO.to_owned(), who.to_owned()),
        (AT.to_owned(), engine.clock_ms().await.to_string()),
    ]);
    let labels: HashMap<_, _> = own_labels("ask").into_iter().chain(labels).collect();
    match engine.create_marker(&name(key), image, labels).await? {
        Some(id) => Ok(Ask {
            engine: engine.clone(),
            id,
        }),
        None => Err(Error::locked(format!(
            "another undo of {key} is already requested"
        ))),
    }
}

impl Ask {
    /// The container; the receiver removes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Withdraws the request; succeeds also if it was received.
    pub async fn withdraw(self) -> Result<()> {
        self.engine.discard(&self.id).await
    }
}

/// Completes with the requester when a rollback is requested. Requests from before `since`, in milliseconds of the
/// engine's clock, belong to an earlier rollout.
pub async fn requested(engine: &Engine, key: &ServiceKey, since: u64) -> String {
    loop {
        // Subscribe before the look, so that no event is lost in between.
        let mut events = Box::pin(engine.events());
        let mut first = std::pin::pin!(events.next());
        let begun = timeout(Duration::from_millis(50), &mut first).await;
        match look(engine, key, since).await {
            Ok(Some(who)) => return who,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot look for an ask"),
        }
        if begun.is_err() {
            let _ = timeout(LOST, first).await;
        }
    }
}

async fn look(engine: &Engine, key: &ServiceKey, since: u64) -> Result<Option<String>> {
    let Some(found) = engine.inspect(&name(key)).await? else {
        return Ok(None);
    };
    engine.discard(&found.id.unwrap_or_default()).await?;
    let labels = found.config.and_then(|config| config.labels);
    let labels = labels.unwrap_or_default();
    let at = labels.get(AT).and_then(|at| at.parse::<u64>().ok());
    let who = labels.get(WHO).cloned();
    Ok(who.filter(|_| at.is_some_and(|at| at >= since)))
}
