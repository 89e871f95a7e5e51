//! Records in the state volume: the start of a rollout, its revision, and the kept image.
//!
//! A record that cannot be read or written is a notice, and the rollout continues: behind a proxy no record decides what
//! serves. The exception is stop-first: a later run needs the list of old replicas to start them again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::{lock::Locked, prepare::Prepared};
use crate::{
    compose::{
        contents,
        reproduce::{Original, Reproduced, reproduce},
    },
    context::RunContext,
    docker::engine::Image,
    error::{Error, Outcome, Result},
    event::Event,
    figures::Spans,
    model::{ContainerId, Observed, Replica, RolloutId, Run, Shift, image_name, label},
    plan::StopFirst,
    retry,
    state::{
        hooks,
        journal::Intent,
        keep, owner,
        revisions::{ImageRecord, Revision, Revisions},
        store,
    },
};

/// The recorded parts of a version.
#[derive(Default)]
pub(super) struct Version {
    pub image: String,
    pub digests: Vec<String>,
    pub content: String,
    pub hash: String,
    pub config: String,
}

/// The records of a service.
#[derive(Default)]
pub(super) struct Memory {
    pub revisions: Revisions,
    /// The hooks that ran.
    pub hooks: hooks::Records,
    /// The last rollout that was started.
    last: Option<Intent>,
    /// The rollouts that made no revision.
    pub attempts: Vec<Intent>,
    /// The records could not be read, which is different from having none.
    pub is_unread: bool,
}

impl Memory {
    /// The record of this rollout's start, if it is the last that was started.
    pub fn begun(&self, rollout: &RolloutId) -> Option<&Intent> {
        let of_it = |intent: &&Intent| intent.revision.rollout == rollout.0;
        self.last.as_ref().filter(of_it)
    }

    /// The last rollout that was started, if it has no recorded failure.
    pub fn unfailed(&self) -> Option<RolloutId> {
        let last = self.last.as_ref().filter(|last| last.failed.is_none())?;
        Some(RolloutId(last.revision.rollout.clone()))
    }

    /// Notes that a person has aborted this rollout. Returns its record, if it is the last that was started.
    pub fn abort(&mut self, rollout: &RolloutId) -> Option<&Intent> {
        let of_it = |intent: &&mut Intent| intent.revision.rollout == rollout.0;
        let last = self.last.as_mut().filter(of_it)?;
        last.failed = Some("aborted".to_owned());
        last.code = Some(Outcome::Failed as u8);
        Some(last)
    }

    /// Notes how the last rollout that was started has ended.
    pub fn note(&mut self, ended: Intent) {
        let rollout = &ended.revision.rollout;
        self.attempts.retain(|own| own.revision.rollout != *rollout);
        self.attempts.push(ended.clone());
        self.last = Some(ended);
    }

    /// Adds the figures of this rollout to the revision that it makes.
    pub fn measured(&mut self, rollout: &RolloutId, figures: Spans) {
        let of_it = |intent: &&mut Intent| intent.revision.rollout == rollout.0;
        if let Some(last) = self.last.as_mut().filter(of_it) {
            last.revision.figures = Some(figures);
        }
    }

    /// The event after which these replicas are left of an unfinished rollout.
    pub fn settled(&self, forward: bool, replicas: &[Replica]) -> Event {
        let live = self.revisions.running(replicas);
        let live = live.and_then(|number| self.revisions.get(number));
        Event::Settled {
            forward,
            revision: live.map(|own| own.number),
            image: live.map(|own| image_name(&own.image.reference, &own.image.id)),
        }
    }

    pub fn has_made_revision(&self, rollout: &RolloutId) -> bool {
        let mut made = self.revisions.list.iter();
        made.any(|own| own.rollout == rollout.0)
    }

    /// The old replicas that no proxy routed to when this rollout began.
    pub fn unrouted(&self, rollout: &RolloutId) -> BTreeSet<ContainerId> {
        let intent = self.begun(rollout);
        intent.map_or_else(BTreeSet::new, |intent| intent.unrouted.clone())
    }

    /// The shifts of this rollout, if it is the last that was started.
    pub fn shifts(&self, rollout: &RolloutId) -> Vec<Shift> {
        let intent = self.begun(rollout);
        intent.map_or_else(Vec::new, |intent| intent.shifts.clone())
    }

    /// The last rollout, if it stops first and made no revision, without old replicas that were started again since then.
    /// `now` is in milliseconds of the engine's clock.
    pub fn stop_first(&self, observed: &Observed, now: u64) -> Option<StopFirst> {
        let last = self.last.as_ref()?;
        let rollout = &last.revision.rollout;
        let mut made = self.revisions.list.iter();
        if made.any(|own| own.rollout == *rollout) {
            return None;
        }
        let may_stop_still = now.saturating_sub(last.revision.at) < STOPPING;
        // A rolling update may take any time before its last stop.
        let may_stop_still = may_stop_still || last.batches.is_some();
        let is_open = last.failed.is_none() && may_stop_still;
        // What the claim of a rolling update hides, the update has stopped, also where it restarted by itself before.
        let claim = observed
            .claim
            .as_ref()
            .filter(|claim| last.batches.is_some() && claim.rollout.0 == *rollout);
        let hidden = |own: &Replica| claim.is_some_and(|claim| claim.plan.hides(own));
        let same = |own: &&Replica| {
            let started = last.ran.get(&own.id);
            started == Some(&own.started_at) || (started.is_some() && hidden(own))
        };
        let replicas = observed
            .replicas
            .iter()
            .filter(|own| is_open || !own.may_run());
        let ran = replicas.filter(same).map(|own| own.id.clone());
        let ran: BTreeSet<ContainerId> = ran.collect();
        (!ran.is_empty() || last.batches.is_some()).then(|| StopFirst {
            rollout: RolloutId(rollout.clone()),
            ran,
            batches: last.batches,
        })
    }
}

/// How long after its start a stop that a killed run requested may still be in progress, in milliseconds.
const STOPPING: u64 = 10 * 60 * 1000;

/// The longest time to retry reading the records.
const READING: Duration = Duration::from_secs(3);

/// Author shown for a version started by plain `docker compose`.
const FOUND: &str = "docker compose";

impl RunContext<'_> {
    /// Gives a tag back to the image that had it before a failed undo, or before a restart. Done once, since later tags
    /// come from other commands.
    pub(super) async fn put_back(&self, intent: &mut Intent) {
        let Some(displaced) = &intent.displaced else {
            return;
        };
        let image = &intent.revision.image;
        let Ok(now) = self.engine.image(&image.reference).await else {
            return;
        };
        if now.is_some_and(|now| now.id == image.id)
            && let Err(error) = self.engine.tag(displaced, &image.reference).await
        {
            self.events.notice(format!(
                "the tag {} still stands for the image of revision {}: {}",
                image.reference,
                intent.revision.copies().unwrap_or_default(),
                error.message
            ));
            return;
        }
        intent.displaced = None;
    }

    /// The labels of the containers of a revision.
    pub(super) fn revision_labels(
        &self,
        revision: &Revision,
        olds: &[Replica],
    ) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (label::REVISION.to_owned(), revision.number.to_string()),
            (label::REPLICAS.to_owned(), revision.replicas.to_string()),
            (label::COMPOSE_VERSION.to_owned(), revision.compose.clone()),
            (label::DIGEST.to_owned(), revision.digest.clone()),
        ]);
        if let Some(to) = revision.undo_to {
            labels.insert(label::UNDO.to_owned(), to.to_string());
        }
        if revision.copies().is_some() {
            if revision.of_containers {
                labels.insert(label::COMPOSE_HASH.to_owned(), revision.hash.clone());
            }
            // A recorded config has no file, so the labels keep naming the project's own files.
            for of_files in [label::COMPOSE_FILES, label::COMPOSE_DIRECTORY] {
                if let Some(value) = olds.iter().find_map(|old| old.labels.get(of_files)) {
                    labels.insert(of_files.to_owned(), value.clone());
                }
            }
        }
        labels
    }
}

impl Prepared<'_> {
    /// The record of the revision that a rollout makes.
    pub(super) fn revision(
        &self,
        version: &Version,
        (number, rollout): (u64, &RolloutId),
        at: u64,
    ) -> Revision {
        let (run, context) = (&self.run, &self.context);
        Revision {
            number,
            rollout: rollout.0.clone(),
            at,
            who: owner::who(),
            image: ImageRecord {
                reference: context.service.image.clone().unwrap_or_default(),
                id: version.image.clone(),
                digests: version.digests.clone(),
                kept: String::new(),
                content: version.content.clone(),
            },
            compose: run.compose.version().to_owned(),
            hash: version.hash.clone(),
            digest: context.service.inline_digest.clone(),
            replicas: context.replicas,
            config: version.config.clone(),
            proxy: self.proxy.describe(),
            strategy: context.settings.strategy.name().to_owned(),
            undo_to: run.undo_to(),
            restart_of: run.restart_of(),
            found: false,
            of_containers: run.back.is_some_and(|back| back.of_containers),
            lost: Vec::new(),
            figures: None,
            variables: None,
        }
    }

    /// Reads the records through a container that has the state volume mounted.
    pub(super) async fn remembered(&self, container: &str) -> Memory {
        let (run, context) = (&self.run, &self.context);
        let read = || store::read(run.engine, container, &context.key);
        let files = match retry::for_a_while(READING, read).await {
            Ok(files) => files,
            Err(error) => {
                run.events.notice(format!(
                    "cannot read the history of {}: {}",
                    context.service.name, error.message
                ));
                return Memory {
                    is_unread: true,
                    ..Memory::default()
                };
            }
        };
        let revisions = Revisions::read(&files);
        for trouble in &revisions.trouble {
            run.events.notice(format!(
                "{trouble}; it is left as it is, in the volume {}",
                store::volume()
            ));
        }
        Memory {
            hooks: hooks::Records::read(&files),
            last: Intent::last(&files),
            attempts: Intent::without_revision(&files, &revisions),
            revisions,
            is_unread: false,
        }
    }

    /// The image name and the configuration of a container, read from the engine; `None` if it is gone.
    async fn read_off(&self, replica: &Replica, image: &Image) -> Option<(String, Reproduced)> {
        let (project, service) = (self.run.project, self.context.service);
        let inspect = self.run.engine.inspect(&replica.id.0).await.ok()??;
        let container = serde_json::to_value(inspect).ok()?;
        let reference = container["Config"]["Image"].as_str()?.to_owned();
        let mut read = reproduce(&Original {
            project: &self.context.key.project,
            service: &self.context.key.service,
            container: &container,
            image: &image.config,
            settings: service.raw(project),
        });
        // The engine does not report contents that Compose copied into a container.
        let copied = contents::copied(&project.raw, &service.name);
        read.lost.extend(copied);
        Some((reference, read))
    }
}

impl Locked<'_> {
    /// Reads the records of a service through the lock's container.
    pub(super) async fn remembered(&self) -> Memory {
        if let Err(error) = store::sweep(self.prepared.run.engine).await {
            tracing::info!(%error, "what reads the state volume was not swept");
        }
        self.prepared.remembered(&self.held.lock.id).await
    }

    /// Completes what a killed run has left: its revision, the tag of an image, and its variables. Returns whether any of
    /// these was written.
    pub(super) async fn catch_up(&self, memory: &mut Memory, replicas: &[Replica]) -> bool {
        let Prepared { run, context, .. } = &self.prepared;
        let labelled = replicas.iter().any(|replica| replica.revision.is_some());
        let Some(mut intent) = memory.last.take() else {
            if labelled && memory.revisions.last().is_none() && !memory.is_unread {
                run.events.notice(format!(
                    "the recorded history of {} is gone; a new one begins",
                    context.service.name
                ));
            }
            return false;
        };
        let recorded = memory.revisions.last().is_some_and(|last| {
            last.rollout == intent.revision.rollout || last.number > intent.revision.number
        });
        if recorded {
            return false;
        }
        let mut written = false;
        let rollout = Some(RolloutId(intent.revision.rollout.clone()));
        let made = |replica: &&Replica| replica.rollout == rollout;
        match replicas.iter().filter(made).count() {
            0 if intent.displaced.is_some() || !intent.ran.is_empty() => {
                run.put_back(&mut intent).await;
                // Any later stop is the operator's.
                if !std::mem::take(&mut intent.ran).is_empty() {
                    intent
                        .failed
                        .get_or_insert_with(|| "interrupted".to_owned());
                }
                self.note_end(&intent).await;
            }
            0 => {}
            count if count == replicas.len() => {
                if intent.revision.restart_of.is_some() {
                    run.put_back(&mut intent).await;
                }
                let mut variables = intent.revision.variables.clone();
                // A command decides on the variables that it is given itself.
                if let (Some(own), Some(set)) = (&mut variables, run.set) {
                    own.changes.retain(|name, _| !set.values.contains_key(name));
                }
                written = self.prepared.write_variables(variables.as_ref()).await;
                self.record(memory, intent.revision).await;
            }
            _ => {}
        }
        written
    }

    /// Records the start of a rollout.
    ///
    /// A rollout is refused if that fails and a later run could not go on without it: a stop-first one, whose old replicas
    /// nothing would start again, a canary, and one with variables to be written.
    pub(super) async fn note_begin(&self, intent: &Intent) -> Result<()> {
        let Err(error) = self.write(&intent.path(), intent).await else {
            return Ok(());
        };
        let message = format!(
            "the start of the rollout could not be recorded: {}",
            error.message
        );
        let writes = intent.revision.variables.is_some();
        match intent.ran.is_empty() && intent.shifts.is_empty() && !writes {
            true => self.prepared.run.events.notice(message),
            false => return Err(Error::refused(message)),
        }
        Ok(())
    }

    /// Records the end of a rollout that made no revision.
    pub(super) async fn note_end(&self, intent: &Intent) {
        if let Err(error) = self.write(&intent.end_path(), intent).await {
            tracing::info!(%error, "the end of the rollout is not noted down");
        }
    }

    async fn write(&self, path: &str, record: &impl Serialize) -> Result<()> {
        let Prepared { run, context, .. } = &self.prepared;
        store::write(run.engine, &self.held.lock.id, &context.key, path, record).await
    }

    /// Records a revision that serves, keeps its image, and removes images beyond `--keep`.
    pub(super) async fn record(&self, memory: &mut Memory, mut revision: Revision) {
        let Prepared { run, context, .. } = &self.prepared;
        let (key, epoch) = (&context.key, self.held.lock.epoch);
        let number = revision.number;
        if let Err(error) = keep::keep(run.engine, key, &mut revision).await {
            run.events.notice(format!(
                "the image of revision {number} could not be kept: {}",
                error.message
            ));
        }
        let path = match memory.is_unread {
            true => revision.new_path(epoch),
            false => revision.path(&memory.revisions, epoch),
        };
        if let Err(error) = self.write(&path, &revision).await {
            run.events.notice(format!(
                "revision {number} is not recorded, so undo will not find it: {}",
                error.message
            ));
        }
        memory.revisions.add(revision);
        let gone = memory.revisions.beyond(context.settings.keep as usize);
        if let Err(error) = keep::forget(run.engine, key, gone).await {
            run.events.notice(format!(
                "an image of an older revision could not be removed: {}",
                error.message
            ));
        }
    }

    /// Records the running version if it has no record, so that a rollout over containers of plain Compose can be undone.
    pub(super) async fn adopt(&self, memory: &mut Memory, version: &Version, olds: &[Replica]) {
        let Prepared { run, context, .. } = &self.prepared;
        let found = that_ran(olds);
        let serving = found.iter().find(|old| old.serves());
        let Some(first) = serving.or(found.first()) else {
            return;
        };
        let digest = &context.service.inline_digest;
        let same = |old: &Replica| {
            old.hash == version.hash
                && old.image == first.image
                && old.digest.as_ref().is_none_or(|own| own == digest)
        };
        let running = memory.revisions.running(&found);
        let known = running.is_some_and(|number| memory.revisions.get(number).is_some());
        if known || memory.is_unread {
            return;
        }
        let Ok(Some(image)) = run.engine.image(&first.image).await else {
            return;
        };
        let started = humantime::parse_rfc3339(&first.started_at).ok();
        let at = started.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let of_containers = match found.iter().all(same) {
            true => None,
            false => match self.prepared.read_off(first, &image).await {
                Some(read) => Some(read),
                None => return,
            },
        };
        let config = of_containers.as_ref().map(|(_, own)| &own.config);
        let version = Version {
            image: image.id,
            digests: image.digests,
            content: image.content,
            hash: first.hash.clone(),
            config: config.unwrap_or(&version.config).clone(),
        };
        let number = running.unwrap_or_else(|| memory.revisions.next(&[]));
        let rollout = first.rollout.clone();
        let rollout = rollout.unwrap_or_else(|| RolloutId("found".to_owned()));
        let at = at.map_or(self.held.lock.epoch, |at| at.as_millis() as u64);
        let mut revision = self.prepared.revision(&version, (number, &rollout), at);
        revision.replicas = found.len() as u32;
        revision.found = true;
        if let Some((reference, read)) = of_containers {
            revision.image.reference = reference;
            revision.digest = first.digest.clone().unwrap_or_default();
            revision.of_containers = true;
            revision.lost = read.lost;
        }
        FOUND.clone_into(&mut revision.who);
        let undo = first.labels.get(label::UNDO);
        revision.undo_to = undo.and_then(|number| number.parse().ok());
        self.record(memory, revision).await;
    }
}

/// The replicas that ran, or all if none ever did. A killed recreation by Compose leaves never-started containers of the
/// new version beside the old ones.
fn that_ran(replicas: &[Replica]) -> Vec<Replica> {
    let ran = replicas.iter().filter(|own| own.run != Run::Created);
    let ran: Vec<Replica> = ran.cloned().collect();
    match ran.is_empty() {
        true => replicas.to_vec(),
        false => ran,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Health, plan::simulator::replica};

    #[test]
    fn the_noted_end_of_a_rollout_is_that_of_its_attempt_and_has_its_figures() {
        let begun = |number: u64| Intent {
            revision: Revision {
                number,
                rollout: format!("r{number}"),
                ..Revision::default()
            },
            ..Intent::default()
        };
        let mut memory = Memory {
            last: Some(begun(2)),
            attempts: vec![begun(1), begun(2)],
            ..Memory::default()
        };
        let of = |number: u64| RolloutId(format!("r{number}"));
        memory.measured(&of(1), Spans::default());
        assert_eq!(memory.begun(&of(2)), Some(&begun(2)));
        memory.measured(&of(2), Spans::default());
        let last = memory.begun(&of(2)).unwrap().clone();
        assert!(last.revision.figures.is_some());
        let ended = last.ended(&Error::failed("unhealthy"));
        memory.note(ended.clone());
        assert_eq!(memory.attempts, [begun(1), ended]);
        assert_eq!(memory.unfailed(), None);
    }

    #[test]
    fn containers_that_were_never_started_are_not_the_version_that_ran() {
        let names = |replicas: &[Replica]| -> Vec<String> {
            let ran = that_ran(replicas).into_iter();
            ran.map(|own| own.name.clone()).collect()
        };
        let created = replica("new", None, Run::Created, Health::None);
        let stopped = replica("old", None, Run::Exited, Health::None);
        assert_eq!(names(&[created.clone(), stopped]), ["old"]);
        assert_eq!(names(std::slice::from_ref(&created)), ["new"]);
    }
}
