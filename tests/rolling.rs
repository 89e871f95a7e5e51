//! `--strategy rolling`: the replicas are replaced batch by batch, and all old ones come back if a batch fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;

use testbed::{Container, Run, Stack, eventually};

const FOUR: &str = "    scale: 4\n";

fn stack() -> Stack {
    let mut stack = Stack::relabelled(FOUR);
    stack.set("ROLLOUT_STABLE", "200ms");
    stack.set("ROLLOUT_STRATEGY", "rolling");
    stack
}

/// The same containers run as before, and nothing else of a rollout is there.
async fn all_back(stack: &Stack, before: &[Container], run: &Run) {
    // Some of them were started again.
    let names = |all: &[Container]| -> Vec<(String, String)> {
        let all = all.iter();
        all.map(|own| (own.name.clone(), own.id.clone())).collect()
    };
    let now = stack.replicas("web").await;
    assert_eq!(names(&now), names(before), "{}", run.text);
    for own in before {
        let format = ["inspect", "-f", "{{.State.Status}}", &own.id];
        assert_eq!(stack.docker(&format).await.trim(), "running");
    }
    stack.answers_steadily("v1").await;
    stack.no_leftovers().await;
    assert_eq!(stack.claims().await, 0);
}

/// How many live servers Traefik's API lists for the service, asked over and over until it is dropped.
struct LiveCounts {
    seen: Arc<Mutex<BTreeSet<usize>>>,
    asking: JoinHandle<()>,
}

impl LiveCounts {
    async fn start(stack: &Stack) -> Self {
        let address = stack.traefik_address().await;
        let url = format!("http://{address}:8080/api/http/services/web@docker");
        let seen = Arc::<Mutex<BTreeSet<usize>>>::default();
        let noted = seen.clone();
        // A client wants one, although the API speaks plain HTTP.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let client = reqwest::Client::new();
        let asking = tokio::spawn(async move {
            loop {
                let answer = client.get(&url).send().await.unwrap();
                let service: Value = answer.json().await.unwrap();
                // In the moment of a reload the service has no states yet.
                if let Some(all) = service["serverStatus"].as_object() {
                    let live = all.values().filter(|status| *status == "UP").count();
                    noted.lock().unwrap().insert(live);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { seen, asking }
    }

    fn stop(self) -> BTreeSet<usize> {
        assert!(!self.asking.is_finished(), "the API has not answered");
        self.asking.abort();
        self.seen.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_with_one_or_two_at_once_in_either_order() {
    let mut stack = stack();
    stack.up("v1").await;
    stack.some_replicas(4).await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for order in ["start-first", "stop-first"] {
        for parallelism in [1, 2] {
            let version = versions.next().unwrap();
            let load = stack.load();
            let counts = LiveCounts::start(&stack).await;
            stack.tag(version);
            let at_once = parallelism.to_string();
            let flags = ["--order", order, "--parallelism", &at_once, "web"];
            let run = stack.start_rollout(&flags);
            let run = run.wait_for(Duration::from_secs(300)).await;
            let (report, counts) = (load.stop().await, counts.stop());
            run.code(0);
            let bounds = match order {
                "start-first" => 4..=4 + parallelism,
                _ => 4 - parallelism..=4,
            };
            assert!(counts.iter().all(|own| bounds.contains(own)), "{counts:?}");
            let state = format!("{order} {parallelism}: {report}\n{}", run.text);
            assert_eq!(report.failed, 0, "{state}");
            assert!(report.first_answer_of(version).is_some(), "{state}");
            let shifts = if parallelism == 1 { 3 } else { 1 };
            assert_eq!(run.begun("shift"), shifts, "{state}");
            let last = format!("batch {0} of {0}", shifts + 1);
            assert!(run.text.contains(&last), "no {last:?} in {state}");
            stack.answers_steadily(version).await;
            stack.settled(4).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_second_batch_it_is_brought_to_its_end_by_the_next_run() {
    for order in ["start-first", "stop-first"] {
        for step in ["create", "ready", "confirm", "stop"] {
            let mut stack = stack();
            stack.up("v1").await;
            stack.some_replicas(4).await;
            let load = stack.load();
            stack.tag("v2");
            let running = stack.start_rollout(&["--order", order, "web"]);
            running.begins(step, 2).await;
            running.kill().await;
            assert_ne!(stack.version().await, None);
            let run = stack.start_rollout(&["--order", order, "web"]);
            let run = run.wait_for(Duration::from_secs(300)).await;
            let report = load.stop().await;
            run.code(0);
            assert_eq!(report.failed, 0, "{order} {step}: {report}\n{}", run.text);
            stack.answers_steadily("v2").await;
            stack.settled(4).await;
        }
    }
}

const CHECKED_BY_TRAEFIK: &str = r#"    image: rollout-demo:${TAG}
    scale: 4
    environment: { UNHEALTHY_AFTER: "${UNHEALTHY_AFTER:-}" }
    healthcheck: { test: [CMD, /app, check, "http://127.0.0.1:80/"], interval: 1s }
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.services.web.loadbalancer.healthcheck.path: /health
      traefik.http.services.web.loadbalancer.healthcheck.interval: 1s
    networks: [front]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn new_replicas_that_only_traefik_finds_down_are_taken_out_again() {
    let mut stack = Stack::relabelled_with(CHECKED_BY_TRAEFIK);
    stack.set("ROLLOUT_STABLE", "200ms");
    stack.up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    // Long enough to pass the rollout's own gates.
    stack.tag("v2").set("UNHEALTHY_AFTER", "8");
    let run = stack.start_rollout(&["--strategy", "rolling", "--monitor", "5s", "web"]);
    let run = run.wait_for(Duration::from_secs(120)).await;
    run.code(1);
    all_back(&stack, &before, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_replicas_that_fail_requests_are_taken_out_again_after_their_first_batch() {
    let errors = "    scale: 4\n    environment: { ERROR_EVERY: \"${ERRORS:-0}\" }\n";
    let mut stack = Stack::relabelled(errors);
    stack.set("ROLLOUT_STABLE", "200ms").up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    load.goes_on_for(100).await;
    stack.set("ERRORS", 10).tag("v2");
    let run = stack.start_rollout(&["--strategy", "rolling", "--delay", "30s", "web"]);
    let run = run.wait_for(Duration::from_secs(120)).await;
    drop(load);
    run.code(1);
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(undoing.contains("fails the analysis"), "{}", run.text);
    assert_eq!(run.begun("shift"), 1, "{}", run.text);
    all_back(&stack, &before, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_in_the_third_batch_brings_all_old_replicas_back() {
    let mut stack = stack();
    stack.up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2");
    let running = stack.start_rollout(&["--monitor", "20s", "web"]);
    running.begins("watch", 1).await;
    let undo = stack.rollout(&["undo", "web"]).await;
    undo.code(0);
    let run = running.wait().await;
    run.code(1);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    all_back(&stack, &before, &run).await;

    let load = stack.load();
    let running = stack.start_rollout(&["web"]);
    running.begins("create", 3).await;
    let undo = stack.rollout(&["undo", "web"]).await;
    undo.code(0);
    let run = running.wait_for(Duration::from_secs(300)).await;
    run.code(1);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    all_back(&stack, &before, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_or_a_dead_replica_in_a_later_batch_brings_all_old_replicas_back() {
    for order in ["start-first", "stop-first"] {
        let mut stack = stack();
        stack.up("v1").await;
        stack.some_replicas(4).await;
        let before = stack.replicas("web").await;
        stack.tag("v2");
        let load = stack.load();
        let running = stack.start_rollout(&["--order", order, "web"]);
        running.begins("ready", 3).await;
        running.signal(Signal::SIGINT);
        let run = running.wait_for(Duration::from_secs(300)).await;
        run.code(130);
        let report = load.stop().await;
        assert_eq!(report.failed, 0, "{report}\n{}", run.text);
        all_back(&stack, &before, &run).await;

        let running = stack.start_rollout(&["--order", order, "--monitor", "20s", "web"]);
        running.begins("watch", 1).await;
        let now = stack.replicas("web").await;
        let new = now
            .iter()
            .find(|own| before.iter().all(|old| old.id != own.id));
        stack.docker(&["kill", &new.unwrap().id]).await;
        let run = running.wait_for(Duration::from_secs(300)).await;
        run.code(1);
        all_back(&stack, &before, &run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_between_two_batches_it_goes_on_or_back_by_a_later_command() {
    let mut stack = stack();
    stack.up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2");
    let running = stack.start_rollout(&["web"]);
    running.begins("ready", 2).await;
    stack.rollout(&["pause", "web"]).await.code(0);
    let run = running.wait().await;
    run.code(5);
    let message = run.event("paused").unwrap()["message"].to_string();
    assert!(message.contains("paused at step 1 of 4"), "{message}");
    let status = stack.rollout(&["status", "web"]).await;
    let said = "paused at step 1: the new version has 25 % of the traffic";
    assert!(status.out.contains(said), "{}", status.out);
    let plan = stack.rollout(&["plan", "web"]).await;
    plan.code(10);
    assert_eq!(plan.out.matches("shift").count(), 2, "{}", plan.out);
    stack.tag("v1");
    let refused = stack.rollout(&["resume", "web"]).await;
    refused.code(2);
    let said = "the Compose file describes another version";
    assert!(refused.text.contains(said), "{}", refused.text);

    stack.rollout(&["abort", "web"]).await.code(0);
    all_back(&stack, &before, &run).await;

    stack.tag("v2");
    let running = stack.start_rollout(&["web"]);
    running.begins("drain", 2).await;
    stack.rollout(&["pause", "web"]).await.code(0);
    running.wait().await.code(5);
    let run = stack.start_rollout(&["resume", "web"]);
    run.wait_for(Duration::from_secs(300)).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    stack.answers_steadily("v2").await;
    stack.settled(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_old_replica_is_stopped_a_pause_and_an_abort_wait_for_its_end() {
    let slow = "    scale: 4\n    environment: { STOP: ignore }\n    stop_grace_period: 6s\n";
    let mut stack = Stack::relabelled(slow);
    stack.set("ROLLOUT_STABLE", "200ms");
    stack.set("ROLLOUT_STRATEGY", "rolling").up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2");
    for (command, code) in [("pause", 5), ("abort", 1)] {
        // The rollout of the second round goes on from the pause.
        let running = stack.start_rollout(&["web"]);
        running.begins("stop", 1).await;
        stack.rollout(&[command, "web"]).await.code(0);
        let run = running.wait().await;
        run.code(code);
        let said = run.text.contains("undone by");
        assert_eq!(said, command == "abort", "{}", run.text);
        assert_eq!(run.begun("create"), 1, "{}", run.text);
        if command == "abort" {
            all_back(&stack, &before, &run).await;
        }
    }
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_is_taken_back_alone_where_that_is_asked_for() {
    let mut stack = stack();
    stack.up("v1").await;
    stack.some_replicas(4).await;
    stack.tag("v2");
    for (action, code, said) in [
        ("pause", 5, "paused at step 1 of 4"),
        ("continue", 1, "1 of 4 batches failed"),
    ] {
        let flags = ["--monitor", "3s", "--failure-action", action, "web"];
        let running = stack.start_rollout(&flags);
        running.begins("watch", 2).await;
        let new = stack.newest("web").await;
        stack.docker(&["kill", &new]).await;
        let run = running.wait_for(Duration::from_secs(300)).await;
        run.code(code);
        assert!(run.text.contains(said), "{}", run.text);
        let failed = run.event("undoing").unwrap()["reason"].to_string();
        assert!(failed.contains("new replica"), "{}", run.text);
    }
    let status = stack.rollout(&["status", "web"]).await;
    let said = "the new version has 75 % of the traffic";
    assert!(status.out.contains(said), "{}", status.out);
    let run = stack.start_rollout(&["web"]);
    run.wait_for(Duration::from_secs(300)).await.code(0);
    stack.answers_steadily("v2").await;
    stack.settled(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_replica_that_dies_is_replaced_all_the_same() {
    let mut stack = stack();
    stack.up("v1").await;
    stack.some_replicas(4).await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let running = stack.start_rollout(&["web"]);
    running.begins("ready", 2).await;
    stack.docker(&["kill", &before[3].id]).await;
    let run = running.wait_for(Duration::from_secs(300)).await;
    run.code(0);
    stack.answers_steadily("v2").await;
    stack.settled(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_in_the_second_batch_ends_it_and_the_next_run_settles_it() {
    for version in ["v1", "v2"] {
        let mut stack = stack();
        stack.up("v1").await;
        stack.some_replicas(4).await;
        stack.tag("v2");
        let running = stack.start_rollout(&["--monitor", "20s", "web"]);
        running.begins("watch", 1).await;
        stack.tag(version);
        drop(stack.shell("docker compose up -d 2>&1 || true").await);
        let run = running.wait_for(Duration::from_secs(300)).await;
        assert_ne!(run.code, Some(0), "{}", run.text);
        eventually("a version serves", Duration::from_secs(30), async || {
            stack.version().await.ok_or("none")
        })
        .await;
        stack.tag("v2");
        let next = stack.start_rollout(&["web"]);
        next.wait_for(Duration::from_secs(300)).await.code(0);
        stack.answers_steadily("v2").await;
        stack.settled(4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_honoured_is_refused_before_anything_is_touched() {
    let mut stack = stack();
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    for (flags, said) in [
        (&["--max-surge", "0"][..], "are both 0"),
        (&["--max-surge", "5"], "is more than its replicas"),
        (&["--max-unavailable", "4"], "would be stopped as a whole"),
        (
            &["--order", "stop-first", "--max-unavailable", "0"],
            "contradicts max-unavailable 0",
        ),
        (
            &["--parallelism", "0", "--delay", "1s"],
            "contradicts parallelism 0",
        ),
        (&["--proxy", "none"], "no proxy routes to it"),
    ] {
        let run = stack.rollout(&[flags, &["web"]].concat()).await;
        run.code(2);
        assert!(run.text.contains(said), "{flags:?}: {}", run.text);
    }
    assert_eq!(stack.replicas("web").await, before);
    let plan = stack.rollout(&["plan", "--parallelism", "2", "web"]).await;
    plan.code(10);
    assert!(plan.out.contains("shift"), "{}", plan.out);
    let other = stack
        .rollout(&["--strategy", "blue-green", "--delay", "1s", "web"])
        .await;
    other.code(0);
    assert!(
        other.text.contains("delay of web has no effect"),
        "{}",
        other.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn update_config_never_stops_all_replicas_and_an_undo_takes_rollback_config() {
    let deploy = r"    deploy:
      replicas: 2
      update_config: { parallelism: 2, delay: 1s, order: stop-first }
      rollback_config: { parallelism: 0, order: start-first }
";
    let mut stack = Stack::relabelled(deploy);
    stack.set("ROLLOUT_STABLE", "200ms");
    stack.set("ROLLOUT_STRATEGY", "rolling");
    stack.up("v1").await;
    stack.some_replicas(2).await;
    stack.rollout(&["--force", "web"]).await.code(0);
    stack.tag("v2");
    let load = stack.load();
    let run = stack.start_rollout(&["web"]);
    let run = run.wait_for(Duration::from_secs(300)).await;
    run.code(0);
    for said in [
        "parallelism 2 in deploy.update_config of web would stop all 2 replicas: batches of 1",
        "deploy.rollback_config of web is used by rollout undo",
    ] {
        assert!(run.text.contains(said), "{}", run.text);
    }
    assert_eq!(run.begun("shift"), 1, "{}", run.text);
    stack.answers_steadily("v2").await;
    let undo = stack.start_rollout(&["undo", "web"]);
    let undo = undo.wait_for(Duration::from_secs(300)).await;
    undo.code(0);
    // One batch, whose change of the routes is the cutover.
    assert_eq!(undo.begun("shift"), 0, "{}", undo.text);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}\n{}\n{}", run.text, undo.text);
    stack.answers_steadily("v1").await;
    stack.tag("v1");
    stack.settled(2).await;
}
