//! A test's Compose project, used through the library and through Compose.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testbed::{Project as Folder, compose_config, docker, engine::succeeded};

use crate::{
    compose::{AnonymousVolumes, Compose, CreateRequest, Invocation, Project, find::Surroundings},
    docker::http::Endpoint,
    error::Result,
};

/// The Compose versions that the testbed has.
pub const SUITES: [&str; 2] = ["trixie", "sid"];

pub struct Stack {
    pub suite: &'static str,
    pub name: String,
    folder: Folder,
    files: Vec<String>,
}

/// One container, as `docker inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub name: String,
    pub id: String,
    pub started: String,
    pub status: String,
    pub image: String,
    pub hash: String,
    pub rollout: String,
    pub final_name: String,
}

impl Stack {
    /// A project of one file; `${TAG}` in it is the last value of [`Stack::tag`], at first `v1`.
    pub fn new(suite: &'static str, test: &str, yaml: &str) -> Self {
        let name = format!("{test}-{suite}-{}", std::process::id());
        let mut folder = Folder::new(&name);
        folder
            .set("DOCKER_CONFIG", compose_config(suite).display())
            .set("DOCKER_BUILDKIT", 0);
        let stack = Self {
            suite,
            name,
            folder,
            files: Vec::new(),
        };
        stack.write("compose.yaml", yaml);
        stack.tag("v1");
        stack
    }

    /// Sets a variable for every Compose command.
    pub fn set(&mut self, name: &str, value: &Path) {
        self.folder.set(name, value.display());
    }

    pub fn write(&self, name: &str, text: &str) {
        self.folder.write(name, text);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    pub fn tag(&self, tag: &str) {
        self.write(".env", &format!("TAG={tag}\n"));
    }

    /// Names the files where discovery does not find them.
    pub fn files(&mut self, files: &[&str]) {
        self.files = files.iter().map(|&file| file.to_owned()).collect();
    }

    pub async fn compose(&self) -> Compose {
        let files = self.files.clone();
        self.compose_with(Invocation {
            files,
            ..Invocation::default()
        })
        .await
        .unwrap()
    }

    pub async fn compose_with(&self, invocation: Invocation) -> Result<Compose> {
        self.compose_from(self.folder.folder(), &[], invocation)
            .await
    }

    /// As [`Stack::compose_with`], run in another directory and with more variables.
    pub async fn compose_from(
        &self,
        directory: &Path,
        more: &[(&str, &str)],
        invocation: Invocation,
    ) -> Result<Compose> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut environment: BTreeMap<String, String> =
            self.folder.environment().map(own).collect();
        environment.extend(more.iter().copied().map(own));
        let surroundings = Surroundings {
            environment,
            directory: Some(directory.to_owned()),
        };
        Compose::find_in(invocation, endpoint(), surroundings).await
    }

    /// Runs a plain `docker compose`, which has to succeed.
    pub fn plain(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.arg("compose").envs(self.folder.environment());
        command.current_dir(self.folder.folder());
        for file in &self.files {
            command.args(["-f", file]);
        }
        let output = command.args(arguments).output().unwrap();
        succeeded(&output, &arguments)
    }

    /// The service's containers, by name.
    pub fn seen(&self, service: &str) -> Vec<Seen> {
        let service = format!("label=com.docker.compose.service={service}");
        self.inspected(&["-f", &service])
    }

    /// Creates and starts `replicas` new containers beside the old ones, with the current dependencies.
    pub async fn create(&self, compose: &Compose, service: &str, replicas: u32) -> Result<Project> {
        self.create_with(compose, (service, replicas), AnonymousVolumes::Refuse)
            .await
    }

    async fn create_with(
        &self,
        compose: &Compose,
        (service, replicas): (&str, u32),
        anonymous_volumes: AnonymousVolumes,
    ) -> Result<Project> {
        let project = compose.project_for(&[service]).await?;
        let request = CreateRequest {
            project: &project,
            service,
            replicas,
            dependencies: self.counts(&project, service),
            rollout: "r2",
            lock: None,
            labels: BTreeMap::from([("io.rollout.revision".to_owned(), "2".to_owned())]),
            anonymous_volumes,
        };
        compose.create(&request, |_| ()).await?;
        Ok(project)
    }

    pub fn counts(&self, project: &Project, service: &str) -> Vec<(String, u32)> {
        let count = |name: &String| u32::try_from(self.seen(name).len()).unwrap();
        let names = project.dependencies(service);
        names
            .iter()
            .map(|name| (name.clone(), count(name)))
            .collect()
    }

    /// A whole change of version: creates the new set, removes the old one, renames, and checks that a plain `up` changes
    /// nothing.
    pub async fn roll(&self, service: &str, replicas: u32) {
        self.roll_with(service, replicas, AnonymousVolumes::Refuse)
            .await;
    }

    /// As [`Self::roll`], with anonymous volumes.
    pub async fn roll_with(&self, service: &str, replicas: u32, volumes: AnonymousVolumes) {
        let old = self.seen(service);
        let compose = self.compose().await;
        self.create_with(&compose, (service, replicas), volumes)
            .await
            .unwrap();
        let all = self.seen(service).into_iter();
        let (new, still): (Vec<Seen>, Vec<Seen>) = all.partition(|seen| seen.rollout == "r2");
        assert_eq!(still, old, "{}: the old set was touched", self.suite);
        assert_eq!(new.len(), replicas as usize);
        let hash = hash_now(&compose, service).await;
        for new in &new {
            assert_eq!(new.hash, hash, "{}", self.suite);
            assert_eq!(new.name, format!("{}.r2", new.final_name));
        }
        for old in &old {
            docker(&["rm", "-f", &old.id]);
        }
        for new in &new {
            docker(&["rename", &new.id, &new.final_name]);
        }
        self.up_changes_nothing();
    }

    /// A one-shot service that has ended is started again by every `up`, so its start time is left out.
    pub fn up_changes_nothing(&self) {
        let before = self.everything();
        self.plain(&["up", "-d"]);
        assert_eq!(
            self.everything(),
            before,
            "{}: up changed something",
            self.suite
        );
    }

    fn everything(&self) -> Vec<Seen> {
        let mut seen = self.inspected(&[]);
        for seen in seen.iter_mut().filter(|seen| seen.status == "exited") {
            seen.started.clear();
        }
        seen
    }

    fn inspected(&self, filter: &[&str]) -> Vec<Seen> {
        let own = format!("label=com.docker.compose.project={}", self.name);
        let ids = docker(&[&["ps", "-aq", "--no-trunc", "-f", &own], filter].concat());
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let inspected = docker(&[&["inspect"], &ids[..]].concat());
        let inspected: Vec<Value> = serde_json::from_str(&inspected).unwrap();
        let mut seen: Vec<Seen> = inspected.iter().map(see).collect();
        seen.sort();
        seen
    }
}

fn see(container: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let label = |name: &str| text(&container["Config"]["Labels"][name]);
    Seen {
        name: text(&container["Name"]).trim_start_matches('/').to_owned(),
        id: text(&container["Id"]),
        started: text(&container["State"]["StartedAt"]),
        status: text(&container["State"]["Status"]),
        image: text(&container["Config"]["Image"]),
        hash: label("com.docker.compose.config-hash"),
        rollout: label("io.rollout.id"),
        final_name: label("io.rollout.name"),
    }
}

pub fn endpoint() -> Endpoint {
    let host = std::env::var("DOCKER_HOST").unwrap_or("unix:///var/run/docker.sock".to_owned());
    host.parse().unwrap()
}

/// The service's current config hash.
pub async fn hash_now(compose: &Compose, service: &str) -> String {
    let project = compose.project_for(&[service]).await.unwrap();
    compose.config_hash(&project, service).await.unwrap()
}
