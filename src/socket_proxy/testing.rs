//! A fake engine behind a real Unix socket, and a daemon in front of it.

mod swarm;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode, body::Incoming, client::conn::http1::SendRequest,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testbed::eventually;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{broadcast, mpsc},
};

use super::{daemon::Daemon, engine::Engine, only::Wanted, server, store::Store};
use crate::{
    docker::http::{self, Body, Endpoint},
    overlay::{Claim, Labels, Match, Rule},
};

pub struct FakeEngine {
    /// Its Swarm, if it has one.
    pub swarm: swarm::Swarm,
    containers: Mutex<BTreeMap<String, Container>>,
    events: broadcast::Sender<String>,
    clock: AtomicU64,
    /// Whether each answer is delayed by an irregular time.
    pub late: bool,
}

#[derive(Clone)]
struct Container {
    labels: Labels,
    state: String,
    status: String,
    network_mode: String,
}

impl FakeEngine {
    /// Listens on a socket in a directory of its own.
    pub fn start(late: bool) -> (Arc<Self>, tempfile::TempDir) {
        // In memory if possible, because each generation is one fsync.
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let engine = Arc::new(Self {
            swarm: swarm::Swarm::default(),
            containers: Mutex::default(),
            events: broadcast::Sender::new(1024),
            clock: AtomicU64::new(1),
            late,
        });
        tokio::spawn(accept(listener, engine.clone()));
        (engine, directory)
    }

    /// Adds a running container of `shop/web`.
    pub fn create(&self, id: &str, labels: &[(&str, &str)], status: &str) {
        let compose = [("project", "shop"), ("service", "web")]
            .map(|(key, value)| (format!("com.docker.compose.{key}"), value.to_owned()));
        let own = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let container = Container {
            labels: compose.into_iter().chain(own).collect(),
            state: "running".to_owned(),
            status: status.to_owned(),
            network_mode: "net".to_owned(),
        };
        let mut containers = self.containers.lock().unwrap();
        containers.insert(id.to_owned(), container);
    }

    /// Makes a container join the network of another.
    pub fn join(&self, id: &str, other: &str) {
        self.change(id, |own| own.network_mode = format!("container:{other}"));
    }

    /// Sets the state of a container without an event.
    pub fn set_state(&self, id: &str, state: &str) {
        self.change(id, |own| own.state = state.to_owned());
    }

    pub fn start_container(&self, id: &str) {
        self.set_state(id, "running");
        self.event(id, "start");
    }

    /// Ends a container without removing it.
    pub fn exit(&self, id: &str) {
        self.change(id, |own| {
            own.state = "exited".to_owned();
            own.status = "Exited (1) 1 second ago".to_owned();
        });
        self.event(id, "die");
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Container)) {
        if let Some(container) = self.containers.lock().unwrap().get_mut(id) {
            change(container);
        }
    }

    /// Removes a container and sends the event.
    pub fn remove(&self, id: &str) {
        self.event(id, "destroy");
    }

    /// Sends an event of a container; `destroy` removes it first.
    pub fn event(&self, id: &str, action: &str) {
        let mut containers = self.containers.lock().unwrap();
        let container = match action {
            "destroy" => containers.remove(id),
            _ => containers.get(id).cloned(),
        };
        drop(containers);
        let labels = container.map(|container| container.labels);
        let event = json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": labels}});
        // Sending fails if there is no event stream.
        let _ = self.events.send(format!("{event}\n"));
    }

    /// The number of open event streams.
    pub fn watchers(&self) -> usize {
        self.events.receiver_count()
    }

    fn answer(&self, path: &str, query: &str) -> (StatusCode, Value) {
        if let Some(answer) = self.swarm.answer(path, query) {
            return answer;
        }
        let containers = self.containers.lock().unwrap();
        let id = path
            .strip_prefix("/containers/")
            .and_then(|path| path.strip_suffix("/json"));
        match (path, id) {
            ("/version", _) => (
                StatusCode::OK,
                json!({"Version": "1", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
            ),
            ("/containers/json", _) => {
                let list: Vec<_> = containers.iter().map(|(id, one)| one.listed(id)).collect();
                (StatusCode::OK, json!(list))
            }
            (_, Some(id)) if containers.contains_key(id) => {
                (StatusCode::OK, containers[id].inspected(id))
            }
            _ => (StatusCode::NOT_FOUND, json!({"message": "no such thing"})),
        }
    }

    // Delays an answer by up to three milliseconds after it is made, so that it may be outdated when it arrives.
    async fn delay(&self) {
        if self.late {
            let tick = self.clock.fetch_add(1, Ordering::Relaxed);
            let micros = tick.wrapping_mul(6_364_136_223_846_793_005) >> 33;
            tokio::time::sleep(Duration::from_micros(micros % 3000)).await;
        }
    }
}

impl Container {
    fn listed(&self, id: &str) -> Value {
        json!({"Id": id, "Names": [format!("/{id}")], "Labels": self.labels, "State": self.state, "Status": self.status,
            "HostConfig": {"NetworkMode": self.network_mode}, "NetworkSettings": {"Networks": {"net": {"IPAddress": "127.0.0.1"}}}})
    }

    fn inspected(&self, id: &str) -> Value {
        let health = self.status.ends_with("(health: starting)");
        let health = health.then(|| json!({"Status": "starting"}));
        json!({"Id": id, "Name": format!("/{id}"), "Config": {"Labels": self.labels},
            "State": {"Status": self.state, "Running": self.state == "running", "Health": health}})
    }
}

async fn accept(listener: UnixListener, engine: Arc<FakeEngine>) {
    while let Ok((stream, _)) = listener.accept().await {
        let engine = engine.clone();
        let service = service_fn(move |request: Request<Incoming>| serve(engine.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn serve(
    engine: Arc<FakeEngine>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let path = request.uri().path();
    let path = path
        .strip_prefix("/v")
        .and_then(|path| path.find('/').map(|slash| &path[slash..]))
        .unwrap_or(path);
    if path == "/events" {
        return Ok(Response::new(
            Stream(follow(engine.events.subscribe())).boxed(),
        ));
    }
    let (status, value) = engine.answer(path, request.uri().query().unwrap_or_default());
    engine.delay().await;
    Ok(http::json(status, &value))
}

fn follow(mut events: broadcast::Receiver<String>) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                event = events.recv() => match event {
                    Ok(event) => if sender.send(event.into()).await.is_err() { return },
                    Err(_) => return,
                },
            }
        }
    });
    receiver
}

struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = http::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        let received = self.0.poll_recv(cx);
        received.map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

/// A daemon in front of the engine of this directory, serving readers.
pub async fn daemon(directory: &tempfile::TempDir) -> Arc<Daemon> {
    daemon_with(directory, Vec::new()).await
}

/// The same, with the labels of `--only`.
pub async fn daemon_with(directory: &tempfile::TempDir, only: Vec<Wanted>) -> Arc<Daemon> {
    daemon_of(directory, only, false).await
}

/// The same, with or without `--swarm`.
pub async fn daemon_of(
    directory: &tempfile::TempDir,
    only: Vec<Wanted>,
    swarm: bool,
) -> Arc<Daemon> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = Engine::new(Endpoint::Unix(directory.path().join("docker.sock")));
    let store = Store::open(directory.path()).unwrap();
    let daemon = Daemon::new(engine, store, only, swarm, listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, daemon.clone()));
    daemon
}

/// One connection of a reader.
pub struct Client {
    sender: SendRequest<Empty<Bytes>>,
    agent: String,
}

impl Client {
    pub async fn connect(daemon: &Daemon, agent: &str) -> Self {
        let stream = TcpStream::connect(daemon.listen).await.unwrap();
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let agent = agent.to_owned();
        Self { sender, agent }
    }

    /// Sends a request, and returns when the head of the answer has arrived.
    pub async fn send(&mut self, path: &str) -> Response<Incoming> {
        let request = Request::get(path)
            .header("user-agent", &self.agent)
            .header("host", "docker");
        self.sender.ready().await.unwrap();
        let request = request.body(Empty::new()).unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    pub async fn get(&mut self, path: &str) -> (StatusCode, Value) {
        let response = self.send(path).await;
        let status = response.status();
        let body = http::read_whole(response.into_body()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

pub fn rollout(id: &str) -> Match {
    Match::Label {
        key: "io.rollout.id".to_owned(),
        value: id.to_owned(),
    }
}

/// A claim of `shop/web`.
pub fn claim(epoch: u64, stage: &str, rules: Vec<Rule>) -> Claim {
    Claim {
        key: "shop/web".to_owned(),
        rollout: format!("r{epoch}"),
        epoch,
        stage: stage.to_owned(),
        rules,
    }
}

/// Sets a claim and returns its generation.
pub async fn set(daemon: &Daemon, claim: Claim) -> u64 {
    let set = daemon.store.change(true, |overlay| overlay.set(claim));
    set.await.unwrap()
}

/// Waits until a condition holds; the test fails if it does not.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let limit = Duration::from_secs(20);
    eventually(what, limit, async || so().then_some(()).ok_or("not yet")).await;
}
