//! What one run asks of another that is at work on the same service: a never-started container, whose creation is an
//! event that reaches the other wherever it runs.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    engine::{Engine, own_labels},
    error::{Error, Result},
    model::ServiceKey,
};

const KEY: &str = "io.rollout.ask";
const WHO: &str = "io.rollout.ask.who";
const AT: &str = "io.rollout.ask.at";

/// Where an event was missed, the next look comes after this.
const LOST: Duration = Duration::from_secs(5);

/// The wish to have the traffic back, until it is dropped with [`Ask::withdraw`] or heard.
pub struct Ask {
    engine: Engine,
    id: String,
}

fn name(key: &ServiceKey) -> String {
    format!("rollout-ask.{}.{}", key.project, key.service)
}

/// Asks whoever rolls the service to take the traffic back. `image` is any image that the engine has.
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
    /// The container, which goes when it is heard.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes it back; fine where it has been heard.
    pub async fn withdraw(self) -> Result<()> {
        self.engine.discard(&self.id).await
    }
}

/// Ends when somebody asks for the traffic back, with who it is. What was asked before `since`, in milliseconds of the
/// engine's clock, was meant for another rollout.
pub async fn heard(engine: &Engine, key: &ServiceKey, since: u64) -> String {
    loop {
        // Listening begins before the look, so that nothing comes between the two.
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
