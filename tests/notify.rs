//! `notify`: each end of a rollout against a server that records, one that hangs and one that refuses; no secret is shown.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use testbed::{Run, Stack, free_port};

const BLUE_GREEN: [&str; 3] = ["--strategy", "blue-green", "web"];

/// Hooks that fail where a variable says so, a canary with a pause, and two addresses.
const WEB: &str = r#"    x-rollout:
      strategy: canary
      steps: [{ weight: 10%, pause: {} }]
      hooks:
        pre-cutover: { host: "exit ${BEFORE:-0}" }
        post-cutover: { host: "exit ${AFTER:-0}" }
      notify:
        - ${HOOK}
        - { url-file: ./ntfy, token-file: ./token, on: [failure, paused] }
"#;

/// A server that keeps what it gets, and does not answer below `/hangs`.
pub(crate) struct Recorder {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, Arc::clone(&all)));
            }
        });
        Self { port, requests }
    }

    /// What has come to this path.
    pub(crate) fn at(&self, path: &str) -> Vec<String> {
        let begin = format!("POST {path}");
        let mut all = self.requests.lock().unwrap().clone();
        all.retain(|own| own.starts_with(&begin));
        all
    }
}

async fn record(mut stream: TcpStream, all: Arc<Mutex<Vec<String>>>) {
    let mut request = String::new();
    while !is_whole(&request) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        request += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    let hangs = request.starts_with("POST /hangs");
    all.lock().unwrap().push(request);
    if hangs {
        std::future::pending::<()>().await;
    }
    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.unwrap();
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.unwrap().parse::<usize>().unwrap()
}

#[track_caller]
fn shows_no_secret(texts: &[&str]) {
    for text in texts {
        let line = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(line, None);
    }
}

#[track_caller]
fn keeps_secrets(run: &Run) {
    let events = Value::from(run.events.clone()).to_string();
    shows_no_secret(&[&run.text, &run.out, &events]);
}

/// A failure, a rollback, a canary that pauses, and its end by `abort`.
async fn each_end_but_success(stack: &mut Stack) {
    stack.set("BEFORE", 1).set("RUST_LOG", "trace");
    let run = stack.rollout(&BLUE_GREEN).await;
    keeps_secrets(run.code(1));
    stack.unset("RUST_LOG").set("BEFORE", 0).set("AFTER", 1);
    keeps_secrets(stack.rollout(&BLUE_GREEN).await.code(1));
    stack.set("AFTER", 0);
    keeps_secrets(stack.rollout(&["web"]).await.code(5));
    let run = stack.rollout(&["abort", "web"]).await;
    assert_eq!(run.code(0).event("settled").unwrap()["forward"], false);
    keeps_secrets(&run);
    stack.answers_steadily("v1").await;
}

/// A success, beside a server that hangs and one that refuses. Returns its run.
async fn success(stack: &Stack, port: u16) -> Run {
    let (hook, hangs) = (
        format!("http://127.0.0.1:{port}/hook/s3cret"),
        format!("--notify=http://127.0.0.1:{port}/hangs/s3cret"),
    );
    let refuses = format!("--notify=http://u:s3cret@127.0.0.1:{}/", free_port());
    let options = ["--notify", &hook, &hangs, &refuses];
    let more = [
        "--follow",
        "--timestamps",
        "--report",
        "page.html",
        "--log-dir",
        "logs",
    ];
    let run = stack
        .rollout(&[&options[..], &more, &BLUE_GREEN].concat())
        .await;
    let ended = SystemTime::now();
    run.code(0);
    let finished = run.event("finished").unwrap()["time"].as_str().unwrap();
    let waited = ended.duration_since(humantime::parse_rfc3339(finished).unwrap());
    let waited = waited.unwrap();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    run
}

/// The body of a request.
pub(crate) fn body(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// What each end has sent to its address, the text included.
fn was_notified(server: &Recorder, project: &str) {
    let requests = server.at("/hook/s3cret");
    let bodies: Vec<Value> = requests.iter().map(|own| body(own)).collect();
    let wanted = [
        ("failure", "failed"),
        ("rollback", "rolled back"),
        ("paused", "paused"),
        ("rollback", "rolled back"),
        ("success", "rolled out"),
    ];
    assert_eq!(bodies.len(), wanted.len(), "{bodies:?}");
    for (body, (kind, title)) in bodies.iter().zip(wanted) {
        assert_eq!(
            (&body["kind"], &body["service"]),
            (&kind.into(), &"web".into())
        );
        let begin = format!("{project}/web: {title}");
        assert!(body["text"].as_str().unwrap().starts_with(&begin), "{body}");
    }
    let ntfy = server.at("/s3cret-topic");
    assert_eq!(ntfy.len(), 2, "{ntfy:?}");
    let token = "\r\nauthorization: Bearer s3cret-token\r\n";
    assert!(ntfy[0].contains(token), "{}", ntfy[0]);
    assert!(ntfy[1].contains("/web: paused\r\n"), "{}", ntfy[1]);
}

/// The notices about what was not sent, the times, and the log of a new replica.
fn shows_all(run: &Run) {
    let failed = |text: &&str| text.starts_with("the notification to http://127.0.0.1:");
    let notices: Vec<&str> = run.notices().into_iter().filter(failed).collect();
    assert_eq!(notices.len(), 2, "{}", run.text);
    assert!(notices[0].ends_with("no answer in time"), "{notices:?}");
    assert!(notices[1].contains("refused"), "{notices:?}");
    for line in run.text.lines() {
        let time = line.get(..20).unwrap_or_default();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    }
    let log = run.event("log").expect("a new replica logs");
    let begin = format!("{} | ", log["replica"].as_str().unwrap());
    assert!(run.text.contains(&begin), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_is_notified_once_and_no_server_delays_or_fails_a_rollout() {
    let server = Recorder::start().await;
    let mut stack = Stack::relabelled(WEB);
    let address = |path: &str| format!("127.0.0.1:{}/{path}", server.port);
    let hook = format!("http://{}", address("hook/s3cret?key=s3cret"));
    stack.set("HOOK", hook);
    stack.write("ntfy", &format!("ntfy://{}\n", address("s3cret-topic")));
    stack.write("token", "s3cret-token\n");
    stack.up("v1").await;
    stack.tag("v2");
    each_end_but_success(&mut stack).await;
    let run = success(&stack, server.port).await;
    keeps_secrets(&run);
    was_notified(&server, &stack.name);
    shows_all(&run);

    let history = stack.rollout(&["history", "web"]).await;
    let record = stack.rollout(&["history", "web", "--revision", "2"]).await;
    record.code(0);
    let files = ["page.html", "logs/web.log"].map(|name| stack.path(name));
    let files = files.map(|path| std::fs::read_to_string(path).unwrap());
    shows_no_secret(&[&history.out, &record.out, &files[0], &files[1]]);
    assert!(files[0].contains("--notify …"), "{}", files[0]);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_needs_a_person_is_notified_as_urgent_and_its_end_as_a_rollback() {
    let server = Recorder::start().await;
    let mut stack = Stack::relabelled("    x-rollout: { notify: [\"${HOOK}\", \"${NTFY}\"] }\n");
    let port = server.port;
    stack
        .set("HOOK", format!("http://127.0.0.1:{port}/hook"))
        .set("NTFY", format!("ntfy://127.0.0.1:{port}/topic"))
        .set("ROLLOUT_STABLE", "3s")
        .up("v1")
        .await;
    stack.tag("v2");
    let options = ["--proxy", "traefik", "--confirm-timeout", "3s", "web"];
    let mut running = stack.start_rollout(&options);
    running.reaches("step_started", "ready").await;
    stack.compose(&["stop", "traefik"]).await;
    running.wait().await.code(3);
    let hook = server.at("/hook");
    assert_eq!(hook.len(), 1, "{hook:?}");
    let failed = body(&hook[0]);
    let said = (&failed["kind"], &failed["event"], &failed["code"]);
    let wanted = (&"needs-a-person".into(), &"failed".into(), &3.into());
    assert_eq!(said, wanted, "{failed}");
    let begin = format!("{}/web: needs a person\n", stack.name);
    assert!(failed["text"].as_str().unwrap().starts_with(&begin));
    let ntfy = server.at("/topic");
    assert!(ntfy[0].contains("\r\npriority: urgent\r\n"), "{}", ntfy[0]);

    stack.compose(&["start", "traefik"]).await;
    stack.answers("v1").await;
    stack.rollout(&["resume", "web"]).await.code(0);
    let hook = server.at("/hook");
    assert_eq!(hook.len(), 2, "{hook:?}");
    assert_eq!(body(&hook[1])["kind"], "rollback", "{}", hook[1]);
    stack.tag("v1");
    stack.settled(1).await;
}
