//! `--strategy recreate`: the old replicas make room, are kept, and run again where the new version does not.

use nix::sys::signal::Signal;

use testbed::{Container, Run, Stack};

const RECREATE: [&str; 3] = ["--strategy", "recreate", "web"];
const UNROUTED: [&str; 5] = ["--proxy", "none", "--strategy", "recreate", "web"];

/// The same containers run again, and nothing that a rollout leaves behind is there.
async fn run_again(stack: &Stack, before: &[Container]) {
    let ids = |all: &[Container]| -> Vec<(String, String)> {
        all.iter()
            .map(|own| (own.id.clone(), own.name.clone()))
            .collect()
    };
    let now = stack.replicas("web").await;
    assert_eq!(ids(&now), ids(before));
    for own in &now {
        let state = stack
            .docker(&["inspect", "-f", "{{.State.Status}}", &own.id])
            .await;
        assert_eq!(state.trim(), "running");
    }
    stack.no_leftovers().await;
    assert_eq!(stack.claims().await, 0);
}

/// A failed rollout tells how long nothing served.
fn reports_the_gap(run: &Run) {
    let failed = run.event("failed").unwrap();
    assert!(failed["gap_ms"].is_u64(), "{failed}");
    let said = "the old version runs again; nothing served for";
    assert!(run.text.contains(said), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_gets_healthy_gives_way_to_the_old_containers_again() {
    let mut stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("broken");
    let run = stack
        .rollout(&[&["--timeout", "5"][..], &RECREATE].concat())
        .await;
    run.code(1);
    for said in [
        "is unhealthy",
        "the old version serves",
        "demo-app v2: starting",
    ] {
        assert!(run.text.contains(said), "no {said:?} in\n{}", run.text);
    }
    assert!(!run.text.contains("may have been lost"), "{}", run.text);
    reports_the_gap(&run);
    run_again(&stack, &before).await;
    assert_eq!(stack.version().await.as_deref(), Some("v1"), "{}", run.text);
    // And without a proxy.
    let run = stack
        .rollout(&[&["--timeout", "5"][..], &UNROUTED].concat())
        .await;
    run.code(1);
    reports_the_gap(&run);
    run_again(&stack, &before).await;
}

/// In each phase of a rollout to the other version it is killed; the next run brings it to its end.
async fn killed_in_each_phase(mut stack: Stack, arguments: &[&str], phases: &[&str]) {
    stack.set("ROLLOUT_STABLE", "200ms").up("v1").await;
    let mut versions = ["v2", "v1"].iter().cycle();
    for phase in phases {
        let version = versions.next().unwrap();
        stack.tag(version);
        let mut running = stack.start_rollout(arguments);
        if *phase == "confirm" {
            // A hold by a pin file is confirmed too.
            running.comes_after("cutover", phase).await;
        } else {
            running.reaches("step_started", phase).await;
        }
        running.kill().await;
        let run = stack.rollout(arguments).await;
        assert_eq!(run.code, Some(0), "{phase}: {}", run.text);
        // Without a proxy nothing waits until Traefik has read what came.
        if arguments.contains(&"none") {
            stack.answers(version).await;
        }
        let now = stack.version().await;
        assert_eq!(now.as_deref(), Some(*version), "{phase}: {}", run.text);
        stack.settled(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_new_version_is_ready_it_begins_anew() {
    let stack = Stack::usual("");
    killed_in_each_phase(stack, &RECREATE, &["hold", "stop", "create", "ready"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_once_the_new_version_is_ready_it_is_finished() {
    let stack = Stack::usual("");
    killed_in_each_phase(
        stack,
        &RECREATE,
        &["cutover", "confirm", "remove", "rename"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_without_a_proxy_it_is_settled_by_what_was_noted_down() {
    let stack = Stack::usual("");
    killed_in_each_phase(stack, &UNROUTED, &["stop", "create", "ready", "remove"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_starts_what_a_killed_run_has_stopped_and_nothing_that_an_operator_has() {
    for arguments in [&RECREATE[..], &UNROUTED] {
        let mut stack = Stack::usual("    scale: 2\n");
        stack.up("v1").await;
        let before = stack.replicas("web").await;
        let stopped = &before[1].id;
        stack.docker(&["stop", "-t", "0", stopped]).await;
        stack.tag("v2");
        let mut running = stack.start_rollout(arguments);
        running.reaches("step_started", "create").await;
        running.kill().await;
        let proxy = if arguments.len() > 3 { "none" } else { "auto" };
        let run = stack.rollout(&["abort", "--proxy", proxy, "web"]).await;
        run.code(0);
        assert!(run.text.contains("the old version serves"), "{}", run.text);
        let again = stack.rollout(&["abort", "--proxy", proxy, "web"]).await;
        assert!(
            again.text.contains("no unfinished rollout"),
            "{}",
            again.text
        );
        for (own, state) in before.iter().zip(["running", "exited"]) {
            let now = stack
                .docker(&["inspect", "-f", "{{.State.Status}}", &own.id])
                .await;
            assert_eq!(now.trim(), state, "{}", run.text);
        }
        stack.no_leftovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_new_version_serves_starts_the_old_one_again() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    for step in ["stop", "ready"] {
        let mut running = stack.start_rollout(&RECREATE);
        running.reaches("step_started", step).await;
        running.signal(Signal::SIGINT);
        let run = running.wait().await;
        run.code(130);
        assert!(run.text.contains("the old version serves"), "{}", run.text);
        reports_the_gap(&run);
        run_again(&stack, &before).await;
        assert_eq!(
            stack.version().await.as_deref(),
            Some("v1"),
            "{step}: {}",
            run.text
        );
    }
}

const ONCE: &str = "    container_name: ${COMPOSE_PROJECT_NAME}-own
    volumes: [/data]
    ports: ['127.0.0.1:${OWN_PORT}:80']
";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_exist_twice_and_the_content_of_volumes_without_a_name_go_over() {
    let mut stack = Stack::usual(ONCE);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    stack.set("OWN_PORT", port).up("v1").await;
    let own = format!("{}-own", stack.name);
    let content = format!("docker cp {own}:/data/kept - | tar -xO");
    stack.write("kept", "what was there");
    stack
        .docker(&[
            "cp",
            stack.path("kept").to_str().unwrap(),
            &format!("{own}:/data/kept"),
        ])
        .await;
    for version in ["v2", "v1"] {
        stack.tag(version);
        let run = stack.rollout(&RECREATE).await;
        run.code(0);
        assert!(
            run.event("finished").unwrap()["gap_ms"].is_u64(),
            "{}",
            run.text
        );
        assert_eq!(
            stack.version().await.as_deref(),
            Some(version),
            "{}",
            run.text
        );
        assert_eq!(
            stack.shell(&content).await.trim(),
            "what was there",
            "{}",
            run.text
        );
        let replicas = stack.replicas("web").await;
        stack.unchanged_by_compose(&replicas).await;
    }
    stack.tag("broken");
    let run = stack
        .rollout(&[&["--timeout", "5"][..], &RECREATE].concat())
        .await;
    run.code(1);
    assert_eq!(stack.version().await.as_deref(), Some("v1"), "{}", run.text);
    assert_eq!(
        stack.shell(&content).await.trim(),
        "what was there",
        "{}",
        run.text
    );
    stack.tag("v2");
    let run = stack
        .rollout(&[&["--renew-anon-volumes"][..], &RECREATE].concat())
        .await;
    run.code(0);
    let left = stack
        .shell(&format!("{content} 2>/dev/null || echo none"))
        .await;
    assert_eq!(left.trim(), "none", "{}", run.text);
}
