//! One service rolled from v1 to v2 under load, in the ordinary cases.

use testbed::Stack;

async fn rolls_without_loss(mut stack: Stack, replicas: usize) {
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report:?}\n{}", run.text);
    assert_eq!(run.event("finished").unwrap()["replicas"], replicas);
    assert!(run.event("finished").unwrap()["cutover_ms"].is_u64());
    stack.settled(replicas).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_rolled_without_loss_and_left_as_compose_would() {
    rolls_without_loss(Stack::usual(""), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_are_rolled_without_loss_and_left_as_compose_would() {
    rolls_without_loss(Stack::usual("    scale: 3\n"), 3).await;
}
