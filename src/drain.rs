//! Watches the traffic of a replica: what it has answered in all, and when a replica that gets no new traffic has answered
//! every request.

pub mod watchers;

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    docker::engine::{Engine, Session},
    error::{Error, Result},
    event::{Event, Events},
    model::{ContainerId, Drained, Replica, Run},
    namespace::{
        traffic::{Ask, Protocol, Traffic},
        wire::Wire,
    },
};

/// The interval of reading the network counters if no helper can inspect the sockets.
const COUNTERS: Duration = Duration::from_millis(500);
/// The network must be silent this many times longer than a stream, because there is no other evidence.
const BLIND_FACTOR: u32 = 2;
/// The kernel closes a dead program's connections before the engine reports its death. A connection that ended is an answer
/// only if the replica still runs after this time.
const DEATH: Duration = Duration::from_millis(250);
/// How long a helper may take to write a line that it has to write.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for the counts of a replica: they never hold up a rollout.
const COUNT_PATIENCE: Duration = Duration::from_millis(100);
/// The pause, in milliseconds, between two looks at a replica whose counts alone matter.
const COUNT_PACE: u64 = 100;

/// What to watch of a replica's traffic, and with which image.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The helper's image, if there is one.
    pub image: Option<String>,
    /// The routed ports and their protocols; `None` if no proxy routes to the replica: then every listening port counts.
    pub ports: Option<BTreeMap<u16, Protocol>>,
    /// Silence after which a stream counts as drained.
    pub quiet: Duration,
}

/// A helper in the replica's network namespace, or the reason why there is none.
pub struct Watcher {
    helper: Result<Helper>,
    /// The start of the replica that it follows.
    started_at: String,
    /// A port has a protocol that packets can show. Cleared after the first look, so that a missing permission is reported once.
    readable: bool,
    /// A proxy routes to the replica, so no new requests come after the cutover.
    routed: bool,
    /// It is not about to be drained, so it is enough to look seldom.
    pace: Option<u64>,
}

/// A helper whose lines are read by a task of their own: if they were not, the helper would block, and miss packets.
struct Helper {
    requests: mpsc::UnboundedSender<Ask>,
    /// The newest look; its `answer_to` is the newest request that was answered.
    looks: watch::Receiver<Result<Traffic>>,
    newest_request: u64,
    reading: JoinHandle<()>,
}

impl Watcher {
    /// Starts to watch. Before the cutover is best, so that every answer is captured from its beginning.
    pub async fn start(engine: &Engine, replica: &Replica, watched: &Watched) -> Self {
        let id = &replica.id;
        let unknown = watched.ports.as_ref().is_some_and(BTreeMap::is_empty);
        let helper = match (&watched.image, unknown) {
            (Some(image), false) => Helper::start(engine, image, id, watched).await,
            (None, _) => Err(Error::failed("no image for the helper")),
            (_, true) => Err(Error::failed("its port is unknown")),
        };
        if let Err(error) = &helper {
            tracing::warn!(%error, replica = %id, "no helper can look at the replica's sockets");
        }
        let readable = |ports: &BTreeMap<u16, Protocol>| {
            let mut protocols = ports.values();
            protocols.any(|protocol| *protocol != Protocol::Stream)
        };
        Self {
            helper,
            started_at: replica.started_at.clone(),
            readable: watched.ports.as_ref().is_none_or(readable),
            routed: watched.ports.is_some(),
            pace: None,
        }
    }

    /// The same, for a replica that is to stay.
    pub async fn start_calmly(engine: &Engine, replica: &Replica, watched: &Watched) -> Self {
        let mut watcher = Self {
            pace: Some(COUNT_PACE),
            ..Self::start(engine, replica, watched).await
        };
        watcher.counted().await;
        watcher
    }

    /// Whether it follows the replica since this start of it.
    pub fn follows(&self, started_at: &str) -> bool {
        self.started_at == started_at
    }

    /// What was counted by now, or by the last answer if the helper does not answer at once; `None` if there is none.
    pub async fn counted(&mut self) -> Option<Wire> {
        let helper = self.helper.as_mut().ok()?;
        let look = timeout(COUNT_PATIENCE, helper.look_now(self.pace)).await;
        let now = look.ok().and_then(Result::ok).and_then(|look| look.wire);
        now.or_else(|| self.last_counted())
    }

    /// What was counted by the last look that was asked for.
    pub fn last_counted(&self) -> Option<Wire> {
        let helper = self.helper.as_ref().ok()?;
        helper.looks.borrow().as_ref().ok()?.wire.clone()
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
        arguments.extend(ports.flat_map(|(port, protocol)| {
            ["--port".to_owned(), format!("{port}={}", protocol.word())]
        }));
        arguments.extend(["--quiet".to_owned(), watched.quiet.as_millis().to_string()]);
        let mut session = engine.helper(image, replica, arguments).await?;
        let first = timeout(REPLY_TIMEOUT, session.next_line())
            .await
            .map_err(|_| Error::failed("the helper does not answer"))??;
        let (newest, looks) = watch::channel(Ok(look(&first)?));
        let (requests, received) = mpsc::unbounded_channel();
        Ok(Self {
            requests,
            looks,
            newest_request: 0,
            reading: tokio::spawn(read(session, received, newest)),
        })
    }

    /// Requests a new sample of the traffic; earlier ones do not count.
    async fn look_now(&mut self, pace: Option<u64>) -> Result<Traffic> {
        self.newest_request += 1;
        let ask = self.newest_request;
        // If the reading task has ended, the newest look is the reason.
        let _ = self.requests.send(Ask { ask, pace });
        let request = Some(self.newest_request);
        let answered = self.looks.wait_for(|look| match look {
            Ok(traffic) => traffic.answer_to >= request,
            Err(_) => true,
        });
        match timeout(REPLY_TIMEOUT, answered).await {
            Ok(Ok(look)) => look.clone(),
            Ok(Err(_)) => Err(Error::failed("the helper ended")),
            Err(_) => Err(Error::failed("the helper does not answer")),
        }
    }

    /// The next look with a change.
    async fn next_look(&mut self) -> Result<Traffic> {
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

/// Sends requests to the helper and receives its looks, until the helper ends or the receiver of the looks is dropped.
async fn read(
    mut session: Session,
    mut requests: mpsc::UnboundedReceiver<Ask>,
    newest: watch::Sender<Result<Traffic>>,
) {
    let (mut answered, mut wire) = (None, None);
    loop {
        let received = tokio::select! {
            request = requests.recv() => match request {
                Some(ask) => session.send(&json!(ask).to_string()).await.map(|()| None),
                None => return,
            },
            line = session.next_line() => line.and_then(|line| look(&line)).map(Some),
        };
        match received {
            Ok(None) => {}
            Ok(Some(traffic)) => {
                answered = answered.max(traffic.answer_to);
                wire = traffic.wire.or(wire);
                drop(newest.send_replace(Ok(Traffic {
                    answer_to: answered,
                    wire: wire.clone(),
                    ..traffic
                })));
            }
            Err(error) => {
                drop(newest.send_replace(Err(error)));
                return;
            }
        }
    }
}

fn look(line: &str) -> Result<Traffic> {
    serde_json::from_str(line)
        .map_err(|error| Error::failed(format!("the helper wrote {line:?}: {error}")))
}

/// Ends when the replica's last answer is complete, or with [`Drained::TimedOut`] at the deadline.
///
/// If the helper fails, the network counters decide.
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
            // Requests that bypass the proxy may have come meanwhile.
            looked = by_sockets(replica, watcher, events).await;
        }
        let now = engine.replica(&replica.id).await?;
        if now.is_none_or(|now| now.run != Run::Running) {
            return Ok(ended(replica));
        }
        let Err(error) = looked else {
            return Ok(Drained::Answered);
        };
        // The counters include the replica's own requests to others, which the drain does not wait for.
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

/// Says how a drain has ended; `kind` is what the container is, such as "old replica".
pub fn report(events: &Events, kind: &str, name: &str, how: Drained) {
    events.emit(Event::Drained {
        replica: name.to_owned(),
        how,
    });
    match how {
        Drained::Answered | Drained::Quiet | Drained::Unseen => {}
        Drained::TimedOut => events.notice(format!(
            "{kind} {name} was still answering after --drain-timeout"
        )),
        Drained::Ended => events.notice(format!(
            "{kind} {name} exited while it was drained: its unanswered requests are lost"
        )),
    }
}

/// How the drain ended if the replica does not run any more. One that did not run at the start has lost nothing meanwhile.
fn ended(at_start: &Replica) -> Drained {
    match at_start.run {
        Run::Running => Drained::Ended,
        _ => Drained::Unseen,
    }
}

/// Waits until no request is outstanding. `Ok(true)` if any was; an error if the sockets cannot be inspected.
async fn by_sockets(replica: &Replica, watcher: &mut Watcher, events: &Events) -> Result<bool> {
    let helper = watcher.helper.as_mut().map_err(|error| error.clone())?;
    let mut traffic = helper.look_now(None).await?;
    if std::mem::take(&mut watcher.readable) && !traffic.exact {
        events.notice(format!(
            "{}: its packets cannot be read (the engine grants no NET_RAW), so a long pause inside an answer can be taken for its end",
            replica.name
        ));
    }
    let mut reported = (0, 0);
    loop {
        if !traffic.busy() {
            // The line may be older than the last change, so a new look decides.
            traffic = helper.look_now(None).await?;
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
        traffic = helper.next_look().await?;
    }
}

/// Waits until the network is silent for `quiet`: the only evidence if the sockets cannot be inspected.
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
