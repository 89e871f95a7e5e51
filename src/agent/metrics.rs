//! What the agent has done, in the text format of Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// A sample has a service or a pair of labels; names of services need no quoting.
#[derive(Default)]
pub struct Metrics {
    /// By service and result.
    rollouts: BTreeMap<(String, String), u64>,
    /// By service, in seconds since 1970.
    rolled_at: BTreeMap<String, u64>,
    /// By service, and whether the registry answered.
    checks: BTreeMap<(String, bool), u64>,
    /// By the status of the answer.
    calls: BTreeMap<u16, u64>,
    /// The services that wait for a person.
    pub waiting: BTreeSet<String>,
}

/// The result of a service that is rolled.
pub const ROLLED: &str = "rolled";

impl Metrics {
    /// Counts the end of a rollout; `now` is in seconds since 1970.
    pub fn ended(&mut self, service: &str, result: &str, now: u64) {
        let key = (service.to_owned(), result.to_owned());
        *self.rollouts.entry(key).or_default() += 1;
        if result == ROLLED {
            self.rolled_at.insert(service.to_owned(), now);
        }
    }

    pub fn checked(&mut self, service: &str, is_answered: bool) {
        let key = (service.to_owned(), is_answered);
        *self.checks.entry(key).or_default() += 1;
    }

    pub fn called(&mut self, status: u16) {
        *self.calls.entry(status).or_default() += 1;
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        let rollouts = self.rollouts.iter().map(|((service, result), count)| {
            (format!("service=\"{service}\",result=\"{result}\""), *count)
        });
        let help = "Rollouts that the agent began, by how they ended.";
        family(&mut text, ("rollouts_total", "counter", help), rollouts);
        let of = |service: &String| format!("service=\"{service}\"");
        let rolled = self
            .rolled_at
            .iter()
            .map(|(service, at)| (of(service), *at));
        let help = "When the agent last rolled the service, in seconds since 1970.";
        family(
            &mut text,
            ("last_success_timestamp_seconds", "gauge", help),
            rolled,
        );
        let checks = self.checks.iter().map(|((service, is_answered), count)| {
            let result = if *is_answered { "answered" } else { "failed" };
            (format!("service=\"{service}\",result=\"{result}\""), *count)
        });
        let help = "Questions to registries, by whether the digest is known.";
        family(&mut text, ("checks_total", "counter", help), checks);
        let waiting = self.waiting.iter().map(|service| (of(service), 1));
        let help = "Services that the agent leaves alone until a person has settled them.";
        family(&mut text, ("needs_person", "gauge", help), waiting);
        let calls = self
            .calls
            .iter()
            .map(|(status, count)| (format!("status=\"{status}\""), *count));
        let help = "Calls of the webhook, by the status of the answer.";
        family(&mut text, ("webhook_calls_total", "counter", help), calls);
        text
    }
}

fn family(
    text: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl Iterator<Item = (String, u64)>,
) {
    let name = format!("rollout_agent_{name}");
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_a_sample_with_its_labels() {
        let mut metrics = Metrics::default();
        metrics.ended("web", ROLLED, 100);
        metrics.ended("web", ROLLED, 200);
        metrics.ended("web", "failed", 300);
        metrics.checked("web", false);
        metrics.called(202);
        metrics.waiting.insert("api".to_owned());
        let text = metrics.text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "rollout_agent_rollouts_total{service=\"web\",result=\"failed\"} 1",
                "rollout_agent_rollouts_total{service=\"web\",result=\"rolled\"} 2",
                "rollout_agent_last_success_timestamp_seconds{service=\"web\"} 200",
                "rollout_agent_checks_total{service=\"web\",result=\"failed\"} 1",
                "rollout_agent_needs_person{service=\"api\"} 1",
                "rollout_agent_webhook_calls_total{status=\"202\"} 1",
            ]
        );
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        assert_eq!(types.count(), 5);
    }
}
