//! Several services of a stack by one command, one after another.

use super::{LONGEST, Stack};

fn results(run: &testbed::Run) -> Vec<(String, String)> {
    let finished = run.event("stack_finished").unwrap();
    let rows = finished["services"].as_array().unwrap().iter();
    let text = |own: &serde_json::Value| own.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["service"]), text(&row["result"])))
        .collect()
}

fn expected(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, result): &(&str, &str)| ((*name).to_owned(), (*result).to_owned());
    rows.iter().map(owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_are_rolled_but_those_that_carry_the_traffic_and_what_is_up_to_date_stays() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    stack.project.set("TAG", "v2");
    let plan = stack.start(&["--all", "--dry-run"]).wait_for(LONGEST).await;
    plan.code(10);
    let run = stack.rollout(&["--all"]).await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    let rows = [
        ("plain", "unchanged"),
        ("web", "rolled"),
        ("socket-proxy", "left_alone"),
        ("traefik", "left_alone"),
    ];
    assert_eq!(results(&run), expected(&rows), "{}", run.text);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_what_was_rolled_is_taken_back_where_that_is_asked_for() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    stack.project.set("TAG", "v2").set("PLAIN", "broken");
    let options = ["--timeout", "20s", "--on-failure", "rollback"];
    let run = stack
        .rollout(&[&options[..], &["web", "plain"]].concat())
        .await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(1);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    let rows = [("web", "rolled_back"), ("plain", "failed")];
    assert_eq!(results(&run), expected(&rows), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_none_of_the_others_is_begun() {
    let mut stack = Stack::up(1).await;
    let before = stack.tasks().await;
    stack.project.set("TAG", "broken").set("PLAIN", "v2");
    let run = stack.rollout(&["--timeout", "20s", "web", "plain"]).await;
    run.code(1);
    assert_eq!(stack.tasks().await, before);
    let rows = [("web", "failed"), ("plain", "not_begun")];
    assert_eq!(results(&run), expected(&rows), "{}", run.text);
    stack.project.set("TAG", "v1").set("PLAIN", "v1");
    stack.settled().await;
}
