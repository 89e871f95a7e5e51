//! A Compose project of one test: its folder, its variables, its commands, and its removal.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{engine::succeeded, wait::eventually};

/// One project; what it has left on the engine is removed when it is dropped.
pub struct Project {
    pub name: String,
    folder: Folder,
    environment: Vec<(String, String)>,
    /// What [`Project::remove`] leaves running, by name.
    pub(crate) kept: Kept,
}

enum Folder {
    Own(TempDir),
    Shared(PathBuf),
}

/// Services, networks and volumes that the next test uses again; empty for most projects.
#[derive(Default)]
pub(crate) struct Kept {
    pub services: &'static [&'static str],
    pub networks: &'static [&'static str],
    pub volumes: &'static [&'static str],
}

/// A container as `docker compose up -d` must leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub id: String,
    pub started: String,
    pub status: String,
}

impl Project {
    /// A project in a folder of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self::of(name.into(), Folder::Own(tempfile::tempdir().unwrap()))
    }

    /// A project in a folder that outlives it.
    pub(crate) fn in_folder(name: impl Into<String>, folder: &Path) -> Self {
        Self::of(name.into(), Folder::Shared(folder.to_owned()))
    }

    fn of(name: String, folder: Folder) -> Self {
        let mut project = Self {
            folder,
            environment: Vec::new(),
            kept: Kept::default(),
            name,
        };
        let state = project.state_volume();
        project.set("COMPOSE_PROJECT_NAME", project.name.clone());
        project.set("ROLLOUT_STATE_VOLUME", state);
        project
    }

    /// The volume of this project alone in which rollouts are recorded.
    pub fn state_volume(&self) -> String {
        format!("{}-state", self.name)
    }

    /// Sets a variable for every command from here on.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets a variable no longer.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.retain(|(own, _)| own != name);
        self
    }

    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Own(folder) => folder.path(),
            Folder::Shared(folder) => folder,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file of the project's folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A program in the project's folder, with its variables.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .stdin(Stdio::null());
        command.envs(self.environment());
        command
    }

    /// Runs `docker ARGUMENTS…`, which must succeed; its standard output.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        succeeded(
            &self.command("docker", arguments).output().await.unwrap(),
            &arguments,
        )
    }

    /// Runs `docker compose ARGUMENTS…`, which must succeed.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        self.docker(&[&["compose"], arguments].concat()).await
    }

    /// Runs a line of the shell, which must succeed; its standard output.
    pub async fn shell(&self, line: &str) -> String {
        succeeded(
            &self.command("sh", &["-c", line]).output().await.unwrap(),
            &line,
        )
    }

    /// Runs a line of the shell until its output contains `wanted`, for 30 s at most.
    pub async fn until(&self, line: &str, wanted: &str) {
        eventually(line, Duration::from_secs(30), async || {
            let output = self.command("sh", &["-c", line]).output().await.unwrap();
            let found = String::from_utf8_lossy(&output.stdout).contains(wanted);
            found.then_some(()).ok_or(output)
        })
        .await;
    }

    /// The containers of a service, running or not, by name.
    pub async fn replicas(&self, service: &str) -> Vec<Container> {
        let label = format!("label=com.docker.compose.service={service}");
        self.containers(&["--filter", &label]).await
    }

    async fn containers(&self, filter: &[&str]) -> Vec<Container> {
        let own = format!("label=com.docker.compose.project={}", self.name);
        let list = ["ps", "-aq", "--no-trunc", "--filter", &own];
        let ids = self.docker(&[&list, filter].concat()).await;
        if ids.is_empty() {
            return Vec::new();
        }
        let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}";
        let ids: Vec<&str> = ids.lines().collect();
        let lines = self
            .docker(&[&["inspect", "--format", format][..], &ids].concat())
            .await;
        let container = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Container {
                name: fields[0].trim_start_matches('/').to_owned(),
                id: fields[1].to_owned(),
                started: fields[2].to_owned(),
                status: fields[3].to_owned(),
            }
        };
        let mut containers: Vec<Container> = lines.lines().map(container).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        containers
    }

    /// Removes what the project has on the engine: containers, networks, volumes, locks, records, and images that are
    /// named after it.
    pub(crate) fn remove(&self) {
        let except = |names: &[&str], format: fn(&str, &str) -> String| -> String {
            let names = names
                .iter()
                .map(|name| format!(" -e '{}'", format(&self.name, name)));
            format!("grep -v -x -e ''{}", names.collect::<String>())
        };
        let own = format!("--filter label=com.docker.compose.project={}", self.name);
        let services = except(self.kept.services, |project, service| {
            format!(".* {project}-{service}-1")
        });
        let networks = except(self.kept.networks, |project, name| {
            format!(".* {project}_{name}")
        });
        let volumes = except(self.kept.volumes, |project, name| {
            format!("{project}_{name}")
        });
        let line = format!(
            "remove() {{ xargs -r docker \"$@\" >/dev/null; }}
             {{ docker ps -a {own} --format '{{{{.ID}}}} {{{{.Names}}}}' | {services} | cut -d' ' -f1
                docker ps -aq --filter name=rollout-lock.{0}.
                docker ps -aq --filter volume={0}-state; }} | sort -u | remove rm -f -v
             docker network ls {own} --format '{{{{.ID}}}} {{{{.Name}}}}' | {networks} | cut -d' ' -f1 | remove network rm
             {{ docker volume ls {own} --format '{{{{.Name}}}}' | {volumes}
                docker volume ls -q --filter name={0}-state; }} | remove volume rm -f
             docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -E '^(rollout/{0}-|{0}:)' | remove rmi",
            self.name
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line]).envs(self.environment());
        let _ = command.stdin(Stdio::null()).output();
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.remove();
    }
}
