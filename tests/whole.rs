//! Commands on a whole project: its status and history in one table, an undo of several services, and what is kept of
//! services that are gone.

use serde_json::Value;
use testbed::{Run, Stack};

const API: &str = "  api:
    image: rollout-demo:${TAG}
    networks: [front]
";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The row of a service, which is its first column.
fn row<'a>(run: &'a Run, service: &str) -> Vec<&'a str> {
    let rows = run.out.lines().map(words);
    let mut own = rows.filter(|row| row.first() == Some(&service));
    own.next()
        .unwrap_or_else(|| panic!("no row of {service}: {}", run.out))
}

/// What is printed as JSON, without events.
fn objects(run: &Run) -> Vec<Value> {
    let lines = run.out.lines();
    let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    values.filter(|own| own.get("event").is_none()).collect()
}

fn services(objects: &[Value]) -> Vec<&str> {
    let names = objects.iter().map(|own| own["service"].as_str());
    names.map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_has_a_row_for_each_service_and_ends_with_1_until_all_are_up_to_date() {
    let mut stack = Stack::usual(API);
    stack.up("v1").await;
    stack.tag("v2");
    let before = stack.rollout(&["status"]).await;
    before.code(1);
    for service in ["web", "api"] {
        let row = row(&before, service);
        assert!(
            row.contains(&"rollout-demo:v1") && row.contains(&"image:"),
            "{row:?}"
        );
    }
    // Nothing stands between a service and the proxy's own parts.
    for front in stack.front() {
        row(&before, front);
    }
    stack.rollout(&["web", "api"]).await.code(0);
    let after = stack.rollout(&["status", "web", "api"]).await;
    after.code(0);
    let web = [
        "web",
        "2",
        "rollout-demo:v2",
        "1",
        "of",
        "1",
        "live",
        "up",
        "to",
        "date",
    ];
    assert_eq!(row(&after, "web"), web);
    let api = [
        "api",
        "2",
        "rollout-demo:v2",
        "1",
        "of",
        "1",
        "no",
        "proxy",
        "up",
        "to",
        "date",
    ];
    assert_eq!(row(&after, "api"), api);
    let json = stack
        .rollout(&["status", "api", "web", "--output", "json"])
        .await;
    let found = objects(json.code(0));
    assert_eq!(services(&found), ["api", "web"]);
    assert!(found.iter().all(|own| own["settled"] == true), "{found:?}");
    let unknown = stack.rollout(&["status", "web", "apo"]).await;
    assert!(
        unknown.code(2).text.contains("did you mean"),
        "{}",
        unknown.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_project_begins_with_the_newest_and_several_services_are_undone_in_reverse()
 {
    let mut stack = Stack::usual(API);
    stack.up("v1").await;
    let nothing = stack.rollout(&["undo"]).await;
    assert!(
        nothing
            .code(2)
            .text
            .contains("none has an earlier revision"),
        "{}",
        nothing.text
    );
    stack.tag("v2");
    let one_by_one = ["--parallel", "1", "web", "api"];
    stack.rollout(&one_by_one).await.code(0);

    let json = stack.rollout(&["history", "--output", "json"]).await;
    let found = objects(json.code(0));
    assert_eq!(services(&found[..2]), ["api", "web"], "{found:?}");
    let numbers: Vec<u64> = found
        .iter()
        .map(|own| own["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 2, 1, 1]);
    let newest = stack.rollout(&["history", "--limit", "1"]).await;
    let newest = row(newest.code(0), "api").join(" ");
    assert!(
        newest.starts_with("api 2 rollout-demo:v2") && newest.ends_with("live"),
        "{newest}"
    );

    let offered = stack.rollout(&["undo"]).await;
    let offer = "can be undone: api to revision 1, web to revision 1";
    assert!(offered.code(2).text.contains(offer), "{}", offered.text);
    let refused = stack.rollout(&["undo", "web", "api", "--to", "1"]).await;
    refused.code(2);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    let load = stack.load();
    let undone = stack.rollout(&["undo", "web", "api"]).await;
    let report = load.stop().await;
    undone.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", undone.text);
    let finished = undone
        .events
        .iter()
        .filter(|own| own["event"] == "finished");
    let order: Vec<&str> = finished
        .map(|own| own["service"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["api", "web"]);
    let report = undone.events.last().unwrap();
    assert_eq!(report["event"], "stack_finished", "{report}");
    assert_eq!(report["services"][1]["result"], "rolled", "{report}");
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.no_leftovers().await;
}

/// Rolls a service of a project of its own twice, and takes the project down.
async fn another_project_comes_and_goes(stack: &mut Stack) -> String {
    let other = format!("{}-gone", stack.name);
    stack.write(
        "job.yaml",
        "services:\n  app:\n    image: rollout-demo:${TAG}\n",
    );
    let project = ["-f", "job.yaml", "-p", &other];
    for tag in ["v1", "v2"] {
        stack.tag(tag);
        let run = [&project[..], &["--proxy", "none", "app"]].concat();
        stack.rollout(&run).await.code(0);
    }
    stack.compose(&[&project[..], &["down"]].concat()).await;
    other
}

async fn tags(stack: &Stack, repository: &str) -> usize {
    let tags = ["images", "--format", "{{.Tag}}", repository];
    stack.docker(&tags).await.lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_lists_and_then_removes_what_is_kept_of_the_gone_and_leaves_the_rest_alone() {
    let mut stack = Stack::usual(API);
    stack.up("v1").await;
    stack.tag("v2");
    stack.rollout(&["web", "api"]).await.code(0);
    let other = another_project_comes_and_goes(&mut stack).await;
    let (own_tags, others) = (
        format!("rollout/{}-web", stack.name),
        format!("rollout/{other}-app"),
    );
    assert_eq!(
        (tags(&stack, &own_tags).await, tags(&stack, &others).await),
        (2, 2)
    );

    let listed = stack.rollout(&["prune"]).await;
    let text = &listed.code(0).out;
    assert!(
        text.contains(&format!("{others}:1")) && text.contains("records"),
        "{text}"
    );
    assert!(!text.contains(&own_tags), "{text}");
    assert!(text.trim_end().ends_with("rollout prune --yes"), "{text}");
    assert_eq!(tags(&stack, &others).await, 2);

    // A service that has left the file stays as long as it has a container.
    stack.write(
        "compose.yaml",
        &format!("services:\n  web:\n{}", testbed::USUAL),
    );
    // Neither takes what is kept of other projects along.
    for (arguments, says) in [
        (&["prune", "-p", "other"][..], "rollout prune other"),
        (&["prune", "no-such"], "nothing is kept of project no-such"),
    ] {
        let refused = stack.rollout(arguments).await;
        assert!(refused.code(2).text.contains(says), "{}", refused.text);
    }
    let listed = stack.rollout(&["prune", "--output", "json"]).await;
    // Other tests leave locks of their own.
    let of = |run: &Run, service: &str| -> usize {
        let lines = run.out.lines();
        let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is_ours = |own: &Value| own["project"] == stack.name || own["project"] == other;
        let own = values.filter(|own| own["event"] == "kept" && own["service"] == service);
        own.filter(is_ours).count()
    };
    assert_eq!((of(listed.code(0), "app"), of(&listed, "api")), (3, 0));
    let api = stack.newest("api").await;
    stack.docker(&["rm", "-f", &api]).await;
    let removed = stack.rollout(&["prune", "--yes", "--output", "json"]).await;
    assert_eq!((of(removed.code(0), "app"), of(&removed, "api")), (3, 3));
    assert_eq!(
        (tags(&stack, &own_tags).await, tags(&stack, &others).await),
        (2, 0)
    );
    let again = stack.rollout(&["prune", "--output", "json"]).await;
    assert_eq!((of(again.code(0), "app"), of(&again, "api")), (0, 0));
    let history = stack.rollout(&["history", "--output", "json"]).await;
    assert_eq!(services(&objects(history.code(0))), ["web", "web"]);
    stack.rollout(&["undo", "web"]).await.code(0);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_and_docker_are_offered_the_services_of_the_file_and_the_revisions_of_the_records()
{
    let mut stack = Stack::usual(API);
    stack.up("v1").await;
    stack.tag("v2");
    stack.rollout(&["web"]).await.code(0);
    let offered = async |line: &[&str]| -> Vec<String> {
        let words = [&["--", "rollout"], line].concat();
        let asked = [("ROLLOUT_COMPLETE", "fish")];
        let run = stack.start_rollout_with(&words, &asked).wait().await;
        let lines = run.code(0).out.lines();
        let values = lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        values.collect()
    };
    assert_eq!(offered(&["status", "a"]).await, ["api"]);
    assert_eq!(offered(&["undo", "web", "--to", ""]).await, ["2", "1"]);
    assert_eq!(
        offered(&["-f", "no-such-file.yaml", "up", "w"]).await,
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_that_does_not_fit_is_named_before_the_first_step() {
    let limit = "    deploy: {resources: {limits: {memory: 900G}}}\n";
    let mut stack = Stack::usual(limit);
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    let warned = "a new replica may use 900.0 GiB of memory";
    let named = |own: &Value| {
        own["text"]
            .as_str()
            .is_some_and(|text| text.starts_with(warned))
    };
    let at = run.events.iter().position(named);
    let started = run.events.iter().position(|own| own["event"] == "started");
    assert!(at.is_some() && at < started, "{}", run.text);
    let gap = stack
        .rollout(&["--force", "--strategy", "recreate", "web"])
        .await;
    assert!(!gap.code(0).text.contains("of memory"), "{}", gap.text);
}
