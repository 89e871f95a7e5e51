//! A rollout under load in which one call to the engine fails, the run after it, and what is to be said of both.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use super::{
    Call, Fault, Faulty,
    upstream::{Upstream, empty},
};
use testbed::{Load, LoadOptions, LoadReport, Run, Stack, eventually};

/// What a run is called with: nothing that only takes time.
pub const QUICK: [&str; 5] = ["--proxy", "traefik", "--keep", "1", "web"];

/// A run may not take longer than this because of one call that fails.
const LONGEST: Duration = Duration::from_secs(110);

/// How long what goes by itself may stay.
const GONE: Duration = Duration::from_secs(30);

/// What became of it.
pub struct Struck {
    /// Whether the call came at all.
    pub reached: bool,
    pub first: Run,
    pub first_took: Duration,
    pub second: Run,
    pub report: LoadReport,
    /// Whatever is not as it has to be, a line each.
    pub complaints: Vec<String>,
}

impl Struck {
    /// How it came to a settled service.
    pub fn settled(&self) -> &'static str {
        let undone = self.first.event("undoing").is_some();
        match (self.first.code, self.second.event("unfinished")) {
            (Some(0), _) => "went on",
            (_, Some(event)) if event["forward"] == true => "next run finished it",
            (_, Some(_)) => "next run undid it, began anew",
            (None, None) if self.second.event("nothing_to_do").is_some() => "nothing was left",
            (Some(_), None) if undone => "undone at once",
            (_, None) => "next run began anew",
        }
    }

    /// The one line that says why the first run failed.
    pub fn message(&self) -> String {
        message(&self.first)
    }
}

/// The one line that says why a run failed; nothing where it did not.
pub fn message(run: &Run) -> String {
    let failed = run.event("failed");
    let message = failed.and_then(|event| event["message"].as_str());
    message.unwrap_or_default().to_owned()
}

/// Whether it was undone: where the traffic was taken back, the old version answers after the new one, and has to.
pub fn went_back(run: &Run) -> bool {
    run.event("undoing").is_some()
}

/// The calls of a rollout to `version` in which nothing fails, in their order.
pub async fn calls_of(stack: &mut Stack, version: &str, arguments: &[&str]) -> Vec<Call> {
    let engine = Faulty::start(None).await;
    stack.tag(version);
    let host = engine.docker_host();
    let run = stack.start_rollout_with(arguments, &[("DOCKER_HOST", &host)]);
    run.wait().await.code(0);
    engine.calls()
}

/// Rolls to `version` with one fault, and then without.
pub async fn strike(
    stack: &mut Stack,
    (version, replicas): (&str, usize),
    arguments: &[&str],
    (call, fault): (&Call, Fault),
) -> Struck {
    let before = stack.version().await.unwrap_or_default();
    let load = Load::start(LoadOptions {
        max_duration: Duration::from_secs(400),
        ..stack.load_options()
    });
    let engine = Faulty::start(Some((call.clone(), fault))).await;
    stack.tag(version);
    let host = engine.docker_host();
    let began = Instant::now();
    let running = stack.start_rollout_with(arguments, &[("DOCKER_HOST", &host)]);
    engine.kills(running.pid());
    let first = running.wait().await;
    let first_took = began.elapsed();
    let serves = stack.version().await.unwrap_or_default();
    let mut complaints = fits(&first, fault.kills(), &serves, (&before, version));
    if first_took > LONGEST {
        complaints.push(format!("it took {first_took:.0?}"));
    }
    let second = stack.rollout(arguments).await;
    let report = load.stop().await;
    if second.code != Some(0) {
        complaints.push(format!("the next run: {:?} {}", second.code, second.text));
    }
    if report.failed > 0 {
        complaints.push(format!("{} failed: {:?}", report.failed, report.errors));
    }
    if report.mixed > 0 && !went_back(&first) && !went_back(&second) {
        complaints.push(format!("{} mixed", report.mixed));
    }
    complaints.extend(leftovers(stack, version, replicas).await);
    Struck {
        reached: engine.struck(),
        first,
        first_took,
        second,
        report,
        complaints,
    }
}

/// Each of these in its turn on one stack: it comes, and nothing is lost or left.
pub async fn strikes(points: &[(&str, Fault)]) {
    let mut stack = Stack::relabelled("");
    stack.up("v1").await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for (shape, fault) in points {
        let (call, to) = (Call::new(shape, 1), (*versions.next().unwrap(), 1));
        let struck = strike(&mut stack, to, &QUICK, (&call, *fault)).await;
        let words = fault.words();
        assert!(struck.reached, "{call} did not come: {}", struck.first.text);
        let complaints = struck.complaints.join("\n");
        assert!(complaints.is_empty(), "{words} {call}: {complaints}");
        assert_eq!(struck.report.failed, 0, "{words} {call}: {}", struck.report);
    }
}

/// How a run ended, and what it said, has to fit what serves now.
pub fn fits(run: &Run, may_die: bool, serves: &str, (before, wanted): (&str, &str)) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut want = |is: bool, what: String| {
        if !is {
            complaints.push(what);
        }
    };
    match run.code {
        None => want(may_die, "it died".to_owned()),
        Some(0) => want(serves == wanted, format!("0, but {serves:?} serves")),
        // Another's change, and reported as such.
        Some(1) if run.text.contains("another command started") => {}
        Some(code @ (1 | 2)) => want(serves == before, format!("{code}, but {serves:?} serves")),
        Some(3) => want(!serves.is_empty(), "nothing serves".to_owned()),
        code => want(false, format!("{code:?}")),
    }
    let reported = run
        .text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    match run.code {
        None | Some(0) => want(reported == 0 || run.code.is_none(), run.text.clone()),
        Some(_) => {
            want(reported == 1, format!("{reported} errors: {}", run.text));
            want(
                run.text.contains("next: "),
                format!("no way on: {}", run.text),
            );
        }
    }
    complaints
}

/// The service has to be as Compose would have made it, and nothing of a rollout may be there any more.
pub async fn leftovers(stack: &Stack, version: &str, replicas: usize) -> Vec<String> {
    let settled = async {
        stack.answers(version).await;
        stack.settled(replicas).await;
    };
    // What the socket proxy says of a health that Docker does not know yet goes by itself.
    let claims = eventually("no claim is left", GONE, async || {
        match stack.claims().await {
            0 => Ok(()),
            claims => Err(claims),
        }
    });
    // One that removes itself is gone within seconds.
    let containers = eventually("no container of a rollout is left", GONE, async || {
        let left = own_containers(stack).await;
        left.is_empty().then_some(()).ok_or(left)
    });
    let mut left = Vec::new();
    left.extend(complaint(settled).await);
    left.extend(complaint(claims).await);
    left.extend(complaint(containers).await);
    left
}

/// What a check that fails says: a table with one point that failed says more than no table.
async fn complaint(check: impl Future<Output = ()>) -> Option<String> {
    let panic = AssertUnwindSafe(check).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| "it is not settled".to_owned()))
}

/// Containers of rollouts that nothing needs any more, as far as they are this stack's.
async fn own_containers(stack: &Stack) -> String {
    let line = format!(
        "docker ps -a --filter volume={}-state --format '{{{{.Names}}}}'; \
         docker ps -a --no-trunc --filter label=io.rollout.role=helper \
         --format '{{{{.ID}}}} {{{{.Label \"io.rollout.helps\"}}}}' | while read helper replica; do \
         docker inspect --format '{{{{index .Config.Labels \"com.docker.compose.project\"}}}}' $replica 2>/dev/null \
         | grep -v -x '{0}' >/dev/null || echo helper $helper of $replica; done; true",
        stack.name
    );
    stack.shell(&line).await.trim().replace('\n', ", ")
}

/// The engine answers through the socket as it does without.
#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_engine_without_a_fault_passes_everything_on_and_notes_it() {
    let engine = Faulty::start(None).await;
    let upstream = Upstream::new(&engine.docker_host());
    let (status, body) = upstream.get("/v1.41/version").await.unwrap();
    assert!(status.is_success() && body.starts_with(b"{"), "{status}");
    let ping = hyper::Request::head("/_ping").body(empty()).unwrap();
    assert!(upstream.send(ping).await.unwrap().status().is_success());
    let calls = engine.calls();
    assert_eq!(
        calls,
        [Call::new("GET /version", 1), Call::new("HEAD /_ping", 1)]
    );
}
