//! Rounds of readers: a list and the inspects after it. The daemon does not end during a round.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

/// A reader inspects the next container at once. A round without a request for this long is over.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest wait for the end of a round. A round takes less than a second, except on a busy machine, where interrupting it
/// would lose requests.
const LONGEST: Duration = Duration::from_secs(4);

/// The rounds in progress, as far as requests show them.
#[derive(Default)]
pub struct Rounds {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ending: bool,
    open: usize,
    last: Option<Instant>,
}

/// One request of a round; dropped when it is answered.
pub struct Turn<'a>(&'a Rounds);

impl Rounds {
    /// A list begins a round; `None` if the daemon is ending.
    ///
    /// Traefik keeps its configuration when a list fails, and drops every container whose inspect fails.
    pub fn list(&self) -> Option<Turn<'_>> {
        let ending = self.state().ending;
        (!ending).then(|| self.inspect())
    }

    /// An inspect continues a round.
    pub fn inspect(&self) -> Turn<'_> {
        self.state().open += 1;
        Turn(self)
    }

    /// Refuses further rounds, and waits for the end of those in progress.
    pub async fn end(&self) {
        self.state().ending = true;
        let quiet = async {
            while let Some(until) = self.busy_until() {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.changed.notified() => {}
                }
            }
        };
        if timeout(LONGEST, quiet).await.is_err() {
            tracing::warn!("a reader is still in the middle of its round");
        }
    }

    fn busy_until(&self) -> Option<Instant> {
        let state = self.state();
        let now = Instant::now();
        let until = match state.open {
            0 => state.last? + PAUSE,
            _ => now + PAUSE,
        };
        (until > now).then_some(until)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.last = Some(Instant::now());
        drop(state);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(rounds: &Rounds) -> Duration {
        let start = Instant::now();
        rounds.end().await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_round_in_progress_the_daemon_ends_at_once() {
        let rounds = Rounds::default();
        assert_eq!(took(&rounds).await, Duration::ZERO);
        drop(rounds.inspect());
        tokio::time::advance(PAUSE).await;
        assert_eq!(took(&rounds).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_is_answered_to_its_end_and_no_other_begins() {
        let rounds = Rounds::default();
        drop(rounds.list().expect("a list before the end"));
        let reader = async {
            for _ in 0..4 {
                tokio::time::sleep(PAUSE / 2).await;
                assert!(rounds.list().is_none(), "a list after the end");
                drop(rounds.inspect());
            }
        };
        let (waited, ()) = tokio::join!(took(&rounds), reader);
        assert!(
            (PAUSE * 3..LONGEST).contains(&waited),
            "{waited:?} for 4 inspects"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_never_ends_its_round_is_not_waited_for_for_ever() {
        let rounds = Rounds::default();
        let _turn = rounds.inspect();
        assert_eq!(took(&rounds).await, LONGEST);
    }
}
