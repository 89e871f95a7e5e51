//! An operator changes the service's containers in the middle of a rollout.

use std::time::Duration;

use testbed::{LoadReport, Run, Running, Stack, load::Record};

/// As many answers as come while Traefik may hold back what it has read, 2 s by default, and some more.
const THROTTLED: usize = 300;
const DELAYED: &str = "    environment: { START_DELAY: \"${DELAY:-0}\" }\n";

/// What a plain `docker compose up -d` to `version` costs on this machine: the control of the tests below. Compose
/// stops the old container before it starts the new one, which is a gap that no rollout can close.
async fn gap_of_compose(stack: &mut Stack, version: &str) -> LoadReport {
    let load = stack.load();
    stack.tag(version);
    stack.up(version).await;
    load.goes_on_for(THROTTLED).await;
    load.stop().await
}

/// A rollout to v2 whose application takes `delay` seconds to start, as soon as it is waiting for it.
async fn starting(stack: &mut Stack, delay: u32) -> Running {
    stack.tag("v2").set("DELAY", delay);
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("step_started", "ready").await;
    stack.some_replicas(2).await;
    running
}

/// `docker compose up -d`. On a busy engine Compose still lists what it has just removed, and then fails to start it.
async fn plain_up(stack: &Stack) {
    let mut up = stack.command("docker", &["compose", "up", "-d"]);
    let output = up.output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let itself = error.contains("Removed") && error.contains("No such container");
    assert!(output.status.success() || itself, "{error}");
}

fn names_the_change(run: &Run) {
    assert!(run.text.contains("another command"), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_with_the_old_file_is_no_worse_than_compose_alone() {
    let mut stack = Stack::usual(DELAYED);
    stack.up("v1").await;
    let control = gap_of_compose(&mut stack, "v2").await;
    gap_of_compose(&mut stack, "v1").await;
    let load = stack.load();
    let running = starting(&mut stack, 3).await;
    stack.tag("v1").set("DELAY", 0);
    plain_up(&stack).await;
    let run = running.wait().await;
    stack.answers("v1").await;
    let report = load.stop().await;
    println!("control: {control}\nours: {report}\n{}", run.text);
    // Compose removed the new container, whose hash is not the file's, and kept the old one.
    run.code(1);
    assert!(run.text.contains("the old version serves"), "{}", run.text);
    assert!(
        report.longest_gap <= control.longest_gap + Duration::from_secs(1),
        "{report} against {control}"
    );
    stack.tag("v2").set("DELAY", 3);
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_with_the_new_file_is_no_worse_than_compose_alone() {
    let mut stack = Stack::usual(DELAYED);
    stack.set("DELAY", 3);
    stack.up("v1").await;
    let control = gap_of_compose(&mut stack, "v2").await;
    gap_of_compose(&mut stack, "v1").await;
    let load = stack.load();
    let running = starting(&mut stack, 3).await;
    plain_up(&stack).await;
    let run = running.wait().await;
    stack.answers("v2").await;
    let report = load.stop().await;
    println!("control: {control}\nours: {report}\n{}", run.text);
    // Compose removed the old container and kept the new one: what was asked for serves.
    run.code(0);
    names_the_change(&run);
    assert!(
        report.longest_gap <= control.longest_gap + Duration::from_secs(1),
        "{report} against {control}"
    );
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_that_is_removed_while_it_starts_ends_the_rollout_and_the_old_one_serves() {
    let mut stack = Stack::usual(DELAYED);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    let running = starting(&mut stack, 5).await;
    let now = stack.replicas("web").await;
    let new = now.iter().find(|own| own.id != before[0].id).unwrap();
    stack.docker(&["rm", "-f", &new.id]).await;
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(1);
    assert!(run.text.contains("the old version serves"), "{}", run.text);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    assert_eq!(stack.claims().await, 0);
    stack.set("DELAY", 0);
    stack.rollout(&["web"]).await.code(0);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_old_replica_of_two_that_is_removed_does_not_end_the_rollout_and_the_other_serves() {
    let mut stack = Stack::usual(&format!("    scale: 2\n{DELAYED}"));
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2").set("DELAY", 3);
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("step_started", "ready").await;
    stack.docker(&["rm", "-f", &before[1].id]).await;
    let run = running.wait().await;
    // The goal is reached all the same: one old replica serves until the cutover.
    run.code(0);
    stack.answers("v2").await;
    // Requests on their way to the removed container end by the clients' timeout.
    assert!(load.seen("v2", Duration::from_secs(30)).await);
    let report = load.stop().await;
    println!("{report}\n{}", run.text);
    // The removal costs requests to what is removed, and the rollout none.
    let cutover = report.first_answer_of("v2").unwrap();
    let late = |own: &&Record| own.error().is_some() && own.sent > cutover;
    assert_eq!(report.records.iter().filter(late).count(), 0, "{report}");
    assert_eq!(report.mixed, 0, "{report}");
    stack.settled(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_old_replica_that_is_removed_while_the_new_starts_leaves_the_new_one_serving() {
    let mut stack = Stack::usual(DELAYED);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let running = starting(&mut stack, 4).await;
    stack.docker(&["rm", "-f", &before[0].id]).await;
    let run = running.wait().await;
    // The new one takes over: what was asked for serves.
    run.code(0);
    names_the_change(&run);
    stack.answers("v2").await;
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_replica_that_is_removed_during_the_drain_gives_the_traffic_back() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = testbed::load::Load::start(testbed::load::LoadOptions {
        slow_requests: Some(Duration::from_secs(4)),
        ..stack.load_options()
    });
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("draining", "").await;
    let now = stack.replicas("web").await;
    let new = now.iter().find(|own| own.id != before[0].id).unwrap();
    stack.docker(&["rm", "-f", &new.id]).await;
    let run = running.wait().await;
    drop(load);
    run.code(1);
    assert!(run.text.contains("the old version serves"), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    stack.answers("v1").await;
    assert_eq!(stack.claims().await, 0);
    stack.rollout(&["web"]).await.code(0);
    stack.settled(1).await;
}

/// Compose 2.26.1 recreates every container that it did not make itself, whatever it was made from: a plain `up` in the
/// middle of a rollout takes both sets away.
async fn an_up_of_compose_2_26_in_the_middle(file: &str) {
    let mut stack = Stack::usual(DELAYED);
    stack.compose_version("trixie").set("DELAY", 3);
    stack.up("v1").await;
    let running = starting(&mut stack, 3).await;
    stack.tag(file);
    // It fails where the run removes first what Compose is about to recreate.
    let mut up = stack.command("docker", &["compose", "up", "-d"]);
    up.output().await.unwrap();
    let run = running.wait().await;
    // It is never called done: neither set is there any more.
    assert!(matches!(run.code, Some(1 | 3)), "{}", run.text);
    names_the_change(&run);
    stack.up(file).await;
    assert_eq!(stack.claims().await, 0);
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_of_compose_2_26_with_the_old_file_ends_the_rollout_and_the_next_one_succeeds() {
    an_up_of_compose_2_26_in_the_middle("v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_up_of_compose_2_26_with_the_new_file_ends_the_rollout_and_the_next_one_succeeds() {
    an_up_of_compose_2_26_in_the_middle("v2").await;
}
