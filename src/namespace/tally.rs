//! Counts what all connections on the routed ports still wait for, from their packets and their sockets, and what they have
//! carried. Pure: packets,
//! sockets and the time come from the caller.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ages::{Ages, silence};
use super::connection::Connection;
use super::outstanding::outstanding;
use super::packets::segment::Segment;
use super::sock_diag::{Ends, Socket};
use super::traffic::{Protocol, Traffic};
use super::wire::Wire;

/// How long a connection is kept that no look shows, in milliseconds: its packets may come before its socket.
const KEPT: u64 = 1000;
/// Connections that are kept because of packets alone. Further ones are added by the look that shows their socket.
const MOST_BY_PACKETS: usize = 65_536;

/// The connections between two looks. Times are in milliseconds of the watch's clock, which starts at 0.
pub struct Tally {
    ports: BTreeMap<u16, Protocol>,
    quiet: u64,
    exact: bool,
    connections: HashMap<Ends, Watched>,
    moved_at: u64,
    pub wire: Wire,
}

struct Watched {
    packets: Connection,
    ages: Ages,
    seen_at: u64,
}

impl Tally {
    /// `quiet` is in milliseconds; `exact` says that packets are captured.
    pub fn new(ports: BTreeMap<u16, Protocol>, quiet: u64, exact: bool) -> Self {
        Self {
            ports,
            quiet,
            exact,
            connections: HashMap::new(),
            moved_at: 0,
            wire: Wire::default(),
        }
    }

    pub fn segment(&mut self, now: u64, segment: &Segment<'_>) {
        let Some(protocol) = self.protocol(&segment.ends) else {
            return;
        };
        if segment.syn && !segment.outbound {
            self.connections.remove(&segment.ends);
        }
        let known = self.connections.contains_key(&segment.ends);
        if known || self.connections.len() < MOST_BY_PACKETS {
            let watched = self.watched(segment.ends, protocol);
            watched.seen_at = now;
            let counted = watched.packets.segment(now, segment);
            self.wire.add(&counted);
        }
    }

    /// The kernel dropped packets, of any connection.
    pub fn packets_dropped(&mut self) {
        for watched in self.connections.values_mut() {
            watched.packets.packets_dropped();
        }
    }

    /// Counts one look at the sockets, which is newer than the last packet. `all_read` says that every packet that was
    /// captured before the look has been read.
    pub fn look(&mut self, now: u64, sockets: &[Socket], all_read: bool) -> Traffic {
        let mut traffic = Traffic {
            exact: self.exact,
            ..Traffic::default()
        };
        let mut seen = HashSet::new();
        for socket in sockets {
            // The kernel may list a connection twice if the list takes several datagrams.
            if let Some(protocol) = self.protocol(&socket.ends)
                && seen.insert(socket.ends)
            {
                self.add(now, socket, protocol, all_read, &mut traffic);
            }
        }
        self.connections
            .retain(|_, watched| now.saturating_sub(watched.seen_at) < KEPT);
        traffic.quiet_ms = now.saturating_sub(self.moved_at);
        traffic
    }

    /// The protocol of a connection; `None` if the proxy cannot have opened it to the replica.
    fn protocol(&self, ends: &Ends) -> Option<Protocol> {
        let protocol = self.ports.get(&ends.local.port()).copied();
        protocol.filter(|_| ends.comes_from_outside())
    }

    fn add(
        &mut self,
        now: u64,
        socket: &Socket,
        protocol: Protocol,
        all_read: bool,
        traffic: &mut Traffic,
    ) {
        traffic.unsent += u32::from(socket.unsent > 0);
        if !socket.answering {
            return;
        }
        traffic.connections += 1;
        let quiet = self.quiet;
        let info = &socket.info;
        let silent = silence(info);
        self.moved_at = self.moved_at.max(now.saturating_sub(silent));
        let Watched {
            packets,
            ages,
            seen_at,
        } = self.watched(socket.ends, protocol);
        *seen_at = now;
        if all_read {
            packets.received(now, info.bytes_received);
            // The kernel counts bytes as sent once they are acknowledged; until then its count is not complete.
            if socket.unsent == 0 {
                packets.sent(now, info.bytes_acked);
            }
        }
        let (evidence, by_packets) = packets.outstanding(now, quiet);
        let sent_last = all_read && packets.sent_last();
        let by_ages = ages.look(now, info, socket.unread, quiet, sent_last);
        let found = outstanding(evidence, by_packets, by_ages);
        let moves = info.bytes_received > 0 && silent < quiet;
        traffic.unanswered += found.unanswered;
        traffic.streaming += u32::from(found.until_silent && moves);
    }

    fn watched(&mut self, ends: Ends, protocol: Protocol) -> &mut Watched {
        self.connections.entry(ends).or_insert_with(|| Watched {
            packets: Connection::new(protocol),
            ages: Ages::default(),
            seen_at: 0,
        })
    }
}

#[cfg(test)]
#[path = "tally/tests.rs"]
mod tests;
