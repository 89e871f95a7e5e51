//! Waits until a replica that gets no new traffic has answered everything.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    engine::{Engine, Session},
    error::{Error, Result},
    event::{Event, Events},
    model::{ContainerId, Drained, Replica},
    namespace::traffic::{Traffic, WatchLine},
};

/// How often the network counters are read where no helper can look at the sockets.
const COUNTERS: Duration = Duration::from_millis(500);
/// How much longer the network must be silent than a stream, since silence is all there is to go by.
const BLIND_FACTOR: u32 = 2;

/// What is known of a replica's traffic before it is looked at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The helper's image; `None` where there is none.
    pub image: Option<String>,
    /// The routed ports.
    pub ports: Vec<u16>,
    /// `http1`, `h2c` or `stream`.
    pub protocol: &'static str,
    /// Silence after which a stream counts as drained.
    pub quiet: Duration,
}

/// A helper in the replica's network namespace, or none where it cannot run.
pub struct Watcher {
    session: Option<Session>,
    asked: u64,
}

impl Watcher {
    /// Begins to watch; best done before the cutover, so that every answer is seen from its beginning.
    pub async fn start(engine: &Engine, replica: &ContainerId, watched: &Watched) -> Self {
        let session = match (&watched.image, watched.ports.is_empty()) {
            (Some(image), false) => Self::helper(engine, image, replica, watched).await,
            _ => Err(Error::failed("no helper image or no known port")),
        };
        if let Err(error) = &session {
            tracing::warn!(%error, %replica, "no helper can look at the replica's sockets");
        }
        Self {
            session: session.ok(),
            asked: 0,
        }
    }

    async fn helper(
        engine: &Engine,
        image: &str,
        replica: &ContainerId,
        watched: &Watched,
    ) -> Result<Session> {
        let mut arguments: Vec<String> = ["namespace", "watch"].map(str::to_owned).to_vec();
        arguments.extend(
            watched
                .ports
                .iter()
                .flat_map(|port| ["--port".to_owned(), port.to_string()]),
        );
        arguments.extend(["--protocol".to_owned(), watched.protocol.to_owned()]);
        arguments.extend(["--quiet".to_owned(), watched.quiet.as_millis().to_string()]);
        let mut session = engine.helper(image, replica, arguments).await?;
        look(&session.next_line().await?)?;
        Ok(session)
    }

    /// A look that is taken now; lines from before are passed over.
    async fn ask(&mut self) -> Result<Option<Traffic>> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        self.asked += 1;
        session.send(&format!("{{\"ask\":{}}}", self.asked)).await?;
        loop {
            let traffic = look(&session.next_line().await?)?;
            if traffic.answer_to == Some(self.asked) {
                return Ok(Some(traffic));
            }
        }
    }

    async fn next(&mut self) -> Result<Traffic> {
        match &mut self.session {
            Some(session) => look(&session.next_line().await?),
            None => std::future::pending().await,
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
        match by_sockets(replica, watcher, events).await {
            Ok(true) => Ok(Drained::Answered),
            Ok(false) => by_counters(engine, &replica.id, quiet * BLIND_FACTOR).await,
            Err(error) => {
                if engine
                    .replica(&replica.id)
                    .await?
                    .is_none_or(|now| now.run != crate::model::Run::Running)
                {
                    return Ok(Drained::Answered);
                }
                events.notice(format!(
                    "{}: {}; counting its network traffic instead",
                    replica.name, error.message
                ));
                by_counters(engine, &replica.id, quiet * BLIND_FACTOR).await
            }
        }
    };
    timeout_at(deadline, answered)
        .await
        .unwrap_or(Ok(Drained::TimedOut))
}

/// `false` where nobody can look.
async fn by_sockets(replica: &Replica, watcher: &mut Watcher, events: &Events) -> Result<bool> {
    let Some(mut traffic) = watcher.ask().await? else {
        return Ok(false);
    };
    let mut told = (0, 0);
    loop {
        if !traffic.busy() {
            // A look on demand settles it: the line may be older than the last change.
            match watcher.ask().await? {
                Some(again) if again.busy() => traffic = again,
                _ => return Ok(true),
            }
        }
        let counts = (traffic.unanswered + traffic.unsent, traffic.streaming);
        if counts != told {
            let (unanswered, streaming) = counts;
            events.emit(Event::Draining {
                replica: replica.name.clone(),
                unanswered,
                streaming,
            });
            told = counts;
        }
        traffic = watcher.next().await?;
    }
}

/// Silence on the wire for `quiet`: the best there is where nobody can look at the sockets.
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
