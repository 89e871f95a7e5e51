//! A run of the CLI: while it goes on, and how it ended.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::wait::eventually;

/// How a run of the CLI ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    /// Standard error: what a person sees.
    pub text: String,
    /// Standard output.
    pub out: String,
    /// Every event, from `ROLLOUT_EVENT_LOG`.
    pub events: Vec<Value>,
}

/// A CLI that runs.
pub struct Running {
    child: Child,
    log: Mutex<Log>,
}

/// The events of a run, each of them read once.
struct Log {
    path: PathBuf,
    read: u64,
    events: Vec<Value>,
}

impl Log {
    /// The events so far, without a line that is being written.
    fn events(&mut self) -> &[Value] {
        let new = self.unread();
        self.take(new.rfind('\n').map_or("", |end| &new[..=end]));
        &self.events
    }

    /// All events of a run that has ended. The last may lack its line's end, and nothing else.
    fn end(mut self) -> Vec<Value> {
        let new = self.unread();
        self.take(&new);
        self.events
    }

    fn unread(&self) -> String {
        let mut new = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.path) {
            file.seek(SeekFrom::Start(self.read)).unwrap();
            file.read_to_string(&mut new).unwrap();
        }
        new
    }

    fn take(&mut self, lines: &str) {
        self.read += lines.len() as u64;
        let events = lines.lines().map(serde_json::from_str);
        self.events.extend(events.map(Result::unwrap));
    }
}

impl Running {
    /// Starts `command`, whose `ROLLOUT_EVENT_LOG` is `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        Self {
            child: command.kill_on_drop(true).spawn().unwrap(),
            log: Mutex::new(Log {
                path: log,
                read: 0,
                events: Vec::new(),
            }),
        }
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        self.log.lock().unwrap().events().to_vec()
    }

    /// Waits until an event of this kind, and with this step where one is named, has come; 60 s at most.
    pub async fn reaches(&mut self, kind: &str, step: &str) {
        let is =
            |event: &Value| event["event"] == kind && (step.is_empty() || event["step"] == step);
        self.come(&format!("{kind} {step}"), |events| events.iter().any(is))
            .await;
    }

    /// The same of one of several services.
    pub async fn reaches_of(&mut self, service: &str, kind: &str, step: &str) {
        let is = |event: &Value| {
            event["service"] == service && event["event"] == kind && event["step"] == step
        };
        let what = format!("{kind} {step} of {service}");
        self.come(&what, |events| events.iter().any(is)).await;
    }

    /// Waits for a notice with this text in it; 60 s at most.
    pub async fn says(&mut self, part: &str) {
        let has = |event: &Value| {
            event["text"]
                .as_str()
                .is_some_and(|text| text.contains(part))
        };
        let notice = |event: &Value| event["event"] == "notice" && has(event);
        self.come(part, |events| events.iter().any(notice)).await;
    }

    /// Waits until a step has begun that comes after another one has ended; 60 s at most.
    pub async fn comes_after(&mut self, first: &str, step: &str) {
        let ended = |event: &Value| event["event"] == "step_finished" && event["step"] == first;
        let begun = |event: &Value| event["event"] == "step_started" && event["step"] == step;
        self.come(step, |events| {
            events.iter().skip_while(|event| !ended(event)).any(begun)
        })
        .await;
    }

    /// Waits until a step has begun so many times; 120 s at most.
    pub async fn begins(&self, step: &str, times: usize) {
        let limit = Duration::from_secs(120);
        let has = |events: &[Value]| begun(events, step) >= times;
        self.come_within(limit, step, has).await;
    }

    async fn come(&self, what: &str, have_come: impl Fn(&[Value]) -> bool) {
        let limit = Duration::from_secs(60);
        self.come_within(limit, what, have_come).await;
    }

    async fn come_within(&self, limit: Duration, what: &str, have_come: impl Fn(&[Value]) -> bool) {
        eventually(what, limit, async || {
            let mut log = self.log.lock().unwrap();
            let events = log.events();
            if have_come(events) {
                Ok(())
            } else {
                Err(events.to_vec())
            }
        })
        .await;
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Vec<Value> {
        self.child.kill().await.unwrap();
        self.events()
    }

    /// Closes the pipes into which the CLI prints.
    pub fn close_pipes(&mut self) {
        drop((self.child.stdout.take(), self.child.stderr.take()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Stops the process where it is, until [`Running::continues`].
    pub fn pauses(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn continues(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub async fn wait(self) -> Run {
        self.wait_for(Duration::from_secs(120)).await
    }

    /// Waits this long at most.
    pub async fn wait_for(self, longest: Duration) -> Run {
        let output = tokio::time::timeout(longest, self.child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("the CLI did not end within {longest:?}"));
        let output = output.unwrap();
        Run {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            events: self.log.into_inner().unwrap().end(),
        }
    }
}

impl Run {
    /// The run must have ended with this code.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n{}", self.text);
        self
    }

    /// How often a step has begun.
    pub fn begun(&self, step: &str) -> usize {
        begun(&self.events, step)
    }

    /// The first event of a kind.
    pub fn event(&self, kind: &str) -> Option<&Value> {
        self.events.iter().find(|event| event["event"] == kind)
    }

    /// The message of the error that the run ended with.
    pub fn failure(&self) -> &str {
        let failed = self.event("failed").expect("the run has failed");
        failed["message"].as_str().expect("an error has a message")
    }

    /// The result of each service, by the report at the end of several.
    #[track_caller]
    pub fn results(&self) -> BTreeMap<&str, &str> {
        let report = self.event("stack_finished").expect("the report is the end");
        let rows = report["services"].as_array().into_iter().flatten();
        rows.filter_map(|own| Some((own["service"].as_str()?, own["result"].as_str()?)))
            .collect()
    }

    /// The texts of all notices.
    pub fn notices(&self) -> Vec<&str> {
        let notices = self
            .events
            .iter()
            .filter(|event| event["event"] == "notice");
        notices.filter_map(|event| event["text"].as_str()).collect()
    }

    /// How long a step took in all, in milliseconds.
    pub fn ms(&self, step: &str) -> u64 {
        let of_step = |event: &&Value| event["event"] == "step_finished" && event["step"] == step;
        self.events
            .iter()
            .filter(of_step)
            .filter_map(|event| event["ms"].as_u64())
            .sum()
    }
}

fn begun(events: &[Value], step: &str) -> usize {
    let is = |event: &&Value| event["event"] == "step_started" && event["step"] == step;
    events.iter().filter(is).count()
}
