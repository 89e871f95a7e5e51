//! A service of a Swarm of one node, behind a Traefik that reads through the socket proxy: a twin has the traffic while
//! Swarm updates the service.

mod drain;
mod history;
mod looks;
mod nodes;
mod several;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::soak::dockerd::{bridge::Bridge, run_testbed};
use testbed::{
    Load, LoadOptions, Project, Run, Running, binary, daemon::ENGINE, engine::docker, eventually,
    free_port, http, image,
};

const LIMIT: Duration = Duration::from_secs(60);
/// A rollout drains twice, and Traefik polls.
const LONGEST: Duration = Duration::from_secs(240);

/// Without requests a drain ends at once.
const LONG_DRAIN: &[&str] = &["--settle", "5s"];

const STACK: &str = r#"
services:
  traefik:
    image: traefik:v3.7
    command:
      - --providers.swarm.endpoint=tcp://socket-proxy:2375
      - --providers.swarm.exposedbydefault=false
      - --providers.swarm.refreshseconds=2
      - --providers.swarm.constraints=Label(`stack`,`${STACK}`)
      - --providers.providersthrottleduration=500ms
      - --entrypoints.web.address=:80
      - --api.insecure=true
    ports: [{ mode: host, target: 80, published: $PORT }]
    networks: [front, api]
    deploy: { placement: &edge { constraints: [node.role == manager] } }

  socket-proxy:
    image: $IMAGE
    command: [socket-proxy, --swarm]
    volumes: ["$SOCKET:/var/run/docker.sock:ro", "proxy:/var/lib/rollout"]
    networks: [api]
    deploy: { endpoint_mode: dnsrr, placement: *edge }

  web:
    image: rollout-demo:$TAG
    environment: { ERROR_EVERY: "$ERROR_EVERY" }
    networks: [front]
    stop_grace_period: 4s
    deploy:
      replicas: $REPLICAS
      update_config: { parallelism: 0, monitor: 1s, order: $ORDER }
      labels:
        stack: $STACK
        traefik.enable: "true"
        traefik.http.routers.web.rule: Host(`localhost`)
        traefik.http.services.web.loadbalancer.server.port: "80"

  plain:
    image: rollout-demo:$PLAIN
    networks: [front]
    deploy: { update_config: { monitor: 1s } }

networks: { front: {}, api: {} }
volumes: { proxy: {} }
"#;

/// A stack of its own in the Swarm, which is removed with it.
struct Stack {
    project: Project,
    port: u16,
    host: &'static str,
    /// What the CLI is started by, where the manager is elsewhere.
    starter: Vec<String>,
    _bridge: Option<Bridge>,
}

impl Stack {
    /// The usual one, with so many replicas of web.
    async fn up(replicas: u32) -> Self {
        Self::with(STACK, "localhost", replicas).await
    }

    /// The example.
    async fn of(file: &str) -> Self {
        Self::with(file, "swarm.localhost", 2).await
    }

    async fn with(file: &str, host: &'static str, replicas: u32) -> Self {
        run_testbed(&["swarm"]).await;
        let mut stack = Self::new(file, host, replicas);
        let edge = docker(&["info", "-f", "{{.Name}}"]);
        stack.project.set("EDGE_HOST", edge);
        stack.begun().await
    }

    fn new(file: &str, host: &'static str, replicas: u32) -> Self {
        static STACKS: AtomicU32 = AtomicU32::new(0);
        let number = STACKS.fetch_add(1, Ordering::Relaxed);
        let port = free_port();
        let mut project = Project::new(format!("t-swarm-{}-{number}", std::process::id()));
        let name = project.name.clone();
        project
            .set("STACK", name)
            .set("PORT", port)
            .set("SOCKET", ENGINE)
            .set("IMAGE", image())
            .set("REPLICAS", replicas)
            .set("ERROR_EVERY", 0)
            .set("ORDER", "stop-first")
            .set("PLAIN", "v1")
            .set("TAG", "v1")
            .set("HTTP_PORT", port)
            .set("ROLLOUT_IMAGE", image())
            .set("WEB_IMAGE", "rollout-demo:v1");
        project.write("stack.yml", file);
        Self {
            project,
            port,
            host,
            starter: Vec::new(),
            _bridge: None,
        }
    }

    /// With its first version deployed.
    async fn begun(self) -> Self {
        self.deploy().await;
        self.answers("v1").await;
        self
    }

    /// `docker stack deploy` of the whole file.
    async fn deploy(&self) {
        let name = self.project.name.as_str();
        let line = ["stack", "deploy", "--detach=true", "-c", "stack.yml", name];
        self.project.docker(&line).await;
    }

    async fn answers(&self, version: &str) {
        eventually(&format!("{version} answers"), LIMIT, async || {
            match self.version().await {
                Some(own) if own == version => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    async fn version(&self) -> Option<String> {
        let answer = http::get(self.port, self.host, "/").await?;
        let version = answer.headers().get("x-version")?;
        Some(version.to_str().ok()?.to_owned())
    }

    fn load(&self) -> Load {
        Load::start(LoadOptions {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            host: self.host.into(),
            connections: 8,
            rate_per_second: 100,
            slow_requests: Some(Duration::from_secs(3)),
            websocket: true,
            max_duration: 2 * LONGEST,
            ..LoadOptions::default()
        })
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.begin(&[&["--stable", "500ms"], arguments].concat())
    }

    fn begin(&self, arguments: &[&str]) -> Running {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = self.project.path(&format!("events-{run}.jsonl"));
        let binary = binary();
        let starter = self.starter.iter().map(String::as_str);
        let mut words: Vec<&str> = starter.chain(binary.to_str()).collect();
        words.extend(["-f", "stack.yml"]);
        words.extend(arguments);
        let mut command = self.project.command(words[0], &words[1..]);
        command
            .env("ROLLOUT_EVENT_LOG", &log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::start(command, log)
    }

    async fn rollout(&self, arguments: &[&str]) -> Run {
        self.start(arguments).wait_for(LONGEST).await
    }

    /// A rollout to v2 in whose first drain Swarm replaces the task of another service.
    async fn restarted_in_drain(&mut self, other: &str) -> Run {
        self.project.set("TAG", "v2");
        let mut running = self.start(&[LONG_DRAIN, &["web"]].concat());
        running.comes_after("cutover", "drain").await;
        let name = format!("{}_{other}", self.project.name);
        let update = ["service", "update", "--force", "--detach=true", &name];
        self.project.docker(&update).await;
        running.wait_for(LONGEST).await
    }

    /// The tasks that are to run, by id.
    async fn tasks(&self) -> Vec<String> {
        let filter = ["-f", "desired-state=running", "-q", "--no-trunc"];
        let line = [&["stack", "ps", self.project.name.as_str()], &filter[..]].concat();
        let text = self.project.docker(&line).await;
        let mut ids: Vec<String> = text.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    }

    /// Nothing of a rollout is left, and a deploy of the whole file changes no task.
    async fn settled(&self) {
        let name = &self.project.name;
        let twin = format!("name={name}_web-rollout-twin");
        let twins = ["service", "ls", "-q", "--filter", &twin];
        assert_eq!(self.project.docker(&twins).await.trim(), "");
        let lock = format!("name=rollout-lock.{name}.");
        let locks = ["ps", "-aq", "--filter", &lock];
        assert_eq!(self.project.docker(&locks).await.trim(), "");
        let before = self.tasks().await;
        self.deploy().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(self.tasks().await, before);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let docker = |arguments: &[&str]| {
            let mut command = std::process::Command::new("docker");
            command.envs(self.project.environment()).args(arguments);
            command.output().expect("docker is installed")
        };
        docker(&["stack", "rm", &self.project.name]);
        let stack = format!("label=com.docker.stack.namespace={}", self.project.name);
        // The socket proxy may take a moment to end.
        for _ in 0..50 {
            let volumes = docker(&["volume", "ls", "-q", "--filter", &stack]).stdout;
            let volumes = String::from_utf8_lossy(&volumes);
            if volumes.is_empty() {
                break;
            }
            for volume in volumes.lines() {
                docker(&["volume", "rm", volume]);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Rolls to the other version under keep-alive clients, requests of three seconds and a WebSocket; beside it, what Swarm's
/// own update loses in both orders.
async fn rolls_without_loss(replicas: u32, refresh: u32) {
    let file = STACK.replace("refreshseconds=2", &format!("refreshseconds={refresh}"));
    let mut stack = Stack::with(&file, "localhost", replicas).await;
    let load = stack.load();
    stack.project.set("TAG", "v2");
    let run = stack.rollout(&["web"]).await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(report.first_answer_of("v2").is_some(), "{report}");
    let finished = run.event("finished").unwrap();
    assert_eq!(finished["replicas"], replicas);
    assert!(finished["cutover_ms"].as_u64().is_some(), "{finished}");
    let socket = report.websocket.as_ref().unwrap();
    assert!(socket.messages_after_cutover > 0, "{report}");
    let title = format!("{replicas} replicas, refreshSeconds {refresh}");
    let total = &finished["total_ms"];
    println!("{title}: rollout, {total} ms: {report}");
    stack.settled().await;
    for (order, tag) in [("stop-first", "v1"), ("start-first", "v2")] {
        let load = stack.load();
        let name = format!("{}_web", stack.project.name);
        let image = format!("rollout-demo:{tag}");
        let update = ["service", "update", "--update-order", order];
        let update = [&update[..], &["--image", &image, &name]].concat();
        let began = Instant::now();
        stack.project.docker(&update).await;
        let took = began.elapsed().as_millis();
        load.goes_on_for(200 + 100 * refresh as usize).await;
        let report = load.stop().await;
        println!("{title}: docker service update, {order}, {took} ms: {report}");
    }
    stack.project.set("TAG", "v1");
    let again = stack.rollout(&["web"]).await;
    again.code(0);
    let unchanged = stack.rollout(&["web"]).await;
    unchanged.code(0);
    assert!(
        unchanged.event("nothing_to_do").is_some(),
        "{}",
        unchanged.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_rolled_without_loss() {
    rolls_without_loss(1, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_are_rolled_without_loss() {
    rolls_without_loss(3, 2).await;
}

/// Traefik's own default.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_poll_every_fifteen_seconds_nothing_is_lost_either() {
    rolls_without_loss(3, 15).await;
}

/// Fewer tasks of the same version: Swarm stops the others while the twin has the traffic.
#[tokio::test(flavor = "multi_thread")]
async fn fewer_replicas_of_the_same_version_lose_nothing() {
    let mut stack = Stack::up(3).await;
    let load = stack.load();
    stack.project.set("REPLICAS", 1);
    let run = stack.rollout(&["web"]).await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(run.begun("update"), 1, "{}", run.text);
    assert_eq!(run.begun("cutover"), 1, "{}", run.text);
    stack.settled().await;
}

/// A socket proxy that Swarm replaces in the middle is another container.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_that_is_replaced_in_a_rollout_is_found_again() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    let run = stack.restarted_in_drain("socket-proxy").await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled().await;
}

/// Requests are lost while no Traefik runs, by a rollout as without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_is_replaced_in_a_rollout_is_found_again() {
    let mut stack = Stack::up(1).await;
    let run = stack.restarted_in_drain("traefik").await;
    run.code(0);
    stack.answers("v2").await;
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_the_labels_of_the_route_is_refused() {
    let stack = Stack::up(1).await;
    let file = STACK.replace("traefik.enable: \"true\"", "traefik.enable: \"false\"");
    stack.project.write("stack.yml", &file);
    let run = stack.rollout(&["web"]).await;
    run.code(2);
    assert!(run.text.contains("docker stack deploy"), "{}", run.text);
    stack.project.write("stack.yml", STACK);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_is_not_healthy_never_gets_a_request() {
    let mut stack = Stack::up(2).await;
    let load = stack.load();
    let before = stack.tasks().await;
    stack.project.set("TAG", "broken");
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(1);
    assert!(
        run.failure().contains("the old version of web serves"),
        "{}",
        run.text
    );
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.tasks().await, before);
    stack.project.set("TAG", "v1");
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_without_a_place_ends_the_rollout_with_the_reason_of_swarm() {
    let stack = Stack::up(1).await;
    let file = STACK
        .replace("rollout-demo:$TAG", "rollout-demo:v2")
        .replace(
            "      replicas: $REPLICAS",
            "      placement: { constraints: [node.labels.x == y] }",
        );
    stack.project.write("stack.yml", &file);
    let run = stack.rollout(&["web"]).await;
    run.code(1);
    assert!(run.failure().contains("no suitable node"), "{}", run.text);
    stack.project.write("stack.yml", STACK);
    stack.settled().await;
}

/// A rollout that is killed in each of these steps, each with the step before it, goes on with the next run, and loses
/// nothing.
async fn killed_in(steps: &[(&str, &str)]) {
    let mut stack = Stack::up(2).await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for (before, step) in steps {
        let version = versions.next().unwrap();
        let load = stack.load();
        stack.project.set("TAG", version);
        let mut running = stack.start(&["web"]);
        match *before {
            "" => running.reaches("step_started", step).await,
            before => running.comes_after(before, step).await,
        }
        let events = running.kill().await;
        let ended = |event: &Value| event["event"] == "finished";
        assert!(
            !events.iter().any(ended),
            "{step}: it was over before it was killed"
        );
        let run = stack.rollout(&["web"]).await;
        load.goes_on_for(100).await;
        let report = load.stop().await;
        run.code(0);
        assert!(
            report.nothing_lost(),
            "{before} {step}: {report}\n{}",
            run.text
        );
        assert_eq!(
            stack.version().await.as_deref(),
            Some(*version),
            "{}",
            run.text
        );
        stack.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_update_it_goes_on() {
    let steps = [
        ("", "create"),
        ("", "ready"),
        ("", "cutover"),
        ("cutover", "confirm"),
        ("cutover", "drain"),
    ];
    killed_in(&steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_from_the_update_on_it_goes_on() {
    let steps = [
        ("", "update"),
        ("", "return"),
        ("return", "confirm"),
        ("return", "drain"),
        ("return", "remove"),
        ("", "release"),
    ];
    killed_in(&steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_is_removed_from_outside_gives_the_traffic_back() {
    let mut stack = Stack::up(2).await;
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&[LONG_DRAIN, &["web"]].concat());
    running.comes_after("cutover", "drain").await;
    running.kill().await;
    let twin = format!("{}_web-rollout-twin", stack.project.name);
    stack.project.docker(&["service", "rm", &twin]).await;
    stack.answers("v1").await;
    stack.rollout(&["web"]).await.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_fails_leaves_the_traffic_with_the_twin_and_goes_on_once_it_can() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    stack.project.set("TAG", "v2");
    // A twin has no published ports, and that of Traefik is taken.
    let taken = "    ports: [{ mode: host, target: 81, published: $PORT }]\n    stop_grace_period";
    let file = STACK.replace("    stop_grace_period", taken);
    stack.project.write("stack.yml", &file);
    let run = stack.rollout(&["--timeout", "15s", "web"]).await;
    run.code(3);
    assert!(run.failure().contains("web-rollout-twin"), "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.project.write("stack.yml", STACK);
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_update_gives_the_traffic_back_without_loss() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&["web"]);
    running.comes_after("cutover", "drain").await;
    running.signal(nix::sys::signal::Signal::SIGINT);
    let run = running.wait_for(LONGEST).await;
    let report = load.stop().await;
    run.code(130);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.project.set("TAG", "v1");
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swarm_itself_updates_a_service_without_a_router_and_what_a_swarm_has_not_is_refused() {
    let mut stack = Stack::up(1).await;
    stack.project.set("PLAIN", "v2");
    let run = stack.rollout(&["plain"]).await;
    run.code(0);
    assert_eq!(run.begun("create"), 0, "{}", run.text);
    let image = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
    let name = format!("{}_plain", stack.project.name);
    let runs = stack
        .project
        .docker(&["service", "inspect", "-f", image, &name])
        .await;
    assert!(runs.starts_with("rollout-demo:v2"), "{runs}");
    for (line, part) in [
        (&["--strategy", "canary", "web"][..], "canary"),
        (&["--bake", "5s", "plain"], "bake"),
        (&["--together", "web", "plain"], "together"),
        (&["--remove-orphans", "--all"], "--remove-orphans"),
        (&["restart", "web"], "is a stack of a Swarm"),
        (&["--proxy", "traefik", "plain"], "deploy.labels"),
        (&["wep"], "wep"),
    ] {
        let run = stack.start(line).wait_for(LONGEST).await;
        run.code(2);
        assert!(run.text.contains(part), "{line:?}: {}", run.text);
    }
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_rolled_as_it_stands() {
    let file = testbed::root().join("compose-examples/swarm/stack.yml");
    let mut stack = Stack::of(&std::fs::read_to_string(file).unwrap()).await;
    stack.project.set("WEB_IMAGE", "rollout-demo:v2");
    let load = stack.load();
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled().await;
}
