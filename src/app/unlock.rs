//! `rollout unlock`: removes the lock of a service.

use super::opened::{Found, Opened, Unread};
use crate::{
    cli::UnlockArgs, docker::engine::Engine, error::Result, event::Events, model::ServiceKey, state,
};

pub async fn unlock(unlock: &UnlockArgs, events: &Events) -> Result<()> {
    let (target, names) = (&unlock.target, [unlock.service.as_str()]);
    let found = Opened::find_alone(target, &names, events, Unread::AskContainers).await?;
    if let Found::Stack(stack) = &found {
        let key = stack.key(&unlock.service);
        return remove(&stack.engine, &key, unlock.force, events).await;
    }
    let (opened, ()) = found.one()?;
    let Opened {
        engine, project, ..
    } = &opened;
    project.service(&unlock.service)?;
    let key = opened.project.key(&unlock.service);
    remove(engine, &key, unlock.force, events).await
}

async fn remove(engine: &Engine, key: &ServiceKey, force: bool, events: &Events) -> Result<()> {
    match state::unlock(engine, key, force).await? {
        Some(holder) => events.notice(format!(
            "removed the lock on {key} that was held by {holder}"
        )),
        None => events.notice(format!("{key} is not locked")),
    }
    Ok(())
}
