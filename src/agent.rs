//! The parts of `rollout agent` beside its loop, and what the loop shares with the HTTP server.
//!
//! The agent changes nothing itself: for each rollout it starts this program again, with the lock, the checks and the
//! records of any rollout.

pub mod auto;
pub mod images;
pub mod login;
pub mod metrics;
pub mod webhook;
pub mod window;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::{metrics::Metrics, webhook::Token};

/// How late a check may be before the loop counts as stuck.
const LATE: Duration = Duration::from_secs(120);

pub struct Shared {
    /// The token of the webhook; `None` turns it off.
    token: Option<Token>,
    interval: Duration,
    state: Mutex<State>,
    /// Wakes the loop for the services that are asked for.
    pub called: Notify,
}

/// What changes.
pub struct State {
    pub metrics: Metrics,
    /// The services that the agent rolls.
    pub autos: BTreeSet<String>,
    /// Those that the webhook was called for since the last check.
    asked: BTreeSet<String>,
    calls: Calls,
    /// Whether the last check failed as a whole.
    pub has_failed: bool,
    /// When the last check began.
    pub checked: Instant,
    /// A rollout takes as long as it takes.
    pub is_rolling: bool,
}

impl Shared {
    pub fn new(token: Option<Token>, interval: Duration, autos: BTreeSet<String>) -> Self {
        let state = Mutex::new(State {
            metrics: Metrics::default(),
            autos,
            asked: BTreeSet::new(),
            calls: Calls::default(),
            has_failed: false,
            checked: Instant::now(),
            is_rolling: false,
        });
        Self {
            token,
            interval,
            state,
            called: Notify::new(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn checked(&self, service: &str, is_answered: bool) {
        self.state().metrics.checked(service, is_answered);
    }

    /// Takes the services that the webhook was called for.
    pub fn take_asked(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// Why the agent is not well, in words that anyone may read: an error may quote the Compose file.
    fn trouble(&self) -> Option<&'static str> {
        let state = self.state();
        let is_late = !state.is_rolling && state.checked.elapsed() > self.interval + LATE;
        match state.has_failed {
            true => Some("the last check failed; the log of the agent says why"),
            false => is_late.then_some("the check is late; the log of the agent says what it does"),
        }
    }
}

/// Limits the calls of the webhook, whatever they are for.
#[derive(Default)]
struct Calls {
    since: Option<Instant>,
    count: u32,
}

impl Calls {
    const PERIOD: Duration = Duration::from_secs(10);
    const MOST: u32 = 20;

    /// Counts one more; false where there are too many.
    fn admit(&mut self) -> bool {
        let now = Instant::now();
        if self.since.is_none_or(|since| now - since >= Self::PERIOD) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count <= Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_agent_is_well_while_it_checks_in_time_or_waits_for_a_rollout() {
        let shared = Shared::new(None, Duration::from_secs(300), BTreeSet::new());
        assert_eq!(shared.trouble(), None);
        advance(Duration::from_secs(419)).await;
        assert_eq!(shared.trouble(), None);
        advance(Duration::from_secs(2)).await;
        assert!(shared.trouble().unwrap().starts_with("the check is late"));
        shared.state().is_rolling = true;
        assert_eq!(shared.trouble(), None);
        shared.state().has_failed = true;
        assert!(
            shared
                .trouble()
                .unwrap()
                .starts_with("the last check failed")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_calls_is_cut_off_and_forgotten_after_the_period() {
        let mut calls = Calls::default();
        let admitted = (0..1_000).filter(|_| calls.admit()).count();
        assert_eq!(admitted, 20);
        advance(Duration::from_secs(9)).await;
        assert!(!calls.admit());
        advance(Duration::from_secs(1)).await;
        assert!(calls.admit());
    }
}
