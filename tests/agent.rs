//! `rollout agent` against a real registry: what is pushed is rolled, what is bad is given up, and a kill loses nothing.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

use crate::{
    notify::{Recorder, body},
    rollout_image::cli_image,
};
use testbed::{Load, LoadOptions, Running, Stack, api::Api, eventually, free_port, http, root};

const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Debian's registry on a port of 127.0.0.1. It ends with the value, and its images are removed from the engine.
struct Registry {
    repository: String,
    _server: Child,
    _folder: TempDir,
}

impl Registry {
    async fn start() -> Self {
        let testbed = root().join("tests/testbed/testbed");
        let found = Command::new(testbed).arg("registry").output().await;
        let program = String::from_utf8(found.unwrap().stdout).unwrap();
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let data = folder.path().join("data");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            data.display()
        );
        fs::write(folder.path().join("config.yml"), config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let server = Command::new(program.trim())
            .args(["serve", "config.yml"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the registry answers", LIMIT, async || {
            let answer = http::get(port, "localhost", "/v2/").await;
            let is_up = answer.as_ref().is_some_and(|own| own.status() == 200);
            is_up.then_some(()).ok_or(answer)
        })
        .await;
        Self {
            repository: format!("127.0.0.1:{port}/demo"),
            _server: server,
            _folder: folder,
        }
    }

    /// Pushes the demo application in a variant, so that only the registry has it.
    async fn push(&self, stack: &Stack, base: &str, environment: &str) {
        let image = format!("{}:live", self.repository);
        let lines = format!("FROM rollout-demo:{base}\\nENV {environment}\\n");
        stack
            .shell(&format!(
                "printf '{lines}' | docker build -q -t {image} - && docker push -q {image} && docker image rm {image}"
            ))
            .await;
    }

    /// A stack whose service has that image, at first in the version v1, and bakes so long.
    async fn stack(&self, bake: &str) -> Stack {
        self.stack_with(&format!("x-rollout: {{ auto: true, bake: {bake} }}"))
            .await
    }

    /// The same with the rest of the service's YAML; further services may follow.
    async fn stack_with(&self, more: &str) -> Stack {
        let image = &self.repository;
        let stack = Stack::new(&format!(
            r#"    image: {image}:live
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: [front]
    {more}
"#
        ));
        self.push(&stack, "v1", "VERSION=v1").await;
        stack.up("v1").await;
        stack.write("token", TOKEN);
        stack
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let api = Api::new(&std::env::var("DOCKER_HOST").unwrap_or_default());
        for image in api.list("images", &json!({"reference": [self.repository]})) {
            api.remove("images", image["Id"].as_str().unwrap_or_default());
        }
    }
}

/// An agent in a process group of its own, as in a container of its own.
fn agent(stack: &Stack, interval: &str, port: u16) -> Running {
    let listen = format!("127.0.0.1:{port}");
    let words = ["agent", "--interval", interval, "--listen", &listen];
    let (mut command, log) = stack.rollout_command(&words);
    command
        .args(["--token-file", "token"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(stack.path("agent.log")).unwrap())
        .process_group(0);
    Running::start(command, log)
}

/// How often a rollout was begun.
fn begun(agent: &Running) -> usize {
    let events = agent.events();
    events
        .iter()
        .filter(|own| own["event"] == "started")
        .count()
}

/// Waits until the agent has given up so many digests.
async fn gives_up(agent: &Running, digests: usize) {
    eventually("a digest is given up", LIMIT, async || {
        let is_it = |own: &&Value| {
            let text = own["text"].as_str().unwrap_or_default();
            own["event"] == "notice" && text.contains("is not tried again before its tag moves")
        };
        let count = agent.events().iter().filter(is_it).count();
        (count == digests).then_some(()).ok_or(count)
    })
    .await;
}

async fn ends_well(agent: Running) {
    agent.signal(Signal::SIGTERM);
    agent.wait().await.code(0);
}

/// The status of the answer to a call of the webhook.
async fn call(port: u16, authorization: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /v1/rollout HTTP/1.1\r\nHost: a\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_image_is_rolled_and_a_bad_one_goes_back_and_is_not_tried_again() {
    let registry = Registry::start().await;
    let stack = registry.stack("8s").await;
    let (port, load) = (free_port(), stack.load());
    let mut first = agent(&stack, "10s", port);
    first.says("rolls web when an image moves").await;
    registry.push(&stack, "v1", "VERSION=v2").await;
    first.reaches("finished", "").await;
    registry.push(&stack, "broken", "VERSION=v3").await;
    first.reaches("failed", "").await;
    gives_up(&first, 1).await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    assert_eq!(begun(&first), 2);
    ends_well(first).await;

    // The next agent has it from the history.
    let mut second = agent(&stack, "10s", port);
    gives_up(&second, 1).await;
    assert_eq!(begun(&second), 0);
    let bad = "VERSION=v4 UNHEALTHY=0 UNHEALTHY_AFTER=5";
    registry.push(&stack, "broken", bad).await;
    second.reaches("step_started", "bake").await;
    second.reaches("failed", "").await;
    gives_up(&second, 2).await;
    assert_eq!(begun(&second), 1);
    stack.answers_steadily("v2").await;
    stack.no_leftovers().await;
    ends_well(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_is_one_rollout_and_a_killed_agent_is_followed_by_one_that_goes_on() {
    let registry = Registry::start().await;
    let stack = registry.stack("0s").await;
    let load = Load::start(LoadOptions {
        max_duration: Duration::from_secs(300),
        ..stack.load_options()
    });
    let port = free_port();
    let mut running = agent(&stack, "1h", port);
    running.says("rolls web when an image moves").await;
    for wrong in ["", &bearer("no"), &bearer(&TOKEN.replace('f', "e"))] {
        assert_eq!(call(port, wrong).await, 401, "{wrong}");
    }
    registry.push(&stack, "v1", "VERSION=v2").await;
    let mut answers = BTreeMap::<u16, u32>::new();
    for _ in 0..1_000 {
        *answers.entry(call(port, &bearer(TOKEN)).await).or_default() += 1;
        sleep(Duration::from_millis(10)).await;
    }
    assert!(answers[&202] >= 20, "{answers:?}");
    assert!(
        answers.keys().all(|own| [202, 429].contains(own)),
        "{answers:?}"
    );
    running.reaches("finished", "").await;
    let health = http::get(port, "localhost", "/healthz").await.unwrap();
    assert_eq!(health.status(), 200);
    // The last call is checked 10 s after the check before it at the latest.
    sleep(Duration::from_secs(12)).await;
    assert_eq!(begun(&running), 1);
    let metrics = http::get(port, "localhost", "/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(metrics.contains("result=\"rolled\"} 1\n"), "{metrics}");

    for (step, version) in [("ready", "v3"), ("cutover", "v4"), ("drain", "v5")] {
        running = killed(running, &registry, (&stack, port), (step, version)).await;
    }
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    ends_well(running).await;
    stack.settled(1).await;
}

/// Pushes a version, and kills the agent with its rollout once a step begins. The agent that follows rolls the version.
async fn killed(
    mut running: Running,
    registry: &Registry,
    (stack, port): (&Stack, u16),
    (step, version): (&str, &str),
) -> Running {
    let image = format!("VERSION={version}");
    registry.push(stack, "v1", &image).await;
    assert_eq!(call(port, &bearer(TOKEN)).await, 202);
    running.reaches("step_started", step).await;
    kill(Pid::from_raw(-running.pid()), Signal::SIGKILL).unwrap();
    running.wait().await;
    let running = agent(stack, "1h", port);
    stack.answers(version).await;
    eventually("web is settled", LIMIT, async || {
        let status = stack.rollout(&["status", "web"]).await;
        (status.code == Some(0)).then_some(()).ok_or(status.out)
    })
    .await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_a_rollout_the_next_agent_goes_on() {
    let registry = Registry::start().await;
    let stack = registry.stack("500ms").await;
    let load = Load::start(LoadOptions {
        max_duration: Duration::from_secs(900),
        ..stack.load_options()
    });
    let port = free_port();
    let mut running = agent(&stack, "1h", port);
    running.says("rolls web when an image moves").await;
    let steps = [
        "pull", "hold", "create", "ready", "cutover", "confirm", "bake", "drain", "stop", "remove",
        "rename", "release",
    ];
    for (at, step) in steps.into_iter().enumerate() {
        let version = format!("v{}", at + 2);
        running = killed(running, &registry, (&stack, port), (step, &version)).await;
    }
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    ends_well(running).await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rolling_update_that_was_aborted_is_not_rolled_again() {
    let registry = Registry::start().await;
    let stack = registry
        .stack_with("scale: 3\n    x-rollout: { auto: true, strategy: rolling }")
        .await;
    stack.some_replicas(3).await;
    let running = agent(&stack, "10s", free_port());
    registry.push(&stack, "v1", "VERSION=v2").await;
    running.begins("ready", 2).await;
    stack.rollout(&["pause", "web"]).await.code(0);
    eventually("the agent waits for a person", LIMIT, async || {
        let events = running.events();
        let waits = |own: &Value| {
            let text = own["text"].as_str().unwrap_or_default();
            text.contains("waits for a person")
        };
        events.iter().any(waits).then_some(()).ok_or(events)
    })
    .await;
    stack.rollout(&["abort", "web"]).await.code(0);
    gives_up(&running, 1).await;
    // Two more checks.
    sleep(Duration::from_secs(22)).await;
    assert_eq!(begun(&running), 1);
    ends_well(running).await;
    stack.answers_steadily("v1").await;
    stack.no_leftovers().await;
}

/// A service with a port of the host cannot be rolled, and another one needs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_service_is_notified_once_and_the_others_that_do_not_need_it_are_rolled() {
    let registry = Registry::start().await;
    let server = Recorder::start().await;
    let (image, hook) = (&registry.repository, server.port);
    let stack = registry
        .stack_with(&format!(
            "x-rollout: {{ auto: true }}
  api:
    image: {image}:live
    ports: ['127.0.0.1:{}:8080']
    x-rollout: {{ auto: true, notify: 'http://127.0.0.1:{hook}/hook' }}
  site:
    image: {image}:live
    depends_on: [api]
    x-rollout: {{ auto: true }}",
            free_port()
        ))
        .await;
    let ids = async || {
        let [api, site] = [stack.replicas("api").await, stack.replicas("site").await];
        (api, site)
    };
    let before = ids().await;
    let mut running = agent(&stack, "10s", free_port());
    running
        .says("rolls api, site, web when an image moves")
        .await;
    registry.push(&stack, "v1", "VERSION=v2").await;
    running.reaches("finished", "").await;
    stack.answers_steadily("v2").await;
    running
        .says("not rolled, since api is refused, which they need: site")
        .await;
    // Two more checks.
    sleep(Duration::from_secs(22)).await;
    let all = server.at("/hook");
    assert_eq!(all.len(), 1, "{all:?}");
    let said = body(&all[0]);
    assert_eq!(
        (&said["kind"], &said["code"]),
        (&"failure".into(), &2.into())
    );
    assert_eq!(begun(&running), 1);
    assert_eq!(ids().await, before);
    ends_well(running).await;
}

/// The YAML under "In a container" of the topic.
fn documented() -> String {
    let topic = fs::read_to_string(root().join("src/help/agent.md")).unwrap();
    let (_, text) = topic.split_once("## In a container\n").unwrap();
    let lines = text
        .trim_start_matches('\n')
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with(' '));
    lines
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_container_as_the_topic_shows_it_the_agent_rolls_what_is_pushed() {
    let registry = Registry::start().await;
    let mut stack = registry.stack("0s").await;
    let (image, port) = (cli_image(&stack).await, free_port());
    let command = format!("[agent, --interval, 10s, --listen, '127.0.0.1:{port}', ");
    let service = documented()
        .replace("rollout:cli", &format!("{image}\n    env_file: [.env]"))
        .replace("[agent, ", &command)
        .replace("./agent-token", "./token");
    stack.write("agent.yaml", &service);
    let folder = stack.folder().display().to_string();
    stack
        .set("COMPOSE_FILE", "front.yaml:compose.yaml:agent.yaml")
        .set("PWD", folder);
    let variables: String = stack
        .environment()
        .filter(|(name, _)| *name != "PWD")
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    stack.write(".env", &variables);
    stack.compose(&["up", "-d", "rollout-agent"]).await;
    let load = stack.load();
    registry.push(&stack, "v1", "VERSION=v2").await;
    stack.answers("v2").await;
    eventually("the rollout is counted", LIMIT, async || {
        let metrics = http::get(port, "localhost", "/metrics").await;
        let text = metrics.map(|own| String::from_utf8_lossy(own.body()).into_owned());
        let is_it = |own: &String| own.contains("result=\"rolled\"} 1\n");
        text.as_ref().is_some_and(is_it).then_some(()).ok_or(text)
    })
    .await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    stack.compose(&["stop", "rollout-agent"]).await;
    let [agent] = &stack.replicas("rollout-agent").await[..] else {
        panic!("one container of the agent");
    };
    let code = ["inspect", "-f", "{{.State.ExitCode}}", &agent.id];
    assert_eq!(stack.docker(&code).await.trim(), "0");
}
