//! The end of several services: what is undone after a failure, the orphans, and the report.

use tokio::{sync::watch, time::Instant};

use super::{
    super::{emit_failure, undo},
    work::Work,
};
use crate::{
    context::RunContext,
    error::{Error, Result, one_line},
    event::{Event, ServiceResult, ServiceRow},
    roll::Ended,
    settings::OnFailure,
    stack::{
        choose::Left,
        graph::Order,
        orphans::{Orphan, names},
        outcome::{failure, rows},
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
        if has_failed(&ends) && self.settings.on_failure == OnFailure::Rollback {
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

    /// Undoes what this run has rolled, the last first. Returns the errors of undos that failed.
    pub async fn take_back(&self, ends: &Ends<'_, Ended>, rows: &mut [ServiceRow]) -> Vec<Error> {
        let undo = async |name: &str, before, made| self.undo(name, before, made).await;
        let report = |name: &str, error: &Error| emit_failure(&self.of_each[name], error);
        take_back(ends, rows, &self.interrupted, (undo, report)).await
    }

    /// Returns a service to revision `before`, unless another rollout has replaced revision `made`.
    async fn undo(&self, name: &str, before: u64, made: Option<u64>) -> Result<Ended> {
        let events = &self.of_each[name];
        let run = RunContext {
            replaces: made,
            of_several: self.is_stack,
            ..self.opened.run(events)
        };
        // The earlier revision has its own number of replicas.
        let flags = self.up.settings.clone().without("scale");
        let interrupted = self.interrupted.clone();
        let undone = undo::to_revision(self.opened, &run, (name, before), flags, interrupted);
        undone.await.map_err(|error| error.within(events.scope()))
    }

    /// Removes the orphans with `--remove-orphans` if no service has failed; else reports their names.
    pub async fn orphans(&self, orphans: &[Orphan], has_failed: bool) -> Result<()> {
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

/// Undoes what a run has rolled, the last first: each to the revision before it. Returns the errors of undos that failed.
pub async fn take_back(
    ends: &Ends<'_, Ended>,
    rows: &mut [ServiceRow],
    interrupted: &watch::Receiver<bool>,
    (undo, report): (
        impl AsyncFn(&str, u64, Option<u64>) -> Result<Ended>,
        impl Fn(&str, &Error),
    ),
) -> Vec<Error> {
    let mut failed = Vec::new();
    for (name, result) in ends.iter().rev() {
        let row = rows.iter_mut().find(|row| row.service == *name);
        let (Ok(ended), Some(row)) = (result, row) else {
            continue;
        };
        let stays = match (ended.result, ended.before) {
            (ServiceResult::Completed, _) => "a one-shot service is not undone",
            (ServiceResult::Rolled, None) => "it stays: no earlier version ran",
            (ServiceResult::Rolled, Some(_)) if *interrupted.borrow() => {
                "interrupted before it was undone"
            }
            (ServiceResult::Rolled, Some(before)) => {
                let undone = undo(name, before, ended.revision).await;
                if let Err(error) = taken_back(row, undone) {
                    report(name, &error);
                    failed.push(error);
                }
                continue;
            }
            _ => continue,
        };
        note(row, stays);
    }
    failed
}

/// Whether a service has failed. One that is paused waits for a person, and nothing is undone.
pub fn has_failed(ends: &Ends<'_, Ended>) -> bool {
    let mut errors = ends.iter().filter_map(|(_, result)| result.as_ref().err());
    errors.any(|error| !error.is_pause())
}

/// Adds to the reason of a row.
fn note(row: &mut ServiceRow, text: &str) {
    row.reason = Some(match row.reason.take() {
        Some(why) => format!("{why}; {text}"),
        None => text.to_owned(),
    });
}

/// Writes the result of an undo into the row of its service. One that had failed once it was live has failed still.
fn taken_back(row: &mut ServiceRow, undone: Result<Ended>) -> Result<()> {
    match undone {
        Ok(back) if back.result == ServiceResult::LeftAlone => {
            note(row, "another rollout has replaced it since");
            Ok(())
        }
        Ok(back) => {
            (row.revision, row.image) = (back.revision, Some(back.image));
            match row.result {
                ServiceResult::Failed => note(row, "it is rolled back"),
                _ => {
                    row.result = ServiceResult::RolledBack;
                    note(row, "another service failed");
                }
            }
            Ok(())
        }
        Err(error) => {
            (row.result, row.reason) = (ServiceResult::Failed, Some(one_line(&error.message)));
            (row.revision, row.image) = (None, None);
            Err(error.touched())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Outcome, stack::outcome::other};

    fn ended(result: ServiceResult, revision: u64) -> Ended {
        Ended {
            result,
            revision: Some(revision),
            before: Some(2),
            image: "app:v1".to_owned(),
        }
    }

    /// The row of `web`, which has rolled, after this end of its undo.
    fn row(undone: Result<Ended>) -> (ServiceRow, Result<()>) {
        let mut row = ServiceRow {
            revision: Some(2),
            reason: None,
            ..other("web", ServiceResult::Rolled, "")
        };
        let result = taken_back(&mut row, undone);
        (row, result)
    }

    #[test]
    fn an_undo_is_in_the_row_and_what_another_rollout_has_replaced_stays_rolled() {
        let (back, result) = row(Ok(ended(ServiceResult::Rolled, 3)));
        assert_eq!(
            (back.result, back.revision),
            (ServiceResult::RolledBack, Some(3))
        );
        result.unwrap();
        let (left, result) = row(Ok(ended(ServiceResult::LeftAlone, 3)));
        assert_eq!(
            (left.result, left.revision),
            (ServiceResult::Rolled, Some(2))
        );
        let reason = left.reason.unwrap();
        assert_eq!(reason, "another rollout has replaced it since");
        result.unwrap();
    }

    #[test]
    fn what_failed_once_it_was_live_has_failed_still_when_it_is_undone() {
        let mut row = other("web", ServiceResult::Failed, "web-1 stopped");
        taken_back(&mut row, Ok(ended(ServiceResult::Rolled, 3))).unwrap();
        assert_eq!((row.result, row.revision), (ServiceResult::Failed, Some(3)));
        assert_eq!(row.reason.unwrap(), "web-1 stopped; it is rolled back");
    }

    #[test]
    fn an_undo_that_is_refused_has_failed_since_the_service_was_touched() {
        let (failed, result) = row(Err(Error::refused("no")));
        assert_eq!(failed.result, ServiceResult::Failed);
        let refused = Error::refused("another service");
        let undo = result.unwrap_err();
        let all = failure(&[failed], &[&refused, &undo]).unwrap();
        assert_eq!(all.outcome, Outcome::Failed);
    }
}
