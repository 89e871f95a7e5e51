//! Signals: the first one asks the run to end, a later one ends the process at once.

use std::{io::Write, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    time::Instant,
};

use crate::error::{Error, Outcome, Result};

/// A signal within this time counts as the first one: `timeout -s INT` signals the process and then its group.
const SAME: Duration = Duration::from_secs(1);

/// Turns true with the first SIGINT, SIGTERM or SIGHUP; a later one ends the process.
pub(super) fn signals() -> Result<watch::Receiver<bool>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !ignores_hangup(&status) {
        kinds.push(SignalKind::hangup());
    }
    let (sender, mut received) = mpsc::unbounded_channel();
    for kind in kinds {
        let mut own = signal(kind)
            .map_err(|error| Error::refused(format!("cannot listen for signals: {error}")))?;
        let sender = sender.clone();
        tokio::spawn(async move { while own.recv().await.is_some() && sender.send(()).is_ok() {} });
    }
    let (raise, raised) = watch::channel(false);
    tokio::spawn(async move {
        received.recv().await;
        raise.send_replace(true);
        later(&mut received).await;
        // A lost session has no terminal: ignore the error.
        let text =
            "stopped at once; run the same command again to finish the rollout or roll it back";
        let _ = writeln!(std::io::stderr(), "{text}");
        std::process::exit(Outcome::Interrupted as i32);
    });
    Ok(raised)
}

/// Waits for a signal that does not count as the first one.
async fn later(received: &mut UnboundedReceiver<()>) {
    let first = Instant::now();
    while received.recv().await.is_some() && first.elapsed() < SAME {}
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does (`SigIgn` in proc_pid_status(5)).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_signal_within_a_second_of_the_first_is_the_same_one() {
        let (sender, mut received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for pause in [1, 20, 3_000, 9_000] {
                sleep(Duration::from_millis(pause)).await;
                let _ = sender.send(());
            }
        });
        let began = Instant::now();
        later(&mut received).await;
        assert_eq!(began.elapsed(), Duration::from_millis(3_021));
    }

    #[test]
    fn nohup_is_respected() {
        let status = |mask: &str| format!("Name:\trollout\nSigBlk:\t1\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000000001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup(""));
    }
}
