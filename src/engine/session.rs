//! Talking with a program in a container, line by line: `docker exec`, or a short-lived container of our own.

use std::{collections::HashMap, pin::Pin, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error as Bollard,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::{
        ContainerCreateBody, ContainerStateStatusEnum, HealthConfig, HostConfig,
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
};

pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Bollard>> + Send>>;

/// A program that reads lines on its standard input and answers with lines; dropping it closes both.
pub struct Session {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Output,
    pending: Vec<u8>,
    complaint: String,
}

impl Session {
    fn new(input: Pin<Box<dyn AsyncWrite + Send>>, output: Output) -> Self {
        Self {
            input,
            output,
            pending: Vec::new(),
            complaint: String::new(),
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

    /// The next line of its standard output; an error when it has ended, with what it complained of.
    ///
    /// Cancel-safe: a line that has partly arrived is kept.
    pub async fn next_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdErr { message })) => {
                    self.complaint += &String::from_utf8_lossy(&message)
                }
                Some(Ok(other)) => self.pending.extend_from_slice(&other.into_bytes()),
                Some(Err(error)) => return Err(failed("talk with a container", &error)),
                None => {
                    return Err(Error::failed(format!(
                        "the helper ended: {}",
                        self.complaint.trim()
                    )));
                }
            }
        }
    }
}

impl Engine {
    /// Runs a command in a running container and talks with it.
    pub async fn exec_session(&self, container: &str, command: Vec<String>) -> Result<Session> {
        let (input, output) = self.attached_exec(container, command).await?;
        Ok(Session::new(input, output))
    }

    /// Starts a command that is talked with: its standard input, and what it writes.
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

    /// The same, with something on its standard input, whose end the command must know by itself: not every way to an
    /// engine can close one half of a connection.
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
                // A command that has ended early says more by its exit code.
                let _ = input.write_all(given).await;
                let _ = input.flush().await;
            }
            let mut text = String::new();
            while let Some(Ok(chunk)) = output.next().await {
                text += &chunk.to_string();
            }
            let ended = self
                .docker
                .inspect_exec(&id)
                .await
                .map_err(|error| failed("inspect a command", &error))?;
            Ok(ExecOutcome {
                code: ended.exit_code.unwrap_or(-1),
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

    /// Runs `/rollout ARGS…` from `image` in the network namespace of a replica, and talks with it.
    ///
    /// The container removes itself when its program ends, which it does when this session is dropped.
    pub async fn helper(
        &self,
        image: &str,
        replica: &ContainerId,
        arguments: Vec<String>,
    ) -> Result<Session> {
        let body = helper_body(image, replica, arguments);
        let engine = self.clone();
        // In a task of its own: one that is given up half-way would leave a container that never removes itself.
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

    /// Removes helpers of these replicas that were created and never started, which a killed run may have left.
    pub async fn sweep_helpers(&self, replicas: &[ContainerId]) -> Result<()> {
        for replica in replicas {
            let labels = vec![
                format!("{}=helper", label::ROLE),
                format!("{}={}", label::HELPS, replica.0),
            ];
            for id in self.ids(labels, true).await? {
                let state = self.inspect(&id).await?.and_then(|inspect| inspect.state);
                if state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED) {
                    self.discard(&id).await?;
                }
            }
        }
        Ok(())
    }
}

/// A container that joins the network namespace of a replica and removes itself when its program ends.
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
        // The image's own check is for the socket proxy.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", replica.0)),
            auto_remove: Some(true),
            // To read packets is all that it needs.
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(vec!["NET_RAW".into()]),
            // What it says is for this session alone, and nobody reads it twice.
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".into()),
                config: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Labels for a container of our own: hidden from Traefik, unknown to Compose.
pub fn own_labels(role: &str) -> HashMap<String, String> {
    HashMap::from([
        (label::ROLE.to_owned(), role.to_owned()),
        ("traefik.enable".to_owned(), "false".to_owned()),
    ])
}
