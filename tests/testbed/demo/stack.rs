//! The quickstart stack under a project name of its own: brings it up, rolls it, and takes it down to the last trace.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::{Result, root};

const BEFORE: &str = "rollout-demo:v1";
const AFTER: &str = "rollout-demo:v2";
const LONGEST_ROLLOUT: Duration = Duration::from_secs(120);

pub struct Stack {
    project: String,
    pub port: u16,
    scratch: tempfile::TempDir,
}

/// What is known of the rollout from its own side.
pub struct Rollout {
    pub exit: ExitStatus,
    pub cutover_ms: Option<u64>,
}

impl Stack {
    pub fn new() -> Result<Self> {
        // Bound for a moment to learn a port that is free.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let scratch = tempfile::Builder::new().prefix("rollout-demo-").tempdir()?;
        Ok(Self {
            project: format!("rollout-demo-{}", std::process::id()),
            port,
            scratch,
        })
    }

    pub async fn up(&self) -> Result<()> {
        let mut up = self.command("docker", BEFORE);
        up.args([
            "compose",
            "--progress",
            "quiet",
            "up",
            "-d",
            "--wait",
            "--wait-timeout",
            "60",
        ]);
        run(up).await?;
        for _ in 0..100 {
            if self.answers().await {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err("the stack is up, but Traefik does not route to it".into())
    }

    async fn answers(&self) -> bool {
        let request = b"GET / HTTP/1.1\r\nHost: quickstart.localhost\r\nConnection: close\r\n\r\n";
        let mut status = [0; 12];
        let ask = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            stream.write_all(request).await?;
            stream.read_exact(&mut status).await
        };
        ask.await.is_ok() && status.ends_with(b" 200")
    }

    pub async fn roll_out(&self) -> Result<Rollout> {
        let log = self.scratch.path().join("events.jsonl");
        let mut rollout = self.command(rollout_binary(), AFTER);
        rollout
            .args(["--proxy", "traefik", "web"])
            .env("ROLLOUT_EVENT_LOG", &log);
        let exit = timeout(LONGEST_ROLLOUT, rollout.status())
            .await
            .map_err(|_| format!("the rollout has not ended within {LONGEST_ROLLOUT:?}"))?
            .map_err(|error| {
                format!(
                    "{} could not be started: {error}",
                    rollout_binary().display()
                )
            })?;
        let events = std::fs::read_to_string(&log).unwrap_or_default();
        Ok(Rollout {
            exit,
            cutover_ms: cutover_ms(&events),
        })
    }

    /// Takes everything down, what the rollout keeps for the project included, and says if something is left.
    pub async fn down(&self) -> Result<()> {
        let mut down = self.command("docker", BEFORE);
        down.args([
            "compose",
            "--progress",
            "quiet",
            "down",
            "-v",
            "--remove-orphans",
            "-t",
            "2",
        ]);
        run(down).await?;
        for kind in ["container", "network", "volume", "image"] {
            let names = self.left_over(kind).await?;
            if !names.is_empty() {
                let mut remove = Command::new("docker");
                remove
                    .args([kind, "rm", "-f"])
                    .args(&names)
                    .stdout(Stdio::null());
                run(remove).await?;
            }
        }
        Ok(())
    }

    async fn left_over(&self, kind: &str) -> Result<Vec<String>> {
        let format = match kind {
            "container" => "{{.Names}}",
            "image" => "{{.Repository}}:{{.Tag}}",
            _ => "{{.Name}}",
        };
        let mut list = Command::new("docker");
        list.args([kind, "ls", "--format", format])
            .args((kind == "container").then_some("-a"));
        let output = list.output().await?;
        let names = String::from_utf8_lossy(&output.stdout);
        Ok(names
            .lines()
            .filter(|name| name.contains(&self.project))
            .map(String::from)
            .collect())
    }

    fn command(&self, program: impl Into<PathBuf>, image: &str) -> Command {
        let mut command = Command::new(program.into());
        command
            .current_dir(root().join("compose-examples/quickstart"))
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("HTTP_PORT", self.port.to_string())
            .env("WEB_IMAGE", image)
            .env("ROLLOUT_STATE_VOLUME", format!("{}-state", self.project))
            .env_remove("COMPOSE_FILE")
            .env_remove("COMPOSE_PROFILES")
            .stdin(Stdio::null())
            // On Ctrl-C the stack goes, and nothing may go on working on it.
            .kill_on_drop(true);
        command
    }
}

/// `ROLLOUT_TESTBED_BINARY`, or what `make build` has built.
fn rollout_binary() -> PathBuf {
    std::env::var_os("ROLLOUT_TESTBED_BINARY")
        .map_or_else(|| root().join("target/release/rollout"), PathBuf::from)
}

async fn run(mut command: Command) -> Result<()> {
    let status = command.status().await?;
    let line = command.as_std();
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line:?} failed: {status}").into())
    }
}

/// From the last line of the event log, which sums the rollout up.
fn cutover_ms(events: &str) -> Option<u64> {
    let mut events = events
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.rfind(|event| event["event"] == "finished")?["cutover_ms"].as_u64()
}
