//! `rollout undo`: chooses an earlier revision, and rolls to its record.

mod still;

use std::time::Duration;

use tokio::sync::watch;

use super::{
    Opened,
    history::{known, remembered},
    signals::signals,
};
use crate::{
    ask,
    cli::UndoArgs,
    context::{Purpose, RunContext},
    error::{Error, Result},
    event::{Event, Events},
    model::{Replica, RolloutId, ServiceKey, image_name, label},
    roll::{Ended, roll},
    settings::{OnUnfinished, Partial},
    state::{
        lock::{Holder, holder},
        owner,
        revisions::{Revision, Revisions},
    },
};

/// Limit for a baking run to accept the request to roll back.
const HEARING: Duration = Duration::from_secs(3);
/// Limit for that run to finish its rollback.
const GOING_BACK: Duration = Duration::from_secs(90);

pub async fn undo(undo: &UndoArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = vec![undo.service.clone()];
    events.emit(Event::Opening { services });
    let opened = Opened::of(&undo.target, &[&undo.service], events).await?;
    let events = opened.events(events, &undo.service);
    let undone = go_back(undo, &opened, &events, interrupted).await;
    undone.map_err(|error| error.within(events.scope()))
}

async fn go_back(
    undo: &UndoArgs,
    opened: &Opened,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<()> {
    let Opened {
        engine, project, ..
    } = opened;
    let key = opened.key(&undo.service);
    let here = opened.run(events);
    if undo.to.is_none()
        && let Some(holder) = holder(engine, &key).await?
        && holder.lives(engine).await
        && let Some(old) = cut_back(&here, &key, &holder).await?
    {
        let runs = (old.reference.as_str(), old.hash.as_str());
        still::warn(opened, events, &undo.service, runs).await;
        return Ok(());
    }
    let revisions = remembered(&here, &key).await?;
    if revisions.list.is_empty() {
        project.service(&undo.service)?;
    }
    let replicas = engine.replicas(&key).await?;
    let (back, on_unfinished) = target(&revisions, &replicas, undo.to, &undo.service)?;
    let flags = flags(undo.settings.clone(), back.replicas, on_unfinished);
    let restored = restore(opened, events, (&undo.service, back), &flags, interrupted);
    restored.await.map(drop)
}

/// Returns a service to the revision of this number.
pub async fn to_revision(
    opened: &Opened,
    events: &Events,
    (service, number): (&str, u64),
    given: Partial,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    let revisions = remembered(&opened.run(events), &opened.key(service)).await?;
    let back = known(&revisions, number, service)?;
    let flags = flags(given, back.replicas, OnUnfinished::Resume);
    restore(opened, events, (service, back), &flags, interrupted).await
}

/// Rolls a service to a recorded revision.
async fn restore(
    opened: &Opened,
    events: &Events,
    (service, back): (&str, &Revision),
    flags: &Partial,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    refuse_lost(back, service)?;
    let here = opened.run(events);
    let recorded = opened.compose.recorded(&back.config, &here.project.name);
    let mut project = recorded.project_for(&[service]).await?;
    project.directory.clone_from(&here.project.directory);
    let run = RunContext {
        compose: &recorded,
        project: &project,
        back: Some(back),
        ..here
    };
    let mut landscape = run.landscape().await?;
    let prepared = run.prepare(service, flags, &[], Purpose::Roll, &mut landscape);
    let ended = roll(prepared.await?, &mut landscape, interrupted).await?;
    let runs = (back.image.reference.as_str(), back.hash.as_str());
    still::warn(opened, events, service, runs).await;
    Ok(ended)
}

/// The recorded image is neither pulled nor built, and as many replicas as recorded are wanted.
fn flags(given: Partial, replicas: u32, on_unfinished: OnUnfinished) -> Partial {
    let goal = match on_unfinished {
        OnUnfinished::Resume => "resume",
        OnUnfinished::Abort => "abort",
        OnUnfinished::Fail => "fail",
    };
    Partial::of("pull", "never")
        .or(Partial::of("build", "false"))
        .or(given)
        .or(Partial::of("scale", &replicas.max(1).to_string()))
        .or(Partial::of("on-unfinished", goal))
}

/// Asks a run that bakes to roll back at once. Returns a replica that serves then; `None` if the run does not accept the
/// request.
async fn cut_back(
    run: &RunContext<'_>,
    key: &ServiceKey,
    holder: &Holder,
) -> Result<Option<Replica>> {
    let replicas = run.engine.replicas(key).await?;
    let newest = replicas.iter().max_by_key(|replica| replica.revision);
    let undone = newest.and_then(|newest| newest.rollout.clone());
    let image = run.any_image(key).await?;
    let ask = ask::undo(run.engine, key, &image, &owner::who()).await?;
    let heard = tokio::time::timeout(HEARING, run.engine.wait_until_removed(ask.id())).await;
    if heard.is_err() {
        ask.withdraw().await?;
        return Ok(None);
    }
    let stays = |own: &&Replica| own.rollout != undone;
    let old = replicas.iter().find(stays);
    let image = old.map_or_else(String::new, |old| {
        format!(" ({})", image_name(&old.reference, &old.image))
    });
    run.events.notice(format!(
        "{} returns the traffic to the old replicas{image}",
        holder.whose()
    ));
    let gone = tokio::time::timeout(GOING_BACK, run.engine.wait_until_removed(holder.id())).await;
    match gone {
        // The run may have had to finish; then its revision is undone like any other.
        Ok(()) => {
            let now = run.engine.replicas(key).await?;
            let undone = !runs(&now, &undone);
            Ok(now.into_iter().find(|_| undone))
        }
        Err(_) => Err(Error::failed(format!(
            "{} was asked to roll back and has not ended yet",
            holder.whose()
        ))
        .hint(format!("rollout status {}", key.service))),
    }
}

/// Refuses a revision whose containers cannot be recreated in full.
fn refuse_lost(back: &Revision, service: &str) -> Result<()> {
    if back.lost.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "revision {} of {service} was not created by a rollout, and its containers have parts that cannot be recorded: {}",
        back.number,
        back.lost.join(", ")
    ))
    .hint(format!(
        "put the earlier version into the Compose file, then run: rollout {service}"
    )))
}

/// Whether any replica of this rollout is left.
fn runs(replicas: &[Replica], rollout: &Option<RolloutId>) -> bool {
    rollout.is_some() && replicas.iter().any(|own| own.rollout == *rollout)
}

/// The revision to go back to, and what to do first with an unfinished rollout.
fn target<'a>(
    revisions: &'a Revisions,
    replicas: &[Replica],
    to: Option<u64>,
    service: &str,
) -> Result<(&'a Revision, OnUnfinished)> {
    if let Some(number) = to {
        return Ok((known(revisions, number, service)?, OnUnfinished::Resume));
    }
    let newest = replicas.iter().max_by_key(|replica| replica.revision);
    let running = revisions.running(replicas).unwrap_or(u64::MAX);
    // An undo that was killed before its record continues to the same revision.
    let begun = newest.filter(|_| revisions.get(running).is_none());
    let begun = begun
        .and_then(|newest| newest.labels.get(label::UNDO)?.parse().ok())
        .and_then(|number| revisions.get(number));
    if let Some(begun) = begun {
        return Ok((begun, OnUnfinished::Resume));
    }
    let earlier =
        revisions.list.iter().rev().find(|own| {
            own.number < running && newest.is_none_or(|replica| !own.is_run_by(replica))
        });
    match earlier {
        Some(earlier) => Ok((earlier, OnUnfinished::Abort)),
        None => Err(Error::refused(format!(
            "there is no earlier revision of {service} to go back to"
        ))
        .hint(format!(
            "rollout history {service} lists the revisions; the next rollout records one"
        ))),
    }
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
