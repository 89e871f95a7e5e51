//! Follows one HTTP/1.1 connection through the bytes of both directions, and counts the requests that are answered and
//! those that are not.
//!
//! Framing is RFC 9112, section 6.3. Bytes come in order. A gap comes with its length, and is harmless inside a body of
//! known length.

mod body;
mod head;

use std::collections::VecDeque;

use super::wire::Counter;

use body::Body;
use head::{Answer, Asked, HeadReader};

pub use head::begins_request;

/// Requests on one connection that may wait for their answers; proxies send one at a time.
const MOST_PENDING: usize = 1000;
/// The longest head, and the longest line of a chunked body. Servers refuse longer ones.
const LONGEST: usize = 128 * 1024;

/// The bytes are not HTTP/1.1, or a gap makes them unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSync;

/// The part of a message that comes next in one direction.
#[derive(Debug)]
enum Part {
    Head(HeadReader),
    Body(Body),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(HeadReader::default())
    }
}

#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// When its first byte was captured.
    since: u64,
    /// Its answer has begun.
    is_answered: bool,
}

/// Both directions of a connection, from the beginning of a request.
#[derive(Debug, Default)]
pub struct Http1 {
    requests: Part,
    answers: Part,
    pending: VecDeque<Pending>,
    /// The current answer has no end to wait for.
    endless: bool,
    /// The connection was upgraded to another protocol.
    tunnel: bool,
    /// The client has closed its side: it may not wait for what is still unanswered.
    given_up: bool,
    /// When the first byte of the newest request and of the newest answer was captured.
    asked_at: u64,
    answered_at: u64,
    pub counter: Counter,
}

impl Http1 {
    /// Bytes from the client.
    pub fn inbound(&mut self, mut bytes: &[u8]) -> Result<(), OutOfSync> {
        while !bytes.is_empty() && !self.tunnel {
            match &mut self.requests {
                Part::Head(reader) => {
                    if !reader.has_begun() {
                        self.asked_at = self.counter.at;
                    }
                    if let Some(head) = reader.take(&mut bytes)? {
                        let (asked, body) = head::request(&head)?;
                        if self.pending.len() == MOST_PENDING {
                            return Err(OutOfSync);
                        }
                        self.pending.push_back(Pending {
                            asked,
                            since: self.asked_at,
                            is_answered: false,
                        });
                        self.requests = body.map_or_else(Part::default, Part::Body);
                    }
                }
                Part::Body(body) => {
                    if body.take(&mut bytes)? {
                        self.requests = Part::default();
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes from the application.
    pub fn outbound(&mut self, mut bytes: &[u8]) -> Result<(), OutOfSync> {
        while !bytes.is_empty() && !self.tunnel {
            match &mut self.answers {
                Part::Head(reader) => {
                    if !reader.has_begun() {
                        self.answered_at = self.counter.at;
                    }
                    if let Some(head) = reader.take(&mut bytes)? {
                        self.answer_begins(&head)?;
                    }
                }
                Part::Body(body) => {
                    if body.take(&mut bytes)? {
                        self.answer_ends();
                    }
                }
            }
        }
        Ok(())
    }

    /// This number of bytes from the client was not captured.
    pub fn inbound_lost(&mut self, bytes: u64) -> Result<(), OutOfSync> {
        match &mut self.requests {
            _ if self.tunnel => {}
            Part::Head(_) => return Err(OutOfSync),
            Part::Body(body) => {
                if body.lose(bytes)? {
                    self.requests = Part::default();
                }
            }
        }
        Ok(())
    }

    /// This number of bytes from the application was not captured.
    pub fn outbound_lost(&mut self, bytes: u64) -> Result<(), OutOfSync> {
        match &mut self.answers {
            _ if self.tunnel => {}
            Part::Head(_) => return Err(OutOfSync),
            Part::Body(body) => {
                if body.lose(bytes)? {
                    self.answer_ends();
                }
            }
        }
        Ok(())
    }

    /// The client has closed its side. An answer may still come.
    pub fn inbound_closed(&mut self) {
        self.given_up = true;
    }

    /// The application has closed its side: it answers nothing more.
    pub fn outbound_closed(&mut self) {
        let waits = |own: &&Pending| !own.is_answered && !self.given_up;
        let lost = self.pending.iter().filter(waits).count();
        self.counter.wire.unanswered += lost as u64;
        self.pending.clear();
        self.requests = Part::default();
        self.answers = Part::default();
        self.endless = false;
    }

    /// Requests, incomplete ones too, whose answer is not complete. An endless answer does not count.
    pub fn unanswered(&self) -> u32 {
        let begun = matches!(&self.requests, Part::Head(reader) if reader.has_begun());
        let known = self.pending.len() - usize::from(self.endless && !self.pending.is_empty());
        u32::try_from(known).unwrap_or(u32::MAX) + u32::from(begun)
    }

    /// Whether only silence shows the end: a tunnel, or an endless answer.
    pub fn streams(&self) -> bool {
        self.tunnel || self.endless
    }

    fn answer_begins(&mut self, head: &[u8]) -> Result<(), OutOfSync> {
        let asked = self.pending.front().map(|own| &own.asked);
        match head::answer(head, asked)? {
            Answer::Interim => self.answers = Part::default(),
            Answer::Tunnel => {
                self.count_answer(1);
                self.outbound_closed();
                self.tunnel = true;
            }
            Answer::Final {
                class,
                body,
                endless,
            } => {
                self.count_answer(class);
                match body {
                    None => self.answer_ends(),
                    Some(body) => {
                        self.endless = endless;
                        self.answers = Part::Body(body);
                    }
                }
            }
        }
        Ok(())
    }

    /// An answer without a request is not counted.
    fn count_answer(&mut self, class: u16) {
        if let Some(front) = self.pending.front_mut() {
            front.is_answered = true;
            let since = front.since;
            self.counter.answered(class, since, self.answered_at);
        }
    }

    fn answer_ends(&mut self) {
        self.pending.pop_front();
        self.endless = false;
        self.answers = Part::default();
    }
}

/// Moves bytes up to the end of a line from the front of `bytes` to the end of `to`; true if the line is complete.
fn take_line(to: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, OutOfSync> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (taken, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
    to.extend_from_slice(taken);
    *bytes = rest;
    match to.len() <= LONGEST {
        true => Ok(end.is_some()),
        false => Err(OutOfSync),
    }
}

#[cfg(test)]
#[path = "http1/tests.rs"]
mod tests;
