//! Failures keep the old set unchanged, and are explained in one line.

use std::{collections::BTreeMap, path::Path, time::Duration};

use testbed::eventually;

use crate::{
    compose::{AnonymousVolumes, CreateRequest},
    error::Outcome,
};

use super::stack::{SUITES, Stack};

const LIMIT: Duration = Duration::from_secs(10);

const WEB: &str = "services: {web: {image: 'rollout-demo:${TAG}'}}";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_missing_image_is_named() {
    for suite in SUITES {
        let stack = Stack::new(suite, "noimage", WEB);
        stack.plain(&["up", "-d"]);
        let old = stack.seen("web");
        stack.tag("v999");
        let error = stack
            .create(&stack.compose().await, "web", 1)
            .await
            .unwrap_err();
        assert_eq!(error.outcome, Outcome::Failed);
        assert!(
            error.message.starts_with("could not create web: "),
            "{suite}: {}",
            error.message
        );
        assert!(
            error.message.contains("rollout-demo:v999"),
            "{suite}: {}",
            error.message
        );
        assert_eq!(stack.seen("web"), old);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_missing_command_fails_the_start() {
    for suite in SUITES {
        let stack = Stack::new(suite, "nocommand", WEB);
        stack.plain(&["up", "-d"]);
        let old = stack.seen("web");
        stack.write(
            "compose.yaml",
            "services: {web: {image: 'rollout-demo:v2', entrypoint: [/none]}}",
        );
        let error = stack
            .create(&stack.compose().await, "web", 1)
            .await
            .unwrap_err();
        assert!(
            error.message.starts_with("could not start web: "),
            "{suite}: {}",
            error.message
        );
        assert!(
            error.message.contains("/none"),
            "{suite}: {}",
            error.message
        );
        let (half_made, rest): (Vec<_>, Vec<_>) = stack
            .seen("web")
            .into_iter()
            .partition(|seen| seen.rollout == "r2");
        assert_eq!((half_made.len(), rest), (1, old));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_dependency_without_a_container_is_refused_and_not_created() {
    let yaml = "services: {web: {image: 'rollout-demo:v1', depends_on: [db]}, db: {image: 'rollout-demo:v1'}}";
    for suite in SUITES {
        let stack = Stack::new(suite, "nodep", yaml);
        let error = stack
            .create(&stack.compose().await, "web", 1)
            .await
            .unwrap_err();
        assert_eq!(error.outcome, Outcome::Refused);
        assert_eq!(error.message, "web depends on db, which has no container");
        assert!(stack.seen("db").is_empty() && stack.seen("web").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_dependency_that_was_removed_meanwhile_is_not_created() {
    let yaml = "services: {web: {image: 'rollout-demo:v1', depends_on: [db]}, db: {image: 'rollout-demo:v1'}}";
    for suite in SUITES {
        let stack = Stack::new(suite, "gonedep", yaml);
        let compose = stack.compose().await;
        let project = compose.project().await.unwrap();
        let request = CreateRequest {
            project: &project,
            service: "web",
            replicas: 1,
            dependencies: vec![("db".to_owned(), 1)],
            rollout: "r2",
            lock: None,
            labels: BTreeMap::new(),
            anonymous_volumes: AnonymousVolumes::Refuse,
        };
        let error = compose.create(&request, |_| ()).await.unwrap_err();
        assert_eq!(
            error.message,
            format!(
                "could not create web: docker compose wanted to create container {0}-db-1: it belongs to service db, \
                 not to web, which is not part of this rollout",
                stack.name
            )
        );
        assert!(stack.seen("db").is_empty() && stack.seen("web").is_empty());
    }
}

/// Newer versions of Compose stop every service of a network whose definition has changed, and recreate it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_changed_network_in_the_file_stops_no_container() {
    let yaml = |label: &str| {
        format!(
            "services: {{web: {{image: 'rollout-demo:${{TAG}}'}}, db: {{image: 'rollout-demo:v1'}}}}\n\
             networks: {{default: {{labels: {{a: {label}}}}}}}"
        )
    };
    for suite in SUITES {
        let stack = Stack::new(suite, "network", &yaml("one"));
        stack.plain(&["up", "-d"]);
        let (web, db) = (stack.seen("web"), stack.seen("db"));
        stack.write("compose.yaml", &yaml("two"));
        stack.tag("v2");
        let created = stack.create(&stack.compose().await, "web", 1).await;
        let (old, new): (Vec<_>, Vec<_>) = stack
            .seen("web")
            .into_iter()
            .partition(|seen| seen.rollout.is_empty());
        if suite == "sid" {
            let error = created.unwrap_err();
            assert!(
                error.message.contains("docker compose wanted to"),
                "{}",
                error.message
            );
        } else {
            created.unwrap();
            assert_eq!(new.len(), 1, "{suite}");
        }
        assert_eq!((old, stack.seen("db")), (web, db), "{suite}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_creation_that_is_dropped_ends_compose_and_the_socket() {
    for suite in SUITES {
        let mut stack = Stack::new(suite, "dropped", WEB);
        stack.set("PATH", &testbed::path_with_the_docker_cli());
        stack.plain(&["up", "-d"]);
        let old = stack.seen("web");
        stack.tag("v2");
        let compose = stack.compose().await;
        let project = compose.project().await.unwrap();
        let request = CreateRequest {
            project: &project,
            service: "web",
            replicas: 1,
            dependencies: Vec::new(),
            rollout: "r2",
            lock: None,
            labels: BTreeMap::new(),
            anonymous_volumes: AnonymousVolumes::Refuse,
        };
        let project = format!("COMPOSE_PROJECT_NAME={}", stack.name);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut sender = Some(sender);
        let on_line = |_: String| {
            if let Some(sender) = sender.take() {
                let _ = sender.send(environments_with(&project));
            }
        };
        let running = tokio::select! {
            done = compose.create(&request, on_line) => {
                panic!("done before its first line: {done:?}")
            }
            running = receiver => running.unwrap(),
        };
        let mut variables = running.iter().flatten();
        let socket = variables.find_map(|own| own.strip_prefix("DOCKER_HOST=unix://"));
        let socket = Path::new(socket.expect("Compose runs on a socket"));
        let directory = socket.parent().unwrap();
        eventually(
            "Compose has ended and its socket is deleted",
            LIMIT,
            async || match (environments_with(&project).len(), directory.exists()) {
                (0, false) => Ok(()),
                left => Err(left),
            },
        )
        .await;
        let rest: Vec<_> = stack
            .seen("web")
            .into_iter()
            .filter(|seen| seen.rollout.is_empty())
            .collect();
        assert_eq!(rest, old);
    }
}

/// The environments of all processes that have this variable.
fn environments_with(variable: &str) -> Vec<Vec<String>> {
    let environment = |process: std::fs::DirEntry| -> Vec<String> {
        let bytes = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.split('\0').map(str::to_owned).collect()
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(environment)
        .filter(|own| own.iter().any(|found| found == variable))
        .collect()
}
