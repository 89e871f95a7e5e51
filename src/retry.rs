//! Retries with growing pauses; the only module that uses the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// The shortest and longest pause of [`until`].
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// The growth of each pause; a change is noticed late by about a tenth of the wait.
const FACTOR: f64 = 1.1;

/// Growing pauses from `first` to `longest`, up to `total`; jitter spreads several waiters.
fn pauses(first: Duration, longest: Duration, total: Option<Duration>) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(longest)
        .with_multiplier(FACTOR)
        .with_max_elapsed_time(total)
        .build()
}

/// Tries until success or until `total` has passed, then returns the last error. Tries at least twice, since one try may
/// take all of `total`.
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

/// Asks until the answer is true. Returns false if `limit` passes first.
pub async fn until(limit: Duration, mut ask: impl AsyncFnMut() -> bool) -> bool {
    let mut pauses = pauses(FIRST, LONGEST, None);
    let yes = async {
        while !ask().await {
            tokio::time::sleep(pauses.next_backoff().unwrap_or(LONGEST)).await;
        }
    };
    tokio::time::timeout(limit, yes).await.is_ok()
}
