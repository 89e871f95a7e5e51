//! The engine itself is restarted in the middle of a rollout under load, its containers ending with it or going on.

pub mod bridge;

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use self::bridge::Bridge;
use super::{settled_by, table};
use crate::{
    canary::shares,
    faulty::{
        meddle::no_answer,
        probe::Probe,
        strike::{QUICK, fits, leftovers, message, went_back},
    },
};
use testbed::{Load, LoadOptions, Run, Stack, eventually, front::Kind};

const PHASES: [&str; 7] = [
    "hold", "create", "ready", "confirm", "drain", "stop", "remove",
];

/// The testbed, with what it says on standard output.
pub async fn run_testbed(arguments: &[&str]) -> String {
    let program = testbed::root().join("tests/testbed/testbed");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "testbed {}: {error}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What `testbed env` exports by this name.
pub async fn exported(name: &str) -> String {
    let exports = run_testbed(&["env"]).await;
    let begin = format!("export {name}=");
    let line = exports.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("no {name}: {exports}"))
        .to_owned()
}

/// A stack on the engine that is restarted; every container comes up again with it.
struct Own {
    stack: Stack,
    live: bool,
    _bridge: Bridge,
}

impl Own {
    async fn start(live: bool) -> Self {
        run_testbed(own(live)).await;
        let socket = exported("ROLLOUT_TESTBED_OWN_SOCKET").await;
        let network = exported("ROLLOUT_TESTBED_OWN_NETWORK").await;
        let always = "    restart: always\n";
        let mut stack = Stack::fresh_usual(Kind::Relabel, always);
        let front = std::fs::read_to_string(stack.path("front.yaml")).unwrap();
        // The directory, since a dockerd that is started without systemd's socket makes its own anew.
        let directory = Path::new(&socket).parent().unwrap().display();
        let mount = "/var/run/docker.sock:/var/run/docker.sock:ro";
        let command = "    command: [socket-proxy";
        let sock = "    environment: { DOCKER_SOCK: /engine/docker.sock }\n";
        let networks = "    networks: [";
        let edits = [
            (mount, format!("{directory}:/engine:ro")),
            (command, format!("{sock}{command}")),
            (networks, format!("{always}{networks}")),
        ];
        let front = edits.iter().fold(front, |front, (before, after)| {
            assert!(front.contains(before), "{before}: {front}");
            front.replace(before, after)
        });
        stack.write("front.yaml", &front);
        stack.set("DOCKER_HOST", format!("unix://{socket}"));
        stack.started_by(&["nsenter", &format!("--net={network}")]);
        Self {
            _bridge: Bridge::start(&stack, &network).await,
            stack,
            live,
        }
    }

    async fn restart(&self) {
        run_testbed(own(self.live)).await;
    }
}

fn own(live: bool) -> &'static [&'static str] {
    match live {
        true => &["own", "live"],
        false => &["own"],
    }
}

fn row(own: &Own, phase: &str, (first, second): (&Run, &Run), more: [String; 5]) -> Vec<String> {
    let next = settled_by(second);
    let kind = if own.live { "go on" } else { "end with it" };
    let code = first.code.map_or_else(String::new, |code| code.to_string());
    let [requests, failed, outage, mixed, complaints] = more;
    let said = message(first);
    let (kind, phase, next) = (kind.to_owned(), phase.to_owned(), next.to_owned());
    vec![
        kind, phase, code, requests, failed, outage, mixed, next, complaints, said,
    ]
}

/// A rollout in which the engine is restarted in one phase, and the next one.
async fn restarted(own: &mut Own, (old, new): (&str, &str), phase: &str) -> (Vec<String>, bool) {
    let stack = &mut own.stack;
    stack.tag(new);
    let (load, probe) = (
        Load::start(LoadOptions {
            slow_requests: Some(Duration::from_secs(2)),
            max_duration: Duration::from_secs(400),
            ..stack.load_options()
        }),
        Probe::start(stack),
    );
    let mut running = stack.start_rollout(&QUICK);
    running.reaches("step_started", phase).await;
    own.restart().await;
    let stack = &own.stack;
    let first = running.wait().await;
    let mut complaints = Vec::new();
    complaints.extend(no_answer(stack, Duration::from_secs(60)).await);
    let serves = stack.version().await.unwrap_or_default();
    complaints.extend(fits(&first, false, &serves, (old, new)));
    stack.traefik_listens().await;
    let second = stack.rollout(&QUICK).await;
    let report = load.stop().await;
    let outage = probe.stop().await;
    if second.code != Some(0) {
        complaints.push(format!("the next run: {:?} {}", second.code, second.text));
    }
    if own.live && report.failed > 0 {
        complaints.push(format!("{} failed: {:?}", report.failed, report.errors));
    }
    if report.mixed > 0 && !went_back(&first) && !went_back(&second) {
        complaints.push(format!("{} mixed", report.mixed));
    }
    complaints.extend(leftovers(stack, new, 1).await);
    println!(
        "{} at {phase}: {:?} {report}, outage {outage:.1?} {}\n{}",
        if own.live { "live" } else { "dead" },
        first.code,
        complaints.join("; "),
        first.text
    );
    let more = [
        report.requests.to_string(),
        report.failed.to_string(),
        format!("{outage:.1?}"),
        report.mixed.to_string(),
        complaints.join("; "),
    ];
    (
        row(own, phase, (&first, &second), more),
        complaints.is_empty(),
    )
}

/// A canary that is paused while the engine is restarted keeps its weights, and is promoted.
async fn paused(own: &mut Own) {
    own.stack.set("ROLLOUT_STRATEGY", "canary").tag("v2");
    let running = own.stack.start_rollout(&["web"]);
    running.begins("pause", 1).await;
    own.stack.rollout(&["pause", "web"]).await.code(0);
    running.wait().await.code(5);
    own.restart().await;
    assert!(
        no_answer(&own.stack, Duration::from_secs(60))
            .await
            .is_none()
    );
    own.stack.traefik_listens().await;
    let mut seen = BTreeSet::new();
    // Traefik gives all traffic to the replica whose health check passes first.
    eventually(
        "both versions answer",
        Duration::from_secs(60),
        async || {
            seen.extend(own.stack.version().await);
            if seen.len() == 2 {
                Ok(())
            } else {
                Err(seen.clone())
            }
        },
    )
    .await;
    shares(&own.stack, "v2", 10.0).await;
    let promoted = own.stack.rollout(&["promote", "web", "--full"]).await;
    promoted.code(0);
    own.stack.unset("ROLLOUT_STRATEGY");
    let left = leftovers(&own.stack, "v2", 1).await;
    assert!(left.is_empty(), "{left:?}");
    own.stack.tag("v1").up("v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_in_which_dockerd_is_restarted_ends_well_or_is_settled_by_the_next_run() {
    let header = [
        "containers",
        "in",
        "code",
        "requests",
        "failed",
        "outage",
        "mixed",
        "next run",
        "left over",
        "said",
    ];
    let (mut summary, mut bad) = (table(&header), 0);
    for live in [true, false] {
        let mut own = Own::start(live).await;
        own.stack.up("v1").await;
        paused(&mut own).await;
        let mut versions = [("v1", "v2"), ("v2", "v1")].into_iter().cycle();
        for phase in PHASES {
            let (row, good) = restarted(&mut own, versions.next().unwrap(), phase).await;
            summary.add_row(row);
            bad += usize::from(!good);
            if !good {
                drop(own);
                // What one point has left behind is no fault of the next.
                own = Own::start(live).await;
                own.stack.up("v1").await;
                versions = [("v1", "v2"), ("v2", "v1")].into_iter().cycle();
            }
        }
    }
    run_testbed(&["own-down"]).await;
    println!("{summary}\n{bad} not settled");
    assert_eq!(bad, 0, "\n{summary}");
}
