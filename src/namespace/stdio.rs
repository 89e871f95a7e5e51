//! Lines in and out: what the CLI asks, when it is gone, and what it is told.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::traffic::Ask;

/// Standard input and the signals that end the helper.
pub struct Orders {
    asks: UnboundedReceiver<u64>,
    terminate: Signal,
    interrupt: Signal,
}

impl Orders {
    /// Starts to listen; as process 1 of a container, only a handler makes SIGTERM end it.
    pub fn listen() -> io::Result<Self> {
        let (sender, asks) = unbounded_channel();
        // A thread of its own, since a read of standard input cannot be cancelled and must not delay the exit.
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || {
                for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
                    let ask = serde_json::from_slice(&line).ok();
                    if ask.is_some_and(|Ask { ask }| sender.send(ask).is_err()) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            asks,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next question, or `None` when it is time to leave. Cancel-safe. Lines that are no question are ignored.
    pub async fn next(&mut self) -> Option<u64> {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
            ask = self.asks.recv() => ask,
        }
    }
}

/// Writes one JSON line; an error means that nobody reads any more.
pub fn emit(line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
