//! Labels in, file out: one case a table row, compared whole.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, prelude::*};
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    arbitrary::mutated_text,
    model::{Health, Run, label},
    plan::simulator,
    proxy::traefik::labels::previewed,
    settings::PreviewRule,
};

type Labels = [(&'static str, &'static str)];

/// A replica with a network `front`, an address that ends with `number`, and port 8080.
fn replica(number: u8, labels: &Labels) -> Replica {
    let mut replica =
        simulator::replica(&format!("web-{number}"), None, Run::Running, Health::None);
    replica.labels = all(labels);
    let address = format!("10.0.0.{number}").parse().unwrap();
    replica.endpoints = BTreeMap::from([("front".to_owned(), address)]);
    replica.lowest_port = Some(8080);
    replica
}

fn all(labels: &Labels) -> BTreeMap<String, String> {
    let compose = [
        (label::COMPOSE_PROJECT, "app"),
        (label::COMPOSE_SERVICE, "web"),
    ];
    compose
        .iter()
        .chain(labels)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn define(labels: &Labels) -> Definition {
    Definition::of(&all(labels), &|name| {
        (name == "web-app").then(|| "Host(`default`)".to_owned())
    })
}

struct Case<'a> {
    live: &'a [u8],
    shown: &'a Labels,
    other: &'a Labels,
    other_is_there: bool,
}

impl Case<'_> {
    fn content(&self) -> Result<Content> {
        self.with_preview(&[])
    }

    fn with_preview(&self, previewed: &[Replica]) -> Result<Content> {
        let live: Vec<Replica> = self
            .live
            .iter()
            .map(|&number| replica(number, self.shown))
            .collect();
        let key = ServiceKey {
            project: "app".to_owned(),
            service: "web".to_owned(),
        };
        content(&Pinned {
            key: &key,
            live: &live.iter().collect::<Vec<_>>(),
            shown: &define(self.shown),
            other: &define(self.other),
            other_is_there: self.other_is_there,
            previewed,
            reach: &Reach::default(),
        })
    }

    #[track_caller]
    fn makes(&self, wanted: Value) {
        assert_eq!(Value::Object(self.content().unwrap().sections), wanted);
    }
}

/// One version alone, with one replica.
#[track_caller]
fn makes(labels: &Labels, wanted: Value) {
    let case = Case {
        live: &[2],
        shown: labels,
        other: labels,
        other_is_there: true,
    };
    case.makes(wanted);
}

fn servers() -> Value {
    json!({"loadBalancer": {"servers": [{"url": "http://10.0.0.2:8080"}]}})
}

#[test]
fn a_service_without_any_router_label_has_the_default_router() {
    makes(
        &[("traefik.enable", "true")],
        json!({"http": {
            "routers": {"rollout.app.web.web-app": {"rule": "Host(`default`)", "service": "rollout.app.web.web-app", "priority": 16}},
            "services": {"rollout.app.web.web-app": servers()},
        }}),
    );
}

#[test]
fn a_router_is_copied_with_all_that_it_says() {
    makes(
        &[
            ("traefik.http.routers.web.rule", "Host(`a`)"),
            ("traefik.http.routers.web.ruleSyntax", "v3"),
            ("traefik.http.routers.web.entryPoints", "web, secure"),
            ("traefik.http.routers.web.priority", "100"),
            ("traefik.http.routers.web.observability.accesslogs", "false"),
            ("traefik.http.routers.web.tls.certresolver", "le"),
            ("traefik.http.routers.web.tls.options", "strict@file"),
            ("traefik.http.routers.web.tls.domains[0].main", "a.b"),
            ("traefik.http.services.web.loadbalancer.server.port", "80"),
            ("traefik.http.services.web.loadbalancer.server.weight", "3"),
            (
                "traefik.http.services.web.loadbalancer.passhostheader",
                "false",
            ),
            (
                "traefik.http.services.web.loadbalancer.healthcheck.path",
                "/up",
            ),
            (
                "traefik.http.services.web.loadbalancer.serverstransport",
                "mtls@file",
            ),
        ],
        json!({"http": {
            "routers": {"rollout.app.web.web": {
                "rule": "Host(`a`)", "ruleSyntax": "v3", "entryPoints": ["web", "secure"], "priority": 101,
                "observability": {"accesslogs": "false"},
                "tls": {"certresolver": "le", "options": "strict@file", "domains": [{"main": "a.b"}]},
                "service": "rollout.app.web.web",
            }},
            "services": {"rollout.app.web.web": {"loadBalancer": {
                "servers": [{"url": "http://10.0.0.2:80", "weight": "3"}],
                "passhostheader": "false", "healthcheck": {"path": "/up"}, "serverstransport": "mtls@file",
            }}},
        }}),
    );
}

#[test]
fn own_middlewares_are_copied_and_others_get_their_provider() {
    makes(
        &[
            ("traefik.http.routers.web.rule", "Host(`a`)"),
            (
                "traefik.http.routers.web.middlewares",
                "strip,all@docker,shared,plain@file",
            ),
            ("traefik.http.routers.web.tls.options", "odd"),
            (
                "traefik.http.middlewares.strip.stripprefix.prefixes",
                "/a,/b",
            ),
            ("traefik.http.middlewares.zip.compress", "true"),
            (
                "traefik.http.middlewares.all.chain.middlewares",
                "zip,shared",
            ),
            ("traefik.http.middlewares.sorry.errors.service", "web-app"),
        ],
        json!({"http": {
            "routers": {"rollout.app.web.web": {
                "rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.web-app", "tls": {"options": "odd@docker"},
                "middlewares": ["rollout.app.web.strip", "rollout.app.web.all", "shared@docker", "plain@file"],
            }},
            "services": {"rollout.app.web.web-app": servers()},
            "middlewares": {
                "rollout.app.web.strip": {"stripprefix": {"prefixes": "/a,/b"}},
                "rollout.app.web.zip": {"compress": "true"},
                "rollout.app.web.all": {"chain": {"middlewares": ["rollout.app.web.zip", "shared@docker"]}},
                "rollout.app.web.sorry": {"errors": {"service": "rollout.app.web.web-app"}},
            },
        }}),
    );
}

#[test]
fn a_sticky_cookie_keeps_the_name_that_the_docker_provider_gives_it() {
    let rule = ("traefik.http.routers.web.rule", "Host(`a`)");
    let cookie = |labels: &Labels| {
        let case = Case {
            live: &[2],
            shown: labels,
            other: labels,
            other_is_there: false,
        };
        let sections = Value::Object(case.content().unwrap().sections);
        let path = "/http/services/rollout.app.web.web-app/loadBalancer/sticky";
        sections.pointer(path).cloned()
    };
    let sticky = "traefik.http.services.web-app.loadbalancer.sticky";
    // The first digits of sha1("_TRAEFIK_BACKEND_web-app@docker").
    let default = "_754e1";
    for (key, value, wanted) in [
        ("cookie", "true", json!({"cookie": {"name": default}})),
        (
            "cookie.secure",
            "true",
            json!({"cookie": {"secure": "true", "name": default}}),
        ),
        ("cookie.name", "mine", json!({"cookie": {"name": "mine"}})),
        ("cookie", "false", json!({"cookie": "false"})),
    ] {
        let key: &'static str = format!("{sticky}.{key}").leak();
        assert_eq!(cookie(&[rule, (key, value)]), Some(wanted), "{key}");
    }
}

#[test]
fn tcp_and_udp_are_pinned_too_and_a_udp_router_sorts_last() {
    makes(
        &[
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
            ("traefik.tcp.routers.db.entrypoints", "db"),
            ("traefik.tcp.services.db.loadbalancer.server.port", "5432"),
            (
                "traefik.tcp.services.db.loadbalancer.proxyprotocol.version",
                "2",
            ),
            ("traefik.udp.routers.dns.entrypoints", "dns"),
            ("traefik.udp.services.dns.loadbalancer.server.port", "53"),
        ],
        json!({
            "tcp": {
                "routers": {"rollout.app.web.db": {"rule": "HostSNI(`*`)", "entrypoints": ["db"], "priority": 1, "service": "rollout.app.web.db"}},
                "services": {"rollout.app.web.db": {"loadBalancer": {"servers": [{"address": "10.0.0.2:5432"}], "proxyprotocol": {"version": "2"}}}},
            },
            "udp": {
                "routers": {"~rollout.app.web.dns": {"entrypoints": ["dns"], "service": "~rollout.app.web.dns"}},
                "services": {"~rollout.app.web.dns": {"loadBalancer": {"servers": [{"address": "10.0.0.2:53"}]}}},
            },
        }),
    );
}

const PLAIN: &Labels = &[("traefik.http.routers.web.rule", "Host(`a`)")];

/// A router more, which Traefik would ask first.
const MORE: &Labels = &[
    ("traefik.http.routers.web.rule", "Host(`a`)"),
    ("traefik.http.routers.admin.rule", "Host(`a`) && Path(`/x`)"),
    ("traefik.http.routers.admin.middlewares", "zip"),
    ("traefik.http.middlewares.zip.compress", "true"),
];

fn plain_router() -> Value {
    json!({"rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.web-app"})
}

fn answer_for_both() -> Value {
    json!({"rule": "(Host(`a`)) && (Host(`a`) && Path(`/x`))", "priority": 25, "service": "rollout.app.web.web-app"})
}

#[test]
fn before_the_new_version_exists_what_the_old_one_serves_is_kept_from_its_new_routers() {
    let case = Case {
        live: &[2],
        shown: PLAIN,
        other: MORE,
        other_is_there: false,
    };
    case.makes(json!({"http": {
        "routers": {"rollout.app.web.web": plain_router(), "rollout.app.web.web~admin": answer_for_both()},
        "services": {"rollout.app.web.web-app": servers()},
    }}));
}

#[test]
fn a_router_that_the_live_version_lacks_leads_to_it_while_the_other_one_is_still_there() {
    let case = Case {
        live: &[2],
        shown: PLAIN,
        other: MORE,
        other_is_there: true,
    };
    case.makes(json!({"http": {
        "routers": {
            "rollout.app.web.web": plain_router(),
            "rollout.app.web.web~admin": answer_for_both(),
            "rollout.app.web.admin~other": {
                "rule": "Host(`a`) && Path(`/x`)", "priority": 24, "service": "rollout.app.web.web-app",
                "middlewares": ["rollout.app.web.zip~other"],
            },
        },
        "services": {"rollout.app.web.web-app": servers()},
        "middlewares": {"rollout.app.web.zip~other": {"compress": "true"}},
    }}));
}

#[test]
fn a_protocol_that_the_live_version_has_given_up_leads_nowhere() {
    let case = Case {
        live: &[2],
        shown: PLAIN,
        other: &[
            ("traefik.http.routers.web.rule", "Host(`a`)"),
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
        ],
        other_is_there: true,
    };
    case.makes(json!({
        "http": {"routers": {"rollout.app.web.web": plain_router()}, "services": {"rollout.app.web.web-app": servers()}},
        "tcp": {
            "routers": {"rollout.app.web.db~other": {"rule": "HostSNI(`*`)", "priority": 1, "service": "rollout.app.web.web-app~other@file"}},
            "services": {"rollout.app.web.web-app~other": {"loadBalancer": {"servers": []}}},
        },
    }));
}

#[test]
fn a_preview_is_asked_first_and_has_servers_and_middlewares_of_its_own() {
    let labels = &[
        ("traefik.http.routers.web.rule", "Host(`a`)"),
        ("traefik.http.routers.web.middlewares", "auth,sorry"),
        ("traefik.http.middlewares.auth.basicauth.users", "u:p"),
        ("traefik.http.middlewares.sorry.errors.service", "web-app"),
    ];
    let rule = PreviewRule::Extra("Header(`X`, `1`)".to_owned());
    let mut new = replica(3, labels);
    new.labels = previewed(&new.labels, &rule);
    let case = Case {
        live: &[2],
        shown: labels,
        other: labels,
        other_is_there: true,
    };
    let content = case.with_preview(&[new]).unwrap();
    let middlewares = |suffix: &str| {
        [
            (
                format!("rollout.app.web.auth{suffix}"),
                json!({"basicauth": {"users": "u:p"}}),
            ),
            (
                format!("rollout.app.web.sorry{suffix}"),
                json!({"errors": {"service": "rollout.app.web.web-app"}}),
            ),
        ]
    };
    let all: Map<String, Value> = middlewares("")
        .into_iter()
        .chain(middlewares("~preview"))
        .collect();
    let wanted = json!({"http": {
        "routers": {
            "rollout.app.web.web": {
                "rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.web-app",
                "middlewares": ["rollout.app.web.auth", "rollout.app.web.sorry"],
            },
            "rollout.app.web.web-rollout-preview": {
                "rule": "(Host(`a`)) && (Header(`X`, `1`))", "priority": 11,
                "service": "rollout.app.web.web-app-rollout-preview",
                "middlewares": ["rollout.app.web.auth~preview", "rollout.app.web.sorry~preview"],
            },
        },
        "services": {
            "rollout.app.web.web-app": servers(),
            "rollout.app.web.web-app-rollout-preview": {
                "loadBalancer": {"passhostheader": "true", "servers": [{"url": "http://10.0.0.3:8080"}]},
            },
        },
        "middlewares": all,
    }});
    assert_eq!(Value::Object(content.sections), wanted);
    let shown: Vec<&str> = content.shows.keys().map(|id| id.0.as_str()).collect();
    assert_eq!(shown, ["web-2", "web-3"]);
}

#[test]
fn each_replica_of_the_live_side_is_a_server_and_is_recorded_with_it() {
    let case = Case {
        live: &[3, 4],
        shown: PLAIN,
        other: PLAIN,
        other_is_there: true,
    };
    let content = case.content().unwrap();
    let path = "/http/services/rollout.app.web.web-app/loadBalancer/servers";
    assert_eq!(
        Value::Object(content.sections).pointer(path),
        Some(&json!([{"url": "http://10.0.0.3:8080"}, {"url": "http://10.0.0.4:8080"}]))
    );
    let shown: Vec<(String, Vec<String>)> = content
        .shows
        .into_iter()
        .map(|(id, servers)| (id.0, servers.into_iter().collect()))
        .collect();
    let wanted = [3, 4].map(|number| {
        let server = format!("http://10.0.0.{number}:8080");
        (format!("web-{number}"), vec![server])
    });
    assert_eq!(shown, wanted);
}

#[test]
fn what_cannot_be_pinned_is_refused_by_its_name() {
    for (labels, message) in [
        (
            &[
                ("traefik.http.routers.a.middlewares", "x"),
                ("traefik.http.routers.a.service", "web-app"),
            ][..],
            "router a has no rule, and Traefik's default rule for it is not known",
        ),
        (
            &[
                ("traefik.http.routers.a.rule", "Host(`a`)"),
                ("traefik.http.routers.a.parentrefs", "b"),
            ],
            "router a has a parent router, which a pin cannot stand in for",
        ),
        (
            &[
                ("traefik.http.routers.a.rule", "Host(`a`)"),
                ("traefik.http.routers.a.priority", "9223372036854774807"),
            ],
            "a router has the priority 9223372036854774807, and nothing can be put above it",
        ),
    ] {
        let case = Case {
            live: &[2],
            shown: labels,
            other: labels,
            other_is_there: false,
        };
        assert_eq!(case.content().unwrap_err().message, message);
    }
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        mutated_text("traefik.http.routers.web.rule"),
        mutated_text("traefik.http.routers.web.middlewares"),
        mutated_text("traefik.http.services.web.loadbalancer.server.port"),
        mutated_text("traefik.tcp.services.db.loadbalancer.server"),
        mutated_text("traefik.http.middlewares.m.chain.middlewares"),
    ];
    btree_map(
        key,
        prop_oneof![
            mutated_text("Host(`a`)"),
            mutated_text("m,n@file"),
            mutated_text("80")
        ],
        0..6,
    )
}

proptest! {
    #[test]
    fn of_any_labels_every_router_of_a_pin_has_a_service_and_every_server_is_of_a_live_replica(
        shown in any_labels(), other in any_labels(),
    ) {
        let define = |labels| Definition::of(labels, &|_| Some("Host(`default`)".to_owned()));
        let mut live = replica(2, &[]);
        live.labels = shown.clone();
        let key = ServiceKey { project: "app".to_owned(), service: "web".to_owned() };
        let made = content(&Pinned {
            key: &key,
            live: &[&live],
            shown: &define(&shown),
            other: &define(&other),
            other_is_there: true,
            previewed: &[],
            reach: &Reach::default(),
        });
        let Ok(made) = made else {
            return Ok(());
        };
        for section in made.sections.values() {
            for router in section["routers"].as_object().into_iter().flat_map(|all| all.values()) {
                prop_assert!(router["service"].as_str().is_some_and(|own| !own.is_empty()), "{}", router);
            }
        }
        prop_assert!(made.shows.keys().all(|id| *id == live.id), "{:?}", made.shows);
    }
}
