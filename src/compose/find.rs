//! Finds Compose v2, and gives every command of it the same surroundings.

use tokio::{io::AsyncReadExt, process::Command};

use super::{Compose, Invocation, command::run};
use crate::{
    docker_http::{Endpoint, Upstream},
    error::{Error, Result},
};

const HOW_TO_INSTALL: &str = "install the plugin docker-compose-plugin from Docker's packages, or see \
                              https://docs.docker.com/compose/install/";

/// What would choose another engine than ours, remove what is not ours, or make Compose take itself for our plugin.
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

impl Compose {
    /// Finds `docker compose` v2, else `docker-compose` v2; refused where there is none.
    ///
    /// Every command is run on `endpoint`, whatever context Docker's own configuration prefers.
    pub async fn find(invocation: Invocation, endpoint: Endpoint) -> Result<Self> {
        let mut found = None;
        for program in [&["docker", "compose"][..], &["docker-compose"]] {
            let program: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
            match version(&program, &endpoint).await {
                Some(version) if !is_v1(&version) => {
                    found = Some((program, version));
                    break;
                }
                older => tracing::debug!(?program, ?older, "no compose v2"),
            }
        }
        let (program, version) = found.ok_or_else(|| {
            Error::refused("docker compose v2 was not found").hint(HOW_TO_INSTALL)
        })?;
        let stdin = standard_input(&invocation).await?;
        Ok(Self {
            program,
            version,
            invocation,
            engine: Upstream::new(endpoint.clone()),
            endpoint,
            stdin,
        })
    }
}

/// A command of Compose without a word about the project.
///
/// `DOCKER_HOST` wins over a context in Docker's configuration once `DOCKER_CONTEXT` is gone.
pub(super) fn command(program: &[String], docker_host: &str) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    command.args(["--ansi", "never", "--progress", "plain"]);
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    command.env("DOCKER_HOST", docker_host);
    command
}

async fn version(program: &[String], endpoint: &Endpoint) -> Option<String> {
    let mut command = command(program, &endpoint.to_string());
    command.args(["version", "--short"]);
    let finished = run(command, None, |_| ()).await.ok()?;
    let version = finished.output.trim().trim_start_matches('v').to_owned();
    (finished.status.success() && version.starts_with(|c: char| c.is_ascii_digit()))
        .then_some(version)
}

fn is_v1(version: &str) -> bool {
    matches!(version.split('.').next(), Some("0" | "1"))
}

async fn standard_input(invocation: &Invocation) -> Result<Option<Vec<u8>>> {
    if !invocation.files.iter().any(|file| file == "-") {
        return Ok(None);
    }
    let mut text = Vec::new();
    tokio::io::stdin()
        .read_to_end(&mut text)
        .await
        .map_err(|error| Error::refused(format!("cannot read standard input: {error}")))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_of_one_is_too_old() {
        assert!(is_v1("1.29.2"));
        assert!(!is_v1("2.26.1-4"));
        assert!(!is_v1("5.5.0"));
    }

    #[test]
    fn the_environment_chooses_no_other_engine() {
        let program = ["docker".to_owned(), "compose".to_owned()];
        let command = command(&program, "unix:///run/x.sock");
        let environment: Vec<_> = command.as_std().get_envs().collect();
        assert!(
            environment.contains(&("DOCKER_HOST".as_ref(), Some("unix:///run/x.sock".as_ref())))
        );
        for name in NOT_PASSED_ON {
            assert!(environment.contains(&(name.as_ref(), None)), "{name}");
        }
    }
}
