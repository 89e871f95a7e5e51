//! The same by a pin file.

use testbed::Stack;

use super::{
    HEADER, WEB, ask, begun, is_back, is_left_to_the_next_run, is_previewed,
    is_reached_until_it_is_promoted, outlives_a_restart_of_the_front,
};

async fn pinned() -> Stack {
    begun(Stack::pinned_with(WEB)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_reached_by_its_header_alone_until_it_is_promoted() {
    is_reached_until_it_is_promoted(pinned().await).await;
}

/// A preview at a host of its own, which Traefik has no route for before.
#[tokio::test(flavor = "multi_thread")]
async fn it_has_a_host_of_its_own_and_is_gone_after_an_abort() {
    let stack = pinned().await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    let host = ["--preview-host", "new.localhost", "web"];
    stack.rollout(&host).await.code(5);
    let at_host = async || {
        let answer = testbed::http::get(stack.port, "new.localhost", "/").await;
        let version = answer.as_ref()?.headers().get("x-version")?;
        version.to_str().ok().map(str::to_owned)
    };
    for _ in 0..100 {
        assert_eq!(ask(&stack, "/", &[]).await.1, "v1");
        assert_eq!(at_host().await.as_deref(), Some("v2"));
    }
    stack.rollout(&["abort", "web"]).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    assert!(report.records.iter().all(|own| own.version() == Some("v1")));
    assert_eq!(at_host().await, None);
    is_back(&stack, &before).await;
}

/// Both sets get other addresses while no run is there.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_mended_after_a_restart_by_the_next_run() {
    let stack = pinned().await;
    stack.rollout(&["--preview", HEADER, "web"]).await.code(5);
    let (old, new) = (stack.replicas("web").await, stack.newest("web").await);
    let old = old.iter().find(|own| own.id != new).unwrap().id.clone();
    let before = stack.address(&new).await;
    stack.docker(&["stop", "-t", "0", &old, &new]).await;
    // The order decides which address each gets.
    for id in [&new, &old] {
        stack.docker(&["start", id]).await;
    }
    assert_ne!(stack.address(&new).await, before);
    stack.rollout(&["resume", "web"]).await.code(5);
    is_previewed(&stack, 10).await;
    stack.rollout(&["promote", "web"]).await.code(0);
    stack.answers_steadily("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_it_leaves_it_to_the_next() {
    is_left_to_the_next_run(pinned().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_a_restart_of_traefik() {
    outlives_a_restart_of_the_front(pinned().await).await;
}
