//! Adds up what all connections on the routed ports are busy with, from their packets and their sockets; pure, so that
//! no look at a real socket is needed.

use std::collections::{BTreeMap, HashMap};

use super::ages::{Ages, Judgement, silence};
use super::connection::{Connection, Evidence, Verdict};
use super::packets::segment::Segment;
use super::sock_diag::{Ends, Socket};
use super::traffic::{Protocol, Traffic};

/// How long a connection is remembered that no look has shown, in milliseconds: its packets may come first.
const REMEMBERED: u64 = 1000;
/// Connections that packets alone may begin to be remembered by; one more is begun by the look that shows it.
const MOST_BY_PACKETS: usize = 65_536;

/// The state of a watch between looks. Times are in milliseconds of the watch's clock, which starts at 0.
pub struct Tally {
    ports: BTreeMap<u16, Protocol>,
    quiet: u64,
    exact: bool,
    connections: HashMap<Ends, Watched>,
    moved_at: u64,
}

struct Watched {
    packets: Connection,
    ages: Ages,
    touched: u64,
}

impl Tally {
    /// `quiet` is in milliseconds; `exact` says that every packet will be told.
    pub fn new(ports: BTreeMap<u16, Protocol>, quiet: u64, exact: bool) -> Self {
        Self {
            ports,
            quiet,
            exact,
            connections: HashMap::new(),
            moved_at: 0,
        }
    }

    pub fn segment(&mut self, now: u64, segment: &Segment<'_>) {
        let Some(protocol) = self.counts(&segment.ends) else {
            return;
        };
        if segment.syn && !segment.outbound {
            self.connections.remove(&segment.ends);
        }
        let known = self.connections.contains_key(&segment.ends);
        if !known && self.connections.len() >= MOST_BY_PACKETS {
            return;
        }
        let watched = watched(&mut self.connections, segment.ends, protocol);
        watched.touched = now;
        watched.packets.segment(now, segment);
    }

    /// Packets may be missing.
    pub fn doubt(&mut self) {
        for watched in self.connections.values_mut() {
            watched.packets.doubt();
        }
    }

    /// Adds up one look at the sockets, which must be newer than the last packet told; `told` says that every packet that
    /// had come by then was told, but for those that are missing.
    pub fn look(&mut self, now: u64, sockets: &[Socket], told: bool) -> Traffic {
        let mut traffic = Traffic {
            exact: self.exact,
            ..Traffic::default()
        };
        let mut seen = std::collections::HashSet::new();
        for socket in sockets {
            // A dump in several pieces may name a connection twice.
            if let Some(protocol) = self.counts(&socket.ends)
                && seen.insert(socket.ends)
            {
                self.add(now, socket, protocol, told, &mut traffic);
            }
        }
        self.connections
            .retain(|_, watched| now.saturating_sub(watched.touched) < REMEMBERED);
        traffic.quiet_ms = now.saturating_sub(self.moved_at);
        traffic
    }

    /// What is spoken on a connection; `None` for one that the proxy cannot have opened to the replica.
    fn counts(&self, ends: &Ends) -> Option<Protocol> {
        let protocol = self.ports.get(&ends.local.port()).copied();
        protocol.filter(|_| ends.comes_from_outside())
    }

    fn add(
        &mut self,
        now: u64,
        socket: &Socket,
        protocol: Protocol,
        told: bool,
        traffic: &mut Traffic,
    ) {
        traffic.unsent += u32::from(socket.unsent > 0);
        if !socket.answering {
            return;
        }
        traffic.connections += 1;
        let silent = silence(&socket.info);
        self.moved_at = self.moved_at.max(now.saturating_sub(silent));
        let watched = watched(&mut self.connections, socket.ends, protocol);
        watched.touched = now;
        if told {
            watched.packets.received(now, socket.info.bytes_received);
            // An acknowledgement that the kernel has not got round to would leave something unsent.
            if socket.unsent == 0 {
                watched.packets.sent(now, socket.info.bytes_acked);
            }
        }
        let (unanswered, streams) = watched.judge(now, socket, protocol, self.quiet, told);
        let received = socket.info.bytes_received > 0;
        traffic.unanswered += unanswered;
        traffic.streaming += u32::from(streams && received && silent < self.quiet);
    }
}

impl Watched {
    /// How many requests are not answered, and whether it counts as busy until it is silent.
    fn judge(
        &mut self,
        now: u64,
        socket: &Socket,
        protocol: Protocol,
        quiet: u64,
        told: bool,
    ) -> (u32, bool) {
        let sent_last = told && self.packets.sent_last();
        // Asked for in any case, since the ages have to be seen changing.
        let by_ages = self
            .ages
            .judge(now, &socket.info, socket.unread, quiet, sent_last);
        match self.packets.verdict(now, quiet) {
            _ if protocol == Protocol::Stream => (0, true),
            Verdict::Known {
                unanswered,
                streams,
            } => (unanswered, streams),
            Verdict::AtLeast {
                unanswered,
                by: Evidence::Silence,
            } => (unanswered, unanswered == 0),
            Verdict::AtLeast { unanswered, by } => match by_ages {
                Judgement::Idle => (unanswered, by == Evidence::AgesAndSilence),
                Judgement::Unanswered => (unanswered.max(1), false),
                Judgement::Streaming => (unanswered, true),
            },
        }
    }
}

fn watched(
    connections: &mut HashMap<Ends, Watched>,
    ends: Ends,
    protocol: Protocol,
) -> &mut Watched {
    connections.entry(ends).or_insert_with(|| Watched {
        packets: Connection::new(protocol),
        ages: Ages::default(),
        touched: 0,
    })
}

#[cfg(test)]
#[path = "tally/tests.rs"]
mod tests;
