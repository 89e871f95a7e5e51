//! A rollout once its lock is held: settle what is unfinished, fetch the version, begin, execute, record.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::watch, time::Instant};

use super::{
    Purpose, Scene, Subject, Version, desired,
    joined::When,
    record::{self, Memory},
    unfinished::Settled,
    untouched,
};
use crate::{
    engine::Image,
    error::{Error, Outcome, Result, one_line},
    event::{Event, Events},
    execute::{self, Summary},
    model::{ContainerId, Facts, Goal, Replica, RolloutId, ServiceKey, image_change},
    proxy::Proxy,
    state::{Lock, journal::Intent},
    watch::Watch,
};

/// A service whose lock this process holds.
pub(super) struct Locked<'a> {
    pub scene: Scene<'a>,
    pub subject: &'a Subject<'a>,
    pub proxy: &'a mut dyn Proxy,
    pub lock: &'a Lock,
    pub watch: &'a Watch,
    /// When the service was first read.
    pub began: Instant,
    pub interrupted: watch::Receiver<bool>,
}

/// The version that is wanted, with its image on the engine.
struct Fetched {
    version: Version,
    image: Image,
    /// What people call its image, and the one that it replaces.
    names: (String, Option<String>),
    phases: BTreeMap<&'static str, u64>,
}

/// A rollout that is noted in the journal.
struct Begun {
    events: Events,
    rollout: RolloutId,
    intent: Intent,
    fetched: Fetched,
    olds: Vec<Replica>,
    /// What the proxy complained of before the first change.
    complaints: BTreeSet<String>,
    bake: Duration,
}

impl Locked<'_> {
    pub async fn roll(mut self) -> Result<()> {
        let (mut memory, settled) = self.settle().await?;
        if self.subject.purpose == Purpose::Settle {
            return Ok(());
        }
        let fetched = self.fetch(&mut memory, &settled).await?;
        if self.already_runs(&fetched, &settled.olds).await? {
            self.scene.events.emit(Event::NothingToDo {
                replicas: self.subject.replicas,
                image: fetched.names.0,
            });
            return Ok(());
        }
        let mut begun = self.begin(&memory, fetched, settled).await?;
        let rolled = self.execute(&mut begun).await;
        self.finish(&mut memory, begun, rolled).await
    }

    /// Finishes or undoes what an earlier run has left.
    async fn settle(&mut self) -> Result<(Memory, Settled)> {
        let (scene, subject, lock) = (self.scene, self.subject, self.lock);
        let mut memory = scene.remembered(subject, lock).await;
        let there = scene.engine.replicas(&subject.key).await?;
        let ids: Vec<ContainerId> = there.into_iter().map(|replica| replica.id).collect();
        scene.engine.sweep_helpers(&ids).await?;
        scene.engine.sweep_hooks(&subject.key).await?;
        let held = (lock, self.watch, &memory);
        let interrupted = self.interrupted.clone();
        let settled = scene.settle_unfinished(subject, self.proxy, held, interrupted);
        let mut settled = settled.await?;
        if !settled.was_unfinished {
            settled.before = subject.before.clone();
        }
        scene
            .catch_up(subject, lock, &mut memory, &settled.olds)
            .await;
        Ok((memory, settled))
    }

    /// Brings the image to the engine, and records what runs where nothing has.
    async fn fetch(&mut self, memory: &mut Memory, settled: &Settled) -> Result<Fetched> {
        let (scene, subject) = (self.scene, self.subject);
        let unchanged = |error: Error| match settled.was_unfinished {
            true => error,
            false => untouched(error),
        };
        let mut phases = BTreeMap::new();
        let message = match settled.was_unfinished {
            true => "interrupted; the unfinished rollout is settled, and nothing new was begun",
            false => execute::UNCHANGED,
        };
        let fetching = scene.fetch_image(subject.service, &subject.settings, &mut phases);
        let fetched = execute::unless_interrupted(&self.interrupted, message, fetching);
        fetched.await.map_err(unchanged)?;
        let version = scene.version(subject, self.proxy.routes());
        let (version, image) = version.await.map_err(unchanged)?;
        if scene.back.is_none() {
            let found = (&settled.olds[..], self.proxy.describe());
            let adopted = scene.adopt(subject, self.lock, memory, &version, found);
            adopted.await;
        }
        let reference = subject.service.image.clone().unwrap_or_default();
        Ok(Fetched {
            names: image_change(&reference, &version.image, &settled.olds),
            version,
            image,
            phases,
        })
    }

    async fn already_runs(&mut self, fetched: &Fetched, olds: &[Replica]) -> Result<bool> {
        let (scene, subject) = (self.scene, self.subject);
        let is_current = scene.is_current(subject, &fetched.version, olds, self.proxy);
        Ok(!subject.settings.force && is_current.await?)
    }

    /// Says what is about to happen, and notes it in the journal.
    async fn begin(
        &mut self,
        memory: &Memory,
        fetched: Fetched,
        settled: Settled,
    ) -> Result<Begun> {
        let (scene, subject) = (self.scene, self.subject);
        let Settled { olds, before, .. } = settled;
        scene.tell_differences(subject, &olds);
        scene.tell_joined(subject, When::Before);
        let bake = scene.bake(subject, &fetched.image, self.proxy.routes());
        scene.warn(subject).await;
        let rollout = rollout_id(&subject.key, subject.epoch);
        let revision = memory.revisions.next(&olds);
        let events = scene.events.of_rollout(&rollout);
        let (image, replaces) = fetched.names.clone();
        events.emit(Event::Started {
            revision,
            replicas: subject.replicas,
            proxy: self.proxy.describe(),
            image,
            replaces,
            undo_to: scene.back.map(|back| back.number),
        });
        let (way, epoch) = (self.proxy.describe(), self.lock.epoch);
        let made = (revision, &rollout);
        let mut intent = Intent {
            revision: scene.revision(subject, &fetched.version, made, way, epoch),
            displaced: None,
            failed: None,
            unrouted: before.unrouted,
            ran: record::ran(&subject.settings, &olds),
        };
        if let Some(back) = scene.back {
            intent.displaced = scene.displaced(back).await?;
        }
        scene.begin(subject, self.lock, &intent).await?;
        if scene.back.is_some()
            && let Err(error) = scene.name_recorded(&intent).await
        {
            self.note_failure(intent, &error).await;
            return Err(error);
        }
        Ok(Begun {
            events,
            rollout,
            intent,
            fetched,
            olds,
            complaints: before.complaints,
            bake,
        })
    }

    /// Every strategy: the one loop.
    async fn execute(&mut self, begun: &mut Begun) -> Result<Summary> {
        let (scene, subject) = (self.scene, self.subject);
        let settle = scene.settle(subject, self.proxy, &begun.olds).await;
        let (rollout, routed) = (begun.rollout.clone(), self.proxy.routes());
        let mut desired = desired(Goal::Roll, rollout, subject.replicas, routed, &begun.olds);
        desired.policy.order = subject.settings.order();
        desired.restartable = begun.intent.ran.keys().cloned().collect();
        desired.unrouted.clone_from(&begun.intent.unrouted);
        desired.confirm_hold = self.proxy.capabilities().hold_reroutes;
        desired.hooks = subject.has_hooks(&begun.olds);
        desired.policy.bake = !begun.bake.is_zero();
        let mut live = scene.live(subject, self.proxy, self.lock, self.watch, settle);
        live.labels = scene.revision_labels(&begun.intent.revision, &begun.olds);
        live.image = Some(begun.fetched.version.image.clone());
        live.bake = begun.bake;
        live.complaints = std::mem::take(&mut begun.complaints);
        live.events = &begun.events;
        let (facts, interrupted) = (Facts::default(), self.interrupted.clone());
        let rolled = execute::run(&mut live, desired, facts, &begun.events, interrupted).await;
        if let Err(error) = scene.engine.sweep_hooks(&subject.key).await {
            let left = &error.message;
            let notice = format!("a container of a hook is left behind: {left}");
            scene.events.notice(notice);
        }
        rolled
    }

    /// Records what the rollout has made, or that it has failed.
    async fn finish(
        &mut self,
        memory: &mut Memory,
        begun: Begun,
        rolled: Result<Summary>,
    ) -> Result<()> {
        let (scene, subject, lock) = (self.scene, self.subject, self.lock);
        let summary = match rolled {
            Ok(summary) => summary,
            Err(error) => {
                self.note_failure(begun.intent, &error).await;
                return Err(error.within(begun.events.scope()));
            }
        };
        let mut made = begun.intent.revision;
        let revision = made.number;
        made.at = scene.engine.clock_ms().await;
        scene.record(subject, lock, memory, made).await;
        scene.tell_joined(subject, When::After);
        let mut phases = begun.fetched.phases;
        phases.extend(summary.phases);
        let total_ms = self.began.elapsed().as_millis() as u64;
        // Checks, the lock, an earlier rollout, records: no step of this one.
        let steps: u64 = phases.values().sum();
        phases.insert("other", total_ms.saturating_sub(steps));
        let (image, replaces) = begun.fetched.names;
        begun.events.emit(Event::Finished {
            revision,
            replicas: subject.replicas,
            image,
            replaces,
            cutover_ms: summary.cutover.map(|cutover| cutover.as_millis() as u64),
            gap_ms: summary.gap.map(|gap| gap.as_millis() as u64),
            total_ms,
            phases,
        });
        Ok(())
    }

    async fn note_failure(&self, mut intent: Intent, error: &Error) {
        intent.failed = Some(one_line(&error.message));
        // Where a person is needed, it is not known what serves.
        if matches!(error.outcome, Outcome::Failed | Outcome::Interrupted) {
            self.scene.put_back(&mut intent).await;
            let ran = &intent.ran;
            self.scene.tell_left_behind(self.subject, ran).await;
            // The old replicas run. One that is stopped from here on is stopped by its operator.
            intent.ran.clear();
        }
        self.scene.note_end(self.subject, self.lock, &intent).await;
    }
}

/// The service is part of the id, since the overlay's rules match on it: two services may be rolled at the same moment.
fn rollout_id(key: &ServiceKey, epoch: u64) -> RolloutId {
    let digest = Sha256::digest(key.to_string());
    RolloutId(format!(
        "r{epoch:x}-{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2]
    ))
}
