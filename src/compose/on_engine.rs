//! The compose view and driver on a real engine, with both Compose versions.

mod broken;
mod questions;
mod recreate;
mod stack;

use stack::{SUITES, Stack};
use testbed::docker;

const RICH: &str = r#"
services:
  web:
    image: rollout-demo:${TAG}
    scale: 3
    env_file: [web.env]
    environment: {FROM_FILE: "a$$b", UNSET: }
    labels: {auth: "user:$$apr1$$x", traefik.enable: true}
    depends_on:
      db: {condition: service_healthy}
      once: {condition: service_completed_successfully}
      debug: {condition: service_started, required: false}
    networks:
      front: {aliases: [shop]}
      back:
    configs: [{source: inline, target: /inline}]
    secrets: [key]
    volumes: ["data:/data", "./web.env:/mounted:ro"]
    hostname: shop
    restart: unless-stopped
    tmpfs: [/scratch]
    ulimits: {nofile: 1024}
    stop_grace_period: 1s
  db:
    image: rollout-demo:v1
    networks: [back]
  once:
    image: traefik:v3.7
    entrypoint: ["/bin/true"]
  debug:
    image: rollout-demo:v1
    profiles: [debug]
configs: {inline: {content: "hello $$x"}}
secrets: {key: {file: ./web.env}}
networks: {front: , back: }
volumes: {data: }
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn three_rich_replicas_are_made_beside_the_old_and_up_then_changes_nothing() {
    for suite in SUITES {
        let stack = Stack::new(suite, "rich", RICH);
        stack.write("web.env", "EV=1$2\n");
        stack.plain(&["up", "-d", "-t", "0"]);
        assert_eq!(stack.seen("web").len(), 3);
        stack.tag("v2");
        stack.roll("web", 3).await;
        let names: Vec<String> = stack
            .seen("web")
            .into_iter()
            .map(|seen| seen.name)
            .collect();
        let expected: Vec<String> = (1..=3).map(|n| format!("{}-web-{n}", stack.name)).collect();
        assert_eq!(names, expected);
        assert!(
            stack
                .seen("web")
                .iter()
                .all(|seen| seen.image == "rollout-demo:v2")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn several_files_are_one_project() {
    for suite in SUITES {
        let mut stack = Stack::new(
            suite,
            "files",
            "services: {web: {image: 'rollout-demo:${TAG}'}}",
        );
        stack.write(
            "more.yaml",
            "services: {web: {environment: {MORE: '1'}}, db: {image: 'rollout-demo:v1'}}",
        );
        stack.files(&["compose.yaml", "more.yaml"]);
        stack.plain(&["up", "-d"]);
        stack.tag("v2");
        stack.roll("web", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_container_name_is_given_to_the_new_one_in_the_end() {
    for suite in SUITES {
        let name = format!("fixed-{suite}-{}", std::process::id());
        let yaml = format!(
            "services: {{web: {{image: 'rollout-demo:${{TAG}}', container_name: {name}}}}}"
        );
        let stack = Stack::new(suite, "fixed", &yaml);
        stack.plain(&["up", "-d"]);
        stack.tag("v2");
        stack.roll("web", 1).await;
        assert_eq!(stack.seen("web")[0].name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_service_behind_a_profile_is_enabled_by_its_name() {
    let yaml = "services:
  web: {image: 'rollout-demo:${TAG}', profiles: [edge], depends_on: [db]}
  db: {image: 'rollout-demo:v1'}
";
    for suite in SUITES {
        let stack = Stack::new(suite, "profile", yaml);
        stack.plain(&["up", "-d", "web"]);
        stack.tag("v2");
        stack.roll("web", 1).await;
        let rolled = stack.seen("web");
        stack.plain(&["up", "-d", "web"]);
        assert_eq!(stack.seen("web"), rolled);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn an_image_without_a_name_is_built_and_run() {
    let yaml = "services: {web: {build: {context: ., args: {TAG: '${TAG}'}}}}";
    for suite in SUITES {
        let stack = Stack::new(suite, "built", yaml);
        stack.write("Dockerfile", "ARG TAG\nFROM rollout-demo:$TAG\nLABEL a=b\n");
        stack.plain(&["up", "-d", "--build"]);
        let old = docker(&["inspect", "-f", "{{.Image}}", &stack.seen("web")[0].id]);
        stack.tag("v2");
        let compose = stack.compose().await;
        let mut lines = Vec::new();
        compose.build("web", |line| lines.push(line)).await.unwrap();
        stack.roll("web", 1).await;
        assert_ne!(
            old,
            docker(&["inspect", "-f", "{{.Image}}", &stack.seen("web")[0].id])
        );
        let image = compose.project().await.unwrap().services["web"]
            .image
            .clone()
            .unwrap();
        assert_eq!(image, format!("{}-web", stack.name));
        drop(stack);
        docker(&["image", "rm", "-f", &image]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_service_that_is_not_running_yet_is_started() {
    for suite in SUITES {
        let stack = Stack::new(
            suite,
            "first",
            "services: {web: {image: 'rollout-demo:${TAG}', scale: 2}}",
        );
        stack.roll("web", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn exited_containers_are_replaced_and_not_started_again() {
    for suite in SUITES {
        let stack = Stack::new(
            suite,
            "exited",
            "services: {web: {image: 'rollout-demo:${TAG}'}}",
        );
        stack.plain(&["up", "-d"]);
        stack.plain(&["kill", "web"]);
        assert_eq!(stack.seen("web")[0].status, "exited");
        stack.roll("web", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn replicas_of_a_dependency_that_were_scaled_by_hand_stay() {
    let yaml = "services:
  web: {image: 'rollout-demo:${TAG}', depends_on: [db]}
  db: {image: 'rollout-demo:v1'}
";
    for suite in SUITES {
        let stack = Stack::new(suite, "scaled", yaml);
        stack.plain(&["up", "-d", "--scale", "db=2"]);
        let before = stack.seen("db");
        assert_eq!(before.len(), 2);
        stack.tag("v2");
        stack
            .create(&stack.compose().await, "web", 1)
            .await
            .unwrap();
        assert_eq!(stack.seen("db"), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn volumes_and_namespaces_of_another_service_are_shared_and_hashed_as_compose_does() {
    let yaml = "services:
  web: {image: 'rollout-demo:${TAG}', volumes_from: ['db:ro'], pid: 'service:db', links: [db]}
  db: {image: 'rollout-demo:v1', scale: 2, volumes: ['data:/data']}
volumes: {data: }
";
    for suite in SUITES {
        let stack = Stack::new(suite, "shared", yaml);
        stack.plain(&["up", "-d"]);
        let hash = stack::hash_now(&stack.compose().await, "web").await;
        assert_eq!(stack.seen("web")[0].hash, hash, "{suite}");
        stack.tag("v2");
        stack.roll("web", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_context_that_dockers_configuration_prefers_does_not_win() {
    for suite in SUITES {
        let mut stack = Stack::new(
            suite,
            "context",
            "services: {web: {image: 'rollout-demo:${TAG}'}}",
        );
        stack.plain(&["up", "-d"]);
        stack.tag("v2");
        let config = tempfile::tempdir().unwrap();
        std::fs::write(
            config.path().join("config.json"),
            r#"{"currentContext": "far"}"#,
        )
        .unwrap();
        let plugins = testbed::compose_config(suite).join("cli-plugins");
        std::os::unix::fs::symlink(plugins, config.path().join("cli-plugins")).unwrap();
        stack.set("DOCKER_CONFIG", config.path());
        for (name, value) in [
            ("DOCKER_CONTEXT", "far"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("COMPOSE_REMOVE_ORPHANS", "1"),
        ] {
            stack.set(name, std::path::Path::new(value));
        }
        stack
            .create(&stack.compose().await, "web", 1)
            .await
            .unwrap();
        assert_eq!(stack.seen("web").len(), 2);
    }
}
