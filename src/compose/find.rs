//! Finds Compose v2, and builds its commands with one environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::{io::AsyncReadExt, process::Command};

use super::{
    Compose, Invocation,
    command::{on_engine, run},
};
use crate::{
    docker::{
        endpoint::{Endpoint, Forward},
        http::Upstream,
    },
    error::{Error, Result},
};

const HOW_TO_INSTALL: &str = "install the plugin docker-compose-plugin from Docker's packages, or see \
                              https://docs.docker.com/compose/install/";

/// Where Compose runs. The default is our own environment and directory.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Added to our own environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory, our own where `None`.
    pub directory: Option<PathBuf>,
}

impl Compose {
    /// Finds `docker compose` v2, or else `docker-compose` v2; refused where neither exists.
    ///
    /// Every command uses `endpoint`, whatever context Docker's configuration prefers. It reaches an engine by TLS or ssh
    /// through a socket of ours.
    pub async fn find(invocation: Invocation, endpoint: Endpoint) -> Result<Self> {
        Self::find_in(invocation, endpoint, Surroundings::default()).await
    }

    /// As [`Compose::find`], with another environment or directory.
    pub async fn find_in(
        invocation: Invocation,
        endpoint: Endpoint,
        surroundings: Surroundings,
    ) -> Result<Self> {
        let forward = Forward::start(endpoint.clone()).await.map_err(|error| {
            Error::refused(format!("cannot make a socket for docker compose: {error}"))
                .hint("set TMPDIR to a directory with a short path that may be written to")
        })?;
        for words in [&["docker", "compose"][..], &["docker-compose"]] {
            let program = Program {
                words: words.iter().map(|&word| word.to_owned()).collect(),
                surroundings: surroundings.clone(),
                given: BTreeMap::new(),
                docker_host: forward.docker_host().to_owned(),
            };
            match program.version().await {
                Some(version) if !is_v1(&version) => {
                    return Ok(Self {
                        program,
                        version,
                        stdin: standard_input(&invocation).await?,
                        invocation,
                        engine: Upstream::new(endpoint),
                        _forward: forward.into(),
                    });
                }
                older => tracing::debug!(?words, ?older, "no compose v2"),
            }
        }
        Err(Error::refused("docker compose v2 was not found").hint(HOW_TO_INSTALL))
    }

    /// The same with these variables, which override environment files.
    pub fn given(mut self, variables: &BTreeMap<String, String>) -> Self {
        self.program.given.extend(variables.clone());
        self
    }

    /// The same without such variables.
    pub fn as_in_files(&self) -> Self {
        let mut compose = self.clone();
        compose.program.given.clear();
        compose
    }

    /// The same as in files, with another file in place of the last environment file.
    pub fn reading(&self, file: &Path) -> Self {
        let mut files = self.env_files();
        files.pop();
        files.push(file.to_owned());
        let mut compose = self.as_in_files();
        let names = files.iter().map(|own| own.display().to_string());
        compose.invocation.env_files = names.collect();
        compose
    }

    /// On a recorded project in place of its current files: `config` is an earlier result of [`super::Project::alone`], with
    /// the same config hash.
    pub fn recorded(&self, config: &str, project: &str) -> Self {
        Self {
            invocation: Invocation {
                files: vec!["-".to_owned()],
                project_name: Some(project.to_owned()),
                project_directory: self.invocation.project_directory.clone(),
                ..Invocation::default()
            },
            stdin: Some(config.as_bytes().to_vec()),
            ..self.clone()
        }
    }

    /// A shell script in the place of Compose.
    #[cfg(test)]
    pub async fn scripted(endpoint: Endpoint, script: &str) -> Self {
        let forward = Forward::start(endpoint.clone()).await.unwrap();
        Self {
            program: Program {
                words: ["sh", "-c", script].map(str::to_owned).into(),
                surroundings: Surroundings::default(),
                given: BTreeMap::new(),
                docker_host: String::new(),
            },
            version: String::new(),
            invocation: Invocation::default(),
            engine: Upstream::new(endpoint),
            _forward: forward.into(),
            stdin: None,
        }
    }
}

/// Builds commands without the options of a project.
#[derive(Clone)]
pub(super) struct Program {
    /// `docker compose` or `docker-compose`.
    pub words: Vec<String>,
    surroundings: Surroundings,
    /// The variables that a rollout is given.
    given: BTreeMap<String, String>,
    /// The engine's address for Compose.
    docker_host: String,
}

impl Program {
    /// A command on the engine, or on the `docker_host` of a view.
    ///
    /// Without `DOCKER_CONTEXT`, `DOCKER_HOST` overrides a context in Docker's configuration.
    pub fn command(&self, docker_host: Option<&str>) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command.args(["--ansi", "never", "--progress", "plain"]);
        command.envs(&self.surroundings.environment);
        command.envs(&self.given);
        on_engine(&mut command, docker_host.unwrap_or(&self.docker_host));
        if let Some(directory) = &self.surroundings.directory {
            command.current_dir(directory);
        }
        command
    }

    /// A variable of Compose's environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let given = self.surroundings.environment.get(name).cloned();
        given.or_else(|| std::env::var(name).ok())
    }

    pub fn directory(&self) -> PathBuf {
        let given = self.surroundings.directory.clone();
        given.unwrap_or_else(|| std::env::current_dir().unwrap_or_default())
    }

    async fn version(&self) -> Option<String> {
        let mut command = self.command(None);
        command.args(["version", "--short"]);
        let finished = run(command, None, |_| ()).await.ok()?;
        let version = finished.output.trim().trim_start_matches('v').to_owned();
        (finished.status.success() && version.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(version)
    }
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
    fn compose_v1_is_too_old() {
        assert!(is_v1("1.29.2"));
        assert!(!is_v1("2.26.1-4"));
        assert!(!is_v1("5.5.0"));
    }

    #[test]
    fn the_environment_cannot_choose_another_engine() {
        let program = Program {
            words: vec!["docker".to_owned(), "compose".to_owned()],
            surroundings: Surroundings {
                environment: BTreeMap::from([("DOCKER_CONTEXT".to_owned(), "far".to_owned())]),
                directory: None,
            },
            given: BTreeMap::from([("TAG".to_owned(), "v2".to_owned())]),
            docker_host: "tcp://far:2375".to_owned(),
        };
        let command = program.command(Some("unix:///run/x.sock"));
        let environment: Vec<_> = command.as_std().get_envs().collect();
        assert!(environment.contains(&("TAG".as_ref(), Some("v2".as_ref()))));
        assert!(
            environment.contains(&("DOCKER_HOST".as_ref(), Some("unix:///run/x.sock".as_ref())))
        );
        for name in [
            "DOCKER_TLS",
            "DOCKER_TLS_VERIFY",
            "DOCKER_CERT_PATH",
            "DOCKER_CONTEXT",
            "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
            "DOCKER_CLI_PLUGIN_SOCKET",
            "COMPOSE_REMOVE_ORPHANS",
            "COMPOSE_STATUS_STDOUT",
        ] {
            assert!(environment.contains(&(name.as_ref(), None)), "{name}");
        }
    }
}
