//! Stops old replicas, pre-stop hooks first, then their own signal and grace period, and starts them again.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{
    Live, Sets, all,
    traffic::{serving, until_one_fails},
};
use crate::{
    docker::engine::ExecCommand,
    error::Result,
    figures::Moment,
    model::{ContainerId, Desired, Facts, Goal, Replica, label},
};

impl Live<'_> {
    /// Stops replicas; meanwhile, where the old ones go, the figures of the others are noted.
    pub(super) async fn stop(&mut self, replicas: &[&Replica], desired: &Desired) -> Result<()> {
        let engine = self.run.engine;
        let is_old = !matches!(desired.goal, Goal::Undo(_));
        let watchers = &mut self.memory.watchers;
        let marking = async {
            if is_old {
                watchers.mark(engine, Moment::Drained).await;
            }
        };
        let stopping = replicas.iter().map(|replica| engine.stop(&replica.id));
        let (stopped, ()) = tokio::join!(join_all(stopping), marking);
        all(stopped)
    }

    /// Starts replicas again that were stopped before the end of the rollout.
    pub(super) async fn start(
        &mut self,
        replicas: &[ContainerId],
        facts: &mut Facts,
    ) -> Result<()> {
        all(join_all(replicas.iter().map(|id| self.run.engine.start(id))).await)?;
        self.memory.ready_by = None;
        facts.started.extend(replicas.iter().cloned());
        Ok(())
    }

    /// Runs the pre-stop hooks of each. Ends them as soon as a new replica fails, since a rollback is possible until the stop.
    pub(super) async fn run_pre_stop(
        &self,
        replicas: &[&Replica],
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let hooks = join_all(replicas.iter().map(|old| self.pre_stop(old)));
        tokio::select! {
            _ = hooks => facts.pre_stopped.extend(replicas.iter().map(|old| old.id.clone())),
            () = until_one_fails(self.run.engine, self.watch, serving(&sets.new)) => {}
        }
        Ok(())
    }

    /// Runs the pre-stop hooks in an old replica. A failing hook is reported and does not prevent the stop.
    pub(super) async fn pre_stop(&self, replica: &Replica) {
        let label = |labels: &BTreeMap<String, String>| labels.get(label::PRE_STOP_HOOK).cloned();
        let (service, settings) = (self.context.service, &self.context.settings);
        let line = settings.pre_stop_hook.clone();
        let line = line
            .or_else(|| label(&service.labels))
            .or_else(|| label(&replica.labels));
        let shell = line.map(|line| ExecCommand {
            command: vec!["sh".into(), "-c".into(), line],
            ..Default::default()
        });
        let hooks = service.pre_stop.iter().map(|hook| ExecCommand {
            command: hook.command.clone(),
            user: hook.user.clone(),
            privileged: hook.privileged,
            working_dir: hook.working_dir.clone(),
            environment: hook.environment.clone(),
        });
        for hook in shell.into_iter().chain(hooks) {
            let command = hook.command.join(" ");
            match self
                .run
                .engine
                .exec(&replica.id, &hook, settings.drain_timeout)
                .await
            {
                Ok(outcome) if outcome.code == 0 => {}
                Ok(outcome) => self.events.notice(format!(
                    "pre-stop hook {command:?} in old replica {} ended with {}: {}",
                    replica.name,
                    outcome.code,
                    outcome.output.lines().last().unwrap_or_default()
                )),
                Err(error) => self.events.notice(format!(
                    "pre-stop hook in old replica {}: {}",
                    replica.name, error.message
                )),
            }
        }
    }
}
