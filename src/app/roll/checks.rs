//! Traefik's own health checks of the new version: those that a rollout cannot make before the cutover keep the old
//! replicas for longer.

use std::time::Duration;

use super::{Scene, Subject};
use crate::{
    compose::Service,
    engine::Image,
    proxy::traefik::{
        checks::checks,
        ports::{self, Exposed},
    },
    settings::Strategy,
};

/// What it may take beyond Traefik's own times until its API says so.
const MARGIN: Duration = Duration::from_secs(2);

impl Scene<'_> {
    /// How long the new replicas are watched after the cutover. Says so where that is longer than asked for.
    pub(super) fn bake(&self, subject: &Subject<'_>, image: &Image, routed: bool) -> Duration {
        let asked = subject.settings.bake;
        if !routed || subject.settings.strategy == Strategy::Recreate {
            return asked;
        }
        let tcp = ports::tcp(&exposed(subject.service, image));
        let labels = self.labels(subject.service, Some(image));
        let mut bake = asked;
        for check in checks(&labels, &tcp) {
            let why = match (&check.ask, &subject.helper_image) {
                (Err(why), _) => why.as_str(),
                (Ok(_), None) => "no helper can run beside the replicas",
                (Ok(_), Some(_)) => continue,
            };
            let needed = check.verdict_after(subject.replicas) + MARGIN;
            bake = bake.max(needed);
            self.events.notice(format!(
                "{} cannot be asked before the cutover ({why}): the old replicas keep running for {} after it, and \
                 serve again if Traefik reports a new one DOWN",
                check.label,
                humantime::format_duration(needed)
            ));
        }
        bake
    }
}

/// What the containers of a new version will expose.
pub(super) fn exposed(service: &Service, image: &Image) -> Vec<Exposed> {
    ports::exposed(service, &image.ports)
}
