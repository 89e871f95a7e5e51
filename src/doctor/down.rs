//! Servers of any service that fail their health check in Traefik: the reload during a rollout sends them requests again.

use std::collections::BTreeSet;

use super::{Check, Facts, Finding, Fix, Reads};
use crate::proxy::Hazard;

/// One finding for each server, even if it is a neighbour of several services.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let all = facts.services.iter().flat_map(|own| &own.hazards);
    let all: BTreeSet<&Hazard> = all.collect();
    let finding = |hazard: &Hazard| {
        let found = Finding::warn(Check::HealthCheck, &hazard.subject, &hazard.text);
        let fix = |command| Fix::run("remove it from Traefik before a rollout", command);
        let command = hazard.command.clone();
        let command = command.filter(|_| is_shown_labels(facts, hazard));
        found.fix(command.map(fix))
    };
    all.into_iter().map(finding).collect()
}

/// Whether every Traefik that may have it reads the labels through a socket proxy, which can change them.
fn is_shown_labels(facts: &Facts, hazard: &Hazard) -> bool {
    let beside = facts
        .services
        .iter()
        .filter(|own| own.hazards.contains(hazard));
    let fronts: BTreeSet<&String> = beside.flat_map(|own| &own.fronts).collect();
    let all = facts.traefiks.iter();
    let mut all = all.filter(|own| fronts.contains(&own.name));
    !fronts.is_empty() && all.all(|own| matches!(own.reads, Reads::SocketProxy(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Level, testing};

    #[test]
    fn a_server_that_two_services_have_beside_them_is_one_warning_with_a_command() {
        let mut facts = Facts::default();
        for name in ["web", "api"] {
            let mut service = testing::service(name);
            service.hazards.push(Hazard {
                subject: "nb@docker".to_owned(),
                text: "server http://10.0.0.3:80 is DOWN".to_owned(),
                command: Some("rollout relabel shop-nb-2 traefik.enable=false".to_owned()),
            });
            service.fronts.push("shop-traefik-1".to_owned());
            facts.services.push(service);
        }
        let through = Reads::SocketProxy("shop-rollout-1".to_owned());
        facts.traefiks.push(testing::traefik("3.7.0", through));
        let found = check(&facts);
        assert_eq!((found.len(), found[0].level), (1, Level::Warn));
        assert!(found[0].text.ends_with("is DOWN"), "{found:?}");
        let run = found[0].fix.as_ref().and_then(|fix| fix.run.as_deref());
        assert_eq!(run, Some("rollout relabel shop-nb-2 traefik.enable=false"));
        facts.traefiks[0].reads = Reads::Socket("/var/run/docker.sock".to_owned());
        assert_eq!(check(&facts)[0].fix, None);
    }
}
