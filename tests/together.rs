//! Two services that cut over together: no client gets an old answer of either after a new answer of either.

mod killed;

use serde_json::Value;

use testbed::{Container, Load, LoadOptions, LoadReport, Run, Stack};

use crate::plan::on_the_engine;

/// A frontend and its API, on one entrypoint. Without its route each is answered by none.
const BOTH: &str = r#"    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`) && Path(`/`)
    networks: [front]
  api:
    image: rollout-demo:${API_TAG}
    environment: { START_DELAY: "${DELAY}", ERROR_EVERY: "${ERRORS:-0}" }
    labels:
      traefik.enable: "true"
      traefik.http.routers.api.rule: Host(`localhost`) && Path(`/api`)
    networks: [front]
"#;

const SERVICES: [&str; 2] = ["web", "api"];
const PATHS: [&str; 2] = ["/", "/api"];
const TOGETHER: [&str; 5] = ["--proxy", "traefik", "--together", "web", "api"];
const SIDE_BY_SIDE: [&str; 6] = ["--proxy", "traefik", "--parallel", "2", "web", "api"];

/// Both in their first version. The API takes this many seconds to start.
async fn both(mut stack: Stack, delay: u32) -> Stack {
    asks_for(stack.set("DELAY", delay), "v1").up("v1").await;
    stack.answers_at("/api", "v1").await;
    stack
}

async fn usual(delay: u32) -> Stack {
    both(Stack::new(BOTH), delay).await
}

fn asks_for<'a>(stack: &'a mut Stack, tag: &str) -> &'a mut Stack {
    stack.tag(tag).set("API_TAG", tag)
}

/// Clients of one connection each, which ask both services in turn.
fn clients(stack: &Stack, rate_per_second: u32) -> Load {
    Load::start(LoadOptions {
        paths: PATHS.map(str::to_owned).into(),
        connections: 4,
        rate_per_second,
        ..stack.load_options()
    })
}

/// Runs the CLI while clients ask both services.
async fn watched(stack: &Stack, arguments: &[&str]) -> (Run, LoadReport) {
    // Near to as fast as answers come.
    let clients = clients(stack, 1_000);
    clients.goes_on_for(100).await;
    let run = stack.rollout(arguments).await;
    clients.goes_on_for(100).await;
    (run, clients.stop().await)
}

/// The containers of both.
async fn replicas(stack: &Stack) -> Vec<Container> {
    let mut all = Vec::new();
    for service in SERVICES {
        all.extend(stack.replicas(service).await);
    }
    all
}

/// Both answer with the version, and are as Compose itself would have made them.
async fn settled(stack: &Stack, version: &str) {
    for path in PATHS {
        let found = stack.version_at(path).await;
        assert_eq!(found.as_deref(), Some(version), "{path}");
    }
    let api = stack.replicas("api").await;
    let names: Vec<&str> = api.iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, [format!("{}-api-1", stack.name)]);
    stack.settled(1).await;
    assert_eq!(stack.replicas("api").await, api);
}

/// The places of a step's events among all events.
fn places(run: &Run, kind: &str, step: &str) -> Vec<usize> {
    let is = |event: &Value| event["event"] == kind && event["step"] == step;
    let events = run.events.iter().enumerate();
    let places = events.filter(|(_, event)| is(event));
    places.map(|(place, _)| place).collect()
}

/// Neither cut over before both were ready, and neither was drained before both were confirmed.
fn waited_for_each_other(run: &Run) {
    for service in SERVICES {
        let own = run
            .events
            .iter()
            .filter(|event| event["service"] == service);
        let begun = own.filter(|event| event["event"] == "step_started");
        let steps = begun.filter_map(|event| event["step"].as_str());
        let mut steps: Vec<&str> = steps
            .filter(|step| ["await_others", "cutover", "drain"].contains(step))
            .collect();
        steps.dedup();
        assert_eq!(
            steps,
            ["await_others", "cutover", "await_others", "drain"],
            "{service}\n{}",
            run.text
        );
    }
    for (done, begun) in [("ready", "cutover"), ("confirm", "drain")] {
        let done = places(run, "step_finished", done);
        assert!(done.len() >= 2, "{}", run.text);
        let last = done.last();
        assert!(last < places(run, "step_started", begun).first());
    }
}

/// Rolls both to each of these versions, back and forth, under load.
async fn move_together(mut stack: Stack, versions: &[&str]) {
    for tag in versions {
        asks_for(&mut stack, tag);
        let (run, report) = watched(&stack, &TOGETHER).await;
        run.code(0);
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
        assert_eq!(report.first_answers.len(), 2, "{report}\n{}", run.text);
        for service in SERVICES {
            assert_eq!(run.results()[service], "rolled", "{}", run.text);
        }
        waited_for_each_other(&run);
        settled(&stack, tag).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_that_are_rolled_together_show_no_old_answer_after_a_new_one() {
    let stack = both(Stack::relabelled_with(BOTH), 3).await;
    move_together(stack, &["v2", "v1", "v2", "v1", "v2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_pin_files_they_show_none_either() {
    let stack = both(Stack::pinned_with(BOTH), 3).await;
    move_together(stack, &["v2", "v1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn side_by_side_alone_the_same_clients_do_see_old_answers_after_new_ones() {
    let mut stack = usual(3).await;
    asks_for(&mut stack, "v2");
    let (run, report) = watched(&stack, &SIDE_BY_SIDE).await;
    run.code(0);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert!(report.mixed > 0, "{report}\n{}", run.text);
    settled(&stack, "v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_that_never_gets_ready_moves_neither() {
    let mut stack = usual(0).await;
    let before = replicas(&stack).await;
    asks_for(&mut stack, "v2").set("API_TAG", "broken");
    let arguments = [&["--timeout", "5"], &TOGETHER[..]].concat();
    let (run, report) = watched(&stack, &arguments).await;
    run.code(1);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let new = report.first_answer_of("v2");
    assert_eq!(new, None, "{report}\n{}", run.text);
    let results = run.results();
    assert_eq!(results["api"], "failed", "{}", run.text);
    assert_ne!(results["web"], "rolled", "{}", run.text);
    assert_eq!(replicas(&stack).await, before);
    assert_eq!(stack.claims().await, 0);
    asks_for(&mut stack, "v1");
    settled(&stack, "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_that_dies_while_they_are_watched_takes_both_back() {
    let mut stack = usual(0).await;
    let before = replicas(&stack).await;
    // Requests to the service that dies may be lost.
    let load = stack.load();
    asks_for(&mut stack, "v2");
    let mut running = stack.start_rollout(&[&["--bake", "60s"], &TOGETHER[..]].concat());
    for (service, path) in SERVICES.into_iter().zip(PATHS) {
        running.reaches_of(service, "step_started", "bake").await;
        stack.answers_at(path, "v2").await;
    }
    let new = stack.newest("api").await;
    assert!(before.iter().all(|own| own.id != new));
    stack.docker(&["kill", &new]).await;
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(1);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert!(report.first_answer_of("v2").is_some(), "{report}");
    for service in SERVICES {
        let undoing = |event: &Value| event["event"] == "undoing" && event["service"] == service;
        assert!(run.events.iter().any(undoing), "{service}\n{}", run.text);
    }
    assert_eq!(replicas(&stack).await, before);
    asks_for(&mut stack, "v1");
    settled(&stack, "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_that_fails_the_analysis_takes_both_back() {
    let mut stack = usual(0).await;
    let before = replicas(&stack).await;
    let clients = clients(&stack, 200);
    clients.goes_on_for(200).await;
    asks_for(&mut stack, "v2").set("ERRORS", 10);
    let arguments = [&["--bake", "20s"], &TOGETHER[..]].concat();
    let run = stack.rollout(&arguments).await;
    drop(clients);
    run.code(1);
    let reason = |service: &str| {
        let mut events = run.events.iter();
        let undoing = |own: &&Value| own["event"] == "undoing" && own["service"] == service;
        let event = events.find(undoing).unwrap_or(&Value::Null);
        event["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert!(reason("api").contains("fails the analysis"), "{}", run.text);
    assert_ne!(reason("web"), "", "{}", run.text);
    assert_eq!(replicas(&stack).await, before);
    asks_for(&mut stack, "v1").set("ERRORS", 0);
    settled(&stack, "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_are_undone_together() {
    let mut stack = usual(3).await;
    asks_for(&mut stack, "v2");
    stack.rollout(&TOGETHER).await.code(0);
    // What the file asks for does not count, but is compared with what runs in the end.
    asks_for(&mut stack, "v1");
    let undo = ["undo", "--together", "web", "api"];
    let (run, report) = watched(&stack, &undo).await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(report.first_answers.len(), 2, "{report}\n{}", run.text);
    waited_for_each_other(&run);
    settled(&stack, "v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_of_both_while_they_are_watched_takes_both_back_once() {
    for undo in [
        &["undo", "web", "api"][..],
        &["undo", "--together", "web", "api"],
    ] {
        let mut stack = usual(0).await;
        let before = replicas(&stack).await;
        let clients = clients(&stack, 200);
        asks_for(&mut stack, "v2");
        let mut running = stack.start_rollout(&[&["--bake", "100s"], &TOGETHER[..]].concat());
        for service in SERVICES {
            running.reaches_of(service, "step_started", "bake").await;
        }
        let undo = stack.rollout(undo).await;
        undo.code(0);
        let run = running.wait().await;
        assert!(run.code(1).text.contains("undone by"), "{}", run.text);
        let report = clients.stop().await;
        assert_eq!(report.failed, 0, "{report}\n{}", run.text);
        assert_eq!(replicas(&stack).await, before, "{}", undo.text);
        stack.no_leftovers().await;
    }
}

// Until the release Traefik reads the file of the hold too, by which the old routers have the requests of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn by_pin_files_a_new_router_has_its_requests_from_the_cutover_on() {
    let more = [
        "traefik.enable=true",
        "traefik.http.routers.api.rule=Host(`localhost`) && Path(`/api`)",
        "${MORE}.rule=Host(`localhost`) && Path(`/api`) && PathPrefix(`/`)",
        "${MORE}.middlewares=more",
        "traefik.http.middlewares.more.headers.customresponseheaders.X-More=1",
    ];
    let more = more.map(|label| format!("      - {label}\n")).concat();
    let (head, api) = BOTH.split_once("  api:\n").unwrap();
    let (api, _) = api.split_once("      traefik").unwrap();
    let services = format!("{head}  api:\n{api}{more}    networks: [front]\n");
    let mut stack = Stack::pinned_with(&services);
    stack.set("MORE", "none");
    let mut stack = both(stack, 0).await;
    asks_for(&mut stack, "v2").set("MORE", "traefik.http.routers.more");
    let clients = clients(&stack, 200);
    let mut running = stack.start_rollout(&[&["--bake", "3s"], &TOGETHER[..]].concat());
    running.reaches_of("api", "step_started", "bake").await;
    let answer = stack.get("/api", &[]).await.unwrap();
    assert_eq!(answer.headers()["x-version"], "v2");
    assert!(answer.headers().contains_key("x-more"));
    let run = running.wait().await;
    run.code(0);
    let report = clients.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    settled(&stack, "v2").await;
}

// Traefik reads both files until the old one is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_loses_a_router_by_pin_files_is_refused_before_anything_is_touched() {
    let router = "traefik.http.routers.${ROUTER}.rule=Host(`localhost`) && Path(`/api`)";
    let services = BOTH.replace(
        "      traefik.http.routers.api.rule: Host(`localhost`) && Path(`/api`)\n",
        "",
    );
    let web = services.replacen(
        "      traefik.enable: \"true\"\n    networks",
        &format!("      - traefik.enable=true\n      - {router}\n    networks"),
        1,
    );
    let mut stack = Stack::pinned_with(&web);
    stack.set("ROUTER", "api");
    let mut stack = both(stack, 0).await;
    asks_for(&mut stack, "v2").set("ROUTER", "other");
    let before = on_the_engine(&stack).await;
    let run = stack.rollout(&TOGETHER).await;
    let message = run.code(2).failure();
    assert!(
        message.contains("api cannot cut over together"),
        "{message}"
    );
    assert!(message.contains("pin"), "{message}");
    assert!(run.event("failed").unwrap()["hint"].is_string());
    assert_eq!(on_the_engine(&stack).await, before);
    assert_eq!(stack.pins(), [""; 0]);
}
