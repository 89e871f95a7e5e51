//! `rollout plan`: what `rollout up` of the same services would do.

use super::up::up;
use crate::{
    cli::{PlanArgs, UpArgs},
    error::{Outcome, Result},
    event::Events,
};

pub async fn plan(asked: &PlanArgs, events: &Events) -> Result<Outcome> {
    let asked = asked.clone();
    let asked = UpArgs {
        all: asked.all || asked.services.is_empty(),
        services: asked.services,
        remove_orphans: false,
        set: asked.set,
        decided: Vec::new(),
        settings: asked.settings,
        dry_run: true,
        target: asked.target,
    };
    up(&asked, events).await
}
