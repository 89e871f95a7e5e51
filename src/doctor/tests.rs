//! The order of findings, and what is left to say where nothing explains a refusal.

use super::*;
use crate::error::Error;

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
fn a_refusal_that_no_check_explains_is_told_as_it_is() {
    let mut facts = Facts::default();
    testing::add(&mut facts, "web", "image: app");
    facts.services[0].refused = Some(Error::refused("something new").hint("do this"));
    let found = examine(&facts);
    assert_eq!(
        (found[0].check, found[0].level),
        (Check::Rollout, Level::Fail)
    );
    assert_eq!(found[0].fix.as_ref().unwrap().text, "do this");
    // A failure that is told already is not told twice.
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
fn a_service_that_nobody_routes_is_told_so_and_does_not_fail() {
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
