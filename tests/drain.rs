//! What an old replica still has to answer when the traffic moves, through the real Traefik.

pub mod client;

use std::time::{Duration, Instant};

use serde_json::Value;

use client::{Answer, Echo, Flow, Trickle, ask};
use testbed::{Load, LoadOptions, Run, Running, Stack, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// A drain that waits for silence ends by its timeout with these. One that ends with `answered` has not waited for it.
const NO_SILENCE: [&str; 7] = [
    "--proxy",
    "traefik",
    "--drain-quiet",
    "10m",
    "--drain-timeout",
    "60s",
    "web",
];

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

/// Ends as rolled out as it can be, with nothing lost. The application ends at once at SIGTERM, so that a drain which
/// ends too early breaks the answers that are under way.
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

#[tokio::test(flavor = "multi_thread")]
async fn silent_requests_of_three_and_eight_seconds_are_answered_and_the_drain_ends_after_the_last()
{
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let mut run = stack.start_rollout(&NO_SILENCE);
    run.reaches("step_finished", "create").await;
    let trickle = Trickle::start(stack.port, &["/?wait=3s", "/?wait=8s"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop().await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    for path in ["/?wait=3s", "/?wait=8s"] {
        let across = answers
            .iter()
            .filter(|answer| answer.path == path && answer.version == "v1" && answer.at > cutover);
        assert!(across.count() > 0, "no {path} was under way at the cutover");
    }
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "answered");
}

async fn drains_without_a_wait_for_silence(mut stack: Stack, load: Option<LoadOptions>) -> Run {
    stack.up("v1").await;
    let load = load.map(|options| {
        Load::start(LoadOptions {
            addr: stack.load_options().addr,
            ..options
        })
    });
    stack.tag("v2");
    let run = stack.start_rollout(&NO_SILENCE);
    let run = ends_well(&stack, run, load, 1).await;
    assert_eq!(how(&run), "answered");
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_in_flight_the_drain_waits_for_no_answer_and_for_no_silence() {
    let run = drains_without_a_wait_for_silence(Stack::usual(""), None).await;
    assert_eq!(run.event("draining"), None, "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_busy_with_quick_answers_until_the_cutover_are_drained_without_a_wait_for_silence()
 {
    let load = LoadOptions {
        connections: 16,
        rate_per_second: 500,
        ..LoadOptions::default()
    };
    drains_without_a_wait_for_silence(Stack::usual(""), Some(load)).await;
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
    drains_without_a_wait_for_silence(stack, Some(LoadOptions::default())).await;
}

/// Each of these chunked answers has all its chunks, and the old version gave some of them after the cutover.
#[track_caller]
fn whole_across_the_cutover(answers: &[Answer], chunks: usize, cutover: Instant) {
    for answer in answers {
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(
            (answer.status, text.lines().count()),
            (200, chunks),
            "{text}"
        );
    }
    let across = |answer: &Answer| answer.version == "v1" && answer.at > cutover;
    assert!(
        answers.iter().any(across),
        "none was under way at the cutover"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_answers_that_pause_arrive_whole_wherever_they_began() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let trickle = Trickle::start(stack.port, &["/chunks?n=7&pause=1500ms"]);
    // What began before the watch may end with its silence.
    let options = ["--proxy", "traefik", "--drain-timeout", "60s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop().await.unwrap();
    whole_across_the_cutover(&answers, 7, cutover);
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "answered");
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
    let answers = trickle.stop().await.unwrap();
    whole_across_the_cutover(&answers, 4, cutover);
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_h2c_streams_the_silent_one_is_answered_too() {
    let h2c = "traefik.http.services.web.loadbalancer.server.scheme: h2c";
    let mut stack = labelled(&[h2c], "");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    // The connection was there before the watch: its silence may have to do.
    let options = ["--proxy", "traefik", "--drain-timeout", "60s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("step_finished", "create").await;
    let trickle = Trickle::start(stack.port, &["/", "/?wait=4s"]);
    run.reaches("confirmed", "").await;
    let cutover = Instant::now();
    let answers = trickle.stop().await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let old: Vec<_> = answers
        .iter()
        .filter(|answer| answer.version == "v1")
        .collect();
    assert!(old.iter().any(|answer| answer.path == "/"));
    let silent = |answer: &&Answer| answer.path != "/" && answer.at > cutover;
    assert!(old.iter().any(silent), "none was silent across the cutover");
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_websocket_holds_the_drain_no_longer_than_the_quiet_time() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let _early = Echo::open(stack.port).await;
    let quiet = ["--drain-quiet", "2s", "--drain-timeout", "60s"];
    let options = [&["--proxy", "traefik"], &quiet[..], &["web"]].concat();
    let mut run = stack.start_rollout(&options);
    run.reaches("step_finished", "create").await;
    let _late = Echo::open(stack.port).await;
    run.reaches("step_started", "drain").await;
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_keeps_moving_holds_the_drain_until_its_timeout_and_the_report_says_so() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let early = Echo::open(stack.port).await.keep_talking();
    let options = ["--proxy", "traefik", "--drain-timeout", "3s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("draining", "").await;
    assert!(!early.is_finished(), "the WebSocket was cut too early");
    let run = ends_well(&stack, run, None, 1).await;
    assert_eq!(how(&run), "timed_out");
    let draining = run.event("draining").unwrap();
    let counted = ["streaming", "unanswered"].map(|key| draining[key].as_u64().unwrap());
    assert!(counted.iter().any(|count| *count > 0), "{draining}");
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    let took = run.ms("drain");
    assert!(took >= 3_000, "{took} ms");
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
    run.reaches("draining", "").await;
    assert!(!lost.is_finished(), "the request must be under way");
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "timed_out");
    assert!(run.text.contains("--drain-timeout"), "{}", run.text);
    let took = run.ms("drain");
    assert!(took >= 2_000, "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_under_way_at_the_cutover_complete_wherever_they_began() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let (flow, early_ends) = Flow::new();
    let early = flow.upload(stack.port);
    let mut run = stack.start_rollout(&NO_SILENCE);
    run.reaches("step_finished", "create").await;
    let (flow, late_ends) = Flow::new();
    let late = flow.upload(stack.port);
    run.reaches("draining", "").await;
    tokio::time::sleep(2 * SECOND).await;
    assert!(!is_drained(&run), "an upload was under way");
    early_ends.send(()).unwrap();
    late_ends.send(()).unwrap();
    for upload in [early, late] {
        let (answer, sent) = upload.await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.version.as_str()), (200, "v1"));
        assert!(text.contains(&format!("received={sent}\n")), "{text}");
    }
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "answered");
}

/// Whether the drain has ended so far.
fn is_drained(run: &Running) -> bool {
    run.events().iter().any(|event| event["event"] == "drained")
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
    let counting = |text: &&str| text.contains("counting its network traffic");
    assert!(run.notices().iter().any(counting), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_begins_after_the_settle_that_was_asked_for() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "--settle", "3s", "web"]);
    let run = ends_well(&stack, run, None, 1).await;
    // It counts from the confirmation, so that the step itself may take less; by default it is 250 ms.
    let took = run.ms("drain");
    assert!(took >= 1_500, "{took} ms");
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
    // It counts from the confirmation, so that the step itself may take less; by default it is 250 ms.
    let took = run.ms("drain");
    assert!(took >= 2_500, "{took} ms");
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
    for old in &olds {
        eventually("no helper is left", 30 * SECOND, async || {
            let helpers = stack.helpers(&old.id).await;
            helpers.is_empty().then_some(()).ok_or(helpers)
        })
        .await;
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
    let more = "    environment: { STOP: ignore }\n    stop_grace_period: 1s\n";
    let mut stack = Stack::usual(more);
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.start_rollout(&["--proxy", "traefik", "web"]);
    let run = ends_well(&stack, run, Some(load), 1).await;
    // The engine's own grace period is 10 s.
    let took = run.ms("stop");
    assert!((900..10_000).contains(&took), "{took} ms");
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
    let lost = |text: &&str| text.contains("its unanswered requests are lost");
    assert!(run.notices().iter().any(lost), "{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_download_under_way_at_the_cutover_completes() {
    const SIZE: usize = 96 << 20;
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    // Where packets were dropped, silence settles it.
    let options = ["--proxy", "traefik", "--drain-timeout", "60s", "web"];
    let mut run = stack.start_rollout(&options);
    run.reaches("step_finished", "create").await;
    let (flow, go_on) = Flow::new();
    let download = flow.download(stack.port, SIZE);
    run.reaches("draining", "").await;
    tokio::time::sleep(2 * SECOND).await;
    assert!(!is_drained(&run), "the download was under way");
    go_on.send(()).unwrap();
    let answer = download.await.unwrap();
    assert_eq!((answer.version.as_str(), answer.body.len()), ("v1", SIZE));
    let run = ends_well(&stack, run, Some(load), 1).await;
    assert_eq!(how(&run), "answered");
}
