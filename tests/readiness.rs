//! When a new version counts as ready, and what becomes of one that never is.

use std::time::Duration;

use crate::shapes::roll_under_load;
use testbed::{Run, Stack, by_pin};

/// Variables of the project choose how the application behaves.
const BEHAVIOUR: &str = r#"    environment:
      VERSION: ${VERSION:-}
      BIND: ${BIND:-}
      START_DELAY: ${START_DELAY:-}
      UNHEALTHY: ${UNHEALTHY:-}
"#;

/// Rolls to the second tag under load. Which gate has let the new replica through, and what Docker says of it in the end.
async fn ready_by(stack: &mut Stack, tags: [&str; 2]) -> (Run, String, String) {
    stack.tag(tags[0]).up("v1").await;
    stack.tag(tags[1]);
    let run = roll_under_load(stack, &["--proxy", "traefik", "web"]).await;
    let says = docker_says(stack).await;
    stack.settled(1).await;
    let by = run.event("ready").unwrap()["by"].as_str().unwrap();
    let by = by.to_owned();
    (run, by, says)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_checked_every_second_is_ready_by_its_own_health_check() {
    let mut stack = Stack::usual(BEHAVIOUR);
    let (run, by, says) = ready_by(&mut stack, ["v1", "v2"]).await;
    assert_eq!(by, "health check passed", "{}", run.text);
    assert_eq!(says, "healthy", "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_every_thirty_seconds_is_not_waited_for() {
    let mut stack = Stack::usual(BEHAVIOUR);
    let (run, by, says) = ready_by(&mut stack, ["v1", "v2-slowcheck"]).await;
    assert_eq!(by, "health check passed (run early)", "{}", run.text);
    assert_eq!(says, at_the_end(), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rare_check_of_an_application_that_starts_slowly_is_not_waited_for_either() {
    let mut stack = Stack::usual(BEHAVIOUR);
    stack.set("START_DELAY", 3);
    let (run, by, says) = ready_by(&mut stack, ["v1", "v2-slowcheck"]).await;
    assert_eq!(by, "health check passed (run early)", "{}", run.text);
    assert_eq!(says, at_the_end(), "{}", run.text);
}

/// What Docker says of the new replica at the end: only a pin has to stay until Docker agrees.
fn at_the_end() -> &'static str {
    if by_pin() { "healthy" } else { "starting" }
}

async fn docker_says(stack: &Stack) -> String {
    let name = format!("{}-web-1", stack.name);
    let format = "{{.State.Health.Status}}";
    let said = stack.docker(&["inspect", "--format", format, &name]).await;
    said.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_docker_still_calls_starting_keeps_answering_and_is_rolled_again() {
    let mut stack = Stack::usual(BEHAVIOUR);
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2-slowcheck");
    stack.rollout(&["web"]).await.code(0);
    stack.set("VERSION", "v3");
    assert_eq!(docker_says(&stack).await, at_the_end());
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert_eq!(docker_says(&stack).await, at_the_end());
    assert!(load.seen("v3", Duration::from_secs(5)).await);
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rollout_leaves_a_replica_that_docker_still_calls_starting_answering() {
    let mut stack = Stack::usual(BEHAVIOUR);
    stack.up("v1").await;
    stack.tag("v2-slowcheck");
    stack.rollout(&["web"]).await.code(0);
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("broken").set("UNHEALTHY", 1);
    let run = stack.rollout(&["web"]).await;
    run.code(1);
    // Traefik is asked for its configuration anew, after which it must still know the old replica.
    answers_on(&stack, &load).await;
    assert_eq!(docker_says(&stack).await, at_the_end());
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
}

/// Another container's start makes Traefik read everything anew; some answers later it has done so.
async fn answers_on(stack: &Stack, load: &testbed::load::Load) {
    let start = "docker run --rm --network none rollout-demo:v1-plain check || true";
    stack.shell(start).await;
    load.goes_on_for(300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_health_check_gets_no_traffic_before_its_port_is_open() {
    let mut stack = Stack::usual("");
    stack.tag("v1-plain").up("v1").await;
    stack.tag("slow");
    let run = roll_under_load(&stack, &["--proxy", "traefik", "web"]).await;
    assert!(run.ms("ready") >= 4_000, "{}", run.text);
    let by = run.event("ready").unwrap()["by"].as_str().unwrap();
    assert!(by.contains("port 80 accepts connections"), "{by}");
    stack.settled(1).await;
}

/// Exit code 1, no request lost, and the old containers exactly as they were.
async fn fails_and_leaves_the_old_untouched(stack: &Stack, arguments: &[&str]) -> Run {
    let before = stack.replicas("web").await;
    let load = stack.load();
    let run = stack.rollout(arguments).await;
    let report = load.stop().await;
    run.code(1);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(report.first_answers.len(), 1, "{report}");
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
    run
}

async fn is_told_about_loopback(mut stack: Stack, tags: [&str; 2], limit: &str) {
    stack.tag(tags[0]).up("v1").await;
    stack.tag(tags[1]).set("BIND", "127.0.0.1");
    let run = fails_and_leaves_the_old_untouched(&stack, &[limit, "5s", "web"]).await;
    let failed = run.event("failed").unwrap();
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("on loopback alone"), "{message}");
    assert!(message.contains("the old version serves"), "{message}");
    assert!(
        failed["logs"].to_string().contains("127.0.0.1:80"),
        "{failed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_bound_to_loopback_alone_is_told_so_and_gets_no_traffic() {
    let stack = Stack::usual(BEHAVIOUR);
    is_told_about_loopback(stack, ["v1-plain", "v2-plain"], "--wait").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_bound_to_loopback_gets_no_traffic_though_its_own_check_passes() {
    let stack = Stack::usual(BEHAVIOUR);
    is_told_about_loopback(stack, ["v1", "v2"], "--timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_ready_http_decides_where_it_is_answered_well() {
    let more = format!("{BEHAVIOUR}    x-rollout: {{ ready-http: /health }}\n");
    let mut stack = Stack::usual(&more);
    stack.tag("v1-plain").up("v1").await;
    stack.tag("v2-plain");
    let run = roll_under_load(&stack, &["web"]).await;
    let by = run.event("ready").unwrap()["by"].as_str().unwrap();
    assert!(by.contains("answers GET /health with 200"), "{by}");
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_answers_the_path_of_ready_http_badly_gets_no_traffic() {
    let mut stack = Stack::usual(BEHAVIOUR);
    stack.tag("v1-plain").up("v1").await;
    stack.tag("v2-plain").set("UNHEALTHY", 1);
    let arguments = ["--ready-http", "/health", "--wait", "5s", "web"];
    let run = fails_and_leaves_the_old_untouched(&stack, &arguments).await;
    let message = run.failure();
    assert!(
        message.contains("GET /health is answered with 503"),
        "{message}"
    );
}

/// A service whose labels give Traefik a health check, while Docker's own passes all the same.
const CHECKED_BY_TRAEFIK: &str = r#"    image: rollout-demo:${TAG}
    environment: { VERSION: "${VERSION:-}", UNHEALTHY: "${UNHEALTHY:-}" }
    healthcheck: { test: [CMD, /app, check, "http://127.0.0.1:80/"], interval: 1s }
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.services.web.loadbalancer.healthcheck.path: /health
      traefik.http.services.web.loadbalancer.healthcheck.interval: 1s
      traefik.http.services.web.loadbalancer.healthcheck.mode: ${MODE:-http}
    networks: [front]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_traefiks_own_health_check_asks_decides_besides_dockers() {
    let mut stack = Stack::new(CHECKED_BY_TRAEFIK);
    stack.up("v1").await;
    stack.tag("v2").set("UNHEALTHY", 1);
    let run = fails_and_leaves_the_old_untouched(&stack, &["--timeout", "5s", "web"]).await;
    let message = run.failure();
    for said in [
        "new replica ",
        "loadbalancer.healthcheck.path=/health",
        ":80/health is answered with 503",
    ] {
        assert!(message.contains(said), "{message}");
    }
    stack.unset("UNHEALTHY");
    let run = roll_under_load(&stack, &["web"]).await;
    let by = run.event("ready").unwrap()["by"].as_str().unwrap();
    assert!(by.contains(":80/health is answered with 200"), "{by}");
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_only_traefik_can_make_keeps_the_old_version_until_traefik_has_made_it() {
    let mut stack = Stack::new(CHECKED_BY_TRAEFIK);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    // The application speaks HTTP/2 and no gRPC.
    stack.tag("v2").set("MODE", "grpc");
    let run = stack.rollout(&["web"]).await;
    run.code(1);
    let begun = run
        .events
        .iter()
        .take_while(|event| event["event"] != "started");
    let is_notice =
        |event: &serde_json::Value| event["text"].to_string().contains("cannot be asked");
    assert_eq!(
        begun.filter(|event| is_notice(event)).count(),
        1,
        "{}",
        run.text
    );
    let message = run.failure();
    assert!(
        message.contains("is DOWN by Traefik's health check"),
        "{message}"
    );
    assert!(message.contains("the old version serves"), "{message}");
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_ready_http_counts_besides_a_health_check() {
    let healthy =
        "    healthcheck: { test: [CMD, /app, check, 'http://127.0.0.1:80/'], interval: 1s }\n";
    let mut stack = Stack::usual(&format!("{BEHAVIOUR}{healthy}"));
    stack.up("v1").await;
    stack.tag("v2").set("UNHEALTHY", 1);
    let arguments = ["--ready-http", "/health", "--timeout", "5s", "web"];
    let run = fails_and_leaves_the_old_untouched(&stack, &arguments).await;
    let message = run.failure();
    assert!(
        message.contains("GET /health is answered with 503"),
        "{message}"
    );
}
