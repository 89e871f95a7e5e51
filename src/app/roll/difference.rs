//! How what runs differs from what is wanted.

use super::{Scene, Subject, Version};
use crate::{
    error::Result,
    model::{Replica, RoutePlan},
    proxy::Proxy,
};

impl Scene<'_> {
    pub(super) async fn is_current(
        &self,
        subject: &Subject<'_>,
        version: &Version,
        olds: &[Replica],
        proxy: &mut dyn Proxy,
    ) -> Result<bool> {
        let same =
            |old: &Replica| old.image == version.image && old.hash == version.hash && old.serves();
        if olds.len() != subject.replicas as usize || !olds.iter().all(same) {
            return Ok(false);
        }
        if self.have_other_contents(subject.service, olds).await? {
            return Ok(false);
        }
        if !proxy.routes() {
            return Ok(true);
        }
        let refs: Vec<&Replica> = olds.iter().collect();
        let observation = proxy.observed(olds).await;
        let as_it_is = RoutePlan::default();
        Ok(observation.is_some_and(|observation| observation.agrees(&as_it_is, &refs)))
    }

    pub(super) fn tell_differences(&self, subject: &Subject<'_>, olds: &[Replica]) {
        let running = olds.iter().filter(|old| old.serves()).count() as u32;
        if running > 0 && running != subject.replicas {
            let source = if subject.settings.scale.is_some() {
                "--scale"
            } else {
                "the Compose file"
            };
            self.events.notice(format!(
                "{running} replica{} {source} says {}",
                if running == 1 { " runs," } else { "s run," },
                subject.replicas
            ));
        }
        let left: Vec<&str> = olds
            .iter()
            .filter(|old| !old.serves())
            .map(|old| old.name.as_str())
            .collect();
        if !left.is_empty() {
            self.events.notice(format!(
                "replacing old replica {}, which did not run well",
                left.join(", old replica ")
            ));
        }
    }
}
