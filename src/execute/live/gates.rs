//! Waits until every new replica passes its gates, and starts the watchers of the old replicas meanwhile.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{
    Live, MARGIN, Sets,
    traffic::{serving, until_one_fails},
};
use crate::{
    compose::command,
    docker::{engine::Engine, watch::Watch},
    drain::watchers::start_all,
    error::Result,
    event::Event,
    model::{ContainerId, Desired, Facts, Goal, Health, Replica, ServiceKey, Verdict},
    ready::{self, Gates, Probe},
};

impl Live<'_> {
    pub(super) async fn await_ready(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let pending = self.pending(desired, sets, facts);
        // The proxy routes to an old replica only after Docker's own health check, whatever a rollout finds.
        let undecided = |own: &Pending<'_>| match own.waits_for_docker {
            true => own.new.undecided_for(),
            false => Duration::ZERO,
        };
        let undecided = pending.iter().map(undecided).max().unwrap_or_default();
        let deadline = self.ready_by(&sets.new) + undecided;
        let (engine, watch) = (self.run.engine, self.watch);
        let mut watching = Box::pin(start_all(engine, self.unwatched(desired, sets)));
        let mut watchers = None;
        let live = sets
            .new
            .iter()
            .filter(|new| facts.verdicts.contains_key(&new.id));
        let live: Vec<&Replica> = live.copied().collect();
        let fails = until_one_fails(engine, watch, serving(&live));
        let judging = self.judge(&pending, facts);
        let changed = others_changed(engine, watch, &self.context.key, sets, desired.confirm_hold);
        let (mut judging, mut changed) = (Box::pin(judging), Box::pin(changed));
        let mut fails = Box::pin(fails);
        let ended = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    started = &mut watching, if watchers.is_none() => watchers = Some(started),
                    changed = &mut changed => return changed.map(|()| None),
                    // A replica of an earlier batch.
                    () = &mut fails => return Ok(None),
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
        // If an earlier run created the replicas, the watchers may not run yet: the cutover needs them.
        if watchers.is_none() && failed.is_none() && ended.is_ok() {
            watchers = Some(watching.await);
        }
        self.memory
            .watchers
            .add(watchers.into_iter().flatten(), false);
        let is_ready = |new: &&Replica| facts.verdicts.get(&new.id) == Some(&Verdict::Ready);
        if desired.goal == Goal::Roll && sets.new.iter().all(is_ready) {
            self.watch_new(sets);
        }
        if let Some(failed) = failed {
            self.memory.logs = self.run.engine.last_lines(&failed).await;
        }
        ended.map_or(Ok(()), |ended| ended.map(drop))
    }

    /// The replicas whose gates have no result yet.
    fn pending<'r>(&self, desired: &Desired, sets: &Sets<'r>, facts: &Facts) -> Vec<Pending<'r>> {
        let all = sets.new.iter().chain(&sets.old).copied();
        all.filter(|own| facts.awaits(own, desired))
            .map(|new| Pending {
                new,
                gates: self.gates(new, desired.routed),
                waits_for_docker: desired.routed && matches!(desired.goal, Goal::Undo(_)),
                detail: Mutex::default(),
            })
            .collect()
    }

    /// The deadline for all gates; it stays the same if the wait is restarted.
    pub(super) fn ready_by(&mut self, new: &[&Replica]) -> Instant {
        let settings = &self.context.settings;
        let limit = match new.iter().any(|new| new.check.is_some()) {
            true => settings.timeout + settings.wait_after_healthy,
            false => settings.wait,
        };
        let limit = limit.max(settings.stable + MARGIN);
        let by = &mut self.memory.ready_by;
        *by.get_or_insert_with(|| Instant::now() + limit)
    }

    /// The same as [`Self::judge_each`], while the log of the replicas is reported.
    async fn judge(
        &self,
        pending: &[Pending<'_>],
        facts: &mut Facts,
    ) -> Result<Option<ContainerId>> {
        tokio::select! {
            judged = self.judge_each(pending, facts) => judged,
            never = self.follow(pending) => match never {},
        }
    }

    /// Reports what the new replicas log, where that is asked for.
    async fn follow(&self, pending: &[Pending<'_>]) -> Infallible {
        let is_asked = self.context.settings.follow;
        let new = pending
            .iter()
            .filter(|own| is_asked && !own.waits_for_docker);
        let logs = new.map(|own| {
            let log = self.run.engine.log(&own.new.id);
            command::lines(Some(log), move |line| {
                let replica = own.new.target_name().to_owned();
                self.events.emit(Event::Log { replica, line });
            })
        });
        // Some log drivers cannot be read.
        join_all(logs).await;
        std::future::pending().await
    }

    /// Completes once every replica has passed its gates, or with the first one that fails.
    async fn judge_each(
        &self,
        pending: &[Pending<'_>],
        facts: &mut Facts,
    ) -> Result<Option<ContainerId>> {
        let (engine, watch, early) = (self.run.engine, self.watch, &self.memory.early);
        let mut judging: FuturesUnordered<_> = pending
            .iter()
            .map(|own| async move {
                let (id, gates) = (&own.new.id, &own.gates);
                let judged = ready::judge(engine, watch, id, gates, early, &own.detail).await;
                if own.waits_for_docker {
                    decided(engine, watch, id).await;
                }
                (own.new, judged)
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
        let ports = self.proxy.labels().routed_ports(new).into_keys().collect();
        let checks = self.proxy.labels().readiness_checks(new);
        // A probe cannot tell a working UDP port from a silent one.
        let wants_probe = (routed && !self.proxy.labels().only_datagrams(new))
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

/// A replica that has not passed all gates.
struct Pending<'a> {
    new: &'a Replica,
    gates: Gates,
    /// Whether it has to be healthy in Docker too.
    waits_for_docker: bool,
    /// What it still waits for, if known.
    detail: Mutex<String>,
}

/// Completes once Docker's health check has a result.
async fn decided(engine: &Engine, watch: &Watch, id: &ContainerId) {
    loop {
        let changed = watch.next();
        if let Ok(now) = engine.replica(id).await
            && now.is_none_or(|now| now.health != Health::Starting)
        {
            return;
        }
        changed.await;
    }
}

/// Records why each late replica fails, if known. Returns the first of them.
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

/// Completes when the old set changes: a replica was removed, stopped or added. `closely` also watches health and
/// addresses, which a hold that re-routes traffic must follow.
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
    let new: Vec<&ContainerId> = sets.new.iter().map(|new| &new.id).collect();
    let before: Vec<_> = sets.old.iter().map(|old| state(old)).collect();
    loop {
        let changed = watch.next();
        let now = engine.replicas(key).await?;
        let old: Vec<_> = now
            .iter()
            .filter(|replica| !new.contains(&&replica.id))
            .map(state)
            .collect();
        if old != before {
            return Ok(());
        }
        changed.await;
    }
}
