//! `kill -9` in each phase and a second run that finishes or undoes; the lock of the dead, of the living, and by hand.

use std::time::Duration;

use serde_json::Value;

use testbed::{Load, LoadOptions, ROLL, Run, Stack};

/// For each phase: a rollout to the other version is killed in it, and a second run brings it to its end; nothing is
/// lost over both.
pub async fn killed_in_each_phase(mut stack: Stack, replicas: usize, phases: &[&str]) {
    stack.up("v1").await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for phase in phases {
        let version = versions.next().unwrap();
        let load = Load::start(LoadOptions {
            slow_requests: Some(Duration::from_millis(500)),
            ..stack.load_options()
        });
        stack.tag(version);
        let mut running = stack.start_rollout(&ROLL);
        if *phase == "confirm" {
            // A hold by a pin file is confirmed too.
            running.comes_after("cutover", phase).await;
        } else {
            running.reaches("step_started", phase).await;
        }
        let events = running.kill().await;
        let ended = events.iter().any(|event| event["event"] == "finished");
        assert!(!ended, "{phase}: it was over before it was killed");
        let run = stack.rollout(&ROLL).await;
        let report = load.stop().await;
        assert_eq!(run.code, Some(0), "{phase}: {}", run.text);
        assert!(report.nothing_lost(), "{phase}: {report}\n{}", run.text);
        assert_eq!(
            stack.version().await.as_deref(),
            Some(*version),
            "{phase}: {}",
            run.text
        );
        settled_by_its_record(&run, &events);
        stack.settled(replicas).await;
    }
}

/// What the next run says of a rollout that was killed after these events: finished where its cutover was written, else
/// undone. Only of a step that changes the record itself it is not known whether it came so far.
#[track_caller]
fn settled_by_its_record(run: &Run, events: &[Value]) {
    let unfinished = run.event("unfinished");
    let forward = unfinished.map(|event| event["forward"] == true);
    let begun = events
        .iter()
        .filter(|event| event["event"] == "step_started");
    let steps: Vec<&str> = begun.filter_map(|event| event["step"].as_str()).collect();
    match *steps.last().unwrap() {
        "hold" => assert_ne!(forward, Some(true), "{}", run.text),
        "cutover" => assert!(forward.is_some(), "{}", run.text),
        "release" => assert_ne!(forward, Some(false), "{}", run.text),
        last => {
            let cut_over = steps.contains(&"cutover");
            assert_eq!(forward, Some(cut_over), "{last}: {}", run.text);
        }
    }
}

// Every phase, spread over tests that run side by side.

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_killed_before_the_cutover_is_undone_by_the_next_run() {
    let stack = Stack::usual("");
    killed_in_each_phase(stack, 1, &["hold", "create", "ready"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_killed_around_the_cutover_is_settled_by_the_next_run() {
    let stack = Stack::usual("");
    killed_in_each_phase(stack, 1, &["cutover", "confirm", "drain"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_killed_after_the_drain_is_finished_by_the_next_run() {
    let stack = Stack::usual("");
    killed_in_each_phase(stack, 1, &["stop", "remove", "rename", "release"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_for_good_leaves_the_old_version_answering() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let mut running = stack.start_rollout(&ROLL);
    running.reaches("step_started", "ready").await;
    running.kill().await;
    let new = stack.newest("web").await;
    let healthy = format!("docker ps -q --no-trunc --filter id={new} --filter health=healthy");
    stack.until(&healthy, &new).await;
    // It could answer now, and must stay hidden.
    assert!(!load.seen("v2", Duration::from_secs(4)).await);
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    stack.tag("v1");
    let run = stack.rollout(&ROLL).await;
    run.code(0);
    assert!(run.event("nothing_to_do").is_some(), "{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_at_once_the_second_is_locked_out_and_names_the_first() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let mut first = stack.start_rollout(&["web"]);
    first.reaches("step_started", "ready").await;
    first.pauses();
    let second = stack.rollout(&["web"]).await;
    second.code(4);
    let holder = format!("process {}", first.pid());
    assert!(second.text.contains(&holder), "{}", second.text);
    assert!(
        second.text.contains("rollout unlock --force web"),
        "{}",
        second.text
    );
    first.continues();
    first.wait().await.code(0);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlock_removes_the_lock_of_a_killed_run_and_says_whose_it_was() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let run = stack.rollout(&["unlock", "web"]).await;
    run.code(0);
    assert!(run.text.contains("is not locked"), "{}", run.text);
    stack.tag("v2");
    let mut running = stack.start_rollout(&["web"]);
    running.reaches("step_started", "ready").await;
    let holder = format!("process {}", running.pid());
    running.pauses();
    let status = stack.rollout(&["status", "web"]).await;
    status.code(1);
    assert!(status.out.contains("being rolled by"), "{}", status.out);
    running.kill().await;
    // A watch does not wait for a run that is dead.
    let status = stack.rollout(&["status", "web", "--watch"]).await;
    status.code(1);
    assert!(status.out.contains("which is dead"), "{}", status.out);
    let next = "rollout resume web";
    assert!(status.text.contains(next), "{}", status.text);
    let run = stack.rollout(&["unlock", "web"]).await;
    run.code(0);
    assert!(run.text.contains(&holder), "{}", run.text);
    let lock = format!("name=rollout-lock.{}.", stack.name);
    assert_eq!(stack.docker(&["ps", "-aq", "--filter", &lock]).await, "");
    stack.rollout(&["web"]).await.code(0);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lock_is_taken_away_stops_before_it_changes_anything_more() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let mut running = stack.start_rollout(&["web"]);
    running.reaches("step_started", "ready").await;
    running.pauses();
    let refused = stack.rollout(&["unlock", "web"]).await;
    refused.code(4);
    let force = "rollout unlock --force web";
    assert!(refused.text.contains(force), "{}", refused.text);
    stack.rollout(&["unlock", "--force", "web"]).await.code(0);
    running.continues();
    let run = running.wait().await;
    assert_ne!(run.code, Some(0), "{}", run.text);
    assert!(
        run.text.contains("was removed by another command"),
        "{}",
        run.text
    );
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert!(stack.replicas("web").await.contains(&before[0]));
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v2").await;
    stack.settled(1).await;
}

/// A lock that was taken this long ago on a machine that is unreachable now.
async fn lock_of_elsewhere(stack: &Stack, seconds_ago: u64) {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let epoch = (now.as_secs() - seconds_ago) * 1000;
    let line = format!(
        "docker create --name rollout-lock.{}.web --label io.rollout.lock.boot=elsewhere \
         --label io.rollout.lock.process=1@1 --label io.rollout.lock.epoch={epoch} \
         --label io.rollout.lock.who=ada@elsewhere --label io.rollout.lock.since=then rollout-demo:v1",
        stack.name
    );
    stack.shell(&line).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_from_elsewhere_counts_until_its_lease_is_over() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    lock_of_elsewhere(&stack, 5).await;
    let run = stack.rollout(&ROLL).await;
    run.code(4);
    assert!(
        run.text.contains("ada@elsewhere since then"),
        "{}",
        run.text
    );
    let force = "rollout unlock --force web";
    assert!(run.text.contains(force), "{}", run.text);
    stack.rollout(&["unlock", "--force", "web"]).await.code(0);
    // Its end comes while a run waits for it.
    lock_of_elsewhere(&stack, 41).await;
    let run = stack
        .rollout(&[&ROLL[..], &["--lock-wait", "60s"]].concat())
        .await;
    run.code(0);
    assert!(run.text.contains("removed a stale lock"), "{}", run.text);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_the_lock_sees_what_the_other_has_done() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let mut first = stack.start_rollout(&["web"]);
    first.reaches("step_started", "ready").await;
    first.pauses();
    let mut second = stack.start_rollout(&["web", "--lock-wait", "1m"]);
    second.says("waiting for it").await;
    first.continues();
    let second = second.wait().await;
    first.wait().await.code(0);
    second.code(0);
    assert!(second.text.contains("waiting for it"), "{}", second.text);
    assert!(second.event("nothing_to_do").is_some(), "{}", second.text);
    stack.settled(1).await;
}
