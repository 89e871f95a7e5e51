//! A Compose project of one test: its folder, its variables, its commands, and its removal.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    api::{Api, label},
    cache,
    engine::succeeded,
    wait::eventually,
};

/// One project; what it has left on the engine is removed when it is dropped.
pub struct Project {
    pub name: String,
    folder: Folder,
    /// Where [`Project::lives_on`] says.
    engine: Option<String>,
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
            engine: None,
            environment: Vec::new(),
            kept: Kept::default(),
            name,
        };
        std::fs::create_dir_all(records()).unwrap();
        std::fs::write(records().join(&project.name), "").unwrap();
        let state = project.state_volume();
        project.set("COMPOSE_PROJECT_NAME", project.name.clone());
        project.set("ROLLOUT_STATE_VOLUME", state);
        // docker and Compose end before they could run out of memory.
        project.set("GOGC", "off");
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
        // The same output in a CI as elsewhere.
        command.env("CI", "").env("GITHUB_ACTIONS", "");
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
        let own = format!("{PROJECT}={}", self.name);
        let service = format!("com.docker.compose.service={service}");
        let found = self
            .api()
            .list("containers", &json!({"label": [own, service]}));
        let ids = found.iter().filter_map(|one| one["Id"].as_str());
        let inspected = ids.map(|id| self.api().inspect(id));
        let mut containers: Vec<Container> = inspected.filter_map(|one| container(&one)).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        containers
    }

    /// The engine that the project lives on.
    pub fn api(&self) -> Api {
        let own = self
            .environment()
            .find(|(name, value)| *name == "DOCKER_HOST" && value.starts_with("unix://"));
        let host = own.map(|(_, value)| value.to_owned());
        let host = self
            .engine
            .clone()
            .or(host)
            .or_else(|| std::env::var("DOCKER_HOST").ok());
        Api::new(&host.unwrap_or_default())
    }

    /// Names the socket of the project's engine, for a test that reaches it in another way.
    pub fn lives_on(&mut self, socket: &str) {
        self.engine = Some(format!("unix://{socket}"));
    }

    /// Removes what the project has on the engine: containers, networks, volumes, locks, records, and images that are
    /// named after it.
    pub(crate) fn remove(&self) {
        let api = self.api();
        let own = label(PROJECT, &self.name);
        let lock = json!({"name": [format!("^/?rollout-lock\\.{}\\.", self.name)]});
        let state = json!({"volume": [self.state_volume()]});
        for filter in [&own, &lock, &state] {
            for container in api.list("containers", filter) {
                let service = &container["Labels"]["com.docker.compose.service"];
                if !self
                    .kept
                    .services
                    .contains(&service.as_str().unwrap_or_default())
                {
                    api.remove("containers", container["Id"].as_str().unwrap_or_default());
                }
            }
        }
        for (kind, kept) in [
            ("networks", self.kept.networks),
            ("volumes", self.kept.volumes),
        ] {
            let names = api.list(kind, &own);
            let names = names.iter().filter_map(|one| one["Name"].as_str());
            let kept: Vec<String> = kept
                .iter()
                .map(|name| format!("{}_{name}", self.name))
                .collect();
            names
                .filter(|name| !kept.iter().any(|kept| kept == name))
                .for_each(|name| api.remove(kind, name));
        }
        api.remove("volumes", &self.state_volume());
        let references = [format!("rollout/{}-*", self.name), self.name.clone()];
        for image in api.list("images", &json!({"reference": references})) {
            let names = image["RepoTags"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let ours = |name: &&str| {
                name.starts_with(&format!("rollout/{}-", self.name))
                    || name.starts_with(&format!("{}:", self.name))
            };
            names
                .filter(ours)
                .for_each(|name| api.remove("images", name));
        }
    }
}

const PROJECT: &str = "com.docker.compose.project";

/// `None` for one that has gone since it was listed.
fn container(inspected: &Value) -> Option<Container> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Container {
        name: text(&inspected["Name"])?.trim_start_matches('/').to_owned(),
        id: text(&inspected["Id"])?,
        started: text(&inspected["State"]["StartedAt"])?,
        status: text(&inspected["State"]["Status"])?,
    })
}

impl Drop for Project {
    fn drop(&mut self) {
        self.remove();
        if self.kept.services.is_empty() {
            let _ = std::fs::remove_file(records().join(&self.name));
        }
    }
}

/// A file a project that is on the engine: `testbed down` removes those that a test which was killed has left.
fn records() -> PathBuf {
    cache().join("run/projects")
}
