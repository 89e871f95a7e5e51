//! The commands of the Docker CLI about a stack: `docker stack config` and `docker stack deploy`.

use serde_json::Value;
use tokio::process::Command;

use crate::{
    compose::command::{Finished, on_engine, run},
    docker::{endpoint::Forward, http::Endpoint},
    error::{Error, Result},
    yaml,
};

pub struct DockerStack {
    forward: Forward,
    pub files: Vec<String>,
    pub name: String,
}

impl DockerStack {
    pub async fn new(endpoint: Endpoint, name: &str, files: &[String]) -> Result<Self> {
        let forward = Forward::start(endpoint).await.map_err(|error| {
            Error::refused(format!("cannot make a socket for docker stack: {error}"))
                .hint("set TMPDIR to a directory with a short path that may be written to")
        })?;
        Ok(Self {
            forward,
            files: files.to_vec(),
            name: name.to_owned(),
        })
    }

    /// The stack file, merged and with its variables in place.
    pub async fn config(&self) -> Result<Value> {
        let mut command = self.command("config");
        for file in &self.files {
            command.args(["-c", file]);
        }
        let printed = finished(command, None, |_| ()).await;
        // An older Docker CLI may print its own help, and exit with 0.
        let is_read = printed
            .as_ref()
            .is_ok_and(|own| own.output.contains("services"));
        if !is_read && !self.has("config", "docker stack config").await? {
            return Err(Error::refused("this Docker CLI has no docker stack config")
                .hint("install a newer Docker CLI (docker-ce-cli 25 or newer)"));
        }
        let finished = printed.map_err(|error| Error::refused(error.message))?;
        yaml::parse(&finished.output).map_err(|error| {
            Error::refused(format!(
                "cannot read what docker stack config prints: {error}"
            ))
        })
    }

    /// Deploys what stands in this file, and leaves all else of the stack as it is. Does not wait for the tasks.
    pub async fn deploy(&self, file: &Value, on_line: impl FnMut(String)) -> Result<()> {
        let mut command = Command::new("docker");
        for name in without_value(file) {
            command.env_remove(name);
        }
        self.on_stack(&mut command, "deploy");
        command.args(["--with-registry-auth", "-c", "-"]);
        // An older Docker CLI has no such option, and a newer one may wait by default.
        if self.has("deploy", "--detach").await? {
            command.arg("--detach=true");
        }
        command.arg(&self.name);
        let file = yaml::json(file);
        finished(command, Some(file.as_bytes()), on_line).await?;
        Ok(())
    }

    /// Whether the help of a command has this text.
    async fn has(&self, word: &str, text: &str) -> Result<bool> {
        let mut help = self.command(word);
        help.arg("--help");
        let help = finished(help, None, |_| ()).await?;
        Ok(help.output.contains(text))
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new("docker");
        self.on_stack(&mut command, word);
        command
    }

    fn on_stack(&self, command: &mut Command, word: &str) {
        command.args(["stack", word]);
        on_engine(command, self.forward.docker_host());
    }
}

/// The variables of its services that have no value: `docker stack` gives them those of its own environment.
fn without_value(file: &Value) -> impl Iterator<Item = &String> {
    let services = file["services"].as_object().into_iter().flatten();
    let variables = services.filter_map(|(_, own)| own["environment"].as_object());
    let is_empty = |value: &Value| value.is_null() || value == "";
    let empty = variables.flatten().filter(move |(_, own)| is_empty(own));
    empty.map(|(name, _)| name)
}

async fn finished(
    command: Command,
    stdin: Option<&[u8]>,
    on_line: impl FnMut(String),
) -> Result<Finished> {
    tracing::info!(?command, "running");
    let finished = run(command, stdin, on_line).await.map_err(|error| {
        Error::failed(format!("cannot run docker stack: {error}"))
            .hint("install the Docker CLI (docker-ce-cli or docker-cli)")
    })?;
    match finished.status.success() {
        true => Ok(finished),
        false => {
            let mut lines = finished.errors.iter().rev();
            let last = lines.find(|line| !line.trim().is_empty());
            let why = last.map_or("it failed without a message", |line| line.trim());
            Err(Error::failed(format!("docker stack: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_has_no_value_if_it_is_null_or_empty() {
        let file = json!({"services": {
            "web": {"environment": {"A": null, "B": "", "C": "1", "D": 0}},
            "api": {"image": "app"},
        }});
        let names: Vec<&String> = without_value(&file).collect();
        assert_eq!(names, ["A", "B"]);
    }
}
