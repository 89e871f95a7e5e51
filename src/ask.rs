//! A request from one run to another run of the same service. The request is a never-started container; its creation is
//! an engine event that the other run receives on any machine.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    docker::engine::{Engine, own_labels},
    error::{Error, Result},
    model::{Promote, ServiceKey},
    state::owner::{self, Labels, is_dead},
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
    const ALL: [Self; 5] = [
        Self::Undo,
        Self::Promote(Promote::Next),
        Self::Promote(Promote::Full),
        Self::Hold,
        Self::Resume,
    ];

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

/// Whether a request is heard now.
pub type IsHeard<'a> = dyn Fn(&Asked) -> bool + 'a;

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
    let at = engine.clock_ms().await;
    let mut labels = own_labels("ask");
    labels.insert(KEY.to_owned(), key.to_string());
    labels.insert(asked.request.label().to_owned(), asked.who.clone());
    labels.insert(AT.to_owned(), at.to_string());
    labels.extend(owner::labels(at));
    // A request of a command that was killed stands in the way until it is removed.
    let name = name(key);
    for _ in 0..2 {
        let created = engine.create_marker(&name, image, labels.clone());
        if let Some(id) = created.await? {
            return Ok(Ask {
                engine: engine.clone(),
                id,
            });
        }
        match find(engine, key).await? {
            Some(found) if !is_dead(&found.labels) => break,
            Some(found) => engine.discard(&found.id).await?,
            None => {}
        }
    }
    let message = format!("another request to the rollout of {key} is open");
    Err(Error::locked(message).hint("wait until it is heard, or end the command that asks"))
}

impl Ask {
    /// The container; the receiver removes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Withdraws the request; false if it was received before.
    pub async fn withdraw(self) -> Result<bool> {
        self.engine.discards(&self.id).await
    }
}

/// A request as it stands on the engine.
struct Found {
    id: String,
    labels: Labels,
}

impl Found {
    fn asked(&self) -> Option<Asked> {
        Request::ALL.into_iter().find_map(|request| {
            let who = self.labels.get(request.label())?.clone();
            Some(Asked { request, who })
        })
    }
}

async fn find(engine: &Engine, key: &ServiceKey) -> Result<Option<Found>> {
    let found = engine.inspect(&name(key)).await?;
    Ok(found.map(|found| Found {
        id: found.id.unwrap_or_default(),
        labels: found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default(),
    }))
}

/// Completes when one of these requests comes. Requests from before `since`, in milliseconds of the engine's clock, belong
/// to an earlier rollout.
pub async fn requested(engine: &Engine, key: &ServiceKey, since: u64, heard: &[Request]) -> Asked {
    loop {
        // Subscribe before the look, so that no event is lost in between.
        let mut events = Box::pin(engine.events());
        let mut first = std::pin::pin!(events.next());
        let begun = timeout(Duration::from_millis(50), &mut first).await;
        // Another step may hear what this one does not.
        let is_heard = |asked: &Asked| heard.contains(&asked.request);
        if let Some(asked) = receive(engine, key, since, &is_heard).await {
            return asked;
        }
        if begun.is_err() {
            let _ = timeout(LOST, first).await;
        }
    }
}

/// The request that is open now, if `is_heard` accepts it.
pub async fn receive(
    engine: &Engine,
    key: &ServiceKey,
    since: u64,
    is_heard: &IsHeard<'_>,
) -> Option<Asked> {
    let looked = look(engine, key, since, is_heard).await;
    looked.unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot look for an ask");
        None
    })
}

async fn look(
    engine: &Engine,
    key: &ServiceKey,
    since: u64,
    is_heard: &IsHeard<'_>,
) -> Result<Option<Asked>> {
    let Some(found) = find(engine, key).await? else {
        return Ok(None);
    };
    let at = found.labels.get(AT).and_then(|at| at.parse::<u64>().ok());
    let is_of_this = at.is_some_and(|at| at >= since);
    if !is_of_this || is_dead(&found.labels) {
        engine.discard(&found.id).await?;
        return Ok(None);
    }
    let Some(asked) = found.asked().filter(is_heard) else {
        return Ok(None);
    };
    // It may have been withdrawn meanwhile.
    let is_received = engine.discards(&found.id).await?;
    Ok(is_received.then_some(asked))
}
