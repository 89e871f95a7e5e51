//! Runs the hooks of `x-rollout.hooks`, one phase at a time, and records that they began and how they ended.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use tokio::{process::Command, time::timeout};

use crate::{
    compose::{command, one_off::OneOff},
    context::{RunContext, ServiceContext},
    docker::engine::ExecCommand,
    error::{Error, Result},
    event::{Event, Events},
    hooks::{Hook, Place},
    model::{ContainerId, Goal, HookEnd, HookPhase, Replica, RolloutId},
    state::{
        Lock,
        hooks::{Entry, Records},
        revisions::Revision,
        store,
    },
};

/// The number of lines that a failure shows.
const LAST_LINES: usize = 15;

/// The phases whose hooks a rollout runs.
pub fn hook_phases(context: &ServiceContext<'_>, is_recorded: bool) -> BTreeSet<HookPhase> {
    let mut phases: BTreeSet<HookPhase> = context.hooks.keys().copied().collect();
    // A recorded revision has run its migration, and the schema may be that of a newer version by now.
    if is_recorded {
        phases.remove(&HookPhase::PreDeploy);
    }
    phases
}

/// The rollout that hooks are about.
#[derive(Clone, Debug)]
pub struct About {
    /// The phases whose hooks run.
    pub phases: BTreeSet<HookPhase>,
    rollout: RolloutId,
    /// The id of the new image.
    image: String,
    environment: BTreeMap<&'static str, String>,
    records: Records,
    /// The last rollout, if its run was killed.
    pub killed: Option<RolloutId>,
}

impl About {
    /// Hooks that have ended in this rollout do not run again.
    pub fn of(
        context: &ServiceContext<'_>,
        revision: &Revision,
        olds: &[Replica],
        records: &Records,
    ) -> Self {
        let rollout = RolloutId(revision.rollout.clone());
        let mut phases = hook_phases(context, revision.copies().is_some());
        phases.retain(|phase| records.ended(&rollout, *phase).is_none());
        let old = olds.first().map(|old| old.reference.clone());
        let environment = BTreeMap::from([
            ("ROLLOUT_PROJECT", context.key.project.clone()),
            ("ROLLOUT_SERVICE", context.key.service.clone()),
            ("ROLLOUT_ROLLOUT", revision.rollout.clone()),
            ("ROLLOUT_REVISION", revision.number.to_string()),
            ("ROLLOUT_IMAGE", revision.image.reference.clone()),
            ("ROLLOUT_OLD_IMAGE", old.unwrap_or_default()),
        ]);
        Self {
            phases,
            rollout,
            image: revision.image.id.clone(),
            environment,
            records: records.clone(),
            killed: None,
        }
    }

    /// The phases whose hooks still run when a later run goes on with the rollout: in a preview those before the cutover
    /// may not have ended.
    pub fn left(&self, goal: &Goal) -> BTreeSet<HookPhase> {
        let is_left = |phase: &HookPhase| match phase {
            HookPhase::PreCutover => *goal == Goal::Roll,
            HookPhase::PostCutover => true,
            HookPhase::PreDeploy | HookPhase::PostDeploy | HookPhase::Failed => false,
        };
        self.phases.iter().copied().filter(is_left).collect()
    }

    /// The recorded ends of hooks that decide whether a later run finishes the rollout or rolls it back.
    pub fn ends(&self) -> BTreeMap<HookPhase, HookEnd> {
        let phases = [HookPhase::PreCutover, HookPhase::PostCutover].into_iter();
        let ends = phases.filter_map(|phase| {
            let end = self.records.ended(&self.rollout, phase)?;
            Some((phase, end.clone()))
        });
        ends.collect()
    }

    pub fn rollout(&self) -> &RolloutId {
        &self.rollout
    }

    /// What the hooks of a phase have in their environment; `error` is why the rollout failed.
    fn environment(&self, phase: HookPhase, error: Option<&str>) -> BTreeMap<&'static str, String> {
        let mut environment = self.environment.clone();
        environment.insert("ROLLOUT_HOOK", phase.name().to_owned());
        if let Some(error) = error {
            environment.insert("ROLLOUT_ERROR", error.to_owned());
        }
        environment
    }
}

/// How the hooks of a phase ended, and what they printed last.
pub struct Ended {
    pub end: HookEnd,
    pub lines: Vec<String>,
}

/// What hooks run with, under the lock of the service.
pub struct Runner<'a> {
    pub run: RunContext<'a>,
    pub context: &'a ServiceContext<'a>,
    pub lock: &'a Lock,
    pub events: &'a Events,
    pub about: &'a About,
}

/// The phase that runs now.
struct Running<'a> {
    phase: HookPhase,
    /// Where `exec` runs.
    replica: Option<&'a ContainerId>,
    environment: BTreeMap<&'static str, String>,
    lines: RefCell<VecDeque<String>>,
}

impl Runner<'_> {
    /// Runs the hooks of a phase one after the other until one fails, or `cut_short` completes with a reason to end them.
    pub async fn run(
        &self,
        phase: HookPhase,
        (replica, error): (Option<&ContainerId>, Option<&str>),
        cut_short: impl Future<Output = String>,
    ) -> Ended {
        let killed = self.about.killed.as_ref();
        if let Some(text) = self.about.records.again(phase, killed) {
            self.events.notice(text);
        }
        let running = Running {
            phase,
            replica,
            environment: self.about.environment(phase, error),
            lines: RefCell::default(),
        };
        self.record(phase, None).await;
        let ended = tokio::select! {
            ended = self.all(&running) => ended,
            why = cut_short => Err(why),
        };
        self.sweep().await;
        let end = match ended {
            Ok(()) => HookEnd::Passed,
            Err(why) => HookEnd::Failed(format!("the {} hook {why}", phase.name())),
        };
        self.record(phase, Some(end.clone())).await;
        Ended {
            end,
            lines: running.lines.into_inner().into(),
        }
    }

    async fn all(&self, running: &Running<'_>) -> Result<(), String> {
        let hooks = self.context.hooks.get(&running.phase);
        for hook in hooks.into_iter().flatten() {
            let ran = timeout(hook.timeout, self.one(hook, running)).await;
            match ran {
                Ok(Ok(0)) => {}
                Ok(Ok(code)) => return Err(format!("ended with exit code {code}")),
                Ok(Err(error)) => return Err(format!("could not run: {}", error.message)),
                Err(_) => {
                    let limit = humantime::format_duration(hook.timeout);
                    return Err(format!("did not end within {limit}"));
                }
            }
        }
        Ok(())
    }

    /// Runs a hook to its end. Returns its exit code.
    async fn one(&self, hook: &Hook, running: &Running<'_>) -> Result<i64> {
        let on_line = |line: String| {
            let mut lines = running.lines.borrow_mut();
            if lines.len() == LAST_LINES {
                lines.pop_front();
            }
            lines.push_back(line.clone());
            let hook = running.phase.name();
            self.events.emit(Event::Hook { hook, line });
        };
        match hook.place {
            Place::Run => self.in_container(hook, running, on_line).await,
            Place::Exec => self.in_replica(hook, running, on_line).await,
            Place::Host => self.on_host(hook, running, on_line).await,
        }
    }

    async fn in_container(
        &self,
        hook: &Hook,
        running: &Running<'_>,
        on_line: impl FnMut(String),
    ) -> Result<i64> {
        let (engine, key, rollout) = (self.run.engine, &self.context.key, &self.about.rollout);
        // The container of an earlier hook of the phase.
        engine.sweep_one_offs(key, Some(rollout)).await?;
        let one_off = OneOff {
            project: self.run.project,
            service: &key.service,
            image: &self.about.image,
            rollout: &rollout.0,
            lock: &self.lock.id,
            command: &hook.command,
            environment: &running.environment,
        };
        let of_compose = |line| self.events.emit(Event::Compose { line });
        self.run.compose.start_one_off(&one_off, of_compose).await?;
        let started = engine
            .one_offs(key, Some(rollout))
            .await?
            .into_iter()
            .next();
        let started = started.ok_or_else(|| Error::failed("its container is gone"))?;
        // Some log drivers cannot be read.
        let _ = command::lines(Some(engine.log(&started.id)), on_line).await;
        engine.end_of(&started.id).await
    }

    async fn in_replica(
        &self,
        hook: &Hook,
        running: &Running<'_>,
        on_line: impl FnMut(String),
    ) -> Result<i64> {
        let replica = running.replica;
        let replica = replica.ok_or_else(|| Error::failed("there is no new replica"))?;
        let environment = running.environment.iter();
        let exec = ExecCommand {
            command: hook.command.clone(),
            environment: environment
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            ..ExecCommand::default()
        };
        let (id, log) = self.run.engine.exec_log(replica, &exec).await?;
        let read = command::lines(Some(log), on_line).await;
        read.map_err(|error| Error::failed(format!("its output ended: {error}")))?;
        self.run.engine.exec_code(&id).await
    }

    async fn on_host(
        &self,
        hook: &Hook,
        running: &Running<'_>,
        on_line: impl FnMut(String),
    ) -> Result<i64> {
        let mut shell = Command::new("/bin/sh");
        // All output goes to one stream, which keeps the order of the lines.
        shell
            .args(["-c", "exec \"$0\" \"$@\" >&2"])
            .args(&hook.command);
        shell
            .envs(&running.environment)
            .current_dir(&self.run.project.directory);
        let finished = command::run(shell, None, on_line).await;
        let finished = finished.map_err(|error| Error::failed(error.to_string()))?;
        Ok(finished.status.code().map_or(-1, i64::from))
    }

    async fn sweep(&self) {
        let (engine, key) = (self.run.engine, &self.context.key);
        // Only those of this rollout: once the lock is lost, others belong to the run that holds it.
        if let Err(error) = engine.sweep_one_offs(key, Some(&self.about.rollout)).await {
            let left = &error.message;
            self.events.notice(format!(
                "the container of a hook could not be removed: {left}"
            ));
        }
    }

    async fn record(&self, phase: HookPhase, end: Option<HookEnd>) {
        let entry = Entry {
            epoch: self.lock.epoch,
            rollout: self.about.rollout.clone(),
            phase,
            end,
        };
        let (engine, key) = (self.run.engine, &self.context.key);
        if let Err(error) = store::write(engine, &self.lock.id, key, &entry.path(), &entry).await {
            self.events.notice(format!(
                "the {} hook could not be recorded: {}",
                phase.name(),
                error.message
            ));
        }
    }
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;
