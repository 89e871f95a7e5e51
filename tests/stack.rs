//! A stack of services in layers: their order, one-shot services, what is left alone, and what a failure means for the rest.

mod killed;
mod twelve;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use testbed::{Run, Stack, docker, eventually, image};

use crate::hooks::Images;

/// `web` needs `api`, which needs `migrate` to have completed; `worker` needs none, and `db` keeps data.
const LAYERS: &str = r#"    depends_on: [api]
  api:
    image: rollout-demo:${API_TAG}
    networks: [front]
    depends_on: { migrate: { condition: service_completed_successfully } }
  worker:
    image: rollout-demo:${WORKER_TAG}
  migrate:
    image: ${COMPOSE_PROJECT_NAME}:migrate
    command: ["${JOB}"]
    environment: { RELEASE: "${TAG}" }
  db:
    image: rollout-demo/postgres:16
    environment: { RELEASE: "${TAG}" }
"#;

/// One service after the other, in a known order: migrate, api, web, worker.
const IN_ORDER: [&str; 3] = ["--all", "--parallel", "1"];

/// The whole stack in its first version.
async fn layers() -> Stack {
    let mut stack = Stack::usual(LAYERS);
    docker(&["tag", "rollout-demo:v1-plain", "rollout-demo/postgres:16"]);
    docker(&["tag", &image(), &format!("{}:migrate", stack.name)]);
    stack
        .set("JOB", "--version")
        .set("API_TAG", "v1-plain")
        .set("WORKER_TAG", "v1-plain")
        .up("v1")
        .await;
    stack
}

async fn id(stack: &Stack, service: &str) -> String {
    let replicas = stack.replicas(service).await;
    assert_eq!(replicas.len(), 1, "{service}: {replicas:?}");
    replicas[0].id.clone()
}

fn result<'a>(run: &'a Run, service: &str) -> &'a str {
    run.results().remove(service).unwrap_or_default()
}

/// The place of an event of a service among all events.
fn place(run: &Run, kind: &str, service: &str) -> usize {
    let is = |event: &Value| event["event"] == kind && event["service"] == service;
    let place = run.events.iter().position(is);
    place.unwrap_or_else(|| panic!("no event {kind} of {service}\n{}", run.text))
}

/// Two services in a network that is not there yet.
const FRESH: &str = r#"    image: rollout-demo:${TAG}
    networks: [fresh]
  api:
    image: rollout-demo:${TAG}
    networks: [fresh]
networks: { fresh: }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_side_by_side_make_their_network_once() {
    let stack = Stack::new(FRESH);
    let run = stack.rollout(&["--parallel", "2", "web", "api"]).await;
    run.code(0);
    let name = format!("name=^{}_fresh$", stack.name);
    let list = ["network", "ls", "-q", "--filter", name.as_str()];
    let found = stack.docker(&list).await;
    assert_eq!(found.split_whitespace().count(), 1, "{}", run.text);
    for service in ["web", "api"] {
        assert_eq!(stack.replicas(service).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_has_changed_is_rolled_in_its_order_and_a_database_is_left_alone() {
    let mut stack = layers().await;
    let (db, worker) = (id(&stack, "db").await, id(&stack, "worker").await);
    stack.tag("v2").set("API_TAG", "v2-plain");
    let load = stack.load();
    // Services without labels go on health alone.
    let run = stack.rollout(&["--proxy", "traefik", "--all"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(place(&run, "completed", "migrate") < place(&run, "started", "api"));
    assert!(place(&run, "finished", "api") < place(&run, "started", "web"));
    for (service, expected) in [
        ("migrate", "completed"),
        ("api", "rolled"),
        ("web", "rolled"),
        ("worker", "unchanged"),
        ("db", "left_alone"),
        ("traefik", "left_alone"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    let alone = run.notices();
    let alone = alone.iter().find(|text| text.starts_with("left alone: "));
    assert!(
        alone.unwrap().contains("db (postgres keeps data"),
        "{alone:?}"
    );
    let named = |line: &str| line.starts_with("web      | ");
    assert!(run.text.lines().any(named), "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    assert_eq!(
        (id(&stack, "db").await, id(&stack, "worker").await),
        (db, worker)
    );

    let job = stack.replicas("migrate").await;
    let again = stack.rollout(&["--all"]).await;
    again.code(0);
    for service in ["migrate", "api", "web", "worker"] {
        assert_eq!(result(&again, service), "unchanged", "{}", again.text);
    }
    assert_eq!(stack.replicas("migrate").await, job);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_keeps_back_what_needs_it_and_shows_why() {
    let mut stack = layers().await;
    let (web, api) = (id(&stack, "web").await, id(&stack, "api").await);
    stack
        .tag("v2")
        .set("API_TAG", "v2-plain")
        .set("WORKER_TAG", "v2-plain")
        // Without its argument it ends with code 2.
        .set("JOB", "unlock");
    let run = stack.rollout(&["--all", "--on-failure", "continue"]).await;
    run.code(1);
    for (service, expected) in [
        ("migrate", "failed"),
        ("api", "not_begun"),
        ("web", "not_begun"),
        ("worker", "rolled"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    let failed = &run.events[place(&run, "failed", "migrate")];
    let message = failed["message"].as_str().unwrap();
    assert!(message.ends_with("exited with code 2"), "{failed}");
    assert!(failed["logs"].to_string().contains("SERVICE"), "{failed}");
    assert_eq!(
        (id(&stack, "web").await, id(&stack, "api").await),
        (web, api)
    );
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_no_service_is_begun_or_only_those_that_do_not_need_it() {
    let mut stack = layers().await;
    let (web, worker) = (id(&stack, "web").await, id(&stack, "worker").await);
    stack
        .tag("v2")
        .set("API_TAG", "crash")
        .set("WORKER_TAG", "v2-plain");
    let run = stack.rollout(&IN_ORDER).await;
    run.code(1);
    for (service, expected) in [
        ("migrate", "completed"),
        ("api", "failed"),
        ("web", "not_begun"),
        ("worker", "not_begun"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    assert_eq!(id(&stack, "worker").await, worker);
    let last = run.events.last().unwrap();
    assert_eq!(last["event"], "failed", "{last}");
    assert_eq!(last.get("service"), None, "{last}");

    let going_on = [&IN_ORDER[..], &["--on-failure", "continue"]].concat();
    let run = stack.rollout(&going_on).await;
    run.code(1);
    for (service, expected) in [
        ("migrate", "unchanged"),
        ("api", "failed"),
        ("web", "not_begun"),
        ("worker", "rolled"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    assert_eq!(id(&stack, "web").await, web);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_undoes_what_the_run_has_rolled_and_loses_nothing() {
    let mut stack = layers().await;
    stack
        .tag("v2")
        .set("API_TAG", "v2-plain")
        .set("WORKER_TAG", "crash");
    let load = stack.load();
    let arguments = [&IN_ORDER[..], &["--on-failure", "rollback"]].concat();
    let run = stack.rollout(&arguments).await;
    let report = load.stop().await;
    run.code(1);
    assert!(report.requests > 0);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    for (service, expected) in [
        ("migrate", "completed"),
        ("api", "rolled_back"),
        ("web", "rolled_back"),
        ("worker", "failed"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    let undone = |service: &str| {
        let is = |event: &Value| event["event"] == "started" && event["undo_to"].is_u64();
        let mut events = run.events.iter();
        events.position(|event| is(event) && event["service"] == service)
    };
    assert!(undone("web").unwrap() < undone("api").unwrap());
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    let api = id(&stack, "api").await;
    let format = "{{.Config.Image}}";
    let runs = stack.docker(&["inspect", "-f", format, &api]).await;
    assert_eq!(runs.trim(), "rollout-demo:v1-plain");
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_interrupts_what_is_in_progress_and_begins_nothing_more() {
    let mut stack = layers().await;
    let (web, api) = (id(&stack, "web").await, id(&stack, "api").await);
    stack.tag("v2").set("API_TAG", "slow");
    let mut running = stack.start_rollout(&["--parallel", "1", "api", "web"]);
    running.reaches("step_started", "ready").await;
    running.signal(Signal::SIGINT);
    let run = running.wait().await;
    run.code(130);
    assert_eq!(result(&run, "web"), "not_begun", "{}", run.text);
    assert_eq!(
        (id(&stack, "web").await, id(&stack, "api").await),
        (web, api)
    );
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_named_and_removed_only_where_that_is_asked_for() {
    let more = "  old:\n    image: rollout-demo:v1-plain\n    networks: [front]\n";
    let stack = Stack::usual(more);
    stack.up("v1").await;
    let old = id(&stack, "old").await;
    let once = format!("{}-once", stack.name);
    stack
        .compose(&["run", "--detach", "--name", &once, "old"])
        .await;
    let text = std::fs::read_to_string(stack.path("compose.yaml")).unwrap();
    stack.write("compose.yaml", &text.replace(more, ""));
    let run = stack.rollout(&["--all"]).await;
    run.code(0);
    let name = format!("{}-old-1", stack.name);
    let notices = run.notices();
    let names = |text: &&&str| text.contains(&name) && text.contains("--remove-orphans");
    assert!(notices.iter().any(|text| names(&text)), "{notices:?}");
    assert!(
        notices.iter().all(|text| !text.contains(&once)),
        "{notices:?}"
    );

    let run = stack.rollout(&["--all", "--remove-orphans"]).await;
    run.code(0);
    let left = stack.replicas("old").await;
    assert!(left.iter().all(|own| own.id != old), "{left:?}");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].name, once);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_an_interrupted_run_has_begun_is_waited_for_and_not_started_again() {
    let mut stack = Stack::usual(
        r#"    depends_on: { job: { condition: service_completed_successfully } }
  job:
    image: ${COMPOSE_PROJECT_NAME}:v1
    entrypoint: [sh, -c, "sleep ${LONG}"]
    restart: on-failure
    x-rollout: { scale: 2 }
"#,
    );
    let _images = Images::build(&mut stack).await;
    stack.set("LONG", 0).up("v1").await;
    stack.tag("v2").set("LONG", 15);
    let mut running = stack.start_rollout(&["--all"]);
    running.reaches("step_started", "run").await;
    let project = format!("label=com.docker.compose.project={}", stack.name);
    let service = "label=com.docker.compose.service=job";
    let running_jobs = ["ps", "-q", "--no-trunc", "-f", &project, "-f", service];
    eventually(
        "the job runs",
        Duration::from_secs(30),
        async || match stack.docker(&running_jobs).await.trim() {
            "" => Err("none runs"),
            _ => Ok(()),
        },
    )
    .await;
    running.signal(Signal::SIGINT);
    running.wait().await.code(130);
    let begun = id(&stack, "job").await;

    let run = stack.rollout(&["--all"]).await;
    run.code(0);
    assert_eq!(id(&stack, "job").await, begun, "{}", run.text);
    assert_eq!(result(&run, "job"), "completed", "{}", run.text);
    for part in ["job still runs", "without effect on it: scale"] {
        let notices = run.notices();
        let says = |text: &&str| text.contains(part);
        assert!(notices.iter().any(says), "{part}: {notices:?}");
    }
    let again = stack.rollout(&["--all"]).await;
    again.code(0);
    assert_eq!(result(&again, "job"), "unchanged", "{}", again.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.no_leftovers().await;
}

/// The services that are planned.
fn planned(run: &Run) -> Vec<&str> {
    let plans = run.events.iter().filter(|event| event["event"] == "plan");
    plans
        .filter_map(|event| event["service"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_of_the_services_that_the_run_rolls_and_is_refused_as_the_run_is() {
    let mut stack = Stack::usual(
        "    x-rollout: { after: [debug] }
  cache:
    image: rollout-demo:v1-plain
    volumes: [/anonymous]
  db:
    image: rollout-demo/postgres:16
  debug:
    image: rollout-demo:v1-plain
    profiles: [debug]
",
    );
    docker(&["tag", "rollout-demo:v1-plain", "rollout-demo/postgres:16"]);
    stack.up("v1").await;
    stack.rollout(&["plan", "web"]).await.code(0);
    stack.tag("v2");
    let alone = |run: &Run| {
        let notices = run.notices().into_iter();
        let mut alone = notices.filter(|text| text.starts_with("left alone: "));
        alone.next().unwrap_or_default().to_owned()
    };
    let plan = stack.rollout(&["plan"]).await;
    plan.code(10);
    assert_eq!(planned(&plan), ["web"], "{}", plan.text);
    assert!(alone(&plan).contains("cache ("), "{}", plan.text);
    let plan = stack.rollout(&["--all", "--dry-run", "db"]).await;
    plan.code(10);
    assert_eq!(planned(&plan), ["db", "web"], "{}", plan.text);
    let refused = stack.rollout(&["--all", "--dry-run", "cache"]).await;
    let run = stack.rollout(&["--all", "cache"]).await;
    assert_eq!(refused.code(2).failure(), run.code(2).failure());
    let run = stack.rollout(&["--all", "db"]).await;
    run.code(0);
    assert_eq!(alone(&run), alone(&plan), "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.no_leftovers().await;
}
