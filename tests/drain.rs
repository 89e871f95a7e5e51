//! What an old replica still has to answer when the traffic moves, through the real Traefik.

mod client;

use std::time::{Duration, Instant};

use serde_json::Value;

use client::{Answer, Echo, Flow, Trickle, ask};
use testbed::{Load, LoadOptions, Run, Running, Stack};

const SECOND: Duration = Duration::from_secs(1);
/// The default of `--settle`, in milliseconds.
const SETTLE: u64 = 250;
/// What a drain may take beyond what it waits for, in milliseconds; the settle counts from the confirmation, so that it
/// may also take less.
const OVERHEAD: u64 = 300;

/// A service with these labels beside the usual ones, one a line.
fn labelled(labels: &[&str], more: &str) -> Stack {
    let labels: String = labels
        .iter()
        .map(|label| format!("      {label}\n"))
        .collect();
    let web = format!(
        "    image: rollout-demo:${{TAG}}\n    networks: [front]\n    labels:\n      \
         traefik.enable: \"true\"\n      traefik.http.routers.web.rule: Host(`localhost`)\n{labels}{more}"
    );
    Stack::new(&web)
}

/// How the first drain ended.
fn how(run: &Run) -> &Value {
    &run.event("drained").unwrap()["how"]
}

fn notices(run: &Run) -> String {
    let of_kind = |event: &&Value| event["event"] == "notice";
    let texts = run.events.iter().filter(of_kind);
    texts
        .map(|event| event["text"].as_str().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// Waits for the end of the drain; when it was seen.
async fn drained(run: &mut Running) -> Instant {
    run.reaches("drained", "").await;
    Instant::now()
}

/// Ends as rolled out as it can be, with nothing lost.
async fn ends_well(stack: &Stack, run: Running, load: Option<Load>, replicas: usize) -> Run {
    let run = run.wait().await;
    run.code(0);
    if let Some(load) = load {
        let report = load.stop().await;
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
    }
    stack.settled(replicas).await;
    run
}

#[track_caller]
fn right_after(drained: Instant, last: Instant) {
    assert!(
        drained <= last + SECOND,
        "drained {:?} after the last answer",
        drained - last
    );
    // An answer that has left the replica is with the client soon after.
    let early = last.saturating_duration_since(drained);
    assert!(
        early < SECOND / 4,
        "drained {early:?} before the last answer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_requests_of_three_and_eight_seconds_are_answered_and_the_drain_ends_after_the_last()
{
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("step_finished", "create").await;
    let trickle = Trickle::start(stack.port, &["/?wait=3s", "/?wait=8s"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop();
    let drained = drained(&mut run).await;
    let answers = answers.await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    for path in ["/?wait=3s", "/?wait=8s"] {
        let across = answers.iter().filter(|answer| {
            answer.path == path && answer.version == "v1" && answer.at > cutover + SECOND
        });
        assert!(across.count() > 0, "no {path} was under way at the cutover");
    }
    let old = answers.iter().filter(|answer| answer.version == "v1");
    right_after(drained, old.map(|answer| answer.at).max().unwrap());
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "answered");
}

async fn drains_right_after_the_settle(mut stack: Stack, load: Option<LoadOptions>) {
    stack.up("v1").await;
    let load = load.map(|options| {
        Load::start(LoadOptions {
            addr: stack.load_options().addr,
            ..options
        })
    });
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    let run = ends_well(&stack, run, load, 1).await;
    assert_eq!(how(&run), "answered");
    let took = run.ms("drain");
    assert!(took <= SETTLE + OVERHEAD, "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_in_flight_the_drain_ends_right_after_the_settle() {
    drains_right_after_the_settle(Stack::usual(""), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_busy_with_quick_answers_until_the_cutover_are_drained_right_after_the_settle()
{
    let load = LoadOptions {
        connections: 16,
        rate_per_second: 500,
        ..LoadOptions::default()
    };
    drains_right_after_the_settle(Stack::usual(""), Some(load)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_connection_does_not_hold_the_drain() {
    let database = r#"    environment: { DB: "db:5432" }
    depends_on: [db]
  db:
    image: rollout-demo:db
    networks: [front]
"#;
    let stack = Stack::usual(database);
    drains_right_after_the_settle(stack, Some(LoadOptions::default())).await;
}

/// Whether each of these chunked answers has all its chunks; the last answer of the old version, which some of them must
/// have been given after the cutover.
#[track_caller]
fn last_of_whole_answers(answers: &[Answer], chunks: usize, cutover: Instant) -> Instant {
    for answer in answers {
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(
            (answer.status, text.lines().count()),
            (200, chunks),
            "{text}"
        );
    }
    let old = answers.iter().filter(|answer| answer.version == "v1");
    let last = old.map(|answer| answer.at).max().unwrap();
    assert!(last > cutover + SECOND, "none was under way at the cutover");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_answers_that_pause_arrive_whole_wherever_they_began() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let trickle = Trickle::start(stack.port, &["/chunks?n=7&pause=1500ms"]);
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop();
    let drained = drained(&mut run).await;
    let last = last_of_whole_answers(&answers.await.unwrap(), 7, cutover);
    // What began before anybody looked ends with its silence.
    assert!(drained + SECOND / 4 > last && drained < last + 6 * SECOND);
    ends_well(&stack, run, None, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_longer_than_the_quiet_time_is_no_end_of_an_answer_that_was_seen_to_begin() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--proxy", "traefik", "--drain-quiet", "500ms", "web"]);
    run.reaches("step_finished", "create").await;
    let trickle = Trickle::start(stack.port, &["/chunks?n=4&pause=2s"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop();
    let drained = drained(&mut run).await;
    right_after(
        drained,
        last_of_whole_answers(&answers.await.unwrap(), 4, cutover),
    );
    ends_well(&stack, run, None, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_h2c_streams_the_silent_one_is_answered_too() {
    let h2c = "traefik.http.services.web.loadbalancer.server.scheme: h2c";
    let mut stack = labelled(&[h2c], "");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("step_finished", "create").await;
    let trickle = Trickle::start(stack.port, &["/", "/?wait=4s"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop();
    let drained = drained(&mut run).await;
    let answers = answers.await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let old: Vec<_> = answers
        .iter()
        .filter(|answer| answer.version == "v1")
        .collect();
    assert!(old.iter().any(|answer| answer.path == "/"));
    let last = old.iter().map(|answer| answer.at).max().unwrap();
    assert!(
        last > cutover + 2 * SECOND,
        "none was silent across the cutover"
    );
    // The connection was there before anybody looked: its silence may have to do.
    assert!(drained + SECOND / 4 > last && drained < last + 6 * SECOND);
    ends_well(&stack, run, Some(load), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_websocket_holds_the_drain_no_longer_than_the_quiet_time() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let _early = Echo::open(stack.port).await;
    let mut run = stack.start_rollout(&["--proxy", "traefik", "--drain-quiet", "2s", "web"]);
    run.reaches("step_finished", "create").await;
    let _late = Echo::open(stack.port).await;
    run.reaches("step_started", "drain").await;
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "answered");
    let took = run.ms("drain");
    assert!(took <= SETTLE + 2000 + OVERHEAD, "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_keeps_moving_holds_the_drain_until_its_timeout_and_the_report_says_so() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let early = Echo::open(stack.port).await.keep_talking();
    let options = ["--proxy", "traefik", "--drain-timeout", "3s", "web"];
    let mut run = stack.start_rollout(&options);
    drained(&mut run).await;
    assert!(!early.is_finished(), "the WebSocket was cut too early");
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "timed_out");
    let draining = run.event("draining").unwrap();
    let counted = ["streaming", "unanswered"].map(|key| draining[key].as_u64().unwrap());
    assert!(counted.iter().any(|count| *count > 0), "{draining}");
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    let took = run.ms("drain");
    assert!(
        (3000..=SETTLE + 3000 + OVERHEAD).contains(&took),
        "{took} ms"
    );
    early.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_drain_timeout_is_over_the_report_says_so_and_the_rollout_goes_on() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let options = ["--proxy", "traefik", "--drain-timeout", "2s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("step_finished", "create").await;
    let lost = ask(stack.port, "/?wait=60s");
    drained(&mut run).await;
    assert!(!lost.is_finished(), "the request must be under way");
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "timed_out");
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    let took = run.ms("drain");
    assert!(
        (2000..=SETTLE + 2000 + OVERHEAD).contains(&took),
        "{took} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_under_way_at_the_cutover_complete_wherever_they_began() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let (flow, early_ends) = Flow::new();
    let early = flow.upload(stack.port);
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("step_finished", "create").await;
    let (flow, late_ends) = Flow::new();
    let late = flow.upload(stack.port);
    run.reaches("step_started", "drain").await;
    tokio::time::sleep(2 * SECOND).await;
    early_ends.send(()).unwrap();
    late_ends.send(()).unwrap();
    let drained = drained(&mut run).await;
    let mut last = Instant::now() - 60 * SECOND;
    for upload in [early, late] {
        let (answer, sent) = upload.await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.version.as_str()), (200, "v1"));
        assert!(text.contains(&format!("received={sent}\n")), "{text}");
        last = last.max(answer.at);
    }
    right_after(drained, last);
    ends_well(&stack, run, Some(load), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_helper_can_look_the_network_counters_decide_and_the_report_says_so() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let old = stack.replicas("web").await.remove(0);
    stack.tag("v2");
    let options = ["--proxy", "traefik", "--drain-quiet", "2s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("step_finished", "create").await;
    let helpers = stack.helpers(&old.id).await;
    assert_eq!(helpers.len(), 1);
    stack.docker(&["kill", &helpers[0]]).await;
    let silent = ask(stack.port, "/?wait=3s");
    let answer = silent.await.unwrap();
    assert_eq!((answer.status, answer.version.as_str()), (200, "v1"));
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "quiet");
    let notices = notices(&run);
    assert!(
        notices.contains("counting its network traffic"),
        "{notices}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_begins_after_the_settle_that_was_asked_for() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "--settle", "1500ms", "web"]);
    let run = ends_well(&stack, run, None, 1).await;
    let took = run.ms("drain");
    assert!((1000..=1500 + OVERHEAD).contains(&took), "{took} ms");
}

async fn settles_for_five_seconds(middleware: &str) {
    let labels = [
        "traefik.http.routers.web.middlewares: hold",
        &format!("traefik.http.middlewares.hold.{middleware}"),
    ];
    let auth = "  auth:\n    image: rollout-demo:v1-plain\n    networks: [front]\n";
    let mut stack = labelled(&labels, auth);
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    let run = ends_well(&stack, run, Some(load), 1).await;
    let took = run.ms("drain");
    assert!((4500..=5000 + OVERHEAD).contains(&took), "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_may_try_again_gets_a_longer_settle() {
    settles_for_five_seconds("retry.attempts: \"2\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_buffers_gets_a_longer_settle() {
    settles_for_five_seconds("buffering.maxRequestBodyBytes: \"1000000\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_asks_elsewhere_first_gets_a_longer_settle() {
    settles_for_five_seconds("forwardauth.address: http://auth/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_while_it_drains_leaves_no_helper_and_the_next_one_goes_on() {
    let mut stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    let olds = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("step_finished", "create").await;
    let silent = Trickle::start(stack.port, &["/?wait=8s"]);
    run.reaches("step_started", "drain").await;
    let silent = silent.stop();
    for old in &olds {
        assert_eq!(stack.helpers(&old.id).await.len(), 1);
    }
    run.kill().await;
    let killed = Instant::now();
    for old in &olds {
        while !stack.helpers(&old.id).await.is_empty() {
            assert!(killed.elapsed() < 5 * SECOND, "a helper is left");
            tokio::time::sleep(SECOND / 20).await;
        }
    }
    let run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    ends_well(&stack, run, Some(load), 2).await;
    let answers = silent.await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    for old in &olds {
        assert!(stack.helpers(&old.id).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ignores_its_stop_signal_is_killed_after_its_own_grace_period() {
    let more = "    environment: { STOP: ignore }\n    stop_grace_period: 2s\n";
    let mut stack = Stack::usual(more);
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    let run = ends_well(&stack, run, Some(load), 1).await;
    let took = run.ms("stop");
    assert!((1950..4000).contains(&took), "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_somebody_kills_while_it_answers_is_not_called_drained() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let old = stack.newest("web").await;
    let load = Load::start(LoadOptions {
        slow_requests: Some(3 * SECOND),
        ..stack.load_options()
    });
    assert!(load.seen("v1", 10 * SECOND).await);
    stack.tag("v2");
    let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    run.reaches("step_started", "drain").await;
    run.reaches("draining", "").await;
    stack.docker(&["kill", &old]).await;
    let run = run.wait().await;
    load.stop().await;
    run.code(0);
    assert_eq!(how(&run), "ended", "{}", run.text);
    assert!(
        notices(&run).contains("what it had not answered is lost"),
        "{}",
        run.text
    );
    stack.settled(1).await;
}

/// Run alone, since the download keeps a core busy and its end is timed.
mod alone {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_large_download_under_way_at_the_cutover_completes() {
        const SIZE: usize = 96 << 20;
        let mut stack = Stack::usual("");
        stack.up("v1").await;
        let load = stack.load();
        stack.tag("v2");
        let mut run = stack.start_rollout(&["--proxy", "traefik", "web"]);
        run.reaches("step_finished", "create").await;
        let (flow, go_on) = Flow::new();
        let download = flow.download(stack.port, SIZE);
        run.reaches("step_started", "drain").await;
        tokio::time::sleep(2 * SECOND).await;
        assert!(!run.events().iter().any(|event| event["event"] == "drained"));
        go_on.send(()).unwrap();
        let drained = drained(&mut run).await;
        let answer = download.await.unwrap();
        assert_eq!((answer.version.as_str(), answer.body.len()), ("v1", SIZE));
        assert!(drained < answer.at + SECOND);
        ends_well(&stack, run, Some(load), 1).await;
    }
}
