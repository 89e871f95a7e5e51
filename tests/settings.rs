//! Where settings come from, and that docker-rollout's flags are understood, also as `docker rollout`.

use testbed::{Run, Stack};

use crate::shapes::plugin::install;

/// What a refusal says the number of replicas is: nothing has to run for that.
fn replicas(run: &Run) -> String {
    let message = run.code(2).failure();
    let (_, number) = message.split_once(" and ").unwrap();
    number.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_over_the_service_and_the_service_over_a_variable() {
    let mut stack = Stack::usual(
        "  all: { image: 'rollout-demo:v1', container_name: own, x-rollout: { scale: 3 } }\n  \
         some: { image: 'rollout-demo:v1', container_name: other, x-rollout: { build: false } }\n",
    );
    stack.set("ROLLOUT_SCALE", 2);
    for (arguments, wins) in [
        (&["all", "--scale", "4"][..], "4 replicas"),
        (&["up", "all", "--scale", "4"], "4 replicas"),
        (&["--scale", "4", "up", "all"], "4 replicas"),
        (&["all"], "3 replicas"),
        (&["some"], "2 replicas"),
    ] {
        let run = stack.rollout(arguments).await;
        assert_eq!(replicas(&run), wins, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_goes_to_standard_error_when_it_is_asked_for() {
    let mut stack = Stack::usual("    ports: ['127.0.0.1:9:80']\n");
    let quiet = stack.rollout(&["web"]).await;
    let quiet = &quiet.code(2).text;
    assert_eq!(quiet.lines().count(), 3, "{quiet}");
    let once = stack.rollout(&["-v", "web"]).await.text;
    assert!(
        once.contains(" INFO rollout::compose: running command="),
        "{once}"
    );
    assert!(!once.contains(" DEBUG "), "{once}");
    let twice = stack.rollout(&["-vv", "web"]).await.text;
    assert!(twice.contains(" DEBUG rollout::"), "{twice}");
    let before = stack.rollout(&["-v", "up", "web"]).await.text;
    assert!(before.contains(" INFO rollout::"), "{before}");
    stack.set("RUST_LOG", "rollout::event=debug");
    let chosen = stack.rollout(&["web"]).await.text;
    assert!(chosen.contains(" DEBUG rollout::event: "), "{chosen}");
    assert!(!chosen.contains("rollout::compose"), "{chosen}");
    assert!(!chosen.contains('\x1b'), "{chosen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_rollout_takes_the_flags_of_its_namesake() {
    let mut stack = Stack::usual("    profiles: [extra]\n");
    install(&mut stack).await;
    let info = stack
        .docker(&["info", "--format", "{{json .ClientInfo.Plugins}}"])
        .await;
    assert!(
        info.contains("Zero-downtime rollouts for Docker Compose"),
        "{info}"
    );
    stack.set("COMPOSE_PROFILES", "extra");
    stack.up("v1").await;
    let log = stack.path("events.jsonl");
    stack.write("other.env", "TAG=v2\n");
    stack.set("ROLLOUT_EVENT_LOG", log.display());
    let project = stack.name.clone();
    for name in ["COMPOSE_PROFILES", "TAG"] {
        stack.unset(name);
    }
    let arguments = [
        "rollout",
        "--file",
        "front.yaml",
        "-f",
        "compose.yaml",
        "--project-name",
        &project,
        "--profile",
        "extra",
        "--env-file",
        "other.env",
        "--timeout",
        "40",
        "-w",
        "7",
        "--wait-after-healthy",
        "1",
        "--pre-stop-hook",
        "touch /done",
        "web",
    ];
    stack.docker(&arguments).await;
    stack.answers("v2").await;
    let text = std::fs::read_to_string(log).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.last().unwrap()["event"], "finished");
    assert!(events.last().unwrap()["phases"]["ready"].as_u64().unwrap() >= 1000);
    // The image has no shell; that the hook was tried in the old replica is what counts.
    let hook =
        format!("pre-stop hook \"sh -c touch /done\" in old replica {project}-web-1 ended with");
    assert!(text.contains(&hook.replace('"', "\\\"")), "{text}");
    stack.set("TAG", "v2").set("COMPOSE_PROFILES", "extra");
    stack.settled(1).await;
}
