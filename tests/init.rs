//! `rollout init` on a stack whose Traefik mounts the engine's socket, as its documentation shows it.

use std::os::unix::fs::PermissionsExt;

use testbed::{Stack, image};

/// As people write it: comments, both styles, and no network of its own.
const DIRECT: &str = r#"# The shop
services:

  traefik:
    image: traefik:v3.7
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)   # ours alone
      - --entrypoints.web.address=:80
    ports: ["127.0.0.1:${HTTP_PORT}:80"]
    environment: { TZ: UTC }
    volumes:
      # So that Traefik can listen to the Docker events
      - /var/run/docker.sock:/var/run/docker.sock:ro
    depends_on: [cache]

  cache:
    image: rollout-demo:v1-plain

  # The site
  web:
    image: rollout-demo:${TAG}
    labels:
      - traefik.enable=true
      - traefik.http.routers.web.rule=Host(`localhost`)
"#;

/// The stack, from one file called `stack.yaml`.
fn stack(text: &str) -> Stack {
    let mut stack = Stack::relabelled("");
    stack.set("COMPOSE_FILE", "stack.yaml");
    stack.write("stack.yaml", text);
    stack
}

fn text(stack: &Stack) -> String {
    std::fs::read_to_string(stack.path("stack.yaml")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_whose_traefik_mounts_the_socket_is_made_ready_and_rolled_without_loss() {
    let mut stack = stack(DIRECT);
    let file = stack.path("stack.yaml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    stack.up("v1").await;
    let refused = stack.rollout(&["web"]).await;
    refused.code(2);
    assert!(
        refused.text.contains("rollout init --write"),
        "{}",
        refused.text
    );

    let image = image();
    let init = ["init", "--image", &image];
    let shown = stack.rollout(&init).await;
    shown.code(0);
    let line = "+    environment: { TZ: UTC, DOCKER_HOST: \"tcp://socket-proxy:2375\" }";
    assert!(shown.out.contains(line), "{}", shown.out);
    assert_eq!(text(&stack), DIRECT, "it was only asked to show");

    let write = ["init", "--write", "--image", &image];
    let written = stack.rollout(&write).await;
    written.code(0);
    assert_eq!(written.out, shown.out);
    assert!(
        written.text.contains("docker compose up -d"),
        "{}",
        written.text
    );
    let after = text(&stack);
    let kept = DIRECT.lines().filter(|line| !line.contains("docker.sock"));
    let mut lines = after.lines();
    for line in kept.filter(|line| {
        !line.contains("TZ") && !line.contains("depends_on") && !line.contains("volumes:")
    }) {
        assert!(lines.any(|own| own == line), "{line:?} is gone:\n{after}");
    }
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let again = stack.rollout(&write).await;
    again.code(0);
    assert_eq!(text(&stack), after);
    assert!(
        again.text.contains("nothing to do") && again.out.is_empty(),
        "{}",
        again.text
    );

    stack.compose(&["up", "-d"]).await;
    stack.traefik_listens().await;
    stack.answers_steadily("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.answers("v2").await;
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_edited_safely_is_left_as_it_is_with_what_to_add() {
    let anchored = DIRECT.replace("  traefik:\n", "  traefik: &edge\n") + "x-spare: *edge\n";
    let stack = stack(&anchored);
    let run = stack.rollout(&["init", "--write"]).await;
    run.code(2);
    assert!(
        run.text.contains("cannot edit stack.yaml safely"),
        "{}",
        run.text
    );
    assert!(
        run.text
            .contains("DOCKER_HOST: \"tcp://socket-proxy:2375\""),
        "{}",
        run.text
    );
    assert_eq!(text(&stack), anchored);
    let left: Vec<_> = std::fs::read_dir(stack.path("."))
        .unwrap()
        .flatten()
        .collect();
    let drafts = left
        .iter()
        .filter(|own| own.file_name().to_string_lossy().starts_with(".rollout"));
    assert_eq!(drafts.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_told_as_json_too_and_a_project_of_several_files_is_edited_where_traefik_is()
 {
    let mut stack = stack(DIRECT);
    stack.write(
        "more.yaml",
        "services: { web: { environment: { A: b } } }\n",
    );
    stack.set("COMPOSE_FILE", "more.yaml:stack.yaml");
    let run = stack
        .rollout(&["init", "--write", "--output", "json"])
        .await;
    run.code(0);
    let report: serde_json::Value = serde_json::from_str(run.out.trim()).unwrap();
    assert_eq!(report["file"], "stack.yaml");
    assert_eq!(report["written"], true);
    assert!(
        report["diff"]
            .as_str()
            .unwrap()
            .contains("+  socket-proxy:"),
        "{report}"
    );
    let resolved = stack.compose(&["config"]).await;
    assert!(
        resolved.contains("DOCKER_HOST: tcp://socket-proxy:2375"),
        "{resolved}"
    );
    stack.set("COMPOSE_FILE", "nowhere.yaml");
    let run = stack.rollout(&["init"]).await;
    run.code(2);
    assert!(
        run.text.contains("cannot read nowhere.yaml"),
        "{}",
        run.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_file_is_written_once_and_the_compose_file_stays_as_it_is() {
    let mut stack = stack(DIRECT);
    let refused = stack.rollout(&["init", "--override"]).await;
    refused.code(2);
    assert!(
        refused.text.contains("volumes: !override []"),
        "{}",
        refused.text
    );
    stack.unset("COMPOSE_FILE");
    stack.write("compose.yaml", DIRECT);
    let write = ["init", "--override", "--write"];
    let written = stack.rollout(&write).await;
    written.code(0);
    let kept = std::fs::read_to_string(stack.path("compose.yaml")).unwrap();
    assert_eq!(kept, DIRECT);
    let resolved = stack.compose(&["config", "--format", "json"]).await;
    let project: serde_json::Value = serde_json::from_str(&resolved).unwrap();
    let traefik = &project["services"]["traefik"];
    let host = &traefik["environment"]["DOCKER_HOST"];
    assert_eq!(host, "tcp://socket-proxy:2375");
    assert!(!traefik.to_string().contains("docker.sock"), "{traefik}");
    let again = stack.rollout(&write).await;
    assert!(
        again.code(0).text.contains("nothing to do"),
        "{}",
        again.text
    );
}

/// Lists, mappings, long forms, variables, merge keys, and an old release.
const FORMS: &str = r#"x-log: &log { logging: { driver: json-file } }
services:
    edge:
        <<: *log
        image: "traefik:${RELEASE:-v3.0}"
        command: >-
            --providers.docker
            --entrypoints.web.address=:80
        environment:
        - TZ=UTC
        networks:
            front: { aliases: [edge] }
        volumes:
        - data:/data
        - type: bind
          source: ${SOCK:-/var/run/docker.sock}
          target: /var/run/docker.sock
        depends_on:
        - cache
    cache: { image: rollout-demo:v1-plain, networks: [front] }
networks: { front: , back: { name: back } }
volumes:
    data:
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_changed_so_that_each_compose_reads_what_was_meant() {
    for suite in ["trixie", "sid"] {
        let mut stack = stack(FORMS);
        stack.compose_version(suite);
        let run = stack.rollout(&["init", "--write"]).await;
        run.code(0);
        let resolved = stack.compose(&["config", "--format", "json"]).await;
        let project: serde_json::Value = serde_json::from_str(&resolved).unwrap();
        let edge = &project["services"]["edge"];
        let command = edge["command"].to_string();
        let option = "--providers.docker.endpoint=tcp://socket-proxy:2375";
        assert!(
            command.contains(option) && command.contains("--api.insecure=true"),
            "{command}"
        );
        assert_eq!(
            edge["environment"]["DOCKER_HOST"],
            "tcp://socket-proxy:2375"
        );
        assert_eq!(edge["environment"]["TZ"], "UTC");
        assert_eq!(edge["networks"]["front"]["aliases"][0], "edge");
        assert!(edge["networks"].get("docker-api").is_some(), "{edge}");
        let waits = |name: &str| edge["depends_on"][name]["condition"].clone();
        assert_eq!(waits("cache"), "service_started");
        assert_eq!(waits("socket-proxy"), "service_healthy");
        assert!(
            !edge["volumes"].to_string().contains("docker.sock"),
            "{edge}"
        );
        let mounts = project["services"]["socket-proxy"]["volumes"].to_string();
        assert!(mounts.contains("/var/run/docker.sock"), "{mounts}");
        assert_eq!(project["networks"]["docker-api"]["internal"], true);
        let again = stack.rollout(&["init", "--write"]).await;
        assert!(
            again.code(0).text.contains("nothing to do"),
            "{}",
            again.text
        );
    }
}
