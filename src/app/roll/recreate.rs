//! The strategy for services that cannot run twice: stop first, then start.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Scene, Subject};
use crate::{
    error::{Error, Outcome, Result},
    event::Event,
    execute::Summary,
    model::{Health, Replica},
    watch::Watch,
};

impl Scene<'_> {
    /// Stops first, as Compose does: for services that cannot run twice. The gap is the strategy's own.
    pub(super) async fn recreate(&self, subject: &Subject<'_>, watch: &Watch) -> Result<Summary> {
        let started = Instant::now();
        self.events.emit(Event::StepStarted {
            step: "recreate",
            replicas: Vec::new(),
        });
        let on_line = |line| self.events.emit(Event::Compose { line });
        self.compose
            .recreate(&subject.service.name, subject.replicas, on_line)
            .await
            .map_err(|error| Error {
                outcome: Outcome::NeedsPerson,
                ..error
            })?;
        let deadline = Instant::now() + subject.settings.timeout;
        loop {
            let changed = watch.next();
            let now = self.engine.replicas(&subject.key).await?;
            let healthy =
                |replica: &Replica| replica.serves() && replica.health != Health::Starting;
            if now.iter().all(healthy) && now.len() == subject.replicas as usize {
                break;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                let ill = now.iter().find(|replica| !healthy(replica));
                let name = ill.map_or_else(String::new, |replica| replica.name.clone());
                let logs = match ill {
                    Some(replica) => self.engine.last_lines(&replica.id, 15).await,
                    None => Vec::new(),
                };
                return Err(Error::needs_person(format!(
                    "{name} did not become healthy; the old version is gone"
                ))
                .logs(logs));
            }
        }
        let ms = started.elapsed().as_millis() as u64;
        self.events.emit(Event::StepFinished {
            step: "recreate",
            ms,
        });
        Ok(Summary {
            cutover: None,
            phases: BTreeMap::from([("recreate", ms)]),
        })
    }
}
