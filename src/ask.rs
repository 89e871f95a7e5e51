//! A request from one run to another run of the same service. The request is a never-started container; its creation is
//! an engine event that the other run receives on any machine.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    docker::engine::{Engine, own_labels},
    error::{Error, Result},
    model::{Promote, ServiceKey},
};

/// The label with the service that it is about.
pub const KEY: &str = "io.rollout.ask";
const AT: &str = "io.rollout.ask.at";

/// The poll interval in case an event was missed.
const LOST: Duration = Duration::from_secs(5);

/// What one run asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Go back to the old version.
    Undo,
    /// End the pause of a canary.
    Promote(Promote),
    /// Stop before the next shift or batch.
    Hold,
    /// Go on after a [`Request::Hold`].
    Resume,
}

impl Request {
    /// The label that has the requester as its value. Version 0.1.0 hears an undo alone, and only by its label.
    fn label(self) -> &'static str {
        match self {
            Self::Undo => "io.rollout.ask.who",
            Self::Promote(Promote::Next) => "io.rollout.ask.promote",
            Self::Promote(Promote::Full) => "io.rollout.ask.promote-full",
            Self::Hold => "io.rollout.ask.pause",
            Self::Resume => "io.rollout.ask.resume",
        }
    }
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub request: Request,
    pub who: String,
}

/// A request that is open until it is withdrawn or received.
pub struct Ask {
    engine: Engine,
    id: String,
}

fn name(key: &ServiceKey) -> String {
    format!("rollout-ask.{}.{}", key.project, key.service)
}

/// Asks the current rollout of the service for something. `image` is any image that the engine has.
pub async fn ask(engine: &Engine, key: &ServiceKey, image: &str, asked: &Asked) -> Result<Ask> {
    let labels = HashMap::from([
        (KEY.to_owned(), key.to_string()),
        (asked.request.label().to_owned(), asked.who.clone()),
        (AT.to_owned(), engine.clock_ms().await.to_string()),
    ]);
    let labels: HashMap<_, _> = own_labels("ask").into_iter().chain(labels).collect();
    match engine.create_marker(&name(key), image, labels).await? {
        Some(id) => Ok(Ask {
            engine: engine.clone(),
            id,
        }),
        None => Err(Error::locked(format!(
            "another request to the rollout of {key} is open"
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

/// Completes when one of these requests comes. Requests from before `since`, in milliseconds of the engine's clock, belong
/// to an earlier rollout.
pub async fn requested(engine: &Engine, key: &ServiceKey, since: u64, heard: &[Request]) -> Asked {
    loop {
        // Subscribe before the look, so that no event is lost in between.
        let mut events = Box::pin(engine.events());
        let mut first = std::pin::pin!(events.next());
        let begun = timeout(Duration::from_millis(50), &mut first).await;
        match look(engine, key, since, heard).await {
            Ok(Some(asked)) => return asked,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot look for an ask"),
        }
        if begun.is_err() {
            let _ = timeout(LOST, first).await;
        }
    }
}

async fn look(
    engine: &Engine,
    key: &ServiceKey,
    since: u64,
    heard: &[Request],
) -> Result<Option<Asked>> {
    let Some(found) = engine.inspect(&name(key)).await? else {
        return Ok(None);
    };
    let labels = found.config.and_then(|config| config.labels);
    let labels = labels.unwrap_or_default();
    let at = labels.get(AT).and_then(|at| at.parse::<u64>().ok());
    let is_of_this = at.is_some_and(|at| at >= since);
    let asked = heard.iter().find_map(|request| {
        let who = labels.get(request.label())?.clone();
        let request = *request;
        Some(Asked { request, who })
    });
    // Another step may hear what this one does not.
    if asked.is_some() || !is_of_this {
        engine.discard(&found.id.unwrap_or_default()).await?;
    }
    Ok(asked.filter(|_| is_of_this))
}
