//! The revisions of a Swarm service: recorded, listed, and gone back to without loss.

use serde_json::Value;
use testbed::Run;

use super::{LONGEST, STACK, Stack};

impl Stack {
    /// A command without settings.
    pub(super) async fn look(&self, arguments: &[&str]) -> Run {
        self.begin(arguments).wait_for(LONGEST).await
    }

    /// The lines of a history, as JSON.
    async fn history(&self, service: &str) -> Vec<Value> {
        let run = self.look(&["--output", "json", "history", service]).await;
        run.code(0);
        let lines = run.out.lines();
        let lines = lines.filter_map(|line| serde_json::from_str(line).ok());
        let lines: Vec<Value> = lines.collect();
        let is_entry = |own: &Value| own["number"].is_u64() || own["event"] == "attempt";
        lines.into_iter().filter(is_entry).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_returns_to_what_ran_before_and_a_failed_rollout_is_listed() {
    let mut stack = Stack::up(2).await;
    stack.project.set("TAG", "v2");
    stack.rollout(&["web"]).await.code(0);
    stack.project.set("TAG", "broken");
    stack.rollout(&["web"]).await.code(1);
    let load = stack.load();
    let run = stack.rollout(&["undo", "web"]).await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(run.event("started").unwrap()["undo_to"], 1, "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    let history = stack.history("web").await;
    let images: Vec<&str> = history
        .iter()
        .filter_map(|own| own["image"]["reference"].as_str())
        .collect();
    let expected = ["v1", "v2", "broken", "v1"].map(|tag| format!("rollout-demo:{tag}"));
    assert_eq!(images, expected, "{history:#?}");
    let failed = history[2]["failed"].as_str().unwrap();
    assert!(failed.contains("the old version of web serves"), "{failed}");
    assert_eq!(
        (&history[0]["found"], &history[3]["undo_to"]),
        (&true.into(), &1.into())
    );
    let whole = stack.look(&["history"]).await;
    whole.code(0);
    assert!(whole.out.contains("live, undo to 1"), "{}", whole.out);
    assert!(!whole.out.contains("image not kept"), "{}", whole.out);
    // What stands in the file comes back, under the same rules as for any rollout.
    stack.rollout(&["undo", "--to", "2", "web"]).await.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.project.set("TAG", "v2");
    stack.settled().await;
    let none = stack.rollout(&["undo", "--to", "9", "web"]).await;
    none.code(2);
    assert!(none.failure().contains("revision 9"), "{}", none.text);
}

/// Swarm never changes a config, so a revision has the content that it had, whatever stands in the file now.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_has_its_configs_and_is_refused_once_the_swarm_lacks_one() {
    let with = |key: &str| {
        let own = format!("    image: rollout-demo:$TAG\n    configs: [{key}]\n");
        let file = STACK.replace("    image: rollout-demo:$TAG\n", &own);
        format!("{file}configs: {{ {key}: {{ file: ./{key}.txt }} }}\n")
    };
    let mut stack = Stack::up(1).await;
    stack.project.set("TAG", "v2");
    stack.project.write("one.txt", "one");
    stack.project.write("two.txt", "two");
    stack.project.write("stack.yml", &with("one"));
    stack.rollout(&["web"]).await.code(0);
    stack.project.write("stack.yml", &with("two"));
    stack.rollout(&["web"]).await.code(0);
    stack.project.write("one.txt", "changed");
    stack.rollout(&["undo", "web"]).await.code(0);
    let name = &stack.project.name;
    let format = "{{range .Spec.TaskTemplate.ContainerSpec.Configs}}{{.ConfigName}}{{end}}";
    let service = format!("{name}_web");
    let inspect = ["service", "inspect", "-f", format, &service];
    let has = stack.project.docker(&inspect).await;
    assert_eq!(has.trim(), format!("{name}_one"));
    let config = format!("{name}_two");
    stack.project.docker(&["config", "rm", &config]).await;
    let before = stack.tasks().await;
    let run = stack.rollout(&["undo", "--to", "3", "web"]).await;
    run.code(2);
    assert!(run.failure().contains(&config), "{}", run.text);
    assert_eq!(stack.tasks().await, before);
}
