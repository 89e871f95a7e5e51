//! One command on several hosts, wave by wave.

mod engines;

use testbed::{Stack, free_port};

use crate::bad_input::refused;

/// The testbed's first engine, as an option names it.
pub fn here() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    match host.is_empty() {
        true => "unix:///var/run/docker.sock".to_owned(),
        false => host,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_named_and_no_host_is_touched() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let before = stack.replicas("web").await;
    let closed = format!("tcp://127.0.0.1:{}", free_port());
    let here = here();
    let second = format!("2={closed}");
    let run = stack
        .rollout(&["--on", &here, "--on", &second, "web"])
        .await;
    let error = format!("the Docker engine at {closed} does not answer: ");
    assert!(run.failure().starts_with(&error), "{}", run.text);
    run.code(2);
    assert_eq!(stack.replicas("web").await, before);

    // Of one host it is the option of Docker.
    stack.rollout(&["--on", &here, "web"]).await.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    let run = stack
        .rollout(&["status", "--on", &here, "--on", &closed])
        .await;
    let error = "this command works on one host at a time, and there are 2";
    refused(&run, error, &format!("--on {closed}"));
    let hosts = format!("x-rollout: {{ hosts: ['{here}', '2={closed}'] }}\n");
    let compose = std::fs::read_to_string(stack.path("compose.yaml")).unwrap();
    stack.write("compose.yaml", &format!("{compose}{hosts}"));
    refused(&stack.rollout(&["undo", "web"]).await, error, &closed);
    let twice = ["--on", &here, "--on", &here, "web"];
    let run = stack.rollout(&twice).await;
    refused(&run, &format!("the host {here} is named twice"), "one wave");
    stack.rollout(&["status", "--on", &here]).await.code(0);
}
