//! Runs one command of Compose: its lines as they come, its output, and the one line that says why it failed.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// How a command ended.
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// The lines of its standard error.
    pub errors: Vec<String>,
}

/// Runs a command to its end, which a drop of the future brings about at once.
///
/// `stdin` is what it reads; `on_line` gets each line of its standard error, where Compose writes progress.
pub async fn run(
    mut command: Command,
    stdin: Option<&[u8]>,
    mut on_line: impl FnMut(String),
) -> io::Result<Finished> {
    command
        .stdin(stdin.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // `docker` starts its plugin as a child: only a group ends both, and keeps the terminal's Ctrl-C to us.
        .process_group(0);
    let mut child = command.spawn()?;
    let group = Group::of(&child);
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut input), Some(text)) = (input, stdin) {
            // A command that does not want its input says why on standard error.
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
    group.ended();
    Ok(Finished {
        status,
        output: collected.0,
        errors: collected.1,
    })
}

async fn lines(
    stream: Option<impl AsyncRead + Unpin>,
    mut on_line: impl FnMut(String),
) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    Ok(())
}

/// A process group that is killed on drop, unless it ended by itself.
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

/// The line that says why a command failed: the first of a message about a file, the last of a run with progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    First,
    Last,
}

/// The line of standard error that tells most; a plain sentence where there is none.
pub fn reason(errors: &[String], telling: Telling) -> String {
    let mut meaningful = errors.iter().filter_map(|line| message(line));
    let found = match telling {
        Telling::First => meaningful.next(),
        Telling::Last => meaningful.next_back(),
    };
    found.unwrap_or_else(|| "docker compose failed without a word".to_owned())
}

/// The message of a line that is neither progress nor a warning.
fn message(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || is_progress(line) || line.contains("level=warning") {
        return None;
    }
    let line = line
        .split_once("level=fatal msg=")
        .or(line.split_once("level=error msg="))
        .map_or(line, |(_, message)| message.trim_matches('"'));
    let line = line.trim_start_matches("Error response from daemon: ");
    Some(line.trim_start_matches("Error: ").to_owned())
}

/// ` Container shop-web-1  Creating`: a kind, a name, and one word.
fn is_progress(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    ["Container", "Network", "Volume", "Image", "Service"].contains(&kind) && words.count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn lines_come_in_order_and_output_is_kept_apart() {
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
    async fn a_dropped_command_is_gone_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let script = format!(
            "sleep 60 & echo $! >{0}.part; mv {0}.part {0}; wait",
            file.display()
        );
        let running = tokio::spawn(run(shell(&script), None, |_| ()));
        let child = loop {
            match std::fs::read_to_string(&file) {
                Ok(pid) => break pid.trim().to_owned(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        running.abort();
        let _ = running.await;
        while std::fs::read_to_string(format!("/proc/{child}/stat"))
            .is_ok_and(|s| !s.contains(" Z "))
        {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn progress_and_warnings_are_no_reason() {
        let errors = [
            r#"time="2026-11-21T09:31:04Z" level=warning msg="the attribute `version` is obsolete""#,
            " Container shop-web-1  Creating",
            " Network shop_default  Created",
            "",
            "Error response from daemon: Conflict. The container name is in use",
        ]
        .map(str::to_owned);
        assert_eq!(
            reason(&errors, Telling::Last),
            "Conflict. The container name is in use"
        );
        assert_eq!(
            reason(&errors[..3], Telling::First),
            "docker compose failed without a word"
        );
    }

    #[test]
    fn a_fatal_log_line_gives_its_message() {
        let errors = [r#"time="x" level=fatal msg="no configuration""#.to_owned()];
        assert_eq!(reason(&errors, Telling::First), "no configuration");
    }

    #[test]
    fn the_first_line_tells_of_a_file_and_the_last_of_a_run() {
        let errors = ["yaml: line 3: mapping", "  in compose.yaml"].map(str::to_owned);
        assert_eq!(reason(&errors, Telling::First), "yaml: line 3: mapping");
        assert_eq!(reason(&errors, Telling::Last), "in compose.yaml");
    }
}
