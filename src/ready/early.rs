//! Runs the command of a rare health check often, one at a time, until it passes.

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
    docker::engine::{Engine, ExecCommand, ExecOutcome},
    error::Result,
    model::{ContainerId, HealthCheck},
};

/// The command of a health check with a longer interval than this is run more often.
pub const RARE: Duration = Duration::from_secs(2);
/// The pause between two runs of the command.
const OFTEN: Duration = Duration::from_millis(500);

/// The commands that run early, by replica. They outlive a single wait for the verdict, so that a command that hangs is not
/// started a second time in the same replica.
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

/// The last result of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It has not passed yet, for this reason; empty before its first result.
    Waiting(String),
    Passed,
}

impl EarlyChecks {
    /// The results of this replica's command; `None` if Docker's own check is frequent enough.
    pub fn follow(
        &self,
        engine: &Engine,
        replica: &ContainerId,
        check: Option<&HealthCheck>,
    ) -> Option<watch::Receiver<Look>> {
        let check = check.filter(|check| check.interval > RARE)?;
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let early = running.entry(replica.clone()).or_insert_with(|| {
            let (results, looks) = watch::channel(Look::Waiting(String::new()));
            let (engine, replica, limit) = (engine.clone(), replica.clone(), check.timeout);
            let command = ExecCommand {
                command: check.command.clone(),
                ..ExecCommand::default()
            };
            let task = tokio::spawn(async move {
                // The limit is kept here, because the engine leaves the command running.
                let run = || engine.exec(&replica, &command, Duration::MAX);
                until_passed(run, limit, &results).await;
            });
            EarlyCheck { looks, task }
        });
        Some(early.looks.clone())
    }
}

/// Runs the command until it passes within its limit. An engine cannot end a command. One that takes longer has failed, as
/// with Docker's own check, and the next one starts after its end.
async fn until_passed<Running>(
    run: impl Fn() -> Running,
    limit: Duration,
    results: &watch::Sender<Look>,
) where
    Running: Future<Output = Result<ExecOutcome>>,
{
    loop {
        let mut running = std::pin::pin!(run());
        let why = match timeout(limit, &mut running).await {
            Ok(Ok(outcome)) if outcome.code == 0 => {
                results.send_replace(Look::Passed);
                return;
            }
            Ok(Ok(outcome)) => last_line(&outcome),
            Ok(Err(error)) => error.message,
            Err(_) => {
                let limit = humantime::format_duration(limit);
                let hangs = format!("its health command has not ended within {limit}");
                results.send_replace(Look::Waiting(hangs.clone()));
                // A late result does not count.
                let _ = running.await;
                hangs
            }
        };
        results.send_replace(Look::Waiting(why));
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

    /// For a minute, runs a command whose n-th run takes this number of seconds and ends with this code. Returns how often it
    /// was started, and its last result.
    async fn minute(runs: &[(u64, i64)]) -> (usize, Look) {
        let started = Cell::new(0);
        let (results, looks) = watch::channel(Look::Waiting(String::new()));
        let run = || {
            let (seconds, code) = runs[started.get().min(runs.len() - 1)];
            started.set(started.get() + 1);
            async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok(ExecOutcome {
                    code,
                    output: "refused".into(),
                })
            }
        };
        let limit = Duration::from_secs(3);
        let _ = timeout(Duration::from_secs(60), until_passed(run, limit, &results)).await;
        let last = looks.borrow().clone();
        (started.get(), last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_not_started_a_second_time() {
        let (started, last) = minute(&[(3600, 0)]).await;
        assert_eq!(started, 1);
        assert_eq!(
            last,
            Look::Waiting("its health command has not ended within 3s".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_that_comes_too_late_does_not_count_and_the_next_run_waits_for_it() {
        let (started, last) = minute(&[(20, 0), (1, 0)]).await;
        assert_eq!((started, last), (2, Look::Passed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_fails_is_run_again_until_it_passes() {
        let (started, last) = minute(&[(0, 1), (0, 1), (0, 0)]).await;
        assert_eq!((started, last), (3, Look::Passed));
    }
}
