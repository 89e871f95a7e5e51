//! Follows one HTTP/1.1 connection through the bytes of both directions, and knows which requests are not answered.
//!
//! Framing is RFC 9112, section 6.3. Bytes come in order; a hole is told with its length, and is harmless inside a
//! body whose end is counted.

mod body;
mod head;

use std::collections::VecDeque;

use body::Body;
use head::{Answer, Asked, HeadReader};

pub use head::begins_request;

/// Requests that may wait for their answers at once; proxies send one.
const MOST_PENDING: usize = 1000;

/// The bytes are not what HTTP/1.1 would have here, or a hole hid what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSync;

/// One direction's place between messages.
#[derive(Debug)]
enum Place {
    Head(HeadReader),
    Body(Body),
}

impl Default for Place {
    fn default() -> Self {
        Self::Head(HeadReader::default())
    }
}

/// Both directions of a connection, from the beginning of a request on.
#[derive(Debug, Default)]
pub struct Http1 {
    requests: Place,
    answers: Place,
    pending: VecDeque<Asked>,
    /// The answer that is under way has no end to wait for.
    endless: bool,
    /// Both sides speak something else by now.
    tunnel: bool,
}

impl Http1 {
    /// Bytes from the client.
    pub fn inbound(&mut self, mut bytes: &[u8]) -> Result<(), OutOfSync> {
        while !bytes.is_empty() && !self.tunnel {
            match &mut self.requests {
                Place::Head(reader) => {
                    if let Some(head) = reader.take(&mut bytes)? {
                        let (asked, body) = head::request(&head)?;
                        if self.pending.len() == MOST_PENDING {
                            return Err(OutOfSync);
                        }
                        self.pending.push_back(asked);
                        self.requests = body.map_or_else(Place::default, Place::Body);
                    }
                }
                Place::Body(body) => {
                    if body.take(&mut bytes)? {
                        self.requests = Place::default();
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
                Place::Head(reader) => {
                    if let Some(head) = reader.take(&mut bytes)? {
                        self.answer_begins(&head)?;
                    }
                }
                Place::Body(body) => {
                    if body.take(&mut bytes)? {
                        self.answer_ends();
                    }
                }
            }
        }
        Ok(())
    }

    /// So many bytes from the client were not seen.
    pub fn inbound_lost(&mut self, bytes: u64) -> Result<(), OutOfSync> {
        match &mut self.requests {
            _ if self.tunnel => {}
            Place::Head(_) => return Err(OutOfSync),
            Place::Body(body) => {
                if body.lose(bytes)? {
                    self.requests = Place::default();
                }
            }
        }
        Ok(())
    }

    /// So many bytes from the application were not seen.
    pub fn outbound_lost(&mut self, bytes: u64) -> Result<(), OutOfSync> {
        match &mut self.answers {
            _ if self.tunnel => {}
            Place::Head(_) => return Err(OutOfSync),
            Place::Body(body) => {
                if body.lose(bytes)? {
                    self.answer_ends();
                }
            }
        }
        Ok(())
    }

    /// The application has sent its last byte: nothing more will be answered.
    pub fn outbound_closed(&mut self) {
        self.pending.clear();
        self.requests = Place::default();
        self.answers = Place::default();
        self.endless = false;
    }

    /// Requests, begun or complete, whose answer has not left in full; an endless answer is none of them.
    pub fn unanswered(&self) -> u32 {
        let begun = matches!(&self.requests, Place::Head(reader) if reader.has_begun());
        let known = self.pending.len() - usize::from(self.endless && !self.pending.is_empty());
        u32::try_from(known).unwrap_or(u32::MAX) + u32::from(begun)
    }

    /// Whether only silence will tell that it is over: a tunnel, or an endless answer.
    pub fn streams(&self) -> bool {
        self.tunnel || self.endless
    }

    fn answer_begins(&mut self, head: &[u8]) -> Result<(), OutOfSync> {
        match head::answer(head, self.pending.front())? {
            Answer::Interim => self.answers = Place::default(),
            Answer::Tunnel => {
                self.outbound_closed();
                self.tunnel = true;
            }
            Answer::Final { body: None, .. } => self.answer_ends(),
            Answer::Final {
                body: Some(body),
                endless,
            } => {
                self.endless = endless;
                self.answers = Place::Body(body);
            }
        }
        Ok(())
    }

    fn answer_ends(&mut self) {
        self.pending.pop_front();
        self.endless = false;
        self.answers = Place::default();
    }
}

#[cfg(test)]
#[path = "http1/tests.rs"]
mod tests;
