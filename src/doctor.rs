//! `rollout doctor`: what blocks zero-downtime rollouts, and what to paste to fix it. Pure checks over gathered facts.

mod calls;
mod conflicts;
mod down;
mod facts;
mod fix;
mod foundation;
mod front;
mod health;
mod reading;
mod routing;
mod shared;
mod sockets;
mod traefik_checks;
mod two_sets;
mod unfinished;
mod unknown;
mod writers;

use serde::Serialize;

pub use crate::check::Check;

pub use self::{
    facts::{Facts, Part, Reads, ServiceFacts, SocketProxyFacts, TraefikFacts},
    fix::Fix,
    front::{part_as_written, part_of_image},
};

/// How a finding weighs, the heaviest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A rollout is refused, or loses something.
    Fail,
    /// A rollout succeeds, but something else is wrong.
    Warn,
    /// Nothing is wrong.
    Ok,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename = "finding")]
pub struct Finding {
    pub level: Level,
    pub check: Check,
    /// The service, the container or the program that it is about.
    pub subject: String,
    /// One line.
    pub text: String,
    /// What to do about it.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(level: Level, check: Check, subject: &str, text: impl Into<String>) -> Self {
        Self {
            level,
            check,
            subject: subject.to_owned(),
            text: text.into(),
            fix: None,
        }
    }

    fn ok(check: Check, subject: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, subject, text)
    }

    fn warn(check: Check, subject: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Warn, check, subject, text)
    }

    pub fn fail(check: Check, subject: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Fail, check, subject, text)
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<Option<Fix>>) -> Self {
        self.fix = fix.into();
        self
    }
}

/// Every finding, the most important first: by level, then by check, then by name.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = foundation::check(facts);
    findings.extend(front::check(facts));
    for service in &facts.services {
        findings.extend(of_service(facts, service));
    }
    findings.extend(down::check(facts));
    findings.extend(sockets::check(facts));
    findings.extend(refusals(facts, &findings));
    sorted(findings)
}

/// The same order for findings that come from elsewhere.
pub fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        (a.level, a.check, &a.subject, &a.text).cmp(&(b.level, b.check, &b.subject, &b.text))
    });
    findings
}

fn of_service(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if let Some(part) = service.part {
        let text = format!("is {part}: docker compose up -d replaces it");
        return vec![Finding::ok(Check::Switch, service.name(), text)];
    }
    if service.replicas == 0 {
        let text = "has a scale of 0: there is nothing to roll";
        return vec![Finding::ok(Check::Rollout, service.name(), text)];
    }
    if service.runs_once {
        let text = "runs to completion before the services that wait for it";
        return vec![Finding::ok(Check::Rollout, service.name(), text)];
    }
    let checks = [
        routing::check,
        conflicts::check,
        unknown::check,
        two_sets::check,
        unfinished::check,
        writers::check,
        calls::check,
        health::check,
        traefik_checks::check,
        shared::check,
        binds,
    ];
    let findings = checks.iter().flat_map(|check| check(facts, service));
    findings.collect()
}

/// Folders that have different paths for this container and for the engine.
fn binds(_: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let lost = service.lost_binds.iter();
    lost.map(|lost| {
        Finding::warn(Check::Binds, service.name(), lost.to_string()).fix(Fix::text(lost.hint()))
    })
    .collect()
}

/// Other reasons for which a rollout of a service would be refused.
fn refusals(facts: &Facts, findings: &[Finding]) -> Vec<Finding> {
    let failed = |subject: &str| {
        findings
            .iter()
            .any(|own| own.level == Level::Fail && own.subject == subject)
    };
    let unexplained = |service: &&ServiceFacts| {
        service.part.is_none()
            && service.replicas > 0
            && !failed(service.name())
            && !service.fronts.iter().any(|front| failed(front))
            && !failed(front::NO_TRAEFIK)
    };
    let services = facts.services.iter().filter(unexplained);
    let refused = services.filter_map(|service| Some((service, service.refused.as_ref()?)));
    refused
        .map(|(service, error)| {
            Finding::fail(Check::Rollout, service.name(), &error.message).fix(Fix::of_hint(error))
        })
        .collect()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
