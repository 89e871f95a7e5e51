//! Stacks that route in odd ways, several at once: rolled without a loss, or refused before anything is touched.

use std::time::Duration;

use crate::bad_input::{refused, whole};
use testbed::{Load, Stack, USUAL, eventually, free_port};

const LIMIT: Duration = Duration::from_secs(30);

/// Everything that Traefik makes up by itself: exposure, the rule, the network, the names that entrypoints give routers;
/// and a second Traefik that reads the engine's socket, and whose constraints leave the service out.
const FRONT: &str = r#"  traefik:
    command:
      - --providers.docker.defaultrule=Host(`{{ index .Labels "com.docker.compose.service" }}.test`)
      - --providers.docker.constraints=LabelRegex(`com.docker.compose.project`,`^${COMPOSE_PROJECT_NAME}$$`) && !Label(`zone`,`inner`)
      - --providers.docker.network=${COMPOSE_PROJECT_NAME}_front
      - --providers.docker.allowemptyservices=true
      - --entrypoints.web.address=:80
      - --entrypoints.web.http.middlewares=mark@docker
      - --entrypoints.admin.address=:81
      - --entrypoints.admin.http.tls=true
      - --api.insecure=true
    labels:
      traefik.http.routers.traefik.rule: Host(`traefik.test`)
      traefik.http.services.traefik.loadbalancer.server.port: "80"
      traefik.http.middlewares.mark.headers.customresponseheaders.x-mark: "1"
  inner:
    image: traefik:v3.7
    command: ["--providers.docker.constraints=Label(`zone`,`inner`)", "--entrypoints.web.address=:80"]
    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']
    networks: [front]
networks:
  back:
"#;

/// Two services and three routers, one of them on no service at all; a port of UDP that is the lowest; two networks, and
/// Traefik in one of them. The application takes its time to become healthy.
const SEVERAL: &str = r#"    image: rollout-demo:${TAG}-plain
    environment: { START_DELAY: "3" }
    healthcheck: { test: [CMD, /app, check], interval: 1s, start_period: 20s }
    expose: ["53/udp"]
    labels:
      traefik.http.services.app.loadbalancer.server.port: "80"
      traefik.http.services.admin.loadbalancer.server.port: "80"
      traefik.http.routers.app.rule: Host(`localhost`)
      traefik.http.routers.app.service: app
      traefik.http.routers.app.entrypoints: web
      traefik.http.routers.admin.service: admin
      traefik.http.routers.lost.rule: Host(`lost.test`)
    networks: [front, back]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_several_routers_ports_and_networks_is_cut_over_as_one() {
    let mut stack = Stack::relabelled("");
    stack.write(
        "compose.yaml",
        &format!("services:\n  web:\n{SEVERAL}{FRONT}"),
    );
    stack.up("v1").await;
    let by_default_rule = async || {
        let mut options = stack.load_options();
        options.host = "web.test".into();
        options.connections = 2;
        Load::start(options)
    };
    // The admin router has the default rule, and no entrypoints: it is on both, once with TLS.
    let loads = (stack.load(), by_default_rule().await);
    stack.tag("v2");
    let run = stack.rollout(&["--switch", "relabel", "web"]).await;
    for report in [loads.0.stop().await, loads.1.stop().await] {
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
        assert!(
            report.first_answer_of("v2").is_some(),
            "{report}\n{}",
            run.text
        );
    }
    run.code(0);
    // The inner Traefik reads the socket and has no API.
    stack.settled_beside_faults(1).await;
}

/// Traefik takes published ports for its servers, where they are published on one address: here the bridge's.
const BOUND: &str = r#"    image: rollout-demo:${TAG}
    scale: 2
    ports: ["${BRIDGE}::80"]
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: [apart]
  traefik:
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --providers.docker.usebindportip=true
      - --entrypoints.web.address=:80
      - --api.insecure=true
    networks: [front, docker-api, apart]
networks:
  apart:
"#;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_behind_published_ports_are_told_apart_by_their_ports() {
    let mut stack = Stack::relabelled("");
    stack.write("compose.yaml", &format!("services:\n  web:\n{BOUND}"));
    let gateway = "{{(index .IPAM.Config 0).Gateway}}";
    let bridge = stack
        .docker(&["network", "inspect", "-f", gateway, "bridge"])
        .await;
    stack.set("BRIDGE", bridge.trim()).up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.rollout(&["--switch", "relabel", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(
        report.first_answer_of("v2").is_some(),
        "{report}\n{}",
        run.text
    );
    stack.settled(2).await;
}

/// A Traefik with constraints of its own, behind which the service has a second network to choose from.
const CONSTRAINED: &str = r#"  traefik:
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`) && !Label(`zone`,`inner`)
      - --entrypoints.web.address=:80
      - --api.insecure=true
networks:
  back:
"#;

/// A change of the usual service: what takes the place of what, why it is refused, and what to do next.
type Refusal = (&'static str, &'static str, String, String);

fn what_traefik_would_lose(project: &str) -> [Refusal; 6] {
    let own = format!("Traefik ({project}-traefik-1)");
    [
        (
            "networks: [front]",
            "networks: [front, back]",
            format!(
                "{own} may not get through to web: it is not configured with a network for the service, and so takes the \
                 service's address in any of {project}_back, {project}_front"
            ),
            format!("traefik.docker.network: {project}_front"),
        ),
        (
            "traefik.enable: \"true\"",
            "zone: outer",
            format!("{own} would leave the new version of web out: it has no label traefik.enable=true"),
            "traefik.enable: \"true\"".to_owned(),
        ),
        (
            "labels:",
            "labels:\n      zone: inner",
            format!(
                "{own} would leave the new version of web out: Traefik's constraints are \
                 Label(`com.docker.compose.project`,`{project}`) && !Label(`zone`,`inner`)"
            ),
            "--proxy none".to_owned(),
        ),
        (
            "labels:",
            "expose: [\"53/udp\"]\n    labels:",
            "Traefik would send to port 53/udp of web, the lowest that it exposes".to_owned(),
            format!("services.web-{project}.loadbalancer.server.port: \"80\""),
        ),
        (
            "labels:",
            "labels:\n      traefik.http.services.app.loadbalancer.server.url: http://web:80",
            "Traefik sends to http://web:80 for web, whichever version is there (loadbalancer.server.url of app)"
                .to_owned(),
            "--strategy recreate".to_owned(),
        ),
        (
            "networks: [front]",
            "network_mode: host",
            "web has network_mode: host, so both sets would share its ports".to_owned(),
            "--strategy recreate".to_owned(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_traefik_would_lose_or_not_get_through_to_is_refused() {
    let mut stack = Stack::relabelled("");
    let compose = |web: &str| format!("services:\n  web:\n{web}{CONSTRAINED}");
    stack.write("compose.yaml", &compose(USUAL));
    stack.up("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    for (from, to, error, next) in what_traefik_would_lose(&stack.name) {
        stack.write("compose.yaml", &compose(&USUAL.replacen(from, to, 1)));
        refused(&stack.rollout(&["web"]).await, &error, &next);
    }
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_traefik_that_ignores_docker_host_the_option_to_add_is_said() {
    let mut stack = Stack::relabelled("");
    stack.set("TRAEFIK", "v3.3").set("HTTP_PORT", free_port());
    let front = [&["up", "-d"], stack.front()].concat();
    stack.compose(&front).await;
    let before = whole(&stack).await;
    let error = format!(
        "{}-traefik-1 is a Traefik older than 3.6.1, which ignores DOCKER_HOST",
        stack.name
    );
    let run = stack.rollout(&["--switch", "relabel", "web"]).await;
    let next = "add --providers.docker.endpoint=tcp://socket-proxy:2375 to Traefik's command";
    refused(&run, &error, next);
    assert_eq!(whole(&stack).await, before);
}

/// A router that Traefik disables, since a middleware of it does not exist.
const DISABLED: &str = r#"    image: rollout-demo:${TAG}
    networks: [front]
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.routers.web.middlewares: none@docker
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_traefik_answers_404_for_is_not_settled() {
    let mut stack = Stack::relabelled("");
    let compose = |web: &str| format!("services:\n  web:\n{web}");
    stack.write("compose.yaml", &compose(DISABLED));
    stack.tag("v1").compose(&["up", "-d"]).await;
    let failed_run = eventually("Traefik has disabled the router", LIMIT, async || {
        let run = stack.rollout(&["status", "web"]).await;
        match run.out.contains("not served: router web is disabled") {
            true => Ok(run),
            false => Err(run.out),
        }
    })
    .await;
    let failed = failed_run.code(1).event("failed").unwrap();
    assert_eq!(failed["message"], "web is not served by Traefik");
    assert_eq!(failed["hint"], "rollout doctor web");
    assert!(!failed_run.out.contains(" live"), "{}", failed_run.out);
    // The same replica, once what was missing is there.
    let middleware = "  other:\n    image: rollout-demo:v1\n    networks: [front]\n    labels:\n      traefik.enable: \"true\"\n      \
                      traefik.http.middlewares.none.compress: \"true\"\n";
    stack.write("compose.yaml", &compose(&format!("{DISABLED}{middleware}")));
    stack.compose(&["up", "-d"]).await;
    stack.answers("v1").await;
    let well = stack.rollout(&["status", "web"]).await;
    assert!(well.code(0).out.contains("web: settled"), "{}", well.out);
}

/// A Traefik that reads Docker once, at its start.
const UNWATCHED: &str = r#"  traefik:
    command:
      - --providers.docker.watch=false
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --api.insecure=true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_does_not_watch_docker_is_refused_before_anything_is_touched() {
    let mut stack = Stack::relabelled("");
    stack.write(
        "compose.yaml",
        &format!("services:\n  web:\n{USUAL}{UNWATCHED}"),
    );
    stack.tag("v1").compose(&["up", "-d", "web"]).await;
    stack.compose(&["up", "-d"]).await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    let message = run.code(2).event("failed").unwrap()["message"].to_string();
    assert!(message.contains("does not watch Docker"), "{message}");
    assert_eq!(stack.replicas("web").await, before);
}
