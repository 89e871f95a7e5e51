//! A TCP service behind Traefik: short conversations one after another, and one long one across the cutover.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use testbed::{Stack, eventually, free_port};

const TCP: &str = r#"    image: rollout-demo:${TAG}
    environment: { MODE: tcp, PORT: "5000" }
    labels:
      traefik.enable: "true"
      traefik.tcp.routers.web.rule: HostSNI(`*`)
      traefik.tcp.routers.web.entrypoints: lines
      traefik.tcp.services.web.loadbalancer.server.port: "5000"
    networks: [front]
  traefik:
    ports: ["127.0.0.1:${LINES_PORT}:5000"]
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --entrypoints.lines.address=:5000
      - --api.insecure=true
"#;

const STEPS: &str = r"    scale: 4
    x-rollout: { strategy: canary, steps: [{ weight: 20%, pause: {} }, { weight: 50%, pause: {} }] }
";

/// Greeted, and answered once; the version that did both.
pub async fn conversation(address: SocketAddr) -> Result<String, String> {
    let mut talk = Talk::open(address).await?;
    talk.ask("one").await
}

/// One open connection.
pub struct Talk {
    version: String,
    stream: BufReader<TcpStream>,
}

impl Talk {
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(text)?;
        let mut talk = Self {
            version: String::new(),
            stream: BufReader::new(stream),
        };
        talk.version = talk.line().await?;
        Ok(talk)
    }

    pub async fn ask(&mut self, line: &str) -> Result<String, String> {
        let sent = format!("{line}\n");
        self.stream.write_all(sent.as_bytes()).await.map_err(text)?;
        let answer = self.line().await?;
        match answer == format!("{} {line}", self.version) {
            true => Ok(self.version.clone()),
            false => Err(format!("{line:?} was answered with {answer:?}")),
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = timeout(Duration::from_secs(5), self.stream.read_line(&mut line));
        match read.await {
            Ok(Ok(0)) => Err("closed".into()),
            Ok(Ok(_)) => Ok(line.trim_end().to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".into()),
        }
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// Conversations one after another until `stop`; the outcome of each.
pub fn repeated<F, R>(
    stop: &watch::Sender<bool>,
    once: F,
) -> JoinHandle<Vec<Result<String, String>>>
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = Result<String, String>> + Send,
{
    let stop = stop.subscribe();
    tokio::spawn(async move {
        let mut outcomes = Vec::new();
        while !*stop.borrow() {
            outcomes.push(once().await);
            sleep(Duration::from_millis(10)).await;
        }
        outcomes
    })
}

/// Every one was answered: first by v1 alone, from some moment on by v2 alone.
pub fn moved_at_once(outcomes: &[Result<String, String>]) {
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert!(failed.is_empty(), "of {}: {failed:?}", outcomes.len());
    let versions: Vec<&str> = outcomes.iter().flatten().map(String::as_str).collect();
    let cutover = versions
        .iter()
        .position(|version| *version == "v2")
        .unwrap();
    assert!(cutover > 0 && versions[..cutover].iter().all(|version| *version == "v1"));
    assert!(versions[cutover..].iter().all(|version| *version == "v2"));
}

pub async fn until_answered<R>(version: &str, once: impl Fn() -> R)
where
    R: Future<Output = Result<String, String>>,
{
    let what = format!("{version} answers through Traefik");
    eventually(&what, Duration::from_secs(30), async || {
        match once().await {
            Ok(found) if found == version => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_a_tcp_service_goes_by_the_number_of_its_replicas() {
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let web = TCP.replace("    networks", &format!("{STEPS}    networks"));
    let mut stack = Stack::relabelled_with(&web);
    stack.set("LINES_PORT", port).tag("v1-plain");
    stack.set("ROLLOUT_STABLE", "200ms");
    stack.compose(&["up", "-d"]).await;
    until_answered("v1", || conversation(address)).await;
    stack.tag("v2-plain");
    let stop = watch::Sender::new(false);
    let load = repeated(&stop, move || conversation(address));
    let run = stack.rollout(&["web"]).await;
    run.code(5);
    let said = "the steps of web go by the number of replicas, 25 % for 20 %, 50 % for 50 %";
    assert!(run.text.contains(said), "{}", run.text);
    for (step, percent) in [(1, 25), (2, 50)] {
        let mut new = 0;
        for _ in 0..200 {
            new += u32::from(conversation(address).await.as_deref() == Ok("v2"));
        }
        // In turn, beside the conversations of the load.
        assert!((new / 2).abs_diff(percent) <= 3, "{new} of 200");
        let promoted = stack.rollout(&["promote", "web"]).await;
        promoted.code(if step == 1 { 5 } else { 0 });
    }
    stop.send_replace(true);
    let outcomes = load.await.unwrap();
    let failed = outcomes.iter().filter(|own| own.is_err());
    assert_eq!(failed.count(), 0);
    until_answered("v2", || conversation(address)).await;
    stack.settled(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_service_loses_no_conversation_and_keeps_an_open_one_to_its_end() {
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stack = Stack::new(TCP);
    stack.set("LINES_PORT", port).tag("v1-plain");
    stack.compose(&["up", "-d"]).await;
    until_answered("v1", || conversation(address)).await;
    let stop = watch::Sender::new(false);
    let load = repeated(&stop, move || conversation(address));
    let mut long = Talk::open(address).await.unwrap();
    long.ask("before").await.unwrap();
    stack.tag("v2-plain");
    let arguments = ["--proxy", "traefik", "--drain-quiet", "2s", "web"];
    let mut running = stack.start_rollout(&arguments);
    running.reaches("step_started", "drain").await;
    for number in 0..20 {
        let kept = long.ask(&format!("line {number}")).await;
        assert_eq!(kept.as_deref(), Ok("v1"));
        sleep(Duration::from_millis(100)).await;
    }
    let drained =
        |events: Vec<serde_json::Value>| events.iter().any(|event| event["event"] == "drained");
    assert!(
        !drained(running.events()),
        "an open conversation was taken for drained"
    );
    drop(long);
    let run = running.wait().await;
    stop.send_replace(true);
    run.code(0);
    moved_at_once(&load.await.unwrap());
    assert!(run.event("confirmed").is_some(), "{}", run.text);
    stack.settled(1).await;
}
