//! As `docker rollout`: the binary as a plugin beside Compose, with docker-rollout's own flags.

use std::path::Path;

use testbed::{Stack, binary};

/// A Docker configuration of its own, with the Compose plugin of the usual one and ours beside it.
pub async fn install(stack: &mut Stack) {
    let own = stack.path("docker-config");
    let plugins = own.join("cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(binary(), plugins.join("docker-rollout")).unwrap();
    let found = stack
        .docker(&[
            "info",
            "--format",
            "{{range .ClientInfo.Plugins}}{{.Name}} {{.Path}}\n{{end}}",
        ])
        .await;
    let compose = found
        .lines()
        .find_map(|line| line.strip_prefix("compose "))
        .unwrap();
    std::os::unix::fs::symlink(Path::new(compose.trim()), plugins.join("docker-compose")).unwrap();
    stack.set("DOCKER_CONFIG", own.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_rollout_takes_the_flags_of_docker_rollout() {
    let mut stack = Stack::usual("    profiles: [site]\n");
    install(&mut stack).await;
    let help = stack.docker(&["rollout", "--help"]).await;
    for option in ["--drain-timeout", "--pre-stop-hook"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    stack.compose(&["--profile", "site", "up", "-d"]).await;
    stack.answers("v1").await;
    let old = stack.replicas("web").await;
    stack.write("other.env", "TAG=v2\n");
    // Nothing but the flags says which project and version is meant, and where the plugins are.
    let config = stack.path("docker-config");
    let config = config.display();
    let project = stack.name.clone();
    let (port, image) = (stack.port, testbed::image());
    let line = format!(
        "unset COMPOSE_FILE COMPOSE_PROJECT_NAME TAG DOCKER_CONFIG; PATH=${{PATH#*/tests/testbed/bin:}} \
         HTTP_PORT={port} ROLLOUT_TESTBED_IMAGE={image} docker -Dl warn --config {config} rollout -f front.yaml \
         --file compose.yaml -p {project} --profile site --env-file other.env \
         -t 30 -w 5 --wait-after-healthy 1 --pre-stop-hook 'exit 0' web 2>&1"
    );
    let load = stack.load();
    let text = stack.shell(&line).await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{text}");
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{text}");
    let new = stack.replicas("web").await;
    assert_eq!(new[0].name, old[0].name);
    assert_ne!(new[0].id, old[0].id);
    stack.set("COMPOSE_PROFILES", "site").tag("v2");
    stack.settled(1).await;
}
