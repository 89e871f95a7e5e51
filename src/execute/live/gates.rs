//! Waits for every gate of every new replica, while what must watch the old ones is started.

use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{Live, MARGIN, Sets, watchers::start_watchers};
use crate::{
    engine::Engine,
    error::Result,
    event::Event,
    model::{ContainerId, Desired, Facts, Replica, ServiceKey, Verdict},
    ready::{self, Gates, Probe},
    watch::Watch,
};

impl Live<'_> {
    pub(super) async fn await_ready(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let pending: Vec<Pending<'_>> = sets
            .news
            .iter()
            .filter(|new| !facts.verdicts.contains_key(&new.id))
            .map(|new| Pending {
                new,
                gates: self.gates(new, desired.routed),
                detail: Mutex::default(),
            })
            .collect();
        let deadline = self.ready_by(&sets.news);
        let (engine, watch) = (self.run.engine, self.watch);
        let mut watching = Box::pin(start_watchers(engine, self.unwatched(desired, sets)));
        let mut watchers = None;
        let judging = self.judge(&pending, facts);
        let changed = others_changed(engine, watch, &self.context.key, sets, desired.confirm_hold);
        let (mut judging, mut changed) = (Box::pin(judging), Box::pin(changed));
        let ended = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    started = &mut watching, if watchers.is_none() => watchers = Some(started),
                    changed = &mut changed => return changed.map(|()| None),
                    judged = &mut judging => return judged,
                }
            }
        })
        .await;
        drop((judging, changed));
        let failed = match &ended {
            Ok(Ok(failed)) => failed.clone(),
            Ok(Err(_)) => None,
            Err(_) => {
                facts.ready_expired = true;
                explain(&pending, facts)
            }
        };
        // Where an earlier run has created the replicas: the cutover waits for the watchers.
        if watchers.is_none() && failed.is_none() && ended.is_ok() {
            watchers = Some(watching.await);
        }
        self.memory.watchers.extend(watchers.into_iter().flatten());
        if let Some(failed) = failed {
            self.memory.logs = self.run.engine.last_lines(&failed).await;
        }
        ended.map_or(Ok(()), |ended| ended.map(drop))
    }

    /// When the wait for all gates is over, however often it begins again.
    pub(super) fn ready_by(&mut self, news: &[&Replica]) -> Instant {
        let settings = &self.context.settings;
        let limit = match news.iter().any(|new| new.check.is_some()) {
            true => settings.timeout + settings.wait_after_healthy,
            false => settings.wait,
        };
        let limit = limit.max(settings.stable + MARGIN);
        let by = &mut self.memory.ready_by;
        *by.get_or_insert_with(|| Instant::now() + limit)
    }

    /// Ends once every gate has spoken, or with the first replica that fails.
    async fn judge(
        &self,
        pending: &[Pending<'_>],
        facts: &mut Facts,
    ) -> Result<Option<ContainerId>> {
        let (engine, watch, early) = (self.run.engine, self.watch, &self.memory.early);
        let mut judging: FuturesUnordered<_> = pending
            .iter()
            .map(|own| async move {
                let (id, gates) = (&own.new.id, &own.gates);
                let judged = ready::judge(engine, watch, id, gates, early, &own.detail);
                (own.new, judged.await)
            })
            .collect();
        while let Some((new, judged)) = judging.next().await {
            let judged = judged?;
            let is_ready = judged.verdict == Verdict::Ready;
            facts.verdicts.insert(new.id.clone(), judged.verdict);
            if !is_ready {
                return Ok(Some(new.id.clone()));
            }
            self.events.emit(Event::Ready {
                replica: new.target_name().to_owned(),
                by: judged.by,
            });
        }
        Ok(None)
    }

    pub(super) fn gates(&self, new: &Replica, routed: bool) -> Gates {
        let ports = self.proxy.routed_ports(new).into_keys().collect();
        let checks = self.proxy.readiness_checks(new);
        // Nothing can be told of a UDP port from outside but that it is silent.
        let wants_probe = (routed && !self.proxy.only_datagrams(new))
            || self.context.settings.ready_http.is_some();
        let probe = self
            .helper_image
            .clone()
            .filter(|_| wants_probe)
            .map(|image| Probe {
                image,
                ports,
                http: self.context.settings.ready_http.clone(),
                checks,
                proxy: self.proxy.name(),
            });
        Gates {
            stable: self.context.settings.stable,
            after_healthy: self.context.settings.wait_after_healthy,
            probe,
        }
    }
}

/// A new replica whose gates have not all spoken.
struct Pending<'a> {
    new: &'a Replica,
    gates: Gates,
    /// What it still lacks, where that is known.
    detail: Mutex<String>,
}

/// Why each that is not ready in time fails, where that is known. Returns the first of them.
fn explain(pending: &[Pending<'_>], facts: &mut Facts) -> Option<ContainerId> {
    let late = |own: &&Pending<'_>| !facts.verdicts.contains_key(&own.new.id);
    let late: Vec<_> = pending.iter().filter(late).collect();
    for own in &late {
        let detail = own.detail.lock();
        let detail = detail.unwrap_or_else(PoisonError::into_inner);
        if !detail.is_empty() {
            let why = format!("did not become ready in time: {detail}");
            let id = own.new.id.clone();
            facts.verdicts.insert(id, Verdict::Failed(why));
        }
    }
    late.first().map(|own| own.new.id.clone())
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
