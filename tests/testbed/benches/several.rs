//! Twenty services of two replicas by one command, beside one of them alone: time, what the CLI uses, what it reads.

use std::{
    fs,
    time::{Duration, Instant},
};

use testbed::{Stack, front::Kind};

use crate::{counted::Counted, memory::mib, others::Others};

const SERVICES: u32 = 20;
const LONGEST: Duration = Duration::from_secs(600);
/// Traefik's `providersThrottleDuration`, twice: what comes within the first is taken after it.
const THROTTLE: Duration = Duration::from_secs(4);

/// What one run took.
struct Figures {
    wall: Duration,
    /// CPU time of the whole machine meanwhile.
    busy: Duration,
    used: Used,
    reads: usize,
}

/// What the CLI has used.
#[derive(Default)]
struct Used {
    cpu: Duration,
    /// CPU time of the processes that it has started and that have ended, such as Compose.
    cpu_of_children: Duration,
    peak_mib: f64,
}

pub async fn several() {
    let stack = twenty().await;
    let cores = std::thread::available_parallelism().unwrap().get() as u32;
    println!(
        "\n{SERVICES} services of two replicas, rolled side by side; the limit is the larger of 1.3 × ⌈{SERVICES}/N⌉ × one \
         alone, and 1.2 × the CPU time of the machine / {cores} cores"
    );
    println!(
        "  {:<28} {:>9} {:>9} {:>11} {:>9} {:>11} {:>10} {:>16}",
        "", "wall", "limit", "machine CPU", "CLI CPU", "its Compose", "CLI peak", "reads a service"
    );
    let others = Others;
    for count in [0, 200] {
        others.make("create --network none --no-healthcheck", count);
        let alone = rolled(&stack, &["web"]).await;
        row(&format!("{count:>3} others, one alone"), &alone, None, 1);
        for parallel in [4, 10] {
            let arguments = ["--all", "--parallel", &parallel.to_string()];
            let all = rolled(&stack, &arguments).await;
            let by_time = alone.wall * SERVICES.div_ceil(parallel) * 13 / 10;
            let limit = by_time.max(all.busy * 12 / 10 / cores);
            let name = format!("{count:>3} others, N = {parallel}");
            row(&name, &all, Some(limit), SERVICES);
        }
    }
}

/// The stack, with a router for each service.
async fn twenty() -> Stack {
    let others = (2..=SERVICES).map(|number| {
        format!(
            "  s{number}:\n    image: rollout-demo:${{TAG}}\n    scale: 2\n    networks: [front]\n    labels:\n      \
             traefik.enable: \"true\"\n      traefik.http.routers.s{number}.rule: Host(`s{number}.localhost`)\n"
        )
    });
    let others: String = others.collect();
    let mut stack = Stack::fresh_usual(Kind::Relabel, &format!("    scale: 2\n{others}"));
    stack.unset("ROLLOUT_STABLE").tag("v1-plain").up("v1").await;
    stack
}

/// Rolls although nothing has changed.
async fn rolled(stack: &Stack, arguments: &[&str]) -> Figures {
    // Traefik takes no new configuration for as long after the last one.
    tokio::time::sleep(THROTTLE).await;
    let engine = Counted::start();
    let (began, before) = (Instant::now(), busy());
    let running = stack.start_rollout_with(
        &[&["--force"], arguments].concat(),
        &[("DOCKER_HOST", &engine.docker_host())],
    );
    let used = tokio::spawn(used(running.pid()));
    let run = running.wait_for(LONGEST).await;
    let (wall, busy) = (began.elapsed(), busy() - before);
    run.code(0);
    Figures {
        wall,
        busy,
        used: used.await.unwrap(),
        reads: engine.reads(),
    }
}

/// What a process has used by its end.
async fn used(pid: i32) -> Used {
    let mut last = Used::default();
    while let Some(now) = used_by_now(pid) {
        last = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    last
}

/// `None` once it has ended.
fn used_by_now(pid: i32) -> Option<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have spaces. The eleventh number after it is `utime`, then `stime`, `cutime`, `cstime`.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4);
    let times: Vec<u64> = times.filter_map(|field| field.parse().ok()).collect();
    Some(Used {
        cpu: of_ticks(times.get(..2)?),
        cpu_of_children: of_ticks(times.get(2..4)?),
        peak_mib: mib(&pid.to_string(), "VmHWM")?,
    })
}

/// CPU time that this machine has spent on anything since it started.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields = stat.split_whitespace().skip(1).take(7);
    let fields: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
    // After user, nice and system come idle and iowait, which are no work, then the interrupts.
    of_ticks(&[&fields[..3], &fields[5..]].concat())
}

/// Linux counts in hundredths of a second.
fn of_ticks(ticks: &[u64]) -> Duration {
    Duration::from_millis(ticks.iter().sum::<u64>() * 10)
}

fn row(name: &str, figures: &Figures, limit: Option<Duration>, services: u32) {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let Used {
        cpu,
        cpu_of_children,
        peak_mib,
    } = figures.used;
    println!(
        "  {name:<28} {:>9} {:>9} {:>11} {:>9} {:>11} {peak_mib:>6.1} MiB {:>16.1}",
        seconds(figures.wall),
        limit.map_or_else(String::new, seconds),
        seconds(figures.busy),
        seconds(cpu),
        seconds(cpu_of_children),
        figures.reads as f64 / f64::from(services)
    );
}
