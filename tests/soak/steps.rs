//! `kill -9` before and after each step of a rollout, and a second run.

use std::time::Instant;

use super::table;
use testbed::{Running, Stack};

const STEPS: [&str; 11] = [
    "hold", "create", "ready", "cutover", "confirm", "bake", "drain", "stop", "remove", "rename",
    "release",
];

/// Every step there is comes with these, but for hooks.
const ARGUMENTS: [&str; 5] = ["--proxy", "traefik", "--bake", "500ms", "web"];

/// Before and after each step.
fn crash_points() -> impl Iterator<Item = (&'static str, &'static str)> {
    let edges = ["step_started", "step_finished"];
    STEPS
        .into_iter()
        .flat_map(move |step| edges.map(|edge| (step, edge)))
}

/// Kills the run as soon as it has come so far; a run that was over first is no crash, which only the end of the last
/// step may be too late for.
async fn kill_at(mut running: Running, edge: &str, step: &str) -> bool {
    running.reaches(edge, step).await;
    let events = running.kill().await;
    let crashed = !events.iter().any(|event| event["event"] == "finished");
    let last = (step, edge) == ("release", "step_finished");
    assert!(crashed || last, "over before it was killed: {edge} {step}");
    crashed
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
    let (mut summary, mut lost) = (table(&header), 0);
    for replicas in [1, 3] {
        let mut stack = Stack::usual(&format!("    scale: {replicas}\n"));
        stack.up("v1").await;
        let mut versions = ["v2", "v1"].iter().cycle();
        for (step, edge) in crash_points() {
            let version = versions.next().unwrap();
            let load = stack.load();
            stack.tag(version);
            let crashed = kill_at(stack.start_rollout(&ARGUMENTS), edge, step).await;
            let again = Instant::now();
            let run = stack.rollout(&ARGUMENTS).await;
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
            summary.add_row([
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
        "{summary}\n{} points, {lost} requests lost or mixed",
        summary.row_count()
    );
    assert_eq!(lost, 0, "\n{summary}");
}
