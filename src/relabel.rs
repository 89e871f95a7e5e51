//! `rollout relabel`: what Traefik reads of a container's labels, changed by hand; a drain without a rollout.

mod confirm;
mod find;
mod list;
mod remarks;

use tokio::time::Instant;

pub use self::list::list;
use self::{confirm::confirm, remarks::Remarks};
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    event::{Event, Events},
    model::{ContainerId, Replica, ServiceKey, label},
    overlay::{Claim, ENABLE, Labels, key_by_hand},
    proxy::{
        landscape::{Landscape, Listed},
        socket_proxies::{Control, SocketProxy},
        traefik::labels::is_false,
    },
};

/// What is to be said of a container by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These labels, beside those that were set before.
    Set(Labels),
    Clear,
}

/// Changes what Traefik reads of a container, and waits until it has read it.
pub async fn relabel(engine: &Engine, events: &Events, name: &str, change: &Change) -> Result<()> {
    let listed = Listed::read(engine).await?;
    let id = find::container(&listed.containers, name)?;
    let gone = || Error::refused(format!("container {name} has just been removed"));
    let target = engine.replica(&id).await?.ok_or_else(gone)?;
    let key = service_of(&target);
    let found = concerned(engine, listed, &target, &key).await?;
    if let Change::Set(_) = change {
        refuse_unseen(&found, &target)?;
    }
    let controls: Vec<Control> = found.iter().map(|found| found.control.clone()).collect();
    let before = controls[0].overlay().await?;
    let started = Instant::now();
    let mut generations = Vec::new();
    for control in &controls {
        generations.push(apply(control, &id, change).await?);
    }
    let now = controls[0].overlay().await?;
    let replicas = fellows(engine, &target, &key).await?;
    let remarks = Remarks {
        target: &target,
        service: target.labels.get(label::COMPOSE_SERVICE),
        replicas: &replicas,
        before: &before,
        now: &now,
    };
    let asked = match change {
        Change::Set(labels) => labels.clone(),
        Change::Clear => Labels::new(),
    };
    for text in remarks.on(&asked) {
        events.notice(text);
    }
    let expected = remarks.expected(&asked);
    let route = confirm(
        engine,
        events,
        &found,
        &generations,
        expected,
        &target,
        &key,
    )
    .await?;
    events.emit(Event::Relabelled {
        container: target.name.clone(),
        labels: now.labels_by_hand(&id.0),
        route,
        ms: started.elapsed().as_millis() as u64,
    });
    Ok(())
}

/// Refuses a container that no Traefik sees, whatever is set on it.
fn refuse_unseen(found: &[SocketProxy], target: &Replica) -> Result<()> {
    let mut refusals = Vec::new();
    for own in found {
        match own.refuse_unseen(&target.name, &target.labels) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals.into_iter().next().map_or(Ok(()), Err)
}

/// The generation in which the change holds.
async fn apply(control: &Control, id: &ContainerId, change: &Change) -> Result<u64> {
    let overlay = control.overlay().await?;
    let mut labels = overlay.labels_by_hand(&id.0);
    match change {
        Change::Clear if labels.is_empty() => Ok(overlay.generation),
        Change::Clear => control.clear(&key_by_hand(&id.0), 1).await,
        Change::Set(more) => {
            labels.extend(more.iter().map(|(key, value)| plain(key, value)));
            control.set(Claim::by_hand(&id.0, labels)).await
        }
    }
}

/// Whatever Traefik takes for hiding is written in the one way that the socket proxy knows too.
fn plain(key: &str, value: &str) -> (String, String) {
    match key.eq_ignore_ascii_case(ENABLE) && is_false(value) {
        true => (ENABLE.to_owned(), "false".to_owned()),
        false => (key.to_owned(), value.to_owned()),
    }
}

/// Outside Compose there is no service; what is asked about one then knows this container alone.
fn service_of(target: &Replica) -> ServiceKey {
    let get = |key| target.labels.get(key).cloned().unwrap_or_default();
    ServiceKey {
        project: get(label::COMPOSE_PROJECT),
        service: get(label::COMPOSE_SERVICE),
    }
}

async fn fellows(engine: &Engine, target: &Replica, key: &ServiceKey) -> Result<Vec<Replica>> {
    match key.project.is_empty() || key.service.is_empty() {
        true => Ok(vec![target.clone()]),
        false => engine.replicas(key).await,
    }
}

/// The socket proxies that a Traefik in front of the container may read through; all of them where none is known to be.
async fn concerned(
    engine: &Engine,
    listed: Listed,
    target: &Replica,
    key: &ServiceKey,
) -> Result<Vec<SocketProxy>> {
    let landscape = Landscape::of(engine, listed, &key.project).await?;
    let found = landscape.socket_proxies;
    if found.is_empty() {
        return Err(Error::refused(
            "no socket proxy runs on this engine, so nothing can change what Traefik reads",
        )
        .hint("rollout init shows what to add to the Compose file"));
    }
    let networks = target.networks.iter().cloned().collect();
    let project = (!key.project.is_empty()).then_some(key.project.as_str());
    let concerned: Vec<SocketProxy> = found
        .iter()
        .filter(|found| found.concerns(project, &landscape.running, &networks))
        .cloned()
        .collect();
    Ok(if concerned.is_empty() {
        found
    } else {
        concerned
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_traefik_takes_for_hiding_is_written_in_one_way() {
        let plain = |key, value| plain(key, value);
        let hidden = (ENABLE.to_owned(), "false".to_owned());
        assert_eq!(plain("traefik.Enable", "0"), hidden);
        assert_eq!(plain(ENABLE, "FALSE"), hidden);
        assert_eq!(plain(ENABLE, "no").1, "no");
        assert_eq!(plain("other", "0").1, "0");
    }
}
