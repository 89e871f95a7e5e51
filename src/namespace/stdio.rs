//! The helper's input and output: requests and the end of the CLI, and JSON lines.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::traffic::Ask;

/// Standard input, and the signals that end the helper.
pub struct Requests {
    lines: UnboundedReceiver<Ask>,
    terminate: Signal,
    interrupt: Signal,
}

impl Requests {
    /// Starts to read. Process 1 of a container ends on SIGTERM only if it has a handler.
    pub fn listen() -> io::Result<Self> {
        let (sender, lines) = unbounded_channel();
        // In a thread of its own: a read of standard input cannot be cancelled, and must not delay the exit.
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || {
                for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
                    let ask = serde_json::from_slice(&line).ok();
                    if ask.is_some_and(|ask: Ask| sender.send(ask).is_err()) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            lines,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next request; `None` if the helper has to end. Cancel-safe. Other lines are ignored.
    pub async fn next(&mut self) -> Option<Ask> {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
            ask = self.lines.recv() => ask,
        }
    }
}

/// Writes one JSON line; an error means that the reader is gone.
pub fn emit(line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
