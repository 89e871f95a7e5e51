//! The figures of a rollout, and the analysis of a new version while it bakes.

use serde_json::Value;

use testbed::{LoadReport, Run, Stack};

/// Every `ERRORS`th answer is a 500; 0 for none.
const ERRORS: &str = "    environment: { ERROR_EVERY: \"${ERRORS:-0}\" }\n";

fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all as f64
}

/// The share of good answers that the clients got from a version, in percent, and how many answers it gave.
fn answered(report: &LoadReport, version: &str) -> (f64, usize) {
    let of_it = report.records.iter();
    let of_it: Vec<_> = of_it.filter(|own| own.version() == Some(version)).collect();
    let good = of_it.iter().filter(|own| own.error().is_none()).count();
    (percent(good, of_it.len()), of_it.len())
}

fn figures<'a>(run: &'a Run, span: &str, side: &str) -> &'a Value {
    &run.event("figures").unwrap()[span][side]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_agree_with_what_the_clients_of_each_version_saw() {
    let mut stack = Stack::usual(ERRORS);
    stack.set("ERRORS", 10).up("v1").await;
    let load = stack.load();
    load.goes_on_for(100).await;
    stack.set("ERRORS", 5).tag("v2");
    let run = stack
        .rollout(&[
            "--proxy",
            "traefik",
            "--bake",
            "3s",
            "--analysis",
            "off",
            "web",
        ])
        .await;
    let report = load.stop().await;
    run.code(0);
    let close = |found: &Value, version: &str| {
        let (share, _) = answered(&report, version);
        let found = found["success_rate"].as_f64().unwrap();
        assert!(
            (found - share).abs() < 1.0,
            "{version}: {found}, {share}\n{}",
            run.text
        );
    };
    close(figures(&run, "before", "old"), "v1");
    let during = figures(&run, "during", "new");
    close(during, "v2");
    // The load goes on for longer than the bake.
    let (_, all) = answered(&report, "v2");
    let counted = during["requests"].as_u64().unwrap() as usize;
    assert!(
        (20..=all).contains(&counted),
        "{counted} of {all}\n{}",
        run.text
    );
    for field in ["p50_ms", "p99_ms", "cpu"] {
        assert!(during[field].is_f64(), "{field}: {during}");
    }
    assert!(during["memory"].as_u64().unwrap() > 100_000, "{during}");
    let shown = stack.rollout(&["history", "web", "--revision", "2"]).await;
    assert!(shown.out.contains("new during"), "{}", shown.out);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_fails_one_request_in_twenty_goes_back() {
    let mut stack = Stack::usual(ERRORS);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    load.goes_on_for(100).await;
    stack.set("ERRORS", 20).tag("v2");
    let run = stack
        .rollout(&["--proxy", "traefik", "--bake", "5s", "web"])
        .await;
    drop(load);
    run.code(1);
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(undoing.contains("fails the analysis"), "{}", run.text);
    assert!(undoing.contains("requests failed"), "{}", run.text);
    assert!(run.text.contains("the old version serves"), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_that_fails_now_and_then_is_replaced_by_an_equal_one() {
    let mut stack = Stack::usual(ERRORS);
    stack.set("ERRORS", 50).up("v1").await;
    let load = stack.load();
    load.goes_on_for(200).await;
    stack.tag("v2");
    let run = stack
        .rollout(&["--proxy", "traefik", "--bake", "5s", "web"])
        .await;
    drop(load);
    run.code(0);
    let during = figures(&run, "during", "new");
    assert!(during["failed"].as_u64().unwrap() >= 3, "{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_requests_a_bake_passes_and_says_so_or_fails_where_that_is_asked_for() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let strict = [
        "--proxy",
        "traefik",
        "--bake",
        "2s",
        "--analysis",
        "no-data=fail",
        "web",
    ];
    let run = stack.rollout(&strict).await;
    run.code(1);
    assert!(
        run.text.contains("the analysis has no data"),
        "{}",
        run.text
    );
    assert!(!run.text.contains("may have been lost"), "{}", run.text);
    let run = stack
        .rollout(&["--proxy", "traefik", "--bake", "2s", "web"])
        .await;
    run.code(0);
    assert!(
        run.text.contains("the bake passes, not analysed in full"),
        "{}",
        run.text
    );
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_process_that_runs_out_of_memory_takes_the_new_version_back() {
    let mut stack = Stack::usual("    mem_limit: 64m\n    memswap_limit: 64m\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "--bake", "60s", "web"]);
    running.reaches("step_started", "bake").await;
    let new = stack.newest("web").await;
    let child = format!("docker exec -e MEMORY=200 -e PORT=81 {new} /app || true");
    stack.shell(&child).await;
    let run = running.wait().await;
    run.code(1);
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(undoing.contains("ran out of memory"), "{}", run.text);
    let during = figures(&run, "during", "new");
    assert_eq!(during["oom_kills"], 1, "{during}");
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_gets_two_watchers() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let old = stack.replicas("web").await[0].id.clone();
    let load = stack.load();
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "--bake", "4s", "web"]);
    running.reaches("step_started", "bake").await;
    load.goes_on_for(300).await;
    let new = stack.newest("web").await;
    for id in [&old, &new] {
        assert_eq!(stack.watchers(id).await.len(), 1, "{id}");
    }
    let run = running.wait().await;
    drop(load);
    run.code(0);
    stack.settled(1).await;
    assert!(stack.helpers(&new).await.is_empty());
}
