//! The health check that the labels of a service configure in Traefik: whether replicas fail it, and what a rollout does
//! with it.

use super::{Check, Facts, Finding, Fix, ServiceFacts, health::exposed};
use crate::proxy::{ServiceCheck, traefik::labels::checks};

/// A finding for each check of a service that Traefik routes to.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let Some(way) = service.way.as_ref().ok().filter(|way| way.routes) else {
        return Vec::new();
    };
    let all = checks(&service.labels, &exposed(service));
    if way.down.is_empty() {
        let mut fronts = facts
            .traefiks
            .iter()
            .filter(|own| service.fronts.contains(&own.name));
        let verified = fronts.any(|own| own.config.verifies_servers);
        let all = all.iter();
        return all.map(|check| fine(service, check, verified)).collect();
    }
    let labels: Vec<&str> = all.iter().map(|check| check.label.as_str()).collect();
    let by = match labels.is_empty() {
        true => String::new(),
        false => format!(" by its own health check ({})", labels.join(", ")),
    };
    let text = format!(
        "Traefik reports {} DOWN{by}: it sends no requests there",
        way.down.join(", ")
    );
    let fix = Fix::text(format!(
        "docker compose logs {}; correct the application, or the label, until Traefik's check passes",
        service.name()
    ));
    vec![Finding::warn(Check::HealthCheck, service.name(), text).fix(fix)]
}

fn fine(service: &ServiceFacts, check: &ServiceCheck, verified: bool) -> Finding {
    let label = &check.label;
    let interval = humantime::format_duration(check.interval);
    let text = match check.against_asking(verified) {
        None => format!(
            "Traefik checks it every {interval} ({label}); a rollout asks the same before the cutover"
        ),
        Some(why) => format!(
            "Traefik checks it every {interval} ({label}); a rollout cannot ask the same ({why}), and keeps the old \
             replicas until Traefik has"
        ),
    };
    Finding::ok(Check::HealthCheck, service.name(), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{Level, Reads, testing},
        proxy::traefik::config::StaticConfig,
        roll::Way,
    };

    fn found(option: &str, down: &[&str]) -> Vec<(Level, String)> {
        found_by("", option, down)
    }

    /// The same by a Traefik with these options.
    fn found_by(options: &str, option: &str, down: &[&str]) -> Vec<(Level, String)> {
        let label = format!("traefik.http.services.web.loadbalancer.healthcheck.{option}");
        let (mut facts, mut service) = testing::of(&format!("labels: {{{label}}}"));
        let mut traefik = testing::traefik("3.7.15", Reads::Nothing);
        traefik.config = StaticConfig::of_arguments(&format!("--providers.docker {options}"));
        service.fronts = vec![traefik.name.clone()];
        facts.traefiks = vec![traefik];
        service.image.ports = vec!["80/tcp".to_owned()];
        service.way = Ok(Way {
            routes: true,
            down: down.iter().map(|own| (*own).to_owned()).collect(),
            ..Way::default()
        });
        let found = check(&facts, &service).into_iter();
        found.map(|own| (own.level, own.text)).collect()
    }

    #[test]
    fn a_replica_that_traefik_has_found_down_is_a_warning_with_its_label() {
        let (level, text) = found("path: /up", &["shop-web-1"]).remove(0);
        assert_eq!(level, Level::Warn);
        assert!(text.contains("shop-web-1 DOWN"), "{text}");
        assert!(text.contains("loadbalancer.healthcheck.path=/up"), "{text}");
    }

    #[test]
    fn a_check_is_named_and_what_a_rollout_does_with_it() {
        let (level, text) = found("path: /up", &[]).remove(0);
        assert_eq!(level, Level::Ok);
        assert!(text.contains("asks the same before the cutover"), "{text}");
        let (level, text) = found("mode: grpc", &[]).remove(0);
        assert_eq!(level, Level::Ok);
        assert!(text.contains("keeps the old replicas"), "{text}");
    }

    #[test]
    fn a_check_over_tls_is_asked_where_traefik_verifies_no_certificate() {
        let text = |options| found_by(options, "scheme: https", &[]).remove(0).1;
        let left = "cannot ask the same (only Traefik can verify the certificate)";
        assert!(text("").contains(left), "{}", text(""));
        let text = text("--serversTransport.insecureSkipVerify");
        assert!(text.contains("asks the same before the cutover"), "{text}");
    }

    #[test]
    fn a_service_without_one_has_no_finding() {
        let (facts, mut service) = testing::of("labels: {traefik.enable: 'true'}");
        service.way = Ok(Way {
            routes: true,
            ..Way::default()
        });
        assert_eq!(check(&facts, &service), []);
    }
}
