//! Follows one HTTP/2 connection through its frame headers, and knows which streams are not answered.
//!
//! RFC 9113. A connection that was joined halfway may have streams that no frame has named yet: until it has been
//! followed for the quiet time, they cannot be told from none.

mod frames;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use frames::{Event, Frames, Kind};

pub use frames::PREFACE;

/// Streams that are followed at once; servers allow hundreds. A connection with more is begun anew, as one joined
/// halfway.
const MOST_STREAMS: usize = 10_000;

/// Both directions of a connection.
#[derive(Debug)]
pub struct H2 {
    inbound: Frames,
    outbound: Frames,
    open: HashMap<u32, Stream>,
    /// The newest stream that the client has opened.
    newest: u32,
    /// The first stream that was seen to be opened; older ones were there before.
    first: Option<u32>,
    /// Since when both directions are followed, in milliseconds; `None` while one of them is not.
    followed_since: Option<u64>,
    from_start: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    answering: bool,
    moved_at: u64,
}

impl H2 {
    /// A connection whose preface is about to be fed.
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

    /// A connection that was there before the watch.
    pub fn joined() -> Self {
        Self {
            inbound: Frames::astray(),
            outbound: Frames::astray(),
            followed_since: None,
            from_start: false,
            ..Self::from_start()
        }
    }

    /// A segment's bytes from the client, at `now` milliseconds.
    pub fn inbound(&mut self, now: u64, bytes: &[u8]) {
        let events = self.inbound.feed(bytes);
        self.notice(now);
        for event in events {
            self.client_says(now, event);
            self.begin_anew_if_crowded();
        }
    }

    /// A segment's bytes from the application, at `now` milliseconds.
    pub fn outbound(&mut self, now: u64, bytes: &[u8]) {
        let events = self.outbound.feed(bytes);
        self.notice(now);
        for event in events {
            self.application_says(now, event);
            self.begin_anew_if_crowded();
        }
    }

    /// So many bytes from the client were not seen.
    pub fn inbound_lost(&mut self, now: u64, bytes: u64) {
        self.inbound.lose(bytes);
        self.notice(now);
    }

    /// So many bytes from the application were not seen.
    pub fn outbound_lost(&mut self, now: u64, bytes: u64) {
        self.outbound.lose(bytes);
        self.notice(now);
    }

    /// Streams whose answer has not left in full. One whose answer has begun and been silent for `quiet` milliseconds
    /// is a subscription, and none of them.
    pub fn unanswered(&self, now: u64, quiet: u64) -> u32 {
        let waits =
            |stream: &&Stream| !stream.answering || now.saturating_sub(stream.moved_at) < quiet;
        u32::try_from(self.open.values().filter(waits).count()).unwrap_or(u32::MAX)
    }

    /// Whether every stream that matters has been named by a frame; otherwise silence alone tells.
    pub fn is_certain(&self, now: u64, quiet: u64) -> bool {
        let long_enough = |since| self.from_start || now.saturating_sub(since) >= quiet;
        self.followed_since.is_some_and(long_enough)
    }

    /// Keeps the account of what can be relied on; a direction that was lost makes it a connection joined halfway.
    fn notice(&mut self, now: u64) {
        let followed = self.inbound.is_followed() && self.outbound.is_followed();
        if !followed && self.followed_since.take().is_some() {
            self.from_start = false;
            // Any of them may end unseen, so that silence has to do.
            for stream in self.open.values_mut() {
                *stream = Stream::answering(now);
            }
        } else if followed {
            self.followed_since.get_or_insert(now);
        }
    }

    fn begin_anew_if_crowded(&mut self) {
        if self.open.len() > MOST_STREAMS {
            let newest = self.newest;
            *self = Self {
                newest,
                ..Self::joined()
            };
        }
    }

    fn client_says(&mut self, now: u64, event: Event) {
        match event {
            Event::Begins(frame) if frame.kind == Kind::Headers && frame.stream > self.newest => {
                self.newest = frame.stream;
                self.first.get_or_insert(frame.stream);
                self.open.insert(frame.stream, Stream::asked(now));
            }
            Event::Begins(frame) if matches!(frame.kind, Kind::Headers | Kind::Data) => {
                if let Some(stream) = self.known(frame.stream, Stream::asked(now)) {
                    stream.moved_at = now;
                }
            }
            Event::Ends(frame) if frame.kind == Kind::Reset => {
                self.open.remove(&frame.stream);
            }
            _ => {}
        }
    }

    fn application_says(&mut self, now: u64, event: Event) {
        let (Event::Begins(frame) | Event::Ends(frame)) = event;
        let over = frame.kind == Kind::Reset || frame.ends_stream();
        match (event, frame.kind) {
            (Event::Ends(_), _) if over => {
                self.open.remove(&frame.stream);
            }
            (_, Kind::Headers | Kind::Data) => {
                if let Some(stream) = self.known(frame.stream, Stream::answering(now)) {
                    *stream = Stream::answering(now);
                }
            }
            _ => {}
        }
    }

    /// An open stream, or one that may have been opened before the watch began; frames still come for closed ones.
    fn known(&mut self, id: u32, otherwise: Stream) -> Option<&mut Stream> {
        let may_be_older = !self.from_start && self.first.is_none_or(|first| id < first);
        match self.open.entry(id) {
            Entry::Occupied(stream) => Some(stream.into_mut()),
            Entry::Vacant(place) => may_be_older.then(|| place.insert(otherwise)),
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
