//! Looks at the replica's packets and sockets again and again, and says what changed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::packets::Packets;
use super::readiness::Listeners;
use super::sock_diag::SockDiag;
use super::stdio::{Orders, emit};
use super::tally::Tally;
use super::traffic::{Protocol, Traffic};

/// The shortest time between looks that nobody asked for.
const SOON: Duration = Duration::from_millis(5);
/// Between looks where packets are read and the replica is busy, or neither.
const LATER: Duration = Duration::from_millis(20);
/// Between looks where packets are read and the replica is idle.
const MUCH_LATER: Duration = Duration::from_millis(100);
/// A look costs what the host's connection table is long; this is how much longer than a look the pause after it is.
const REST: u32 = 10;
/// Packets are read in batches, since waking for each would cost more than reading it.
const BATCH: Duration = Duration::from_millis(1);

/// Writes a line for the first look, for each change, and for each question, until told to leave.
pub async fn run(
    mut orders: Orders,
    ports: BTreeMap<u16, Protocol>,
    quiet: Duration,
) -> io::Result<()> {
    let mut watch = Watch::open(ports, quiet)?;
    let mut said = None;
    loop {
        let answer_to = tokio::select! {
            biased;
            order = orders.next() => match order {
                Some(ask) => Some(ask),
                None => return Ok(()),
            },
            () = sleep_until(watch.next_look) => None,
            () = watch.packets_arrive() => {
                watch.read_packets()?;
                watch.next_look = watch.next_look.min(watch.soonest_look);
                continue;
            }
        };
        let traffic = watch.look()?;
        if answer_to.is_some() || said != Some(traffic.counts()) {
            said = Some(traffic.counts());
            if emit(&Traffic {
                answer_to,
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
    began: Instant,
    sock_diag: SockDiag,
    packets: Option<Packets>,
    tally: Tally,
    next_look: Instant,
    /// Packets bring the next look forward, but not to before this.
    soonest_look: Instant,
    next_batch: Instant,
}

impl Watch {
    /// Without ports, those count that listen on a network address now.
    fn open(mut ports: BTreeMap<u16, Protocol>, quiet: Duration) -> io::Result<Self> {
        let mut sock_diag = SockDiag::open()?;
        if ports.is_empty() {
            let (listening, _) = Listeners::new(sock_diag.listeners()?).ports();
            ports.extend(listening.into_iter().map(|port| (port, Protocol::Http1)));
        }
        // Where nothing listens, no packet is missed.
        let nothing = ports.is_empty();
        // In the packets of a stream there is nothing to read.
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
        let began = Instant::now();
        Ok(Self {
            began,
            sock_diag,
            // A stream's silence is all there is to tell, whether packets are read or not.
            tally: Tally::new(ports, quiet, packets.is_some() || nothing),
            packets,
            next_look: began,
            soonest_look: began,
            next_batch: began,
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
            // What was in the queue before the one that found no room must be read before the doubt, or it would end it.
            packets.read(|segment| self.tally.segment(now, segment))?;
            self.tally.packets_dropped();
        }
        self.next_batch = Instant::now() + BATCH;
        Ok(())
    }

    fn look(&mut self) -> io::Result<Traffic> {
        let start = Instant::now();
        // Packets first: an answer that they show as gone is then in the socket's queue until it has arrived.
        self.read_packets()?;
        let sockets = self.sock_diag.connections()?;
        let told = self.packets.as_ref().is_some_and(Packets::is_empty);
        let traffic = self.tally.look(self.now(), &sockets, told);
        let end = Instant::now();
        let rest = (end - start) * REST;
        self.soonest_look = end + SOON.max(rest);
        self.next_look = end + self.pause(&traffic).max(rest);
        Ok(traffic)
    }

    fn pause(&self, traffic: &Traffic) -> Duration {
        match (self.packets.is_some(), traffic.busy()) {
            (false, true) => SOON,
            (false, false) | (true, true) => LATER,
            (true, false) => MUCH_LATER,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Without the capability the sockets have to do.
fn allowed(opened: io::Result<Packets>) -> io::Result<Option<Packets>> {
    match opened {
        Ok(packets) => Ok(Some(packets)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}
