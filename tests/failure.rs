//! Rollouts that fail before or at the cutover: the old version is whole, answers, and the report says what to do.

use std::time::Duration;

use nix::sys::signal::Signal;

use testbed::{Container, LoadOptions, LoadReport, Run, Stack, USUAL};

/// Nothing failed, and this version alone answered.
#[track_caller]
fn only(report: &LoadReport, version: &str, text: &str) {
    assert!(
        report.requests > 0 && report.failed == 0,
        "{report}\n{text}"
    );
    let answered: Vec<&str> = report
        .first_answers
        .iter()
        .map(|(version, _)| version.as_str())
        .collect();
    assert_eq!(answered, [version], "{text}");
}

/// The same containers in the same life as before, nothing else, and nothing that a rollout leaves behind.
async fn untouched(stack: &Stack, before: &[Container]) {
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
    assert_eq!(stack.claims().await, 0);
}

/// Rolls from v1 to a version that cannot run, under load.
async fn leaves_the_old_alone(mut stack: Stack, tag: &str, says: &str, logs: &str) -> Run {
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag(tag);
    let run = stack
        .rollout(&["--proxy", "traefik", "--timeout", "5", "web"])
        .await;
    let report = load.stop().await;
    run.code(1);
    only(&report, "v1", &run.text);
    untouched(&stack, &before).await;
    for wanted in [says, logs, "the old version serves", "next: "] {
        assert!(run.text.contains(wanted), "no {wanted:?} in\n{}", run.text);
    }
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_gets_healthy_leaves_the_old_one_alone() {
    let stack = Stack::usual("");
    let run = leaves_the_old_alone(stack, "broken", "is unhealthy", "demo-app v2: starting").await;
    assert!(run.text.contains("rollout web"), "{}", run.text);
    let message = run.failure();
    assert!(message.starts_with("new replica "), "{message}");
    assert!(
        message.contains("health check: unhealthy: answered HTTP/1.1 503"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_healthy_in_time_leaves_the_old_one_alone() {
    // Docker itself would call it unhealthy only after a start period of 15 s.
    let mut stack = Stack::usual("    environment: { START_DELAY: \"${DELAY:-0}\" }\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2").set("DELAY", 12);
    let run = stack.rollout(&["--timeout", "5", "web"]).await;
    let report = load.stop().await;
    run.code(1);
    only(&report, "v1", &run.text);
    untouched(&stack, &before).await;
    assert!(
        run.text.contains("did not become ready in time"),
        "{}",
        run.text
    );
    assert!(run.text.contains("demo-app v2: starting"), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_on_start_leaves_the_old_one_alone() {
    leaves_the_old_alone(
        Stack::usual(""),
        "crash",
        "exited",
        "fatal: the setting 'GREETING' is missing",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_and_is_restarted_for_ever_leaves_the_old_one_alone() {
    leaves_the_old_alone(
        Stack::usual("    restart: always\n"),
        "crash",
        "crashed",
        "fatal: the setting 'GREETING' is missing",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_gets_healthy_and_crashes_after_two_seconds_leaves_the_old_one_alone() {
    let mut stack = Stack::usual("");
    stack.set("ROLLOUT_STABLE", "3s");
    leaves_the_old_alone(
        stack,
        "crash2",
        "exited",
        "fatal: the setting 'GREETING' is missing",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_check_that_crashes_after_two_seconds_leaves_the_old_one_alone() {
    let mut stack = Stack::usual("    scale: 3\n");
    stack.set("ROLLOUT_STABLE", "3s");
    leaves_the_old_alone(
        stack,
        "crash2-plain",
        "exited",
        "fatal: the setting 'GREETING' is missing",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_touches_nothing() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("no-such-tag");
    // Why there is none, a registry says in its own words.
    for (arguments, said) in [
        (&["web"][..], "could not pull the image of web: "),
        (
            &["--pull", "never", "web"],
            "there is no image rollout-demo:no-such-tag",
        ),
    ] {
        let run = stack.rollout(arguments).await;
        run.code(2);
        assert!(run.event("undoing").is_none(), "{}", run.text);
        let message = run.failure();
        assert!(message.starts_with(said), "{message}");
        assert_eq!(run.text.matches(message).count(), 1, "{}", run.text);
        assert!(run.text.contains("next: "), "{}", run.text);
        untouched(&stack, &before).await;
    }
    only(&load.stop().await, "v1", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_that_traefik_does_not_confirm_is_taken_back() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    // A middleware that does not exist disables the router as soon as the new version is live.
    let disabled = USUAL.replace(
        "    networks:",
        "      traefik.http.routers.web.middlewares: nowhere\n    networks:",
    );
    stack.write("compose.yaml", &format!("services:\n  web:\n{disabled}"));
    stack.tag("v2");
    // It is taken back long before the timeout: what waited for that would not end here.
    let options = ["--proxy", "traefik", "--confirm-timeout", "10m", "web"];
    let run = stack.rollout(&options).await;
    run.code(1);
    assert!(
        run.event("confirmed")
            .is_some_and(|event| event["side"] == "old"),
        "{}",
        run.text
    );
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(
        undoing.contains("router web is disabled") && undoing.contains("nowhere"),
        "{}",
        run.text
    );
    assert!(run.text.contains("the old version serves"), "{}", run.text);
    let load = stack.load();
    load.goes_on_for(100).await;
    only(&load.stop().await, "v1", &run.text);
    untouched(&stack, &before).await;
}

/// Traefik goes away before the confirmation, and comes back when the run has ended.
async fn traefik_goes_away(mut stack: Stack, away: &str, back: &str) {
    stack.set("ROLLOUT_STABLE", "3s").up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let mut running =
        stack.start_rollout(&["--proxy", "traefik", "--confirm-timeout", "3s", "web"]);
    running.reaches("step_started", "ready").await;
    stack.compose(&[away, "traefik"]).await;
    let run = running.wait().await;
    run.code(3);
    let both = stack.replicas("web").await;
    assert_eq!(both.len(), 2, "{both:?}\n{}", run.text);
    assert!(both.iter().all(|own| own.status == "running"), "{both:?}");
    assert!(both.contains(&before[0]), "{both:?}");
    assert!(run.text.contains("next: "), "{}", run.text);
    stack.compose(&[back, "traefik"]).await;
    stack.answers("v1").await;
    let load = stack.load();
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(run.event("unfinished").unwrap()["forward"], false);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_is_stopped_before_the_confirmation_leaves_both_up_for_the_next_run() {
    traefik_goes_away(Stack::usual(""), "stop", "start").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_is_paused_before_the_confirmation_leaves_both_up_for_the_next_run() {
    traefik_goes_away(Stack::usual(""), "pause", "unpause").await;
}

/// The socket proxy dies and comes back during a step, and the rollout goes on.
async fn survives_a_restart_of_the_socket_proxy(mut stack: Stack, step: &str) {
    stack.set("ROLLOUT_STABLE", "3s").up("v1").await;
    let load = stack.load_with_slow_requests();
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("step_started", step).await;
    stack.compose(&["kill", "socket-proxy"]).await;
    stack.compose(&["start", "socket-proxy"]).await;
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_that_is_told_to_restart_at_any_step_loses_nothing() {
    let mut stack = Stack::relabelled("");
    stack.set("ROLLOUT_STABLE", "3s").up("v1").await;
    for (version, step) in [("v2", "ready"), ("v1", "confirm"), ("v2", "drain")] {
        let load = stack.load_with_slow_requests();
        stack.tag(version);
        let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
        running.reaches("step_started", step).await;
        stack.compose(&["restart", "socket-proxy"]).await;
        let run = running.wait().await;
        let report = load.stop().await;
        run.code(0);
        assert!(report.nothing_lost(), "{step}: {report}\n{}", run.text);
        stack.answers(version).await;
    }
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_that_restarts_while_the_new_version_starts_loses_nothing() {
    survives_a_restart_of_the_socket_proxy(Stack::relabelled(""), "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_that_restarts_during_the_drain_loses_nothing() {
    survives_a_restart_of_the_socket_proxy(Stack::relabelled(""), "drain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_or_a_lost_session_while_the_new_version_starts_goes_back() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.tag("v2");
    // `timeout -s INT` signals twice within milliseconds, and a lost session is a hangup.
    let twice = [Signal::SIGINT, Signal::SIGINT];
    for (step, signals) in [
        ("create", &twice[..1]),
        ("ready", &twice),
        ("ready", &[Signal::SIGHUP]),
    ] {
        let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
        running.reaches("step_started", step).await;
        for signal in signals {
            running.signal(*signal);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let run = running.wait().await;
        run.code(130);
        let mut lines = run.text.lines().rev();
        assert_eq!(lines.next(), Some("next: rollout web"), "{}", run.text);
        let error = lines.next().unwrap_or_default();
        assert!(error.contains("the old version serves"), "{}", run.text);
        untouched(&stack, &before).await;
    }
    only(&load.stop().await, "v1", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_after_the_confirmed_cutover_finishes_forward_and_says_so() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load_with_slow_requests();
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("step_started", "drain").await;
    running.signal(Signal::SIGINT);
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(
        run.text.contains("the new version is already live"),
        "{}",
        run.text
    );
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_leaves_at_once_and_the_next_run_settles_it() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let load = stack.load_with_slow_requests();
    stack.tag("v2");
    let mut running = stack.start_rollout(&["--proxy", "traefik", "web"]);
    running.reaches("step_started", "drain").await;
    running.signal(Signal::SIGINT);
    running.says("interrupted").await;
    // Within a second it is the same Ctrl-C.
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.signal(Signal::SIGINT);
    let run = running.wait().await;
    run.code(130);
    assert!(run.event("finished").is_none(), "{}", run.text);
    assert!(
        run.text
            .lines()
            .last()
            .unwrap_or_default()
            .contains("run the same command again"),
        "{}",
        run.text
    );
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_fails_leaves_nothing_behind() {
    let mut stack = Stack::usual("");
    stack.compose(&["up", "-d", "traefik"]).await;
    stack.traefik_listens().await;
    stack.tag("crash");
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    run.code(1);
    assert!(
        run.text.contains("nothing was running before"),
        "{}",
        run.text
    );
    untouched(&stack, &[]).await;
}

trait SlowLoad {
    fn load_with_slow_requests(&self) -> testbed::load::Load;
}

impl SlowLoad for Stack {
    /// Requests of 3 s are always under way, so that a drain takes its time.
    fn load_with_slow_requests(&self) -> testbed::load::Load {
        testbed::load::Load::start(LoadOptions {
            slow_requests: Some(Duration::from_secs(3)),
            ..self.load_options()
        })
    }
}

/// A label that Traefik does not have, so that it leaves the service out.
const LEFT_OUT: &str = "      traefik.http.routers.web.prio: \"5\"\n";

fn web(more: &str) -> String {
    USUAL.replace("    networks:", &format!("{more}    networks:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_traefik_never_served_is_no_way_back_to_wait_for() {
    let mut stack = Stack::new(&web(LEFT_OUT));
    stack.compose(&["up", "-d", "--wait", "web"]).await;
    stack.front_up().await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    run.code(1);
    assert!(
        run.text.contains("traefik.http.routers.web.prio"),
        "{}",
        run.text
    );
    assert!(!run.text.contains("old version serves"), "{}", run.text);
    untouched(&stack, &before).await;

    // Nor for the command that settles what a run has left after its cutover.
    let mut running = stack.start_rollout(&["web"]);
    running.reaches("step_started", "confirm").await;
    running.kill().await;
    stack.rollout(&["abort", "web"]).await.code(0);
    untouched(&stack, &before).await;
    let found = stack.rollout(&["doctor", "web"]).await;
    assert!(
        found.code(1).out.contains("traefik.http.routers.web.prio"),
        "{}",
        found.out
    );

    stack.write("compose.yaml", &format!("services:\n  web:\n{}", web("")));
    stack.rollout(&["web"]).await.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled(1).await;
    // What would take the service out again is refused.
    stack.write(
        "compose.yaml",
        &format!("services:\n  web:\n{}", web(LEFT_OUT)),
    );
    let load = stack.load();
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(2);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
}
