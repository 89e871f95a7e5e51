//! `rollout undo` of a service of a stack in a Swarm.

use tokio::sync::watch;

use super::no_earlier;
use crate::{
    app::{
        history::{known, read},
        stacks::{one_service, refuse_options},
    },
    cli::UndoArgs,
    error::{Error, Result},
    event::{Events, ServiceResult},
    proxy::landscape::Landscape,
    roll::Ended,
    settings::Partial,
    state::{revisions::Revisions, store},
    swarm::{self, Request, Stack},
};

pub async fn undo(
    undo: &UndoArgs,
    stack: &Stack,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<()> {
    let line = format!("write: rollout undo SERVICE -p {}", stack.name);
    refuse_options(&undo.target, &stack.name, &line)?;
    let service = one_service(&undo.services, &stack.name, &line)?;
    let key = stack.key(service);
    stack.refuse_unknown(service)?;
    let revisions = revisions(stack, service, events).await?;
    let back = match undo.to {
        Some(number) => known(&revisions, number, service, Some(&stack.name))?,
        None => stack
            .earlier(&key, &revisions)
            .ok_or_else(|| no_earlier(service, Some(&stack.name)))?,
    };
    let asked = Request {
        service,
        flags: &undo.settings,
        back: Some(back),
        aborts: undo.to.is_none(),
        replaces: None,
    };
    let source = stack.source(&undo.target.files, Some(back)).await?;
    stack.roll(&source, &asked, events, interrupted).await?;
    events.notice(format!(
        "put the earlier version into the stack file too, with the image {}: docker stack deploy brings what stands there",
        back.image.reference
    ));
    Ok(())
}

/// Returns a service to revision `before`, unless it no longer runs the revision `made`.
pub async fn to_revision(
    stack: &Stack,
    (service, before, made): (&str, u64, Option<u64>),
    flags: &Partial,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    // It runs another version than when the command began.
    let now = swarm::find(&stack.engine, &stack.name).await?;
    let now = now.as_ref().unwrap_or(stack);
    let revisions = revisions(now, service, events).await?;
    let back = known(&revisions, before, service, Some(&now.name))?;
    let asked = Request {
        service,
        flags,
        back: Some(back),
        aborts: false,
        replaces: made,
    };
    let source = now.source(&[], Some(back)).await?;
    let ended = now.roll(&source, &asked, events, interrupted).await?;
    let after = swarm::find(&stack.engine, &stack.name).await?;
    let is_back = after.is_some_and(|own| own.runs(service, back));
    match is_back || ended.result == ServiceResult::LeftAlone {
        true => Ok(ended),
        // Of a version that docker stack deploy has started not all is known.
        false => Err(Error::failed(format!(
            "{service} has the image of revision {before} again, but is not all that it was then"
        ))
        .hint("roll the stack file of that version: docker stack deploy, or rollout")),
    }
}

async fn revisions(stack: &Stack, service: &str, events: &Events) -> Result<Revisions> {
    let landscape = Landscape::read(&stack.engine, &stack.name).await?;
    let image = landscape.any_image().unwrap_or_default();
    let files = store::look(&stack.engine, &image, &stack.key(service)).await?;
    Ok(read(events, &files))
}
