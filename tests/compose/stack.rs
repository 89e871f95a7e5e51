//! A Compose project of one test: its files, both ways to look at it, and its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use rollout::{
    compose::{Compose, CreateRequest, Invocation, Project, Surroundings},
    docker_http::Endpoint,
    error::Result,
};
use serde_json::Value;

/// The Compose versions that the testbed has.
pub const SUITES: [&str; 2] = ["trixie", "sid"];

pub struct Stack {
    pub suite: &'static str,
    pub project: String,
    pub directory: tempfile::TempDir,
    files: Vec<String>,
    environment: BTreeMap<String, String>,
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
    /// A project of one file; `${TAG}` in it is what [`Stack::tag`] last said, at first `v1`.
    pub fn new(suite: &'static str, test: &str, yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut stack = Self {
            suite,
            project: format!("{test}-{suite}-{}", std::process::id()),
            directory,
            files: Vec::new(),
            environment: BTreeMap::new(),
        };
        stack.set(
            "DOCKER_CONFIG",
            &cache().join(format!("docker-config-{suite}")),
        );
        stack.set("DOCKER_BUILDKIT", Path::new("0"));
        stack.set("COMPOSE_PROJECT_NAME", Path::new(&stack.project.clone()));
        stack.write("compose.yaml", yaml);
        stack.tag("v1");
        stack
    }

    /// Sets a variable for every Compose command.
    pub fn set(&mut self, name: &str, value: &Path) {
        let value = value.to_str().unwrap().to_owned();
        self.environment.insert(name.to_owned(), value);
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    pub fn tag(&self, tag: &str) {
        self.write(".env", &format!("TAG={tag}\n"));
    }

    /// Gives the files by name, where discovery would not find them.
    pub fn files(&mut self, files: &[&str]) {
        self.files = files.iter().map(|&file| file.to_owned()).collect();
    }

    pub async fn compose(&self) -> Compose {
        self.compose_with(Invocation {
            files: self.files.clone(),
            ..Invocation::default()
        })
        .await
        .unwrap()
    }

    pub async fn compose_with(&self, invocation: Invocation) -> Result<Compose> {
        let surroundings = Surroundings {
            environment: self.environment.clone(),
            directory: Some(self.directory.path().to_owned()),
        };
        Compose::find_in(invocation, endpoint(), surroundings).await
    }

    /// Runs a plain `docker compose`, which has to succeed.
    pub fn plain(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.arg("compose").envs(&self.environment);
        command.current_dir(self.directory.path());
        for file in &self.files {
            command.args(["-f", file]);
        }
        succeed(command.args(arguments))
    }

    /// The service's containers, by name.
    pub fn seen(&self, service: &str) -> Vec<Seen> {
        let filters = [
            format!("label=com.docker.compose.project={}", self.project),
            format!("label=com.docker.compose.service={service}"),
        ];
        let ids = docker(&[
            "ps",
            "-aq",
            "--no-trunc",
            "-f",
            &filters[0],
            "-f",
            &filters[1],
        ]);
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

    /// Creates and starts `replicas` new ones beside the old, dependencies as they are.
    pub async fn create(&self, compose: &Compose, service: &str, replicas: u32) -> Result<Project> {
        let project = compose.project_for(&[service]).await?;
        let request = CreateRequest {
            project: &project,
            service,
            replicas,
            dependencies: self.counts(&project, service),
            rollout: "r2",
            lock: None,
            labels: BTreeMap::from([("io.rollout.revision".to_owned(), "2".to_owned())]),
            renew_anon_volumes: false,
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

    /// A whole change of version: the new beside the old, the old removed, the names given, and nothing left for a
    /// plain `up` to do.
    pub async fn roll(&self, service: &str, replicas: u32) {
        let old = self.seen(service);
        let compose = self.compose().await;
        self.create(&compose, service, replicas).await.unwrap();
        let (new, still): (Vec<Seen>, Vec<Seen>) = self
            .seen(service)
            .into_iter()
            .partition(|seen| seen.rollout == "r2");
        assert_eq!(still, old, "{}: the old set was touched", self.suite);
        assert_eq!(new.len(), replicas as usize);
        let hash = compose.config_hash(service).await.unwrap();
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

    /// A one-shot service that has ended is started again by every `up`, so its start time is none.
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
        let all = docker(&[
            "ps",
            "-aq",
            "-f",
            &format!("label=com.docker.compose.project={}", self.project),
        ]);
        let ids: Vec<&str> = all.lines().collect();
        let inspected = docker(&[&["inspect"], &ids[..]].concat());
        let inspected: Vec<Value> = serde_json::from_str(&inspected).unwrap();
        let mut seen: Vec<Seen> = inspected.iter().map(see).collect();
        for seen in seen.iter_mut().filter(|seen| seen.status == "exited") {
            seen.started.clear();
        }
        seen.sort();
        seen
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let label = format!("label=com.docker.compose.project={}", self.project);
        for (list, remove) in [
            (&["ps", "-aq", "-f"][..], &["rm", "-f", "-v"][..]),
            (&["network", "ls", "-q", "-f"], &["network", "rm"]),
            (&["volume", "ls", "-q", "-f"], &["volume", "rm"]),
        ] {
            let found = run(Command::new("docker").args(list).arg(&label));
            for id in found.iter().flat_map(|text| text.lines()) {
                let _ = run(Command::new("docker").args(remove).arg(id));
            }
        }
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

pub fn cache() -> PathBuf {
    std::env::var("ROLLOUT_TESTBED_CACHE")
        .map_or("/var/cache/rollout-testbed".into(), PathBuf::from)
}

/// Runs `docker`, which has to succeed.
pub fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments))
}

fn succeed(command: &mut Command) -> String {
    run(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        .ok_or_else(|| errors.into_owned())
}
