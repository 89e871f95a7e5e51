//! Executes a rollout from its journal entry to its end, and records its revision or why it failed.

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    Ended,
    joined::When,
    lock::Locked,
    prepare::Prepared,
    unfinished::{Settled, desired},
    version::Fetched,
};
use crate::{
    error::{Error, Outcome, Result},
    event::{Event, Events, ServiceResult},
    execute::{
        self, Made, Summary,
        hook::{About, hook_phases},
    },
    model::{
        Batches, ContainerId, Desired, Facts, Goal, HookPhase, Order, Pause, Policy, Replica,
        RolloutId, ServiceKey, Shift,
    },
    settings::Strategy,
    state::journal::Intent,
    variables::Variables,
};

pub(super) struct Begun<'a> {
    settled: Settled<'a>,
    fetched: Fetched,
    events: Events,
    rollout: RolloutId,
    intent: Intent,
    about: About,
    bake: Duration,
}

impl<'a> Settled<'a> {
    /// Emits the start event and writes the journal entry.
    pub async fn begin(self, fetched: Fetched) -> Result<Begun<'a>> {
        let locked = &self.locked;
        let prepared = &locked.prepared;
        let (run, context) = (prepared.run, &prepared.context);
        prepared.report_differences(&self.replicas);
        prepared.report_joined(When::Before);
        let bake = prepared.bake(&fetched.image, locked.held.helper_image.is_some());
        prepared.warn().await;
        let rollout = rollout_id(&context.key, context.epoch);
        let number = self.memory.revisions.next(&self.replicas);
        let events = run.events.of_rollout(&rollout);
        events.emit(prepared.started(number, &fetched));
        let at = locked.held.lock.epoch;
        let mut intent = Intent {
            revision: prepared.revision(&fetched.version, (number, &rollout), at),
            displaced: None,
            failed: None,
            code: None,
            unrouted: self.before.unrouted.clone(),
            complaints: self.before.complaints.clone(),
            ran: prepared.ran(&self.replicas),
            batches: prepared.batches(&self.replicas),
            shifts: prepared.shifts(&self.replicas),
        };
        let mut about = About::of(
            context,
            &intent.revision,
            &self.replicas,
            &self.memory.hooks,
        );
        about.killed.clone_from(&self.killed);
        intent.revision.variables = self.variables()?;
        if let Some(back) = run.back {
            intent.displaced = run.displaced(back).await?;
        }
        locked.note_begin(&intent).await?;
        if run.back.is_some()
            && let Err(error) = run.name_recorded(&intent).await
        {
            locked.note_failure(intent, &error).await;
            return Err(error);
        }
        Ok(Begun {
            settled: self,
            fetched,
            events,
            rollout,
            intent,
            about,
            bake,
        })
    }
}

impl Prepared<'_> {
    fn started(&self, revision: u64, fetched: &Fetched) -> Event {
        let (image, replaces) = fetched.names.clone();
        Event::Started {
            revision,
            replicas: self.context.replicas,
            proxy: self.proxy.describe(),
            image,
            replaces,
            undo_to: self.run.undo_to(),
            restart_of: self.run.restart_of(),
        }
    }
}

impl Settled<'_> {
    /// What is written to an environment file if the rollout succeeds.
    fn variables(&self) -> Result<Option<Variables>> {
        let Prepared { run, context, .. } = &self.locked.prepared;
        let Some(back) = run.back else {
            return run.given(&context.service.name);
        };
        let revisions = &self.memory.revisions;
        let running = revisions.running(&self.replicas).unwrap_or_default();
        Ok(revisions.variables_back(running, back.number))
    }
}

impl Begun<'_> {
    pub async fn execute(&mut self) -> Result<Summary> {
        let Settled {
            locked,
            replicas: old,
            before,
            ..
        } = &mut self.settled;
        if let Some(group) = locked.held.group {
            locked.prepared.proxy.join(&group.name(&self.rollout));
        }
        let prepared = &locked.prepared;
        let (run, context) = (prepared.run, &prepared.context);
        let mut desired = prepared.to_roll(self.rollout.clone(), old, self.bake);
        desired.unrouted.clone_from(&self.intent.unrouted);
        let key = context.key.clone();
        let interrupted = locked.held.interrupted.clone();
        let service = prepared.scope().service();
        let member = locked.held.group.map(|group| group.member(service));
        let mut live = locked.live(&self.events, old).await;
        live.labels = run.revision_labels(&self.intent.revision, old);
        live.image = Some(self.fetched.version.image.clone());
        live.bake = self.bake;
        live.about = Some(self.about.clone());
        live.member = member;
        live.complaints = std::mem::take(&mut before.complaints);
        let facts = Facts::default();
        let rolled = execute::run(&mut live, desired, facts, &self.events, interrupted).await;
        let figures = live.figures().await;
        self.events.emit(Event::Figures(Box::new(figures.clone())));
        self.intent.revision.figures = Some(figures);
        if let Err(error) = run.engine.sweep_one_offs(&key, Some(&self.rollout)).await {
            let left = &error.message;
            let notice = format!("the container of a hook could not be removed: {left}");
            run.events.notice(notice);
        }
        rolled
    }

    /// Records the new revision, or the failure.
    pub async fn finish(self, rolled: Result<Summary>) -> Result<Ended> {
        let Settled {
            locked,
            mut memory,
            replicas: old,
            ..
        } = self.settled;
        let before = memory.revisions.running(&old);
        let summary = match rolled {
            Ok(summary) => summary,
            Err(error) if error.is_open => return Err(error.within(self.events.scope())),
            Err(error) => {
                locked.note_failure(self.intent, &error).await;
                let (phase, about) = (HookPhase::Failed, (&self.events, &self.about));
                locked
                    .hook_afterwards(phase, about, Some(&error.message))
                    .await;
                return Err(error.within(self.events.scope()));
            }
        };
        let prepared = &locked.prepared;
        let mut intent = self.intent;
        if prepared.run.restarts() {
            prepared.run.put_back(&mut intent).await;
        }
        // Before the record, so that a run that is killed in between is completed by the next.
        let variables = intent.revision.variables.as_ref();
        prepared.write_variables(variables).await;
        let revision = intent.revision.number;
        intent.revision.at = prepared.run.engine.clock_ms().await;
        locked.record(&mut memory, intent.revision).await;
        prepared.report_joined(When::After);
        let (phase, about) = (HookPhase::PostDeploy, (&self.events, &self.about));
        locked.hook_afterwards(phase, about, None).await;
        let (image, replaces) = self.fetched.names;
        let made = Made {
            revision,
            replicas: prepared.context.replicas,
            image: image.clone(),
            replaces,
        };
        let mut summary = summary;
        summary.phases.extend(self.fetched.phases);
        self.events.emit(summary.finished(made, prepared.began));
        Ok(Ended {
            result: ServiceResult::Rolled,
            revision: Some(revision),
            before,
            image,
        })
    }
}

impl Prepared<'_> {
    /// The desired state of a rollout over these old replicas.
    pub(super) fn to_roll(&self, rollout: RolloutId, olds: &[Replica], bake: Duration) -> Desired {
        let context = &self.context;
        let mut desired = desired(Goal::Roll, rollout, context.replicas, &*self.proxy, olds);
        desired.policy.order = context.settings.order();
        desired.restartable = self.ran(olds).into_keys().collect();
        desired.policy.batches = self.batches(olds);
        desired.policy.shifts = self.shifts(olds);
        self.set_limits(&mut desired.policy, bake);
        desired.pre_stop = context.has_pre_stop(olds);
        desired.hook_phases = hook_phases(context, self.run.back.is_some());
        desired.policy.together = self.run.together;
        desired
    }

    /// Where the rollout waits between its steps, and what follows a failed batch, by the settings of this run.
    pub(super) fn set_limits(&self, policy: &mut Policy, bake: Duration) {
        let settings = &self.context.settings;
        let bakes = !bake.is_zero();
        policy.attach = settings.attach;
        // Each batch bakes, while the old replicas that it replaces still run.
        policy.monitor = bakes || !settings.watch(true).is_zero();
        policy.delay = !settings.watch(false).is_zero();
        policy.failure_action = settings.failure_action.unwrap_or_default();
        let ratio = settings.max_failure_ratio.unwrap_or_default();
        policy.may_fail = may_fail(ratio, self.context.replicas);
        policy.bake = bakes && policy.batches.is_none();
    }

    /// Old replicas that the rollout stops before its end and has to start again if it fails, with the start time of each.
    fn ran(&self, olds: &[Replica]) -> BTreeMap<ContainerId, String> {
        let is_whole = self.context.settings.order() == Order::StopFirst;
        let stops_early = is_whole || self.batches(olds).is_some();
        let all = olds.iter().filter(|old| stops_early && old.may_run());
        all.map(|old| (old.id.clone(), old.started_at.clone()))
            .collect()
    }

    /// The shifts before the cutover. A service that does not serve has no traffic to be kept or moved step by step.
    pub(super) fn shifts(&self, olds: &[Replica]) -> Vec<Shift> {
        let context = &self.context;
        if !olds.iter().any(Replica::serves) {
            return Vec::new();
        }
        let has_hook = context.hooks.contains_key(&HookPhase::PreCutover);
        let preview = context.settings.preview().map(|_| Shift {
            percent: 0,
            // The hooks decide instead of a person.
            pause: (!has_hook).then_some(Pause::Open),
            analysis: false,
        });
        let is_canary = context.settings.strategy == Strategy::Canary;
        let steps = context.steps.iter().filter(|_| is_canary);
        preview.into_iter().chain(steps.copied()).collect()
    }

    /// The batches of a rolling update. A service that does not serve has nothing to keep up, so it is started in one.
    fn batches(&self, olds: &[Replica]) -> Option<Batches> {
        let limits = self.context.settings.limits(self.context.replicas)?;
        let ran = olds.iter().filter(|old| old.may_run()).count() as u32;
        let serves = olds.iter().any(Replica::serves);
        serves.then(|| Batches::within(limits, self.context.replicas, ran))
    }
}

impl Locked<'_> {
    /// Records why a rollout failed. Returns that record.
    pub async fn note_failure(&self, intent: Intent, error: &Error) -> Intent {
        let mut intent = intent.ended(error);
        // After any other outcome it is unknown what serves.
        if matches!(error.outcome, Outcome::Failed | Outcome::Interrupted) {
            self.prepared.run.put_back(&mut intent).await;
            self.prepared.report_left_behind(&intent.ran).await;
            // The old replicas run; any later stop is the operator's.
            intent.ran.clear();
        }
        self.note_end(&intent).await;
        intent
    }
}

/// How many of these replicas a ratio allows to fail. A product such as 0.29 * 100 is a little less than the number meant.
fn may_fail(ratio: f64, replicas: u32) -> u32 {
    (ratio * f64::from(replicas) + 1e-6) as u32
}

/// The id contains the service, since overlay rules match on it and two services may start at the same moment.
pub fn rollout_id(key: &ServiceKey, epoch: u64) -> RolloutId {
    let digest = Sha256::digest(key.to_string());
    RolloutId(format!(
        "r{epoch:x}-{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2]
    ))
}

#[cfg(test)]
mod tests {
    use super::may_fail;

    #[test]
    fn a_ratio_allows_whole_replicas_without_an_error_of_rounding() {
        let allowed = [(0.29, 100), (0.5, 3), (0.0, 4), (1.0, 4)];
        let allowed = allowed.map(|(ratio, replicas)| may_fail(ratio, replicas));
        assert_eq!(allowed, [29, 1, 0, 4]);
    }
}
