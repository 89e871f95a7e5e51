//! `--preview`: some requests reach the new version before the cutover, and all others the old one.

mod pinned;

use std::time::Duration;

use testbed::{Container, Stack, eventually};

const LIMIT: Duration = Duration::from_secs(30);

const HEADER: &str = "Header(`X-Preview`, `1`)";
const PREVIEW: [(&str, &str); 1] = [("x-preview", "1")];
/// `ada` with the password `secret`.
const ADA: (&str, &str) = ("authorization", "Basic YWRhOnNlY3JldA==");

/// A service for everyone, with a part that asks for a password.
const WEB: &str = r#"    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.routers.admin.rule: Host(`localhost`) && PathPrefix(`/admin`)
      traefik.http.routers.admin.middlewares: auth
      traefik.http.middlewares.auth.basicauth.users: "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
    networks: [front]
"#;

/// A second service.
const API: &str = r#"  api:
    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.api.rule: Path(`/api`)
    networks: [front]
"#;

async fn stack(more: &str) -> Stack {
    begun(Stack::relabelled_with(&format!("{WEB}{more}"))).await
}

async fn begun(mut stack: Stack) -> Stack {
    stack.set("ROLLOUT_STABLE", "200ms").up("v1").await;
    stack.tag("v2");
    stack
}

/// The status of a request with these headers, and the version that answers it.
async fn ask(stack: &Stack, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = stack.get(path, headers).await.expect("an answer");
    let version = answer.headers().get("x-version");
    let version = version.map_or("", |own| own.to_str().unwrap());
    (answer.status().as_u16(), version.to_owned())
}

/// The public gets the old version alone, requests of the preview the new one alone, with the password still asked for.
async fn is_previewed(stack: &Stack, requests: usize) {
    let (old, new) = ((200, "v1".to_owned()), (200, "v2".to_owned()));
    for _ in 0..requests {
        assert_eq!(ask(stack, "/", &[]).await, old);
        assert_eq!(ask(stack, "/", &PREVIEW).await, new);
    }
    assert_eq!(ask(stack, "/admin", &[]).await.0, 401);
    assert_eq!(ask(stack, "/admin", &PREVIEW).await.0, 401);
    assert_eq!(ask(stack, "/admin", &[ADA]).await, old);
    assert_eq!(ask(stack, "/admin", &[ADA, PREVIEW[0]]).await, new);
}

/// All is as before the preview.
async fn is_back(stack: &Stack, before: &[Container]) {
    stack.answers_steadily("v1").await;
    eventually("the preview is gone", LIMIT, async || {
        match ask(stack, "/", &PREVIEW).await {
            (200, version) if version == "v1" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
    assert_eq!(stack.claims().await, 0);
}

async fn is_reached_until_it_is_promoted(stack: Stack) {
    let load = stack.load();
    let run = stack.rollout(&["--preview", HEADER, "web"]).await;
    run.code(5);
    let paused = run.event("paused").unwrap();
    assert!(
        paused["message"]
            .as_str()
            .unwrap()
            .contains("a preview of the new version")
    );
    assert!(
        paused["hint"]
            .as_str()
            .unwrap()
            .contains("rollout promote web")
    );
    let notices = run.notices();
    for line in [
        "the preview answers requests that match (Host(`localhost`)) && (Header(`X-Preview`, `1`))",
        "curl -H 'X-Preview: 1' http://localhost/",
        "curl -H 'X-Preview: 1' http://localhost/admin",
    ] {
        assert!(notices.contains(&line), "{notices:?}");
    }
    is_previewed(&stack, 1000).await;
    let status = stack.rollout(&["status", "web"]).await;
    status.code(1);
    assert!(
        status.out.contains("paused at step 1: a preview"),
        "{}",
        status.out
    );
    // The same command only says that it is paused.
    stack.rollout(&["--preview", HEADER, "web"]).await.code(5);
    is_previewed(&stack, 10).await;
    stack.rollout(&["promote", "web"]).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    stack.answers_steadily("v2").await;
    assert_eq!(ask(&stack, "/admin", &PREVIEW).await.0, 401);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_reached_by_its_header_alone_until_it_is_promoted() {
    is_reached_until_it_is_promoted(stack("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_at_a_host_of_its_own_comes_before_the_steps_of_a_canary() {
    let steps = "    x-rollout: { strategy: canary, steps: [{ weight: 50%, pause: {} }], preview-host: new.localhost }\n";
    let stack = stack(steps).await;
    let load = stack.load();
    stack.rollout(&["web"]).await.code(5);
    for _ in 0..100 {
        assert_eq!(ask(&stack, "/", &[]).await.1, "v1");
        let new = testbed::http::get(stack.port, "new.localhost", "/")
            .await
            .unwrap();
        assert_eq!(new.headers()["x-version"], "v2");
    }
    stack.rollout(&["promote", "web"]).await.code(5);
    assert!(load.seen("v2", LIMIT).await);
    stack.rollout(&["promote", "web"]).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_of_a_preview_leaves_the_old_version_as_it_was() {
    let stack = stack("").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    stack.rollout(&["--preview", HEADER, "web"]).await.code(5);
    stack.rollout(&["abort", "web"]).await.code(0);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    assert!(report.records.iter().all(|own| own.version() == Some("v1")));
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_before_the_cutover_sees_the_preview_and_no_person_is_waited_for() {
    let hook = "touch sees; until test -e goes; do sleep 0.1; done";
    let stack = stack(&format!(
        "    x-rollout: {{ hooks: {{ pre-cutover: {{ host: [sh, -c, \"{hook}\"] }} }} }}\n"
    ))
    .await;
    for is_killed in [true, false] {
        let running = stack.start_rollout(&["--preview", HEADER, "web"]);
        running.begins("pre-cutover", 1).await;
        is_previewed(&stack, 10).await;
        // The next run goes on from the preview, and runs the hook again.
        if is_killed {
            running.kill().await;
            continue;
        }
        stack.write("goes", "");
        running.wait().await.code(0);
    }
    stack.answers_steadily("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_ends_a_hook_before_the_cutover_and_the_preview_is_gone() {
    let stack = stack(
        "    x-rollout: { hooks: { pre-cutover: { host: [sleep, \"1000\"], timeout: 20m } } }\n",
    )
    .await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    let running = stack.start_rollout(&["--preview", HEADER, "web"]);
    running.begins("pre-cutover", 1).await;
    stack.rollout(&["abort", "web"]).await.code(0);
    let run = running.wait().await;
    assert!(run.code(1).text.contains("undone by"), "{}", run.text);
    assert_eq!(run.begun("cutover"), 0, "{}", run.text);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    is_back(&stack, &before).await;
}

async fn is_left_to_the_next_run(stack: Stack) {
    let before = stack.replicas("web").await;
    let running = stack.start_rollout(&["--preview", HEADER, "--attach", "web"]);
    running.begins("pause", 1).await;
    running.kill().await;
    is_previewed(&stack, 10).await;
    stack.rollout(&["--preview", HEADER, "web"]).await.code(5);
    is_previewed(&stack, 10).await;
    stack.rollout(&["abort", "web"]).await.code(0);
    is_back(&stack, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_its_preview_leaves_it_to_the_next() {
    is_left_to_the_next_run(stack("").await).await;
}

async fn outlives_a_restart_of_the_front(stack: Stack) {
    stack.rollout(&["--preview", HEADER, "web"]).await.code(5);
    let front = [&["restart", "-t", "1"], stack.front()].concat();
    stack.compose(&front).await;
    stack.traefik_listens().await;
    eventually("the preview is there again", LIMIT, async || {
        match stack.get("/", &PREVIEW).await {
            Some(answer) if answer.status() == 200 => Ok(()),
            other => Err(other.map(|own| own.status())),
        }
    })
    .await;
    is_previewed(&stack, 100).await;
    stack.rollout(&["promote", "web"]).await.code(0);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_outlives_a_restart_of_traefik_and_of_the_socket_proxy() {
    outlives_a_restart_of_the_front(stack("").await).await;
}

/// The rollout is refused with this text, and nothing is touched.
async fn refused(stack: &Stack, arguments: &[&str], said: &str) {
    let before = stack.replicas("web").await;
    let run = stack.rollout(&[arguments, &["web"]].concat()).await;
    run.code(2);
    assert!(run.text.contains(said), "{arguments:?}: {}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    assert_eq!(stack.claims().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_previewed_is_refused_before_anything_is_touched() {
    let usual = stack(API).await;
    let header = ["--preview", HEADER];
    let with = |more: &[&'static str]| [&header[..], more].concat();
    for (arguments, said) in [
        (vec!["--preview", " "], "the rule is empty"),
        (vec!["--preview", "Header(`a`, `1`"], "is not closed"),
        (vec!["--preview-host", "a.b/c"], "is not the name of a host"),
        (
            vec!["--preview-host", "localhost"],
            "serves the host localhost to everyone",
        ),
        (
            with(&["--preview-host", "a.localhost"]),
            "exclude each other",
        ),
        (
            with(&["--strategy", "rolling"]),
            "the strategy rolling has no whole new set",
        ),
        (
            with(&["--strategy", "recreate"]),
            "the strategy recreate has no whole new set",
        ),
        (with(&["--proxy", "none"]), "no proxy routes to it"),
        (
            with(&["--together", "api"]),
            "its new version is previewed first",
        ),
    ] {
        refused(&usual, &arguments, said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_without_a_preview_are_refused_before_anything_is_touched() {
    let header = ["--preview", HEADER];
    for (label, value, said) in [
        (
            "traefik.http.routers.web.service",
            "other@file",
            "sends to other@file",
        ),
        (
            "traefik.http.routers.web.priority",
            "${PRIORITY:-9}",
            "differs between the versions",
        ),
    ] {
        let mut stack = Stack::relabelled_with(&WEB.replace(
            "    networks",
            &format!("      {label}: \"{value}\"\n    networks"),
        ));
        stack.compose(&["up", "-d"]).await;
        stack.set("PRIORITY", 8).tag("v2");
        refused(&stack, &header, said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_the_preview_with_its_rule() {
    let stack = stack("").await;
    let plan = stack.rollout(&["plan", "--preview", HEADER, "web"]).await;
    plan.code(10);
    let line = "preview           Header(`X-Preview`, `1`)";
    assert!(plan.out.contains(line), "{}", plan.out);
}
