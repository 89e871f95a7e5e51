//! The hooks of `x-rollout.hooks`: migrations, smoke tests and notifications, and what becomes of one that fails.

use std::{fs, time::Duration};

use testbed::{ROLL, Run, eventually};

use crate::hooks::Shell;

/// A service with these hooks, which go on with the text of the file.
async fn with(hooks: &str) -> Shell {
    let shell = format!("    stop_grace_period: 1s\n    x-rollout:\n      hooks:\n{hooks}");
    Shell::up(&shell).await
}

/// A rollout that ends with 1 under load, and leaves the replicas that were there and nothing else.
async fn fails(shell: &mut Shell) -> Run {
    let before = shell.stack.replicas("web").await;
    let load = shell.stack.load();
    shell.stack.tag("v2");
    let run = shell.stack.rollout(&ROLL).await;
    let report = load.stop().await;
    run.code(1);
    // A failure after the cutover leads back to the old version.
    assert!(report.requests > 0, "{report}");
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert_eq!(shell.stack.replicas("web").await, before, "{}", run.text);
    shell.stack.no_leftovers().await;
    run
}

/// Where an event of this kind stands that is about a step.
#[track_caller]
fn place(run: &Run, kind: &str, step: &str) -> usize {
    let is = |event: &serde_json::Value| event["event"] == kind && event["step"] == step;
    let place = run.events.iter().position(is);
    place.unwrap_or_else(|| panic!("no {kind} {step}: {}", run.text))
}

#[track_caller]
fn never_switched(run: &Run) {
    let switches = |event: &&serde_json::Value| event["step"] == "cutover";
    assert_eq!(run.events.iter().find(switches), None, "{}", run.text);
}

const EACH: &str = r#"        pre-deploy:
          run: echo migrated by $$VERSION, $$ROLLOUT_OLD_IMAGE to $$ROLLOUT_IMAGE >>/ran/order
        pre-cutover:
          exec: [sh, -c, "echo checked $$VERSION >>/ran/order; echo well >&2"]
        post-cutover:
          host: echo $$ROLLOUT_HOOK of $$ROLLOUT_SERVICE >>ran/order
        post-deploy:
          host: [sh, -c, "echo $$ROLLOUT_HOOK of $$ROLLOUT_PROJECT >>ran/order"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_hook_runs_once_in_its_place_the_migration_with_the_new_image_before_the_cutover() {
    let mut shell = with(EACH).await;
    let name = shell.stack.name.clone();
    let run = shell.rolls(&[]).await;
    let migrated = format!("migrated by v2, {name}:v1 to {name}:v2");
    let told = format!("post-deploy of {name}");
    let wanted = [&migrated, "checked v2", "post-cutover of web", &told];
    assert_eq!(shell.in_order("order"), wanted, "{}", run.text);
    let said = run.event("hook").unwrap();
    assert_eq!(
        (&said["hook"], &said["line"]),
        (&"pre-cutover".into(), &"well".into())
    );
    for (hook, before) in [
        ("pre-deploy", "create"),
        ("pre-cutover", "cutover"),
        ("post-cutover", "stop"),
    ] {
        let (ends, begins) = (
            place(&run, "step_finished", hook),
            place(&run, "step_started", before),
        );
        assert!(ends < begins, "{hook}: {}", run.text);
    }
    assert!(place(&run, "step_finished", "release") < place(&run, "step_started", "post-deploy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_checks_what_it_restores_and_migrates_nothing() {
    let mut shell = with(EACH).await;
    shell.rolls(&[]).await;
    let load = shell.stack.load();
    let run = shell
        .stack
        .rollout(&["undo", "--proxy", "traefik", "web"])
        .await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    shell.stack.answers("v1").await;
    let lines = shell.in_order("order");
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("migrated"), 1, "{lines:?}");
    assert_eq!(
        (count("checked v2"), count("checked v1")),
        (1, 1),
        "{lines:?}"
    );
    assert_eq!(count("post-deploy"), 2, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_ends_the_rollout_with_what_it_said() {
    let hooks = r#"        pre-deploy:
          run: echo tried >>/ran/order; echo no such column >&2; exit 3
        failed:
          host: echo "$$ROLLOUT_ERROR" >>ran/order
"#;
    let mut shell = with(hooks).await;
    let run = fails(&mut shell).await;
    let why = "the pre-deploy hook ended with exit code 3; the old version serves";
    assert_eq!(run.failure(), why);
    let failed = run.event("failed").unwrap();
    assert_eq!(failed["logs"], serde_json::json!(["no such column"]));
    assert_eq!(shell.in_order("order"), ["tried", why]);
    never_switched(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_hangs_is_stopped_after_its_timeout() {
    let hooks = r#"        pre-deploy:
          run: echo began >>/ran/order; sleep 600
          timeout: 3s
"#;
    let mut shell = with(hooks).await;
    let run = fails(&mut shell).await;
    let why = "the pre-deploy hook did not end within 3s; the old version serves";
    assert_eq!(run.failure(), why);
    assert_eq!(shell.in_order("order"), ["began"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_killed_is_removed_and_runs_again_with_a_notice() {
    let hooks = r#"        pre-deploy:
          run: echo began >>/ran/order; sleep ${PAUSE:-600}; echo ended >>/ran/order
"#;
    let mut shell = with(hooks).await;
    let before = shell.stack.replicas("web").await;
    let load = shell.stack.load();
    shell.stack.tag("v2");
    let running = shell.stack.start_rollout(&ROLL);
    eventually("the migration runs", Duration::from_secs(60), async || {
        let lines = shell.in_order("order");
        (lines == ["began"]).then_some(()).ok_or(lines)
    })
    .await;
    running.kill().await;
    let all = shell.stack.replicas("web").await;
    let hook: Vec<_> = all.iter().filter(|own| !before.contains(own)).collect();
    assert_eq!((all.len(), hook.len()), (before.len() + 1, 1), "{all:?}");
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    shell.stack.answers("v1").await;
    shell.stack.set("PAUSE", 0);
    let run = shell.rolls(&[]).await;
    let again = |text: &&str| text.contains("began and did not end: it runs again");
    let notices = run.notices();
    assert_eq!(
        notices.iter().filter(|text| again(text)).count(),
        1,
        "{notices:?}"
    );
    assert_eq!(shell.in_order("order"), ["began", "began", "ended"]);
    shell.stack.tag("v1");
    let run = shell.stack.rollout(&ROLL).await;
    assert!(!run.code(0).notices().iter().any(again), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_ended_before_the_rollout_was_killed_runs_again_with_a_notice() {
    let hooks = "        pre-deploy: { host: echo migrated >>ran/order }\n";
    let mut shell = with(hooks).await;
    let load = shell.stack.load();
    shell.stack.tag("v2");
    let mut running = shell.stack.start_rollout(&ROLL);
    running.reaches("step_finished", "pre-deploy").await;
    running.kill().await;
    let run = shell.rolls(&[]).await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let again = |text: &&str| text.contains("was killed: it runs again");
    assert!(run.notices().iter().any(again), "{}", run.text);
    assert_eq!(shell.in_order("order"), ["migrated", "migrated"]);
    shell.stack.tag("v1");
    let run = shell.stack.rollout(&ROLL).await;
    assert!(!run.code(0).notices().iter().any(again), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_test_that_fails_gives_the_new_version_no_request() {
    let mut shell = with("        pre-cutover: { exec: exit 7 }\n").await;
    let run = fails(&mut shell).await;
    let why = "the pre-cutover hook ended with exit code 7; the old version serves";
    assert_eq!(run.failure(), why);
    never_switched(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_after_the_cutover_gives_the_traffic_back() {
    let mut shell = with("        post-cutover: { host: exit 7 }\n").await;
    let run = fails(&mut shell).await;
    let why = "the post-cutover hook ended with exit code 7; the old version serves";
    assert_eq!(run.failure(), why);
    shell.stack.answers_steadily("v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_are_killed_after_the_cutover_run_again_before_the_rollout_is_finished() {
    let hooks = r#"        post-cutover: { host: "echo began >>ran/order; sleep ${PAUSE:-600}; echo ended >>ran/order" }
        post-deploy: { host: echo told >>ran/order }
"#;
    let mut shell = with(hooks).await;
    let load = shell.stack.load();
    shell.stack.tag("v2");
    let running = shell.stack.start_rollout(&ROLL);
    eventually("the hook runs", Duration::from_secs(60), async || {
        let lines = shell.in_order("order");
        (lines == ["began"]).then_some(()).ok_or(lines)
    })
    .await;
    running.kill().await;
    shell.stack.set("PAUSE", 0);
    let run = shell.stack.rollout(&ROLL).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let again = |text: &&str| text.contains("began and did not end: it runs again");
    assert!(run.notices().iter().any(again), "{}", run.text);
    assert_eq!(shell.in_order("order"), ["began", "began", "ended", "told"]);
    shell.stack.settled(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_hook_is_refused_before_anything_is_touched() {
    let shell = with("        pre-deploy: { run: ./migrate, host: ./migrate }\n").await;
    let before = shell.stack.replicas("web").await;
    let run = shell.stack.rollout(&ROLL).await;
    let why = "pre-deploy of hooks in x-rollout of web: a hook has one of run, exec and host";
    assert_eq!(run.code(2).failure(), why);
    assert_eq!(shell.stack.replicas("web").await, before);
    assert!(
        fs::read_dir(shell.stack.path("ran"))
            .unwrap()
            .next()
            .is_none()
    );
}
