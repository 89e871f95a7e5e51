//! Replacing containers in place, as Compose itself does.

use super::stack::{SUITES, Stack};

const YAML: &str = "services:
  web: {image: 'rollout-demo:${TAG}', scale: 2, depends_on: [db], volumes: [/anonymous], stop_grace_period: 0s}
  db: {image: 'rollout-demo:${DB:-v1}'}
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn the_service_is_replaced_and_up_then_changes_nothing() {
    for suite in SUITES {
        let stack = Stack::new(suite, "inplace", YAML);
        stack.plain(&["up", "-d"]);
        let (old, db) = (stack.seen("web"), stack.seen("db"));
        stack.tag("v2");
        stack
            .compose()
            .await
            .recreate("web", 2, |_| ())
            .await
            .unwrap();
        let new = stack.seen("web");
        assert!(
            new.iter().all(|new| old.iter().all(|old| old.id != new.id)),
            "{suite}"
        );
        assert!(
            new.iter()
                .all(|new| new.status == "running" && new.image == "rollout-demo:v2")
        );
        assert_eq!(stack.seen("db"), db);
        stack.up_changes_nothing();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn a_dependency_that_changed_too_stops_it_before_anything_is_touched() {
    for suite in SUITES {
        let mut stack = Stack::new(suite, "changed", YAML);
        stack.plain(&["up", "-d"]);
        let (old, db) = (stack.seen("web"), stack.seen("db"));
        stack.tag("v2");
        stack.set("DB", std::path::Path::new("v2"));
        let error = stack
            .compose()
            .await
            .recreate("web", 2, |_| ())
            .await
            .unwrap_err();
        assert!(
            error
                .message
                .contains("docker compose wanted to create container"),
            "{}",
            error.message
        );
        assert_eq!((stack.seen("web"), stack.seen("db")), (old, db), "{suite}");
    }
}
