//! Labels that differ, and the names that keep them apart.

use super::*;
use crate::doctor::{Neighbour, testing};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |text: &str| text.to_owned();
    pairs
        .iter()
        .map(|(key, value)| (own(key), own(value)))
        .collect()
}

fn service(new: &[(&str, &str)], old: &[(&str, &str)]) -> ServiceFacts {
    let mut service = testing::service("web");
    service.labels = labels(new);
    service.service.labels = labels(new);
    service.is_labelled = true;
    service.olds[0].labels = labels(old);
    service
}

#[test]
fn a_router_with_another_rule_is_told_and_gets_a_name_of_its_own() {
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
    service.neighbours.push(Neighbour {
        name: "blog-web-1".to_owned(),
        labels: labels(&[(rule, "Host(`c`)")]),
    });
    let found = check(&Facts::default(), &service);
    assert_eq!((found.len(), found[0].level), (1, Level::Fail));
    assert!(found[0].text.contains("blog-web-1"), "{found:?}");
}
