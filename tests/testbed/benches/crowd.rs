//! How a rollout and the socket proxy stand beside 0, 200 and 1,000 containers that have nothing to do with them, with `--only`
//! and, as the baseline of the same run, without. A hundred of them run, and the health of one changes every second.

use std::{
    env, fs,
    process::Command,
    time::{Duration, SystemTime},
};

use testbed::{Run, Stack, front::Kind};

const CROWDS: [u32; 3] = [0, 200, 1_000];
const RUNNING: u32 = 100;
/// Traefik's `providersThrottleDuration`, twice: what comes within the first is taken after it.
const THROTTLE: Duration = Duration::from_secs(4);
const LABEL: &str = "--label rollout.crowd=1";
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
    let crowd = Crowd;
    let mut made = 0;
    for count in CROWDS {
        crowd.grow(made, count);
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
    let memory = memory(&format!("{}-socket-proxy-1", stack.name));
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

/// What a container's process holds of its own (`RssAnon`), in MiB.
fn memory(container: &str) -> f64 {
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Containers that have nothing to do with any rollout; they go when this is dropped.
struct Crowd;

impl Crowd {
    fn grow(&self, from: u32, to: u32) {
        let running = from.min(RUNNING)..to.min(RUNNING);
        let created = from.max(RUNNING)..to.max(RUNNING);
        self.make("run -d", running);
        self.make("create", created);
        if from == 0 && to > 0 {
            let flips = "--health-cmd 'test $(( $(date +%s) % 2 )) = 0' --health-interval 1s --health-retries 1";
            shell(&format!("docker run -d {LABEL} {flips} rollout-demo:v1"));
        }
    }

    fn make(&self, verb: &str, numbers: std::ops::Range<u32>) {
        let count = numbers.len();
        shell(&format!(
            "seq {count} | xargs -r -P 4 -I _ docker {verb} --network none --no-healthcheck {LABEL} rollout-demo:v1"
        ));
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        shell("docker ps -aq --filter label=rollout.crowd | xargs -r docker rm -f");
    }
}

fn shell(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
}
