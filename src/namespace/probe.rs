//! Looks whether a new replica listens, and tries it on its own network address as the proxy will.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::readiness::{Listeners, Readiness};
use super::sock_diag::SockDiag;
use super::stdio::{Orders, emit};

/// Between looks at what listens.
const LOOK: Duration = Duration::from_millis(25);
/// From the start of one try to the start of the next.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// The longest that one try may take.
const TRY_FOR: Duration = Duration::from_secs(1);

/// Writes a line for the first look and for each change, until told to leave.
///
/// `http` is the path and query of a request that the replica must answer with 2xx or 3xx.
pub async fn run(mut orders: Orders, ports: Vec<u16>, http: Option<String>) -> io::Result<()> {
    let mut probe = Probe::open(ports, http)?;
    let mut said = None;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            order = orders.next() => match order {
                Some(_) => said = None,
                None => return Ok(()),
            },
            _ = ticks.tick() => {}
        }
        let readiness = probe.look().await?;
        if said.as_ref() != Some(&readiness) {
            if emit(&readiness).is_err() {
                return Ok(());
            }
            said = Some(readiness);
        }
    }
}

/// A try that runs, and where.
type Try = (Vec<SocketAddr>, JoinHandle<Result<String, String>>);

struct Probe {
    sock_diag: SockDiag,
    ports: Vec<u16>,
    http: Option<String>,
    running: Option<Try>,
    last: Option<(Vec<SocketAddr>, Result<String, String>)>,
    next_try: Instant,
}

impl Probe {
    fn open(ports: Vec<u16>, http: Option<String>) -> io::Result<Self> {
        Ok(Self {
            sock_diag: SockDiag::open()?,
            ports,
            http,
            running: None,
            last: None,
            next_try: Instant::now(),
        })
    }

    async fn look(&mut self) -> io::Result<Readiness> {
        let listeners = Listeners::new(self.sock_diag.listeners()?);
        let (listening, loopback_only) = listeners.ports();
        self.collect().await;
        let outcome = match listeners.targets(&self.ports, &own_addresses()?) {
            Ok(targets) => self.outcome(targets),
            Err(why) => Err(why),
        };
        let answers = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|why| why);
        Ok(Readiness {
            listening,
            loopback_only,
            answers,
            detail,
        })
    }

    async fn collect(&mut self) {
        if let Some((targets, task)) = self.running.take_if(|(_, task)| task.is_finished()) {
            let outcome = task.await.unwrap_or_else(|error| Err(error.to_string()));
            self.last = Some((targets, outcome));
        }
    }

    /// What the last try on these targets gave; starts the next one when it is time.
    fn outcome(&mut self, targets: Vec<SocketAddr>) -> Result<String, String> {
        if self.running.is_none() && Instant::now() >= self.next_try {
            self.next_try = Instant::now() + TRY_EVERY;
            let task = tokio::spawn(try_all(targets.clone(), self.http.clone()));
            self.running = Some((targets.clone(), task));
        }
        match &self.last {
            Some((tried, outcome)) if *tried == targets => outcome.clone(),
            _ => Err("open, not tried yet".into()),
        }
    }
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
    let mut stream = TcpStream::connect(target)
        .await
        .map_err(|error| error.to_string())?;
    let Some(path) = http else {
        return Ok("accepts connections".into());
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: rollout\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        status(&mut stream).await
    };
    match exchange.await.map_err(|error| error.to_string())? {
        Some(status @ 200..=399) => Ok(format!("answers GET {path} with {status}")),
        Some(status) => Err(format!("GET {path} is answered with {status}")),
        None => Err(format!("GET {path} is not answered in HTTP/1.1")),
    }
}

/// The status of the answer's first line.
async fn status(stream: &mut TcpStream) -> io::Result<Option<u16>> {
    let mut line = [0; 12];
    let mut have = 0;
    while have < line.len() {
        match stream.read(&mut line[have..]).await? {
            0 => return Ok(None),
            more => have += more,
        }
    }
    let line = std::str::from_utf8(&line).unwrap_or_default();
    Ok(line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..))
        .and_then(|status| status.parse().ok()))
}

/// This namespace's network addresses: IPv4 first, as the proxy prefers it; link-local ones are no way in.
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
