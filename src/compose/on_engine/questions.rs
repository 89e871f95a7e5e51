//! Reads projects, hashes and errors with a real Compose.

use crate::{
    compose::{Invocation, Pull},
    error::Outcome,
};

use testbed::cache;

use super::stack::{SUITES, Stack, hash_now};

const WEB: &str = "services: {web: {image: 'rollout-demo:${TAG}', x-rollout: {timeout: 30s}}}";

async fn refusal(stack: &Stack) -> String {
    let error = stack.compose().await.project().await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Refused);
    assert!(!error.message.contains('\n'));
    error.message
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn no_compose_file_is_one_line() {
    for suite in SUITES {
        let stack = Stack::new(suite, "nofile", WEB);
        std::fs::remove_file(stack.path("compose.yaml")).unwrap();
        let message = refusal(&stack).await;
        assert_eq!(
            message,
            "docker compose: no configuration file provided: not found"
        );
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn invalid_yaml_and_unknown_keys_are_one_line() {
    for suite in SUITES {
        let stack = Stack::new(suite, "badyaml", "services:\n  web: [\n");
        assert!(refusal(&stack).await.contains("yaml: "), "{suite}");
        stack.write("compose.yaml", "services: {web: {image: a, colour: b}}");
        let message = refusal(&stack).await;
        assert!(message.contains("colour"), "{suite}: {message}");
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn an_unknown_service_is_refused_with_services_of_inactive_profiles_among_the_known() {
    let yaml = "services: {web: {image: a, profiles: [edge]}, db: {image: b}}";
    for suite in SUITES {
        let stack = Stack::new(suite, "unknown", yaml);
        let project = stack.compose().await.project_for(&["wbe"]).await.unwrap();
        let error = project.service("wbe").unwrap_err();
        assert_eq!(
            error.message,
            format!(
                "no service \"wbe\" in project {}; did you mean \"web\"?",
                stack.name
            )
        );
        assert_eq!(error.hint.as_deref(), Some("services: db, web"));
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn the_project_is_found_from_below_from_variables_and_from_flags() {
    for suite in SUITES {
        let stack = Stack::new(suite, "found", WEB);
        let file = stack.path("compose.yaml").to_str().unwrap().to_owned();
        let given = |files: &[&String]| Invocation {
            files: files.iter().map(|&file| file.clone()).collect(),
            ..Invocation::default()
        };
        let asked = |invocation| async { stack.compose_with(invocation).await?.project().await };
        let by_discovery = asked(given(&[])).await.unwrap();
        let by_flag = asked(given(&[&file])).await.unwrap();
        assert_eq!(by_discovery, by_flag);
        assert_eq!(by_flag.name, stack.name);
        let below = stack.path("below/it");
        std::fs::create_dir_all(&below).unwrap();
        // The variables of .env differ there, and are not tested here.
        let tag = ("TAG", "v1");
        for variables in [&[tag][..], &[tag, ("COMPOSE_FILE", file.as_str())]] {
            let compose = stack.compose_from(&below, variables, Invocation::default());
            let from_below = compose.await.unwrap().project().await.unwrap();
            assert_eq!(from_below, by_flag, "{suite}: {variables:?}");
        }
        let web = by_flag.service("web").unwrap();
        assert_eq!(web.image.as_deref(), Some("rollout-demo:v1"));
        assert_eq!(web.x_rollout, Some(serde_json::json!({"timeout": "30s"})));
        stack.write("other.env", "TAG=v7\n");
        let elsewhere = Invocation {
            project_name: Some("other".to_owned()),
            env_files: vec!["other.env".to_owned()],
            ..given(&[&file])
        };
        let elsewhere = asked(elsewhere).await.unwrap();
        assert_eq!(elsewhere.name, "other");
        assert_eq!(
            elsewhere.services["web"].image.as_deref(),
            Some("rollout-demo:v7")
        );
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn the_hash_is_the_one_that_compose_writes() {
    for suite in SUITES {
        let stack = Stack::new(suite, "hash", super::RICH);
        stack.write("web.env", "EV=1$2\nFOO=bar\n");
        stack.plain(&["create", "--scale", "web=1"]);
        let compose = stack.compose().await;
        for service in ["web", "db", "once"] {
            let hash = hash_now(&compose, service).await;
            assert_eq!(stack.seen(service)[0].hash, hash, "{suite}: {service}");
        }
        stack.plain(&["create", "debug"]);
        let hash = hash_now(&compose, "debug").await;
        assert_eq!(stack.seen("debug")[0].hash, hash, "{suite}");
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn the_resolved_project_gives_the_same_hash_as_the_files() {
    for suite in SUITES {
        let stack = Stack::new(suite, "resolved", super::RICH);
        stack.write("web.env", "EV=1$2\n");
        let compose = stack.compose().await;
        let hash = hash_now(&compose, "web").await;
        let resolved = compose.project_for(&["web"]).await.unwrap().alone("web");
        stack.write("resolved.yaml", &resolved.to_string());
        let recorded = Invocation {
            files: vec!["resolved.yaml".to_owned()],
            ..Invocation::default()
        };
        let recorded = stack.compose_with(recorded).await.unwrap();
        assert_eq!(hash_now(&recorded, "web").await, hash, "{suite}");
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn contents_that_the_hash_leaves_out_are_digested_from_every_source() {
    let yaml = "services: {web: {image: a, secrets: [s], configs: [c]}}
secrets: {s: {environment: SECRET}}
configs: {c: {content: 'for ${TAG}'}}
";
    for suite in SUITES {
        let mut stack = Stack::new(suite, "contents", yaml);
        let mut digests = Vec::new();
        for env in [
            "TAG=v1\nSECRET=a$$b\n",
            "TAG=v2\nSECRET=a$$b\n",
            "TAG=v2\nSECRET=other\n",
        ] {
            stack.write(".env", env);
            let project = stack.compose().await.project().await.unwrap();
            digests.push(project.services["web"].inline_digest.clone());
        }
        stack.set("SECRET", std::path::Path::new("the environment wins"));
        let project = stack.compose().await.project().await.unwrap();
        digests.push(project.services["web"].inline_digest.clone());
        digests.dedup();
        assert_eq!(digests.len(), 4, "{suite}: {digests:?}");
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn without_compose_the_refusal_tells_how_to_install_it() {
    let mut stack = Stack::new("sid", "none", WEB);
    let path = tempfile::tempdir().unwrap();
    stack.set("PATH", path.path());
    let error = stack
        .compose_with(Invocation::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.outcome, Outcome::Refused);
    assert_eq!(error.message, "docker compose v2 was not found");
    assert!(error.hint.unwrap().contains("docker-compose-plugin"));
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn a_standalone_docker_compose_is_enough() {
    for (suite, version) in [("trixie", "2.26.1"), ("sid", "2.40.3")] {
        let mut stack = Stack::new(suite, "alone", WEB);
        let path = tempfile::tempdir().unwrap();
        let binary = cache().join(format!("compose-{suite}/docker-compose"));
        std::os::unix::fs::symlink(binary, path.path().join("docker-compose")).unwrap();
        stack.set("PATH", path.path());
        let compose = stack.compose().await;
        assert!(
            compose.version().starts_with(version),
            "{}",
            compose.version()
        );
        assert!(compose.project().await.unwrap().service("web").is_ok());
    }
}

#[tokio::test]
#[ignore = "needs the testbed: make test"]
async fn a_pull_asks_the_registry_only_when_it_has_to() {
    for suite in SUITES {
        let yaml = "services: {web: {image: 'rollout-demo:v1'}, far: {image: '127.0.0.1:1/far:1'}}";
        let stack = Stack::new(suite, "pull", yaml);
        let compose = stack.compose().await;
        compose.pull("web", Pull::Missing, |_| ()).await.unwrap();
        compose.pull("far", Pull::Never, |_| ()).await.unwrap();
        let mut lines = Vec::new();
        let error = compose
            .pull("far", Pull::Always, |line| lines.push(line))
            .await
            .unwrap_err();
        assert_eq!(error.outcome, Outcome::Failed);
        let begin = "could not pull the image of far: ";
        assert!(
            error.message.starts_with(begin) && !error.message.contains('\n'),
            "{suite}: {}",
            error.message
        );
        assert!(
            error.message.contains("127.0.0.1:1"),
            "{suite}: {}",
            error.message
        );
        assert!(!lines.is_empty(), "{suite}");
    }
}
