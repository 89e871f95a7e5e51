//! Runs a rare health command often, one at a time, until it passes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    engine::{Engine, ExecCommand, ExecOutcome},
    error::Result,
    model::{ContainerId, HealthCheck},
};

/// Health checks rarer than this are helped along by running the same command more often.
pub const RARE: Duration = Duration::from_secs(2);
/// The pause between two runs of the command.
const OFTEN: Duration = Duration::from_millis(500);

/// The commands that run early, by replica. A judgement that is begun again finds the command where it was: one that
/// hangs is not started a second time in the same replica.
#[derive(Default)]
pub struct EarlyChecks(Mutex<BTreeMap<ContainerId, EarlyCheck>>);

struct EarlyCheck {
    looks: watch::Receiver<Look>,
    task: JoinHandle<()>,
}

impl Drop for EarlyCheck {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the command has said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It has not passed yet: why, in a few words; empty before its first end.
    Waiting(String),
    Passed,
}

impl EarlyChecks {
    /// Where the command of this replica is followed; `None` where Docker's own check comes soon enough.
    pub fn follow(
        &self,
        engine: &Engine,
        replica: &ContainerId,
        check: Option<&HealthCheck>,
    ) -> Option<watch::Receiver<Look>> {
        let check = check.filter(|check| check.interval > RARE)?;
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let early = running.entry(replica.clone()).or_insert_with(|| {
            let (tell, looks) = watch::channel(Look::Waiting(String::new()));
            let (engine, replica, limit) = (engine.clone(), replica.clone(), check.timeout);
            let command = ExecCommand {
                command: check.command.clone(),
                ..ExecCommand::default()
            };
            let task = tokio::spawn(async move {
                // How long one may take is decided here: the engine leaves the command running.
                let run = || engine.exec(&replica, &command, Duration::MAX);
                until_passed(run, limit, &tell).await;
            });
            EarlyCheck { looks, task }
        });
        Some(early.looks.clone())
    }
}

/// Runs the command until it passes within its limit. An engine cannot be told to end a command: one that takes longer
/// has failed, as with Docker's own check, and the next one waits for its end.
async fn until_passed<Running>(
    run: impl Fn() -> Running,
    limit: Duration,
    tell: &watch::Sender<Look>,
) where
    Running: Future<Output = Result<ExecOutcome>>,
{
    loop {
        let mut running = std::pin::pin!(run());
        let why = match timeout(limit, &mut running).await {
            Ok(Ok(outcome)) if outcome.code == 0 => {
                tell.send_replace(Look::Passed);
                return;
            }
            Ok(Ok(outcome)) => last_line(&outcome),
            Ok(Err(error)) => error.message,
            Err(_) => {
                let limit = humantime::format_duration(limit);
                let hangs = format!("its health command has not ended within {limit}");
                tell.send_replace(Look::Waiting(hangs.clone()));
                // What it says too late does not count.
                let _ = running.await;
                hangs
            }
        };
        tell.send_replace(Look::Waiting(why));
        sleep(OFTEN).await;
    }
}

fn last_line(outcome: &ExecOutcome) -> String {
    let line = outcome.output.lines().last();
    line.unwrap_or("its health command fails").to_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Runs a command whose n-th run takes so long and ends with this code, for a minute; how often it was begun.
    async fn minute(runs: &[(u64, i64)]) -> (usize, Look) {
        let begun = Cell::new(0);
        let (tell, looks) = watch::channel(Look::Waiting(String::new()));
        let run = || {
            let (seconds, code) = runs[begun.get().min(runs.len() - 1)];
            begun.set(begun.get() + 1);
            async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok(ExecOutcome {
                    code,
                    output: "refused".into(),
                })
            }
        };
        let limit = Duration::from_secs(3);
        let _ = timeout(Duration::from_secs(60), until_passed(run, limit, &tell)).await;
        let last = looks.borrow().clone();
        (begun.get(), last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_not_started_a_second_time() {
        let (begun, last) = minute(&[(3600, 0)]).await;
        assert_eq!(begun, 1);
        assert_eq!(
            last,
            Look::Waiting("its health command has not ended within 3s".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_that_comes_too_late_does_not_count_and_the_next_run_waits_for_it() {
        let (begun, last) = minute(&[(20, 0), (1, 0)]).await;
        assert_eq!((begun, last), (2, Look::Passed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_fails_is_run_again_until_it_passes() {
        let (begun, last) = minute(&[(0, 1), (0, 1), (0, 0)]).await;
        assert_eq!((begun, last), (3, Look::Passed));
    }
}
