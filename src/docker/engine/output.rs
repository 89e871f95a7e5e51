//! What a container or a command in it prints, as it comes, and the exit code.

use std::{pin::Pin, time::Duration};

use bollard::query_parameters as query;
use futures_util::StreamExt;
use tokio::{io::AsyncRead, time::sleep};
use tokio_util::io::StreamReader;

use super::{Engine, ExecCommand, failed, session::Output};
use crate::{
    error::{Error, Result},
    model::ContainerId,
};

/// Standard output and standard error together.
pub type Log = Pin<Box<dyn AsyncRead + Send>>;

/// Between two questions whether a container has ended.
const PAUSE: Duration = Duration::from_millis(100);

fn log(output: Output) -> Log {
    let bytes = output.map(|chunk| chunk.map(|chunk| chunk.into_bytes()));
    Box::pin(StreamReader::new(
        bytes.map(|chunk| chunk.map_err(std::io::Error::other)),
    ))
}

impl Engine {
    /// What a container prints, from its start to its end.
    pub fn log(&self, container: &ContainerId) -> Log {
        let options = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(true)
            .build();
        log(Box::pin(self.docker.logs(&container.0, Some(options))))
    }

    /// The exit code of a container that has ended; `None` while it has not.
    pub async fn exit_code(&self, container: &ContainerId) -> Result<Option<i64>> {
        let Some(inspect) = self.inspect(&container.0).await? else {
            let message = format!("container {container} was removed by another command");
            return Err(Error::failed(message));
        };
        let state = inspect.state.unwrap_or_default();
        let has_started = state.started_at.is_some_and(|at| !at.starts_with("0001"));
        let has_ended = has_started && state.running != Some(true);
        Ok(state.exit_code.filter(|_| has_ended))
    }

    /// Waits for the end of a container, and returns its exit code.
    pub async fn end_of(&self, container: &ContainerId) -> Result<i64> {
        loop {
            match self.exit_code(container).await? {
                Some(code) => return Ok(code),
                None => sleep(PAUSE).await,
            }
        }
    }

    /// Starts a command in a running container. Returns its id and what it prints.
    pub async fn exec_log(
        &self,
        container: &ContainerId,
        exec: &ExecCommand,
    ) -> Result<(String, Log)> {
        let (id, (_, output)) = self.start_exec(&container.0, exec, false).await?;
        Ok((id, log(output)))
    }

    /// The exit code of a command whose output has ended; -1 where the engine has none.
    pub async fn exec_code(&self, id: &str) -> Result<i64> {
        let ended = self.docker.inspect_exec(id).await;
        let ended = ended.map_err(|error| failed("inspect a command", &error))?;
        Ok(ended.exit_code.unwrap_or(-1))
    }
}
