//! Exchanges lines with a program in a container, through `docker exec` or a short-lived container of our own.

use std::{collections::HashMap, pin::Pin, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error as Bollard,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::{
        ContainerCreateBody, ContainerStateStatusEnum, ContainerSummary, HealthConfig, HostConfig,
        HostConfigLogConfig,
    },
    query_parameters as query,
};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Engine, ExecCommand, ExecOutcome, failed};
use crate::{
    error::{Error, Result},
    model::{ContainerId, label},
    overlay::control,
};

/// Bytes that are kept at least of the end of a program's text output.
const MAX_TAIL: usize = 1024 * 1024;

pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Bollard>> + Send>>;

/// A program that reads lines on its standard input and answers with lines; dropping it closes both.
pub struct Session {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Output,
    lines: Lines,
    errors: String,
}

impl Session {
    pub fn new(input: Pin<Box<dyn AsyncWrite + Send>>, output: Output) -> Self {
        Self {
            input,
            output,
            lines: Lines::new(control::MAX_LINE),
            errors: String::new(),
        }
    }

    pub async fn send(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        let written = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        written
            .await
            .map_err(|error| Error::failed(format!("the helper's input is closed: {error}")))
    }

    /// The next line of its standard output; at its end, an error with its standard error.
    ///
    /// Cancel-safe: a partly received line is kept.
    pub async fn next_line(&mut self) -> Result<String> {
        loop {
            if let Some(line) = self.lines.take() {
                return Ok(line);
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdErr { message })) => {
                    push_tail(&mut self.errors, &String::from_utf8_lossy(&message));
                }
                Some(Ok(other)) => self.lines.push(&other.into_bytes())?,
                Some(Err(error)) => return Err(failed("talk with a container", &error)),
                None => {
                    return Err(Error::failed(format!(
                        "the helper ended: {}",
                        self.errors.trim()
                    )));
                }
            }
        }
    }
}

/// Assembles lines from pieces, and searches each byte once.
#[derive(Debug)]
struct Lines {
    longest: usize,
    pending: Vec<u8>,
    /// The length of the start of `pending` that holds no line end.
    searched: usize,
}

impl Lines {
    fn new(longest: usize) -> Self {
        Self {
            longest,
            pending: Vec::new(),
            searched: 0,
        }
    }

    /// Fails where a line becomes longer than `longest`.
    fn push(&mut self, piece: &[u8]) -> Result<()> {
        if self.pending.len() + piece.len() > self.longest {
            let message = format!("a line has more than {} bytes", self.longest);
            return Err(Error::failed(message));
        }
        self.pending.extend_from_slice(piece);
        Ok(())
    }

    fn take(&mut self) -> Option<String> {
        let mut rest = self.pending[self.searched..].iter();
        let Some(length) = rest.position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let line: Vec<u8> = self.pending.drain(..=self.searched + length).collect();
        self.searched = 0;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// Appends to a text, and drops its beginning when it becomes long.
pub(super) fn push_tail(text: &mut String, more: &str) {
    text.push_str(more);
    if text.len() > 2 * MAX_TAIL {
        let mut from = text.len() - MAX_TAIL;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
}

impl Engine {
    /// Runs a command in a running container.
    pub async fn exec_session(&self, container: &str, command: Vec<String>) -> Result<Session> {
        let (input, output) = self.attached_exec(container, command).await?;
        Ok(Session::new(input, output))
    }

    /// Starts a command and returns its standard input and its output.
    pub(super) async fn attached_exec(
        &self,
        container: &str,
        command: Vec<String>,
    ) -> Result<(Pin<Box<dyn AsyncWrite + Send>>, Output)> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command),
            ..Default::default()
        };
        Ok(self.start_exec(container, options).await?.1)
    }

    /// Runs a command in a running container to its end, or until `timeout` has passed.
    pub async fn exec(
        &self,
        container: &ContainerId,
        exec: &ExecCommand,
        timeout: Duration,
    ) -> Result<ExecOutcome> {
        self.exec_with_input(&container.0, exec, &[], timeout).await
    }

    /// As [`Self::exec`], with `given` on its standard input. The command must find the end of the input by itself, because
    /// not every connection to an engine can be closed in one direction.
    pub async fn exec_with_input(
        &self,
        container: &str,
        exec: &ExecCommand,
        given: &[u8],
        timeout: Duration,
    ) -> Result<ExecOutcome> {
        let options = CreateExecOptions {
            attach_stdin: Some(!given.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.clone()),
            user: exec.user.clone(),
            privileged: Some(exec.privileged),
            working_dir: exec.working_dir.clone(),
            env: Some(exec.environment.clone()),
            ..Default::default()
        };
        let run = async {
            let (id, (mut input, mut output)) = self.start_exec(container, options).await?;
            if !given.is_empty() {
                // The exit code shows whether a command has ended early.
                let _ = input.write_all(given).await;
                let _ = input.flush().await;
            }
            let mut text = String::new();
            while let Some(Ok(chunk)) = output.next().await {
                push_tail(&mut text, &chunk.to_string());
            }
            Ok(ExecOutcome {
                code: self.exec_code(&id).await?,
                output: text,
            })
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::failed(format!(
                "the command did not end within {timeout:?}"
            ))),
        }
    }

    pub(super) async fn start_exec(
        &self,
        container: &str,
        options: CreateExecOptions<String>,
    ) -> Result<(String, (Pin<Box<dyn AsyncWrite + Send>>, Output))> {
        let exec = self.docker.create_exec(container, options).await;
        let id = exec
            .map_err(|error| failed("run a command in a container", &error))?
            .id;
        let options = StartExecOptions {
            output_capacity: Some(64 * 1024),
            ..Default::default()
        };
        match self.docker.start_exec(&id, Some(options)).await {
            Ok(StartExecResults::Attached { output, input }) => Ok((id, (input, output))),
            Ok(StartExecResults::Detached) => Err(Error::failed(
                "the engine detached a command that was attached",
            )),
            Err(error) => Err(failed("run a command in a container", &error)),
        }
    }

    /// Runs `/rollout ARGS…` from `image` in the network namespace of a replica.
    ///
    /// The program ends when the session is dropped, and the engine then removes the container.
    pub async fn helper(
        &self,
        image: &str,
        replica: &ContainerId,
        arguments: Vec<String>,
    ) -> Result<Session> {
        let body = helper_body(image, replica, arguments);
        let engine = self.clone();
        // A task of its own completes even if this future is dropped; a half-started container would never be removed.
        let starting = tokio::spawn(async move { engine.start_helper(body).await });
        starting
            .await
            .map_err(|error| Error::failed(format!("failed to start a helper: {error}")))?
    }

    async fn start_helper(&self, body: ContainerCreateBody) -> Result<Session> {
        let what = "start a helper";
        let created = self
            .docker
            .create_container(None::<query::CreateContainerOptions>, body)
            .await
            .map_err(|error| failed(what, &error))?;
        let attach = query::AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = self
            .docker
            .attach_container(&created.id, Some(attach))
            .await;
        let started = match attached {
            Ok(attached) => self
                .docker
                .start_container(&created.id, None)
                .await
                .map(|()| attached),
            Err(error) => Err(error),
        };
        match started {
            Ok(attached) => Ok(Session::new(attached.input, attached.output)),
            Err(error) => {
                self.discard(&created.id).await.ok();
                Err(failed(what, &error))
            }
        }
    }

    /// Removes helpers of these replicas that a killed run created but did not start.
    pub async fn sweep_helpers(&self, replicas: &[ContainerId]) -> Result<()> {
        let labels = vec![format!("{}=helper", label::ROLE)];
        let helpers = self.matching(labels, true).await?;
        let helps = |own: &ContainerSummary| {
            let helped = own.labels.as_ref().and_then(|own| own.get(label::HELPS));
            helped.is_some_and(|helped| replicas.iter().any(|id| id.0 == *helped))
        };
        for id in helpers.into_iter().filter(helps).filter_map(|own| own.id) {
            let state = self.inspect(&id).await?.and_then(|inspect| inspect.state);
            if state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED) {
                self.discard(&id).await?;
            }
        }
        Ok(())
    }
}

/// A container in the network namespace of a replica; the engine removes it when its program ends.
fn helper_body(image: &str, replica: &ContainerId, arguments: Vec<String>) -> ContainerCreateBody {
    let mut labels = own_labels("helper");
    labels.insert(label::HELPS.to_owned(), replica.0.clone());
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/rollout".into()]),
        cmd: Some(arguments),
        labels: Some(labels),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        // The image's health check is for the socket proxy.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", replica.0)),
            auto_remove: Some(true),
            // Reading packets needs no other capability.
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(vec!["NET_RAW".into()]),
            // Only this session reads the output, so the engine need not store it.
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".into()),
                config: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Labels for a container of our own, which hide it from Traefik; Compose ignores it.
pub fn own_labels(role: &str) -> HashMap<String, String> {
    HashMap::from([
        (label::ROLE.to_owned(), role.to_owned()),
        ("traefik.enable".to_owned(), "false".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn lines_are_assembled_from_any_pieces(lines in vec("[a-z{}]{0,20}", 0..8), cuts in vec(1..9_usize, 1..20)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let (mut read, mut taken, mut rest) = (Lines::new(1024), Vec::new(), text.as_bytes());
            for cut in cuts.iter().cycle().take_while(|_| !text.is_empty()) {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                read.push(piece).unwrap();
                taken.extend(std::iter::from_fn(|| read.take()));
                prop_assert_eq!(read.searched, read.pending.len());
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(taken, lines);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::new(100_000);
        let pushed = (0..1000).take_while(|_| {
            assert_eq!(lines.take(), None);
            lines.push(&[b'{'; 1000]).is_ok()
        });
        assert_eq!(pushed.count(), 100);
        assert_eq!(lines.pending.len(), 100_000);
    }

    #[test]
    fn the_end_of_a_long_text_is_kept() {
        let mut text = String::new();
        for _ in 0..50 {
            push_tail(&mut text, &"ä".repeat(100_000));
            assert!(text.len() <= 2 * MAX_TAIL);
        }
        push_tail(&mut text, "end");
        assert!(text.ends_with("end") && text.len() > MAX_TAIL / 2);
    }
}
