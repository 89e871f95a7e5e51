//! Adds up what all connections on the routed ports are busy with; pure, so that no look at a real socket is needed.

use std::collections::HashMap;

use super::ages::{Ages, Judgement, silence};
use super::sock_diag::{Ends, Socket};
use super::traffic::{Protocol, Traffic};

/// The state of a watch between looks.
pub struct Tally {
    ports: Vec<u16>,
    protocol: Protocol,
    quiet: u64,
    ages: HashMap<Ends, Ages>,
    /// When data last moved, in milliseconds of the watch's clock, which starts at 0.
    moved_at: u64,
}

impl Tally {
    /// `quiet` is in milliseconds.
    pub fn new(ports: Vec<u16>, protocol: Protocol, quiet: u64) -> Self {
        Self {
            ports,
            protocol,
            quiet,
            ages: HashMap::new(),
            moved_at: 0,
        }
    }

    /// Whether a connection is one that the proxy may have opened to the replica.
    pub fn counts(&self, ends: &Ends) -> bool {
        self.ports.contains(&ends.local.port()) && ends.from_outside()
    }

    /// Adds up one look, taken `now` milliseconds after the watch began.
    pub fn look(&mut self, now: u64, sockets: &[Socket]) -> Traffic {
        let mut before = std::mem::take(&mut self.ages);
        let mut traffic = Traffic::default();
        for socket in sockets {
            // A dump in several pieces may name a connection twice.
            if !self.counts(&socket.ends) || self.ages.contains_key(&socket.ends) {
                continue;
            }
            let mut ages = before.remove(&socket.ends).unwrap_or_default();
            traffic.unsent += u32::from(socket.unsent > 0);
            if socket.answering {
                traffic.connections += 1;
                self.add(now, socket, &mut ages, &mut traffic);
            }
            self.ages.insert(socket.ends, ages);
        }
        traffic.quiet_ms = now.saturating_sub(self.moved_at);
        traffic
    }

    fn add(&mut self, now: u64, socket: &Socket, ages: &mut Ages, traffic: &mut Traffic) {
        let silent = silence(&socket.info);
        self.moved_at = self.moved_at.max(now.saturating_sub(silent));
        match self.judge(now, socket, ages) {
            Judgement::Idle => {}
            Judgement::Unanswered => traffic.unanswered += 1,
            Judgement::Streaming => traffic.streaming += 1,
        }
    }

    fn judge(&self, now: u64, socket: &Socket, ages: &mut Ages) -> Judgement {
        match self.protocol {
            Protocol::Http1 => ages.judge(now, &socket.info, socket.unread, self.quiet),
            Protocol::H2c | Protocol::Stream => {
                if socket.info.bytes_received > 0 && silence(&socket.info) < self.quiet {
                    Judgement::Streaming
                } else {
                    Judgement::Idle
                }
            }
        }
    }
}
