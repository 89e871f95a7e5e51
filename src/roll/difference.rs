//! Compares what runs with the desired version.

use super::{prepare::Prepared, unfinished::Settled, version::Fetched};
use crate::{error::Result, model::Replica};

impl Settled<'_> {
    pub async fn already_runs(&mut self, fetched: &Fetched) -> Result<bool> {
        let (version, prepared) = (&fetched.version, &self.locked.prepared);
        let (run, context) = (&prepared.run, &prepared.context);
        let same =
            |old: &Replica| old.image == version.image && old.hash == version.hash && old.serves();
        let wanted = context.replicas as usize;
        if context.settings.force
            || self.replicas.len() != wanted
            || !self.replicas.iter().all(same)
        {
            return Ok(false);
        }
        if run
            .have_other_contents(context.service, &self.replicas)
            .await?
        {
            return Ok(false);
        }
        Ok(!prepared.proxy.routes() || self.locked.are_live(&self.replicas).await)
    }
}

impl Prepared<'_> {
    pub(super) fn report_differences(&self, olds: &[Replica]) {
        let (wanted, events) = (self.context.replicas, self.run.events);
        let running = olds.iter().filter(|old| old.serves()).count() as u32;
        if running > 0 && running != wanted {
            let source = if self.context.settings.scale.is_some() {
                "--scale"
            } else {
                "the Compose file"
            };
            events.notice(format!(
                "{running} replica{} {source} says {wanted}",
                if running == 1 { " runs," } else { "s run," }
            ));
        }
        let left: Vec<&str> = olds
            .iter()
            .filter(|old| !old.serves())
            .map(|old| old.name.as_str())
            .collect();
        if !left.is_empty() {
            events.notice(format!(
                "replacing old replica {}, which was not running or unhealthy",
                left.join(", old replica ")
            ));
        }
    }
}
