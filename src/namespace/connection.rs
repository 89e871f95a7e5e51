//! Follows one connection through its packets: puts both directions in order, finds out which protocol it speaks, and
//! counts its requests.

mod direction;

use direction::Direction;

use super::h2::{self, H2};
use super::http1::{Http1, OutOfSync, begins_request};
use super::outstanding::{Evidence, Outstanding};
use super::packets::segment::Segment;
use super::traffic::Protocol;
use super::wire::{Counter, Wire};

#[derive(Debug)]
pub struct Connection {
    protocol: Protocol,
    inbound: Direction,
    outbound: Direction,
    content: Content,
    /// Which side sent data last.
    last: Option<Side>,
    /// What the client sent after an answer began no request.
    maybe_tunnel: bool,
    /// It is counted as one that cannot be read.
    is_unread: bool,
    /// What was counted since the last segment.
    counted: Wire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Application,
}

#[derive(Debug)]
enum Content {
    /// Captured from its first byte; what has arrived does not show the protocol yet.
    Beginning(Vec<u8>),
    Http1(Http1),
    H2(H2),
    /// Captured from the middle, or in a protocol that is not followed.
    Unknown,
}

impl Connection {
    /// A connection of which nothing was captured; `protocol` is the one of its port.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            inbound: Direction::default(),
            outbound: Direction::default(),
            content: unknown(protocol),
            last: None,
            maybe_tunnel: false,
            is_unread: false,
            counted: Wire::default(),
        }
    }

    /// Takes the next segment, at `now` milliseconds. Returns what it adds to the counts.
    pub fn segment(&mut self, now: u64, segment: &Segment<'_>) -> Wire {
        if let Some(counter) = self.counter() {
            counter.at = segment.at;
        }
        self.follow(now, segment);
        self.take_counted();
        std::mem::take(&mut self.counted)
    }

    fn follow(&mut self, now: u64, segment: &Segment<'_>) {
        if segment.syn {
            return self.open(segment);
        }
        let side = side(segment);
        if let Some(number) = segment.acknowledges {
            let gap = self.direction(side.other()).acknowledged(number);
            self.lose(now, side.other(), gap);
        }
        let (gap, data) = self.direction(side).take(segment);
        self.lose(now, side, gap);
        if !data.is_empty() {
            self.data(now, segment, data);
            self.last = Some(side);
        }
        if segment.fin || segment.reset {
            self.closed(side);
        }
    }

    fn closed(&mut self, side: Side) {
        match (&mut self.content, side) {
            (Content::Http1(http), Side::Client) => http.inbound_closed(),
            (Content::Http1(http), Side::Application) => http.outbound_closed(),
            (Content::H2(h2), Side::Client) => h2.inbound_closed(),
            (Content::H2(h2), Side::Application) => h2.outbound_closed(),
            (Content::Beginning(_) | Content::Unknown, _) => {}
        }
    }

    fn counter(&mut self) -> Option<&mut Counter> {
        match &mut self.content {
            Content::Http1(http) => Some(&mut http.counter),
            Content::H2(h2) => Some(&mut h2.counter),
            Content::Beginning(_) | Content::Unknown => None,
        }
    }

    fn take_counted(&mut self) {
        let counted = self.counter().map(|own| std::mem::take(&mut own.wire));
        self.counted.add(&counted.unwrap_or_default());
    }

    /// The kernel dropped packets, perhaps some of this connection.
    pub fn packets_dropped(&mut self) {
        self.inbound.packets_dropped();
        self.outbound.packets_dropped();
    }

    /// The kernel has counted this number of bytes from the client, and every captured packet is read: the difference is
    /// a gap.
    pub fn received(&mut self, now: u64, bytes: u64) {
        let gap = self.inbound.counted(bytes);
        self.lose(now, Side::Client, gap);
    }

    /// The same for the bytes from the application, all of which the client has acknowledged.
    pub fn sent(&mut self, now: u64, bytes: u64) {
        let gap = self.outbound.counted(bytes);
        self.lose(now, Side::Application, gap);
    }

    /// Whether the packets show that the client has sent nothing after the application's last data.
    pub fn sent_last(&self) -> bool {
        self.last == Some(Side::Application) && self.inbound.is_complete()
    }

    /// What the packets show at `now`, and which evidence the connection needs; `quiet` milliseconds are silence.
    pub fn outstanding(&self, now: u64, quiet: u64) -> (Evidence, Outstanding) {
        let (unanswered, until_silent, certain) = match &self.content {
            Content::Beginning(bytes) => (u32::from(!bytes.is_empty()), false, true),
            Content::Http1(http) => (http.unanswered(), http.streams(), true),
            Content::H2(h2) => (h2.unanswered(now, quiet), false, h2.is_certain(now, quiet)),
            Content::Unknown => (0, false, false),
        };
        let exact = certain && self.inbound.is_complete() && self.outbound.is_complete();
        let evidence = match self.content {
            _ if self.protocol == Protocol::Stream => Evidence::Silence,
            _ if exact => Evidence::Packets,
            Content::H2(_) => Evidence::Silence,
            Content::Unknown if self.maybe_tunnel => Evidence::AgesAndSilence,
            _ => Evidence::Ages,
        };
        let packets = Outstanding {
            unanswered,
            until_silent,
        };
        (evidence, packets)
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.inbound,
            Side::Application => &mut self.outbound,
        }
    }

    /// A client's SYN begins a new connection; the answer to it has the first number of the other direction.
    fn open(&mut self, segment: &Segment<'_>) {
        if !segment.outbound {
            *self = Self::new(self.protocol);
            if self.protocol != Protocol::Stream {
                self.content = Content::Beginning(Vec::new());
            }
        }
        self.direction(side(segment))
            .open(segment.sequence.wrapping_add(1));
    }

    /// Continues after a gap of this number of bytes.
    fn lose(&mut self, now: u64, side: Side, gap: u64) {
        if gap == 0 {
            return;
        }
        if side == Side::Client {
            self.last = Some(side);
        }
        let followed = match (&mut self.content, side) {
            (Content::Beginning(_), _) => Err(OutOfSync),
            (Content::Http1(http), Side::Client) => http.inbound_lost(gap),
            (Content::Http1(http), Side::Application) => http.outbound_lost(gap),
            (Content::H2(h2), Side::Client) => return h2.inbound_lost(now, gap),
            (Content::H2(h2), Side::Application) => return h2.outbound_lost(now, gap),
            (Content::Unknown, _) => Ok(()),
        };
        self.forget_unless(followed);
    }

    fn data(&mut self, now: u64, segment: &Segment<'_>, data: &[u8]) {
        self.find_request(segment, data);
        if !segment.outbound && is_encrypted(data) && !self.is_read() {
            self.count_unread();
        }
        let followed = match (&mut self.content, segment.outbound) {
            (Content::Beginning(bytes), false) => {
                bytes.extend_from_slice(data);
                let bytes = std::mem::take(bytes);
                self.begin(now, segment.at, bytes)
            }
            // Neither HTTP/1.1 nor HTTP/2 with prior knowledge lets the server speak first.
            (Content::Beginning(_), true) => Err(OutOfSync),
            (Content::Http1(http), false) => http.inbound(data),
            (Content::Http1(http), true) => http.outbound(data),
            (Content::H2(h2), false) => return h2.inbound(now, data),
            (Content::H2(h2), true) => return h2.outbound(now, data),
            (Content::Unknown, _) => Ok(()),
        };
        self.forget_unless(followed);
    }

    /// A connection captured from its middle can be followed from a request on that comes after an answer, or first.
    fn find_request(&mut self, segment: &Segment<'_>, data: &[u8]) {
        let joined = matches!(self.content, Content::Unknown) && self.protocol == Protocol::Http1;
        if !joined || segment.outbound || self.last == Some(Side::Client) {
            return;
        }
        if begins_request(data) {
            self.content = Content::Http1(http1(segment.at));
            if let Some(acknowledged) = segment.acknowledges {
                self.outbound.continue_at(acknowledged);
            }
            self.maybe_tunnel = false;
        } else if self.last == Some(Side::Application) {
            self.maybe_tunnel |= !is_encrypted(data);
        }
    }

    /// Reads the first bytes of a connection as soon as they show its protocol.
    fn begin(&mut self, now: u64, at: u64, bytes: Vec<u8>) -> Result<(), OutOfSync> {
        if bytes.starts_with(h2::PREFACE) {
            let mut h2 = H2::from_start();
            h2.counter.at = at;
            h2.inbound(now, &bytes);
            self.content = Content::H2(h2);
        } else if h2::PREFACE.starts_with(&bytes) {
            self.content = Content::Beginning(bytes);
        } else {
            let mut http = http1(at);
            let read = http.inbound(&bytes);
            if read.is_err() {
                self.count_unread();
            }
            read?;
            self.content = Content::Http1(http);
        }
        Ok(())
    }

    /// Whether its bytes are understood at present.
    fn is_read(&self) -> bool {
        match &self.content {
            Content::Beginning(_) | Content::Http1(_) => true,
            Content::H2(h2) => h2.is_followed(),
            Content::Unknown => false,
        }
    }

    fn count_unread(&mut self) {
        let was_unread = std::mem::replace(&mut self.is_unread, true);
        self.counted.unread += u64::from(!was_unread);
    }

    fn forget_unless(&mut self, followed: Result<(), OutOfSync>) {
        if followed.is_err() {
            self.take_counted();
            self.content = unknown(self.protocol);
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

fn http1(at: u64) -> Http1 {
    let mut http = Http1::default();
    http.counter.at = at;
    http
}

fn side(segment: &Segment<'_>) -> Side {
    match segment.outbound {
        true => Side::Application,
        false => Side::Client,
    }
}

/// A TLS record of a version in use (RFC 8446, section 5.1): it may contain requests.
fn is_encrypted(data: &[u8]) -> bool {
    matches!(data, [0x14..=0x17, 0x03, ..])
}

/// What is assumed of a connection that cannot be followed. HTTP/2 can be followed again from any segment that begins with
/// a frame.
fn unknown(protocol: Protocol) -> Content {
    match protocol {
        Protocol::H2c => Content::H2(H2::default()),
        Protocol::Http1 | Protocol::Stream => Content::Unknown,
    }
}

#[cfg(test)]
#[path = "connection/counts_tests.rs"]
mod counts_tests;
#[cfg(test)]
#[path = "connection/tests.rs"]
mod tests;
