//! The long runs of `make soak`: every crash point, and a hundred rollouts in a row; each ends with a table.

use std::{collections::BTreeMap, time::Instant};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use crate::support::{Running, Stack};

const QUICK: [&str; 5] = ["--proxy", "traefik", "--stable", "200ms", "web"];
const STEPS: [&str; 10] = [
    "hold", "create", "ready", "cutover", "confirm", "drain", "stop", "remove", "rename", "release",
];

/// Before and after each step.
fn crash_points() -> impl Iterator<Item = (&'static str, &'static str)> {
    let edges = ["step_started", "step_finished"];
    STEPS
        .into_iter()
        .flat_map(move |step| edges.map(|edge| (step, edge)))
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Kills the run as soon as it has come so far; a run that was over first is no crash.
async fn kill_at(mut running: Running, edge: &str, step: &str) -> bool {
    running.reaches(edge, step).await;
    let events = running.kill().await;
    !events.iter().any(|event| event["event"] == "finished")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_is_settled_by_the_next_run() {
    let header = [
        "replicas",
        "killed",
        "step",
        "settled",
        "requests",
        "failed",
        "mixed",
        "second run",
    ];
    let (mut told, mut lost) = (table(&header), 0);
    for replicas in [1, 3] {
        let mut stack = Stack::usual(
            &format!("soak{replicas}"),
            &format!("    scale: {replicas}\n"),
        );
        stack.up("v1").await;
        let mut versions = ["v2", "v1"].iter().cycle();
        for (step, edge) in crash_points() {
            let version = versions.next().unwrap();
            let load = stack.load();
            stack.tag(version);
            let crashed = kill_at(stack.start_rollout(&QUICK), edge, step).await;
            let again = Instant::now();
            let run = stack.rollout(&QUICK).await;
            let took = again.elapsed();
            let report = load.stop().await;
            run.code(0);
            assert_eq!(stack.version().await.as_deref(), Some(*version));
            stack.settled(replicas).await;
            lost += report.failed + report.mixed;
            let settled = match run.event("unfinished") {
                Some(event) if event["forward"] == true => "finished",
                Some(_) => "undone",
                None if run.event("nothing_to_do").is_some() => "nothing was left",
                None => "begun anew",
            };
            told.add_row([
                replicas.to_string(),
                if crashed {
                    edge.replace("step_", "when it ")
                } else {
                    "too late".into()
                },
                step.to_owned(),
                settled.to_owned(),
                report.requests.to_string(),
                report.failed.to_string(),
                report.mixed.to_string(),
                format!("{took:.1?}"),
            ]);
        }
    }
    println!(
        "{told}\n{} points, {lost} requests lost or mixed",
        told.row_count()
    );
    assert_eq!(lost, 0, "\n{told}");
}

/// Everything of the engine that a rollout could leave behind, counted.
async fn counted(stack: &Stack) -> BTreeMap<&'static str, usize> {
    let project = format!("label=com.docker.compose.project={}", stack.project);
    let lines = async |arguments: &[&str]| stack.docker(arguments).await.lines().count();
    let proxy = format!("{}-socket-proxy-1", stack.project);
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
        ("overlay claims", stack.claims().await),
        ("descriptors of the socket proxy", descriptors.count()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rollouts_in_a_row_lose_and_leave_nothing() {
    const ROLLOUTS: usize = 100;
    let mut stack = Stack::usual("hundred", "");
    stack.up("v1").await;
    stack.tag("v2").rollout(&QUICK).await.code(0);
    let before = counted(&stack).await;
    let began = Instant::now();
    let (mut requests, mut failed, mut mixed) = (0, 0, 0);
    for round in 0..ROLLOUTS {
        // What is mixed can be told of one change of version at a time.
        let load = stack.load();
        let run = stack
            .tag(if round % 2 == 0 { "v1" } else { "v2" })
            .rollout(&QUICK)
            .await;
        let report = load.stop().await;
        assert!(run.code(0).event("finished").is_some(), "{}", run.text);
        requests += report.requests;
        failed += report.failed;
        mixed += report.mixed;
    }
    let took = began.elapsed();
    let after = counted(&stack).await;
    let mut told = table(&["what", "before", "after"]);
    for (what, count) in &before {
        told.add_row([
            (*what).to_owned(),
            count.to_string(),
            after[what].to_string(),
        ]);
    }
    println!(
        "{ROLLOUTS} rollouts in {took:.0?}: {requests} requests, {failed} failed, {mixed} mixed\n{told}"
    );
    assert_eq!((failed, mixed), (0, 0), "of {requests}");
    // Connections to the engine and of Traefik come and go.
    let near = |what: &str| what.starts_with("descriptors");
    for (what, count) in &before {
        let slack = if near(what) { 8 } else { 0 };
        assert!(
            after[what] <= count + slack,
            "more {what} than before\n{told}"
        );
    }
    stack.settled(1).await;
}
