//! The API's answers in, the sections of the file out, compared whole.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    arbitrary::replaced,
    model::{ServiceKey, label},
    proxy::traefik::labels::names,
};

fn names_of(labels: &[(&str, &str)]) -> Names {
    let compose = [
        (label::COMPOSE_PROJECT, "app"),
        (label::COMPOSE_SERVICE, "web"),
    ];
    let labels = compose.iter().chain(labels);
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    names(&labels.collect())
}

/// What is copied from these answers of Traefiks of a version with these labels.
fn copied_from(labels: &[(&str, &str)], answers: &[Value]) -> Result<Option<Value>> {
    let prefix = Prefix::of(&ServiceKey {
        project: "app".to_owned(),
        service: "web".to_owned(),
    });
    let entrypoints = json!([
        {"name": "web", "address": ":80", "http": {}},
        {"name": "secure", "address": ":443", "http": {"middlewares": ["stamp@file"]}},
    ]);
    let names = names_of(labels);
    let mut copies = Copies::new(&prefix, &names);
    for raw in answers {
        let entrypoints = entrypoints.as_array().unwrap().clone();
        copies.add(&Reported::new(raw.clone(), entrypoints))?;
    }
    Ok(copies.sections().map(Value::Object))
}

#[track_caller]
fn copies(labels: &[(&str, &str)], raw: Value, wanted: Value) {
    assert_eq!(copied_from(labels, &[raw]).unwrap(), Some(wanted));
}

fn reported_service() -> Value {
    json!({
        "status": "enabled", "usedBy": ["web-app@docker"], "serverStatus": {"http://10.0.0.2:80": "UP"},
        "loadBalancer": {"servers": [{"url": "http://10.0.0.2:80"}], "strategy": "wrr", "passHostHeader": true},
    })
}

fn copied_service() -> Value {
    json!({"loadBalancer": {"servers": [{"url": "http://10.0.0.2:80"}], "strategy": "wrr", "passHostHeader": true}})
}

#[test]
fn a_service_without_any_router_label_is_copied_with_the_default_router() {
    copies(
        &[("traefik.enable", "true")],
        json!({
            "routers": {
                "web-app@docker": {
                    "entryPoints": ["web"], "service": "web-app", "rule": "Host(`default`)", "priority": 15,
                    "status": "enabled", "using": ["web"],
                },
                "other@docker": {"entryPoints": ["web"], "service": "other", "rule": "Host(`b`)", "status": "enabled"},
            },
            "services": {"web-app@docker": reported_service(), "other@docker": reported_service()},
        }),
        json!({"http": {
            "routers": {"rollout.app.web.web-app": {
                "entryPoints": ["web"], "service": "rollout.app.web.web-app", "rule": "Host(`default`)", "priority": 16,
            }},
            "services": {"rollout.app.web.web-app": copied_service()},
        }}),
    );
}

#[test]
fn a_router_and_its_service_are_copied_with_all_their_options() {
    let router = json!({
        "entryPoints": ["web"], "rule": "Host(`a`)", "ruleSyntax": "v3", "priority": 100,
        "observability": {"accessLogs": false, "metrics": true, "tracing": true, "traceVerbosity": "minimal"},
        "tls": {"options": "odd", "certResolver": "le", "domains": [{"main": "a.b", "sans": ["c.b"]}]},
    });
    let balancer = json!({
        "servers": [{"url": "h2c://10.0.0.2:80", "weight": 3}], "passHostHeader": false,
        "sticky": {"cookie": {"name": "_754e1", "secure": true, "path": "/"}},
        "healthCheck": {"path": "/up", "interval": "10s", "timeout": "5s", "followRedirects": true},
    });
    let with = |value: &Value, more: Value| {
        let mut value = value.clone();
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        value
    };
    let mut copy = with(
        &router,
        json!({"service": "rollout.app.web.web", "priority": 101}),
    );
    copy["tls"]["options"] = "odd@docker".into();
    copies(
        &[
            ("traefik.http.routers.web.rule", "Host(`a`)"),
            ("traefik.http.services.web.loadbalancer.server.port", "80"),
        ],
        json!({
            "routers": {"web@docker": with(&router, json!({"service": "web", "status": "enabled", "using": ["web"]}))},
            "services": {"web@docker": {
                "status": "enabled", "loadBalancer": with(&balancer, json!({"serversTransport": "mtls@file"})),
            }},
        }),
        json!({"http": {
            "routers": {"rollout.app.web.web": copy},
            "services": {"rollout.app.web.web": {"loadBalancer": with(&balancer, json!({"serversTransport": "mtls@file"}))}},
        }}),
    );
}

const RULE: (&str, &str) = ("traefik.http.routers.web.rule", "Host(`a`)");

#[test]
fn middlewares_of_docker_are_copied_and_others_are_referred_to() {
    copies(
        &[RULE],
        json!({
            "routers": {"web@docker": {
                "rule": "Host(`a`)", "priority": 9, "service": "web-app", "status": "enabled",
                "middlewares": ["auth@docker", "all@docker", "plain@file", "missing@docker", "sorry@docker"],
            }},
            "services": {"web-app@docker": reported_service()},
            "middlewares": {
                "auth@docker": {
                    "basicAuth": {"users": ["user:$apr1$x"]}, "status": "enabled", "usedBy": ["web@docker"],
                    "type": "basicauth", "name": "auth@docker", "provider": "docker",
                },
                "all@docker": {"chain": {"middlewares": ["zip@docker", "few@docker", "all@docker"]}, "status": "enabled"},
                "zip@docker": {"compress": {}, "status": "enabled"},
                "plain@file": {"stripPrefix": {"prefixes": ["/x"]}, "status": "enabled"},
                "sorry@docker": {"errors": {"status": ["500-599"], "service": "web-app"}, "status": "enabled"},
                "few@docker": {
                    "rateLimit": {"average": 9, "sourceCriterion": {"ipStrategy": {}}}, "status": "enabled",
                },
                "unused@docker": {"compress": {}, "status": "enabled"},
            },
        }),
        json!({"http": {
            "routers": {"rollout.app.web.web": {
                "rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.web-app",
                "middlewares": [
                    "rollout.app.web.auth", "rollout.app.web.all", "plain@file", "missing@docker", "rollout.app.web.sorry",
                ],
            }},
            "services": {"rollout.app.web.web-app": copied_service()},
            "middlewares": {
                "rollout.app.web.auth": {"basicAuth": {"users": ["user:$apr1$x"]}},
                "rollout.app.web.all": {"chain": {
                    "middlewares": ["rollout.app.web.zip", "rollout.app.web.few", "rollout.app.web.all"],
                }},
                "rollout.app.web.few": {"rateLimit": {"average": 9}},
                "rollout.app.web.zip": {"compress": {}},
                "rollout.app.web.sorry": {"errors": {"status": ["500-599"], "service": "rollout.app.web.web-app"}},
            },
        }}),
    );
}

#[test]
fn a_router_on_several_entrypoints_is_one_for_each_without_the_entrypoints_middlewares() {
    let router = |entrypoint: &str, middlewares: Value| {
        json!({
            "entryPoints": [entrypoint], "rule": "Host(`a`)", "priority": 9, "service": "web-app", "status": "enabled",
            "middlewares": middlewares,
        })
    };
    let copy = |entrypoint: &str| {
        json!({
            "entryPoints": [entrypoint], "rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.web-app",
            "middlewares": ["rollout.app.web.zip"],
        })
    };
    let mut secure = router("secure", json!(["stamp@file", "zip@docker"]));
    secure["tls"] = json!({});
    let mut secure_copy = copy("secure");
    secure_copy["tls"] = json!({});
    let mut foreign = router("web", json!([]));
    foreign["service"] = "foreign".into();
    copies(
        &[RULE],
        json!({
            "routers": {
                "web-web@docker": router("web", json!(["zip@docker"])),
                "secure-web@docker": secure,
                // A router of another service, which only looks like a variant.
                "web-conflicted-web@docker": foreign,
            },
            "services": {"web-app@docker": reported_service()},
            "middlewares": {"zip@docker": {"compress": {}, "status": "enabled"}},
        }),
        json!({"http": {
            "routers": {"rollout.app.web.web~web": copy("web"), "rollout.app.web.web~secure": secure_copy},
            "services": {"rollout.app.web.web-app": copied_service()},
            "middlewares": {"rollout.app.web.zip": {"compress": {}}},
        }}),
    );
}

#[test]
fn several_services_of_every_protocol_are_copied_and_a_udp_router_sorts_last() {
    let enabled = |mut value: Value| {
        value["status"] = "enabled".into();
        value
    };
    copies(
        &[
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
            ("traefik.tcp.services.db.loadbalancer.server.port", "5432"),
            ("traefik.udp.routers.dns.entrypoints", "dns"),
            ("traefik.udp.services.dns.loadbalancer.server.port", "53"),
            ("traefik.http.routers.a.rule", "Host(`a`)"),
            ("traefik.http.routers.a.service", "a"),
            ("traefik.http.services.a.loadbalancer.server.port", "80"),
            ("traefik.http.services.b.loadbalancer.server.port", "81"),
        ],
        json!({
            "routers": {"a@docker": enabled(json!({"rule": "Host(`a`)", "priority": 9, "service": "a"}))},
            "services": {"a@docker": reported_service(), "b@docker": reported_service()},
            "tcpRouters": {"db@docker": enabled(json!({
                "entryPoints": ["db"], "rule": "HostSNI(`*`)", "priority": -1, "service": "db",
                "tls": {"passthrough": true}, "middlewares": ["few@docker"],
            }))},
            "tcpServices": {"db@docker": enabled(json!({
                "loadBalancer": {"servers": [{"address": "10.0.0.2:5432"}], "proxyProtocol": {"version": 2}},
            }))},
            "tcpMiddlewares": {"few@docker": enabled(json!({"inFlightConn": {"amount": 9}}))},
            "udpRouters": {"dns@docker": enabled(json!({"entryPoints": ["dns"], "service": "dns"}))},
            "udpServices": {"dns@docker": enabled(json!({"loadBalancer": {"servers": [{"address": "10.0.0.2:53"}]}}))},
        }),
        json!({
            "http": {
                "routers": {"rollout.app.web.a": {"rule": "Host(`a`)", "priority": 10, "service": "rollout.app.web.a"}},
                "services": {"rollout.app.web.a": copied_service(), "rollout.app.web.b": copied_service()},
            },
            "tcp": {
                "routers": {"rollout.app.web.db": {
                    "entryPoints": ["db"], "rule": "HostSNI(`*`)", "priority": 1, "service": "rollout.app.web.db",
                    "tls": {"passthrough": true}, "middlewares": ["rollout.app.web.few"],
                }},
                "services": {"rollout.app.web.db": {
                    "loadBalancer": {"servers": [{"address": "10.0.0.2:5432"}], "proxyProtocol": {"version": 2}},
                }},
                "middlewares": {"rollout.app.web.few": {"inFlightConn": {"amount": 9}}},
            },
            "udp": {
                "routers": {"~rollout.app.web.dns": {"entryPoints": ["dns"], "service": "~rollout.app.web.dns"}},
                "services": {"~rollout.app.web.dns": {"loadBalancer": {"servers": [{"address": "10.0.0.2:53"}]}}},
            },
        }),
    );
}

#[test]
fn what_does_not_serve_is_left_out_and_without_any_server_there_is_nothing_to_pin() {
    let mut disabled = reported_service();
    disabled["status"] = "disabled".into();
    let answer = |service: Value| json!({"services": {"web-app@docker": service}});
    let copied = |service: Value| copied_from(&[RULE], &[answer(service)]).unwrap();
    assert_eq!(copied(disabled), None);
    assert_eq!(
        copied(json!({"status": "enabled", "loadBalancer": {}})),
        None
    );
    assert_eq!(copied_from(&[RULE], &[json!({})]).unwrap(), None);
    let services = json!({"rollout.app.web.web-app": copied_service()});
    let wanted = json!({"http": {"services": services}});
    assert_eq!(copied(reported_service()), Some(wanted));
}

#[test]
fn of_several_traefiks_that_read_one_file_the_first_that_knows_a_definition_counts() {
    let answer = |rule: &str| {
        json!({
            "routers": {"web@docker": {"rule": rule, "priority": 9, "service": "web-app", "status": "enabled"}},
            "services": {"web-app@docker": reported_service()},
        })
    };
    let answers = [json!({}), answer("Host(`a`)"), answer("Host(`b`)")];
    let copied = copied_from(&[RULE], &answers).unwrap().unwrap();
    let router = &copied["http"]["routers"]["rollout.app.web.web"];
    assert_eq!(router["rule"], "Host(`a`)");
}

#[test]
fn a_router_that_nothing_can_be_put_above_is_refused() {
    let raw = json!({
        "routers": {"web@docker": {"rule": "Host(`a`)", "priority": 9_223_372_036_854_774_807_i64, "status": "enabled"}},
    });
    let refused = copied_from(&[RULE], &[raw]).unwrap_err();
    assert!(
        refused.message.contains("nothing can be put above it"),
        "{refused}"
    );
}

proptest! {
    #[test]
    fn of_any_answer_every_router_has_a_service_and_no_field_that_a_file_may_not_have(
        raw in replaced(json!({
            "routers": {"web@docker": {
                "entryPoints": ["secure"], "rule": "Host(`a`)", "priority": 9, "service": "web-app", "status": "enabled",
                "middlewares": ["stamp@file", "all@docker"], "tls": {"options": "x"}, "using": ["web"],
            }},
            "services": {"web-app@docker": reported_service()},
            "middlewares": {"all@docker": {"chain": {"middlewares": ["all"]}, "errors": {"service": "x"}, "status": "enabled"}},
        })),
    ) {
        let Ok(Some(copied)) = copied_from(&[RULE], &[raw]) else {
            return Ok(());
        };
        let routers = copied["http"]["routers"].as_object().into_iter().flatten();
        for (_, router) in routers {
            prop_assert!(router["service"].is_string(), "{}", router);
            prop_assert!(router.get("status").is_none() && router.get("using").is_none(), "{}", router);
        }
    }
}
