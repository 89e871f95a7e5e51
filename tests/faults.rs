//! A call to the engine that fails in the middle of a rollout, or something that is done to the stack: a fixed handful of
//! what `make soak` does at every call and in every phase.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    crash::killed_in_each_phase,
    faulty::{
        Call, Fault, Faulty, LATE,
        meddle::{Action, meddle},
        strike::{QUICK, strikes},
    },
};
use testbed::{Run, Stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_or_after_a_container_is_created_is_settled_by_the_next() {
    let create = "compose POST /containers/create";
    let points = [(create, Fault::KilledBefore), (create, Fault::KilledAfter)];
    strikes(&points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_or_after_a_container_is_started_is_settled_by_the_next() {
    let start = "compose POST /containers/{id}/start";
    let points = [(start, Fault::KilledBefore), (start, Fault::KilledAfter)];
    strikes(&points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_or_after_the_cutover_is_written_is_settled_by_the_next() {
    let cutover = "control set cutover";
    let points = [
        (cutover, Fault::KilledBefore),
        (cutover, Fault::KilledAfter),
    ];
    strikes(&points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_or_after_the_last_name_is_given_is_settled_by_the_next() {
    let rename = "POST /containers/{id}/rename";
    let points = [(rename, Fault::KilledBefore), (rename, Fault::KilledAfter)];
    strikes(&points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_three_replicas_killed_around_the_cutover_is_settled_by_the_next_run() {
    let stack = Stack::usual("    scale: 3\n");
    killed_in_each_phase(stack, 3, &["cutover", "drain", "stop"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_or_hangs_up_in_the_middle_costs_no_request() {
    let points = [
        ("compose POST /containers/create", Fault::Refused),
        ("POST /containers/{id}/stop", Fault::Dropped),
    ];
    strikes(&points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_or_never_answers_a_question_costs_no_request() {
    let points = [
        ("GET /containers/{id}/json", Fault::Hangs),
        ("GET /images/json", Fault::NeverAnswers),
    ];
    strikes(&points).await;
}

/// A run to v2 that sleeps, as its machine does, while one of its calls is on its way; another takes its lock and rolls to
/// `version` meanwhile. What both said.
async fn sleeps_at(stack: &mut Stack, call: &str, version: &str) -> (Run, Run) {
    stack.tag("v2");
    let engine = Faulty::start(Some((Call::new(call, 1), Fault::ComesLate))).await;
    let host = engine.docker_host();
    let first = stack.start_rollout_with(&QUICK, &[("DOCKER_HOST", &host)]);
    engine.strikes().await;
    let began = tokio::time::Instant::now();
    first.signal(Signal::SIGSTOP);
    stack.rollout(&["unlock", "--force", "web"]).await.code(0);
    stack.tag(version);
    let force = [&["--force"], &QUICK[..]].concat();
    let second = stack.rollout(&force).await;
    second.code(0);
    tokio::time::sleep_until(began + LATE).await;
    first.signal(Signal::SIGCONT);
    let first = first.wait().await;
    assert_ne!(first.code, Some(0), "{}", first.text);
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_that_comes_late_from_a_run_whose_lock_was_taken_changes_nothing() {
    let mut stack = Stack::relabelled("");
    stack.up("v1").await;
    let load = stack.load();
    let (first, second) = sleeps_at(&mut stack, "control set cutover", "v2").await;
    let report = load.stop().await;
    assert_eq!(second.event("unfinished").unwrap()["forward"], false);
    let texts = format!("{}\n{}", first.text, second.text);
    assert!(report.nothing_lost(), "{report}\n{texts}");
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{texts}");
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_of_a_run_whose_lock_was_taken_gets_no_further_and_no_traffic() {
    let mut stack = Stack::relabelled("");
    stack.up("v1").await;
    let load = stack.load();
    let create = "compose POST /containers/create";
    let (first, second) = sleeps_at(&mut stack, create, "v1").await;
    let next = stack.rollout(&QUICK).await;
    next.code(0);
    let report = load.stop().await;
    let texts = format!("{}\n{}\n{}", first.text, second.text, next.text);
    assert!(report.nothing_lost(), "{report}\n{texts}");
    assert_eq!(report.first_answer_of("v2"), None, "{texts}");
    assert_eq!(stack.version().await.as_deref(), Some("v1"), "{texts}");
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_made_anew_at_the_confirmation_and_a_traefik_restarted_at_the_drain_are_told_of()
 {
    let mut stack = Stack::relabelled("");
    stack.set("ROLLOUT_DRAIN_TIMEOUT", "20s").up("v1").await;
    let points = [
        (("v1", "v2"), Action::RecreateSocketProxy, "confirm"),
        (("v2", "v1"), Action::RestartTraefik, "drain"),
    ];
    for (versions, action, phase) in points {
        let _held = held_request(&stack).await;
        let done = meddle(&mut stack, versions, (action, phase), Duration::ZERO).await;
        let complaints = done.complaints.join("\n");
        assert!(complaints.is_empty(), "{complaints}\n{}", done.first.text);
        assert!(!done.was_over, "{phase}: {}", done.first.text);
    }
}

/// An open request to the old replica itself, past Traefik: the drain lasts until its timeout.
async fn held_request(stack: &Stack) -> TcpStream {
    let old = stack.newest("web").await;
    let address = stack.address(&old).await;
    let mut stream = TcpStream::connect((address, 80)).await.unwrap();
    let request = b"GET /?wait=2m HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream
}
