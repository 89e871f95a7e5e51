//! A hundred rollouts in a row, and what is there before and after.

use std::{collections::BTreeMap, time::Instant};

use super::table;
use testbed::{ROLL, Stack};

/// Everything of the engine that a rollout could leave behind, counted.
async fn counted(stack: &Stack) -> BTreeMap<&'static str, usize> {
    let project = format!("label=com.docker.compose.project={}", stack.name);
    let kept = format!("rollout/{}-web", stack.name);
    let lines = async |arguments: &[&str]| stack.docker(arguments).await.lines().count();
    let proxy = format!("{}-socket-proxy-1", stack.name);
    let pid = stack
        .docker(&["inspect", "--format", "{{.State.Pid}}", &proxy])
        .await;
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", pid.trim())).unwrap();
    BTreeMap::from([
        (
            "containers",
            lines(&["ps", "-aq", "--filter", &project]).await,
        ),
        (
            "own containers",
            lines(&["ps", "-aq", "--filter", "label=io.rollout.role"]).await,
        ),
        (
            "networks",
            lines(&["network", "ls", "-q", "--filter", &project]).await,
        ),
        (
            "volumes",
            lines(&["volume", "ls", "-q", "--filter", &project]).await,
        ),
        (
            "anonymous volumes",
            lines(&["volume", "ls", "-q", "--filter", "dangling=true"]).await,
        ),
        ("kept images", lines(&["images", "-q", &kept]).await),
        (
            "dangling images",
            lines(&["images", "-qf", "dangling=true"]).await,
        ),
        ("overlay claims", stack.claims().await),
        ("descriptors of the socket proxy", descriptors.count()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rollouts_in_a_row_lose_and_leave_nothing() {
    const ROLLOUTS: usize = 100;
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let arguments = [&["--keep", "2"], &ROLL[..]].concat();
    // As many as are kept.
    for version in ["v2", "v1"] {
        stack.tag(version).rollout(&arguments).await.code(0);
    }
    let before = counted(&stack).await;
    let began = Instant::now();
    let (mut requests, mut failed, mut mixed) = (0, 0, 0);
    for round in 0..ROLLOUTS {
        // Mixed answers are counted for one change of version at a time.
        let load = stack.load();
        let run = stack
            .tag(if round % 2 == 0 { "v2" } else { "v1" })
            .rollout(&arguments)
            .await;
        let report = load.stop().await;
        assert!(run.code(0).event("finished").is_some(), "{}", run.text);
        requests += report.requests;
        failed += report.failed;
        mixed += report.mixed;
    }
    let took = began.elapsed();
    let after = counted(&stack).await;
    let mut summary = table(&["what", "before", "after"]);
    for (what, count) in &before {
        summary.add_row([
            (*what).to_owned(),
            count.to_string(),
            after[what].to_string(),
        ]);
    }
    println!(
        "{ROLLOUTS} rollouts in {took:.0?}: {requests} requests, {failed} failed, {mixed} mixed\n{summary}"
    );
    assert_eq!((failed, mixed), (0, 0), "of {requests}");
    // Connections to the engine and of Traefik come and go.
    let near = |what: &str| what.starts_with("descriptors");
    for (what, count) in &before {
        let slack = if near(what) { 8 } else { 0 };
        assert!(
            after[what] <= count + slack,
            "more {what} than before\n{summary}"
        );
    }
    stack.settled(1).await;
}
