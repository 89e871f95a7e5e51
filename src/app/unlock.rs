//! `rollout unlock`: removes the lock of a service.

use super::Opened;
use crate::{cli::UnlockArgs, error::Result, event::Events, state};

pub async fn unlock(unlock: &UnlockArgs, events: &Events) -> Result<()> {
    let opened = Opened::of_records(&unlock.target, &[&unlock.service], events).await?;
    let Opened {
        engine, project, ..
    } = &opened;
    project.service(&unlock.service)?;
    let key = opened.project.key(&unlock.service);
    match state::unlock(engine, &key, unlock.force).await? {
        Some(holder) => events.notice(format!(
            "removed the lock on {key} that was held by {holder}"
        )),
        None => events.notice(format!("{key} is not locked")),
    }
    Ok(())
}
