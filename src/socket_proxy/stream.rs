//! One reader's event stream: the engine's events without those of hidden containers, and a nudge for each generation.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

use super::{
    daemon::Daemon,
    engine::{Ask, Unanswered},
    events::{self, Event, MAX_LINE, Next, Queue, Verdicts},
    limits::Permit,
    only,
    request::{ApiVersion, Query},
    snapshot::Reader,
    store::Published,
};
use crate::docker::http::{Body, BoxError};

/// How long a loss is held back from a reader during a rollout, which may replace the server meanwhile. If Traefik read the
/// loss alone, it would keep it for its throttle time, 2 s by default.
const MADE_GOOD: Duration = Duration::from_millis(500);
/// The most losses that are held back. More at once are not the loss of a single replica.
const MOST_LOSSES: usize = 64;
/// How long a reader may take to list after a nudge before it gets another.
const PATIENCE: Duration = Duration::from_secs(1);
/// Further nudges for one generation; a reader that has not listed by then does not list at all.
const MORE_NUDGES: u32 = 30;

/// Opens the engine's stream, then the reader's.
pub async fn open(
    daemon: Arc<Daemon>,
    reader: Reader,
    permit: Permit,
    mut query: Query,
    version: Option<ApiVersion>,
) -> Result<Body, Unanswered> {
    let wanted = events::narrow(&mut query);
    let path = format!("/events{}", query.encode());
    let ask = Ask {
        version,
        path: &path,
        kind: "event",
    };
    let engine = daemon.engine.events(ask).await?.into_body();
    let (sender, mut receiver) = mpsc::channel(1);
    let pump = Pump::new(daemon, reader, wanted);
    tokio::spawn(async move {
        pump.run(lines(engine), sender).await;
        drop(permit);
    });
    let received = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let frames = received.map(|bytes| Ok(Frame::data(bytes)));
    Ok(BodyExt::boxed(StreamBody::new(frames)))
}

/// The lines of an engine's stream. Ends with the stream, or at a line that is no text or too long to be an event.
pub fn lines<B>(body: B) -> impl Stream<Item = String> + Unpin
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let bytes = body.into_data_stream().map_err(std::io::Error::other);
    let codec = LinesCodec::new_with_max_length(MAX_LINE);
    let lines = FramedRead::new(StreamReader::new(bytes), codec);
    Box::pin(
        lines
            .take_while(|line| std::future::ready(line.is_ok()))
            .filter_map(|line| std::future::ready(line.ok())),
    )
}

struct Pump {
    daemon: Arc<Daemon>,
    reader: Reader,
    /// Whether the reader's query includes events of containers.
    wanted: bool,
    published: watch::Receiver<Published>,
    verdicts: Verdicts,
    queue: Queue,
    /// Losses that are held back, each with the end of its time, in order.
    losses: VecDeque<(Instant, Bytes)>,
    nudges: Nudges,
}

impl Pump {
    fn new(daemon: Arc<Daemon>, reader: Reader, wanted: bool) -> Self {
        let mut published = daemon.store.subscribe();
        let announced = published.borrow_and_update().announced;
        let mut snapshots = daemon.snapshots.lock().unwrap();
        snapshots.stream_opened(&reader);
        let listed = snapshots.generation(&reader);
        drop(snapshots);
        let mut pump = Self {
            daemon,
            reader,
            wanted,
            published,
            verdicts: Verdicts::default(),
            queue: Queue::default(),
            losses: VecDeque::new(),
            nudges: Nudges::default(),
        };
        // Traefik lists before it subscribes, and would miss what changed in between, on the engine or in the overlay. If
        // nothing changed, it reads the same again and does not reload.
        if let Some(listed) = listed.filter(|_| wanted) {
            pump.queue.nudge();
            if listed < announced {
                pump.announce(announced);
            }
        }
        pump
    }

    async fn run(mut self, mut lines: impl Stream<Item = String> + Unpin, to: mpsc::Sender<Bytes>) {
        loop {
            let loss_due = self.losses.front().map(|(due, _)| *due);
            tokio::select! {
                line = lines.next() => match line {
                    Some(line) => self.hear(&line),
                    None => break,
                },
                Ok(()) = self.published.changed() => {
                    let announced = self.published.borrow_and_update().announced;
                    self.announce(announced);
                }
                () = sleep_until(self.nudges.due.unwrap_or_else(Instant::now)), if self.nudges.due.is_some() => {
                    self.ask_again();
                }
                () = sleep_until(loss_due.unwrap_or_else(Instant::now)), if loss_due.is_some() => self.pass_loss(),
                slot = to.reserve(), if !self.queue.is_empty() => match slot {
                    Ok(slot) => self.send(slot),
                    Err(_) => return,
                },
                () = to.closed() => return,
            }
        }
        self.finish(to).await;
    }

    // The reader still gets what came before the end of the engine's stream.
    async fn finish(mut self, to: mpsc::Sender<Bytes>) {
        while !self.losses.is_empty() {
            self.pass_loss();
        }
        while !self.queue.is_empty() {
            match to.reserve().await {
                Ok(slot) => self.send(slot),
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, line: &str) {
        let only = &self.daemon.only;
        let seen = Event::parse(line).filter(|event| only::admits(only, &event.attributes));
        let Some(event) = seen.filter(|event| self.verdicts.is_new(event)) else {
            return;
        };
        let overlay = self.published.borrow().overlay.clone();
        let Some(shown) = event.for_reader(&overlay).filter(|_| self.wanted) else {
            return;
        };
        match event.is_a_loss_that_may_be_made_good(&overlay) {
            true if self.losses.len() < MOST_LOSSES => {
                self.losses.push_back((Instant::now() + MADE_GOOD, shown));
            }
            _ => self.queue.push(shown),
        }
    }

    fn pass_loss(&mut self) {
        if let Some((_, shown)) = self.losses.pop_front() {
            self.queue.push(shown);
        }
    }

    fn announce(&mut self, announced: u64) {
        if self.wanted && self.nudges.announce(announced) {
            self.queue.nudge();
        }
    }

    fn ask_again(&mut self) {
        let listed = self.daemon.snapshots.lock().unwrap();
        let listed = listed.generation(&self.reader);
        if self.nudges.again(listed) {
            tracing::debug!(reader = %self.reader.address, "nudged again: it has not listed");
            self.queue.nudge();
        }
    }

    fn send(&mut self, slot: mpsc::Permit<'_, Bytes>) {
        match self.queue.pop() {
            Some(Next::Event(event)) => slot.send(event),
            Some(Next::Nudge) => slot.send(events::nudge(SystemTime::now())),
            None => {}
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let mut snapshots = self.daemon.snapshots.lock().unwrap();
        snapshots.stream_closed(&self.reader);
    }
}

/// Decides when a reader gets another nudge.
#[derive(Default)]
struct Nudges {
    announced: u64,
    due: Option<Instant>,
    given: u32,
}

impl Nudges {
    // True if there was no nudge for this generation yet.
    fn announce(&mut self, announced: u64) -> bool {
        if announced <= self.announced {
            return false;
        }
        self.announced = announced;
        self.given = 0;
        self.due = Some(Instant::now() + PATIENCE);
        true
    }

    // True if the reader still has not listed the generation.
    fn again(&mut self, listed: Option<u64>) -> bool {
        let behind = listed.is_none_or(|listed| listed < self.announced);
        let again = behind && self.given < MORE_NUDGES;
        self.due = again.then(|| Instant::now() + PATIENCE);
        self.given += u32::from(again);
        again
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io::BufRead};

    use futures_util::stream;
    use http_body_util::StreamBody;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        arbitrary::mutated,
        docker::http::Endpoint,
        namespace::segmentation::segments,
        socket_proxy::{
            engine::Engine,
            snapshot::List,
            store::Store,
            testing::{claim, set},
        },
    };

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_list_gets_a_few_more_nudges() {
        let mut nudges = Nudges::default();
        assert!(nudges.announce(5));
        assert!(!nudges.announce(5));
        let start = Instant::now();
        let mut given = 0;
        while let Some(due) = nudges.due {
            sleep_until(due).await;
            given += u64::from(nudges.again(Some(4)));
            assert!(start.elapsed() >= PATIENCE * given as u32);
        }
        assert_eq!(given, u64::from(MORE_NUDGES));
        assert!(nudges.announce(6));
        assert!(nudges.due.is_some());
    }

    // A pump without an engine, and the receiver of its output.
    async fn pump() -> (
        Arc<Daemon>,
        Reader,
        mpsc::Receiver<Bytes>,
        tempfile::TempDir,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::new(Endpoint::Unix(directory.path().join("none")));
        let store = Store::open(directory.path()).unwrap();
        let daemon = Daemon::new(engine, store, Vec::new(), false, ([127, 0, 0, 1], 0).into());
        let reader = Reader {
            address: [127, 0, 0, 1].into(),
            user_agent: "Traefik".to_owned(),
        };
        let (sender, receiver) = mpsc::channel(1);
        let pump = Pump::new(daemon.clone(), reader.clone(), true);
        tokio::spawn(pump.run(futures_util::stream::pending(), sender));
        (daemon, reader, receiver, directory)
    }

    fn list(daemon: &Daemon, reader: &Reader) {
        let mut snapshots = daemon.snapshots.lock().unwrap();
        let list = List {
            overlay: daemon.store.current(),
            ..List::default()
        };
        snapshots.listed(1, reader, list);
    }

    #[tokio::test]
    async fn a_new_generation_nudges_at_once_and_again_until_the_reader_lists() {
        let (daemon, reader, mut events, _directory) = pump().await;
        list(&daemon, &reader);
        set(&daemon, claim(1, "hold", vec![])).await;
        let first = events.recv().await.unwrap();
        assert!(String::from_utf8_lossy(&first).contains("health_status: healthy"));
        tokio::time::pause();
        let start = Instant::now();
        events.recv().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);
        list(&daemon, &reader);
        let more = tokio::time::timeout(Duration::from_secs(60), events.recv());
        assert!(more.await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_opens_after_a_list_begins_with_a_nudge_for_what_the_reader_may_have_missed()
     {
        let (daemon, reader, _events, _directory) = pump().await;
        let first = Pump::new(daemon.clone(), reader.clone(), true);
        assert!(first.queue.is_empty(), "it has not listed yet");
        drop(first);
        list(&daemon, &reader);
        set(&daemon, claim(1, "hold", vec![])).await;
        let late = Pump::new(daemon.clone(), reader.clone(), true);
        assert!(!late.queue.is_empty() && late.nudges.due.is_some());
        list(&daemon, &reader);
        let current = Pump::new(daemon.clone(), reader.clone(), true);
        assert!(!current.queue.is_empty(), "the engine may have changed");
        assert!(current.nudges.due.is_none(), "once is enough");
        assert_eq!(daemon.snapshots.lock().unwrap().readers()[0].streams, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_has_listed_is_left_alone() {
        let mut nudges = Nudges::default();
        nudges.announce(5);
        assert!(!nudges.again(Some(5)));
        assert!(nudges.due.is_none());
    }

    const EVENTS: &[u8] = b"{\"Type\":\"container\"}\n{\"status\":\"start\"}\r\n\n{}\n";

    proptest! {
        #[test]
        fn the_lines_of_any_bytes_come_whole_up_to_one_that_is_no_text_whatever_the_pieces(
            mut bytes in mutated(EVENTS), cuts in vec(any::<usize>(), 0..6),
        ) {
            bytes.push(b'\n');
            let pieces: Vec<Bytes> = segments(&bytes, &cuts).into_iter().map(Bytes::copy_from_slice).collect();
            let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read: Vec<String> = runtime.block_on(lines(StreamBody::new(stream::iter(frames))).collect());
            let expected: Vec<String> = bytes.lines().map_while(Result::ok).collect();
            prop_assert_eq!(read, expected);
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_ends_the_stream_once_it_is_too_long_for_an_event() {
        const CHUNK: usize = 64 * 1024;
        let read = Cell::new(0);
        let endless = stream::repeat_with(|| {
            read.set(read.get() + CHUNK);
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'x'; CHUNK])))
        });
        let longest = Bytes::from(vec![b'a'; MAX_LINE]);
        let first = [longest, Bytes::from_static(b"\n")].map(|piece| Ok(Frame::data(piece)));
        let mut lines = lines(StreamBody::new(stream::iter(first).chain(endless)));
        assert_eq!(lines.next().await.map(|line| line.len()), Some(MAX_LINE));
        assert_eq!(lines.next().await, None);
        assert!(read.get() <= MAX_LINE + 2 * CHUNK, "{}", read.get());
    }
}
