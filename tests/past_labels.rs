//! Requests that reach a service without the router of its labels, and labels that no Traefik of this engine can serve.

use std::time::Duration;

use serde_json::Value;
use testbed::{Load, LoadOptions, ROLL, Run, Stack, USUAL};

use crate::bad_input::refused;

/// A service without labels.
const PLAIN: &str = "    image: rollout-demo:${TAG}\n    networks: [front]\n";

/// The file provider routes to it by its name in Compose.
const BY_FILE: &str = "http:\n  routers: {app: {rule: 'Host(`localhost`)', service: app}}\n  services: {app: \
                       {loadBalancer: {servers: [{url: 'http://web:80'}]}}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_file_routes_to_by_its_name_is_told_of_and_drained() {
    let mut stack = Stack::pinned_with(PLAIN);
    stack.write("dynamic/app.yml", BY_FILE);
    stack.up("v1").await;
    stack.tag("v2");
    let before = stack.replicas("web").await;
    let warning = "reaches web by service app@file (web:80, used by router app@file), without the router of its labels";
    let asked = stack.rollout(&ROLL).await;
    asked.code(2);
    assert!(asked.text.contains(warning), "{}", asked.text);
    assert_eq!(stack.replicas("web").await, before);
    let mut running = stack.start_rollout(&["web"]);
    running.reaches("step_started", "create").await;
    // Traefik keeps its connections to the old replica, with requests under way at any time.
    let load = Load::start(LoadOptions {
        connections: 1,
        rate_per_second: 5,
        slow_requests: Some(Duration::from_secs(4)),
        ..stack.load_options()
    });
    running.reaches("step_started", "drain").await;
    // New requests would go to either version until the old one stops.
    let report = load.stop().await;
    let run = running.wait().await;
    run.code(0);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert!(report.first_answer_of("v1").is_some(), "{report}");
    assert!(run.text.contains(warning), "{}", run.text);
    assert!(!run.text.contains("no Traefik router"), "{}", run.text);
    // An idle connection of Traefik's is left at the end, and nothing waits for it.
    assert_eq!(run.event("drained").unwrap()["how"], "answered");
    stack.answers("v2").await;
}

const AUTH: &str = r#"    image: rollout-demo:${TAG}
    networks: [front]
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.routers.web.middlewares: auth
  auth:
    image: rollout-demo:${TAG}
    networks: [front]
    labels:
      traefik.enable: "true"
      traefik.http.middlewares.auth.forwardauth.address: http://auth:80/verify
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_auth_that_calls_the_service_by_its_name_is_told_of_by_a_rollout_and_by_doctor() {
    let stack = Stack::new(AUTH);
    stack.up("v1").await;
    let warning = "reaches auth by middleware auth@docker (forwardAuth to auth:80, used by router web@docker), without \
                the router of its labels";
    let doctor = stack.rollout(&["doctor", "--output", "json", "auth"]).await;
    let findings = doctor.out.lines().map(serde_json::from_str::<Value>);
    let findings: Vec<Value> = findings.map(Result::unwrap).collect();
    let is_it = |own: &&Value| {
        own["text"]
            .as_str()
            .is_some_and(|text| text.contains(warning))
    };
    let found = findings.iter().find(is_it).expect(&doctor.out);
    assert_eq!(
        (&found["level"], &found["check"]),
        (&"warn".into(), &"calls".into())
    );
    assert!(
        found["fix"].to_string().contains("http://auth.test/"),
        "{found}"
    );
    let run = stack.rollout(&["--force", "auth"]).await;
    run.code(0);
    let first =
        |run: &Run, is: &dyn Fn(&Value) -> bool| run.events.iter().position(is).expect(&run.text);
    let notice = first(&run, &|own| {
        own["text"]
            .as_str()
            .is_some_and(|text| text.contains(warning))
    });
    assert!(
        notice < first(&run, &|own| own["event"] == "step_started"),
        "{}",
        run.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_names_a_provider_which_is_off_is_refused_before_anything() {
    let git = "      traefik.http.routers.git.rule: Host(`git.test`)\n      traefik.http.routers.git.service: git@redis\n";
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let web = USUAL.replacen("    labels:\n", &format!("    labels:\n{git}"), 1);
    stack.write("compose.yaml", &format!("services:\n  web:\n{web}"));
    stack.tag("v2");
    let error = "Traefik can never serve router git of web: the label traefik.http.routers.git.service=git@redis names the \
                 provider redis, which is not on";
    let run = stack.rollout(&["web"]).await;
    run.code(2);
    assert!(run.text.contains(error), "{}", run.text);
    let doctor = stack.rollout(&["doctor", "web"]).await;
    doctor.code(1);
    assert!(doctor.out.contains("git@redis"), "{}", doctor.out);
    assert_eq!(stack.replicas("web").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_are_read_elsewhere_need_no_traefik_here_and_no_other_project_is_named() {
    let mut stack = Stack::fresh(&format!("{USUAL}networks:\n  front:\n"));
    stack.set("COMPOSE_FILE", "compose.yaml");
    stack.compose(&["up", "-d"]).await;
    stack.tag("v2");
    let before = stack.replicas("web").await;
    let run = stack.rollout(&["web"]).await;
    let error = "no Traefik on this engine reads the labels of web";
    refused(&run, error, "--proxy none");
    assert!(!run.text.contains("socket-proxy"), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    let run = stack.rollout(&["--strategy", "recreate", "web"]).await;
    run.code(0);
    assert!(run.text.contains(error), "{}", run.text);
    assert!(!run.text.contains("socket-proxy"), "{}", run.text);
    stack.tag("v1");
    let run = stack.rollout(&["--proxy", "none", "web"]).await;
    run.code(0);
    assert!(!run.text.contains("socket-proxy"), "{}", run.text);
}
