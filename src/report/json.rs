//! One event a line, as JSON.

use std::io::Write;

use crate::event::{Event, Sink};

/// Writes to standard output, or to a file that keeps a record beside another sink.
pub struct Json<W> {
    to: W,
}

impl<W: Write + Send> Json<W> {
    /// Writes each event to `to` and flushes it, so that a reader sees it at once.
    pub fn new(to: W) -> Self {
        Self { to }
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn event(&mut self, event: &Event) {
        let Ok(line) = serde_json::to_string(event) else {
            return;
        };
        // A reader that has gone away is no reason to stop half-way through a rollout.
        let _ = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
    }
}
