//! What is read from samples of what both Compose versions print.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arbitrary::{mutated_text, replaced};

const RICH: &str = r#"
name: shop
services:
  db:
    image: db:1
    networks: {default: null}
  web:
    profiles: [edge]
    depends_on:
      db: {condition: service_healthy, required: true}
      mail: {condition: service_started, required: false}
      once: {condition: service_completed_successfully, required: true}
    deploy:
      replicas: 3
    expose: ["80"]
    healthcheck: {test: [CMD, /app, check], interval: 1.5s, retries: 3}
    image: web:1
    labels: {auth: "user:$$apr1$$x", traefik.enable: "true"}
    networks:
      back: null
      front: {aliases: [w], ipv4_address: 10.3.0.3, mac_address: "02:42:ac:11:00:03"}
    ports:
      - {mode: ingress, target: 80, protocol: tcp}
      - {mode: ingress, target: 80, published: "8080", protocol: tcp}
      - {mode: ingress, target: 81, published: 9000-9010, protocol: udp, host_ip: 127.0.0.1}
    tmpfs: ["/t:size=1m"]
    volumes:
      - {type: volume, target: /data, volume: {}}
      - {type: volume, source: named, target: /n, volume: {}}
      - {type: bind, source: /tmp/a, target: /x}
    volumes_from: ["db:ro"]
    pre_stop:
      - {command: [a, b], user: root, environment: {A: b}}
    x-rollout: {timeout: 30s}
"#;

fn rich() -> Project {
    project(RICH, "-").unwrap()
}

fn only_service(yaml: &str) -> Service {
    let text = format!("name: shop\nservices:\n  web: {yaml}\n");
    project(&text, "-").unwrap().services["web"].clone()
}

#[test]
fn an_empty_service_has_the_defaults_of_the_specification() {
    let service = only_service("{image: a}");
    assert_eq!(
        service,
        Service {
            name: "web".to_owned(),
            image: Some("a".to_owned()),
            scale: 1,
            ..Service::default()
        }
    );
}

#[test]
fn dollars_are_single_in_values() {
    let project = rich();
    assert_eq!(project.services["web"].labels["auth"], "user:$apr1$x");
}

#[test]
fn an_image_that_is_only_built_is_named_after_project_and_service() {
    assert_eq!(
        only_service("{build: {context: .}}").image.as_deref(),
        Some("shop-web")
    );
    assert_eq!(
        only_service("{build: {context: .}, image: b}")
            .image
            .as_deref(),
        Some("b")
    );
    assert_eq!(only_service("{provider: {type: x}}").image, None);
}

#[test]
fn scale_wins_over_replicas_and_both_may_be_zero() {
    assert_eq!(rich().services["web"].scale, 3);
    assert_eq!(
        only_service("{image: a, scale: 2, deploy: {replicas: 2}}").scale,
        2
    );
    assert_eq!(only_service("{image: a, scale: 0}").scale, 0);
}

#[test]
fn ports_are_fixed_a_range_or_ephemeral() {
    let service = &rich().services["web"];
    let hosts: Vec<HostPorts> = service
        .published_ports
        .iter()
        .map(|port| port.host)
        .collect();
    assert_eq!(
        hosts,
        [
            HostPorts::Ephemeral,
            HostPorts::Fixed(8080),
            HostPorts::Range(9000, 9010)
        ]
    );
    let last = &service.published_ports[2];
    assert_eq!((last.protocol.as_str(), last.target), ("udp", 81));
    assert_eq!(last.host_ip.as_deref(), Some("127.0.0.1"));
}

#[test]
fn volumes_without_a_source_are_anonymous_and_every_mount_has_a_target() {
    let service = &rich().services["web"];
    assert_eq!(service.anonymous_volumes, ["/data"]);
    assert_eq!(service.mount_targets, ["/data", "/n", "/x", "/t"]);
}

#[test]
fn networks_hold_static_and_mac_addresses() {
    let service = &rich().services["web"];
    assert_eq!(service.networks, ["back", "front"]);
    assert_eq!(
        service.static_addresses,
        [("front".to_owned(), "10.3.0.3".to_owned())]
    );
    assert_eq!(service.mac_address.as_deref(), Some("02:42:ac:11:00:03"));
}

#[test]
fn dependencies_keep_condition_and_whether_they_are_required() {
    let service = &rich().services["web"];
    let seen: Vec<(&str, &Condition, bool)> = service
        .depends_on
        .iter()
        .map(|d| (d.service.as_str(), &d.condition, d.required))
        .collect();
    assert_eq!(
        seen,
        [
            ("db", &Condition::Healthy, true),
            ("mail", &Condition::Started, false),
            ("once", &Condition::CompletedSuccessfully, true)
        ]
    );
}

#[test]
fn a_health_check_may_be_switched_off_in_two_ways() {
    let check = rich().services["web"].healthcheck.clone().unwrap();
    assert_eq!(check.test, ["CMD", "/app", "check"]);
    assert_eq!(check.interval, Some(Duration::from_millis(1500)));
    assert_eq!((check.retries, check.disabled), (Some(3), false));
    let disabled = |yaml| only_service(yaml).healthcheck.unwrap().disabled;
    assert!(disabled("{image: a, healthcheck: {disable: true}}"));
    assert!(disabled("{image: a, healthcheck: {test: [NONE]}}"));
}

#[test]
fn hooks_are_read_in_full() {
    assert_eq!(
        rich().services["web"].pre_stop,
        [ExecCommand {
            command: vec!["a".to_owned(), "b".to_owned()],
            user: Some("root".to_owned()),
            environment: vec!["A=b".to_owned()],
            ..ExecCommand::default()
        }]
    );
}

#[test]
fn settings_of_ours_survive() {
    let service = &rich().services["web"];
    assert_eq!(service.x_rollout, Some(json!({"timeout": "30s"})));
}

#[test]
fn dependencies_of_dependencies_count_and_the_service_itself_does_not() {
    let text = "name: p
services:
  a: {image: x, depends_on: {b: {condition: service_started}}}
  b: {image: x, depends_on: {c: {condition: service_started}}}
  c: {image: x}
  d: {image: x}
";
    let project = project(text, "-").unwrap();
    assert_eq!(project.dependencies("a"), ["b", "c"]);
    assert!(project.dependencies("c").is_empty());
}

#[test]
fn an_unknown_service_is_refused_with_the_nearest_and_all_names() {
    let error = rich().service("wbe").unwrap_err();
    assert_eq!(
        error.message,
        "no service \"wbe\" in project shop; did you mean \"web\"?"
    );
    assert_eq!(error.hint.as_deref(), Some("services: db, web"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_compose_prints_is_a_project_or_an_error_of_one_line(text in mutated_text(RICH)) {
        match project(&text, "-") {
            Ok(project) => uses(&project),
            Err(error) => prop_assert!(!error.contains('\n'), "{}", error),
        }
    }

    #[test]
    fn a_value_of_any_type_in_any_place_is_no_panic(
        value in replaced(yaml::parse(RICH).unwrap()), other in replaced(yaml::parse(RICH).unwrap()),
    ) {
        let read = |value: &Value| project(&value.to_string(), "-").ok();
        if let (Some(mut project), Some(other)) = (read(&value), read(&other)) {
            uses(&project);
            let before = project.services.clone();
            project.enable(other);
            prop_assert!(before.iter().all(|(name, service)| project.services[name] == *service));
        }
    }
}

// Properties of any project.
fn uses(project: &Project) {
    for (name, service) in &project.services {
        assert_eq!(service.name, *name);
        assert!(!project.dependencies(name).contains(name));
        assert_eq!(service.raw(project), &project.raw["services"][name]);
    }
}

#[test]
fn a_service_alone_has_its_dependencies_and_is_parsed_the_same() {
    let text = "name: p
services:
  web: {image: a, x-rollout: {wait: 9s, notify: 'https://h/secret'}, environment: {PRICE: '5$$', KEYS$$: x}, configs: [{source: ours}], depends_on: {db: {condition: service_started, required: true}, off: {condition: service_started, required: false}}}
  db: {image: b}
  other: {image: c, configs: [{source: theirs}]}
configs: {ours: {content: a}, theirs: {content: b}}
x-rollout: {notify: 'https://h/secret'}
";
    let whole = project(text, ":").unwrap();
    let alone = project(&whole.alone("web").to_string(), ":").unwrap();
    assert!(alone.services.keys().eq(["db", "web"]));
    assert_eq!(
        alone.raw["services"]["web"]["x-rollout"],
        json!({"wait": "9s"})
    );
    assert_eq!(alone.raw["x-rollout"], json!({}));
    let dependencies = alone.raw["services"]["web"]["depends_on"].as_object();
    assert!(dependencies.unwrap().keys().eq(["db"]));
    assert_eq!(alone.raw["services"]["web"]["environment"]["PRICE"], "5$");
    // Compose looks for variables in values alone.
    let written = whole.alone("web")["services"]["web"]["environment"].clone();
    assert_eq!(written["PRICE"], "5$$");
    assert_eq!(written["KEYS$"], "x");
    assert!(
        alone.raw["configs"]
            .as_object()
            .unwrap()
            .keys()
            .eq(["ours"])
    );
    assert_eq!(alone.raw["services"]["db"], whole.raw["services"]["db"]);
}

#[test]
fn a_service_runs_once_where_another_waits_for_its_end_and_nothing_restarts_it_after_a_success() {
    let text = "name: p
services:
  web: {image: a, depends_on: {job: {condition: service_completed_successfully}, db: {condition: service_started}, kept: {condition: service_completed_successfully}, tried: {condition: service_completed_successfully}, thrice: {condition: service_completed_successfully}, deployed: {condition: service_completed_successfully}, ended: {condition: service_completed_successfully}}}
  db: {image: b}
  job: {image: a, restart: 'no'}
  kept: {image: a, restart: unless-stopped}
  tried: {image: a, restart: on-failure}
  thrice: {image: a, restart: 'on-failure:3'}
  deployed: {image: a, deploy: {restart_policy: {condition: any}}}
  ended: {image: a, deploy: {restart_policy: {condition: none}}}
";
    let project = project(text, "-").unwrap();
    let once = project
        .services
        .values()
        .filter(|own| project.runs_once(own));
    let once: Vec<&str> = once.map(|own| own.name.as_str()).collect();
    assert_eq!(once, ["ended", "job", "thrice", "tried"]);
}
