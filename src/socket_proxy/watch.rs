//! Adapts the overlay to the engine's containers: removed ones, those with a known health, and services of which only hidden
//! containers are left.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    daemon::Daemon,
    engine::{Ask, Unanswered},
    events::{Event, service_key, with_aliases},
    rebuild::{Inspect, Listed, OWN},
    request::Query,
    stream::lines,
};
use crate::overlay::{Claim, Overlay};

/// Between attempts to reach the engine.
const RETRY: Duration = Duration::from_secs(1);
/// The time in which a new visible container has to run before hidden ones are shown instead.
const GRACE: Duration = Duration::from_secs(2);

/// Watches until the process ends, also after losing the engine.
pub async fn watch(daemon: Arc<Daemon>) {
    let mut reported = false;
    loop {
        match follow(&daemon).await {
            Ok(()) => {
                tracing::warn!("the engine's event stream has ended");
                reported = false;
            }
            Err(error) if !reported => {
                tracing::warn!(%error, "waiting for the engine");
                reported = true;
            }
            Err(_) => {}
        }
        daemon.engine.forget_versions();
        sleep(RETRY).await;
    }
}

async fn follow(daemon: &Arc<Daemon>) -> Result<(), Unanswered> {
    let path = format!("/events{}", query().encode());
    let stream = daemon.engine.events(Ask::plain(&path)).await?;
    daemon.engine.forget_versions();
    let version = daemon.engine.versions().await?;
    tracing::info!(version = %version.version, api = %version.api_version, "the engine answers");
    // The subscription comes first, so that the stream contains what happens during the catch-up.
    catch_up(daemon).await?;
    let mut lines = lines(stream.into_body());
    let mut doubtful = Doubtful::default();
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(line) => hear(daemon, &line, &mut doubtful).await,
                None => return Ok(()),
            },
            () = sleep_until(doubtful.due()), if !doubtful.keys.is_empty() => {
                for key in std::mem::take(&mut doubtful.keys) {
                    show_if_left(daemon, &key, Left::NoneRuns).await;
                }
            }
        }
    }
}

fn query() -> Query {
    let events = ["die", "destroy", "health_status"].into_iter();
    let filters = [
        ("type", BTreeSet::from(["container".to_owned()])),
        ("event", with_aliases(events)),
    ];
    Query {
        filters: filters.map(|(key, on)| (key.to_owned(), on)).into(),
        ..Query::default()
    }
}

/// Services whose last visible container may be gone.
#[derive(Default)]
struct Doubtful {
    keys: BTreeSet<String>,
    since: Option<Instant>,
}

impl Doubtful {
    fn add(&mut self, key: String) {
        self.keys.insert(key);
        self.since = Some(Instant::now());
    }

    fn due(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now) + GRACE
    }
}

async fn hear(daemon: &Daemon, line: &str, doubtful: &mut Doubtful) {
    let Some(event) = Event::parse(line) else {
        return;
    };
    if event.is_undecided() {
        return;
    }
    if event.action != "destroy" {
        // After a restart Docker reports `starting` again; a health rule must not apply to that.
        quietly(daemon, |overlay| {
            overlay.settle(&event.id, &event.attributes)
        })
        .await;
        if let Some(key) = service_key(&event.attributes).filter(|_| event.is_health()) {
            end_if_settled(daemon, &key).await;
        }
        return;
    }
    let hidden = daemon
        .store
        .current()
        .keeps_back(&event.id, &event.attributes);
    quietly(daemon, |overlay| overlay.forget_container(&event.id)).await;
    let own = event.attributes.contains_key(OWN);
    let key = service_key(&event.attributes).filter(|_| !hidden && !own);
    if let Some(key) = key
        && daemon.store.current().claims.contains_key(&key)
    {
        show_if_left(daemon, &key, Left::NoneExists).await;
        doubtful.add(key);
    }
}

// Changes the overlay without making readers list again.
async fn quietly(daemon: &Daemon, change: impl FnOnce(&mut Overlay) -> bool) {
    let changed = daemon.store.change(false, |overlay| Ok(change(overlay)));
    if let Err(error) = changed.await {
        tracing::error!(%error, "the overlay stays as it was");
    }
}

// A finished rollout's health rules end when Docker has a health result of each replica.
async fn end_if_settled(daemon: &Daemon, key: &str) {
    let overlay = daemon.store.current();
    let over = |claim: &Claim| claim.stage == Claim::SETTLED;
    if !overlay.claims.get(key).is_some_and(over) {
        return;
    }
    let starting = |one: &Listed| one.status.ends_with("(health: starting)");
    match replicas(daemon, key).await {
        Ok(replicas) if !replicas.iter().any(starting) => {
            quietly(daemon, |overlay| overlay.end_settled(key)).await;
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, key, "cannot see how a service is"),
    }
}

// Handles what happened while the daemon did not run. An error never counts as the absence of a container.
async fn catch_up(daemon: &Daemon) -> Result<(), Unanswered> {
    let overlay = daemon.store.current();
    for id in overlay.ids() {
        let path = format!("/containers/{id}/json");
        match daemon.engine.get::<Inspect>(Ask::plain(&path)).await {
            Err(Unanswered::Missing(_)) => {
                tracing::info!(%id, "dropped the rules on a container that is gone");
                quietly(daemon, |overlay| overlay.forget_container(&id)).await;
            }
            Ok(inspect) if inspect.checked() => {
                quietly(daemon, |overlay| {
                    overlay.settle(&id, &inspect.config.labels)
                })
                .await;
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    for (key, claim) in &overlay.claims {
        end_if_settled(daemon, key).await;
        if claim.stage != Claim::SHOWN && !claim.is_by_hand() {
            show_if_left(daemon, key, Left::NoneExists).await;
        }
    }
    Ok(())
}

/// Which containers count when a service has no visible one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// No visible container exists, in any state.
    NoneExists,
    /// No visible container runs.
    NoneRuns,
}

// The one exception to hiding: if only hidden containers were left, the service would answer 404 for ever.
async fn show_if_left(daemon: &Daemon, key: &str, left: Left) {
    let replicas = match replicas(daemon, key).await {
        Ok(replicas) => replicas,
        Err(error) => return tracing::warn!(%error, key, "cannot see what is left of a service"),
    };
    let shown = daemon.store.change(true, |overlay| {
        let hidden = |one: &Listed| overlay.keeps_back(&one.id, &one.labels);
        let alive = |one: &Listed| left == Left::NoneExists || one.state == "running";
        let ready: Vec<_> = match replicas.iter().any(|one| !hidden(one) && alive(one)) {
            true => Vec::new(),
            false => replicas.iter().filter(|one| ready(one)).collect(),
        };
        let ready: Vec<_> = ready
            .iter()
            .map(|one| (one.id.clone(), one.labels.clone()))
            .collect();
        Ok(overlay.show(key, &ready).then_some(ready.len()))
    });
    match shown.await {
        Ok(None) => {}
        Ok(Some(count)) => tracing::warn!(
            key,
            count,
            "the last visible container is gone: its hidden ones are shown"
        ),
        Err(error) => tracing::error!(%error, key, "a service is left without a visible container"),
    }
}

fn ready(one: &Listed) -> bool {
    let waits = ["(health: starting)", "(unhealthy)", "(Paused)"];
    one.state == "running" && !waits.iter().any(|word| one.status.ends_with(word))
}

async fn replicas(daemon: &Daemon, key: &str) -> Result<Vec<Listed>, Unanswered> {
    let (project, service) = key.split_once('/').unwrap_or((key, ""));
    let labels = [
        format!("com.docker.compose.project={project}"),
        format!("com.docker.compose.service={service}"),
    ];
    let query = Query {
        pairs: vec![("all", "1".to_owned())],
        filters: [("label".to_owned(), labels.into())].into(),
    };
    let path = format!("/containers/json{}", query.encode());
    let listed: Vec<Listed> = daemon.engine.get(Ask::plain(&path)).await?;
    let of_service = |one: &Listed| service_key(&one.labels).as_deref() == Some(key);
    Ok(listed.into_iter().filter(of_service).collect())
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
