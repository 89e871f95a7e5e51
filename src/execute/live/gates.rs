//! Waits for every gate of every new replica, while what must watch the old ones is started.

use std::sync::Mutex;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{Live, MARGIN, Sets, watchers::start_watchers};
use crate::{
    engine::Engine,
    error::Result,
    event::Event,
    model::{ContainerId, Desired, Facts, Replica, ServiceKey, Verdict},
    proxy::traefik::{checks, names, ports},
    ready::{self, Gates, Probe},
    watch::Watch,
};

impl Live<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "to be cut up: starting the watchers and judging the gates are to be separate"
    )]
    pub(super) async fn await_ready(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let limit = match sets.news.iter().any(|new| new.check.is_some()) {
            true => self.settings.timeout + self.settings.wait_after_healthy,
            false => self.settings.wait,
        };
        let deadline = *self
            .memory
            .ready_by
            .get_or_insert_with(|| Instant::now() + limit.max(self.settings.stable + MARGIN));
        let pending: Vec<&Replica> = sets
            .news
            .iter()
            .copied()
            .filter(|new| !facts.verdicts.contains_key(&new.id))
            .collect();
        let details: Vec<Mutex<String>> = pending.iter().map(|_| Mutex::default()).collect();
        let gates: Vec<Gates> = pending
            .iter()
            .map(|new| self.gates(new, desired.routed))
            .collect();
        let watched = self.unwatched(desired, sets);
        let (engine, watch, events) = (self.engine, self.watch, self.events);
        let early = &self.memory.early;
        let mut judging: FuturesUnordered<_> = pending
            .iter()
            .zip(details.iter().zip(&gates))
            .map(|(new, (detail, gates))| async move {
                (
                    *new,
                    ready::judge(engine, watch, &new.id, gates, early, detail).await,
                )
            })
            .collect();
        let mut watching = Box::pin(start_watchers(engine, watched));
        let mut watchers = None;
        let closely = desired.confirm_hold;
        let mut changed = Box::pin(others_changed(engine, watch, &self.key, sets, closely));
        let mut failed = None;
        let ended = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    started = &mut watching, if watchers.is_none() => watchers = Some(started),
                    changed = &mut changed => return changed,
                    judged = judging.next() => match judged {
                        None => return Ok(()),
                        Some((new, judged)) => {
                            let judged = judged?;
                            let is_ready = judged.verdict == Verdict::Ready;
                            facts.verdicts.insert(new.id.clone(), judged.verdict);
                            if !is_ready {
                                failed = Some(new.id.clone());
                                return Ok(());
                            }
                            events.emit(Event::Ready { replica: new.target_name().to_owned(), by: judged.by });
                        }
                    },
                }
            }
        })
        .await;
        drop((judging, changed));
        // Where an earlier run has created the replicas: the cutover waits for the watchers.
        if watchers.is_none() && failed.is_none() && ended.is_ok() {
            watchers = Some(watching.await);
        }
        self.memory.watchers.extend(watchers.into_iter().flatten());
        if ended.is_err() {
            facts.ready_expired = true;
            failed = pending
                .iter()
                .find(|new| !facts.verdicts.contains_key(&new.id))
                .map(|new| new.id.clone());
            explain(&pending, &details, facts);
        }
        if let Some(failed) = failed {
            self.memory.logs = self.engine.last_lines(&failed).await;
        }
        ended.unwrap_or(Ok(()))
    }

    pub(super) fn gates(&self, new: &Replica, routed: bool) -> Gates {
        let ports = ports::routed(&new.labels, &new.ports).into_keys().collect();
        let checks = checks::checks(&new.labels, &new.ports).into_iter();
        let checks = checks.filter_map(|check| check.ask.ok());
        // Nothing can be told of a UDP port from outside but that it is silent.
        let wants_probe =
            (routed && !names::only_datagrams(&new.labels)) || self.settings.ready_http.is_some();
        let probe = self
            .helper_image
            .clone()
            .filter(|_| wants_probe)
            .map(|image| Probe {
                image,
                ports,
                http: self.settings.ready_http.clone(),
                checks: checks.filter(|_| routed).collect(),
            });
        Gates {
            stable: self.settings.stable,
            after_healthy: self.settings.wait_after_healthy,
            probe,
        }
    }
}

/// What each replica that is not ready in time still lacks, where it is known, is the reason why it fails.
pub(super) fn explain(pending: &[&Replica], details: &[Mutex<String>], facts: &mut Facts) {
    for (new, detail) in pending.iter().zip(details) {
        let detail = detail
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !detail.is_empty() {
            let why = format!("did not become ready in time: {detail}");
            facts
                .verdicts
                .entry(new.id.clone())
                .or_insert(Verdict::Failed(why));
        }
    }
}

/// Ends when the old set is not what it was: a replica has gone, stopped, or joined; looked at closely, also when one has
/// fallen ill or got another address, which a hold that moves the traffic itself must follow.
pub(super) async fn others_changed(
    engine: &Engine,
    watch: &Watch,
    key: &ServiceKey,
    sets: &Sets<'_>,
    closely: bool,
) -> Result<()> {
    let state = |replica: &Replica| {
        let more = closely.then(|| (replica.health, replica.endpoints.clone()));
        (replica.id.clone(), replica.run, more)
    };
    let new: Vec<&ContainerId> = sets.news.iter().map(|new| &new.id).collect();
    let before: Vec<_> = sets.olds.iter().map(|old| state(old)).collect();
    loop {
        let changed = watch.next();
        let now = engine.replicas(key).await?;
        let olds: Vec<_> = now
            .iter()
            .filter(|replica| !new.contains(&&replica.id))
            .map(state)
            .collect();
        if olds != before {
            return Ok(());
        }
        changed.await;
    }
}
