//! The lease of a lock: a file in its container that is renewed regularly.

use std::time::Duration;

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::owner::{self, Labels};
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
};

/// A lock is stale this long after the last renewal.
pub const LEASE: Duration = Duration::from_secs(45);

/// The time between two renewals.
const RENEW: Duration = Duration::from_secs(15);

/// The time to the next try after a failed renewal.
const AGAIN: Duration = Duration::from_secs(3);

/// The file, in the container's root; its content is when the lease ends, in milliseconds of the engine's clock.
const FILE: &str = "rollout-lease";

/// Renews the lease of a lock that was taken at `epoch`, until it is aborted or the lock is gone.
pub fn keep(engine: &Engine, id: &str, epoch: u64) -> AbortHandle {
    let (engine, id, taken) = (engine.clone(), id.to_owned(), Instant::now());
    let task = tokio::spawn(async move {
        let mut pause = RENEW;
        loop {
            sleep(pause).await;
            // The process's own clock stops while the machine sleeps.
            let counted = epoch + taken.elapsed().as_millis() as u64;
            let now = engine.own_clock_ms().await.unwrap_or(counted);
            pause = match renew(&engine, &id, now + LEASE.as_millis() as u64).await {
                Ok(()) => RENEW,
                Err(error) => {
                    tracing::warn!(%error, "the lease of the lock was not renewed");
                    AGAIN
                }
            };
        }
    });
    task.abort_handle()
}

async fn renew(engine: &Engine, id: &str, until: u64) -> Result<()> {
    let text = until.to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    let written = archive
        .append_data(&mut header, FILE, text.as_bytes())
        .and_then(|()| archive.into_inner());
    let archive = written.map_err(|error| Error::failed(error.to_string()))?;
    engine.unpack_into(id, "/", archive).await
}

/// The rest of a lock's lease; zero if it has expired, `None` if it has none or cannot be read.
pub async fn left(engine: &Engine, id: &str, labels: &Labels) -> Option<Duration> {
    let files = engine.files_under(id, &format!("/{FILE}")).await.ok()?;
    let renewed = files.unwrap_or_default().pop().and_then(|(_, text)| {
        let text = String::from_utf8(text).ok()?;
        text.parse::<u64>().ok()
    });
    let first = owner::epoch(labels).map(|epoch| epoch.saturating_add(LEASE.as_millis() as u64));
    let until = renewed.max(first)?;
    let now = engine.own_clock_ms().await?;
    // The engine's clock may have been set back.
    Some(Duration::from_millis(until.saturating_sub(now)).min(LEASE))
}
