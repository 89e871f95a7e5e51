//! The same on three nodes: Traefik and the socket proxy on the manager, tasks on all of them. The sockets of a task on
//! another node cannot be seen, so its drain is a wait.

use std::collections::BTreeSet;

use testbed::Run;

use super::{Bridge, STACK, Stack, looks::with_traffic, run_testbed};
use crate::soak::dockerd::exported;

impl Stack {
    /// Three replicas of web on the Swarm of three nodes; the CLI runs on its manager.
    async fn on_nodes() -> Self {
        Self::on_nodes_with(STACK).await
    }

    /// The same of another file.
    async fn on_nodes_with(file: &str) -> Self {
        run_testbed(&["nodes"]).await;
        let socket = exported("ROLLOUT_TESTBED_NODES_SOCKET").await;
        let network = exported("ROLLOUT_TESTBED_NODES_NETWORK").await;
        let mut stack = Self::new(file, "localhost", 3);
        stack
            .project
            .set("DOCKER_HOST", format!("unix://{socket}"))
            .set("SOCKET", socket);
        stack.starter = vec!["nsenter".to_owned(), format!("--net={network}")];
        stack._bridge = Some(Bridge::to_port(stack.port, &network).await);
        stack.begun().await
    }

    /// The nodes on which tasks of web run.
    async fn nodes(&self) -> BTreeSet<String> {
        let name = format!("{}_web", self.project.name);
        let filter = ["-f", "desired-state=running", "--format", "{{.Node}}"];
        let line = [&["service", "ps", &name], &filter[..]].concat();
        let nodes = self.project.docker(&line).await;
        nodes.lines().map(str::to_owned).collect()
    }

    /// A rollout or an undo under load.
    async fn loses_nothing(&self, arguments: &[&str]) -> Run {
        let load = self.load();
        let run = self.rollout(arguments).await;
        load.goes_on_for(100).await;
        let report = load.stop().await;
        run.code(0);
        println!("{arguments:?}: {report}");
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
        run
    }
}

/// The services whose tasks on other nodes were waited for, as the run says.
fn waited_for(run: &Run) -> Vec<&str> {
    let said = |text: &str| text.contains("on other nodes") && text.contains("a wait of 4s");
    let notices = run.notices().into_iter().filter(|text| said(text));
    notices.filter_map(|text| text.split(':').next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_on_several_nodes_are_rolled_and_undone_without_loss() {
    let mut stack = Stack::on_nodes().await;
    let nodes = stack.nodes().await;
    assert!(nodes.len() >= 2, "{nodes:?}");
    let service = format!("{}_web", stack.project.name);
    let both = [service.clone(), format!("{service}-rollout-twin")];
    stack.project.set("TAG", "v2");
    let run = stack.loses_nothing(&["web"]).await;
    assert_eq!(waited_for(&run), both, "{}", run.text);
    let (status, code) = stack.status("web").await;
    assert_eq!(code, Some(0), "{status}");
    let all: Vec<String> = (1..=3).map(|slot| format!("{service}.{slot}")).collect();
    assert_eq!(with_traffic(&status, "live"), all, "{status}");
    stack.settled().await;
    let run = stack.loses_nothing(&["undo", "web"]).await;
    assert_eq!(waited_for(&run), both, "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    stack.project.set("TAG", "v1");
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_over_nodes_that_is_killed_after_the_cutover_goes_on_without_loss() {
    let mut stack = Stack::on_nodes().await;
    let load = stack.load();
    stack.project.set("TAG", "v2");
    let mut running = stack.start(&["web"]);
    running.comes_after("cutover", "drain").await;
    running.kill().await;
    let (status, code) = stack.status("web").await;
    assert_eq!(code, Some(1), "{status}");
    let twin = format!("{}_web-rollout-twin", stack.project.name);
    let all: Vec<String> = (1..=3).map(|slot| format!("{twin}.{slot}")).collect();
    assert_eq!(with_traffic(&status, "live"), all, "{status}");
    let run = stack.rollout(&["web"]).await;
    load.goes_on_for(100).await;
    let report = load.stop().await;
    run.code(0);
    println!("killed and run again: {report}");
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(waited_for(&run).len(), 2, "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_healthy_or_that_no_node_may_run_never_gets_a_request() {
    let mut stack = Stack::on_nodes().await;
    let before = stack.tasks().await;
    let load = stack.load();
    stack.project.set("TAG", "broken");
    let unhealthy = stack.rollout(&["web"]).await;
    unhealthy.code(1);
    stack.project.set("TAG", "v2");
    let nowhere = "    deploy:\n      placement: { constraints: [node.labels.x == y] }\n";
    let file = STACK.replace(
        "    deploy:\n      replicas",
        &format!("{nowhere}      replicas"),
    );
    stack.project.write("stack.yml", &file);
    let unplaced = stack.rollout(&["web"]).await;
    unplaced.code(1);
    load.goes_on_for(100).await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", unplaced.text);
    let why = unhealthy.failure();
    assert!(why.contains("the old version of web serves"), "{why}");
    let why = unplaced.failure();
    assert!(why.contains("no suitable node"), "{why}");
    assert_eq!(stack.tasks().await, before);
    stack.project.set("TAG", "v1").write("stack.yml", STACK);
    stack.settled().await;
}

/// No task is where the CLI runs, so nothing of them is seen.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_move_to_other_nodes_without_loss() {
    let mut stack = Stack::on_nodes().await;
    let there = "    deploy:\n      placement: { constraints: [node.role == worker] }\n";
    let file = STACK.replace(
        "    deploy:\n      replicas",
        &format!("{there}      replicas"),
    );
    stack.project.write("stack.yml", &file);
    stack.loses_nothing(&["web"]).await;
    let workers = BTreeSet::from(["nodes-2", "nodes-3"].map(str::to_owned));
    assert_eq!(stack.nodes().await, workers);
    stack.project.set("TAG", "v2");
    let run = stack.loses_nothing(&["web"]).await;
    assert_eq!(run.event("drained"), None, "{}", run.text);
    assert_eq!(stack.nodes().await, workers);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_task_on_each_node_is_rolled_without_loss() {
    let file = STACK.replace("      replicas: $REPLICAS", "      mode: global");
    let mut stack = Stack::on_nodes_with(&file).await;
    stack.project.set("TAG", "v2");
    let run = stack.loses_nothing(&["web"]).await;
    assert_eq!(run.event("finished").unwrap()["replicas"], 3);
    let ready = run.events.iter().filter(|event| event["event"] == "ready");
    let ready: BTreeSet<&str> = ready.filter_map(|own| own["replica"].as_str()).collect();
    assert_eq!(ready.len(), 3, "{ready:?}");
    assert_eq!(waited_for(&run).len(), 2, "{}", run.text);
    stack.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_worker_a_stack_is_refused() {
    let mut stack = Stack::on_nodes().await;
    let manager = exported("ROLLOUT_TESTBED_NODES_SOCKET").await;
    let nodes = stack.nodes().await;
    let with_task = nodes.iter().find(|node| *node != "nodes-1").unwrap();
    let worker = manager.replace("nodes-1", with_task);
    stack.project.set("DOCKER_HOST", format!("unix://{worker}"));
    for line in [
        &["web"][..],
        &["plan", "web"],
        &["undo", "web"],
        &["history", "web"],
        &["status"],
    ] {
        let run = stack.look(line).await;
        let (code, text) = (run.code, &run.text);
        let is_refused = code == Some(2) && text.contains("no manager") && text.contains(&worker);
        assert!(is_refused, "{line:?}: {code:?} {text}");
    }
    stack
        .project
        .set("DOCKER_HOST", format!("unix://{manager}"));
}
