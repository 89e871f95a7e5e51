//! How fast an abort takes a canary back, and the gap of a recreated service beside that of Compose alone.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use testbed::{Run, Stack, free_port, front::Kind, http};
use tokio::time::sleep;

use super::row;

const ROUNDS: usize = 10;

pub async fn strategies() {
    aborts().await;
    gaps().await;
}

/// From the start of the command until Traefik has confirmed that the old version gets everything.
async fn aborts() {
    let canary = "    x-rollout: { strategy: canary, steps: [{ weight: 10%, pause: {} }] }\n";
    let mut stack = Stack::fresh_usual(Kind::Relabel, canary);
    stack.up("v1").await;
    stack.tag("v2");
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        stack.rollout(&["web"]).await.code(5);
        let start = SystemTime::now();
        let run = stack.rollout(&["abort", "web"]).await;
        run.code(0);
        all.push(confirmed_at(&run).duration_since(start).unwrap_or_default());
    }
    println!("\n{ROUNDS} aborts of a canary at 10 %, until Traefik has confirmed it for 2.5 s");
    summary("rollout abort", all);
}

fn confirmed_at(run: &Run) -> SystemTime {
    let is_it = |event: &&serde_json::Value| {
        event["event"] == "step_finished" && event["step"] == "confirm"
    };
    let event = run.events.iter().rfind(is_it).expect("it is confirmed");
    let time = event["time"].as_str().expect("each event has its time");
    humantime::parse_rfc3339(time).expect("a time")
}

/// A service with a port of the host cannot run twice; each way takes its turn.
async fn gaps() {
    let ports = "    ports: ['127.0.0.1:${OWN_PORT}:80']\n";
    let mut stack = Stack::fresh_usual(Kind::Relabel, ports);
    let port = free_port();
    stack.set("OWN_PORT", port).up("v1").await;
    let (mut compose, mut rollout) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let again = ["up", "-d", "--force-recreate", "--no-deps", "web"];
        compose.push(gap(port, stack.compose(&again)).await);
        let again = ["--strategy", "recreate", "--force", "web"];
        let recreated = async {
            stack.rollout(&again).await.code(0);
        };
        rollout.push(gap(port, recreated).await);
    }
    println!("\n{ROUNDS} gaps of a service with a port of the host");
    let ratio = median(&mut rollout).as_secs_f64() / median(&mut compose).as_secs_f64();
    summary("docker compose up --force-recreate (baseline)", compose);
    summary("rollout --strategy recreate", rollout);
    println!("  ratio of the medians {ratio:.2}");
}

/// For how long a port does not answer while this goes on.
async fn gap<T>(port: u16, action: impl Future<Output = T>) -> Duration {
    let is_over = Cell::new(false);
    let asking = async {
        let (mut good, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let sent = Instant::now();
            let answer = http::get(port, "localhost", "/").await;
            if answer.is_some_and(|own| own.status().is_success()) {
                longest = longest.max(sent - good);
                good = Instant::now();
                if is_over.get() {
                    return longest;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let acting = async {
        action.await;
        is_over.set(true);
    };
    tokio::join!(asking, acting).0
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn summary(what: &str, mut all: Vec<Duration>) {
    row(&format!("{what}, median"), median(&mut all));
    row("  maximum", all[all.len() - 1]);
}
