//! What is seen of a Swarm service without a change: its status, and the plan of a rollout.

use std::time::Duration;

use serde_json::Value;
use testbed::eventually;

use super::{LIMIT, LONG_DRAIN, Stack};

impl Stack {
    /// The status of a service, as JSON, with its exit code.
    pub(super) async fn status(&self, service: &str) -> (Value, Option<i32>) {
        let run = self.look(&["--output", "json", "status", service]).await;
        let mut lines = run.out.lines();
        let of_it = |line: &str| {
            let value: Value = serde_json::from_str(line).ok()?;
            value["settled"].is_boolean().then_some(value)
        };
        (lines.find_map(of_it).expect(&run.text), run.code)
    }
}

/// The replicas with this traffic.
pub(super) fn with_traffic(status: &Value, traffic: &str) -> Vec<String> {
    let all = status["replicas"].as_array().unwrap().iter();
    let all = all.filter(|own| own["traffic"] == traffic);
    all.map(|own| own["name"].as_str().unwrap().to_owned())
        .collect()
}

fn steps(plan: &Value) -> Vec<&str> {
    let all = plan["steps"].as_array().unwrap().iter();
    all.filter_map(|own| own["step"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_and_the_plan_say_what_runs_and_what_changes_and_touch_nothing() {
    let mut stack = Stack::up(2).await;
    let name = stack.project.name.clone();
    let whole = eventually("all are up to date", LIMIT, async || {
        let run = stack.look(&["status"]).await;
        match run.code {
            Some(0) => Ok(run),
            _ => Err(run.text),
        }
    })
    .await;
    assert!(whole.out.contains("2 of 2"), "{}", whole.out);
    stack.project.set("TAG", "v2");
    let before = stack.tasks().await;
    let run = stack.rollout(&["plan", "web"]).await;
    run.code(10);
    let plan = run.event("plan").unwrap();
    assert_eq!(plan["replaces"], "rollout-demo:v1");
    assert_eq!(plan["created"][0], format!("{name}_web-rollout-twin"));
    assert_eq!(plan["changes"][0]["to"], "rollout-demo:v2");
    assert!(
        steps(plan).starts_with(&["create", "ready", "cutover"]),
        "{plan}"
    );
    assert!(run.out.contains("wait until ready"), "{}", run.out);
    assert_eq!(stack.tasks().await, before);
    let run = stack.rollout(&["--bake", "1s", "web"]).await;
    run.code(0);
    assert_eq!(run.begun("bake"), 1, "{}", run.text);
    assert!(run.ms("bake") >= 1_000, "{}", run.text);
    let (status, code) = stack.status("web").await;
    let expected = (Some(0), &2.into());
    assert_eq!((code, &status["revision"]), expected, "{status}");
    let run = stack.rollout(&["plan", "web"]).await;
    run.code(0);
    assert!(run.out.contains("nothing to do"), "{}", run.text);
    let run = stack.rollout(&["--bake", "1s", "plan", "plain"]).await;
    run.code(2);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_rollout_is_shown_with_what_goes_on() {
    let mut stack = Stack::up(2).await;
    let name = stack.project.name.clone();
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&[LONG_DRAIN, &["web"]].concat());
    running.comes_after("cutover", "drain").await;
    running.kill().await;
    let (status, code) = stack.status("web").await;
    let expected = (Some(1), &false.into());
    assert_eq!((code, &status["settled"]), expected, "{status}");
    let unfinished = status["unfinished"].as_str().unwrap();
    let next = format!("rollout -f FILE -p {name} web");
    assert!(unfinished.contains(&next), "{unfinished}");
    let twin = |number: u32| format!("{name}_web-rollout-twin.{number}");
    let live = with_traffic(&status, "live");
    assert_eq!(live, [twin(1), twin(2)], "{status}");
    assert_eq!(with_traffic(&status, "hidden").len(), 2, "{status}");
    let run = stack.rollout(&["plan", "web"]).await;
    run.code(10);
    let plan = run.event("plan").unwrap();
    assert!(plan["unfinished"].is_string(), "{plan}");
    assert_eq!(steps(plan)[..2], ["confirm", "drain"], "{plan}");
    // What ran before it comes back.
    let run = stack.rollout(&["undo", "web"]).await;
    run.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.project.set("TAG", "v1");
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_in_the_bake_gives_the_traffic_back() {
    let mut stack = Stack::up(1).await;
    stack.project.set("TAG", "v2");
    let before = stack.tasks().await;
    let mut running = stack.start(&["--bake", "60s", "web"]);
    running.reaches("step_started", "bake").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    let twin = format!("{}_web-rollout-twin", stack.project.name);
    let kill =
        format!("docker kill $(docker ps -q --filter label=com.docker.swarm.service.name={twin})");
    stack.project.shell(&kill).await;
    let run = running.wait_for(super::LONGEST).await;
    run.code(1);
    assert!(run.failure().contains("failed in its bake"), "{}", run.text);
    assert_eq!(run.begun("update"), 0, "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert_eq!(stack.tasks().await, before);
    stack.project.set("TAG", "v1");
    stack.settled().await;
}

/// It is healthy, and answers every tenth request with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_answers_fail_in_the_bake_gives_the_traffic_back_with_its_figures() {
    let mut stack = Stack::up(1).await;
    let load = stack.load();
    load.goes_on_for(300).await;
    stack.project.set("TAG", "v2").set("ERROR_EVERY", 10);
    let before = stack.tasks().await;
    let run = stack.rollout(&["--bake", "60s", "web"]).await;
    let report = load.stop().await;
    run.code(1);
    assert!(run.failure().contains("requests failed"), "{}", run.text);
    assert_eq!(run.begun("update"), 0, "{}", run.text);
    let figures = run.event("figures").unwrap();
    let failed = figures["during"]["new"]["failed"].as_u64();
    assert!(failed.is_some_and(|own| own > 0), "{figures}");
    assert!(report.first_answer_of("v2").is_some(), "{report}");
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert_eq!(stack.tasks().await, before);
    stack.project.set("TAG", "v1").set("ERROR_EVERY", 0);
    stack.settled().await;
}
