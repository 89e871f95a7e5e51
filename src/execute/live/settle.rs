//! The pause between a confirmed switch and the drain: a request whose replica the proxy chose before may still be under way.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// The longest extension of the pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits for `pause` after the switch, and again while the proxy takes long to answer: one that is short of processor time
/// holds its requests back for as long.
pub async fn settle(switched: Instant, pause: Duration, mut ask: impl AsyncFnMut()) {
    sleep_until(switched + pause).await;
    let limit = Instant::now() + LONGEST;
    while !pause.is_zero() && Instant::now() < limit {
        let asked = Instant::now();
        ask().await;
        if asked.elapsed() < pause / 2 {
            return;
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(250);

    /// How long it takes with a proxy that needs so many milliseconds for each answer.
    async fn taken(pause: Duration, answers: &[u64]) -> u128 {
        let began = Instant::now();
        let mut answers = answers.iter();
        settle(began, pause, async || {
            let answer = answers.next().copied().unwrap_or(0);
            sleep(Duration::from_millis(answer)).await;
        })
        .await;
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_until_the_proxy_answers_at_once() {
        assert_eq!(taken(PAUSE, &[20]).await, 270);
        assert_eq!(taken(PAUSE, &[600, 130, 10]).await, 250 + 850 + 380 + 10);
        assert_eq!(taken(Duration::ZERO, &[600]).await, 0);
        // One that always answers late is not waited for without end.
        let late = taken(PAUSE, &[1000; 20]).await;
        assert_eq!(late, 250 + 4 * 1250);
    }
}
