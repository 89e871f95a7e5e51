//! The proxy's own health checks of the new version. For those that a rollout cannot run before the cutover, the old
//! replicas are kept longer.

use std::{collections::BTreeMap, time::Duration};

use super::prepare::Prepared;
use crate::{
    compose::exposed::{exposed, tcp},
    docker::engine::Image,
    model::Order,
    settings::Strategy,
};

/// The extra time for the proxy to report a result.
const MARGIN: Duration = Duration::from_secs(2);

impl Prepared<'_> {
    /// The duration of the bake. Emits a notice if it is longer than requested.
    pub(super) fn bake(&self, image: &Image, has_helper: bool) -> Duration {
        let context = &self.context;
        let asked = context.settings.bake;
        let unused = match context.settings.strategy {
            Strategy::Rolling => Some("with the strategy rolling"),
            // The pauses are judged.
            Strategy::Canary => None,
            Strategy::BlueGreen | Strategy::Recreate => asked
                .is_zero()
                .then_some("without --bake: it judges the new version while it bakes"),
        };
        let is_wanted = context.settings.analysis.has_conditions() || !context.metrics.is_empty();
        if let Some(unused) = unused.filter(|_| is_wanted) {
            let notice = format!("--analysis has no effect {unused}");
            self.run.events.notice(notice);
        }
        let why = match context.settings.order() {
            Order::StopFirst => Some("the old replicas are stopped before the new ones start"),
            Order::StartFirst => {
                (!self.proxy.routes()).then_some("no proxy could give the traffic back")
            }
        };
        if let Some(why) = why {
            if !asked.is_zero() {
                let notice = format!("--bake has no effect: {why}");
                self.run.events.notice(notice);
            }
            return Duration::ZERO;
        }
        let tcp = tcp(&exposed(context.service, &image.ports));
        let labels = context.labels(Some(image));
        asked.max(self.unasked(context.replicas, (&labels, &tcp), has_helper))
    }

    /// The bake that the checks need which only the proxy can run, with a notice for each. `tcp` are the TCP ports.
    pub(super) fn unasked(
        &self,
        replicas: u32,
        (labels, tcp): (&BTreeMap<String, String>, &[u16]),
        has_helper: bool,
    ) -> Duration {
        let mut longest = Duration::ZERO;
        let proxy = &self.proxy;
        for check in proxy.labels().checks(labels, tcp) {
            let why = match (&check.ask, has_helper) {
                (Err(why), _) => why.as_str(),
                (Ok(_), false) => "no helper can run beside the replicas",
                (Ok(_), true) => continue,
            };
            let needed = check.verdict_after(replicas) + MARGIN;
            longest = longest.max(needed);
            self.run.events.notice(format!(
                "{} cannot be asked before the cutover ({why}): the old replicas keep running for {} after it, and \
                 serve again if {} reports a new one DOWN",
                check.label,
                humantime::format_duration(needed),
                proxy.name()
            ));
        }
        longest
    }
}
