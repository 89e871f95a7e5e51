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
