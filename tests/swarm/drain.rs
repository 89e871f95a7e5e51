//! Tasks on this node are drained by their sockets: as long as their last answers take, and no longer.

use super::{LONGEST, Stack};
use testbed::http;

/// The service's stop_grace_period of 4 s would have cut it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_longer_than_the_grace_period_is_answered() {
    let mut stack = Stack::up(1).await;
    stack.project.set("TAG", "v2");
    let (port, host) = (stack.port, stack.host);
    let mut running = stack.start(&["web"]);
    running.reaches("step_started", "cutover").await;
    let long = tokio::spawn(async move { http::get(port, host, "/?wait=12s").await });
    let run = running.wait_for(LONGEST).await;
    run.code(0);
    let answer = long.await.unwrap().expect("the long request was cut");
    assert!(answer.status().is_success(), "{answer:?}");
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
    let (port, host) = (stack.port, stack.host);
    let mut running = stack.start(&["--drain-timeout", "2s", "web"]);
    running.reaches("step_started", "cutover").await;
    let long = tokio::spawn(async move { http::get(port, host, "/?wait=60s").await });
    let run = running.wait_for(LONGEST).await;
    run.code(0);
    let mut drained = run.events.iter().filter(|own| own["event"] == "drained");
    assert_eq!(drained.next().unwrap()["how"], "timed_out", "{}", run.text);
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    assert!(
        long.await
            .unwrap()
            .is_none_or(|own| !own.status().is_success())
    );
    stack.settled().await;
}
