//! A new set in place of a stopped one takes over anonymous volumes, as when Compose recreates containers.

use testbed::docker;

use super::stack::{SUITES, Stack};
use crate::{compose::AnonymousVolumes, model::ContainerId};

const YAML: &str = "services:
  web: {image: 'rollout-demo:${TAG}', scale: 2, depends_on: [db], volumes: [/anonymous, 'named:/named'], stop_grace_period: 0s}
  db: {image: 'rollout-demo:${DB:-v1}'}
volumes: {named: }
";

fn volume(container: &str, target: &str) -> String {
    let format = format!(
        "{{{{range .Mounts}}}}{{{{if eq .Destination {target:?}}}}}{{{{.Name}}}}{{{{end}}}}{{{{end}}}}"
    );
    docker(&["inspect", "-f", &format, container])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the testbed: make test"]
async fn each_new_container_has_the_volume_of_its_number_and_up_then_changes_nothing() {
    for suite in SUITES {
        let stack = Stack::new(suite, "inplace", YAML);
        stack.plain(&["up", "-d"]);
        let (old, db) = (stack.seen("web"), stack.seen("db"));
        let before: Vec<String> = old
            .iter()
            .map(|own| volume(&own.id, "/anonymous"))
            .collect();
        assert!(before[0].len() > 20 && before[0] != before[1], "{before:?}");
        stack.tag("v2");
        stack.plain(&["stop", "web"]);
        let ids = old.iter().map(|own| ContainerId(own.id.clone()));
        stack
            .roll_with("web", 2, AnonymousVolumes::Inherit(ids.collect()))
            .await;
        let new = stack.seen("web");
        for (new, before) in new.iter().zip(&before) {
            assert_eq!(volume(&new.id, "/anonymous"), *before, "{suite}");
            assert!(volume(&new.id, "/named").ends_with("_named"), "{suite}");
            assert_eq!(new.image, "rollout-demo:v2");
        }
        assert_eq!(stack.seen("db"), db);
        // Containers that Compose recreates later have them too.
        stack.tag("v1");
        stack.plain(&["up", "-d"]);
        let after: Vec<String> = stack
            .seen("web")
            .iter()
            .map(|own| volume(&own.id, "/anonymous"))
            .collect();
        assert_eq!(after, before, "{suite}");
    }
}
