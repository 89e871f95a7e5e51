//! The order of findings, and what is left to say where nothing explains a refusal.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{arbitrary::replaced, compose, error::Error, roll::Way, yaml};

#[test]
fn what_fails_comes_first_and_then_what_matters_more() {
    let finding = |level, check| Finding::new(level, check, "web", "");
    let all = vec![
        finding(Level::Ok, Check::Engine),
        finding(Level::Warn, Check::HealthCheck),
        finding(Level::Fail, Check::StaticAddress),
        finding(Level::Fail, Check::Api),
    ];
    let order: Vec<Check> = sorted(all).iter().map(|own| own.check).collect();
    assert_eq!(
        order,
        [
            Check::Api,
            Check::StaticAddress,
            Check::HealthCheck,
            Check::Engine
        ]
    );
}

#[test]
fn a_refusal_that_no_check_explains_is_a_finding_of_its_own() {
    let mut facts = Facts::default();
    testing::add(&mut facts, "web", "image: app");
    facts.services[0].refused = Some(Error::refused("something new").hint("do this"));
    let found = examine(&facts);
    assert_eq!(
        (found[0].check, found[0].level),
        (Check::Rollout, Level::Fail)
    );
    assert_eq!(found[0].fix.as_ref().unwrap().text, "do this");
    // A failure is reported once.
    testing::add(
        &mut facts,
        "web",
        "image: app\nports: [{target: 80, published: '8080'}]",
    );
    facts.services.remove(0);
    facts.services[0].refused = Some(Error::refused("web publishes host port 8080"));
    let found = examine(&facts);
    let failed: Vec<Check> = found
        .iter()
        .filter(|own| own.level == Level::Fail)
        .map(|own| own.check)
        .collect();
    assert_eq!(failed, [Check::HostPorts]);
}

#[test]
fn a_service_without_a_route_is_reported_and_does_not_fail() {
    let mut facts = Facts::default();
    testing::add(&mut facts, "web", "image: app");
    let found = examine(&facts);
    assert!(
        found.iter().all(|own| own.level != Level::Fail),
        "{found:?}"
    );
    let told = found.iter().find(|own| own.check == Check::Switch).unwrap();
    assert!(told.text.contains("no proxy routes to it"), "{told:?}");
}

#[test]
fn what_rollouts_go_through_is_not_judged_as_one_of_them() {
    let mut facts = Facts::default();
    testing::add(
        &mut facts,
        "traefik",
        "image: traefik\nports: [{target: 80, published: '80'}]",
    );
    facts.services[0].part = Some(Part::Traefik);
    let found = examine(&facts);
    assert!(found.iter().all(|own| own.level == Level::Ok), "{found:?}");
}

proptest! {
    #[test]
    fn a_service_with_values_of_any_type_is_refused_or_each_finding_has_a_text_and_each_fix_has_lines(
        web in replaced(json!({
            "image": "postgres:17", "command": ["run", "http://db:80"], "environment": {"DB": "sqlite:///data/a.db"},
            "volumes": [{"type": "volume", "source": "data", "target": "/data"}], "expose": ["80-81/tcp"],
            "ports": [{"target": 80, "published": "80"}], "network_mode": "service:db", "deploy": {"replicas": 2},
            "healthcheck": {"test": ["CMD", "a"], "interval": "9m", "retries": 3},
            "labels": {
                "traefik.http.routers.web.rules": "a", "traefik.http.services.web.loadbalancer.healthcheck.path": "/",
            },
        })),
    ) {
        let whole = json!({"name": "shop", "services": {"web": web, "db": {"image": "a", "command": ["web:80"]}}});
        let Ok(project) = compose::resolved(&yaml::write(&whole).unwrap()) else {
            return Ok(());
        };
        let mut service = testing::service("web");
        service.service = project.services["web"].clone();
        service.labels.extend(service.service.labels.clone());
        service.way = Ok(Way { routes: true, ..Way::default() });
        let facts = Facts { project, services: vec![service], ..Facts::default() };
        for finding in examine(&facts) {
            prop_assert!(!finding.text.is_empty(), "{:?}", finding);
            if let Some(fix) = finding.fix {
                prop_assert!(!fix.text.is_empty() && fix.instructions().iter().all(|(what, _)| !what.is_empty()), "{:?}", fix);
            }
        }
    }
}
