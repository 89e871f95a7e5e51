//! The demo application behind a Traefik: what most tests roll out, and what they ask of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::{Deref, DerefMut},
    path::PathBuf,
    process::Stdio,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Response;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    api::label,
    binary, compose_config,
    engine::succeeded,
    free_port,
    front::{DYNAMIC, Kind, Place},
    http, image,
    load::{Load, LoadOptions},
    project::{Container, Kept, Project},
    root,
    run::{Run, Running},
    wait::eventually,
};

const LIMIT: Duration = Duration::from_secs(30);

/// The usual service; `$TAG` is the version.
pub const USUAL: &str = r#"    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: [front]
"#;

/// A rollout as most tests want it.
pub const ROLL: [&str; 3] = ["--proxy", "traefik", "web"];

/// Whether the stacks of this run are switched by pin files: `ROLLOUT_TESTBED_SWITCH=pin`.
pub fn by_pin() -> bool {
    std::env::var("ROLLOUT_TESTBED_SWITCH").is_ok_and(|switch| switch == "pin")
}

fn kind_of_the_run() -> Kind {
    if by_pin() { Kind::Pin } else { Kind::Relabel }
}

/// One project behind a front.
pub struct Stack {
    project: Project,
    pub port: u16,
    /// The host that its router answers for.
    pub host: String,
    kind: Kind,
    /// What the CLI is started by, where it is to run elsewhere.
    starter: Vec<String>,
    // Dropped last: no other test may have the front before this one has ended.
    place: Option<Place>,
}

impl Deref for Stack {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.project
    }
}

impl DerefMut for Stack {
    fn deref_mut(&mut self) -> &mut Project {
        &mut self.project
    }
}

impl Stack {
    /// A project whose `web` is given by the rest of its YAML, indented by four spaces, such as
    /// `"    image: rollout-demo:${TAG}\n"`; further services and top-level keys may follow. Its front comes from the
    /// pool.
    pub fn new(web: &str) -> Self {
        Self::behind(kind_of_the_run(), web)
    }

    /// The usual service: the demo application in the version `$TAG`, with a router.
    pub fn usual(more: &str) -> Self {
        Self::new(&format!("{USUAL}{more}"))
    }

    /// The usual stack, switched by pin files whatever the run is about.
    pub fn pinned(more: &str) -> Self {
        Self::pinned_with(&format!("{USUAL}{more}"))
    }

    /// As [`Stack::new`], switched by pin files whatever the run is about.
    pub fn pinned_with(web: &str) -> Self {
        Self::behind(Kind::Pin, web)
    }

    /// The usual stack, whose Traefik reads through the socket proxy whatever the run is about.
    pub fn relabelled(more: &str) -> Self {
        Self::relabelled_with(&format!("{USUAL}{more}"))
    }

    /// As [`Stack::new`], behind such a Traefik.
    pub fn relabelled_with(web: &str) -> Self {
        Self::behind(Kind::Relabel, web)
    }

    fn behind(kind: Kind, web: &str) -> Self {
        let place = Place::take(kind);
        let mut project = Project::in_folder(&place.project, &place.folder);
        project.kept = Kept {
            services: kind.services(),
            networks: kind.networks(),
            volumes: kind.volumes(),
        };
        if place.was_abandoned {
            project.remove();
        }
        route_is_gone(place.port);
        let port = place.port;
        Self::of(project, kind, port, Some(place)).with(web)
    }

    /// As [`Stack::new`], but nothing of its front is there yet, and nothing is kept: for a test about the front itself.
    pub fn fresh(web: &str) -> Self {
        Self::fresh_behind(kind_of_the_run(), web)
    }

    /// The same with the usual service behind a front of this kind.
    pub fn fresh_usual(kind: Kind, more: &str) -> Self {
        Self::fresh_behind(kind, &format!("{USUAL}{more}"))
    }

    /// `compose-examples/quickstart` as it stands, with the settings that users have.
    pub fn quickstart() -> Self {
        let mut stack = Self::fresh_usual(Kind::Relabel, "");
        let file = root().join("compose-examples/quickstart/compose.yaml");
        stack
            .set("COMPOSE_FILE", file.display())
            .set("WEB_IMAGE", "rollout-demo:v1");
        stack.unset("ROLLOUT_STABLE");
        stack.host = "quickstart.localhost".into();
        stack
    }

    /// The same project on the engine at this socket, with a folder, a port and a front of its own.
    pub fn beside(&self, socket: &str) -> Self {
        let project = Project::new(self.name.as_str());
        fs::create_dir(project.path(DYNAMIC)).unwrap();
        let mut stack = Self::of(project, self.kind, free_port(), None);
        let front = self.kind.file().replace(
            "/var/run/docker.sock:/var/run/docker.sock",
            &format!("{socket}:/var/run/docker.sock"),
        );
        stack.write("front.yaml", &front);
        let compose = fs::read_to_string(self.path("compose.yaml")).unwrap();
        stack.write("compose.yaml", &compose);
        stack.set("DOCKER_HOST", format!("unix://{socket}"));
        stack.lives_on(socket);
        stack
    }

    fn fresh_behind(kind: Kind, web: &str) -> Self {
        static STACKS: AtomicU32 = AtomicU32::new(0);
        let number = STACKS.fetch_add(1, Ordering::Relaxed);
        let project = Project::new(format!("t-fresh-{}-{number}", std::process::id()));
        fs::create_dir(project.path(DYNAMIC)).unwrap();
        Self::of(project, kind, free_port(), None).with(web)
    }

    fn of(project: Project, kind: Kind, port: u16, place: Option<Place>) -> Self {
        let host = "localhost".to_owned();
        let mut stack = Self {
            project,
            port,
            host,
            kind,
            starter: Vec::new(),
            place,
        };
        stack
            .set("COMPOSE_FILE", "front.yaml:compose.yaml")
            .set("HTTP_PORT", port)
            .set("ROLLOUT_TESTBED_IMAGE", image())
            // What most tests are about is not how long a replica has to stay up.
            .set("ROLLOUT_STABLE", "200ms")
            .tag("v1");
        stack
    }

    fn with(self, web: &str) -> Self {
        self.write("front.yaml", self.kind.file());
        self.write("compose.yaml", &format!("services:\n  web:\n{web}"));
        self
    }

    fn is_pinned(&self) -> bool {
        self.kind == Kind::Pin
    }

    /// The services in front of the one under test.
    pub fn front(&self) -> &[&str] {
        self.kind.services()
    }

    /// Sets a variable for every command from here on.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.project.set(name, value);
        self
    }

    /// Sets a variable no longer.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.project.unset(name);
        self
    }

    /// The version that the Compose file asks for: a tag of `rollout-demo`.
    pub fn tag(&mut self, tag: &str) -> &mut Self {
        self.set("TAG", tag)
    }

    /// Uses one of the testbed's Compose versions: `trixie` or `sid`.
    pub fn compose_version(&mut self, suite: &str) -> &mut Self {
        self.set("DOCKER_CONFIG", compose_config(suite).display())
    }

    /// Starts the CLI by another program from here on.
    pub fn started_by(&mut self, words: &[&str]) -> &mut Self {
        self.starter = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Writes a file of the project's folder. A Traefik that is given another command keeps its file provider.
    pub fn write(&self, name: &str, text: &str) {
        let api = "      - --api.insecure=true\n";
        let more = format!("{api}      - --providers.file.directory=/etc/traefik/dynamic\n");
        if self.is_pinned() && name == "compose.yaml" {
            self.project.write(name, &text.replace(api, &more));
        } else {
            self.project.write(name, text);
        }
    }

    /// The id of the service's newest container.
    pub async fn newest(&self, service: &str) -> String {
        let replicas = self.replicas(service).await;
        let newest = replicas.into_iter().max_by_key(|own| own.started.clone());
        newest.unwrap().id
    }

    /// The pin files that are in place.
    pub fn pins(&self) -> Vec<String> {
        let files = fs::read_dir(self.path(DYNAMIC)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
        names.collect()
    }

    /// Starts the front alone, and waits until Traefik reads.
    pub async fn front_up(&self) {
        self.compose(&[&["up", "-d"], self.front()].concat()).await;
        self.traefik_listens().await;
    }

    /// Starts the project and waits until `web` answers with the version.
    pub async fn up(&self, version: &str) {
        self.compose(&["up", "-d"]).await;
        self.answers(version).await;
    }

    /// Waits until `web` answers with the version, for 30 s at most.
    pub async fn answers(&self, version: &str) {
        self.answers_at("/", version).await;
    }

    /// The same of the service whose router has this path.
    pub async fn answers_at(&self, path: &str, version: &str) {
        let what = format!("{} answers {path} with {version}", self.name);
        eventually(&what, LIMIT, async || match self.version_at(path).await {
            Some(found) if found == version => Ok(()),
            other => Err(other),
        })
        .await;
    }

    /// Waits until the version answers many times in a row: Traefik has left out a replica that has died.
    pub async fn answers_steadily(&self, version: &str) {
        let what = format!("{} answers with {version} twenty times in a row", self.name);
        eventually(&what, 2 * LIMIT, async || {
            for good in 0..20 {
                if self.version().await.as_deref() != Some(version) {
                    return Err(good);
                }
            }
            Ok(())
        })
        .await;
    }

    /// What `web` answers with now; `None` for anything but 200.
    pub async fn version(&self) -> Option<String> {
        self.version_at("/").await
    }

    /// The same of the service whose router has this path.
    pub async fn version_at(&self, path: &str) -> Option<String> {
        let answer = http::get(self.port, &self.host, path).await?;
        let version = answer
            .headers()
            .get("x-version")
            .filter(|_| answer.status() == 200)?;
        Some(version.to_str().ok()?.to_owned())
    }

    /// What is answered to a GET with these headers.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Response<Bytes>> {
        http::get_with(self.port, &self.host, path, headers).await
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

    /// The CLI with its event log, and the log's path.
    pub fn rollout_command(&self, arguments: &[&str]) -> (Command, PathBuf) {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("events-{run}.jsonl"));
        let mut command = match &self.starter[..] {
            [] => self.command(binary(), arguments),
            [starter, rest @ ..] => {
                let mut command = self.command(starter, &[]);
                command.args(rest).arg(binary()).args(arguments);
                command
            }
        };
        command.env("ROLLOUT_EVENT_LOG", &log);
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
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .envs(variables.iter().copied());
        Running::start(command, log)
    }

    /// Waits until `web` has this many containers, 30 s at most.
    pub async fn some_replicas(&self, count: usize) {
        eventually(&format!("{count} replicas"), LIMIT, async || {
            let replicas = self.replicas("web").await;
            if replicas.len() == count {
                Ok(())
            } else {
                Err(replicas)
            }
        })
        .await;
    }

    /// The service is as Compose itself would have made it: names from 1 to `count`, all running, nothing of a rollout
    /// left over, and a plain `docker compose up -d` changes nothing.
    pub async fn settled(&self, count: usize) {
        self.settled_beside_faults(count).await;
        self.passes_the_doctor().await;
    }

    /// The same in a stack with a fault that `rollout doctor` names.
    pub async fn settled_beside_faults(&self, count: usize) {
        let before = self.replicas("web").await;
        let names: Vec<&str> = before.iter().map(|own| own.name.as_str()).collect();
        let expected: Vec<String> = (1..=count)
            .map(|number| format!("{}-web-{number}", self.name))
            .collect();
        assert_eq!(names, expected);
        self.unchanged_by_compose(&before).await;
        self.no_leftovers().await;
    }

    /// `rollout doctor` finds nothing that fails. Asked where `ROLLOUT_TESTBED_DOCTOR` is set, as in the long run.
    async fn passes_the_doctor(&self) {
        if std::env::var_os("ROLLOUT_TESTBED_DOCTOR").is_some() {
            let run = self.rollout(&["doctor"]).await;
            assert_eq!(run.code, Some(0), "{}{}", run.out, run.text);
        }
    }

    /// A plain `docker compose up -d` changes nothing: ids and start times.
    pub async fn unchanged_by_compose(&self, before: &[Container]) {
        assert!(
            before.iter().all(|own| own.status == "running"),
            "{before:?}"
        );
        self.compose(&["up", "-d"]).await;
        let after = self.replicas("web").await;
        assert_eq!(after, before, "docker compose up -d changed something");
    }

    /// No lock, no helper, and no rule that hides anything is left of a rollout.
    pub async fn no_leftovers(&self) {
        let lock = json!({"name": [format!("rollout-lock.{}.", self.name)]});
        assert_eq!(self.api().list("containers", &lock), [Value::Null; 0]);
        if self.is_pinned() {
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
        if self.is_pinned() {
            return self.pins().len();
        }
        let answer: Value = serde_json::from_str(self.overlay().await.trim()).unwrap();
        let claims = answer
            .pointer("/ok/overlay/claims")
            .and_then(Value::as_object);
        claims
            .unwrap_or_else(|| panic!("no claims in {answer}"))
            .len()
    }

    /// The helpers in the network namespace of a container, running or not.
    pub async fn helpers(&self, container: &str) -> Vec<String> {
        self.helpers_that_run(container, "").await
    }

    /// Those that watch its traffic. The one that looked for its port may not be removed yet.
    pub async fn watchers(&self, container: &str) -> Vec<String> {
        self.helpers_that_run(container, " namespace watch ").await
    }

    async fn helpers_that_run(&self, container: &str, command: &str) -> Vec<String> {
        let helpers = self
            .api()
            .list("containers", &label("io.rollout.role", "helper"));
        let mode = Value::from(format!("container:{container}"));
        let own = helpers
            .iter()
            .filter(|own| own["HostConfig"]["NetworkMode"] == mode)
            .filter(|own| {
                own["Command"]
                    .as_str()
                    .is_some_and(|own| own.contains(command))
            });
        own.filter_map(|helper| helper["Id"].as_str().map(str::to_owned))
            .collect()
    }

    /// An address of a container in one of its networks.
    pub async fn address(&self, container: &str) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let all = self.docker(&["inspect", "-f", format, container]).await;
        let first = all.split_whitespace().next();
        first.unwrap_or_default().to_owned()
    }

    /// That of the Traefik in front.
    pub async fn traefik_address(&self) -> String {
        self.address(&format!("{}-traefik-1", self.name)).await
    }

    /// The overlay as the socket proxy reports it.
    pub async fn overlay(&self) -> String {
        self.shell(&self.control("get")).await
    }

    /// Waits until Traefik listens to the socket proxy, 30 s at most.
    pub async fn traefik_listens(&self) {
        if self.is_pinned() {
            // Nothing reports that Traefik's stream of events is open; it takes less than this.
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        eventually("Traefik listens to the socket proxy", LIMIT, async || {
            // A socket proxy that is still starting refuses the call.
            let readers = self.control("readers");
            let output = self.command("sh", &["-c", &readers]).output().await;
            let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let readers = answer
                .pointer("/ok/readers/readers")
                .and_then(Value::as_array)
                .cloned();
            let streams = |reader: &Value| reader["streams"].as_u64() > Some(0);
            readers
                .unwrap_or_default()
                .iter()
                .any(streams)
                .then_some(())
                .ok_or(text)
        })
        .await;
    }

    /// The line of the shell that makes a call of the socket proxy's control protocol.
    fn control(&self, call: &str) -> String {
        format!(
            "echo '{{\"control\":1,\"call\":\"{call}\"}}' | docker exec -i {}-socket-proxy-1 /rollout socket-proxy --control",
            self.name
        )
    }

    /// Shows why a front may not have served, where a test has failed: what runs, the socket proxy's readers, the logs.
    fn show_front(&self) {
        let text = |command: &mut std::process::Command| {
            let output = command.output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            text.unwrap_or_default()
        };
        let own = format!("label=com.docker.compose.project={}", self.name);
        let list = [
            "ps",
            "-a",
            "--filter",
            &own,
            "--format",
            "{{.Names}} {{.Status}}",
        ];
        let list = text(self.command("docker", &list).as_std_mut());
        let readers = text(
            self.command("sh", &["-c", &self.control("readers")])
                .as_std_mut(),
        );
        let mut logs = self.command("docker", &["compose", "logs", "--tail=20", "-t"]);
        logs.args(self.front()).env("COMPOSE_FILE", "front.yaml");
        let logs = text(logs.as_std_mut());
        eprintln!("the front of {}:\n{list}{readers}{logs}", self.name);
    }

    /// Whether the front runs as its file says.
    fn front_is_unchanged(&self) -> bool {
        let hashes = self.front_hashes();
        let runs = |(service, hash): &(String, String)| {
            let labels = [
                format!("com.docker.compose.project={}", self.name),
                format!("com.docker.compose.service={service}"),
                format!("com.docker.compose.config-hash={hash}"),
            ];
            let filter = json!({"label": labels, "status": ["running"]});
            !self.api().list("containers", &filter).is_empty()
        };
        !hashes.is_empty() && hashes.iter().all(runs)
    }

    /// Whether the overlay has no claim any more. With a container go the claims on it, a moment later.
    fn claims_are_gone(&self) -> bool {
        let get = format!("{} | grep -q '\"claims\":{{}}'", self.control("get"));
        (0..10).any(|tried| {
            std::thread::sleep(tried.min(1) * Duration::from_millis(200));
            let command = self.command("sh", &["-c", &get]).into_std().output();
            command.is_ok_and(|output| output.status.success())
        })
    }

    /// Compose's hash of each service of the unchanged front. Asked for once, since a place keeps its port.
    fn front_hashes(&self) -> Vec<(String, String)> {
        static KNOWN: Mutex<BTreeMap<String, Vec<(String, String)>>> = Mutex::new(BTreeMap::new());
        if let Some(hashes) = KNOWN.lock().unwrap().get(&self.name) {
            return hashes.clone();
        }
        let mut command = self.command("docker", &["compose", "config", "--hash", "*"]);
        command
            .env("COMPOSE_FILE", "front.yaml")
            .env_remove("TRAEFIK");
        let output = command.into_std().output().unwrap();
        let pair = |line: &str| {
            line.split_once(' ')
                .map(|(name, hash)| (name.into(), hash.into()))
        };
        let text = succeeded(&output, &"docker compose config --hash");
        let hashes: Vec<(String, String)> = text.lines().filter_map(pair).collect();
        KNOWN
            .lock()
            .unwrap()
            .insert(self.name.clone(), hashes.clone());
        hashes
    }
}

/// Waits until Traefik has no route to what the test before has removed, or does not run; 10 s at most. The next
/// container may get the same address, and would answer by the old route.
fn route_is_gone(port: u16) {
    let until = Instant::now() + Duration::from_secs(10);
    while is_routed(port) {
        assert!(
            Instant::now() < until,
            "Traefik on port {port} still routes to what the test before has removed"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether Traefik answers with anything but 404. It answers late where the server of a route has gone.
fn is_routed(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut answer = String::new();
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"))
        .and_then(|()| stream.read_to_string(&mut answer));
    match asked {
        Ok(_) => !answer.is_empty() && !answer.contains(" 404 "),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_front();
        }
        self.write("front.yaml", self.kind.file());
        let pooled = self.place.is_some() && self.kind.is_kept() && !std::thread::panicking();
        let kept = pooled && self.front_is_unchanged() && {
            self.project.remove();
            self.claims_are_gone()
        };
        if !kept {
            self.project.kept = Kept::default();
            self.project.remove();
        }
        if let Some(place) = &self.place {
            place.is_clean();
        }
    }
}
