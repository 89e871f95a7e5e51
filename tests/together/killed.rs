//! `kill -9` at each step of a rollout of both: the same command again brings both to the new version.

use super::{TOGETHER, asks_for, clients, settled, usual};

/// For each point, a step that begins after another has ended: a rollout to the other version is killed there, and run
/// again.
async fn killed_at(points: &[(&str, &str)]) {
    let mut stack = usual(0).await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for (first, step) in points {
        let version = versions.next().unwrap();
        asks_for(&mut stack, version);
        let clients = clients(&stack, 200);
        let mut running = stack.start_rollout(&TOGETHER);
        match *first {
            "" => running.reaches("step_started", step).await,
            first => running.comes_after(first, step).await,
        }
        let events = running.kill().await;
        let ended = events
            .iter()
            .any(|event| event["event"] == "stack_finished");
        assert!(!ended, "{step}: it was over before it was killed");
        let run = stack.rollout(&TOGETHER).await;
        let report = clients.stop().await;
        assert_eq!(run.code, Some(0), "{step}: {}", run.text);
        assert!(report.nothing_lost(), "{step}: {report}\n{}", run.text);
        settled(&stack, version).await;
    }
}

// Every step, spread over tests that run side by side.

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_both_killed_before_the_cutover_is_undone_by_the_next_run() {
    killed_at(&[
        ("", "hold"),
        ("", "create"),
        ("", "ready"),
        ("ready", "await_others"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_both_killed_around_the_cutover_is_settled_by_the_next_run() {
    killed_at(&[
        ("", "cutover"),
        ("cutover", "confirm"),
        ("confirm", "await_others"),
        ("", "drain"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_both_killed_after_the_drain_is_finished_by_the_next_run() {
    killed_at(&[
        ("", "stop"),
        ("", "remove"),
        ("", "rename"),
        ("", "release"),
    ])
    .await;
}
