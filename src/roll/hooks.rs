//! Runs the hooks whose outcome changes nothing: after the record of a new revision, and after a failure.

use tokio::time::Instant;

use super::{lock::Locked, record::Memory};
use crate::{
    error::Result,
    event::{Event, Events},
    execute::{
        self, Summary,
        hook::{About, Runner},
    },
    hooks::limit,
    model::{ContainerId, HookEnd, HookPhase, Replica, RolloutId},
};

impl Locked<'_> {
    /// Runs the hooks of a phase, if it has any. A failure is a notice. `error` is why the rollout failed.
    pub(super) async fn hook_afterwards(
        &self,
        phase: HookPhase,
        (events, about): (&Events, &About),
        error: Option<&str>,
    ) {
        if !about.phases.contains(&phase) {
            return;
        }
        let context = &self.prepared.context;
        let longest = context.hooks.get(&phase).map(|hooks| limit(hooks));
        let step = phase.name();
        events.emit(Event::StepStarted {
            step,
            replicas: Vec::new(),
            limit_ms: longest.map(|longest| longest.as_millis() as u64),
            batch: None,
        });
        let began = Instant::now();
        let runner = Runner {
            run: self.prepared.run,
            context,
            lock: self.held.lock,
            events,
            about,
        };
        let replica = self.new_replica(about).await;
        let given = (replica.as_ref(), error);
        let ended = runner.run(phase, given, self.interruption()).await;
        match ended.end {
            HookEnd::Passed => {
                let ms = began.elapsed().as_millis() as u64;
                events.emit(Event::StepFinished { step, ms });
            }
            HookEnd::Failed(reason) => {
                let text = format!("{reason}; the outcome of the rollout stays");
                events.emit(Event::StepFailed { step, reason });
                events.notice(text);
            }
        }
    }

    /// What the hooks of an unfinished rollout are about; `None` without a record of its start.
    pub(super) fn about_unfinished(
        &self,
        rollout: &RolloutId,
        memory: &Memory,
        olds: &[Replica],
    ) -> Option<About> {
        let revision = &memory.begun(rollout)?.revision;
        let context = &self.prepared.context;
        Some(About::of(context, revision, olds, &memory.hooks))
    }

    /// Runs the hooks that follow the end of an unfinished rollout, and records its revision before them.
    pub(super) async fn hook_settled(
        &mut self,
        (forward, ended): (bool, &Result<Summary>),
        (events, about): (&Events, Option<&About>),
        memory: &mut Memory,
    ) -> Result<()> {
        let Some(about) = about else { return Ok(()) };
        if ended.as_ref().is_err_and(|error| error.is_open) {
            return Ok(());
        }
        if forward && ended.is_ok() {
            let replicas = self.observe().await?.replicas;
            self.catch_up(memory, &replicas).await;
        }
        let (phase, error) = match ended {
            Ok(_) if forward => (HookPhase::PostDeploy, None),
            Ok(_) => (
                HookPhase::Failed,
                Some("an earlier rollout was interrupted"),
            ),
            Err(error) => (HookPhase::Failed, Some(error.message.as_str())),
        };
        self.hook_afterwards(phase, (events, about), error).await;
        Ok(())
    }

    /// A replica of the rollout that serves.
    async fn new_replica(&self, about: &About) -> Option<ContainerId> {
        let run = &self.prepared.run;
        let replicas = run.engine.replicas(&self.prepared.context.key).await;
        let mut new = replicas.unwrap_or_default().into_iter();
        let new = new.find(|own| own.rollout.as_ref() == Some(about.rollout()) && own.serves());
        new.map(|new| new.id)
    }

    /// Waits for a signal. One that came before this hook has ended the rollout, and does not end the hook.
    async fn interruption(&self) -> String {
        let mut interrupted = self.held.interrupted.clone();
        if *interrupted.borrow() {
            std::future::pending::<()>().await;
        }
        execute::raised(&mut interrupted).await;
        "was interrupted".to_owned()
    }
}
