//! Follows one HTTP/2 connection (RFC 9113) through its frame headers, and counts the streams that are not answered.
//!
//! A connection captured from its middle may have silent streams that were opened before. They show only when a frame
//! names them, so the count is certain only after the connection was followed for the quiet time.

mod frames;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use frames::{Event, Frames, Kind};

pub use frames::PREFACE;

/// Streams that are followed at once; servers allow hundreds. A connection with more is followed like one captured from
/// its middle.
const MOST_STREAMS: usize = 10_000;

/// Both directions of a connection.
#[derive(Debug)]
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
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    answering: bool,
    moved_at: u64,
}

impl H2 {
    /// A connection captured from its first byte; its preface comes next.
    pub fn from_start() -> Self {
        Self {
            inbound: Frames::at_preface(),
            outbound: Frames::at_frame(),
            open: HashMap::new(),
            newest: 0,
            first: None,
            followed_since: Some(0),
            from_start: true,
        }
    }

    /// A connection captured from its middle.
    pub fn joined() -> Self {
        Self {
            inbound: Frames::Lost,
            outbound: Frames::Lost,
            followed_since: None,
            from_start: false,
            ..Self::from_start()
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

    /// Streams whose answer is not complete. An answer that has begun and is silent for `quiet` milliseconds is a
    /// subscription and does not count.
    pub fn unanswered(&self, now: u64, quiet: u64) -> u32 {
        let waits =
            |stream: &&Stream| !stream.answering || now.saturating_sub(stream.moved_at) < quiet;
        u32::try_from(self.open.values().filter(waits).count()).unwrap_or(u32::MAX)
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
            let newest = self.newest;
            *self = Self {
                newest,
                ..Self::joined()
            };
        }
    }

    fn client_event(&mut self, now: u64, event: Event) {
        match event {
            Event::Begins(frame) if frame.kind == Kind::Headers && frame.stream > self.newest => {
                self.newest = frame.stream;
                self.first.get_or_insert(frame.stream);
                self.open.insert(frame.stream, Stream::asked(now));
            }
            Event::Begins(frame) if matches!(frame.kind, Kind::Headers | Kind::Data) => {
                if let Some(stream) = self.stream(frame.stream, Stream::asked(now)) {
                    stream.moved_at = now;
                }
            }
            Event::Ends(frame) if frame.kind == Kind::Reset => {
                self.open.remove(&frame.stream);
            }
            _ => {}
        }
    }

    fn application_event(&mut self, now: u64, event: Event) {
        let (Event::Begins(frame) | Event::Ends(frame)) = event;
        let is_last = frame.kind == Kind::Reset || frame.ends_stream();
        match (event, frame.kind) {
            (Event::Ends(_), _) if is_last => {
                self.open.remove(&frame.stream);
            }
            (_, Kind::Headers | Kind::Data) => {
                if let Some(stream) = self.stream(frame.stream, Stream::answering(now)) {
                    *stream = Stream::answering(now);
                }
            }
            _ => {}
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
        }
    }

    fn answering(now: u64) -> Self {
        Self {
            answering: true,
            moved_at: now,
        }
    }
}

#[cfg(test)]
#[path = "h2/tests.rs"]
mod tests;
