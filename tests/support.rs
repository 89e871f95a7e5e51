//! The test builder: a Compose project behind its own Traefik and socket proxy, what is done to it, and what it says.

use std::{
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Output, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::load::{Load, LoadOptions};

/// Traefik and its socket proxy, as in `compose-examples/quickstart`; the service under test is added by each test.
const FRONT: &str = include_str!("support/front.yaml");

/// The same without a socket proxy: Traefik reads the engine's socket, and is switched by pin files.
const FRONT_PIN: &str = include_str!("support/front-pin.yaml");

/// Where its file provider looks, in the project's folder.
const DYNAMIC: &str = "dynamic";

/// Whether the stacks of this run are switched by pin files: `ROLLOUT_TESTBED_SWITCH=pin`.
pub fn by_pin() -> bool {
    std::env::var("ROLLOUT_TESTBED_SWITCH").is_ok_and(|switch| switch == "pin")
}

/// One project; everything of it is removed when it is dropped.
pub struct Stack {
    pub project: String,
    pub port: u16,
    /// The host that its router answers for.
    pub host: String,
    by_pin: bool,
    directory: TempDir,
    environment: Vec<(String, String)>,
    /// What the CLI is started by, where it is to run elsewhere.
    starter: Vec<String>,
}

/// How a run of the CLI ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    /// Standard error: what a person sees.
    pub text: String,
    /// Standard output.
    pub out: String,
    /// Every event, from `ROLLOUT_EVENT_LOG`.
    pub events: Vec<Value>,
}

/// A container as `docker compose up -d` must leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub id: String,
    pub started: String,
    pub status: String,
}

impl Stack {
    /// A project whose `web` is given by the rest of its YAML, indented by four spaces, such as
    /// `"    image: rollout-demo:${TAG}\n"`; further services and top-level keys may follow.
    pub fn new(test: &str, web: &str) -> Self {
        // Two tests may have thought of the same name.
        static STACKS: AtomicU32 = AtomicU32::new(0);
        let number = STACKS.fetch_add(1, Ordering::Relaxed);
        let port = free_port();
        let project = format!("t-{test}-{}-{number}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(DYNAMIC)).unwrap();
        let stack = Self {
            host: "localhost".into(),
            by_pin: by_pin(),
            environment: vec![
                ("COMPOSE_PROJECT_NAME".into(), project.clone()),
                ("COMPOSE_FILE".into(), "front.yaml:compose.yaml".into()),
                ("HTTP_PORT".into(), port.to_string()),
                ("ROLLOUT_TESTBED_IMAGE".into(), image()),
                ("ROLLOUT_STATE_VOLUME".into(), format!("{project}-state")),
                ("TAG".into(), "v1".into()),
            ],
            project,
            port,
            directory,
            starter: Vec::new(),
        };
        stack.write("front.yaml", if stack.by_pin { FRONT_PIN } else { FRONT });
        stack.write("compose.yaml", &format!("services:\n  web:\n{web}"));
        stack
    }

    /// The services in front of the one under test.
    pub fn front(&self) -> &[&str] {
        match self.by_pin {
            true => &["traefik"],
            false => &["traefik", "socket-proxy"],
        }
    }

    /// The usual stack, switched by pin files whatever the run is about.
    pub fn pinned(test: &str, more: &str) -> Self {
        Self::pinned_with(test, &format!("{USUAL}{more}"))
    }

    /// As [`Stack::new`], switched by pin files whatever the run is about.
    pub fn pinned_with(test: &str, web: &str) -> Self {
        Self::switched(test, web, true)
    }

    /// The usual stack, whose Traefik reads through the socket proxy whatever the run is about.
    pub fn relabelled(test: &str, more: &str) -> Self {
        Self::switched(test, &format!("{USUAL}{more}"), false)
    }

    fn switched(test: &str, web: &str, by_pin: bool) -> Self {
        let mut stack = Self::new(test, web);
        stack.by_pin = by_pin;
        stack.write("front.yaml", if by_pin { FRONT_PIN } else { FRONT });
        stack.write("compose.yaml", &format!("services:\n  web:\n{web}"));
        stack
    }

    /// The id of the service's newest container.
    pub async fn newest(&self, service: &str) -> String {
        let replicas = self.replicas(service).await;
        let newest = replicas.into_iter().max_by_key(|own| own.started.clone());
        newest.unwrap().id
    }

    /// Runs a line of the shell until it answers with something that contains `wanted`, for 30 s at most.
    pub async fn until(&self, line: &str, wanted: &str) {
        let mut said = String::new();
        let ask = async {
            loop {
                let output = self.command("sh", &["-c", line]).output().await.unwrap();
                if String::from_utf8_lossy(&output.stdout).contains(wanted) {
                    return;
                }
                said = format!("{output:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(30), ask).await;
        assert!(came.is_ok(), "{line} does not answer with {wanted}: {said}");
    }

    /// The pin files that are in place.
    pub fn pins(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path(DYNAMIC)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
        names.collect()
    }

    /// The usual service: the demo application in the version `$TAG`, with a router.
    pub fn usual(test: &str, more: &str) -> Self {
        Self::new(test, &format!("{USUAL}{more}"))
    }

    /// Starts the CLI by another program from here on.
    pub fn started_by(&mut self, words: &[&str]) -> &mut Self {
        self.starter = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets a variable for every command from here on.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.environment.retain(|(own, _)| own != name);
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets a variable no longer.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.retain(|(own, _)| own != name);
        self
    }

    /// The version that the Compose file asks for: a tag of `rollout-demo`.
    pub fn tag(&mut self, tag: &str) -> &mut Self {
        self.set("TAG", tag)
    }

    /// Uses one of the testbed's Compose versions: `trixie` or `sid`.
    pub fn compose_version(&mut self, suite: &str) -> &mut Self {
        let cache = std::env::var("ROLLOUT_TESTBED_CACHE")
            .unwrap_or_else(|_| "/var/cache/rollout-testbed".into());
        self.set("DOCKER_CONFIG", format!("{cache}/docker-config-{suite}"))
    }

    /// Writes a file of the project's folder. A Traefik that is given its command anew keeps its file provider.
    pub fn write(&self, name: &str, text: &str) {
        let api = "      - --api.insecure=true\n";
        let more = format!("{api}      - --providers.file.directory=/etc/traefik/dynamic\n");
        let whole = self.by_pin && name == "compose.yaml";
        let text = if whole {
            text.replace(api, &more)
        } else {
            text.to_owned()
        };
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `docker ARGUMENTS…`, which must succeed; its standard output.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        succeeded(
            self.command("docker", arguments).output().await.unwrap(),
            arguments,
        )
    }

    /// Runs `docker compose ARGUMENTS…`, which must succeed.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        self.docker(&[&["compose"], arguments].concat()).await
    }

    /// Runs a line of the shell, which must succeed; its standard output.
    pub async fn shell(&self, line: &str) -> String {
        succeeded(
            self.command("sh", &["-c", line]).output().await.unwrap(),
            &[line],
        )
    }

    /// Starts the project and waits until `web` answers with the version.
    pub async fn up(&self, version: &str) {
        self.compose(&["up", "-d"]).await;
        self.answers(version).await;
    }

    /// Waits until `web` answers with the version, for 30 s at most.
    pub async fn answers(&self, version: &str) {
        let ask = async {
            while self.version().await.as_deref() != Some(version) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answered = tokio::time::timeout(Duration::from_secs(30), ask).await;
        assert!(
            answered.is_ok(),
            "{} does not answer with {version}, but {:?}",
            self.project,
            self.version().await
        );
    }

    /// Waits until the version answers many times in a row: Traefik has left out a replica that has died.
    pub async fn answers_steadily(&self, version: &str) {
        let ask = async {
            let mut good = 0;
            while good < 20 {
                let same = self.version().await.as_deref() == Some(version);
                good = if same { good + 1 } else { 0 };
            }
        };
        let steady = tokio::time::timeout(Duration::from_secs(60), ask).await;
        assert!(steady.is_ok(), "{} answers now and then", self.project);
    }

    /// What `web` answers with now; `None` for anything but 200.
    pub async fn version(&self) -> Option<String> {
        let request = asker()
            .get(format!("http://127.0.0.1:{}/", self.port))
            .header("Host", &self.host);
        let response = request
            .send()
            .await
            .ok()
            .filter(|response| response.status() == 200)?;
        Some(
            response
                .headers()
                .get("x-version")?
                .to_str()
                .ok()?
                .to_owned(),
        )
    }

    /// Load as usual; change what the test is about with `..stack.load_options()`.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            host: self.host.clone(),
            connections: 8,
            rate_per_second: 100,
            ..LoadOptions::default()
        }
    }

    pub fn load(&self) -> Load {
        Load::start(self.load_options())
    }

    fn rollout_command(&self, arguments: &[&str]) -> (Command, PathBuf) {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("events-{run}.jsonl"));
        let mut command = match &self.starter[..] {
            [] => self.command(program(), arguments),
            [starter, rest @ ..] => {
                let mut command = self.command(starter, &[]);
                command.args(rest).arg(program()).args(arguments);
                command
            }
        };
        command
            .env("ROLLOUT_EVENT_LOG", &log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        (command, log)
    }

    /// Runs the CLI to its end, 120 s at most.
    pub async fn rollout(&self, arguments: &[&str]) -> Run {
        self.start_rollout(arguments).wait().await
    }

    /// Starts the CLI, to be interfered with.
    pub fn start_rollout(&self, arguments: &[&str]) -> Running {
        self.start_rollout_with(arguments, &[])
    }

    /// The same with variables that are for this run alone.
    pub fn start_rollout_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let (mut command, log) = self.rollout_command(arguments);
        command.envs(variables.iter().copied());
        Running {
            child: command.kill_on_drop(true).spawn().unwrap(),
            log: Mutex::new(Log::new(log)),
        }
    }

    /// The replicas of a service, by name.
    pub async fn replicas(&self, service: &str) -> Vec<Container> {
        let labels = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = self
            .docker(&[
                "ps",
                "-aq",
                "--no-trunc",
                "--filter",
                &labels,
                "--filter",
                &service,
            ])
            .await;
        if ids.is_empty() {
            return Vec::new();
        }
        let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}";
        let inspect = [
            &["inspect", "--format", format][..],
            &ids.lines().collect::<Vec<_>>(),
        ];
        let lines = self.docker(&inspect.concat()).await;
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

    /// Waits until `web` has this many containers, 30 s at most.
    pub async fn some_replicas(&self, count: usize) {
        let come = async {
            while self.replicas("web").await.len() != count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(30), come).await;
        assert!(came.is_ok(), "{:?}", self.replicas("web").await);
    }

    /// The service is as Compose itself would have made it: names from 1 to `count`, all running, nothing of a rollout
    /// left over, and a plain `docker compose up -d` changes nothing.
    pub async fn settled(&self, count: usize) {
        let before = self.replicas("web").await;
        let names: Vec<String> = (1..=count)
            .map(|number| format!("{}-web-{number}", self.project))
            .collect();
        assert_eq!(
            before
                .iter()
                .map(|own| own.name.clone())
                .collect::<Vec<_>>(),
            names
        );
        self.unchanged_by_compose(&before).await;
        self.no_leftovers().await;
    }

    /// A plain `docker compose up -d` changes nothing: ids and start times.
    pub async fn unchanged_by_compose(&self, before: &[Container]) {
        assert!(
            before.iter().all(|own| own.status == "running"),
            "{before:?}"
        );
        self.compose(&["up", "-d"]).await;
        assert_eq!(
            self.replicas("web").await,
            before,
            "docker compose up -d changed something"
        );
    }

    /// No lock, no helper, and no rule that hides anything is left of a rollout.
    pub async fn no_leftovers(&self) {
        let lock = format!("name=rollout-lock.{}.", self.project);
        assert_eq!(self.docker(&["ps", "-aq", "--filter", &lock]).await, "");
        if self.by_pin {
            assert_eq!(self.pins(), [""; 0]);
            return;
        }
        let overlay = self.overlay().await;
        assert!(
            !overlay.contains("traefik.enable"),
            "a rule still hides something: {overlay}"
        );
    }

    /// How many services the overlay, or a pin file, keeps a record for.
    pub async fn claims(&self) -> usize {
        if self.by_pin {
            return self.pins().len();
        }
        let answer: Value = serde_json::from_str(self.overlay().await.trim()).unwrap();
        let claims = answer.pointer("/ok/overlay/claims");
        claims
            .unwrap_or_else(|| panic!("no claims in {answer}"))
            .as_object()
            .unwrap()
            .len()
    }

    /// The helpers in the network namespace of a container, running or not.
    pub async fn helpers(&self, container: &str) -> Vec<String> {
        let label = "label=io.rollout.role=helper";
        let ids = self.docker(&["ps", "-aq", "--filter", label]).await;
        let mut helpers = Vec::new();
        for id in ids.lines() {
            let format = "{{.HostConfig.NetworkMode}}";
            // Another test's helper may go at any moment.
            let mut inspect = self.command("docker", &["inspect", "--format", format, id]);
            let mode = inspect.output().await.unwrap().stdout;
            if String::from_utf8_lossy(&mode).trim() == format!("container:{container}") {
                helpers.push(id.to_owned());
            }
        }
        helpers
    }

    /// The overlay as the socket proxy tells it.
    pub async fn overlay(&self) -> String {
        self.control("get").await
    }

    /// Waits until Traefik listens to the socket proxy, 30 s at most.
    pub async fn traefik_listens(&self) {
        if self.by_pin {
            // It says that it is healthy, or does not; a second is what it takes.
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let listening = async {
            let streams = |reader: &Value| reader["streams"].as_u64() > Some(0);
            loop {
                let answer: Value = serde_json::from_str(&self.control("readers").await).unwrap();
                let readers = answer
                    .pointer("/ok/readers/readers")
                    .and_then(Value::as_array);
                if readers.is_some_and(|readers| readers.iter().any(streams)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let listens = tokio::time::timeout(Duration::from_secs(30), listening).await;
        assert!(listens.is_ok(), "{}", self.control("readers").await);
    }

    async fn control(&self, call: &str) -> String {
        let line = format!(
            "echo '{{\"control\":1,\"call\":\"{call}\"}}' | docker exec -i {}-socket-proxy-1 /rollout socket-proxy --control",
            self.project
        );
        succeeded(
            self.command("sh", &["-c", &line]).output().await.unwrap(),
            &[&line],
        )
    }
}

impl Stack {
    /// The volume of this test alone in which rollouts are recorded.
    pub fn state_volume(&self) -> String {
        format!("{}-state", self.project)
    }

    /// Locks, records, and names of images that begin with the project's.
    fn remove_state(&self) {
        let line = format!(
            "docker ps -aq --filter name=rollout-lock.{0}. | xargs -r docker rm -f; \
             docker ps -aq --filter volume={0}-state | xargs -r docker rm -f; \
             docker volume rm -f {0}-state; \
             docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -E '^(rollout/{0}-|{0}:)' \
             | xargs -r docker rmi",
            self.project
        );
        let _ = std::process::Command::new("sh")
            .args(["-c", &line])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut down = std::process::Command::new("docker");
        down.args([
            "compose",
            "down",
            "--volumes",
            "--remove-orphans",
            "--timeout",
            "0",
        ]);
        down.current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        down.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let _ = down.status();
        self.remove_state();
    }
}

/// A CLI that runs.
pub struct Running {
    child: Child,
    log: Mutex<Log>,
}

/// The events of a run, each of them read once.
struct Log {
    path: PathBuf,
    read: u64,
    events: Vec<Value>,
}

impl Log {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            events: Vec::new(),
        }
    }

    /// The events so far; of a line that is being written nothing yet.
    fn events(&mut self) -> &[Value] {
        let new = self.unread();
        self.take(new.rfind('\n').map_or("", |end| &new[..=end]));
        &self.events
    }

    /// All events of a run that has ended, the last of which may lack its line's end, and nothing else.
    fn end(mut self) -> Vec<Value> {
        let new = self.unread();
        self.take(&new);
        self.events
    }

    fn unread(&self) -> String {
        let mut new = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.path) {
            file.seek(SeekFrom::Start(self.read)).unwrap();
            file.read_to_string(&mut new).unwrap();
        }
        new
    }

    fn take(&mut self, lines: &str) {
        self.read += lines.len() as u64;
        let events = lines.lines().map(serde_json::from_str);
        self.events.extend(events.map(Result::unwrap));
    }
}

impl Running {
    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        self.log.lock().unwrap().events().to_vec()
    }

    /// Waits until an event of this kind, and with this step where one is named, has come; 60 s at most.
    pub async fn reaches(&mut self, kind: &str, step: &str) {
        let is =
            |event: &Value| event["event"] == kind && (step.is_empty() || event["step"] == step);
        self.come(&format!("{kind} {step}"), |events| events.iter().any(is))
            .await;
    }

    /// Waits until a step has begun that comes after another one has ended; 60 s at most.
    pub async fn comes_after(&mut self, first: &str, step: &str) {
        let ended = |event: &Value| event["event"] == "step_finished" && event["step"] == first;
        let begun = |event: &Value| event["event"] == "step_started" && event["step"] == step;
        self.come(step, |events| {
            events.iter().skip_while(|event| !ended(event)).any(begun)
        })
        .await;
    }

    async fn come(&self, what: &str, have_come: impl Fn(&[Value]) -> bool) {
        let wait = async {
            while !have_come(self.log.lock().unwrap().events()) {
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(came.is_ok(), "no {what} in {:#?}", self.events());
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Vec<Value> {
        self.child.kill().await.unwrap();
        self.events()
    }

    /// Nobody reads any more what it prints.
    pub fn close_pipes(&mut self) {
        drop((self.child.stdout.take(), self.child.stderr.take()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub async fn wait(self) -> Run {
        self.wait_for(Duration::from_secs(120)).await
    }

    /// Waits this long at most.
    pub async fn wait_for(self, longest: Duration) -> Run {
        let output = tokio::time::timeout(longest, self.child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("the CLI did not end within {longest:?}"));
        let output = output.unwrap();
        Run {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            events: self.log.into_inner().unwrap().end(),
        }
    }
}

impl Run {
    /// The run must have ended with this code.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n{}", self.text);
        self
    }

    /// The first event of a kind.
    pub fn event(&self, kind: &str) -> Option<&Value> {
        self.events.iter().find(|event| event["event"] == kind)
    }

    /// How long a step took in all, in milliseconds.
    pub fn ms(&self, step: &str) -> u64 {
        let of_step = |event: &&Value| event["event"] == "step_finished" && event["step"] == step;
        self.events
            .iter()
            .filter(of_step)
            .filter_map(|event| event["ms"].as_u64())
            .sum()
    }
}

/// The usual service; `$TAG` is the version.
pub const USUAL: &str = r#"    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: [front]
"#;

/// The binary under test: the static one that `make test` builds, else the one that cargo has built for the test.
pub fn program() -> PathBuf {
    std::env::var_os("ROLLOUT_TESTBED_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_rollout").into(), PathBuf::from)
}

pub fn image() -> String {
    std::env::var("ROLLOUT_TESTBED_IMAGE").unwrap_or_else(|_| "rollout:latest".into())
}

/// Asks each time on a new connection. There is one for all tests, since making one reads every certificate of the system.
fn asker() -> &'static reqwest::Client {
    static ASKER: LazyLock<reqwest::Client> = LazyLock::new(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        // A connection that is kept would belong to the runtime of the test that opened it.
        reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    });
    &ASKER
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[track_caller]
fn succeeded(output: Output, arguments: &[&str]) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
