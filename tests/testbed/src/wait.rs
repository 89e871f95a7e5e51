//! Waiting for a condition, with a limit.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(20);

/// Asks again and again until the answer is `Ok`. Panics with `what` and the last `Err` after `limit`.
pub async fn eventually<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if Instant::now() > end => panic!("not within {limit:?}: {what}: {last:?}"),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Waits for the end of a process of this machine, 5 s at most.
pub async fn has_ended(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    eventually(
        "the process has ended",
        Duration::from_secs(5),
        async || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            // A process that has ended may not be reaped yet.
            if stat.is_empty() || stat.contains(" Z ") {
                Ok(())
            } else {
                Err(stat)
            }
        },
    )
    .await;
}
