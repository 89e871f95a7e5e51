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
use bytes::BytesMut;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

use super::{Engine, ExecCommand, ExecOutcome, Mounted, failed};
use crate::{
    error::{Error, Result},
    model::{ContainerId, label},
    overlay::control,
};

/// No helper takes longer to start, in seconds.
const START_SECONDS: i64 = 60;
/// Bytes that are kept at least of the end of a program's text output.
const MAX_TAIL: usize = 1024 * 1024;

/// This program in its images.
pub const PROGRAM: &str = "/rollout";

pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Bollard>> + Send>>;

/// A program that reads lines on its standard input and answers with lines; dropping it closes both.
pub struct Session {
    pub container: String,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Output,
    lines: AnyDelimiterCodec,
    /// What has arrived of the next lines.
    pending: BytesMut,
    errors: String,
}

impl Session {
    pub fn new(container: &str, input: Pin<Box<dyn AsyncWrite + Send>>, output: Output) -> Self {
        Self {
            container: container.to_owned(),
            input,
            output,
            lines: AnyDelimiterCodec::new_with_max_length(
                b"\n".to_vec(),
                Vec::new(),
                control::MAX_LINE,
            ),
            pending: BytesMut::new(),
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
            let line = self.lines.decode(&mut self.pending);
            if let Some(line) = line.map_err(unreadable)? {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdErr { message })) => {
                    push_tail(&mut self.errors, &String::from_utf8_lossy(&message));
                }
                Some(Ok(other)) => self.pending.extend_from_slice(&other.into_bytes()),
                Some(Err(error)) => return Err(failed("talk with a container", &error)),
                None => {
                    return Err(Error::failed(match self.errors.trim() {
                        "" => "the helper ended",
                        why => why,
                    }));
                }
            }
        }
    }
}

fn unreadable(error: AnyDelimiterCodecError) -> Error {
    match error {
        AnyDelimiterCodecError::MaxChunkLengthExceeded => {
            let longest = control::MAX_LINE;
            Error::failed(format!("a line has more than {longest} bytes"))
        }
        AnyDelimiterCodecError::Io(error) => {
            Error::failed(format!("a line cannot be read: {error}"))
        }
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
        Ok(Session::new(container, input, output))
    }

    /// Starts a command and returns its standard input and its output.
    pub(super) async fn attached_exec(
        &self,
        container: &str,
        command: Vec<String>,
    ) -> Result<(Pin<Box<dyn AsyncWrite + Send>>, Output)> {
        let exec = ExecCommand {
            command,
            ..ExecCommand::default()
        };
        Ok(self.start_exec(container, &exec, true).await?.1)
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
        let run = async {
            let started = self.start_exec(container, exec, !given.is_empty());
            let (id, (mut input, mut output)) = started.await?;
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

    /// Returns the id of the command, its standard input and its output.
    pub(super) async fn start_exec(
        &self,
        container: &str,
        exec: &ExecCommand,
        has_input: bool,
    ) -> Result<(String, (Pin<Box<dyn AsyncWrite + Send>>, Output))> {
        let options = CreateExecOptions {
            attach_stdin: Some(has_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.clone()),
            user: exec.user.clone(),
            privileged: Some(exec.privileged),
            working_dir: exec.working_dir.clone(),
            env: Some(exec.environment.clone()),
            ..Default::default()
        };
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

    /// Runs `/rollout ARGS…` from `image` in the network namespace of a container.
    ///
    /// The program ends when the session is dropped, and the engine then removes the container.
    pub async fn helper(
        &self,
        image: &str,
        container: &ContainerId,
        arguments: Vec<String>,
    ) -> Result<Session> {
        let mut labels = own_labels("helper");
        labels.insert(label::HELPS.to_owned(), container.0.clone());
        let host = HostConfig {
            network_mode: Some(format!("container:{}", container.0)),
            // Reading packets needs no other capability.
            cap_add: Some(vec!["NET_RAW".into()]),
            ..Default::default()
        };
        self.run_own(program_body(image, arguments, labels, host))
            .await
    }

    /// Runs `/rollout ARGS…` from `image` with a volume mounted, and without a network.
    ///
    /// The engine removes the container when the program ends.
    pub async fn on_volume(
        &self,
        image: &str,
        mounted: Mounted<'_>,
        arguments: Vec<String>,
    ) -> Result<Session> {
        let host = HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(vec![mounted.mount()]),
            ..Default::default()
        };
        self.run_own(program_body(image, arguments, own_labels("state"), host))
            .await
    }

    async fn run_own(&self, body: ContainerCreateBody) -> Result<Session> {
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
            Ok(attached) => Ok(Session::new(&created.id, attached.input, attached.output)),
            Err(error) => {
                self.discard(&created.id).await.ok();
                Err(failed(what, &error))
            }
        }
    }

    /// Removes helpers that a killed run created but did not start: those of these replicas, and others after a minute,
    /// because another run may be starting one. `now_ms` is the engine's clock.
    pub async fn sweep_helpers(&self, replicas: &[ContainerId], now_ms: u64) -> Result<()> {
        let labels = vec![format!("{}=helper", label::ROLE)];
        let helpers = self.matching(labels, true).await?;
        let may_go = |own: &ContainerSummary| {
            let helped = own.labels.as_ref().and_then(|own| own.get(label::HELPS));
            let age = now_ms as i64 / 1000 - own.created.unwrap_or(i64::MAX / 2);
            age > START_SECONDS || replicas.iter().any(|id| Some(&id.0) == helped)
        };
        for id in helpers.into_iter().filter(may_go).filter_map(|own| own.id) {
            let state = self.inspect(&id).await?.and_then(|inspect| inspect.state);
            if state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED) {
                self.discard(&id).await?;
            }
        }
        Ok(())
    }
}

/// A container of our own that runs this program; the engine removes it when the program ends.
fn program_body(
    image: &str,
    arguments: Vec<String>,
    labels: HashMap<String, String>,
    host: HostConfig,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PROGRAM.into()]),
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
            auto_remove: Some(true),
            cap_drop: Some(vec!["ALL".into()]),
            // Only this session reads the output, so the engine need not store it.
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".into()),
                config: None,
            }),
            ..host
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
    use hyper::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{docker::http::json as answer, event::Events, fake_engine::FakeEngine};

    #[tokio::test]
    async fn a_helper_that_another_run_may_be_starting_is_not_removed() {
        let fake = FakeEngine::start(|method, path, _| {
            let helper = |id: &str, replica: &str, created: i64| json!({"Id": id, "Created": created, "Labels": {label::HELPS: replica}});
            let found = match (method, path) {
                ("GET", "/version") => json!({"ApiVersion": "1.41"}),
                ("GET", "/containers/json") => json!([
                    helper("own", "a", 990),
                    helper("starting", "traefik", 990),
                    helper("left", "traefik", 900),
                    helper("running", "a", 900),
                ]),
                ("GET", "/containers/running/json") => json!({"State": {"Status": "running"}}),
                _ => json!({"State": {"Status": "created"}}),
            };
            answer(StatusCode::OK, &found)
        });
        let engine = Engine::connect(fake.endpoint(), &Events::new(Vec::new())).await;
        let replicas = [ContainerId("a".to_owned())];
        let swept = engine.unwrap().sweep_helpers(&replicas, 1_000_000).await;
        swept.unwrap();
        let removed = fake.changes().into_iter().map(|(_, path, _)| path);
        let ids: Vec<String> = removed
            .filter_map(|path| Some(path.split('?').next()?.rsplit('/').next()?.to_owned()))
            .collect();
        assert_eq!(ids, ["own", "left"]);
    }

    #[tokio::test]
    async fn lines_are_assembled_from_pieces_and_the_standard_error_is_the_reason_of_the_end() {
        let out = |text: &'static str| LogOutput::StdOut {
            message: text.into(),
        };
        let err = LogOutput::StdErr {
            message: "killed\n".into(),
        };
        let pieces = [out("o"), out("ne\ntw"), err, out("o\n\n")].map(Ok);
        let output = Box::pin(futures_util::stream::iter(pieces));
        let mut session = Session::new("a", Box::pin(tokio::io::sink()), output);
        for line in ["one", "two", ""] {
            assert_eq!(session.next_line().await.unwrap(), line);
        }
        let end = session.next_line().await.unwrap_err();
        assert_eq!(end.message, "killed");
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
