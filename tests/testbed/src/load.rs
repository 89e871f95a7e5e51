//! The load generator: keep-alive requests, slow ones and a WebSocket, every answer recorded, no failure retried.

mod client;
mod report;
mod websocket;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, timeout};

use client::Client;
pub use report::{Answer, Kind, LoadReport, Record, SlowReport, WebSocketReport};

/// Slow requests under way at any time.
const SLOW_AT_ONCE: u32 = 12;
const MOST_RECORDS: usize = 1_000_000;
const LONGEST: Duration = Duration::from_secs(600);
/// Beyond its own waiting time, how long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// A loopback address: this generator talks to no other machine.
    pub addr: SocketAddr,
    pub host: String,
    /// Each connection asks these in turn.
    pub paths: Vec<String>,
    pub connections: u32,
    pub rate_per_second: u32,
    /// How long each slow request waits at the application; there are always some under way.
    pub slow_requests: Option<Duration>,
    pub websocket: bool,
    pub max_duration: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
            host: "localhost".into(),
            paths: vec!["/".into()],
            connections: 16,
            rate_per_second: 300,
            slow_requests: None,
            websocket: false,
            max_duration: Duration::from_secs(120),
        }
    }
}

/// A load that is running; dropping it ends it at once.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    pub fn start(options: LoadOptions) -> Self {
        assert!(
            options.addr.ip().is_loopback(),
            "load goes to this machine only"
        );
        assert!(
            options.connections > 0 && options.rate_per_second > 0,
            "no load was asked for"
        );
        let shared = Arc::new(Shared::new(options));
        let mut tasks = JoinSet::new();
        for number in 0..shared.options.connections {
            tasks.spawn(steady(shared.clone(), number));
        }
        if let Some(wait) = shared.options.slow_requests {
            for number in 0..SLOW_AT_ONCE {
                tasks.spawn(slow(shared.clone(), wait, number));
            }
        }
        if shared.options.websocket {
            tasks.spawn(websocket::run(shared.clone()));
        }
        Self { shared, tasks }
    }

    /// Answers so far, failed ones too.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Waits for this many more answers, failed ones too; at a known rate that is a time under load.
    pub async fn goes_on_for(&self, answers: usize) {
        let until = self.requests() + answers;
        let come = async {
            while self.requests() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = timeout(6 * PATIENCE, come).await;
        assert!(came.is_ok(), "{answers} more requests are not answered");
    }

    /// Waits until `version` has answered; false if it has not within the time given.
    pub async fn seen(&self, version: &str, within: Duration) -> bool {
        let mut versions = self.shared.versions.subscribe();
        let seen = versions.wait_for(|seen| seen.iter().any(|(name, _)| name == version));
        matches!(timeout(within, seen).await, Ok(Ok(_)))
    }

    /// Lets what is under way come to its end, then reports.
    pub async fn stop(mut self) -> LoadReport {
        self.shared.stopping.send_replace(true);
        let patience = PATIENCE + self.shared.options.slow_requests.unwrap_or_default();
        let ended = timeout(patience, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            self.shared.record(Record::lost(
                "still unanswered long after the load was stopped",
                self.shared.now(),
            ));
        }
        let websocket = self
            .shared
            .websocket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        LoadReport::of(self.shared.take_records(), websocket)
    }
}

/// What all the tasks of one load write to.
struct Shared {
    options: LoadOptions,
    start: Instant,
    requests: AtomicUsize,
    records: Mutex<Vec<Record>>,
    /// Each version and when its first answer came, in that order.
    versions: watch::Sender<Vec<(String, Instant)>>,
    stopping: watch::Sender<bool>,
    websocket: Mutex<Option<WebSocketReport>>,
}

impl Shared {
    fn new(options: LoadOptions) -> Self {
        Self {
            options,
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            records: Mutex::default(),
            versions: watch::Sender::new(Vec::new()),
            stopping: watch::Sender::new(false),
            websocket: Mutex::default(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn running(&self) -> bool {
        let limit = self.options.max_duration.min(LONGEST);
        !*self.stopping.borrow()
            && self.now() < limit
            && self.requests.load(Ordering::Relaxed) < MOST_RECORDS
    }

    fn record(&self, record: Record) {
        if let Some(version) = record.version() {
            self.versions.send_if_modified(|seen| {
                let new = seen.iter().all(|(name, _)| name != version);
                if new {
                    seen.push((version.into(), self.start + record.answered));
                }
                new
            });
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }

    fn take_records(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One keep-alive connection that sends its share of the rate. The connections begin with different paths.
async fn steady(shared: Arc<Shared>, number: u32) {
    let options = &shared.options;
    let period = Duration::from_secs(1) * options.connections / options.rate_per_second;
    let mut ticks = interval_at(shared.start + period * number / options.connections, period);
    let mut client = Client::new(shared.clone(), Kind::Steady, PATIENCE);
    for path in options.paths.iter().cycle().skip(number as usize) {
        ticks.tick().await;
        if !shared.running() {
            return;
        }
        client.get(path).await;
    }
}

/// One keep-alive connection that always has a slow request under way.
async fn slow(shared: Arc<Shared>, wait: Duration, number: u32) {
    let path = format!("/?wait={}ms", wait.as_millis());
    let mut client = Client::new(shared.clone(), Kind::Slow, wait + PATIENCE);
    sleep(wait * number / SLOW_AT_ONCE).await;
    while shared.running() {
        let before = shared.now();
        client.get(&path).await;
        // A refused connection answers at once: the trickle must not turn into a flood.
        sleep((wait / 4).saturating_sub(shared.now() - before)).await;
    }
}
