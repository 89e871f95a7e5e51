//! A new replica that is slow, bound to the wrong address, or answers with an error.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::helper::Helper;
use testbed::Replica;

/// What the helper reports of a replica that starts.
#[derive(Clone, Debug, Deserialize)]
struct Readiness {
    listening: Vec<u16>,
    loopback_only: Vec<u16>,
    answers: bool,
    detail: String,
}

async fn until(helper: &mut Helper, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
    let found = timeout(Duration::from_secs(10), async {
        loop {
            let readiness = helper.line().await;
            if wanted(&readiness) {
                return readiness;
            }
        }
    });
    found.await.expect("a line in time")
}

#[tokio::test]
async fn an_application_that_takes_its_time_answers_once_it_listens() {
    let replica = Replica::create("rollout-demo:v1", &["START_DELAY", "1"]);
    let mut probe = Helper::start(&replica, &["probe", "--port", "80"]).await;
    let first: Readiness = probe.line().await;
    assert_eq!(first.detail, "port 80 is not open yet");
    let last = until(&mut probe, |readiness| readiness.answers).await;
    assert_eq!(last.detail, "port 80 accepts connections");
    assert_eq!((last.listening, last.loopback_only), (vec![80], vec![]));
}

#[tokio::test]
async fn an_application_that_is_bound_to_loopback_is_told_so() {
    let replica = Replica::create("rollout-demo:v1", &["BIND", "127.0.0.1"]);
    let mut probe = Helper::start(&replica, &["probe", "--port", "80"]).await;
    let found = until(&mut probe, |readiness| !readiness.loopback_only.is_empty()).await;
    assert_eq!((found.loopback_only, found.answers), (vec![80], false));
    assert!(found.detail.contains("0.0.0.0"), "{}", found.detail);
}

#[tokio::test]
async fn a_path_is_asked_for_and_its_status_decides() {
    let replica = Replica::start(&["UNHEALTHY", "1"]).await;
    let mut probe = Helper::start(&replica, &["probe", "--port", "80", "--http", "/health"]).await;
    let refused = until(&mut probe, |readiness| readiness.detail.contains("503")).await;
    assert!(!refused.answers);
    let mut probe = Helper::start(&replica, &["probe", "--port", "80", "--http", "/other"]).await;
    let answered = until(&mut probe, |readiness| readiness.answers).await;
    assert_eq!(answered.detail, "port 80 answers GET /other with 200");
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_is_not_ready() {
    let replica = Replica::start(&[]).await;
    let slow = ["probe", "--port", "80", "--http", "/?wait=5s"];
    let mut probe = Helper::start(&replica, &slow).await;
    let refused = until(&mut probe, |readiness| readiness.detail.contains("within")).await;
    assert_eq!((refused.answers, refused.listening), (false, vec![80]));
}

#[tokio::test]
async fn without_a_port_the_first_that_opens_is_tried() {
    let replica = Replica::create("rollout-demo:v1", &["PORT", "8123"]);
    let mut probe = Helper::start(&replica, &["probe"]).await;
    let found = until(&mut probe, |readiness| readiness.answers).await;
    assert_eq!(found.listening, [8123]);
    assert_eq!(found.detail, "port 8123 accepts connections");
}
