//! The `docker compose` command: reads the project, and pulls, builds and creates.

pub mod check;
pub mod command;
pub mod contents;
mod create;
pub mod duration;
pub mod edits;
pub mod exposed;
pub mod files;
mod find;
mod hash;
pub mod layout;
pub mod mounts;
#[cfg(test)]
mod on_engine;
pub mod one_off;
mod parse;
mod project;
mod reason;
pub mod reproduce;
mod variables;
pub mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use tokio::process::Command;

use command::{Finished, run};
pub use hash::Hashes;
pub use project::*;
use reason::{Which, reason};

use crate::{
    docker::{endpoint::Forward, http::Upstream},
    error::{Error, Result},
    model::ContainerId,
};

/// The options for Compose's own discovery of the project, passed on unchanged.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `-f`, in order; `-` is standard input.
    pub files: Vec<String>,
    pub project_name: Option<String>,
    pub project_directory: Option<PathBuf>,
    pub profiles: Vec<String>,
    pub env_files: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// The service's `pull_policy`.
    #[default]
    Policy,
    Always,
    Missing,
    Never,
}

pub struct CreateRequest<'a> {
    /// From [`Compose::project`].
    pub project: &'a Project,
    pub service: &'a str,
    /// Containers in the new set.
    pub replicas: u32,
    /// Every direct or indirect dependency, with its current number of containers.
    pub dependencies: Vec<(String, u32)>,
    /// The rollout id. It is part of the temporary names, so it has only letters, digits, `_`, `.` and `-`.
    pub rollout: &'a str,
    /// The container that is the rollout's lock. Without it, nothing more is created.
    pub lock: Option<&'a str>,
    /// Our own labels, to which `io.rollout.id` and `io.rollout.name` are added.
    pub labels: BTreeMap<String, String>,
    pub anonymous_volumes: AnonymousVolumes,
}

/// What to do about anonymous volumes, which a new container does not get from an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnonymousVolumes {
    /// Refuse a service that has anonymous volumes.
    Refuse,
    /// New containers start with empty volumes.
    Renew,
    /// New containers take over the volumes of these containers.
    Inherit(Vec<ContainerId>),
}

/// An installed Docker Compose, and the project that its options select.
#[derive(Clone)]
pub struct Compose {
    program: find::Program,
    version: String,
    invocation: Invocation,
    engine: Upstream,
    /// Kept for its socket, through which commands reach the engine.
    _forward: Arc<Forward>,
    /// Standard input for `-f -`, read once and used by several commands.
    stdin: Option<Vec<u8>>,
}

impl Compose {
    /// `COMPOSE_PARALLEL_LIMIT`; `None` where it is not set, or sets no limit.
    pub fn parallel_limit(&self) -> Option<u32> {
        let limit = self.program.variable("COMPOSE_PARALLEL_LIMIT")?;
        limit.parse().ok().filter(|limit| *limit > 0)
    }

    /// Without a leading `v`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The project with its enabled services.
    pub async fn project(&self) -> Result<Project> {
        self.project_for(&[]).await
    }

    /// The project as for `up SERVICE…`: enables a named service with an inactive profile, and its dependencies.
    ///
    /// Refused with one line where Compose cannot read the project. An unknown name is not an error here;
    /// [`Project::service`] then also suggests services with inactive profiles.
    pub async fn project_for(&self, services: &[&str]) -> Result<Project> {
        let mut project = self.parse(&self.config(&[]).await?)?;
        project.directory = self.project_directory();
        let missing: Vec<&str> = services
            .iter()
            .copied()
            .filter(|name| !project.services.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            self.add_disabled(&mut project).await;
        }
        for name in missing {
            if project.disabled.contains(name) {
                project.enable(self.parse(&self.config(&[name]).await?)?);
            }
        }
        contents::digest(self, &mut project).await?;
        Ok(project)
    }

    /// Reads which services have inactive profiles; false where Compose cannot say.
    pub async fn add_disabled(&self, project: &mut Project) -> bool {
        let names = self.all_names().await.unwrap_or_default();
        let is_known = !names.is_empty();
        let disabled = names.into_iter();
        let disabled = disabled.filter(|name| !project.services.contains_key(name));
        project.disabled = disabled.collect();
        is_known
    }

    /// Passes each line of progress to `on_line`.
    pub async fn pull(
        &self,
        service: &str,
        policy: Pull,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let mut arguments = vec!["pull"];
        match policy {
            Pull::Never => return Ok(()),
            Pull::Policy => {}
            Pull::Always => arguments.extend(["--policy", "always"]),
            Pull::Missing => arguments.extend(["--policy", "missing"]),
        }
        arguments.push(service);
        let doing = format!("could not pull the image of {service}");
        self.act(None, &arguments, &doing, on_line).await
    }

    /// Passes each line of progress to `on_line`.
    pub async fn build(&self, service: &str, on_line: impl FnMut(String)) -> Result<()> {
        let doing = format!("could not build the image of {service}");
        self.act(None, &["build", service], &doing, on_line).await
    }

    fn parse(&self, text: &str) -> Result<Project> {
        parse::project(text, self.separator()).map_err(|error| {
            Error::refused(format!(
                "cannot read what docker compose config prints: {error}"
            ))
        })
    }

    async fn config(&self, services: &[&str]) -> Result<String> {
        let mut command = self.command(None);
        command.arg("config").args(services);
        self.ask(command, self.stdin.as_deref()).await
    }

    /// The names of all services with any profile; an error where Compose cannot enable all profiles together.
    pub async fn all_names(&self) -> Result<BTreeSet<String>> {
        let mut command = self.command(None);
        command.args(["--profile", "*", "config", "--services"]);
        let names = self.ask(command, self.stdin.as_deref()).await?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Runs a command that only reads. Returns its output, or a refusal in one line.
    async fn ask(&self, command: Command, stdin: Option<&[u8]>) -> Result<String> {
        let finished = self.finish(command, stdin, |_| ()).await?;
        if finished.status.success() {
            return Ok(finished.output);
        }
        Err(Error::refused(format!(
            "docker compose: {}",
            reason(&finished.errors, Which::First)
        )))
    }

    /// Runs a command that changes something.
    async fn act(
        &self,
        view: Option<&str>,
        arguments: &[&str],
        doing: &str,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let mut command = self.command(view);
        command.args(arguments);
        let finished = self.finish(command, self.stdin.as_deref(), on_line).await?;
        if finished.status.success() {
            return Ok(());
        }
        let reason = reason(&finished.errors, Which::Last);
        Err(Error::failed(format!("{doing}: {reason}")))
    }

    async fn finish(
        &self,
        command: Command,
        stdin: Option<&[u8]>,
        on_line: impl FnMut(String),
    ) -> Result<Finished> {
        tracing::info!(command = words(command.as_std()), "running");
        run(command, stdin, on_line).await.map_err(|error| {
            Error::refused(format!(
                "cannot run {}: {error}",
                self.program.words.join(" ")
            ))
        })
    }

    /// A command on the user's project, sent to the engine or to a view of it.
    fn command(&self, view: Option<&str>) -> Command {
        let mut command = self.program.command(view);
        let given = &self.invocation;
        for (flag, values) in [
            ("--file", &given.files),
            ("--profile", &given.profiles),
            ("--env-file", &given.env_files),
        ] {
            for value in values {
                command.args([flag, value]);
            }
        }
        if let Some(name) = &given.project_name {
            command.args(["--project-name", name]);
        }
        if let Some(directory) = &given.project_directory {
            command.arg("--project-directory").arg(directory);
        }
        command
    }

    /// The separator between project, service and number in names (Compose's `api.Separator`).
    pub fn separator(&self) -> &'static str {
        let old = self.program.variable("COMPOSE_COMPATIBILITY");
        let old = old.unwrap_or_default().to_lowercase();
        let old = matches!(old.as_str(), "1" | "t" | "true" | "y" | "yes" | "on");
        if old { "_" } else { "-" }
    }
}

/// A project from the output of `docker compose config`, for tests of other modules.
#[cfg(test)]
pub(crate) fn resolved(text: &str) -> Result<Project, String> {
    parse::project(text, "-")
}

/// A command as one line, for the log.
fn words(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
