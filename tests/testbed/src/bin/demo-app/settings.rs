//! Reads the environment variables that choose the application's behaviour.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Http,
    Tcp,
    Udp,
}

/// What SIGTERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Now,
    Graceful,
    Ignore,
}

pub struct Settings {
    pub version: String,
    pub hostname: String,
    pub mode: Mode,
    pub bind: IpAddr,
    pub port: u16,
    pub start_delay: Duration,
    pub crash_after: Option<Duration>,
    unhealthy: bool,
    unhealthy_after: Option<Duration>,
    started: Instant,
    pub stop: Stop,
    pub database: Option<String>,
    pub loopback_check: bool,
    /// Every answer of this number on an ordinary path is a 500.
    pub error_every: Option<u64>,
    /// How long each of these answers takes.
    pub answer_delay: Duration,
    /// Memory that it fills at its start, in MiB.
    pub memory: usize,
    /// Answers on ordinary paths so far.
    pub answers: AtomicU64,
}

impl Settings {
    pub fn from_env() -> Result<Self, String> {
        Ok(Self {
            version: text("VERSION").unwrap_or_else(|| "v1".into()),
            hostname: hostname(),
            mode: match text("MODE").as_deref() {
                None | Some("http") => Mode::Http,
                Some("tcp") => Mode::Tcp,
                Some("udp") => Mode::Udp,
                Some(other) => return Err(format!("MODE={other}: expected http, tcp or udp")),
            },
            bind: parsed("BIND")?.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            port: parsed("PORT")?.unwrap_or(80),
            start_delay: seconds("START_DELAY")?.unwrap_or_default(),
            crash_after: seconds("CRASH_AFTER")?,
            unhealthy: text("UNHEALTHY").as_deref() == Some("1"),
            unhealthy_after: seconds("UNHEALTHY_AFTER")?,
            started: Instant::now(),
            stop: match text("STOP").as_deref() {
                None | Some("now") => Stop::Now,
                Some("graceful") => Stop::Graceful,
                Some("ignore") => Stop::Ignore,
                Some(other) => {
                    return Err(format!("STOP={other}: expected now, graceful or ignore"));
                }
            },
            database: text("DB"),
            loopback_check: text("LOOPBACK_CHECK").as_deref() == Some("1"),
            error_every: parsed("ERROR_EVERY")?.filter(|every| *every > 0),
            answer_delay: seconds("ANSWER_DELAY")?.unwrap_or_default(),
            memory: parsed("MEMORY")?.unwrap_or(0),
            answers: AtomicU64::new(0),
        })
    }

    pub fn is_unhealthy(&self) -> bool {
        let since = self.started.elapsed();
        self.unhealthy || self.unhealthy_after.is_some_and(|after| since >= after)
    }

    pub fn log(&self, message: &str) {
        eprintln!("demo-app {}: {message}", self.version);
    }

    /// What every answer carries.
    pub fn signature(&self) -> String {
        format!("version={} hostname={}", self.version, self.hostname)
    }
}

/// An empty variable counts as unset, as Compose makes it from `${NAME:-}`.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn parsed<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    text(name)
        .map(|value| {
            value
                .parse()
                .map_err(|_| format!("{name}={value}: not a valid value"))
        })
        .transpose()
}

fn seconds(name: &str) -> Result<Option<Duration>, String> {
    let Some(value) = parsed::<f64>(name)? else {
        return Ok(None);
    };
    Duration::try_from_secs_f64(value)
        .map(Some)
        .map_err(|_| format!("{name}={value}: not a number of seconds"))
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".into(), |name| name.trim().into())
}
