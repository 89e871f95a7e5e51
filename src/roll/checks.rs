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
        let labels = context.labels(Some(image));
        self.note_analysis(&labels);
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
        asked.max(self.unasked(context.replicas, (&labels, &tcp), has_helper))
    }

    /// Emits a notice where the analysis judges nothing, or no requests.
    fn note_analysis(&self, labels: &BTreeMap<String, String>) {
        let context = &self.context;
        let (settings, metrics) = (&context.settings, &context.metrics);
        let unused = match settings.strategy {
            // The pauses are judged.
            Strategy::Canary => None,
            Strategy::Rolling => settings
                .bake
                .max(settings.watch(false))
                .is_zero()
                .then_some("without --monitor, --delay or --bake: it judges the new version while a batch is watched"),
            Strategy::BlueGreen | Strategy::Recreate => settings
                .bake
                .is_zero()
                .then_some("without --bake: it judges the new version while it bakes"),
        };
        let is_wanted = settings.analysis.has_conditions() || !metrics.is_empty();
        let is_blind = settings.analysis.is_on && self.proxy.labels().speaks_tls(labels);
        let notice = match unused {
            Some(unused) if is_wanted => format!("--analysis has no effect {unused}"),
            None if is_blind && metrics.is_empty() => format!(
                "{} speaks TLS to {}: its requests cannot be analysed, only restarts, memory and processors",
                self.proxy.name(),
                context.service.name
            ),
            _ => return,
        };
        self.run.events.notice(notice);
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
            let why = match check.against_asking(proxy.verifies_servers()) {
                Some(why) => why,
                None if has_helper => continue,
                None => "no helper can run beside the replicas",
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
