//! Follows one connection through its packets: puts both directions in order, and finds the protocol that reads them.

mod direction;

use direction::Direction;

use super::h2::{self, H2};
use super::http1::{Http1, OutOfSync, begins_request};
use super::packets::segment::Segment;
use super::traffic::Protocol;

/// What the packets say about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly so many requests are not answered; `streams` when only silence tells when the connection is done.
    Known { unanswered: u32, streams: bool },
    /// At least so many are not answered; what else there is, the socket has to tell.
    AtLeast { unanswered: u32, by: Evidence },
}

/// What a socket has to tell of a connection that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    Silence,
    /// Its ages, which speak of requests and answers.
    Ages,
    /// Both: what the client sends after an answer is no request, so that it may be a tunnel.
    AgesAndSilence,
}

#[derive(Debug)]
pub struct Connection {
    protocol: Protocol,
    inbound: Direction,
    outbound: Direction,
    speaks: Speaks,
    /// Which side sent data last.
    last: Option<Side>,
    /// The client's turn came, and what it sent began no request.
    foreign: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Application,
}

#[derive(Debug)]
enum Speaks {
    /// Opened before our eyes; the first bytes do not tell yet.
    Beginning(Vec<u8>),
    Http1(Http1),
    H2(H2),
    /// Joined halfway, or nothing that can be read.
    Unknown,
}

impl Connection {
    /// A connection of which nothing has been seen; `protocol` is what it is said to speak.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            inbound: Direction::default(),
            outbound: Direction::default(),
            speaks: unknown(protocol),
            last: None,
            foreign: false,
        }
    }

    /// Takes the next segment, at `now` milliseconds.
    pub fn segment(&mut self, now: u64, segment: &Segment<'_>) {
        if segment.syn {
            return self.opens(segment);
        }
        let side = side(segment);
        if let Some(acknowledged) = segment.acknowledges {
            let lost = self.direction(side.other()).reach(acknowledged);
            self.lose(now, side.other(), lost);
        }
        let (lost, data) = self.direction(side).take(segment);
        self.lose(now, side, lost);
        if !data.is_empty() {
            self.data(now, segment, data);
            self.last = Some(side);
        }
        if segment.fin
            && segment.outbound
            && let Speaks::Http1(http) = &mut self.speaks
        {
            http.outbound_closed();
        }
    }

    /// Packets may be missing, of any connection.
    pub fn doubt(&mut self) {
        self.inbound.doubt();
        self.outbound.doubt();
    }

    /// The kernel has counted so many bytes from the client, and no packet is still to come: what was not seen of them is
    /// missing, and nothing else is.
    pub fn received(&mut self, now: u64, bytes: u64) {
        let lost = self.inbound.counted(bytes);
        self.lose(now, Side::Client, lost);
    }

    /// The same for bytes from the application, all of which the client has acknowledged.
    pub fn sent(&mut self, now: u64, bytes: u64) {
        let lost = self.outbound.counted(bytes);
        self.lose(now, Side::Application, lost);
    }

    /// Whether the packets show that nothing has come from the client since the application last sent something.
    pub fn sent_last(&self) -> bool {
        self.last == Some(Side::Application) && self.inbound.is_whole()
    }

    /// What is known at `now` milliseconds, when `quiet` milliseconds are silence.
    pub fn verdict(&self, now: u64, quiet: u64) -> Verdict {
        let (unanswered, streams, certain) = match &self.speaks {
            Speaks::Beginning(bytes) => (u32::from(!bytes.is_empty()), false, true),
            Speaks::Http1(http) => (http.unanswered(), http.streams(), true),
            Speaks::H2(h2) => (h2.unanswered(now, quiet), false, h2.is_certain(now, quiet)),
            Speaks::Unknown => (0, false, false),
        };
        if certain && self.inbound.is_whole() && self.outbound.is_whole() {
            Verdict::Known {
                unanswered,
                streams,
            }
        } else {
            let by = match self.speaks {
                Speaks::H2(_) => Evidence::Silence,
                Speaks::Unknown if self.foreign => Evidence::AgesAndSilence,
                _ => Evidence::Ages,
            };
            Verdict::AtLeast { unanswered, by }
        }
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.inbound,
            Side::Application => &mut self.outbound,
        }
    }

    /// A SYN makes everything before it another connection's; the answer to it tells where the other direction begins.
    fn opens(&mut self, segment: &Segment<'_>) {
        if !segment.outbound {
            *self = Self::new(self.protocol);
            if self.protocol != Protocol::Stream {
                self.speaks = Speaks::Beginning(Vec::new());
            }
        }
        self.direction(side(segment))
            .open(segment.sequence.wrapping_add(1));
    }

    fn lose(&mut self, now: u64, side: Side, lost: u64) {
        if lost == 0 {
            return;
        }
        if side == Side::Client {
            self.last = Some(side);
        }
        let result = match (&mut self.speaks, side) {
            (Speaks::Beginning(_), _) => Err(OutOfSync),
            (Speaks::Http1(http), Side::Client) => http.inbound_lost(lost),
            (Speaks::Http1(http), Side::Application) => http.outbound_lost(lost),
            (Speaks::H2(h2), Side::Client) => {
                h2.inbound_lost(now, lost);
                Ok(())
            }
            (Speaks::H2(h2), Side::Application) => {
                h2.outbound_lost(now, lost);
                Ok(())
            }
            (Speaks::Unknown, _) => Ok(()),
        };
        self.give_up_unless(result);
    }

    fn data(&mut self, now: u64, segment: &Segment<'_>, data: &[u8]) {
        self.find_protocol(segment, data);
        let result = match (&mut self.speaks, segment.outbound) {
            (Speaks::Beginning(bytes), false) => {
                bytes.extend_from_slice(data);
                let bytes = std::mem::take(bytes);
                self.begin(now, bytes)
            }
            // The server talks first: nothing that we can read.
            (Speaks::Beginning(_), true) => Err(OutOfSync),
            (Speaks::Http1(http), false) => http.inbound(data),
            (Speaks::Http1(http), true) => http.outbound(data),
            (Speaks::H2(h2), false) => {
                h2.inbound(now, data);
                Ok(())
            }
            (Speaks::H2(h2), true) => {
                h2.outbound(now, data);
                Ok(())
            }
            (Speaks::Unknown, _) => Ok(()),
        };
        self.give_up_unless(result);
    }

    /// A request after an answer, or as the first thing seen, is where a connection joined halfway can be followed.
    fn find_protocol(&mut self, segment: &Segment<'_>, data: &[u8]) {
        let joined = matches!(self.speaks, Speaks::Unknown) && self.protocol == Protocol::Http1;
        let turn = !segment.outbound && self.last != Some(Side::Client);
        if joined && turn && begins_request(data) {
            self.speaks = Speaks::Http1(Http1::default());
            if let Some(acknowledged) = segment.acknowledges {
                self.outbound.begin(acknowledged);
            }
            self.inbound.trust();
            self.foreign = false;
        } else if joined && !segment.outbound && self.last == Some(Side::Application) {
            self.foreign |= !is_encrypted(data);
        }
    }

    /// Reads the first bytes of a connection as soon as they tell what it speaks.
    fn begin(&mut self, now: u64, bytes: Vec<u8>) -> Result<(), OutOfSync> {
        if bytes.len() < h2::PREFACE.len() && h2::PREFACE.starts_with(&bytes) {
            self.speaks = Speaks::Beginning(bytes);
            return Ok(());
        }
        if bytes.starts_with(h2::PREFACE) {
            let mut h2 = H2::from_start();
            h2.inbound(now, &bytes);
            self.speaks = Speaks::H2(h2);
            return Ok(());
        }
        let mut http = Http1::default();
        http.inbound(&bytes)?;
        self.speaks = Speaks::Http1(http);
        Ok(())
    }

    fn give_up_unless(&mut self, result: Result<(), OutOfSync>) {
        if result.is_err() {
            self.speaks = unknown(self.protocol);
        }
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Application,
            Self::Application => Self::Client,
        }
    }
}

fn side(segment: &Segment<'_>) -> Side {
    if segment.outbound {
        Side::Application
    } else {
        Side::Client
    }
}

/// A TLS record of a version in use (RFC 8446, section 5.1): there may be requests inside.
fn is_encrypted(data: &[u8]) -> bool {
    matches!(data, [0x14..=0x17, 0x03, ..])
}

/// A connection that cannot be read yet: frames of HTTP/2 can be found again wherever a segment begins with one.
fn unknown(protocol: Protocol) -> Speaks {
    match protocol {
        Protocol::H2c => Speaks::H2(H2::joined()),
        Protocol::Http1 | Protocol::Stream => Speaks::Unknown,
    }
}

#[cfg(test)]
#[path = "connection/tests.rs"]
mod tests;
