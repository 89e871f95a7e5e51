//! The end of several services: what is undone after a failure, the orphans, and the report.

use tokio::time::Instant;

use super::{
    super::{emit_failure, undo},
    work::Work,
};
use crate::{
    error::{Error, Result},
    event::{Event, ServiceResult, ServiceRow},
    roll::Ended,
    settings::OnFailure,
    stack::{
        choose::Left,
        graph::Order,
        orphans::{Orphan, names},
        outcome::{failure, other, rows},
        schedule::Ends,
    },
};

impl Work<'_> {
    pub async fn finish(
        &self,
        order: &Order<'_>,
        ends: Ends<'_, Ended>,
        left: &[Left],
        orphans: &[Orphan],
        began: Instant,
    ) -> Result<()> {
        let mut rows = rows(order, &ends, left);
        let mut failed = Vec::new();
        let has_failed = ends.iter().any(|(_, result)| result.is_err());
        if has_failed && self.settings.on_failure == OnFailure::Rollback {
            failed = self.take_back(&ends, &mut rows).await;
        }
        let errors = ends.iter().filter_map(|(_, result)| result.as_ref().err());
        let errors: Vec<&Error> = errors.chain(&failed).collect();
        let failure = failure(&rows, &errors);
        let removed = self.orphans(orphans, failure.is_some()).await;
        self.events.emit(Event::StackFinished {
            services: rows,
            total_ms: began.elapsed().as_millis() as u64,
        });
        match failure {
            Some(error) => Err(error),
            None => removed,
        }
    }

    /// Undoes what this run has rolled, the last first. Returns what failed.
    async fn take_back(&self, ends: &Ends<'_, Ended>, rows: &mut [ServiceRow]) -> Vec<Error> {
        let mut failed = Vec::new();
        for (name, result) in ends.iter().rev() {
            let row = rows.iter_mut().find(|row| row.service == *name);
            let (Ok(ended), Some(row)) = (result, row) else {
                continue;
            };
            let stays = match (ended.result, ended.before) {
                (ServiceResult::Completed, _) => "a one-shot service is not undone",
                (ServiceResult::Rolled, None) => "nothing ran before it, so it stays",
                (ServiceResult::Rolled, Some(_)) if *self.interrupted.borrow() => {
                    "interrupted before it was undone"
                }
                (ServiceResult::Rolled, Some(before)) => {
                    match self.undo(name, before).await {
                        Ok(back) => *row = back,
                        Err(error) => {
                            *row = other(name, ServiceResult::Failed, &error.message);
                            failed.push(error);
                        }
                    }
                    continue;
                }
                _ => continue,
            };
            row.reason = Some(stays.to_owned());
        }
        failed
    }

    async fn undo(&self, name: &str, before: u64) -> Result<ServiceRow> {
        let events = &self.of_each[name];
        // The earlier revision has its own number of replicas.
        let flags = self.up.settings.clone().without("scale");
        let interrupted = self.interrupted.clone();
        let undone = undo::to_revision(self.opened, events, (name, before), flags, interrupted);
        match undone.await {
            Ok(back) => Ok(ServiceRow {
                revision: back.revision,
                image: Some(back.image),
                ..other(name, ServiceResult::RolledBack, "another service failed")
            }),
            Err(error) => {
                let error = error.within(events.scope());
                emit_failure(events, &error);
                Err(error)
            }
        }
    }

    /// Removes the orphans where that is asked for and no service has failed, else names them.
    async fn orphans(&self, orphans: &[Orphan], has_failed: bool) -> Result<()> {
        if orphans.is_empty() {
            return Ok(());
        }
        let gone = "of services that the Compose file no longer has";
        let all = names(orphans);
        match (self.up.remove_orphans, has_failed) {
            (false, _) => self.events.notice(format!(
                "containers {gone}: {all}; --all --remove-orphans removes them"
            )),
            (true, true) => self.events.notice(format!(
                "containers {gone} are kept, because a service failed: {all}"
            )),
            (true, false) => {
                for orphan in orphans {
                    self.opened.engine.stop(&orphan.id).await?;
                    self.opened.engine.remove(&orphan.id).await?;
                    self.events.notice(format!("removed {}", orphan.name));
                }
            }
        }
        Ok(())
    }
}
