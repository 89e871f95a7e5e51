//! The checks that a new replica has to pass before it gets traffic.

mod early;

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::early::Look;
pub use self::early::{EarlyChecks, RARE};
use crate::{
    docker::{
        engine::{Engine, Session},
        watch::Watch,
    },
    error::Result,
    model::{ContainerId, Health, Replica, Run, Verdict},
    namespace::{check::Check, readiness::Readiness},
    retry,
};

/// How long to retry the start of a helper.
const HELPER_START: Duration = Duration::from_secs(5);

/// What a replica has to pass.
#[derive(Clone, Debug)]
pub struct Gates {
    /// How long it must have run.
    pub stable: Duration,
    /// How much longer to wait after its health check passes.
    pub after_healthy: Duration,
    /// How to find out whether its port can be reached; `None` if no traffic is routed to it.
    pub probe: Option<Probe>,
}

/// How to find out whether a replica answers.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The image of the helper.
    pub image: String,
    /// The routed ports; any open one if empty.
    pub ports: Vec<u16>,
    /// The path of an HTTP request that has to succeed.
    pub http: Option<String>,
    /// The proxy's own health checks.
    pub checks: Vec<Check>,
    pub proxy: &'static str,
}

/// A verdict and its reason.
pub struct Judged {
    pub verdict: Verdict,
    /// The checks that passed, in a few words.
    pub by: String,
}

/// Waits for the verdict on one replica. Has no timeout: it waits while the replica may still become ready.
///
/// `detail` always says what it waits for.
pub async fn judge(
    engine: &Engine,
    watch: &Watch,
    replica: &ContainerId,
    gates: &Gates,
    early: &EarlyChecks,
    detail: &std::sync::Mutex<String>,
) -> Result<Judged> {
    let mut first_run: Option<(String, Instant)> = None;
    let mut healthy: Option<(String, Instant)> = None;
    let mut port: Option<Port> = None;
    let mut early_results = None;
    loop {
        let changed = watch.next();
        let Some(now) = engine.replica(replica).await? else {
            return Ok(failed("was removed by another command"));
        };
        let started = first_run.as_ref().map(|(started, _)| started.as_str());
        if let Some(why) = crashed(&now, started) {
            return Ok(failed(why));
        }
        if first_run.is_none() {
            port = Port::open(engine, &now, gates, detail).await;
            early_results = early.follow(engine, replica, now.check.as_ref());
        }
        let seen = || watch.started(replica).unwrap_or_else(Instant::now);
        let since = first_run
            .get_or_insert_with(|| (now.started_at.clone(), seen()))
            .1;
        if healthy.is_none() {
            healthy = gate(&now).map(|by| (by, Instant::now()));
        }
        if let Some(complaint) = now.complaint.as_ref().filter(|_| healthy.is_none()) {
            note(detail, &format!("its health check fails: {complaint}"));
        }
        let open = port.as_ref().is_none_or(|port| port.is_open(&healthy));
        let extra = match now.check {
            Some(_) => gates.after_healthy,
            None => Duration::ZERO,
        };
        let due = healthy
            .as_ref()
            .filter(|_| open)
            .map(|(_, at)| (since + gates.stable).max(*at + extra));
        if due.is_some_and(|due| Instant::now() >= due) {
            return Ok(Judged {
                verdict: Verdict::Ready,
                by: by(&now, port.as_ref(), healthy, gates),
            });
        }
        tokio::select! {
            () = changed => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            () = early_check_passes(&mut early_results, detail), if healthy.is_none() => {
                healthy = Some(("health check passed (run early)".to_owned(), Instant::now()));
            }
            updated = update(&mut port, detail) => updated?,
        }
    }
}

/// The checks that passed, in a few words.
fn by(
    now: &Replica,
    port: Option<&Port>,
    healthy: Option<(String, Instant)>,
    gates: &Gates,
) -> String {
    let last = port.and_then(|port| Some((port, port.last.as_ref()?)));
    let answer = last
        .filter(|(port, _)| port.must_answer)
        .map(|(_, last)| last.detail.clone());
    let checked = last
        .and_then(|(port, last)| Some((port.proxy, last.checks.clone().ok()?)))
        .filter(|(_, passed)| !passed.is_empty())
        .map(|(proxy, passed)| format!("{proxy}'s health check: {passed}"));
    let health = healthy.map(|(by, _)| by).filter(|_| now.check.is_some());
    let all: Vec<String> = [health, answer, checked].into_iter().flatten().collect();
    match all.is_empty() {
        false => all.join(", and "),
        true => format!("ran {}", seconds(gates.stable)),
    }
}

fn failed(why: impl Into<String>) -> Judged {
    Judged {
        verdict: Verdict::Failed(why.into()),
        by: String::new(),
    }
}

/// Why a replica will never be ready; `None` if it still may. `started` is the start of its first run.
fn crashed(now: &Replica, started: Option<&str>) -> Option<String> {
    match now.run {
        Run::Exited => Some("exited".to_owned()),
        Run::Restarting => Some("crashed and is being restarted".to_owned()),
        Run::Running
            if now.restarts > 0 || started.is_some_and(|started| started != now.started_at) =>
        {
            Some("crashed and was restarted".to_owned())
        }
        Run::Running if now.health == Health::Unhealthy => Some(now.with_complaint("is unhealthy")),
        Run::Created => Some("was created and never started".to_owned()),
        Run::Running | Run::Paused => None,
    }
}

/// Whether Docker's health check lets the replica pass. Without a health check it does.
fn gate(now: &Replica) -> Option<String> {
    (now.check.is_none() || now.health == Health::Healthy).then(|| "health check passed".to_owned())
}

fn seconds(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// A helper that connects to the routed ports, and runs the proxy's checks, from inside the replica's network namespace.
struct Port {
    /// `None` if it could not be started.
    session: Option<Session>,
    ports: Vec<u16>,
    proxy: &'static str,
    /// Whether the proxy's own checks have to pass.
    is_checked: bool,
    /// If true, an answer on the port makes the replica ready. If false, the health check does, and the probe can only veto: if
    /// the port is open on loopback only.
    must_answer: bool,
    last: Option<Readiness>,
}

impl Port {
    /// `None` if there is nothing to probe, or if the health check decides and no helper can run.
    async fn open(
        engine: &Engine,
        replica: &Replica,
        gates: &Gates,
        detail: &std::sync::Mutex<String>,
    ) -> Option<Self> {
        let probe = gates.probe.as_ref()?;
        let ports = probe
            .ports
            .iter()
            .flat_map(|port| ["--port".to_owned(), port.to_string()]);
        let path = probe
            .http
            .iter()
            .flat_map(|path| ["--http".to_owned(), path.clone()]);
        let checks = probe.checks.iter().flat_map(Check::argument);
        let command = ["namespace", "probe"].map(str::to_owned);
        let arguments = command.into_iter().chain(ports).chain(path).chain(checks);
        let arguments: Vec<String> = arguments.collect();
        let must_answer = replica.check.is_none() || probe.http.is_some();
        let is_checked = !probe.checks.is_empty();
        let helper: Result<Session> = retry::for_a_while(HELPER_START, || {
            engine.helper(&probe.image, &replica.id, Vec::clone(&arguments))
        })
        .await;
        let session = match helper {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(%error, "no helper can look into the replica's network");
                note(
                    detail,
                    &format!("its port cannot be probed: {}", error.message),
                );
                None
            }
        };
        // If an answer is required, a missing helper means that there is none; else the health check decides alone.
        (session.is_some() || must_answer || is_checked).then(|| Self {
            session,
            ports: probe.ports.clone(),
            proxy: probe.proxy,
            is_checked,
            must_answer,
            last: None,
        })
    }

    fn is_open(&self, healthy: &Option<(String, Instant)>) -> bool {
        let Some(last) = &self.last else {
            return false;
        };
        let open = match self.must_answer {
            true => last.answers,
            false => healthy.is_some() && !self.on_loopback_only(last),
        };
        open && last.checks.is_ok()
    }

    /// What the probe still waits for: `Some` of nothing if it passes, `None` if Docker's health check alone decides.
    fn lack(&self, last: &Readiness) -> Option<String> {
        let closed = (self.must_answer && !last.answers) || self.on_loopback_only(last);
        match &last.checks {
            _ if closed => Some(last.detail.clone()),
            Err(why) => Some(format!("{}'s health check: {why}", self.proxy)),
            Ok(_) => (self.must_answer || self.is_checked).then(String::new),
        }
    }

    fn on_loopback_only(&self, last: &Readiness) -> bool {
        match self.ports.is_empty() {
            true => last.listening.is_empty() && !last.loopback_only.is_empty(),
            false => self
                .ports
                .iter()
                .any(|port| last.loopback_only.contains(port)),
        }
    }
}

/// Reads the helper's next line.
async fn update(port: &mut Option<Port>, detail: &std::sync::Mutex<String>) -> Result<()> {
    let Some(port) = port else {
        return std::future::pending().await;
    };
    let Some(session) = &mut port.session else {
        return std::future::pending().await;
    };
    let line = session.next_line().await?;
    if let Ok(readiness) = serde_json::from_str::<Readiness>(&line) {
        if let Some(lack) = port.lack(&readiness) {
            note(detail, &lack);
        }
        port.last = Some(readiness);
    }
    Ok(())
}

/// Ends when the health command that runs early has passed.
async fn early_check_passes(
    results: &mut Option<watch::Receiver<Look>>,
    detail: &std::sync::Mutex<String>,
) {
    let Some(results) = results else {
        return std::future::pending().await;
    };
    loop {
        match &*results.borrow_and_update() {
            Look::Passed => return,
            Look::Waiting(why) if why.is_empty() => {}
            Look::Waiting(why) => note(detail, why),
        }
        if results.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn note(detail: &std::sync::Mutex<String>, text: &str) {
    text.clone_into(
        &mut detail
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
}
