//! Checks whether a new replica listens, and connects to its network address as the proxy will.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::check::{Answer, Check, Http};
use super::readiness::{Listeners, Readiness};
use super::sock_diag::SockDiag;
use super::stdio::{Requests, emit};

/// Between two looks at the listening sockets.
const LOOK: Duration = Duration::from_millis(25);
/// From the start of one try to the start of the next.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// The longest that one try may take.
const TRY_FOR: Duration = Duration::from_secs(1);

/// Writes a line for the first look, for each change, and for each request, until the helper has to end.
///
/// `http` is the path and query of a request that the replica must answer with 2xx or 3xx.
pub async fn run(
    mut requests: Requests,
    ports: Vec<u16>,
    http: Option<String>,
    checks: Vec<Check>,
) -> io::Result<()> {
    let mut probe = Probe::open(ports, http, checks)?;
    let mut written = None;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            request = requests.next() => match request {
                Some(_) => written = None,
                None => return Ok(()),
            },
            _ = ticks.tick() => {}
        }
        let readiness = probe.look().await?;
        if written.as_ref() != Some(&readiness) {
            if emit(&readiness).is_err() {
                return Ok(());
            }
            written = Some(readiness);
        }
    }
}

struct Probe {
    sock_diag: SockDiag,
    ports: Vec<u16>,
    http: Option<String>,
    checks: Vec<Check>,
    answers: Tries,
    passes: Tries,
}

impl Probe {
    fn open(ports: Vec<u16>, http: Option<String>, checks: Vec<Check>) -> io::Result<Self> {
        Ok(Self {
            sock_diag: SockDiag::open()?,
            ports,
            http,
            checks,
            answers: Tries::default(),
            passes: Tries::default(),
        })
    }

    async fn look(&mut self) -> io::Result<Readiness> {
        let listeners = Listeners::new(self.sock_diag.listeners()?);
        let (listening, loopback_only) = listeners.ports();
        let own = own_addresses()?;
        let outcome = match listeners.targets(&self.ports, &own) {
            Ok(targets) => {
                let http = self.http.clone();
                let trying = |targets| try_all(targets, http);
                self.answers.outcome(targets, trying).await
            }
            Err(why) => Err(why),
        };
        let answers = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|why| why);
        Ok(Readiness {
            listening,
            loopback_only,
            answers,
            detail,
            checks: self.check(&listeners, &own).await,
        })
    }

    /// The result of the last try of every check.
    async fn check(&mut self, listeners: &Listeners, own: &[IpAddr]) -> Result<String, String> {
        if self.checks.is_empty() {
            return Ok(String::new());
        }
        let ports: Vec<u16> = self.checks.iter().map(|check| check.port).collect();
        let targets = listeners.targets(&ports, own)?;
        let checks = self.checks.clone();
        let trying = |targets| check_all(checks, targets);
        self.passes.outcome(targets, trying).await
    }
}

/// A try in progress, and its targets.
type Try = (Vec<SocketAddr>, JoinHandle<Result<String, String>>);

/// Tries that run one after another, on targets that may change.
#[derive(Default)]
struct Tries {
    running: Option<Try>,
    last: Option<(Vec<SocketAddr>, Result<String, String>)>,
    /// When the next try is due; `None` before the first.
    next: Option<Instant>,
}

impl Tries {
    /// The result of the last try on these targets. Starts the next try when it is due.
    async fn outcome<Trying>(
        &mut self,
        targets: Vec<SocketAddr>,
        trying: impl FnOnce(Vec<SocketAddr>) -> Trying,
    ) -> Result<String, String>
    where
        Trying: Future<Output = Result<String, String>> + Send + 'static,
    {
        if let Some((tried, task)) = self.running.take_if(|(_, task)| task.is_finished()) {
            let outcome = task.await.unwrap_or_else(|error| Err(error.to_string()));
            self.last = Some((tried, outcome));
        }
        let is_due = self.next.is_none_or(|next| Instant::now() >= next);
        if self.running.is_none() && is_due {
            self.next = Some(Instant::now() + TRY_EVERY);
            let task = tokio::spawn(trying(targets.clone()));
            self.running = Some((targets.clone(), task));
        }
        match &self.last {
            Some((tried, outcome)) if *tried == targets => outcome.clone(),
            _ => Err("open, not tried yet".into()),
        }
    }
}

/// Runs each check on its own target, up to the first that fails.
async fn check_all(checks: Vec<Check>, targets: Vec<SocketAddr>) -> Result<String, String> {
    let mut passed = Vec::new();
    for (check, target) in checks.iter().zip(targets) {
        match check.ask(target).await {
            Ok(what) => passed.push(what),
            Err(why) => return Err(format!("{why} ({})", check.source)),
        }
    }
    Ok(passed.join(", "))
}

async fn try_all(targets: Vec<SocketAddr>, http: Option<String>) -> Result<String, String> {
    let mut answered = Vec::new();
    for target in targets {
        let port = target.port();
        let one = try_one(target, http.as_deref());
        match timeout(TRY_FOR, one).await {
            Ok(Ok(what)) => answered.push(format!("port {port} {what}")),
            Ok(Err(why)) => return Err(format!("port {port}: {why}")),
            Err(_) => return Err(format!("port {port}: no answer within {TRY_FOR:?}")),
        }
    }
    Ok(answered.join(", "))
}

async fn try_one(target: SocketAddr, http: Option<&str>) -> Result<String, String> {
    let Some(path) = http else {
        let connected = TcpStream::connect(target).await;
        let accepts = connected.map(|_| "accepts connections".to_owned());
        return accepts.map_err(|error| error.to_string());
    };
    let ask = Http::get(path);
    match ask.answer(target).await {
        Ok(Answer::Status(status)) if ask.passes(status) => {
            Ok(format!("answers GET {path} with {status}"))
        }
        Ok(Answer::Status(status)) => Err(format!("GET {path} is answered with {status}")),
        Ok(Answer::Elsewhere(url)) => Err(format!("GET {path} redirects to {url}")),
        Err(why) => Err(format!("GET {path} {why}")),
    }
}

/// This namespace's network addresses, IPv4 first, as the proxy prefers it. The proxy uses no link-local address.
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = getifaddrs()?
        .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|interface| interface.address)
        .filter_map(
            |address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(four), _) => Some(IpAddr::V4(four.ip())),
                (_, Some(six)) => Some(IpAddr::V6(six.ip())),
                _ => None,
            },
        )
        .filter(|ip| !matches!(ip, IpAddr::V6(six) if six.is_unicast_link_local()))
        .collect();
    addresses.sort();
    Ok(addresses)
}
