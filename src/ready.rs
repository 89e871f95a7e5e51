//! The gates that a new replica passes before it may get traffic.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{
    engine::{Engine, ExecCommand, Session},
    error::Result,
    model::{ContainerId, Health, HealthCheck, Replica, Run, Verdict},
    namespace::readiness::Readiness,
    watch::Watch,
};

/// Health checks rarer than this are helped along by running the same command more often.
const RARE: Duration = Duration::from_secs(2);
/// How often such a command is run.
const OFTEN: Duration = Duration::from_millis(500);

/// What a replica has to show.
#[derive(Clone, Debug)]
pub struct Gates {
    /// How long it must have run.
    pub stable: Duration,
    /// How much longer to wait once its health check passes.
    pub after_healthy: Duration,
    /// Without a health check: how to find out whether it answers; `None` where nothing is routed to it.
    pub probe: Option<Probe>,
}

/// How a replica without a health check is asked whether it answers.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The image of the helper.
    pub image: String,
    /// The routed ports; any open one where empty.
    pub ports: Vec<u16>,
    /// Ask for this path over HTTP.
    pub http: Option<String>,
}

/// A verdict and the gate that gave it.
pub struct Judged {
    /// Ready, or failed for good.
    pub verdict: Verdict,
    /// A few words for the report.
    pub by: String,
}

/// Waits for the verdict on one replica; never ends by itself while the replica may still become ready.
///
/// `detail` is kept up to date with what it is waiting for.
pub async fn judge(
    engine: &Engine,
    watch: &Watch,
    replica: &ContainerId,
    gates: &Gates,
    detail: &std::sync::Mutex<String>,
) -> Result<Judged> {
    let mut first: Option<(String, Instant)> = None;
    let mut passed: Option<(String, Instant)> = None;
    let mut asking: Option<Asking> = None;
    loop {
        let changed = watch.next();
        let Some(now) = engine.replica(replica).await? else {
            return Ok(failed("was removed by somebody else"));
        };
        if let Some(why) = crashed(&now, first.as_ref().map(|(started, _)| started.as_str())) {
            return Ok(failed(why));
        }
        let since = first
            .get_or_insert_with(|| (now.started_at.clone(), Instant::now()))
            .1;
        if passed.is_none() {
            passed = gate(&now).map(|by| (by, Instant::now()));
        }
        if passed.is_none() && asking.is_none() {
            match Asking::of(engine, &now, gates).await {
                Some(begun) => asking = Some(begun),
                None if now.health == Health::None => {
                    passed = Some((format!("ran {}", seconds(gates.stable)), Instant::now()));
                }
                None => {}
            }
        }
        let due = passed.as_ref().map(|(_, at)| {
            let extra = if now.check.is_some() {
                gates.after_healthy
            } else {
                Duration::ZERO
            };
            (since + gates.stable).max(*at + extra)
        });
        if let (Some(due), Some((by, _))) = (due, &passed)
            && Instant::now() >= due
        {
            return Ok(Judged {
                verdict: Verdict::Ready,
                by: by.clone(),
            });
        }
        tokio::select! {
            () = changed => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            answer = ask(&mut asking, engine, replica, detail), if passed.is_none() && asking.is_some() => {
                passed = Some((answer?, Instant::now()));
            }
        }
    }
}

fn failed(why: impl Into<String>) -> Judged {
    Judged {
        verdict: Verdict::Failed(why.into()),
        by: String::new(),
    }
}

/// Why a replica will never be ready, if so; `started` names the life in which it was first seen.
fn crashed(now: &Replica, started: Option<&str>) -> Option<String> {
    match now.run {
        Run::Exited => Some("exited".to_owned()),
        Run::Restarting => Some("crashed and is being restarted".to_owned()),
        Run::Running
            if now.restarts > 0 || started.is_some_and(|started| started != now.started_at) =>
        {
            Some("crashed and was restarted".to_owned())
        }
        Run::Running if now.health == Health::Unhealthy => Some("is unhealthy".to_owned()),
        Run::Created => Some("was created and never started".to_owned()),
        Run::Running | Run::Paused => None,
    }
}

fn gate(now: &Replica) -> Option<String> {
    (now.health == Health::Healthy).then(|| "its health check".to_owned())
}

fn seconds(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// A question that is put to a replica from here because Docker does not ask, or asks too rarely.
enum Asking {
    Check(HealthCheck),
    Port(Session),
}

impl Asking {
    /// `None` where there is nothing to ask, or nobody to ask it.
    async fn of(engine: &Engine, replica: &Replica, gates: &Gates) -> Option<Self> {
        match (&replica.check, &gates.probe) {
            (Some(check), _) => (check.interval > RARE).then(|| Self::Check(check.clone())),
            (None, None) => None,
            (None, Some(probe)) => {
                let mut arguments: Vec<String> = ["namespace", "probe"].map(str::to_owned).to_vec();
                arguments.extend(
                    probe
                        .ports
                        .iter()
                        .flat_map(|port| ["--port".to_owned(), port.to_string()]),
                );
                arguments.extend(
                    probe
                        .http
                        .iter()
                        .flat_map(|path| ["--http".to_owned(), path.clone()]),
                );
                match engine.helper(&probe.image, &replica.id, arguments).await {
                    Ok(session) => Some(Self::Port(session)),
                    Err(error) => {
                        tracing::warn!(%error, "no helper can look into the replica's network");
                        None
                    }
                }
            }
        }
    }
}

/// Ends once the replica has answered, with the gate's name.
async fn ask(
    asking: &mut Option<Asking>,
    engine: &Engine,
    replica: &ContainerId,
    detail: &std::sync::Mutex<String>,
) -> Result<String> {
    match asking {
        None => std::future::pending().await,
        Some(Asking::Check(check)) => {
            let command = ExecCommand {
                command: check.command.clone(),
                ..ExecCommand::default()
            };
            loop {
                match engine.exec(replica, &command, check.timeout).await {
                    Ok(outcome) if outcome.code == 0 => {
                        return Ok("its health command, run early".to_owned());
                    }
                    Ok(outcome) => note(
                        detail,
                        outcome
                            .output
                            .lines()
                            .last()
                            .unwrap_or("its health command fails"),
                    ),
                    Err(error) => note(detail, &error.message),
                }
                tokio::time::sleep(OFTEN).await;
            }
        }
        Some(Asking::Port(session)) => loop {
            let line = session.next_line().await?;
            let Ok(readiness) = serde_json::from_str::<Readiness>(&line) else {
                continue;
            };
            note(detail, &readiness.detail);
            if readiness.answers {
                return Ok(format!("an answer: {}", readiness.detail));
            }
        },
    }
}

fn note(detail: &std::sync::Mutex<String>, text: &str) {
    text.clone_into(
        &mut detail
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
}
