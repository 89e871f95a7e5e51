//! Services that do not run yet, that run badly, or that no proxy routes to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::shapes::roll_under_load;
use testbed::{ROLL, Stack, docker};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_run_yet_is_started_and_confirmed() {
    let stack = Stack::usual("    scale: 2\n");
    stack.front_up().await;
    assert!(stack.replicas("web").await.is_empty());
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    run.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v1"), "{}", run.text);
    let finished = run.event("finished").unwrap();
    assert!(finished["cutover_ms"].is_u64(), "{finished}");
    assert_eq!(finished["revision"], 1);
    stack.settled(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_fails_leaves_nothing_and_the_next_one_starts_it() {
    let mut stack = Stack::usual("");
    stack.front_up().await;
    stack.tag("crash");
    let run = stack.rollout(&["web"]).await;
    run.code(1);
    assert!(
        run.text.contains("nothing was running before"),
        "{}",
        run.text
    );
    assert!(run.text.contains("fatal: the setting"), "{}", run.text);
    assert!(stack.replicas("web").await.is_empty());
    stack.no_leftovers().await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leftover_exited_containers_are_replaced_and_not_restarted() {
    let stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.compose(&["stop", "-t", "0", "web"]).await;
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v1"), "{}", run.text);
    let after = stack.replicas("web").await;
    assert!(
        after
            .iter()
            .all(|new| before.iter().all(|old| old.id != new.id))
    );
    assert!(
        run.text.contains("which was not running or unhealthy"),
        "{}",
        run.text
    );
    stack.settled(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_exited_beside_one_that_serves_is_replaced_without_loss() {
    let stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    let name = format!("{}-web-2", stack.name);
    stack.docker(&["kill", &name]).await;
    stack.answers_steadily("v1").await;
    let run = roll_under_load(&stack, &["web"]).await;
    assert!(run.event("finished").is_some());
    stack.settled(2).await;
}

/// A service that nothing routes to.
const WORKER: &str = r#"    image: rollout-demo:${TAG}
    networks: [front]
    stop_grace_period: 1s
"#;

const ON_HEALTH_ALONE: &str = "web has no Traefik router: it is rolled on health alone";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_no_router_knows_is_rolled_on_health_alone_and_the_report_says_so() {
    let mut stack = Stack::new(WORKER);
    stack.compose(&["up", "-d"]).await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let refused = stack.rollout(&ROLL).await;
    refused.code(2);
    let why = "web has no Traefik router, which --proxy traefik asks for";
    assert!(refused.text.contains(why), "{}", refused.text);
    assert_eq!(stack.replicas("web").await, before);
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert!(run.text.contains(ON_HEALTH_ALONE), "{}", run.text);
    assert!(run.event("finished").unwrap()["cutover_ms"].is_null());
    assert_ne!(stack.replicas("web").await[0].id, before[0].id);
    stack.settled(1).await;
    let again = stack.rollout(&["web"]).await;
    assert!(again.code(0).event("nothing_to_do").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_gets_healthy_leaves_the_old_one_alone() {
    let mut stack = Stack::new(WORKER);
    stack.compose(&["up", "-d"]).await;
    let before = stack.replicas("web").await;
    stack.tag("broken");
    stack.rollout(&["web"]).await.code(1);
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
}

/// Looks again and again, and panics where no container of the service runs.
fn one_runs_until(over: Arc<AtomicBool>, stack: &Stack) -> thread::JoinHandle<()> {
    let project = format!("label=com.docker.compose.project={}", stack.name);
    let filters = [
        project.as_str(),
        "label=com.docker.compose.service=web",
        "status=running",
    ];
    let filters = filters.map(|filter| format!("--filter={filter}"));
    thread::spawn(move || {
        let [project, service, running] = &filters;
        let list = ["ps", "-q", project, service, running];
        while !over.load(Ordering::Relaxed) {
            assert_ne!(docker(&list), "", "none runs");
        }
    })
}

/// A worker is rolled, killed when it begins a step, and rolled again; at every moment one of them runs.
async fn a_killed_rollout_of_a_worker_is_settled(step: &str) {
    let mut stack = Stack::new(WORKER);
    stack.compose(&["up", "-d"]).await;
    let over = Arc::new(AtomicBool::new(false));
    let one_runs = one_runs_until(over.clone(), &stack);
    stack.tag("v2");
    let mut running = stack.start_rollout(&["web"]);
    running.reaches("step_started", step).await;
    running.kill().await;
    let run = stack.rollout(&["web"]).await;
    over.store(true, Ordering::Relaxed);
    run.code(0);
    one_runs.join().expect("one runs at every moment");
    let image = stack
        .docker(&[
            "inspect",
            "--format",
            "{{.Config.Image}}",
            &format!("{}-web-1", stack.name),
        ])
        .await;
    assert_eq!(image.trim(), "rollout-demo:v2", "{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_a_worker_killed_while_it_is_created_is_settled_by_the_next() {
    a_killed_rollout_of_a_worker_is_settled("create").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_a_worker_killed_before_it_is_ready_is_settled_by_the_next() {
    a_killed_rollout_of_a_worker_is_settled("ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_a_worker_killed_while_the_old_one_stops_is_settled_by_the_next() {
    a_killed_rollout_of_a_worker_is_settled("stop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_a_worker_killed_before_the_names_are_given_is_settled_by_the_next() {
    a_killed_rollout_of_a_worker_is_settled("rename").await;
}
