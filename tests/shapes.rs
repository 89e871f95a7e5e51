//! Services of every shape that Compose and Traefik know, rolled under load and left as Compose would leave them.

mod datagrams;
pub mod lines;
pub mod plugin;

use std::time::Duration;

use nix::sys::signal::Signal;

use testbed::{Run, Stack, USUAL, eventually, free_port, http};

/// Exit code 0, nothing lost and nothing mixed.
pub async fn roll_under_load(stack: &Stack, arguments: &[&str]) -> Run {
    let load = stack.load();
    let run = stack.rollout(arguments).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    run
}

/// As [`roll_under_load`], and the new version was seen while it ran.
async fn moves_to(stack: &Stack, version: &str, arguments: &[&str]) -> Run {
    let load = stack.load();
    let run = stack.rollout(arguments).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(
        report.first_answer_of(version).is_some(),
        "{report}\n{}",
        run.text
    );
    run
}

async fn ids(stack: &Stack, service: &str) -> Vec<String> {
    let replicas = stack.replicas(service).await;
    replicas.into_iter().map(|replica| replica.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_name_is_the_name_again_in_the_end() {
    let mut stack = Stack::usual("    container_name: ${COMPOSE_PROJECT_NAME}-the-one\n");
    stack.up("v1").await;
    stack.tag("v2");
    moves_to(&stack, "v2", &["--proxy", "traefik", "web"]).await;
    let replicas = stack.replicas("web").await;
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0].name, format!("{}-the-one", stack.name));
    stack.unchanged_by_compose(&replicas).await;
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_and_a_middleware_that_differ_between_the_versions_conflict_at_no_moment() {
    let labels = r#"      traefik.http.routers.web.rule: ${RULE}
      traefik.http.routers.web.middlewares: mark
      traefik.http.middlewares.mark.headers.customresponseheaders.x-mark: ${TAG}
"#;
    let usual = USUAL.replace(
        "      traefik.http.routers.web.rule: Host(`localhost`)\n",
        labels,
    );
    let mut stack = Stack::new(&usual);
    stack.set("RULE", "Host(`localhost`)").up("v1").await;
    stack
        .tag("v2")
        .set("RULE", "Host(`localhost`) && PathPrefix(`/`)");
    moves_to(&stack, "v2", &["web"]).await;
    let curl = format!(
        "curl -si -H 'Host: localhost' http://127.0.0.1:{}/",
        stack.port
    );
    let answer = stack.shell(&curl).await.to_lowercase();
    assert!(answer.contains("x-mark: v2"), "{answer}");
    stack.settled(1).await;
}

/// A service that uses nearly everything; its version comes from its `env_file` alone.
const EVERYTHING: &str = r#"    image: rollout-demo:v1
    env_file: [version.env]
    labels:
      traefik.enable: "true"
      traefik.docker.network: ${COMPOSE_PROJECT_NAME}_front
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: { front: {}, back: { aliases: [inside] } }
    hostname: the-host
    volumes: ["data:/data"]
    tmpfs: [/tmp]
    ulimits: { nofile: 4096 }
    configs:
      - inline
      - { source: from-file, target: /etc/app.conf }
    secrets: [from-variable, from-file]
    depends_on:
      database: { condition: service_started }
      cache: { condition: service_healthy }
      migration: { condition: service_completed_successfully }
  database:
    image: rollout-demo:db
    networks: [back]
  cache:
    image: rollout-demo:v1
    networks: [back]
  migration:
    image: rollout-demo:v1-plain
    command: [check, "http://cache:80/health"]
    networks: [back]
    depends_on: { cache: { condition: service_healthy } }
configs:
  inline: { content: "one line\n" }
  from-file: { file: ./app.conf }
secrets:
  from-variable: { environment: THE_SECRET }
  from-file: { file: ./secret.txt }
networks:
  back:
volumes:
  data:
"#;

async fn a_service_that_uses_everything_is_rolled(suite: &str) {
    let mut stack = Stack::new(EVERYTHING);
    stack.compose_version(suite).set("THE_SECRET", "hush");
    stack.write("app.conf", "a = 1\n");
    stack.write("secret.txt", "hush\n");
    stack.write("version.env", "VERSION=v1\n");
    stack.up("v1").await;
    let others = [
        ids(&stack, "database").await,
        ids(&stack, "cache").await,
        ids(&stack, "migration").await,
    ];
    stack.write("version.env", "VERSION=v2\n");
    moves_to(&stack, "v2", &["--proxy", "traefik", "web"]).await;
    stack.settled(1).await;
    let after = [
        ids(&stack, "database").await,
        ids(&stack, "cache").await,
        ids(&stack, "migration").await,
    ];
    assert_eq!(after, others);
    let before = ids(&stack, "web").await;
    let again = stack.rollout(&["web"]).await;
    assert!(
        again.code(0).event("nothing_to_do").is_some(),
        "{}",
        again.text
    );
    assert_eq!(ids(&stack, "web").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_uses_everything_is_rolled_with_the_older_compose() {
    a_service_that_uses_everything_is_rolled("trixie").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_uses_everything_is_rolled_with_the_newer_compose() {
    a_service_that_uses_everything_is_rolled("sid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_with_nothing_changed_does_nothing_and_force_rolls_all_the_same() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let first = stack.replicas("web").await;
    let untouched = stack.rollout(&["web"]).await;
    assert!(untouched.code(0).event("nothing_to_do").is_some());
    assert_eq!(stack.replicas("web").await, first, "{}", untouched.text);
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(0);
    let second = stack.replicas("web").await;
    let again = stack.rollout(&["--proxy", "traefik", "web"]).await;
    assert!(again.code(0).event("nothing_to_do").is_some());
    assert_eq!(stack.replicas("web").await, second, "{}", again.text);
    let forced = roll_under_load(&stack, &["--force", "web"]).await;
    assert_eq!(forced.event("finished").unwrap()["revision"], 3);
    assert_ne!(ids(&stack, "web").await, [second[0].id.clone()]);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_gives_another_number_of_replicas_and_the_file_takes_it_back() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = moves_to(&stack, "v2", &["--scale", "3", "web"]).await;
    assert!(
        run.text.contains("1 replica runs, --scale says 3"),
        "{}",
        run.text
    );
    let names: Vec<String> = names(&stack).await;
    let expected = [1, 2, 3].map(|number| format!("{}-web-{number}", stack.name));
    assert_eq!(names, expected);
    stack.no_leftovers().await;
    let again = stack.rollout(&["--scale", "3", "web"]).await;
    assert!(again.code(0).event("nothing_to_do").is_some());
    let back = roll_under_load(&stack, &["web"]).await;
    assert!(
        back.text.contains("the Compose file says 1"),
        "{}",
        back.text
    );
    stack.settled(1).await;
}

async fn names(stack: &Stack) -> Vec<String> {
    let replicas = stack.replicas("web").await;
    replicas.into_iter().map(|replica| replica.name).collect()
}

/// Contents that Compose's config hash leaves out.
const CONTENTS: &str = r#"    configs: [inline]
    secrets: [from-file, from-variable]
configs:
  inline: { content: "${CONTENT}" }
secrets:
  from-file: { file: ./secret.txt }
  from-variable: { environment: THE_SECRET }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_contents_of_a_config_or_a_secret_alone_is_rolled_out() {
    let mut stack = Stack::usual(CONTENTS);
    stack.set("CONTENT", "one").set("THE_SECRET", "one");
    stack.write("secret.txt", "one");
    stack.up("v1").await;
    // What Compose made does not say which contents it was given: they are read in its containers.
    agrees_with_status(&stack, true).await;
    for (name, changed) in [("CONTENT", "two"), ("THE_SECRET", "two")] {
        stack.set(name, changed);
        let status = stack.rollout(&["status", "web"]).await;
        assert!(
            status.code(1).out.contains("config or secret"),
            "{}",
            status.out
        );
        stack.set(name, "one");
    }
    stack.set("CONTENT", "two");
    rolls_once(&stack).await;
    stack
        .compose(&["up", "-d", "--force-recreate", "--no-deps", "web"])
        .await;
    // The new container may have the address of the old one, which Traefik still routes to while the new one starts.
    let limit = Duration::from_secs(30);
    eventually("web is up to date", limit, async || {
        let status = stack.rollout(&["status", "web"]).await;
        (status.code == Some(0)).then_some(()).ok_or(status.out)
    })
    .await;
    agrees_with_status(&stack, true).await;
    stack.write("secret.txt", "two");
    agrees_with_status(&stack, false).await;
    stack.set("CONTENT", "three");
    rolls_once(&stack).await;
    stack.set("THE_SECRET", "four");
    rolls_once(&stack).await;
    stack.settled(1).await;
}

/// What `status` says is what a run does.
async fn agrees_with_status(stack: &Stack, is_current: bool) {
    let status = stack.rollout(&["status", "web"]).await;
    let code = if is_current { 0 } else { 1 };
    assert_eq!(
        status.code(code).out.contains("config or secret"),
        !is_current,
        "{}",
        status.out
    );
    let before = ids(stack, "web").await;
    let run = stack.rollout(&["web"]).await;
    assert_eq!(
        run.code(0).event("nothing_to_do").is_some(),
        is_current,
        "{}",
        run.text
    );
    assert_eq!(
        ids(stack, "web").await == before,
        is_current,
        "{}",
        run.text
    );
}

/// A run that rolls, and another one that has nothing to do.
async fn rolls_once(stack: &Stack) {
    let before = ids(stack, "web").await;
    let run = roll_under_load(stack, &["web"]).await;
    let after = ids(stack, "web").await;
    assert_ne!(after, before, "{}", run.text);
    let again = stack.rollout(&["web"]).await;
    assert!(
        again.code(0).event("nothing_to_do").is_some(),
        "{}",
        again.text
    );
    assert_eq!(ids(stack, "web").await, after);
}

/// A Traefik that routes to whatever it sees, by a rule of its own.
const EXPOSED: &str = r#"    image: rollout-demo:${TAG}
    networks: [front]
  traefik:
    command:
      - --providers.docker.exposedbydefault=true
      - --providers.docker.defaultrule=Host(`{{ index .Labels "com.docker.compose.service" }}.test`)
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --api.insecure=true
"#;

async fn a_service_without_labels_is_rolled_through_traefik(proxy: &str) {
    let mut stack = Stack::new(EXPOSED);
    stack.compose(&["up", "-d"]).await;
    let mut options = stack.load_options();
    options.host = "web.test".into();
    let curl = format!(
        "curl -sf --max-time 5 -H 'Host: web.test' http://127.0.0.1:{}/",
        stack.port
    );
    stack.until(&curl, "version=v1").await;
    let load = testbed::load::Load::start(options);
    stack.tag("v2");
    let run = stack.rollout(&["--proxy", proxy, "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(report.first_answer_of("v2").is_some(), "{}", run.text);
    assert!(run.event("finished").unwrap()["cutover_ms"].is_u64());
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_labels_that_traefik_routes_to_by_default_is_cut_over_at_once() {
    a_service_without_labels_is_rolled_through_traefik("auto").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_labels_is_asked_for_where_the_proxy_is_named() {
    a_service_without_labels_is_rolled_through_traefik("traefik").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_published_host_port_is_refused_and_then_recreated() {
    let mut stack = Stack::usual("    ports: ['127.0.0.1:${OWN_PORT}:80']\n");
    stack
        .set("OWN_PORT", free_port())
        .set("ROLLOUT_STABLE", "3s")
        .up("v1")
        .await;
    let before = stack.replicas("web").await;
    stack.tag("v2");
    let refused = stack.rollout(&["web"]).await;
    refused.code(2);
    assert!(
        refused.text.contains("--strategy recreate"),
        "{}",
        refused.text
    );
    assert_eq!(stack.replicas("web").await, before);
    let run = stack.rollout(&["--strategy", "recreate", "web"]).await;
    run.code(0);
    assert!(
        !run.text.contains("removed the old replicas"),
        "{}",
        run.text
    );
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{}", run.text);
    assert!(run.ms("ready") >= 2_500, "not stable yet\n{}", run.text);
    assert!(run.event("finished").unwrap()["phases"]["confirm"].is_u64());
    assert_ne!(stack.replicas("web").await[0].id, before[0].id);
    stack.settled_beside_faults(1).await;
    let again = stack.rollout(&["--strategy", "recreate", "web"]).await;
    assert!(
        again.code(0).event("nothing_to_do").is_some(),
        "{}",
        again.text
    );
    stack.tag("v1");
    let mut running = stack.start_rollout(&["--strategy", "recreate", "web"]);
    running.reaches("step_started", "stop").await;
    running.signal(Signal::SIGINT);
    let run = running.wait().await;
    run.code(130);
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{}", run.text);
    let before = stack.replicas("web").await;
    stack.tag("crash2-plain");
    let crashed = stack.rollout(&["--strategy", "recreate", "web"]).await;
    crashed.code(1);
    for said in ["exited; the old version serves", "fatal: the setting"] {
        assert!(crashed.text.contains(said), "{}", crashed.text);
    }
    assert_eq!(
        stack.version().await.as_deref(),
        Some("v2"),
        "{}",
        crashed.text
    );
    assert_eq!(stack.replicas("web").await[0].id, before[0].id);
}

/// A second service beside `web`, whose version is `$API_TAG`.
const API: &str = r#"  api:
    image: rollout-demo:${API_TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.api.rule: Host(`api.test`)
    networks: [front]
"#;

/// What `api` answers with.
async fn version_of_api(stack: &Stack) -> Option<String> {
    let answer = http::get(stack.port, "api.test", "/").await?;
    let version = answer.headers().get("x-version")?;
    Some(version.to_str().ok()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_services_are_rolled_one_at_a_time_in_the_order_given() {
    let mut stack = Stack::usual(API);
    stack.set("API_TAG", "v1").up("v1").await;
    let load = stack.load();
    stack.tag("v2").set("API_TAG", "v2");
    let run = stack.rollout(&["--parallel", "1", "web", "api"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let finished = run
        .events
        .iter()
        .filter(|event| event["event"] == "finished")
        .map(|event| event["service"].as_str().unwrap().to_owned());
    assert_eq!(finished.collect::<Vec<_>>(), ["web", "api"]);
    assert_eq!(version_of_api(&stack).await.as_deref(), Some("v2"));
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_later_service_that_is_not_to_be_had_is_known_before_the_first_is_touched() {
    let mut stack = Stack::usual(API);
    stack.set("API_TAG", "v1").up("v1").await;
    let before = [ids(&stack, "web").await, ids(&stack, "api").await];
    stack.tag("v2").set("API_TAG", "no-such-tag");
    let run = stack.rollout(&["web", "api"]).await;
    run.code(2);
    assert_eq!(run.event("failed").unwrap()["service"], "api");
    assert_eq!([ids(&stack, "web").await, ids(&stack, "api").await], before);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_service_that_fails_ends_it_and_the_next_is_not_touched() {
    let mut stack = Stack::usual(API);
    stack.set("API_TAG", "v1").up("v1").await;
    let before = [ids(&stack, "web").await, ids(&stack, "api").await];
    stack.tag("crash").set("API_TAG", "v2");
    let run = stack.rollout(&["--parallel", "1", "web", "api"]).await;
    run.code(1);
    assert_eq!([ids(&stack, "web").await, ids(&stack, "api").await], before);
    assert!(run.events.iter().all(|event| event["service"] != "api"));
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.no_leftovers().await;
}
