//! Trying again with growing pauses: the one module that knows the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// Between two questions of [`until`].
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(250);

/// Each pause is this many times the one before, so an answer is noticed late by a quarter of the wait at most.
const FACTOR: f64 = 1.25;

/// Growing pauses from `first` to `longest`, for as long as `total`; jitter keeps several waiters apart.
fn pauses(first: Duration, longest: Duration, total: Option<Duration>) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(longest)
        .with_multiplier(FACTOR)
        .with_max_elapsed_time(total)
        .build()
}

/// Tries until it works or `total` has passed, and then answers with the last error; twice at least, for one try may
/// take as long as that.
pub async fn for_a_while<T, E>(
    total: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut pauses = pauses(
        Duration::from_millis(100),
        Duration::from_secs(2),
        Some(total),
    );
    for tried in 0.. {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => match pauses.next_backoff() {
                Some(pause) => tokio::time::sleep(pause).await,
                None if tried == 0 => {}
                None => return Err(error),
            },
        }
    }
    unreachable!("it is tried until it works or the time is over")
}

/// Asks until the answer is yes, up to `limit`; whether it was.
pub async fn until(limit: Duration, mut ask: impl AsyncFnMut() -> bool) -> bool {
    let mut pauses = pauses(FIRST, LONGEST, None);
    let yes = async {
        while !ask().await {
            tokio::time::sleep(pauses.next_backoff().unwrap_or(LONGEST)).await;
        }
    };
    tokio::time::timeout(limit, yes).await.is_ok()
}
