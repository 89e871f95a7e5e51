//! The ways that real configurations leave open.

use proptest::prelude::*;

use super::*;
use crate::{arbitrary::mutated_text, fixtures::labels};

fn config(line: &str) -> StaticConfig {
    StaticConfig::of_arguments(line)
}

/// `http 80 host /base (router)` each.
fn written(ways: &[Way]) -> Vec<String> {
    let write = |way: &Way| {
        format!(
            "{} {} {} {} ({})",
            if way.tls { "https" } else { "http" },
            way.port,
            way.host.as_deref().unwrap_or("-"),
            way.base,
            way.router.as_deref().unwrap_or("insecure"),
        )
    };
    ways.iter().map(write).collect()
}

#[test]
fn the_insecure_api_is_on_the_port_of_its_entrypoint() {
    let ways = |line| written(&ways(&config(line), &[], true));
    assert_eq!(ways("--api.insecure"), ["http 8080 -  (insecure)"]);
    assert_eq!(
        ways("--api.insecure --entrypoints.traefik.address=127.0.0.1:9000"),
        ["http 9000 -  (insecure)"]
    );
    assert!(ways("--api").is_empty() && ways("").is_empty());
}

#[test]
fn a_router_is_reached_on_each_of_its_entrypoints_by_the_name_in_its_rule() {
    let routers = routers_in_labels(&labels(&[
        (
            "traefik.http.routers.Dash.rule",
            "Host(`t.test`) && (PathPrefix(`/api`) || PathPrefix(`/dashboard`))",
        ),
        ("traefik.http.routers.dash.service", "api@internal"),
        ("traefik.http.routers.dash.tls.certresolver", "le"),
        (
            "traefik.http.routers.dash.entrypoints",
            "websecure,internal",
        ),
        ("traefik.http.routers.other.rule", "Host(`o.test`)"),
    ]));
    let config = config(
        "--api --entrypoints.web.address=:80 --entrypoints.websecure.address=:443 --entrypoints.internal.address=:81",
    );
    assert_eq!(
        written(&ways(&config, &routers, true)),
        ["https 443 t.test  (Dash)", "https 81 t.test  (Dash)"]
    );
}

#[test]
fn a_router_without_entrypoints_is_on_the_default_ones_and_takes_their_tls() {
    let file = "http: {routers: {api: {rule: 'PathPrefix(`/ops/`)', service: api@internal}}}";
    let routers = routers_in_file("/dynamic/api.yml", file);
    let config = config(
        "--api.basepath=/traefik --entrypoints.a.address=:80 --entrypoints.b.address=:443 --entrypoints.b.http.tls \
         --entrypoints.c.address=:53/udp",
    );
    assert_eq!(
        written(&ways(&config, &routers, true)),
        [
            "http 80 - /traefik (api)",
            "http 80 - /ops/traefik (api)",
            "https 443 - /traefik (api)",
            "https 443 - /ops/traefik (api)",
        ]
    );
    assert!(routers_in_file("/dynamic/broken.yml", "{{ if }}").is_empty());
}

#[test]
fn a_configuration_that_is_not_known_leaves_the_usual_port() {
    assert_eq!(
        written(&ways(&config(""), &[], false)),
        ["http 8080 -  (insecure)"]
    );
}

#[test]
fn names_are_read_out_of_every_spelling_of_a_rule() {
    for (rule, host) in [
        ("Host(`a.test`, `b.test`)", Some("a.test")),
        ("(Host ( \"a.test\" ))", Some("a.test")),
        ("!Host(`x`) && Host(`a.test`)", Some("a.test")),
        ("HostRegexp(`.+`)", None),
        ("HostSNI(`*`)", None),
        ("Host(`", None),
    ] {
        assert_eq!(arguments(rule, "Host").next().as_deref(), host, "{rule}");
    }
}

proptest! {
    #[test]
    fn a_rule_of_any_text_gives_ways_to_the_entrypoints_there_are(
        rule in mutated_text("Host(`a.b`) && (PathPrefix(`/x/`) || !Host(\"c\"))"),
        file in mutated_text("http: {routers: {api: {rule: 'Host(`a`)', service: api@internal, entryPoints: [web]}}}"),
    ) {
        prop_assert!(prefixes(&rule)[0].is_empty());
        for argument in arguments(&rule, "Host") {
            prop_assert!(rule.contains(&argument));
        }
        let config = StaticConfig::default();
        prop_assert!(ways(&config, &routers_in_file("x.yml", &file), true).is_empty());
    }
}
