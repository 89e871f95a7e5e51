//! Runs a command of Docker or Compose, reads its output, and kills it when its result is no longer needed.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};

/// The limit for standard output and for standard error, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// Variables that would choose another engine, remove other containers, or make Compose believe that it is our plugin.
const NOT_PASSED_ON: [&str; 8] = [
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
    "DOCKER_CLI_PLUGIN_SOCKET",
    "COMPOSE_REMOVE_ORPHANS",
    "COMPOSE_STATUS_STDOUT",
];

pub struct Finished {
    pub status: ExitStatus,
    pub output: String,
    /// The lines of standard error.
    pub errors: Vec<String>,
}

/// Has a command of Docker use the engine at this address, and no other.
pub fn on_engine(command: &mut Command, docker_host: &str) {
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    command.env("DOCKER_HOST", docker_host);
}

/// Runs a command to its end. A drop of the future kills it.
///
/// `stdin` is its standard input; `on_line` gets each line of its standard error, where Compose writes progress.
pub async fn run(
    mut command: Command,
    stdin: Option<&[u8]>,
    mut on_line: impl FnMut(String),
) -> io::Result<Finished> {
    command
        .stdin(stdin.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // `docker` starts its plugin as a child. The group lets us kill both, and keeps the terminal's Ctrl-C from them.
        .process_group(0);
    let mut child = command.spawn()?;
    let group = Group::of(&child);
    let guard = Guard::of(&child);
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut input), Some(text)) = (input, stdin) {
            // A command that does not read its input reports why on standard error.
            let _ = input.write_all(text).await;
        }
    };
    let mut collected = (String::new(), Vec::new());
    let (_, read_output, read_errors) = tokio::join!(
        write,
        lines(output, |line| {
            collected.0.push_str(&line);
            collected.0.push('\n');
        }),
        lines(errors, |line| {
            tracing::debug!(target: "rollout::compose", "{line}");
            collected.1.push(line.clone());
            on_line(line);
        }),
    );
    read_output.and(read_errors)?;
    let status = child.wait().await?;
    guard.ended().await;
    group.ended();
    Ok(Finished {
        status,
        output: collected.0,
        errors: collected.1,
    })
}

/// Hands each line of a stream to `on_line`, and fails where there are too many.
pub async fn lines(
    stream: Option<impl AsyncRead + Unpin>,
    mut on_line: impl FnMut(String),
) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut read = 0;
    while let more @ 1.. = (&mut reader)
        .take(MAX_OUTPUT + 1)
        .read_until(b'\n', &mut line)
        .await?
    {
        read += more as u64;
        if read > MAX_OUTPUT {
            let message = format!("it printed more than {MAX_OUTPUT} bytes");
            return Err(io::Error::other(message));
        }
        on_line(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    Ok(())
}

/// Kills a process group if this program itself is killed: a shell reads from our pipe, and acts at its end.
struct Guard(Option<ChildStdin>);

impl Guard {
    /// Where there is no shell, there is no guard.
    fn of(child: &Child) -> Self {
        let started = child.id().and_then(|group| {
            Command::new("sh")
                .args([
                    "-c",
                    "read -r end || kill -s KILL -- \"-$0\"",
                    &group.to_string(),
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .ok()
        });
        Self(started.and_then(|mut shell| shell.stdin.take()))
    }

    async fn ended(mut self) {
        if let Some(pipe) = &mut self.0 {
            // A shell that has ended kills nothing.
            let _ = pipe.write_all(b"end\n").await;
        }
    }
}

/// Kills a process group on drop, unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testbed::{eventually, has_ended};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn lines_keep_their_order_and_output_is_separate() {
        let mut seen = Vec::new();
        let finished = run(
            shell("cat; echo one >&2; echo two >&2; exit 3"),
            Some(b"in\n"),
            |line| seen.push(line),
        )
        .await
        .unwrap();
        assert_eq!(finished.output, "in\n");
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(finished.errors, seen);
        assert_eq!(finished.status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_dropped_command_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let script = format!(
            "sleep 600 & echo $! >{0}.part; mv {0}.part {0}; wait",
            file.display()
        );
        let running = tokio::spawn(run(shell(&script), None, |_| ()));
        let limit = Duration::from_secs(5);
        let child = eventually("the child runs", limit, async || {
            std::fs::read_to_string(&file)
        })
        .await;
        running.abort();
        let _ = running.await;
        has_ended(child.trim()).await;
    }

    #[tokio::test]
    async fn a_guard_kills_its_group_when_its_pipe_closes_but_not_after_the_end() {
        use std::os::unix::process::ExitStatusExt;
        let mut left = shell("sleep 30").process_group(0).spawn().unwrap();
        drop(Guard::of(&left));
        let status = left.wait().await.unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        let mut kept = shell("exec sleep 0.2").process_group(0).spawn().unwrap();
        Guard::of(&kept).ended().await;
        assert!(kept.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn an_endless_output_is_an_error() {
        let mut seen = 0;
        let endless = lines(Some(tokio::io::repeat(b'x')), |_| seen += 1);
        let error = endless.await.unwrap_err();
        assert_eq!(error.to_string(), "it printed more than 67108864 bytes");
        assert_eq!(seen, 0);
    }
}
