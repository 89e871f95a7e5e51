//! `compose-examples/quickstart` as it stands: its variables are set in the environment, and nothing else.

use testbed::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_runs_as_it_stands_and_is_rolled_without_loss() {
    let mut stack = Stack::quickstart();
    stack.up("v1").await;
    let doctor = stack.rollout(&["doctor"]).await;
    doctor.code(0);
    assert!(!doctor.out.contains("warn"), "{}", doctor.out);
    let load = stack.load();
    stack.set("WEB_IMAGE", "rollout-demo:v2");
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report:?}\n{}", run.text);
    stack.answers("v2").await;
    stack.settled(1).await;
}
