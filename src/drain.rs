//! Waits until a replica that gets no new traffic has answered everything.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    engine::{Engine, Session},
    error::{Error, Result},
    event::{Event, Events},
    model::{ContainerId, Drained, Replica, Run},
    namespace::traffic::{Protocol, Traffic, WatchLine},
};

/// How often the network counters are read where no helper can look at the sockets.
const COUNTERS: Duration = Duration::from_millis(500);
/// How much longer the network must be silent than a stream, since silence is all there is to go by.
const BLIND_FACTOR: u32 = 2;
/// The kernel closes a dead program's connections before the engine knows of its death; only then it is no answer.
const DEATH: Duration = Duration::from_millis(250);
/// How long a helper may be silent where it has to say something.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a replica's traffic before it is looked at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The helper's image; `None` where there is none.
    pub image: Option<String>,
    /// The routed ports, and what is spoken on each; `None` where no proxy routes to it: every port that listens.
    pub ports: Option<BTreeMap<u16, Protocol>>,
    /// Silence after which a stream counts as drained.
    pub quiet: Duration,
}

/// A helper in the replica's network namespace, or none where it cannot run.
pub struct Watcher {
    helper: Result<Helper>,
    /// Something is spoken there whose packets tell more than its silence; only until it is said that they cannot be read.
    readable: bool,
    /// A proxy routes to it, so that no new requests come.
    routed: bool,
}

/// A helper whose lines are read as they come: unread, its output would block and it would miss packets.
struct Helper {
    asks: mpsc::UnboundedSender<u64>,
    /// The newest look, whose `answer_to` is the newest question that has been answered.
    looks: watch::Receiver<Result<Traffic>>,
    asked: u64,
    reading: JoinHandle<()>,
}

impl Watcher {
    /// Begins to watch; best done before the cutover, so that every answer is seen from its beginning.
    pub async fn start(engine: &Engine, replica: &ContainerId, watched: &Watched) -> Self {
        let unknown = watched.ports.as_ref().is_some_and(BTreeMap::is_empty);
        let helper = match (&watched.image, unknown) {
            (Some(image), false) => Helper::start(engine, image, replica, watched).await,
            (None, _) => Err(Error::failed("no image for the helper")),
            (_, true) => Err(Error::failed("its port is unknown")),
        };
        if let Err(error) = &helper {
            tracing::warn!(%error, %replica, "no helper can look at the replica's sockets");
        }
        let readable = |ports: &BTreeMap<u16, Protocol>| {
            let mut spoken = ports.values();
            spoken.any(|spoken| *spoken != Protocol::Stream)
        };
        Self {
            helper,
            readable: watched.ports.as_ref().is_none_or(readable),
            routed: watched.ports.is_some(),
        }
    }
}

impl Helper {
    async fn start(
        engine: &Engine,
        image: &str,
        replica: &ContainerId,
        watched: &Watched,
    ) -> Result<Self> {
        let mut arguments: Vec<String> = ["namespace", "watch"].map(str::to_owned).to_vec();
        let ports = watched.ports.iter().flatten();
        arguments.extend(
            ports.flat_map(|(port, spoken)| {
                ["--port".to_owned(), format!("{port}={}", spoken.word())]
            }),
        );
        arguments.extend(["--quiet".to_owned(), watched.quiet.as_millis().to_string()]);
        let mut session = engine.helper(image, replica, arguments).await?;
        let first = timeout(PATIENCE, session.next_line())
            .await
            .map_err(|_| Error::failed("the helper does not report"))??;
        let (tell, looks) = watch::channel(Ok(look(&first)?));
        let (asks, questions) = mpsc::unbounded_channel();
        Ok(Self {
            asks,
            looks,
            asked: 0,
            reading: tokio::spawn(read(session, questions, tell)),
        })
    }

    /// A look that is taken after this was asked.
    async fn ask(&mut self) -> Result<Traffic> {
        self.asked += 1;
        // A reader that has ended has left its reason in the newest look.
        let _ = self.asks.send(self.asked);
        let asked = Some(self.asked);
        let answered = self.looks.wait_for(|look| match look {
            Ok(traffic) => traffic.answer_to >= asked,
            Err(_) => true,
        });
        match timeout(PATIENCE, answered).await {
            Ok(Ok(look)) => look.clone(),
            Ok(Err(_)) => Err(Error::failed("the helper ended")),
            Err(_) => Err(Error::failed("the helper does not answer")),
        }
    }

    /// The next look that differs.
    async fn next(&mut self) -> Result<Traffic> {
        if self.looks.changed().await.is_err() {
            return Err(Error::failed("the helper ended"));
        }
        self.looks.borrow_and_update().clone()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Pumps questions to, and reports from, the helper until it exits or the receiver is dropped.
async fn read(
    mut session: Session,
    mut questions: mpsc::UnboundedReceiver<u64>,
    tell: watch::Sender<Result<Traffic>>,
) {
    let mut answered = None;
    loop {
        let news = tokio::select! {
            asked = questions.recv() => match asked {
                Some(asked) => session.send(&format!("{{\"ask\":{asked}}}")).await.map(|()| None),
                None => return,
            },
            line = session.next_line() => line.and_then(|line| look(&line)).map(Some),
        };
        match news {
            Ok(None) => {}
            Ok(Some(traffic)) => {
                answered = answered.max(traffic.answer_to);
                drop(tell.send_replace(Ok(Traffic {
                    answer_to: answered,
                    ..traffic
                })));
            }
            Err(error) => {
                drop(tell.send_replace(Err(error)));
                return;
            }
        }
    }
}

fn look(line: &str) -> Result<Traffic> {
    match serde_json::from_str(line) {
        Ok(WatchLine::Traffic(traffic)) => Ok(traffic),
        Ok(WatchLine::Failure(failure)) => Err(Error::failed(failure.error)),
        Err(error) => Err(Error::failed(format!("the helper said {line:?}: {error}"))),
    }
}

/// Ends when the replica's last answer has left, or with [`Drained::TimedOut`] at the deadline.
///
/// A helper that dies is no proof of anything: from there on the network counters decide.
pub async fn drain(
    engine: &Engine,
    replica: &Replica,
    watcher: &mut Watcher,
    quiet: Duration,
    deadline: Instant,
    events: &Events,
) -> Result<Drained> {
    let answered = async {
        let mut looked = by_sockets(replica, watcher, events).await;
        if let Ok(true) = looked {
            sleep(DEATH).await;
            // Past a proxy, more may have come meanwhile.
            looked = by_sockets(replica, watcher, events).await;
        }
        let now = engine.replica(&replica.id).await?;
        if now.is_none_or(|now| now.run != Run::Running) {
            return Ok(ended(replica));
        }
        let Err(error) = looked else {
            return Ok(Drained::Answered);
        };
        // The counters hold what it asks of others too, which nothing waits for.
        if !watcher.routed {
            events.notice(format!(
                "{}: its connections cannot be inspected ({}); stopping it without waiting for them",
                replica.name, error.message
            ));
            return Ok(Drained::Unseen);
        }
        events.notice(format!(
            "{}: its connections cannot be inspected ({}); counting its network traffic instead",
            replica.name, error.message
        ));
        by_counters(engine, &replica.id, quiet * BLIND_FACTOR).await
    };
    timeout_at(deadline, answered)
        .await
        .unwrap_or(Ok(Drained::TimedOut))
}

/// How the drain of a replica ended that does not run any more: one that did not run when it began lost nothing by that.
fn ended(as_it_began: &Replica) -> Drained {
    match as_it_began.run {
        Run::Running => Drained::Ended,
        _ => Drained::Unseen,
    }
}

/// Waits until no request is outstanding. `Ok(true)` if any was at first; `Err` if the sockets cannot be inspected.
async fn by_sockets(replica: &Replica, watcher: &mut Watcher, events: &Events) -> Result<bool> {
    let helper = watcher.helper.as_mut().map_err(|error| error.clone())?;
    let mut traffic = helper.ask().await?;
    if std::mem::take(&mut watcher.readable) && !traffic.exact {
        events.notice(format!(
            "{}: its packets cannot be read (the engine grants no NET_RAW), so a long pause inside an answer can pass for its end",
            replica.name
        ));
    }
    let mut reported = (0, 0);
    loop {
        if !traffic.busy() {
            // A look on demand settles it: the line may be older than the last change.
            traffic = helper.ask().await?;
            if !traffic.busy() {
                return Ok(reported != (0, 0));
            }
        }
        let counts = (
            traffic.unanswered.saturating_add(traffic.unsent),
            traffic.streaming,
        );
        if counts != reported {
            let (unanswered, streaming) = counts;
            events.emit(Event::Draining {
                replica: replica.name.clone(),
                unanswered,
                streaming,
            });
            reported = counts;
        }
        traffic = helper.next().await?;
    }
}

/// Waits for silence on the network for `quiet`; used if the sockets cannot be inspected.
async fn by_counters(engine: &Engine, replica: &ContainerId, quiet: Duration) -> Result<Drained> {
    let mut last = engine.network_bytes(replica).await?;
    let mut since = Instant::now();
    while since.elapsed() < quiet {
        sleep(COUNTERS).await;
        let now = engine.network_bytes(replica).await?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(Drained::Quiet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator::old;

    #[test]
    fn only_what_ran_when_its_drain_began_can_have_ended_during_it() {
        assert_eq!(ended(&old("runs")), Drained::Ended);
        for run in [Run::Restarting, Run::Paused] {
            let replica = Replica { run, ..old("idle") };
            assert_eq!(ended(&replica), Drained::Unseen, "{run:?}");
        }
    }
}
