//! Labels that differ, and the names that keep them apart.

use super::*;
use crate::{doctor::testing, fixtures::labels};

fn service(new: &[(&str, &str)], old: &[(&str, &str)]) -> ServiceFacts {
    let mut service = testing::service("web");
    service.labels = labels(new);
    service.service.labels = labels(new);
    service.is_labelled = true;
    service.olds[0].labels = labels(old);
    service
}

fn neighbour(project: &str, pairs: &[(&str, &str)]) -> Neighbour {
    let compose = [
        ("com.docker.compose.project", project),
        ("com.docker.compose.service", "web"),
    ];
    Neighbour {
        runs: true,
        name: format!("{project}-web-1"),
        labels: labels(&[&compose, pairs].concat()),
    }
}

#[test]
fn a_router_with_another_rule_is_reported_and_gets_a_name_of_its_own() {
    let rule = "traefik.http.routers.web.rule";
    let service = service(&[(rule, "Host(`b`)")], &[(rule, "Host(`a`)")]);
    let found = check(&Facts::default(), &service);
    assert_eq!((found.len(), found[0].level), (1, Level::Warn));
    assert_eq!(
        found[0].fix.as_ref().unwrap().edits,
        [
            remove(&["services", "web", "labels", rule]),
            set(
                &["services", "web", "labels"],
                json!({"traefik.http.routers.web-2.rule": "Host(`b`)"})
            ),
        ]
    );
}

#[test]
fn routers_follow_the_service_and_the_middleware_that_get_new_names() {
    let new = [
        ("traefik.http.middlewares.p.stripprefix.prefixes", "/b"),
        ("traefik.http.routers.web.middlewares", "p@docker, q"),
        ("traefik.http.routers.web.rule", "Host(`a`)"),
    ];
    let mut old = new;
    old[0].1 = "/a";
    let found = check(&Facts::default(), &service(&new, &old));
    let edits = &found[0].fix.as_ref().unwrap().edits;
    assert_eq!(
        edits.last().unwrap(),
        &set(
            &["services", "web", "labels"],
            json!({
                "traefik.http.middlewares.p-2.stripprefix.prefixes": "/b",
                "traefik.http.routers.web-2.middlewares": "p-2@docker,q",
                "traefik.http.routers.web-2.rule": "Host(`a`)",
            })
        )
    );
}

#[test]
fn a_container_of_somebody_else_with_the_same_router_is_a_failure() {
    let rule = "traefik.http.routers.web.rule";
    let mut service = service(&[(rule, "Host(`a`)")], &[(rule, "Host(`a`)")]);
    assert_eq!(check(&Facts::default(), &service), []);
    service
        .neighbours
        .push(neighbour("blog", &[(rule, "Host(`c`)")]));
    let found = check(&Facts::default(), &service);
    assert_eq!((found.len(), found[0].level), (1, Level::Fail));
    assert!(found[0].text.contains("blog-web-1"), "{found:?}");
}

const GZ: &str = "traefik.http.middlewares.gz.compress.minresponsebodybytes";

#[test]
fn a_middleware_that_clashes_gets_a_name_that_nothing_has_and_its_router_keeps_its_own() {
    let own = [
        (GZ, "2048"),
        ("traefik.http.routers.web.middlewares", "gz"),
        ("traefik.http.routers.web.rule", "Host(`a`)"),
    ];
    let mut service = service(&own, &own);
    let taken = "traefik.http.middlewares.gz-2.compress";
    service
        .neighbours
        .push(neighbour("blog", &[(GZ, "1024"), (taken, "true")]));
    let found = check(&Facts::default(), &service);
    assert_eq!(
        found[0].fix.as_ref().unwrap().edits,
        [
            remove(&["services", "web", "labels", GZ]),
            set(
                &["services", "web", "labels"],
                json!({
                    "traefik.http.middlewares.gz-3.compress.minresponsebodybytes": "2048",
                    "traefik.http.routers.web.middlewares": "gz-3",
                })
            ),
        ]
    );
}

#[test]
fn of_two_services_of_a_project_only_the_first_gets_the_advice_to_rename() {
    let mut facts = Facts::default();
    let api = testing::add_routed(&mut facts, "api", &labels(&[(GZ, "2048")]));
    let web = testing::add_routed(&mut facts, "web", &labels(&[(GZ, "1024")]));
    facts.services[0].neighbours.push(web);
    facts.services[1].neighbours.push(api);
    let count = |at: usize| check(&facts, &facts.services[at]).len();
    assert_eq!((count(0), count(1)), (1, 0));
}

#[test]
fn what_clashes_only_with_the_new_version_of_another_service_is_reported_once() {
    let mut facts = Facts::default();
    let api = testing::add_routed(&mut facts, "api", &labels(&[(GZ, "2048")]));
    testing::add_routed(&mut facts, "web", &labels(&[(GZ, "1024")]));
    facts.services[1].neighbours.push(Neighbour {
        name: "the new version of api".to_owned(),
        runs: false,
        ..api
    });
    assert_eq!(check(&facts, &facts.services[0]), []);
    let found = check(&facts, &facts.services[1]);
    assert_eq!((found.len(), found[0].level), (1, Level::Fail));
    assert_eq!(
        found[0].text,
        "web and the new version of api define middleware gz (compress.minresponsebodybytes) differently: Traefik drops \
         it for both"
    );
}

#[test]
fn a_service_that_two_projects_share_is_a_failure_and_within_one_project_a_remark() {
    let port = ("traefik.http.services.web.loadbalancer.server.port", "80");
    let router = ("traefik.http.routers.web.rule", "Host(`a`)");
    for (project, level) in [("blog", Level::Fail), ("shop", Level::Ok)] {
        let mut service = service(&[port, router], &[port, router]);
        let compose = testing::service("web").labels;
        service.labels.extend(compose);
        service.neighbours.push(neighbour(project, &[port, router]));
        let found = check(&Facts::default(), &service);
        assert_eq!((found.len(), found[0].level), (1, level), "{found:?}");
    }
}

#[test]
fn the_value_of_a_secret_is_never_shown() {
    let users = "traefik.http.middlewares.auth.basicauth.users";
    let mut service = service(&[(users, "me:$apr1$own")], &[]);
    service
        .neighbours
        .push(neighbour("blog", &[(users, "me:$apr1$other")]));
    let found = check(&Facts::default(), &service);
    let text = &found[0].text;
    assert!(text.contains("auth (basicauth.users)"), "{text}");
    assert!(!text.contains("$apr1$"), "{text}");
}
