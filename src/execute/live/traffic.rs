//! Moves the traffic, waits until every proxy agrees, and drains the old replicas.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{Live, Sets};
use crate::{
    docker::{engine::Engine, watch::Watch},
    drain::{self, Watcher},
    error::Result,
    execute::together::Member,
    figures::Moment,
    model::{
        Claim, ContainerId, Desired, Drained, Facts, Goal, Milestone, Observed, Phase, Replica,
    },
    plan::{claim, plan_to_confirm},
    proxy::{
        Router,
        agree::{Limits, Question, agree},
    },
};

impl Live<'_> {
    /// Applies the route plan of a phase.
    pub(super) async fn route(
        &mut self,
        phase: Phase,
        desired: &Desired,
        observed: &Observed,
        facts: &Facts,
    ) -> Result<()> {
        let (new, old) = observed.split(&desired.rollout);
        let is_there = |old: &&Replica| old.may_run() || desired.may_start_again(old);
        let commits = phase == Phase::Committed;
        if commits && desired.served && !old.iter().any(is_there) {
            self.events.notice(
                "another command removed the old replicas during the rollout; the new ones take over",
            );
        }
        self.memory.confirmed_at = None;
        let claim = claim(phase, desired, observed);
        let goes_forward = !matches!(desired.goal, Goal::Undo(_));
        // The figures of before end with the first share that this run gives the new version.
        let cuts_over = goes_forward && new.iter().any(|new| claim.plan.promotes(new));
        let shown = new.iter().filter(|new| claim.plan.promotes(new));
        if goes_forward {
            let name = |new: &&Replica| (new.id.clone(), new.target_name().to_owned());
            self.memory.shown = shown.map(name).collect();
        }
        let member = self
            .member
            .filter(|_| is_joint(phase, desired, observed, facts));
        let applying = apply(&mut *self.proxy, member, &claim, &observed.replicas);
        let (engine, watchers) = (self.run.engine, &mut self.memory.watchers);
        let marking = async {
            if cuts_over {
                watchers.cut_over(engine).await;
            }
        };
        let (notice, ()) = tokio::join!(applying, marking);
        let notice = notice?;
        notice.into_iter().for_each(|text| self.events.notice(text));
        Ok(())
    }

    /// Waits for the other services of a joint cutover, or until a new replica fails.
    pub(super) async fn await_others(
        &mut self,
        all: Milestone,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) {
        let Some(member) = self.member else {
            facts.all_reached = Some(all);
            return;
        };
        tokio::select! {
            () = member.reach(all) => facts.all_reached = Some(all),
            () = until_one_fails(self.run.engine, self.watch, serving(&sets.new)) => {}
        }
    }

    /// Reports new replicas that were routed but could not answer until the rollback was confirmed.
    fn report_losses(&mut self) {
        let shown = std::mem::take(&mut self.memory.shown);
        let mut all = Vec::new();
        for (id, name) in &shown {
            if let Some(dead) = self.watch.dead_for(id) {
                all.push(dead_but_routed(name, dead));
            }
        }
        let failed_at = self.memory.failed_at.take();
        if let Some(since) = failed_at.filter(|_| all.is_empty()) {
            let span = since.elapsed().as_secs_f64();
            all.push(format!(
                "the new version failed {span:.1} s before {} routed to the old one again: requests may have been lost",
                self.proxy.name()
            ));
        }
        all.into_iter().for_each(|text| self.events.notice(text));
    }

    /// Asks every proxy until it reports the route plan of a phase.
    pub(super) async fn confirm(
        &mut self,
        phase: Phase,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        let sets = Sets::of(desired, observed);
        let limits = self.limits(phase, desired, observed);
        let is_back = phase.keeps_old();
        // During a rollback the health of the new replicas does not matter.
        let watched = match is_back {
            false => serving(&sets.new),
            true => Vec::new(),
        };
        let failed = until_one_fails(self.run.engine, self.watch, watched);
        let plan = plan_to_confirm(phase, desired, observed);
        let mut awaited = sets.awaited(&plan, phase, desired);
        // The way back of a rolling update does not wait for new replicas: they are taken out next.
        let undoes = matches!(desired.goal, Goal::Undo(_));
        awaited.retain(|own| !undoes || !plan.promotes(own));
        let question = Question {
            plan: &plan,
            replicas: &observed.replicas,
            awaited: &awaited,
            // After a rollback the old set has the same router errors as before the rollout.
            known: (!is_back && !undoes).then_some(&self.complaints),
        };
        let looks = tokio::select! {
            looks = agree(&mut *self.proxy, &question, &limits) => looks,
            // A replica that fails changes the plan to confirm; the planner decides again.
            () = failed => return Ok(()),
        };
        if looks.has_stood {
            if let Some(trouble) = looks
                .as_before
                .first()
                .filter(|_| phase == Phase::Committed)
            {
                let (proxy, name) = (self.proxy.name(), &self.context.service.name);
                self.events.notice(format!(
                    "{proxy} does not serve the new version of {name} in full either: {trouble}; rollout doctor {name} says why"
                ));
            }
            facts.confirmed = Some(phase);
            if plan.is_preview() {
                let ways = self.proxy.ways_to_preview().into_iter();
                ways.for_each(|way| self.events.notice(way));
            }
            self.memory.new_was_live |= !is_back;
            self.memory.confirmed_at = Some(Instant::now());
            // With stop-first, the new replicas ended before the rollback.
            if is_back && (desired.restartable.is_empty() || desired.policy.batches.is_some()) {
                self.report_losses();
            }
            return Ok(());
        }
        facts.confirm_expired = Some(phase);
        facts.harms = looks.harms(limits.held_back);
        self.memory.new_was_live |= looks.has_switched();
        if looks.are_decided(&limits) {
            facts.complaint = looks.complaint(limits.held_back);
        }
        for trouble in looks.lost.iter().chain(&looks.trouble) {
            self.events
                .notice(format!("{}: {trouble}", self.proxy.name()));
        }
        Ok(())
    }

    pub(super) fn limits(&self, phase: Phase, desired: &Desired, observed: &Observed) -> Limits {
        let sets = Sets::of(desired, observed);
        let held_back = self.proxy.held_back();
        let is_back = phase.keeps_old();
        let unseen = !self.memory.new_was_live && !sets.new.is_empty();
        let undoes = matches!(desired.goal, Goal::Undo(_));
        // An old replica that was started again gets traffic only once Docker reports it healthy, too.
        let again = undoes && !desired.restartable.is_empty();
        let plan = plan_to_confirm(phase, desired, observed);
        // During a rollback the proxy may hold back a cutover that it has read already, and its report on a restarted
        // replica may date from before the stop. It may not have read yet what leaves without a route.
        let unproven = is_back && sets.leave_unrouted(&plan, desired);
        let stand = match unproven || ((is_back || undoes) && (unseen || again)) {
            true => self.proxy.stand(),
            false => Duration::ZERO,
        };
        // A first start without a socket proxy gets traffic only once Docker reports it healthy.
        let first = desired.confirm_hold && !is_back && sets.old.is_empty();
        let undecided = |set: &[&Replica]| set.iter().map(|own| own.undecided_for()).max();
        let more = match again {
            true => undecided(&sets.old),
            false => undecided(&sets.new).filter(|_| first),
        };
        let more = more.unwrap_or_default();
        let restarts = |old: &Replica| desired.served && desired.may_start_again(old);
        let served = |old: &Replica| old.serves() && !desired.unrouted.contains(&old.id);
        let is_way_back = |old: &&Replica| served(old) || restarts(old);
        Limits {
            // A change cannot be observed before the proxy's own throttle has passed.
            total: self.context.settings.confirm_timeout.max(held_back) + stand + more,
            stand,
            held_back,
            // Without an old set to roll back to, keep waiting after a complaint: the missing part may still appear.
            way_back: !is_back && sets.old.iter().any(is_way_back),
        }
    }

    /// The watcher of each replica; a replica that borrows a network has none.
    async fn watchers_of<'r>(
        &mut self,
        replicas: &[&'r Replica],
        facts: &mut Facts,
    ) -> Vec<(&'r Replica, Watcher)> {
        let mut watchers = Vec::new();
        for replica in replicas {
            // Without a routed port, the sockets of a borrowed network may belong to another container.
            if !self.proxy.routes() && replica.borrows_network {
                facts.drained.insert(replica.id.clone(), Drained::Unseen);
                continue;
            }
            let watcher = self.memory.watchers.take(&replica.id).await;
            // A replica that has restarted since has another network namespace.
            let watcher = match watcher.filter(|own| own.follows(&replica.started_at)) {
                Some(watcher) => watcher,
                None => Watcher::start(self.run.engine, replica, &self.watched(replica)).await,
            };
            watchers.push((*replica, watcher));
        }
        watchers
    }

    pub(super) async fn drain(
        &mut self,
        replicas: &[&Replica],
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let now = Instant::now();
        let begin = match self.proxy.routes() {
            true => self.memory.confirmed_at.unwrap_or(now) + self.settle,
            false => now,
        };
        let watchers = self.watchers_of(replicas, facts).await;
        sleep_until(begin).await;
        let deadline = Instant::now() + self.context.settings.drain_timeout;
        let (engine, events, quiet) = (
            self.run.engine,
            self.events,
            self.context.settings.drain_quiet,
        );
        let mut draining: FuturesUnordered<_> = watchers
            .into_iter()
            .map(|(replica, mut watcher)| async move {
                let how = drain::drain(engine, replica, &mut watcher, quiet, deadline, events);
                (replica, how.await, watcher)
            })
            .collect();
        // If the new replicas themselves are drained, their failure does not matter.
        let forward = !replicas
            .iter()
            .any(|own| sets.new.iter().any(|new| new.id == own.id));
        let live = if forward {
            serving(&sets.new)
        } else {
            Vec::new()
        };
        let kind = if forward {
            "old replica"
        } else {
            "new replica"
        };
        let mut failed = Box::pin(until_one_fails(engine, self.watch, live));
        loop {
            tokio::select! {
                ended = draining.next() => match ended {
                    None => return Ok(()),
                    Some((replica, how, watcher)) => {
                        let watchers = &mut self.memory.watchers;
                        watchers.ended(&replica.id, &watcher, Moment::Drained);
                        let how = how?;
                        drain::report(events, kind, &replica.name, how);
                        facts.drained.insert(replica.id.clone(), how);
                    }
                },
                // A rollback is possible only while the old replicas run.
                () = &mut failed => return Ok(()),
            }
        }
    }
}

/// Applies a claim, with a member in the same moment as the other services of its group.
async fn apply(
    proxy: &mut dyn Router,
    member: Option<Member<'_>>,
    claim: &Claim,
    replicas: &[Replica],
) -> Result<Option<String>> {
    let Some(member) = member else {
        return proxy.apply(claim, replicas).await;
    };
    match proxy.stage(claim, replicas).await? {
        Some(staged) => {
            member.write(claim.phase, staged.writes).await?;
            Ok(staged.notice)
        }
        None => {
            member.write(claim.phase, Vec::new()).await?;
            proxy.apply(claim, replicas).await
        }
    }
}

/// Whether the services of a group make this change in the same moment: the first cutover, and the way back from it.
fn is_joint(phase: Phase, desired: &Desired, observed: &Observed, facts: &Facts) -> bool {
    let is_prepared = || {
        let claim = observed.claim.as_ref();
        claim.is_some_and(|claim| claim.phase == Phase::Prepared)
    };
    facts.all_reached == Some(Milestone::Ready)
        && match phase {
            Phase::Committed => desired.goal == Goal::Roll && is_prepared(),
            Phase::RolledBack => true,
            _ => false,
        }
}

fn dead_but_routed(name: &str, span: Duration) -> String {
    format!(
        "new replica {name} was dead and still routed for {:.1} s: requests may have been lost",
        span.as_secs_f64()
    )
}

/// The ids of the replicas that serve now.
pub(super) fn serving(replicas: &[&Replica]) -> Vec<ContainerId> {
    let serving = replicas.iter().filter(|replica| replica.serves());
    serving.map(|replica| replica.id.clone()).collect()
}

/// Completes when one of these stops serving.
pub(super) async fn until_one_fails(engine: &Engine, watch: &Watch, replicas: Vec<ContainerId>) {
    loop {
        let changed = watch.next();
        for id in &replicas {
            if let Ok(now) = engine.replica(id).await
                && !now.is_some_and(|now| now.serves())
            {
                return;
            }
        }
        changed.await;
    }
}
