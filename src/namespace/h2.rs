//! Follows one HTTP/2 connection (RFC 9113) through its frames, and counts the streams that are answered and those that are
//! not.
//!
//! A connection captured from its middle may have silent streams that were opened before. They show only when a frame
//! names them, so the count is certain only after the connection was followed for the quiet time.

mod frames;
mod statuses;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::wire::Counter;

use frames::{Event, Frame, Frames, Kind};
use statuses::Statuses;

pub use frames::PREFACE;

/// Streams that are followed at once; servers allow hundreds. A connection with more is followed like one captured from
/// its middle.
const MOST_STREAMS: usize = 10_000;
/// The longest header fields that are read, in bytes.
const MOST_FIELDS: usize = 64 * 1024;

/// Both directions of a connection; the default is one captured from its middle.
#[derive(Debug, Default)]
pub struct H2 {
    inbound: Frames,
    outbound: Frames,
    open: HashMap<u32, Stream>,
    /// The newest stream that the client has opened.
    newest: u32,
    /// The first stream whose opening was captured. Streams with lower numbers may have been open before.
    first: Option<u32>,
    /// The time from which both directions are followed, in milliseconds; `None` while one of them is not.
    followed_since: Option<u64>,
    from_start: bool,
    statuses: Statuses,
    /// The header fields of an answer that have arrived; `None` while a part of them is missing.
    fields: Option<Vec<u8>>,
    /// When the first byte of the newest header fields of an answer was captured.
    answered_at: u64,
    /// The client has closed its side: it may not wait for what is still unanswered.
    given_up: bool,
    pub counter: Counter,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    answering: bool,
    moved_at: u64,
    /// When the first byte of its request was captured; `None` once its answer is counted, or if it is not to be counted.
    asked_at: Option<u64>,
}

impl H2 {
    /// A connection captured from its first byte; its preface comes next.
    pub fn from_start() -> Self {
        Self {
            inbound: Frames::at_preface(),
            outbound: Frames::at_frame(),
            followed_since: Some(0),
            from_start: true,
            ..Self::default()
        }
    }

    /// A segment's bytes from the client, at `now` milliseconds.
    pub fn inbound(&mut self, now: u64, bytes: &[u8]) {
        let events = self.inbound.feed(bytes);
        self.check_followed(now);
        for event in events {
            self.client_event(now, event);
            self.restart_if_crowded();
        }
    }

    /// A segment's bytes from the application, at `now` milliseconds.
    pub fn outbound(&mut self, now: u64, bytes: &[u8]) {
        let events = self.outbound.feed(bytes);
        self.check_followed(now);
        for event in events {
            self.application_event(now, event);
            self.restart_if_crowded();
        }
    }

    /// This number of bytes from the client was not captured.
    pub fn inbound_lost(&mut self, now: u64, bytes: u64) {
        self.inbound.lose(bytes);
        self.check_followed(now);
    }

    /// This number of bytes from the application was not captured.
    pub fn outbound_lost(&mut self, now: u64, bytes: u64) {
        self.outbound.lose(bytes);
        self.check_followed(now);
    }

    /// The client has closed its side. Answers may still come.
    pub fn inbound_closed(&mut self) {
        self.given_up = true;
    }

    /// The application has closed its side: it answers nothing more.
    pub fn outbound_closed(&mut self) {
        for stream in self.open.values_mut() {
            if stream.asked_at.take().is_some() && !self.given_up {
                self.counter.wire.unanswered += 1;
            }
        }
    }

    /// Streams whose answer is not complete. An answer that has begun and is silent for `quiet` milliseconds is a
    /// subscription and does not count.
    pub fn unanswered(&self, now: u64, quiet: u64) -> u32 {
        let waits =
            |stream: &&Stream| !stream.answering || now.saturating_sub(stream.moved_at) < quiet;
        u32::try_from(self.open.values().filter(waits).count()).unwrap_or(u32::MAX)
    }

    /// Whether both directions are read at present.
    pub fn is_followed(&self) -> bool {
        self.followed_since.is_some()
    }

    /// Whether no open stream can be missing from the count.
    pub fn is_certain(&self, now: u64, quiet: u64) -> bool {
        let long_enough = |since| self.from_start || now.saturating_sub(since) >= quiet;
        self.followed_since.is_some_and(long_enough)
    }

    /// Notes whether both directions are followed. Losing one makes this a connection captured from its middle.
    fn check_followed(&mut self, now: u64) {
        let followed = self.inbound.is_followed() && self.outbound.is_followed();
        if !followed && self.followed_since.take().is_some() {
            self.from_start = false;
            self.statuses = Statuses::default();
            // The end of any stream may have been missed, so each one counts until it is silent.
            for stream in self.open.values_mut() {
                *stream = Stream::answering(now);
            }
        } else if followed {
            self.followed_since.get_or_insert(now);
        }
    }

    fn restart_if_crowded(&mut self) {
        if self.open.len() > MOST_STREAMS {
            let (newest, counter) = (self.newest, std::mem::take(&mut self.counter));
            *self = Self {
                newest,
                counter,
                ..Self::default()
            };
        }
    }

    fn client_event(&mut self, now: u64, event: Event) {
        match event {
            Event::Begins(frame) if frame.kind == Kind::Headers && frame.stream > self.newest => {
                self.newest = frame.stream;
                self.first.get_or_insert(frame.stream);
                let asked_at = Some(self.counter.at);
                let stream = Stream {
                    asked_at,
                    ..Stream::asked(now)
                };
                self.open.insert(frame.stream, stream);
            }
            Event::Begins(frame) if matches!(frame.kind, Kind::Headers | Kind::Data) => {
                if let Some(stream) = self.stream(frame.stream, Stream::asked(now)) {
                    stream.moved_at = now;
                }
            }
            Event::Ends(frame, _) if frame.kind == Kind::Reset => {
                self.open.remove(&frame.stream);
            }
            _ => {}
        }
    }

    fn application_event(&mut self, now: u64, event: Event) {
        let frame = match event {
            Event::Begins(frame) => {
                if frame.kind == Kind::Headers {
                    (self.fields, self.answered_at) = (Some(Vec::new()), self.counter.at);
                }
                frame
            }
            Event::Ends(frame, payload) => {
                self.count(&frame, &payload);
                if frame.kind == Kind::Reset || frame.ends_stream() {
                    self.open.remove(&frame.stream);
                    return;
                }
                frame
            }
        };
        if matches!(frame.kind, Kind::Headers | Kind::Data)
            && let Some(stream) = self.stream(frame.stream, Stream::answering(now))
        {
            (stream.answering, stream.moved_at) = (true, now);
        }
    }

    /// Counts the answer that a frame of the application begins, or that its reset makes impossible.
    fn count(&mut self, frame: &Frame, payload: &[u8]) {
        match frame.kind {
            Kind::Headers | Kind::Continuation => {
                let kept = self.fields.take();
                self.fields = kept.zip(frame.fields(payload)).map(|(mut all, more)| {
                    all.extend_from_slice(more);
                    all
                });
                self.fields.take_if(|all| all.len() > MOST_FIELDS);
                if frame.ends_headers() {
                    self.count_answer(frame.stream);
                }
            }
            Kind::Reset => {
                let stream = self.open.get_mut(&frame.stream);
                if stream.and_then(|own| own.asked_at.take()).is_some() {
                    self.counter.wire.unanswered += 1;
                }
            }
            Kind::Data | Kind::Other => {}
        }
    }

    fn count_answer(&mut self, stream: u32) {
        let class = self.fields.take().map(|all| self.statuses.read(&all));
        let class = match class {
            Some(Ok(class)) => class,
            // Fields that were missed may have been added to the table, so later indices are not known.
            Some(Err(_)) | None => {
                self.statuses = Statuses::default();
                None
            }
        };
        let stream = self.open.get_mut(&stream);
        let asked_at = stream.filter(|_| class != Some(1));
        let Some(asked_at) = asked_at.and_then(|own| own.asked_at.take()) else {
            return;
        };
        match class {
            Some(class) => self.counter.answered(class, asked_at, self.answered_at),
            None => self.counter.wire.unread += 1,
        }
    }

    /// An open stream, or one that may have been open before the capture; `None` for a closed one, which may still get
    /// frames.
    fn stream(&mut self, id: u32, if_older: Stream) -> Option<&mut Stream> {
        let may_be_older = !self.from_start && self.first.is_none_or(|first| id < first);
        match self.open.entry(id) {
            Entry::Occupied(stream) => Some(stream.into_mut()),
            Entry::Vacant(vacant) => may_be_older.then(|| vacant.insert(if_older)),
        }
    }
}

impl Stream {
    fn asked(now: u64) -> Self {
        Self {
            answering: false,
            moved_at: now,
            asked_at: None,
        }
    }

    fn answering(now: u64) -> Self {
        Self {
            answering: true,
            moved_at: now,
            asked_at: None,
        }
    }
}

#[cfg(test)]
#[path = "h2/tests.rs"]
mod tests;
