//! Does each step on the real engine, Compose and proxy.

pub mod bake;
mod gates;
mod hooks;
mod stop;
mod traffic;
mod watchers;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{World, decide, hook::About, together::Member};
use crate::{
    ask::{self, Asked, IsHeard},
    compose::{AnonymousVolumes, CreateRequest},
    context::{RunContext, ServiceContext},
    docker::watch::Watch,
    drain::watchers::{Watchers, start_all},
    error::{Error, Result},
    event::{Event, Events},
    hooks::limit,
    model::{
        ContainerId, Desired, Facts, Goal, Milestone, Observed, Order, Phase, Reason, Replica,
        RoutePlan, Verdict, label,
    },
    namespace::traffic::Protocol,
    plan::{self, Step, next_batch},
    prometheus::Measurements,
    proxy::Router,
    ready::EarlyChecks,
    state::Lock,
};

/// The time beyond `--stable` that a wait leaves for the gates; without it the shortest waits could never succeed.
const MARGIN: Duration = Duration::from_secs(2);

/// The longest wait for a log: a rollback does not wait for a slow log driver.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// Waits longer than this are announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(3);

pub struct Live<'a> {
    pub run: RunContext<'a>,
    pub context: &'a ServiceContext<'a>,
    pub proxy: &'a mut dyn Router,
    pub watch: &'a Watch,
    /// The image whose `/rollout` helpers run; `None` where there is none.
    pub helper_image: Option<String>,
    /// Held for as long as this lives.
    pub lock: &'a Lock,
    pub events: &'a Events,
    /// Labels for the new replicas.
    pub labels: BTreeMap<String, String>,
    /// The image id that new replicas must run; `None` where none are created.
    pub image: Option<String>,
    /// Ports that the proxy reaches by other routes than the service's labels, and the protocol of each.
    pub called_ports: &'a BTreeMap<u16, Protocol>,
    /// The pause between confirmation and drain.
    pub settle: Duration,
    /// How long the new replicas are watched after the cutover.
    pub bake: Duration,
    /// What the proxy complained of before the first change. It does not fail the confirmation.
    pub complaints: BTreeSet<String>,
    /// What the hooks of `x-rollout.hooks` are about; `None` where none run.
    pub about: Option<About>,
    /// The other services that cut over in the same moment.
    pub member: Option<Member<'a>>,
    pub memory: Memory,
}

/// State of a run between steps; a later run does without it.
#[derive(Default)]
pub struct Memory {
    watchers: Watchers,
    early: EarlyChecks,
    confirmed_at: Option<Instant>,
    /// A proxy has reported the new replicas live, so no cutover is pending any more.
    new_was_live: bool,
    ready_by: Option<Instant>,
    bake_until: Option<Instant>,
    /// What the metrics of this bake have said.
    measurements: Option<Vec<Measurements>>,
    /// The new replicas that a cutover made live, and their names.
    shown: Vec<(ContainerId, String)>,
    /// When the bake found that the new version failed.
    failed_at: Option<Instant>,
    has_warned_of_mix: bool,
    logs: Vec<String>,
}

impl Memory {
    pub fn new(watch: &Watch) -> Self {
        Self {
            watchers: Watchers::new(watch.out_of_memory()),
            ..Self::default()
        }
    }

    /// After a request the next watch begins anew.
    fn watch_afresh(&mut self) {
        self.bake_until = None;
        self.measurements = None;
    }
}

struct Sets<'a> {
    new: Vec<&'a Replica>,
    old: Vec<&'a Replica>,
}

impl<'a> Sets<'a> {
    fn of(desired: &Desired, observed: &'a Observed) -> Self {
        let (new, old) = observed.split(&desired.rollout);
        Self { new, old }
    }

    /// The replicas whose share must match to confirm a plan. A plan does not wait for a route of old replicas that had
    /// none before, but it takes none of them out unconfirmed: a proxy that is behind may route to them yet. Replicas that
    /// were stopped early get nothing, whatever is listed for their name or address.
    fn awaited(&self, plan: &RoutePlan, phase: Phase, desired: &Desired) -> Vec<&'a Replica> {
        let counts = |old: &&&Replica| {
            let had_route = !desired.unrouted.contains(&old.id);
            let is_there = old.may_run() || !desired.may_start_again(old);
            (had_route || plan.hides(old)) && (is_there || phase.keeps_old())
        };
        let old = self.old.iter().filter(counts);
        self.new.iter().chain(old).copied().collect()
    }

    /// Whether a plan takes out old replicas that run, and none of them had a route: then nothing shows that the proxy has
    /// read the plan.
    fn leave_unrouted(&self, plan: &RoutePlan, desired: &Desired) -> bool {
        let leaves = |old: &&&Replica| old.may_run() && plan.hides(old);
        let mut leaving = self.old.iter().filter(leaves).peekable();
        leaving.peek().is_some() && leaving.all(|old| desired.unrouted.contains(&old.id))
    }
}

#[async_trait(?Send)]
impl World for Live<'_> {
    async fn observe(&mut self) -> Result<Observed> {
        let replicas = self.run.engine.replicas(&self.context.key).await?;
        let claim = self.proxy.claim(&replicas).await?;
        Ok(Observed { replicas, claim })
    }

    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        let member = self.member;
        match (member, &desired.goal) {
            (None, _) => {}
            (Some(_), Goal::Roll) => self.warn_of_mix(step, facts),
            // Its new version serves already, for the old one was removed by another command.
            (Some(member), Goal::Finish) => member.leave(),
            (Some(member), Goal::Undo(_)) => member.fail(),
        }
        let hears_others = decide::hears_others(step) && facts.others_failed.is_none();
        let heard = decide::hears(step, desired, observed.claim.as_ref());
        let (engine, key, since) = (self.run.engine, &self.context.key, self.lock.epoch);
        let open = tokio::select! {
            biased;
            taken = self.take(step, desired, observed, facts) => return taken,
            why = others_fail(member), if hears_others => {
                facts.others_failed = Some(why);
                return Ok(());
            }
            open = ask::requested(engine, key, since, &heard), if !heard.is_empty() => open,
        };
        if let Some(asked) = open.receive().await {
            plan::take_request(&asked, desired, observed, facts);
            self.memory.watch_afresh();
        }
        Ok(())
    }

    async fn asked(&mut self, is_heard: &IsHeard<'_>) -> Option<Asked> {
        let (engine, key, since) = (self.run.engine, &self.context.key, self.lock.epoch);
        let asked = ask::receive(engine, key, since, is_heard).await?;
        self.memory.watch_afresh();
        Some(asked)
    }

    fn limit(&mut self, step: &Step, desired: &Desired, observed: &Observed) -> Option<Duration> {
        let sets = Sets::of(desired, observed);
        match step {
            Step::AwaitReady => {
                let until = self.ready_by(&sets.new);
                Some(until.saturating_duration_since(Instant::now()))
            }
            Step::Confirm(phase) => Some(self.limits(*phase, desired, observed).total),
            Step::Hook(phase) => self.context.hooks.get(phase).map(|hooks| limit(hooks)),
            Step::Bake => Some(self.bake),
            Step::Watch { batch } => Some(self.watch_of(*batch, desired)),
            Step::Pause { span, .. } => *span,
            Step::Drain { .. } => Some(self.settle + self.context.settings.drain_timeout),
            _ => None,
        }
    }

    fn take_logs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.memory.logs)
    }
}

impl Live<'_> {
    /// Reports a service that stays with the new version although the others go back.
    fn warn_of_mix(&mut self, step: &Step, facts: &Facts) {
        let retires = matches!(
            step,
            Step::Drain { .. } | Step::PreStop { .. } | Step::Stop { .. }
        );
        let stays = retires && facts.all_reached < Some(Milestone::Live);
        if stays
            && !self.memory.has_warned_of_mix
            && let Some(why) = &facts.others_failed
        {
            self.memory.has_warned_of_mix = true;
            let name = &self.context.service.name;
            self.events.notice(format!(
                "{why}; {name} stays with the new version, because no old replica can take its traffic"
            ));
        }
    }

    /// Does a step for this service alone.
    async fn take(
        &mut self,
        step: &Step,
        desired: &Desired,
        observed: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        let (engine, sets) = (self.run.engine, Sets::of(desired, observed));
        let removes = matches!(step, Step::Stop { .. } | Step::Remove { .. });
        if let Step::Stop { replicas } | Step::Remove { replicas } = step {
            self.memory.watchers.end(replicas).await;
        }
        let failed = matches!(desired.goal, Goal::Undo(Reason::Failed(_)));
        if removes && failed && self.memory.logs.is_empty() {
            let failed = |new: &&&Replica| !new.serves() || new.restarts > 0;
            self.keep_logs(sets.new.iter().find(failed).copied()).await;
        }
        if !step.is_wait() {
            self.lock.check().await?;
        }
        match step {
            Step::Route(phase) => self.route(*phase, desired, observed, facts).await,
            Step::Hook(phase) => {
                self.hook(*phase, desired, &sets, facts).await;
                Ok(())
            }
            Step::Bake => self.bake(desired, &sets, facts).await,
            Step::Watch { batch } => self.watch_batch(*batch, desired, &sets, facts).await,
            Step::Pause { shift, span } => self.pause((*shift, *span), desired, &sets, facts).await,
            Step::Create { replicas } => {
                let batch = next_batch(desired, observed);
                self.create(desired, (*replicas, batch), &sets, facts).await
            }
            Step::AwaitReady => self.await_ready(desired, &sets, facts).await,
            Step::AwaitOthers(all) => {
                self.await_others(*all, &sets, facts).await;
                Ok(())
            }
            Step::Confirm(phase) => self.confirm(*phase, desired, observed, facts).await,
            Step::Drain { replicas } => self.drain(&pick(observed, replicas), &sets, facts).await,
            Step::PreStop { replicas } => {
                self.run_pre_stop(&pick(observed, replicas), &sets, facts)
                    .await
            }
            Step::Stop { replicas } => self.stop(&pick(observed, replicas), desired).await,
            Step::Start { replicas } => self.start(replicas, facts).await,
            Step::Remove { replicas } => {
                all(join_all(replicas.iter().map(|id| engine.remove(id))).await)
            }
            Step::Rename { names } => {
                all(join_all(names.iter().map(|(id, name)| engine.rename(id, name))).await)
            }
            Step::Release => {
                if desired.confirm_hold {
                    self.announce_release_wait(&sets);
                }
                self.proxy
                    .release(&desired.rollout, &observed.replicas)
                    .await
            }
        }
    }

    async fn create(
        &mut self,
        desired: &Desired,
        (replicas, batch): (u32, Option<u16>),
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        self.memory.ready_by = None;
        let batch = batch.map(|batch| label::batch(&desired.rollout, batch));
        let batch = batch.map(|value| (label::BATCH.to_owned(), value));
        let request = CreateRequest {
            project: self.run.project,
            service: &self.context.service.name,
            replicas,
            dependencies: self.context.dependencies.clone(),
            rollout: &desired.rollout.0,
            lock: Some(&self.lock.id),
            labels: self.labels.clone().into_iter().chain(batch).collect(),
            anonymous_volumes: match desired.policy.order {
                _ if self.context.settings.renews_anon_volumes() => AnonymousVolumes::Renew,
                Order::StartFirst => AnonymousVolumes::Refuse,
                // A replica that was stopped first does not write to them any more.
                Order::StopFirst => {
                    AnonymousVolumes::Inherit(sets.old.iter().map(|old| old.id.clone()).collect())
                }
            },
        };
        let events = self.events.clone();
        // The drain must see every answer from its beginning, so the watchers start with the creation.
        let watching = start_all(self.run.engine, self.unwatched(desired, sets));
        let creating = self
            .run
            .compose
            .create(&request, |line| events.emit(Event::Compose { line }));
        let (created, watchers) = tokio::join!(creating, watching);
        self.memory.watchers.add(watchers, false);
        if created.is_err() {
            self.keep_logs_of_failed(desired).await;
        }
        facts.created = true;
        created?;
        self.reject_another_image(desired, facts).await
    }

    /// Compose uses the image's tag, which may have moved since the image was read.
    async fn reject_another_image(&self, desired: &Desired, facts: &mut Facts) -> Result<()> {
        let (Some(wanted), Some(reference)) = (&self.image, &self.context.service.image) else {
            return Ok(());
        };
        let named = self.run.engine.image(reference).await?;
        if named.is_some_and(|named| named.id == *wanted) {
            return Ok(());
        }
        for new in self.run.engine.replicas(&self.context.key).await? {
            if new.rollout.as_ref() == Some(&desired.rollout) && new.image != *wanted {
                let why =
                    format!("runs another image: the tag {reference} was moved during the rollout");
                facts.verdicts.insert(new.id, Verdict::Failed(why));
            }
        }
        Ok(())
    }

    /// Without a socket proxy that reports health, the proxy waits for Docker's own health status.
    fn announce_release_wait(&self, sets: &Sets<'_>) {
        let longest = sets.new.iter().map(|new| new.undecided_for()).max();
        if let Some(longest) = longest.filter(|longest| *longest > ANNOUNCE_AFTER) {
            let longest = humantime::format_duration(longest);
            self.events.notice(format!(
                "the new version is live; the pin stays until Docker's own health check passes, {longest} at most"
            ));
        }
    }

    async fn keep_logs_of_failed(&mut self, desired: &Desired) {
        let (engine, key) = (self.run.engine, &self.context.key);
        let replicas = engine.replicas(key).await.unwrap_or_default();
        // If a hook failed, no replica was started.
        let hooks = engine
            .one_offs(key, Some(&desired.rollout))
            .await
            .unwrap_or_default();
        let failed = hooks
            .iter()
            .chain(&replicas)
            .find(|new| new.rollout.as_ref() == Some(&desired.rollout) && !new.serves());
        self.keep_logs(failed).await;
    }

    /// A rollback removes the container, and its log with it.
    async fn keep_logs(&mut self, failed: Option<&Replica>) {
        if let Some(failed) = failed {
            let lines = timeout(LOG_PATIENCE, self.run.engine.last_lines(&failed.id));
            self.memory.logs = lines.await.unwrap_or_default();
        }
    }
}

/// Completes with the reason once the other services of a joint cutover go back.
async fn others_fail(member: Option<Member<'_>>) -> String {
    match member {
        Some(member) => member.failed().await,
        None => pending().await,
    }
}

fn pick<'a>(observed: &'a Observed, ids: &[ContainerId]) -> Vec<&'a Replica> {
    observed
        .replicas
        .iter()
        .filter(|replica| ids.contains(&replica.id))
        .collect()
}

fn all(results: Vec<Result<()>>) -> Result<()> {
    results
        .into_iter()
        .collect::<Result<Vec<()>, Error>>()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run, Share},
        plan::{
            route_plan,
            simulator::{Simulator, WELL, old, replica},
        },
        proxy::Observation,
    };

    #[test]
    fn the_way_back_does_not_wait_for_a_replica_that_no_proxy_routed_to() {
        let (before, served) = (old("one"), old("two"));
        let mut world = Simulator::new(vec![before.clone(), served.clone()], 1, true, WELL);
        world.desired.unrouted.insert(before.id.clone());
        let of = world.desired.rollout.clone();
        let new = replica("new", Some(&of), Run::Running, Health::Healthy);
        world.observed.replicas.push(new.clone());
        let sets = Sets::of(&world.desired, &world.observed);
        let phase = Phase::RolledBack;
        let plan = route_plan(phase, &world.desired, &world.observed);
        let awaited = sets.awaited(&plan, phase, &world.desired);
        let agrees = |before_is, served_is, new_is| {
            let says = Observation {
                routing: [
                    (before.id.clone(), before_is),
                    (served.id.clone(), served_is),
                    (new.id.clone(), new_is),
                ]
                .into(),
                ..Observation::default()
            };
            says.follows(&plan, &awaited)
        };
        let (live, hidden) = (Share::Live, Share::Hidden);
        assert!(agrees(hidden, live, hidden));
        // A rollback waits for the replicas that were routed, and for the new ones to be hidden.
        assert!(!agrees(hidden, hidden, hidden));
        assert!(!agrees(hidden, live, live));
        let is_awaited = |phase| {
            let plan = route_plan(phase, &world.desired, &world.observed);
            let awaited = sets.awaited(&plan, phase, &world.desired);
            awaited.iter().any(|own| own.id == before.id)
        };
        assert!(!is_awaited(Phase::Shifted { step: 1 }) && is_awaited(Phase::Committed));
    }

    #[test]
    fn a_replica_that_leaves_is_waited_for_although_no_proxy_routed_to_it_yet() {
        let (behind, served) = (old("one"), old("two"));
        let mut world = Simulator::new(vec![behind.clone(), served.clone()], 1, true, WELL);
        world.desired.unrouted.insert(behind.id.clone());
        let sets = Sets::of(&world.desired, &world.observed);
        let hides = |olds: &[&Replica]| {
            let olds = olds.iter().map(|own| own.id.clone());
            RoutePlan::of(&world.desired.rollout, Share::Hidden, olds)
        };
        let plan = hides(&[&behind]);
        let awaited = sets.awaited(&plan, Phase::Prepared, &world.desired);
        let agrees = |behind_is| {
            let says = Observation {
                routing: [
                    (behind.id.clone(), behind_is),
                    (served.id.clone(), Share::Live),
                ]
                .into(),
                ..Observation::default()
            };
            says.follows(&plan, &awaited)
        };
        assert!(agrees(Share::Hidden) && !agrees(Share::Live));
        // Only a replica that had a route shows by leaving that the plan is read.
        assert!(sets.leave_unrouted(&plan, &world.desired));
        assert!(!sets.leave_unrouted(&hides(&[&behind, &served]), &world.desired));
        assert!(!sets.leave_unrouted(&hides(&[]), &world.desired));
    }
}
