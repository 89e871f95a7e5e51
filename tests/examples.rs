//! Every folder of `compose-examples/` as it stands: copied, brought up, rolled under load, and taken down to the last
//! trace. Its variables are set in the environment, and nothing else.

mod folder;
mod tcp;
mod tls;
mod two_hosts;

use std::time::Duration;

use folder::Example;

use crate::hooks::Images;

use testbed::load::{Load, LoadOptions};

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_was_moved_to_the_socket_proxy_is_rolled_without_loss_and_has_no_right_too_many()
 {
    let mut example = Example::new("socket-proxy", "WEB_IMAGE");
    example.stack.up("v1").await;
    let format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{range .Mounts}}{{.Source}} {{end}}";
    for (service, mounts_socket) in [("traefik", false), ("socket-proxy", true)] {
        let id = example.stack.newest(service).await;
        let said = example.stack.docker(&["inspect", "-f", format, &id]).await;
        assert!(said.starts_with("true [ALL]"), "{service}: {said}");
        assert_eq!(
            said.contains("docker.sock"),
            mounts_socket,
            "{service}: {said}"
        );
    }
    let user = "docker compose exec -T traefik cat /proc/1/status | grep NoNewPrivs";
    assert!(example.stack.shell(user).await.contains('1'));
    example.is_well_but_for(&[]).await;
    example.rolls(&["web"]).await;
    example.stack.settled(1).await;
    example.taken_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_with_a_file_provider_alone_is_switched_by_a_pin_that_is_gone_in_the_end() {
    let mut example = Example::new("file-provider", "WEB_IMAGE");
    example.stack.up("v1").await;
    let port = example.stack.port;
    let host = &example.stack.host;
    let ask = format!("curl -si --max-time 5 -H 'Host: {host}' http://127.0.0.1:{port}/");
    let marked = example.stack.shell(&ask).await.to_lowercase();
    assert!(
        marked.contains("x-served-through: file-provider"),
        "{marked}"
    );
    example.is_well_but_for(&["socket"]).await;
    let run = example.rolls(&["web"]).await;
    assert!(run.text.contains("pin"), "{}", run.text);
    assert_eq!(example.stack.pins(), ["middlewares.yml"]);
    let before = example.stack.replicas("web").await;
    example.stack.unchanged_by_compose(&before).await;
    example.taken_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_runs_once_for_a_release_and_its_smoke_test_before_the_first_request() {
    let mut example = Example::new("migrations", "WEB_IMAGE");
    let _images = Images::build(&mut example.stack).await;
    let [first, second] = ["v1", "v2"].map(|version| format!("{}:{version}", example.stack.name));
    example.stack.set("WEB_IMAGE", first);
    example.second = second.clone();
    example.stack.up("v1").await;
    example.is_well_but_for(&[]).await;
    let run = example.rolls(&["web"]).await;
    let is_hook = |event: &&serde_json::Value| event["event"] == "hook";
    let said = run.events.iter().rfind(is_hook).unwrap();
    assert_eq!(said["hook"], "post-deploy", "{}", run.text);
    assert_eq!(said["line"], format!("web runs {second}"));
    let applied = ["exec", "-T", "web", "cat", "/schema/applied"];
    assert_eq!(example.stack.compose(&applied).await, "add-notes\n");
    example.stack.settled(1).await;
    example.taken_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_of_one_release_are_rolled_by_one_command() {
    let mut example = Example::new("several-services", "APP_IMAGE");
    example.stack.host = "several.localhost".into();
    example.stack.up("v1").await;
    let services = ["api", "web", "worker"];
    let before = example.replicas(&services).await;
    assert_eq!(before.len(), 4, "{before:?}");
    let api = Load::start(LoadOptions {
        paths: vec!["/api/x".into()],
        max_duration: Duration::from_secs(300),
        ..example.stack.load_options()
    });
    example.is_well_but_for(&[]).await;
    example.rolls(&["--all"]).await;
    let api = api.stop().await;
    assert!(api.nothing_lost(), "{api}");
    assert!(api.first_answer_of("v2").is_some(), "{api}");
    example.second = "rollout-demo:v1".into();
    let paths = ["/", "/api/x"];
    let together = ["--together", "web", "api"];
    example.rolls_under_load(&together, &paths).await;
    let run = example.rolls(&["--all"]).await;
    let rolled = run.results().into_iter().filter(|own| own.1 == "rolled");
    let rolled: Vec<&str> = rolled.map(|(service, _)| service).collect();
    assert_eq!(rolled, ["worker"], "{}", run.text);
    let after = example.replicas(&services).await;
    let names = |all: &[testbed::Container]| -> Vec<String> {
        all.iter().map(|own| own.name.clone()).collect()
    };
    assert_eq!(names(&after), names(&before));
    assert!(
        after
            .iter()
            .all(|own| before.iter().all(|old| old.id != own.id))
    );
    example.stack.compose(&["up", "-d"]).await;
    assert_eq!(example.replicas(&services).await, after);
    example.stack.settled(1).await;
    example.taken_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_are_replaced_one_by_one() {
    let mut example = Example::new("rolling", "WEB_IMAGE");
    example.stack.up("v1").await;
    example.stack.some_replicas(4).await;
    example.is_well_but_for(&[]).await;
    let load = example.stack.load();
    example.ask_for_the_second();
    let running = example.stack.start_rollout(&["web"]);
    let run = running.wait_for(Duration::from_secs(300)).await;
    let report = load.stop().await;
    run.code(0);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert!(report.first_answer_of("v2").is_some(), "{report}");
    let shift =
        |event: &&serde_json::Value| event["event"] == "step_started" && event["step"] == "shift";
    assert_eq!(run.events.iter().filter(shift).count(), 3, "{}", run.text);
    example.stack.settled(4).await;
    example.taken_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_waits_at_half_of_the_traffic_until_it_is_promoted() {
    let mut example = Example::new("canary", "WEB_IMAGE");
    example.stack.up("v1").await;
    example.is_well_but_for(&[]).await;
    let load = example.stack.load();
    example.ask_for_the_second();
    let running = example.stack.start_rollout(&["web"]);
    running.wait_for(Duration::from_secs(300)).await.code(5);
    let promoted = example.stack.rollout(&["promote", "web"]).await;
    let report = load.stop().await;
    promoted.code(0);
    assert_eq!(report.failed, 0, "{report}\n{}", promoted.text);
    assert!(report.first_answer_of("v2").is_some(), "{report}");
    example.stack.settled(1).await;
    example.taken_down().await;
}
