//! `rollout undo` of a service of a stack in a Swarm.

use tokio::sync::watch;

use super::no_earlier;
use crate::{
    app::{
        history::{known, read},
        stacks::{one_service, refuse_options},
    },
    cli::UndoArgs,
    error::Result,
    event::Events,
    proxy::landscape::Landscape,
    state::store,
    swarm::{Request, Stack},
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
    let landscape = Landscape::read(&stack.engine, &stack.name).await?;
    let image = landscape.any_image().unwrap_or_default();
    let revisions = read(events, &store::look(&stack.engine, &image, &key).await?);
    let back = match undo.to {
        Some(number) => known(&revisions, number, service, Some(&stack.name))?,
        None => stack
            .earlier(&key, &revisions)
            .ok_or_else(|| no_earlier(service, Some(&stack.name)))?,
    };
    let asked = Request {
        service,
        files: &undo.target.files,
        flags: &undo.settings,
        back: Some(back),
        aborts: undo.to.is_none(),
    };
    stack.roll(&asked, events, interrupted).await?;
    events.notice(format!(
        "put the earlier version into the stack file too, with the image {}: docker stack deploy brings what stands there",
        back.image.reference
    ));
    Ok(())
}
