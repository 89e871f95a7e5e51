//! Compose's `pre_start` hooks, which run in containers of their own; a stand-in for Compose 5.3 makes its calls.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use testbed::Stack;

/// The calls of the Composes that have hooks, one kind after the other.
const KINDS: [&str; 2] = ["nameless", "named"];

/// A stack whose Compose runs this command of a shell before it starts new replicas.
async fn with_hook(hook: &str) -> Stack {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let config = std::env::var("DOCKER_CONFIG").expect("the testbed names a Compose");
    let real = Path::new(&config).join("cli-plugins/docker-compose");
    let plugins = stack.path("docker-config/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    let script = include_str!("pre_start/docker-compose").replace("REAL", real.to_str().unwrap());
    let plugin = plugins.join("docker-compose");
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let config = stack.path("docker-config");
    stack
        .set("DOCKER_CONFIG", config.display())
        .set("HOOK", hook);
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_before_the_start_gets_no_traffic_and_leaves_nothing_behind() {
    // It runs for long enough to be taken for a replica, on a port that nothing listens on.
    let mut stack = with_hook("sleep 1").await;
    for (kind, version) in KINDS.into_iter().zip(["v2", "v1"]) {
        let load = stack.load();
        stack.set("HOOK_KIND", kind).tag(version);
        let run = stack.rollout(&["web"]).await;
        let report = load.stop().await;
        run.code(0);
        assert!(report.nothing_lost(), "{kind}: {report}\n{}", run.text);
        stack.answers(version).await;
        stack.settled(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_ends_the_rollout_and_shows_what_it_said() {
    let mut stack = with_hook("echo no such column >&2; exit 3").await;
    let before = stack.replicas("web").await;
    for kind in KINDS {
        let load = stack.load();
        stack.set("HOOK_KIND", kind).tag("v2");
        let run = stack.rollout(&["web"]).await;
        let report = load.stop().await;
        let failed = run.code(1).event("failed").unwrap().to_string();
        assert!(
            failed.contains("pre_start[0] exited with code 3"),
            "{failed}"
        );
        assert!(failed.contains("no such column"), "{kind}: {failed}");
        assert!(report.nothing_lost(), "{kind}: {report}\n{}", run.text);
        assert_eq!(stack.replicas("web").await, before, "{kind}: {}", run.text);
        stack.no_leftovers().await;
    }
}
