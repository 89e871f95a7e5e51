//! Servers of any service that fail their health check in Traefik: a rollout's reload sends them requests again.

use std::collections::BTreeSet;

use super::{Check, Facts, Finding, Fix, Reads};
use crate::proxy::traefik::down::Down;

/// One finding a server, whichever of the services it is a neighbour of.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let all = facts.services.iter().flat_map(|own| &own.down);
    let all: BTreeSet<&Down> = all.collect();
    let finding = |down: &Down| {
        let found = Finding::warn(Check::HealthCheck, &down.service, down.told());
        let fix = |command| Fix::run("take it out of Traefik before a rollout", command);
        let command = down.command().filter(|_| is_shown_labels(facts, down));
        found.fix(command.map(fix))
    };
    all.into_iter().map(finding).collect()
}

/// Whether every Traefik that may have it reads the labels through a socket proxy, which is what can change them.
fn is_shown_labels(facts: &Facts, down: &Down) -> bool {
    let beside = facts.services.iter().filter(|own| own.down.contains(down));
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
            service.down.push(Down {
                service: "nb@docker".to_owned(),
                server: "http://10.0.0.3:80".to_owned(),
                interval: "10s".to_owned(),
                container: Some("shop-nb-2".to_owned()),
            });
            service.fronts.push("shop-traefik-1".to_owned());
            facts.services.push(service);
        }
        let through = Reads::SocketProxy("shop-rollout-1".to_owned());
        facts.traefiks.push(testing::traefik("3.7.0", through));
        let found = check(&facts);
        assert_eq!((found.len(), found[0].level), (1, Level::Warn));
        assert!(found[0].text.contains("for up to 10s"), "{found:?}");
        let run = found[0].fix.as_ref().and_then(|fix| fix.run.as_deref());
        assert_eq!(run, Some("rollout relabel shop-nb-2 traefik.enable=false"));
        facts.traefiks[0].reads = Reads::Socket("/var/run/docker.sock".to_owned());
        assert_eq!(check(&facts)[0].fix, None);
    }
}
