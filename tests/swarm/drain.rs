//! Tasks on this node are drained by their sockets: as long as their last answers take, and no longer.

use super::{LONGEST, Stack};
use crate::drain::client::ask;

/// The service's stop_grace_period of 4 s would have cut it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_longer_than_the_grace_period_is_answered() {
    let mut stack = Stack::up(1).await;
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&["web"]);
    running.reaches("step_started", "cutover").await;
    let long = ask(stack.port, "/?wait=12s");
    let run = running.wait_for(LONGEST).await;
    run.code(0);
    assert_eq!(long.await.unwrap().status, 200);
    assert!(
        run.events.iter().any(|own| own["event"] == "draining"),
        "{}",
        run.text
    );
    let drained = run.events.iter().filter(|own| own["event"] == "drained");
    let how: Vec<&str> = drained.filter_map(|own| own["how"].as_str()).collect();
    assert_eq!(how, ["answered", "answered"], "{}", run.text);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_goes_on_ends_the_drain_at_its_timeout_and_the_report_says_so() {
    let mut stack = Stack::up(1).await;
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&["--drain-timeout", "2s", "web"]);
    running.reaches("step_started", "cutover").await;
    let long = ask(stack.port, "/?wait=60s");
    let run = running.wait_for(LONGEST).await;
    run.code(0);
    let mut drained = run.events.iter().filter(|own| own["event"] == "drained");
    assert_eq!(drained.next().unwrap()["how"], "timed_out", "{}", run.text);
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    assert_ne!(long.await.map_or(0, |own| own.status), 200);
    stack.settled().await;
}
