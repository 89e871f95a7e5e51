//! Watches the replica's packets and sockets, and reports each change.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::packets::Packets;
use super::readiness::Listeners;
use super::sock_diag::SockDiag;
use super::stdio::{Requests, emit};
use super::tally::Tally;
use super::traffic::{Ask, Protocol, Traffic};
use super::wire::Wire;

/// The shortest pause between two looks that were not asked for.
const SHORT: Duration = Duration::from_millis(5);
/// The pause if packets are captured and the replica is busy, or if they are not captured and it is idle.
const MEDIUM: Duration = Duration::from_millis(20);
/// The pause if packets are captured and the replica is idle.
const LONG: Duration = Duration::from_millis(100);
/// The longest pause that a request can ask for. A connection is kept for longer without a look.
const SLOWEST: Duration = Duration::from_millis(500);
/// The cost of a look grows with the host's connection table. The pause after a look is at least this many times longer.
const REST: u32 = 10;
/// Packets are read in batches, because waking up for each one costs more than reading it.
const BATCH: Duration = Duration::from_millis(1);

/// Writes a line for the first look, for each change, and for each request, until the helper has to end.
pub async fn run(
    mut requests: Requests,
    ports: BTreeMap<u16, Protocol>,
    quiet: Duration,
) -> io::Result<()> {
    let mut watch = Watch::open(ports, quiet)?;
    let mut written = None;
    loop {
        let answer_to = tokio::select! {
            biased;
            request = requests.next() => match request {
                Some(Ask { ask, pace }) => {
                    watch.pace = Duration::from_millis(pace.unwrap_or(0)).min(SLOWEST);
                    Some(ask)
                }
                None => return Ok(()),
            },
            () = sleep_until(watch.next_look) => None,
            () = watch.packets_arrive() => {
                watch.read_packets()?;
                watch.next_look = watch.next_look.min(watch.earliest_look);
                continue;
            }
        };
        let traffic = watch.look()?;
        if answer_to.is_some() || written != Some(traffic.counts()) {
            written = Some(traffic.counts());
            if emit(&Traffic {
                answer_to,
                wire: answer_to.and_then(|_| watch.wire()),
                ..traffic
            })
            .is_err()
            {
                return Ok(());
            }
        }
    }
}

struct Watch {
    started: Instant,
    sock_diag: SockDiag,
    packets: Option<Packets>,
    tally: Tally,
    next_look: Instant,
    /// Packets bring the next look forward, but not further than this.
    earliest_look: Instant,
    next_batch: Instant,
    /// The shortest pause before a look that is not asked for.
    pace: Duration,
}

impl Watch {
    /// Without ports, watches those that listen on a network address now.
    fn open(mut ports: BTreeMap<u16, Protocol>, quiet: Duration) -> io::Result<Self> {
        let mut sock_diag = SockDiag::open()?;
        if ports.is_empty() {
            let (listening, _) = Listeners::new(sock_diag.listeners()?).ports();
            ports.extend(listening.into_iter().map(|port| (port, Protocol::Http1)));
        }
        // If nothing listens, no packet is missed.
        let nothing = ports.is_empty();
        // The packets of a stream show nothing that its socket does not.
        let readable: Vec<u16> = ports
            .iter()
            .filter(|(_, protocol)| **protocol != Protocol::Stream)
            .map(|(port, _)| *port)
            .collect();
        let packets = match readable.is_empty() {
            true => None,
            false => allowed(Packets::open(&readable))?,
        };
        let quiet = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        let started = Instant::now();
        Ok(Self {
            started,
            sock_diag,
            tally: Tally::new(ports, quiet, packets.is_some() || nothing),
            packets,
            next_look: started,
            earliest_look: started,
            next_batch: started,
            pace: Duration::ZERO,
        })
    }

    async fn packets_arrive(&self) {
        match &self.packets {
            Some(packets) => {
                sleep_until(self.next_batch).await;
                packets.arrived().await;
            }
            None => std::future::pending().await,
        }
    }

    fn read_packets(&mut self) -> io::Result<()> {
        let now = self.now();
        let Some(packets) = &mut self.packets else {
            return Ok(());
        };
        packets.read(|segment| self.tally.segment(now, segment))?;
        if packets.dropped()? {
            // Packets captured before the drop come first: read after it, they would seem to prove that nothing is missing.
            packets.read(|segment| self.tally.segment(now, segment))?;
            self.tally.packets_dropped();
        }
        self.next_batch = Instant::now() + BATCH;
        Ok(())
    }

    fn look(&mut self) -> io::Result<Traffic> {
        let start = Instant::now();
        // Packets first: an answer that they show as sent is then unacknowledged in the socket until it has arrived.
        self.read_packets()?;
        let sockets = self.sock_diag.connections()?;
        let all_read = self.packets.as_ref().is_some_and(Packets::is_empty);
        let traffic = self.tally.look(self.now(), &sockets, all_read);
        let end = Instant::now();
        let rest = self.pace.max((end - start) * REST);
        self.earliest_look = end + SHORT.max(rest);
        self.next_look = end + self.pause(&traffic).max(rest);
        Ok(traffic)
    }

    /// What was counted; `None` where packets are not captured.
    fn wire(&self) -> Option<Wire> {
        self.packets.as_ref().map(|_| self.tally.wire.clone())
    }

    fn pause(&self, traffic: &Traffic) -> Duration {
        match (self.packets.is_some(), traffic.busy()) {
            (false, true) => SHORT,
            (false, false) | (true, true) => MEDIUM,
            (true, false) => LONG,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Without `CAP_NET_RAW` only the sockets are watched.
fn allowed(opened: io::Result<Packets>) -> io::Result<Option<Packets>> {
    match opened {
        Ok(packets) => Ok(Some(packets)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}
