//! How a rollout and the socket proxy stand beside 0, 200 and 1,000 containers that have nothing to do with them, with `--only`
//! and, as the baseline of the same run, without. A hundred of them run, and the health of one changes every second.

mod memory;
mod others;

use std::{
    env,
    time::{Duration, SystemTime},
};

use testbed::{Run, Stack, docker, front::Kind};

use memory::mib;
use others::Others;

const CROWDS: [usize; 3] = [0, 200, 1_000];
const RUNNING: usize = 100;
/// Traefik's `providersThrottleDuration`, twice: what comes within the first is taken after it.
const THROTTLE: Duration = Duration::from_secs(4);
/// An option that changes nothing: without it the front's own `--only` holds.
const WITHOUT: &str = "--listen=0.0.0.0:2375";

#[tokio::main]
async fn main() {
    let rounds = env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(30);
    println!("{rounds} rollouts of one replica beside each number of other containers");
    println!(
        "  {:<28} {:>22} {:>22} {:>14}",
        "", "confirmed p50 / max", "first step p50 / max", "socket proxy"
    );
    let others = Others;
    let mut made = 0;
    for count in CROWDS {
        grow(&others, made, count);
        made = count;
        for (name, only) in [("--only", None), ("without (baseline)", Some(WITHOUT))] {
            let figures = figures(only, rounds).await;
            println!("  {count:>5} others, {name:<20} {figures}");
        }
    }
}

/// The rollouts of one stack, back and forth.
async fn figures(only: Option<&str>, rounds: u32) -> String {
    let mut stack = Stack::fresh_usual(Kind::Relabel, "");
    if let Some(only) = only {
        stack.set("ONLY", only);
    }
    stack.up("v1").await;
    let (mut confirmed, mut first) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Traefik takes no new configuration for as long after the last one.
        tokio::time::sleep(THROTTLE).await;
        stack.tag(["v2", "v1"][(round % 2) as usize]);
        let begun = SystemTime::now();
        let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
        run.code(0);
        let finished = run.event("finished").expect("a rollout that finished");
        confirmed.push(finished["phases"]["confirm"].as_u64().unwrap());
        first.push(until_first_step(&run, begun).as_millis() as u64);
    }
    let memory = memory_of(&format!("{}-socket-proxy-1", stack.name));
    format!("{} {} {memory:>10.1} MiB", spread(confirmed), spread(first))
}

fn until_first_step(run: &Run, begun: SystemTime) -> Duration {
    let time = run.event("step_started").and_then(|event| {
        let text = event["time"].as_str()?;
        humantime::parse_rfc3339(text).ok()
    });
    let since = time.and_then(|time| time.duration_since(begun).ok());
    since.expect("a step with a time")
}

fn spread(mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let (middle, last) = (all[all.len() / 2], all[all.len() - 1]);
    format!("{middle:>11} / {last:>5} ms")
}

/// What a container's process holds of its own, in MiB.
fn memory_of(container: &str) -> f64 {
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    mib(&pid, "RssAnon").unwrap_or_default()
}

/// Makes as many more as are missing. Those beyond the hundred that run are created only.
fn grow(others: &Others, from: usize, to: usize) {
    let idle = "--network none --no-healthcheck";
    others.make(
        &format!("run -d {idle}"),
        to.min(RUNNING) - from.min(RUNNING),
    );
    others.make(
        &format!("create {idle}"),
        to.max(RUNNING) - from.max(RUNNING),
    );
    if from == 0 && to > 0 {
        let flips = "--health-cmd 'test $(( $(date +%s) % 2 )) = 0' --health-interval 1s --health-retries 1";
        others.make(&format!("run -d {flips}"), 1);
    }
}
