//! `rollout restart`: new containers of what runs, whatever the Compose file and the tags say by now.

use testbed::{Stack, docker};

fn latest(stack: &Stack) -> String {
    format!("{}:latest", stack.name)
}

/// `latest` of an image of the test's own, moved as a build would move it; its id.
fn latest_is(stack: &Stack, version: &str) -> String {
    docker(&["tag", &format!("rollout-demo:{version}"), &latest(stack)]);
    docker(&["inspect", "--format", "{{.Id}}", &latest(stack)])
}

fn file(stack: &Stack, more: &str) {
    let web = format!(
        "services:\n  web:\n    image: {}\n{more}    labels:\n      traefik.enable: \"true\"\n      \
         traefik.http.routers.web.rule: Host(`localhost`)\n    networks: [front]\n",
        latest(stack)
    );
    stack.write("compose.yaml", &web);
}

/// Id of the container, id of its image, and the variable of the test.
async fn runs(stack: &Stack) -> (String, String, bool) {
    let replicas = stack.replicas("web").await;
    assert_eq!(replicas.len(), 1, "{replicas:?}");
    let id = replicas[0].id.clone();
    let image = stack
        .docker(&["inspect", "--format", "{{.Image}}", &id])
        .await;
    let env = stack
        .docker(&["inspect", "--format", "{{.Config.Env}}", &id])
        .await;
    (id, image.trim().to_owned(), env.contains("NEW=1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_rolls_what_runs_though_the_file_and_the_tag_have_moved_on() {
    let stack = Stack::new("    image: none\n");
    file(&stack, "");
    latest_is(&stack, "v1");
    stack.up("v1").await;
    let unrecorded = stack.rollout(&["restart", "web"]).await;
    unrecorded.code(2);
    assert!(
        unrecorded.failure().contains("no rollout has recorded"),
        "{}",
        unrecorded.text
    );
    let second = latest_is(&stack, "v2");
    stack.rollout(&["web"]).await.code(0);
    let before = runs(&stack).await;

    file(&stack, "    environment: { NEW: '1' }\n");
    let newer = latest_is(&stack, "v1");
    assert_ne!(newer, second);
    let load = stack.load();
    let run = stack.rollout(&["restart", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let after = runs(&stack).await;
    assert_ne!(after.0, before.0);
    assert_eq!((&after.1, after.2), (&before.1, false));
    let started = run.event("started").unwrap();
    assert_eq!(
        (&started["revision"], &started["restart_of"]),
        (&3.into(), &2.into())
    );
    // What was built meanwhile has its name again, and is still what a plan would roll.
    let now = docker(&["inspect", "--format", "{{.Id}}", &latest(&stack)]);
    assert_eq!(now, newer);
    stack.no_leftovers().await;
    let history = stack.rollout(&["history", "web"]).await;
    assert!(
        history.code(0).out.contains("restart of 2"),
        "{}",
        history.out
    );
    let diff = stack.rollout(&["history", "web", "--diff", "2..3"]).await;
    assert_eq!(diff.code(0).out, "");
    stack.rollout(&["plan", "web"]).await.code(10);

    // The earlier revision that differs is the first.
    let undo = stack.rollout(&["undo", "web"]).await;
    undo.code(0);
    assert_eq!(undo.event("started").unwrap()["undo_to"], 1);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_an_unchanged_service_leaves_what_compose_would_have_made() {
    let mut stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(0);
    let before = stack.replicas("web").await;
    stack.rollout(&["restart", "web"]).await.code(0);
    let after = stack.replicas("web").await;
    assert!(
        after
            .iter()
            .all(|new| before.iter().all(|old| old.id != new.id))
    );
    stack.settled(2).await;
    let same = stack.rollout(&["web"]).await;
    assert!(
        same.code(0).event("nothing_to_do").is_some(),
        "{}",
        same.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_killed_after_its_cutover_gives_the_tag_back_in_the_next_run() {
    let stack = Stack::new("    image: none\n");
    file(&stack, "");
    latest_is(&stack, "v1");
    stack.up("v1").await;
    latest_is(&stack, "v2");
    stack.rollout(&["web"]).await.code(0);
    let newer = latest_is(&stack, "v1");
    let mut restart = stack.start_rollout(&["restart", "web"]);
    restart.reaches("step_finished", "confirm").await;
    restart.kill().await;
    stack.rollout(&["resume", "web"]).await.code(0);
    let now = docker(&["inspect", "--format", "{{.Id}}", &latest(&stack)]);
    assert_eq!(now, newer);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.no_leftovers().await;
}
