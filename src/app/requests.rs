//! Requests to the run that rolls a service, from another terminal or machine.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    ask::{Asked, Request, ask},
    context::RunContext,
    error::Result,
    model::ServiceKey,
    state::{
        lock::{Holder, holder},
        owner,
    },
};

/// Limit for that run to accept a request.
const HEARING: Duration = Duration::from_secs(3);
/// Limit for that run to finish its rollback.
pub const GOING_BACK: Duration = Duration::from_secs(90);

/// The run that holds the lock of a service; `None` where none is at work.
pub async fn at_work(run: &RunContext<'_>, key: &ServiceKey) -> Result<Option<Holder>> {
    let Some(holder) = holder(run.engine, key).await? else {
        return Ok(None);
    };
    Ok(holder.lives(run.engine).await.then_some(holder))
}

/// Whether the run that is at work accepts a request.
pub async fn is_heard(run: &RunContext<'_>, key: &ServiceKey, request: Request) -> Result<bool> {
    let image = run.any_image(key).await?;
    let who = owner::who();
    let ask = ask(run.engine, key, &image, &Asked { request, who }).await?;
    let heard = timeout(HEARING, run.engine.wait_until_removed(ask.id())).await;
    if heard.is_err() {
        ask.withdraw().await?;
    }
    Ok(heard.is_ok())
}
