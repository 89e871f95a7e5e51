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

/// A request that stands on the engine.
pub struct Open {
    pub asked: Asked,
    engine: Engine,
    id: String,
}

impl Open {
    /// Receives it; `None` where it was withdrawn meanwhile. To be awaited to its end: the command that asks takes its
    /// request for heard once it is gone.
    pub async fn receive(self) -> Option<Asked> {
        let received = self.engine.discards(&self.id).await;
        received.is_ok_and(|own| own).then_some(self.asked)
    }
}

/// Completes when one of these requests comes, and leaves it open: this may be dropped at any moment. Requests from before
/// `since`, in milliseconds of the engine's clock, belong to an earlier rollout.
pub async fn requested(engine: &Engine, key: &ServiceKey, since: u64, heard: &[Request]) -> Open {
    loop {
        // Subscribe before the look, so that no event is lost in between.
        let mut events = Box::pin(engine.events());
        let mut first = std::pin::pin!(events.next());
        let begun = timeout(Duration::from_millis(50), &mut first).await;
        // Another step may hear what this one does not.
        let is_heard = |asked: &Asked| heard.contains(&asked.request);
        if let Some(open) = open(engine, key, since, &is_heard).await {
            return open;
        }
        if begun.is_err() {
            let _ = timeout(LOST, first).await;
        }
    }
}

/// Receives the request that is open now, if `is_heard` accepts it.
pub async fn receive(
    engine: &Engine,
    key: &ServiceKey,
    since: u64,
    is_heard: &IsHeard<'_>,
) -> Option<Asked> {
    open(engine, key, since, is_heard).await?.receive().await
}

async fn open(
    engine: &Engine,
    key: &ServiceKey,
    since: u64,
    is_heard: &IsHeard<'_>,
) -> Option<Open> {
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
) -> Result<Option<Open>> {
    let Some(found) = find(engine, key).await? else {
        return Ok(None);
    };
    let at = found.labels.get(AT).and_then(|at| at.parse::<u64>().ok());
    let is_of_this = at.is_some_and(|at| at >= since);
    if !is_of_this || is_dead(&found.labels) {
        engine.discard(&found.id).await?;
        return Ok(None);
    }
    let asked = found.asked().filter(is_heard);
    Ok(asked.map(|asked| Open {
        asked,
        engine: engine.clone(),
        id: found.id,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper::{Response, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::{
        docker::http::{Body, json as answer, refusal},
        error::Outcome,
        event::Events,
        fake_engine::FakeEngine,
    };

    /// Whether the request stands on the engine.
    type Stands = Arc<Mutex<bool>>;

    /// An engine on which an abort stands that came at 5; it was withdrawn since it was looked at, if that is said.
    fn table(
        stands: &Stands,
        labels: &Labels,
        is_late: bool,
        asked: (&str, &str),
    ) -> Response<Body> {
        let mut stands = stands.lock().unwrap();
        match asked {
            ("GET", "/version") => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            ("GET", "/containers/rollout-ask.shop.web/json") if *stands => {
                let config = json!({"Labels": labels});
                answer(StatusCode::OK, &json!({"Id": "first", "Config": config}))
            }
            ("DELETE", "/containers/first") if *stands && !is_late => {
                *stands = false;
                let mut removed = answer(StatusCode::OK, &json!({}));
                *removed.status_mut() = StatusCode::NO_CONTENT;
                removed
            }
            ("POST", "/containers/create") if *stands => refusal(StatusCode::CONFLICT, "in use"),
            ("POST", "/containers/create") => answer(
                StatusCode::CREATED,
                &json!({"Id": "second", "Warnings": []}),
            ),
            _ => refusal(StatusCode::NOT_FOUND, "No such thing"),
        }
    }

    fn key() -> ServiceKey {
        ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        }
    }

    async fn engine(is_dead: bool, is_late: bool) -> (FakeEngine, Engine, Stands) {
        let stands = Stands::new(Mutex::new(true));
        let mut labels = owner::labels(5);
        labels.insert(Request::Undo.label().to_owned(), "ada".to_owned());
        labels.insert(AT.to_owned(), "5".to_owned());
        if is_dead {
            let other = format!("{}@1", std::process::id());
            labels.insert("io.rollout.lock.process".to_owned(), other);
        }
        let kept = Arc::clone(&stands);
        let fake = FakeEngine::start(move |method, path, _| {
            table(&kept, &labels, is_late, (method, path))
        });
        let engine = Engine::connect(fake.endpoint(), &Events::default()).await;
        (fake, engine.unwrap(), stands)
    }

    #[tokio::test]
    async fn a_request_stays_open_until_a_step_hears_it() {
        let (_fake, engine, stands) = engine(false, false).await;
        assert_eq!(receive(&engine, &key(), 1, &|_| false).await, None);
        assert!(*stands.lock().unwrap());
        let heard = receive(&engine, &key(), 1, &|own| own.request == Request::Undo).await;
        assert_eq!(heard.unwrap().who, "ada");
        assert!(!*stands.lock().unwrap());
    }

    #[tokio::test]
    async fn one_that_was_given_up_does_not_act_later() {
        // The process is dead; it is of an earlier rollout; it is withdrawn in the same moment.
        for (is_dead, since, is_late) in [(true, 1, false), (false, 6, false), (false, 1, true)] {
            let (_fake, engine, stands) = engine(is_dead, is_late).await;
            assert_eq!(receive(&engine, &key(), since, &|_| true).await, None);
            assert_eq!(*stands.lock().unwrap(), is_late);
        }
    }

    #[tokio::test]
    async fn one_of_a_killed_command_does_not_stand_in_the_way_of_another() {
        let asked = Asked {
            request: Request::Hold,
            who: "bob".to_owned(),
        };
        let (_fake, killed, _) = engine(true, false).await;
        let open = ask(&killed, &key(), "a", &asked).await.unwrap();
        assert_eq!(open.id(), "second");
        // It is gone by then, so it was heard.
        assert!(!open.withdraw().await.unwrap());
        let (_fake, living, _) = engine(false, false).await;
        let refused = ask(&living, &key(), "a", &asked).await.err().unwrap();
        assert_eq!(refused.outcome, Outcome::Locked);
    }
}
