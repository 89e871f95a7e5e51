//! `--strategy canary`: the traffic moves in steps, with pauses that a second process ends.

use std::time::Duration;

use serde_json::Value;

use crate::faulty::meddle::no_answer;
use testbed::Stack;

const LIMIT: Duration = Duration::from_secs(300);

/// A stack whose canary has these steps.
fn stack(steps: &str, more: &str) -> Stack {
    let more = format!("{more}    x-rollout: {{ strategy: canary, steps: {steps} }}\n");
    let mut stack = Stack::relabelled(&more);
    stack.set("ROLLOUT_STABLE", "200ms");
    stack
}

const PAUSED: &str = "[{ weight: 10%, pause: {} }, { weight: 50%, pause: {} }]";
const TIMED: &str = "[{ weight: 10%, pause: 60s }, { weight: 50%, pause: 60s }]";

/// Of 2,000 requests, this share is answered by the version, by two points at most.
pub(crate) async fn shares(stack: &Stack, version: &str, percent: f64) {
    let lost = lost_beside_shares(stack, version, percent).await;
    assert_eq!(lost, 0, "requests failed");
}

/// The same; returns how many failed.
async fn lost_beside_shares(stack: &Stack, version: &str, percent: f64) -> u32 {
    let (mut own, mut lost, all) = (0_u32, 0_u32, 2000_u32);
    for _ in 0..all {
        let answer = stack.version().await;
        lost += u32::from(answer.is_none());
        own += u32::from(answer.as_deref() == Some(version));
    }
    let share = f64::from(own) * 100.0 / f64::from(all - lost);
    assert!(
        (share - percent).abs() <= 2.0,
        "{share} % instead of {percent} %"
    );
    lost
}

/// All is as before the canary.
async fn is_back(stack: &Stack, before: &[testbed::Container]) {
    stack.answers_steadily("v1").await;
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
    assert_eq!(stack.claims().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_has_its_share_and_promotions_lead_to_the_end_without_loss() {
    for (olds, news) in [("1", "1"), ("3", "3"), ("2", "4")] {
        let mut stack = stack(PAUSED, "    scale: ${REPLICAS}\n");
        stack.set("REPLICAS", olds);
        stack.up("v1").await;
        stack.some_replicas(olds.parse().unwrap()).await;
        stack.set("REPLICAS", news).tag("v2");
        let load = stack.load();
        let run = stack.rollout(&["web"]).await;
        run.code(5);
        let paused = run.event("paused").unwrap();
        let hint = paused["hint"].as_str().unwrap();
        assert!(hint.contains("rollout promote web"), "{hint}");
        assert!(hint.contains("rollout abort web"), "{hint}");
        shares(&stack, "v2", 10.0).await;
        let status = stack.rollout(&["status", "web", "--output", "json"]).await;
        let lines = status
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let state: Value = lines
            .into_iter()
            .find(|own: &Value| own["percent"].is_u64())
            .unwrap();
        assert_eq!(state["percent"], 10, "{state}");
        assert_eq!(state["paused"], true, "{state}");
        let again = stack.rollout(&["web"]).await;
        again.code(5);
        let next = stack.rollout(&["promote", "web"]).await;
        next.code(5);
        shares(&stack, "v2", 50.0).await;
        let last = ["promote", "web", "--report", "promoted.html"];
        let last = stack.rollout(&last).await;
        last.code(0);
        let page = std::fs::read_to_string(stack.path("promoted.html")).unwrap();
        for said in ["web: the new version serves</title>", "rollout-demo:v2"] {
            assert!(page.contains(said), "no {said:?} in\n{page}");
        }
        let report = load.stop().await;
        assert_eq!(report.failed, 0, "{olds} {news}: {report}\n{}", last.text);
        stack.answers_steadily("v2").await;
        stack.settled(news.parse().unwrap()).await;
        let history = stack.rollout(&["history", "web"]).await;
        assert!(history.out.contains("v2"), "{}", history.out);
        let one = ["history", "web", "--revision", "2", "--output", "json"];
        let one = stack.rollout(&one).await;
        let one: Value = serde_json::from_str(&one.out).unwrap();
        assert!(one["figures"].is_object(), "{one}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_fails_is_recorded_as_the_end_of_its_rollout() {
    let mut stack = stack(
        "[{ weight: 10%, pause: {} }, { weight: 50%, pause: 60s }]",
        "",
    );
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(5);
    let running = stack.start_rollout(&["promote", "web"]);
    running.begins("pause", 1).await;
    let new = stack.newest("web").await;
    stack.docker(&["kill", &new]).await;
    let run = running.wait().await;
    run.code(1);
    let hint = run.event("failed").unwrap()["hint"].to_string();
    assert!(hint.contains("run `rollout web` again"), "{hint}");
    is_back(&stack, &before).await;
    let history = stack.rollout(&["history", "web"]).await;
    assert!(
        history.out.contains("failed: new replica"),
        "{}",
        history.out
    );
    assert!(!history.out.contains("did not end"), "{}", history.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_promotes_pauses_and_aborts_a_run() {
    let mut stack = stack(TIMED, "");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let load = stack.load();

    let running = stack.start_rollout(&["web"]);
    running.begins("pause", 1).await;
    stack.rollout(&["abort", "web"]).await.code(0);
    running.wait().await.code(1);
    is_back(&stack, &before).await;

    let running = stack.start_rollout(&["web"]);
    running.begins("pause", 1).await;
    stack.rollout(&["pause", "web"]).await.code(0);
    running.wait().await.code(5);
    shares(&stack, "v2", 10.0).await;
    let running = stack.start_rollout(&["resume", "web"]);
    running.begins("pause", 1).await;
    stack.rollout(&["promote", "web"]).await.code(0);
    running.begins("pause", 2).await;
    shares(&stack, "v2", 50.0).await;
    stack.rollout(&["promote", "web", "--full"]).await.code(0);
    running.wait_for(LIMIT).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    stack.answers_steadily("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_attach_waits_at_an_open_ended_pause() {
    let mut stack = stack(PAUSED, "");
    stack.up("v1").await;
    stack.tag("v2");
    let running = stack.start_rollout(&["--attach", "web"]);
    running.begins("pause", 1).await;
    // Longer than the lease of its lock.
    tokio::time::sleep(Duration::from_secs(60)).await;
    stack.rollout(&["web"]).await.code(4);
    stack.rollout(&["promote", "web"]).await.code(0);
    running.begins("pause", 2).await;
    stack.rollout(&["promote", "web"]).await.code(0);
    running.wait_for(LIMIT).await.code(0);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_of_a_paused_canary_leaves_the_old_version_as_it_was() {
    let mut stack = stack(PAUSED, "    scale: 2\n");
    stack.up("v1").await;
    stack.some_replicas(2).await;
    let before = stack.replicas("web").await;
    for promotions in [0, 1] {
        stack.tag("v2");
        let load = stack.load();
        stack.rollout(&["web"]).await.code(5);
        for _ in 0..promotions {
            stack.rollout(&["promote", "web"]).await.code(5);
        }
        stack.rollout(&["abort", "web"]).await.code(0);
        let report = load.stop().await;
        assert_eq!(report.failed, 0, "{report}");
        is_back(&stack, &before).await;
        let none = stack.rollout(&["promote", "web"]).await;
        none.code(2);
        assert!(none.text.contains("no unfinished rollout"), "{}", none.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_step_the_canary_goes_on_or_goes_back_by_its_claim() {
    for (step, times) in [
        ("hold", 1),
        ("create", 1),
        ("ready", 1),
        ("shift", 1),
        ("confirm", 1),
        ("pause", 1),
        ("shift", 2),
        ("confirm", 2),
        ("pause", 2),
        ("cutover", 1),
        ("confirm", 3),
        ("drain", 1),
        ("stop", 1),
        ("release", 1),
    ] {
        let mut stack = stack(
            "[{ weight: 10%, pause: 3s }, { weight: 50%, pause: 3s }]",
            "",
        );
        stack.up("v1").await;
        let load = stack.load();
        stack.tag("v2");
        let running = stack.start_rollout(&["web"]);
        running.begins(step, times).await;
        running.kill().await;
        assert_ne!(stack.version().await, None, "{step} {times}");
        let run = stack.start_rollout(&["web"]).wait_for(LIMIT).await;
        let report = load.stop().await;
        run.code(0);
        assert_eq!(report.failed, 0, "{step} {times}: {report}\n{}", run.text);
        stack.answers_steadily("v2").await;
        stack.settled(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_in_the_file_rolls_a_paused_canary_back_first() {
    let mut stack = stack(PAUSED, "");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(5);
    stack.tag("v1");
    let load = stack.load();
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert_eq!(run.event("unfinished").unwrap()["forward"], false);
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_during_a_pause_leaves_the_version_of_the_file_and_the_next_run_settles_it() {
    for version in ["v1", "v2"] {
        let mut stack = stack(PAUSED, "");
        stack.up("v1").await;
        stack.tag("v2");
        stack.rollout(&["web"]).await.code(5);
        stack.tag(version);
        drop(stack.shell("docker compose up -d 2>&1 || true").await);
        stack.answers_steadily(version).await;
        let run = stack.rollout(&["web"]).await;
        run.code(0);
        stack.answers_steadily(version).await;
        stack.settled(1).await;
        assert_eq!(stack.claims().await, 0, "{}", run.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_that_dies_in_a_pause_gives_the_traffic_back() {
    let mut stack = stack(TIMED, "");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let running = stack.start_rollout(&["web"]);
    running.begins("pause", 1).await;
    let now = stack.replicas("web").await;
    let new = now.iter().find(|own| own.id != before[0].id).unwrap();
    stack.docker(&["kill", &new.id]).await;
    running.wait().await.code(1);
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_weights_is_refused_before_anything_is_touched() {
    let web = "    image: rollout-demo:${TAG}\n    labels:\n      traefik.enable: \"true\"\n      \
         traefik.http.routers.web.rule: Host(`localhost`)\n      \
         traefik.http.services.web.loadbalancer.server.weight: 3\n    networks: [front]\n";
    let mut stack = Stack::relabelled_with(web);
    stack.compose(&["up", "-d"]).await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let run = stack.rollout(&["--strategy", "canary", "web"]).await;
    run.code(2);
    let said = "it has a weight of its own";
    assert!(run.text.contains(said), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    let mut stack = Stack::pinned("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.rollout(&["--strategy", "canary", "web"]).await;
    run.code(2);
    assert!(
        run.text.contains("gives replicas no weights"),
        "{}",
        run.text
    );
    let plan = stack.rollout(&["plan", "web"]).await;
    plan.code(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_the_steps_and_the_pauses() {
    let mut stack = stack(
        "[{ weight: 10%, pause: 30s }, { weight: 50%, pause: {} }]",
        "",
    );
    stack.up("v1").await;
    stack.tag("v2");
    let plan = stack.rollout(&["plan", "web"]).await;
    plan.code(10);
    for line in [
        "shift             10 % of the traffic to the new replicas",
        "pause             30s",
        "shift             50 % of the traffic to the new replicas",
        "pause             until rollout promote",
    ] {
        assert!(plan.out.contains(line), "{}", plan.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_fails_requests_is_taken_back_at_its_first_step() {
    let errors = "    environment: { ERROR_EVERY: \"${ERRORS:-0}\" }\n";
    let mut stack = stack(TIMED, errors);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    load.goes_on_for(100).await;
    stack.set("ERRORS", 20).tag("v2");
    let run = stack.start_rollout(&["web"]).wait_for(LIMIT).await;
    let report = load.stop().await;
    run.code(1);
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(undoing.contains("fails the analysis"), "{}", run.text);
    let of_new = report.records.iter();
    let of_new = of_new.filter(|own| own.version() == Some("v2")).count();
    let share = of_new as f64 / report.records.len() as f64;
    assert!(share < 0.15, "{share}: {report}\n{}", run.text);
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_new_version_does_worse_takes_it_back_at_its_first_step() {
    let bad = r#"    restart: always
    environment: { ANSWER_DELAY: "${DELAY:-}", MEMORY: "${MEMORY:-20}", CRASH_AFTER: "${CRASH:-}" }
"#;
    for (variable, value, conditions, said) in [
        ("DELAY", "0.3", "p99=200ms", "p99 of"),
        (
            "MEMORY",
            "60",
            "memory=1.5x",
            "times the old version's, more than 1.5x",
        ),
        ("CRASH", "8", "on", "with a part of the traffic"),
    ] {
        let mut stack = stack(TIMED, bad);
        stack.up("v1").await;
        let before = stack.replicas("web").await;
        let load = stack.load();
        load.goes_on_for(200).await;
        stack.set(variable, value).tag("v2");
        let running = stack.start_rollout(&["--analysis", conditions, "web"]);
        let run = running.wait_for(LIMIT).await;
        drop(load);
        run.code(1);
        let undoing = run.event("undoing").unwrap()["reason"].to_string();
        assert!(undoing.contains(said), "{}", run.text);
        assert!(run.event("figures").is_some(), "{}", run.text);
        is_back(&stack, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_socket_proxy_or_of_traefik_in_a_pause_keeps_the_weights() {
    let mut stack = stack(PAUSED, "");
    stack.up("v1").await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(5);
    for part in ["socket-proxy", "traefik"] {
        let load = stack.load();
        load.goes_on_for(20).await;
        stack.compose(&["restart", part]).await;
        stack.traefik_listens().await;
        let silent = no_answer(&stack, LIMIT).await;
        assert_eq!(silent, None);
        let report = load.stop().await;
        let lost = lost_beside_shares(&stack, "v2", 10.0).await;
        // A Traefik that restarts loses requests, with a canary or without.
        let may_lose = part == "traefik";
        assert!(
            may_lose || report.failed + lost as usize == 0,
            "{lost}, {report}"
        );
    }
    stack.rollout(&["promote", "web", "--full"]).await.code(0);
    stack.answers_steadily("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_to_be_judged_and_gets_no_requests_waits_for_a_person() {
    let mut stack = stack("[{ weight: 10%, pause: 3s, analysis: true }]", "");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    run.code(5);
    assert!(
        run.text.contains("the canary stays at this step"),
        "{}",
        run.text
    );
    stack.rollout(&["abort", "web"]).await.code(0);
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_requests_goes_on_and_says_so_or_fails_where_that_is_asked_for() {
    let mut stack = stack("[{ weight: 10%, pause: 3s }]", "");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let run = stack.rollout(&["--analysis", "no-data=fail", "web"]).await;
    let said = "the analysis has no data";
    assert!(run.code(1).text.contains(said), "{}", run.text);
    is_back(&stack, &before).await;
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    let said = "the step passes, not analysed in full";
    let notices = run.notices();
    let said = notices.iter().filter(|own| own.contains(said)).count();
    assert_eq!(said, 1, "{}", run.text);
    let off = stack.tag("v1").rollout(&["--analysis", "off", "web"]).await;
    assert!(!off.code(0).text.contains("not analysed"), "{}", off.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_version_is_compared_with_what_the_old_one_answers_in_the_same_run() {
    let errors = "    environment: { ERROR_EVERY: \"${ERRORS:-0}\" }\n";
    let mut stack = stack("[{ weight: 10%, pause: {} }]", errors);
    stack.set("ERRORS", 50).up("v1").await;
    let load = stack.load();
    load.goes_on_for(200).await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(5);
    let run = stack.rollout(&["promote", "web", "--bake", "10s"]).await;
    drop(load);
    run.code(0);
    let figures = run.event("figures").unwrap();
    assert!(figures["before"]["old"].is_object(), "{}", run.text);
    stack.settled(1).await;
}
