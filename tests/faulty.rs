//! A Docker engine that fails on purpose: the real one, reached by a socket on which every call is numbered, and on which
//! one call of a run can be answered wrongly, late, or never, or can be the last thing that its caller ever does.

pub mod meddle;
pub mod probe;
mod shape;
pub mod strike;
mod talk;
pub mod upstream;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use upstream::{Body, BoxError, Upstream, refusal};

/// How long a call hangs before it is passed on.
pub const HANG: Duration = Duration::from_secs(10);

/// How late a call can come.
pub const LATE: Duration = Duration::from_secs(40);

/// What begins a conversation with a socket proxy.
const EXEC: &str = "POST /exec/{id}/start";

/// One call of a run: the n-th of its shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Such as `POST /containers/{id}/start`; the caller stands before it where that is docker's own command. What is said
    /// to a socket proxy counts too, such as `control set cutover`.
    pub shape: String,
    /// From 1 on.
    pub nth: usize,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} #{}", self.shape, self.nth)
    }
}

impl Call {
    pub fn new(shape: &str, nth: usize) -> Self {
        Self {
            shape: shape.to_owned(),
            nth,
        }
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        ["POST ", "PUT ", "DELETE ", "control set", "control clear"]
            .iter()
            .any(|method| self.shape.contains(method))
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the CLI; the engine never hears of the call.
    KilledBefore,
    /// The engine has done it; `kill -9` of the CLI before it hears so.
    KilledAfter,
    /// 500, with an error as Docker writes it; the engine never hears of the call.
    Refused,
    /// It is passed on after [`HANG`], even if the caller has gone.
    Hangs,
    /// The same after [`LATE`]: for what is passed on when its caller is long forgotten.
    ComesLate,
    /// It is never answered, nor passed on.
    NeverAnswers,
    /// The connection ends instead of an answer; the engine never hears of the call.
    Dropped,
}

impl Fault {
    pub fn words(self) -> &'static str {
        match self {
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
            Self::Refused => "500",
            Self::Hangs => "hangs 10 s",
            Self::ComesLate => "comes 40 s late",
            Self::NeverAnswers => "never answers",
            Self::Dropped => "connection dropped",
        }
    }

    /// How long it is held up.
    fn delay(self) -> Duration {
        match self {
            Self::ComesLate => LATE,
            _ => HANG,
        }
    }

    /// Whether the CLI is dead afterwards.
    pub fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }
}

/// The engine with at most one fault; it ends when this is dropped.
pub struct Faulty {
    folder: TempDir,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    engine: Upstream,
    plan: Option<(Call, Fault)>,
    counts: Mutex<BTreeMap<String, usize>>,
    calls: Mutex<Vec<Call>>,
    struck: watch::Sender<bool>,
    victim: watch::Sender<Option<Pid>>,
}

impl Faulty {
    /// Passes on to the engine that the tests use.
    pub async fn start(plan: Option<(Call, Fault)>) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let shared = Arc::new(Shared {
            engine: Upstream::new(&host),
            plan,
            counts: Mutex::default(),
            calls: Mutex::default(),
            struck: watch::Sender::new(false),
            victim: watch::Sender::new(None),
        });
        Self {
            folder,
            server: tokio::spawn(serve(listener, shared.clone())),
            shared,
        }
    }

    /// What the CLI's `DOCKER_HOST` is to be.
    pub fn docker_host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    /// What a fault kills.
    pub fn kills(&self, pid: i32) {
        self.shared.victim.send_replace(Some(Pid::from_raw(pid)));
    }

    /// Every call so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.shared.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the call that is to fail has come, for two minutes at most.
    pub async fn strikes(&self) {
        let mut struck = self.shared.struck.subscribe();
        let come = struck.wait_for(|struck| *struck);
        let come = tokio::time::timeout(Duration::from_secs(120), come).await;
        assert!(come.is_ok(), "it did not come: {:?}", self.calls());
    }

    /// Whether the call that was to fail has come.
    pub fn struck(&self) -> bool {
        *self.shared.struck.borrow()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    // That a caller has gone is no fault of this side.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, BoxError> {
    let call = shared.note(shape::of(&request));
    let fault = shared.fault_at(&call);
    let request = request.map(|body| body.map_err(Into::into).boxed());
    match fault {
        None if call.shape == EXEC => talk::pass(shared, request).await,
        None => Ok(pass(&shared.engine, request).await),
        Some(Fault::KilledBefore) => {
            shared.kill().await;
            Ok(silence().await)
        }
        Some(Fault::KilledAfter) => {
            // In a task of its own, since hyper drops this one with its connection.
            let (engine, victim) = (shared.engine.clone(), shared.clone());
            let done = tokio::spawn(async move {
                let answer = pass(&engine, request).await;
                victim.kill().await;
                answer
            });
            let _ = done.await;
            Ok(silence().await)
        }
        Some(Fault::Refused) => Ok(refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed on purpose: input/output error",
        )),
        Some(fault @ (Fault::Hangs | Fault::ComesLate)) => {
            let (engine, (sender, receiver)) = (shared.engine.clone(), oneshot::channel());
            tokio::spawn(async move {
                tokio::time::sleep(fault.delay()).await;
                let _ = sender.send(pass(&engine, request).await);
            });
            Ok(receiver.await?)
        }
        Some(Fault::NeverAnswers) => Ok(silence().await),
        Some(Fault::Dropped) => Err("dropped on purpose".into()),
    }
}

/// As the engine answers; 502 where it does not.
async fn pass(engine: &Upstream, request: Request<Body>) -> Response<Body> {
    let answer = engine.forward(request).await;
    answer.unwrap_or_else(|error| refusal(StatusCode::BAD_GATEWAY, &error.to_string()))
}

async fn silence() -> Response<Body> {
    let Ok(never) = std::future::pending::<Result<Response<Body>, Infallible>>().await;
    never
}

impl Shared {
    fn note(&self, shape: String) -> Call {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = counts.entry(shape.clone()).or_default();
        *nth += 1;
        let call = Call { shape, nth: *nth };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call.clone());
        call
    }

    fn fault_at(&self, call: &Call) -> Option<Fault> {
        let (planned, fault) = self.plan.as_ref()?;
        (planned == call).then(|| {
            self.struck.send_replace(true);
            *fault
        })
    }

    /// `kill -9`; Compose, if it runs, loses its socket with the CLI.
    async fn kill(&self) {
        let mut victim = self.victim.subscribe();
        let victim = victim.wait_for(Option::is_some).await;
        if let Ok(Some(pid)) = victim.map(|pid| *pid) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}
