//! `rollout namespace …` inside a replica's network namespace, and what it says.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use testbed::{Replica, binary, image};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the helper reports of a replica's traffic.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Traffic {
    pub connections: u32,
    pub unanswered: u32,
    pub streaming: u32,
    pub unsent: u32,
    pub exact: bool,
    pub answer_to: Option<u64>,
}

impl Traffic {
    pub fn busy(&self) -> bool {
        self.unanswered + self.streaming + self.unsent > 0
    }
}

/// A running helper; it ends with its standard input.
pub struct Helper {
    process: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    asked: u64,
    latest: Traffic,
}

impl Helper {
    /// Enters the namespace from the host, which runs the same code as a container that joins it.
    pub async fn start(replica: &Replica, arguments: &[&str]) -> Self {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &replica.pid])
            .arg(binary())
            .arg("namespace");
        Self::spawn(command.args(arguments))
    }

    /// Watches port 80, and has looked once.
    pub async fn watch(replica: &Replica, arguments: &[&str]) -> Self {
        Self::watch_for(replica, "http1", arguments).await
    }

    /// The same, where port 80 speaks something else.
    pub async fn watch_for(replica: &Replica, protocol: &str, arguments: &[&str]) -> Self {
        let port = format!("80={protocol}");
        let arguments = [&["watch", "--port", &port], arguments].concat();
        let mut helper = Self::start(replica, &arguments).await;
        helper.ask().await;
        helper
    }

    /// Watches port 80 from a container with Docker's default privileges, or what `options` make of them.
    pub async fn watch_in_container(replica: &Replica, options: &[&str]) -> Self {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--interactive",
            "--label=io.rollout.test=namespace",
        ]);
        command.arg(format!("--network=container:{}", replica.id));
        command.args(options).arg("--no-healthcheck").arg(image());
        let mut helper = Self::spawn(command.args(["namespace", "watch", "--port", "80"]));
        helper.ask().await;
        helper
    }

    fn spawn(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the helper starts");
        let output = process.stdout.take().expect("a pipe");
        Self {
            input: process.stdin.take(),
            lines: BufReader::new(output).lines(),
            process,
            asked: 0,
            latest: Traffic::default(),
        }
    }

    /// The next line.
    pub async fn line<T: DeserializeOwned>(&mut self) -> T {
        let line = self.lines.next_line().await;
        let line = line.expect("readable").expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A look that is newer than this call.
    pub async fn ask(&mut self) -> Traffic {
        self.asked += 1;
        let ask = json!({"ask": self.asked});
        let input = self.input.as_mut().expect("still open");
        input
            .write_all(format!("{ask}\n").as_bytes())
            .await
            .unwrap();
        let number = self.asked;
        self.until("the answer", |traffic| traffic.answer_to == Some(number))
            .await
    }

    /// The first look that is as wanted, from the last one that was read on.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Traffic) -> bool) -> Traffic {
        let mut seen = vec![self.latest];
        let found = timeout(PATIENCE, async {
            while !wanted(&self.latest) {
                self.latest = self.line().await;
                seen.push(self.latest);
            }
        });
        match found.await {
            Ok(()) => self.latest,
            Err(_) => panic!("never {what}: {seen:?}"),
        }
    }

    /// As wanted once, and then in every look for about a second: short against what the test lets last.
    pub async fn stays(&mut self, what: &str, wanted: impl Fn(&Traffic) -> bool) {
        self.until(what, &wanted).await;
        for _ in 0..20 {
            let look = self.ask().await;
            assert!(wanted(&look), "no longer {what}: {look:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a CLI that is killed leaves behind.
    pub async fn close_input(mut self) -> ExitStatus {
        self.input = None;
        self.exit().await
    }

    /// What `docker stop` sends.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.exit().await
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().expect("running");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    async fn exit(&mut self) -> ExitStatus {
        let exit = timeout(PATIENCE, self.process.wait()).await;
        exit.expect("it leaves").unwrap()
    }
}
