//! Stacks whose Traefik or socket proxy makes an atomic cutover impossible, or is itself what should be rolled.

use super::{refused, whole};
use testbed::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rollout_itself_goes_through_is_not_rolled() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    let error = format!(
        "{}-traefik-1 is the Traefik that a rollout goes through",
        stack.name
    );
    for arguments in [&["traefik"][..], &["web", "traefik"]] {
        refused(
            &stack.rollout(arguments).await,
            &error,
            "docker compose up -d",
        );
    }
    let error = format!(
        "{}-socket-proxy-1 is the socket proxy that a rollout goes through",
        stack.name
    );
    refused(
        &stack.rollout(&["up", "socket-proxy"]).await,
        &error,
        "docker compose up -d",
    );
    for (url, error) in [
        (
            "traefik:8080",
            "\"traefik:8080\" is no Traefik API URL: it is neither http nor https",
        ),
        (
            "nonsense",
            "\"nonsense\" is no Traefik API URL: relative URL without a base",
        ),
    ] {
        let run = stack.rollout(&["--traefik-url", url, "web"]).await;
        refused(&run, error, "--traefik-url http://127.0.0.1:8080");
    }
    let run = stack
        .rollout(&["--traefik-url", "http://127.0.0.1:1", "web"])
        .await;
    run.code(2);
    let message = run.failure().to_owned();
    assert!(message.contains("127.0.0.1:1"), "{message}");
    refused(&run, &message, "--traefik-url");
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_has_stopped_reads_nothing() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.compose(&["stop", "traefik"]).await;
    stack.tag("v2");
    let before = whole(&stack).await;
    let error = format!(
        "no Traefik in front of web is connected to the socket proxy {}-socket-proxy-1",
        stack.name
    );
    refused(&stack.rollout(&["web"]).await, &error, "DOCKER_HOST");
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_mounts_the_socket_itself_is_told_what_to_add() {
    let traefik = "  traefik: { environment: { DOCKER_HOST: 'unix:///var/run/docker.sock' }, \
                   volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro'] }\n";
    let mut stack = Stack::usual(traefik);
    stack.up("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    let run = stack.rollout(&["web"]).await;
    let error = format!(
        "{}-traefik-1 is a Traefik that does not read through a socket proxy",
        stack.name
    );
    refused(&run, &error, "DOCKER_HOST: \"tcp://socket-proxy:2375\"");
    for line in [
        "          image: rollout:latest\n          command: [socket-proxy, --only=traefik.enable=true]\n",
        "          cap_drop: [ALL]\n",
        "rollout init --write",
        "--allow-split",
    ] {
        assert!(run.text.contains(line), "{}", run.text);
    }
    // The API is on already, and may be guarded.
    assert!(!run.text.contains("--api.insecure"), "{}", run.text);
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_whose_api_is_off_is_told_what_to_add() {
    let traefik = "  traefik:\n    command:\n      - --providers.docker.exposedbydefault=false\n      - \
                   --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)\n      \
                   - --entrypoints.web.address=:80\n";
    let mut stack = Stack::usual(traefik);
    stack.up("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    let run = stack.rollout(&["web"]).await;
    let error = format!("the API of Traefik ({}-traefik-1) is off", stack.name);
    refused(&run, &error, "add --api.insecure=true to Traefik's command");
    assert_eq!(whole(&stack).await, before);
}
