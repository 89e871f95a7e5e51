//! A connection that ends when no request comes, or comes too slowly.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// From the connection to the end of its first request's head, and from a head's first byte to its last.
const HEAD: Duration = Duration::from_secs(5);
/// Between an answer and the next request.
const IDLE: Duration = Duration::from_secs(120);

/// Says that a request is being answered, which takes as long as it takes.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    /// Sets whether a request is being answered.
    pub fn set(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }
}

enum Waiting {
    /// Nothing has come since the last answer ended.
    Idle,
    Head,
    /// No deadline: a request is being answered.
    No,
}

/// Reads and writes as the stream in it does, until a deadline passes.
pub struct Deadline<S> {
    stream: S,
    busy: Busy,
    waiting: Waiting,
    sleep: Pin<Box<Sleep>>,
}

impl<S> Deadline<S> {
    /// The first deadline runs from now.
    pub fn new(stream: S, busy: Busy) -> Self {
        Self {
            stream,
            busy,
            waiting: Waiting::Head,
            sleep: Box::pin(sleep(HEAD)),
        }
    }

    fn wait(&mut self, waiting: Waiting, time: Duration) {
        self.waiting = waiting;
        self.sleep.as_mut().reset(Instant::now() + time);
    }

    // Before a read: what is waited for now.
    fn arm(&mut self) {
        match (self.busy.0.load(Ordering::Relaxed), &self.waiting) {
            (true, _) => self.waiting = Waiting::No,
            (false, Waiting::No) => self.wait(Waiting::Idle, IDLE),
            (false, _) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.arm();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() && matches!(self.waiting, Waiting::Idle) {
            self.wait(Waiting::Head, HEAD);
        }
        // A head that comes byte by byte is always ready to be read.
        let timed = !matches!(self.waiting, Waiting::No);
        if timed && self.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn lasts(stream: &mut Deadline<tokio::io::DuplexStream>) -> (Duration, bool) {
        let start = Instant::now();
        let result = stream.read_u8().await;
        (start.elapsed(), result.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_ends_after_five_seconds() {
        let (_client, server) = duplex(64);
        let mut stream = Deadline::new(server, Busy::default());
        let (time, alive) = lasts(&mut stream).await;
        assert_eq!((time.as_secs(), alive), (5, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_ends_after_five_seconds() {
        let (mut client, server) = duplex(64);
        let mut stream = Deadline::new(server, Busy::default());
        let start = Instant::now();
        tokio::spawn(async move {
            while client.write_u8(b'x').await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        while stream.read_u8().await.is_ok() {}
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_long_and_the_next_request_two_minutes() {
        let (mut client, server) = duplex(64);
        let busy = Busy::default();
        let mut stream = Deadline::new(server, busy.clone());
        busy.set(true);
        let answer = tokio::time::timeout(Duration::from_secs(9999), stream.read_u8());
        assert!(answer.await.is_err());
        busy.set(false);
        assert_eq!(lasts(&mut stream).await, (IDLE, false));
        busy.set(true);
        stream.arm();
        busy.set(false);
        stream.arm();
        client.write_u8(b'G').await.unwrap();
        assert!(lasts(&mut stream).await.1);
        assert_eq!(lasts(&mut stream).await, (HEAD, false));
    }
}
