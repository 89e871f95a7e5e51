//! Compares what runs with the desired version.

use super::{prepare::Prepared, record::Version};
use crate::{
    error::Result,
    model::{Replica, RoutePlan},
};

impl Prepared<'_> {
    pub(super) async fn already_runs(
        &mut self,
        version: &Version,
        replicas: &[Replica],
    ) -> Result<bool> {
        let runs = self.runs(version, replicas).await?;
        Ok(runs && (!self.proxy.routes() || self.are_live(replicas).await))
    }

    /// Whether these replicas run this version, whatever their routes.
    pub(super) async fn runs(&self, version: &Version, replicas: &[Replica]) -> Result<bool> {
        let is_all = replicas.len() == self.context.replicas as usize;
        let serve = replicas.iter().all(Replica::serves);
        Ok(is_all && serve && self.are_of(version, replicas).await?)
    }

    /// Whether they are of this version, however many there are.
    async fn are_of(&self, version: &Version, replicas: &[Replica]) -> Result<bool> {
        let context = &self.context;
        let same = |old: &Replica| old.image == version.image && old.hash == version.hash;
        if context.settings.force || !replicas.iter().all(same) {
            return Ok(false);
        }
        let others = self.run.have_other_contents(context.service, replicas);
        Ok(!others.await?)
    }

    /// Whether these new replicas of an unfinished rollout, which makes `wanted` of them, run what the Compose file says, by
    /// the image that the engine has.
    pub(super) async fn wants(&self, new: &[Replica], wanted: u32) -> Result<bool> {
        let image = match self.run.back {
            None => self.image().await?,
            Some(_) => None,
        };
        let Some(image) = image else {
            return Ok(false);
        };
        let version = Version {
            image: image.id,
            hash: self.hash().await?,
            ..Version::default()
        };
        Ok(self.context.replicas == wanted && self.are_of(&version, new).await?)
    }

    /// Whether the proxy agrees that these replicas alone are live.
    async fn are_live(&mut self, replicas: &[Replica]) -> bool {
        let refs: Vec<&Replica> = replicas.iter().collect();
        let observation = self.proxy.observed(replicas).await;
        let as_it_is = RoutePlan::default();
        observation.is_some_and(|observation| observation.agrees(&as_it_is, &refs))
    }

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
