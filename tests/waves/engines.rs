//! Waves over the testbed's engines, each with a front of its own: without loss, with a host that fails, and killed.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::here;
use crate::{
    remote::far,
    soak::dockerd::{bridge::Bridge, exported, run_testbed},
};
use testbed::{Load, LoadReport, Run, Stack, front::Kind, image};

/// The image of the program itself, which fails here, has an anonymous volume.
const EMPTY: &str = "--renew-anon-volumes";

/// The usual service, whose image is each engine's own.
const OWN_IMAGE: &str = r#"services:
  web:
    image: ${COMPOSE_PROJECT_NAME}:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
    networks: [front]
"#;

/// The same project on the first engine and on the second.
async fn two(compose: Option<&str>) -> (Stack, Stack) {
    let far = far();
    let mut near = Stack::fresh_usual(Kind::Relabel, "");
    if let Some(compose) = compose {
        near.write("compose.yaml", compose);
    }
    let mut there = near.beside(&far.socket);
    let path = std::env::var("PATH").unwrap();
    for stack in [&mut near, &mut there] {
        stack.set("PATH", format!("{}:{path}", far.bin));
    }
    (near, there)
}

/// Both with an image `v1` of their own, and with these as `v2`.
async fn two_with_images(second: [&str; 2]) -> (Stack, Stack) {
    let (near, there) = two(Some(OWN_IMAGE)).await;
    for (stack, second) in [&near, &there].into_iter().zip(second) {
        for (tag, image) in [("v1", "rollout-demo:v1"), ("v2", second)] {
            let own = format!("{}:{tag}", stack.name);
            stack.docker(&["tag", image, &own]).await;
        }
        stack.up("v1").await;
    }
    (near, there)
}

/// The options for hosts in waves of their own.
fn on(hosts: &[&str]) -> Vec<String> {
    let numbered = hosts.iter().zip(1..);
    let words = numbered.flat_map(|(host, wave)| ["--on".to_owned(), format!("{wave}={host}")]);
    words.collect()
}

fn words<'a>(on: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    on.iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

/// The result on each host, by the last report.
fn results(run: &Run) -> BTreeMap<String, String> {
    let report = run.event("stack_finished");
    let report = report.unwrap_or_else(|| panic!("no report\n{}", run.text));
    let rows = report["services"].as_array().into_iter().flatten();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "host"), text(row, "result")))
        .collect()
}

/// The place of an event of a host among all events.
fn place(run: &Run, kind: &str, host: &str) -> usize {
    let is = |event: &Value| event["event"] == kind && event["host"] == host;
    let place = run.events.iter().position(is);
    place.unwrap_or_else(|| panic!("no event {kind} of {host}\n{}", run.text))
}

async fn stop(loads: Vec<Load>) -> Vec<LoadReport> {
    let mut reports = Vec::new();
    for load in loads {
        reports.push(load.stop().await);
    }
    reports
}

/// Names the two hosts in the file of the first, the second host before the first.
fn name_hosts(near: &Stack) {
    let (first, second) = (here(), &far().ssh);
    let compose = std::fs::read_to_string(near.path("compose.yaml")).unwrap();
    let hosts = format!(
        "x-rollout:\n  hosts:\n    - {{ host: '{second}', wave: 2 }}\n    - {{ host: '{first}' }}\n  wave-bake: 1s\n"
    );
    near.write("compose.yaml", &format!("{compose}{hosts}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_of_the_file_are_rolled_one_after_the_other_without_loss() {
    let (mut near, mut there) = two(None).await;
    name_hosts(&near);
    for stack in [&mut near, &mut there] {
        stack.up("v1").await;
        stack.tag("v2");
    }
    let plan = near.rollout(&["plan", "web"]).await;
    plan.code(10);
    let changes = plan
        .out
        .matches("rollout-demo:v1 → rollout-demo:v2")
        .count();
    assert!(changes >= 2, "{}", plan.out);

    let loads = vec![near.load(), there.load()];
    let running = near.start_rollout(&["web"]);
    let run = running.wait_for(Duration::from_secs(300)).await;
    let reports = stop(loads).await;
    run.code(0);
    for report in &reports {
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
    }
    let (first, second) = (here(), far().ssh.as_str());
    assert!(place(&run, "finished", &first) < place(&run, "started", second));
    assert!(results(&run).values().all(|own| own == "rolled"));
    assert!(run.text.contains("wave 1 of 2 is done"), "{}", run.text);
    for stack in [&near, &there] {
        assert_eq!(stack.version().await.as_deref(), Some("v2"));
        stack.settled(1).await;
    }
    let again = near.rollout(&["web"]).await;
    again.code(0);
    let ended = results(&again);
    assert_eq!(ended.len(), 2, "{}", again.text);
    assert!(ended.values().all(|own| own == "unchanged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_stands_in_the_file_once_both_hosts_run_with_its_value() {
    let (mut near, there) = two(None).await;
    name_hosts(&near);
    near.unset("TAG").write(".env", "TAG=v1\n");
    for stack in [&near, &there] {
        stack.up("v1").await;
    }
    let run = near.start_rollout(&["web", "--set", "TAG=v2"]);
    let run = run.wait_for(Duration::from_secs(300)).await;
    run.code(0);
    let written = |own: &Value| own["event"] == "variables_written";
    let written = run.events.iter().position(written).unwrap();
    assert!(place(&run, "finished", &far().ssh) < written);
    let file = std::fs::read_to_string(near.path(".env")).unwrap();
    assert_eq!(file, "TAG=v2\n");
    near.settled(1).await;
    there.answers("v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_engines_are_rolled_in_two_waves_without_loss() {
    let (mut near, mut there) = two(None).await;
    run_testbed(&["own"]).await;
    let socket = exported("ROLLOUT_TESTBED_OWN_SOCKET").await;
    let network = exported("ROLLOUT_TESTBED_OWN_NETWORK").await;
    let mut third = near.beside(&socket);
    let _bridge = Bridge::start(&third, &network).await;
    for stack in [&mut near, &mut there, &mut third] {
        stack.up("v1").await;
        stack.tag("v2");
    }
    // By ssh, since the addresses of that engine's containers are not those of this machine.
    let far = &far().ssh;
    let (first, third_host) = (here(), format!("{far}{socket}"));
    let options = [format!("2={far}"), format!("2={third_host}")];
    let options = [
        "--on",
        &first,
        "--on",
        &options[0],
        "--on",
        &options[1],
        "web",
    ];
    let loads = vec![near.load(), there.load(), third.load()];
    let running = near.start_rollout(&options);
    let run = running.wait_for(Duration::from_secs(300)).await;
    let reports = stop(loads).await;
    run.code(0);
    for report in &reports {
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
    }
    for host in [far, &third_host] {
        assert!(place(&run, "finished", &first) < place(&run, "started", host));
    }
    // Side by side.
    assert!(place(&run, "started", &third_host) < place(&run, "finished", far));
    assert!(place(&run, "started", far) < place(&run, "finished", &third_host));
    for stack in [&near, &there, &third] {
        assert_eq!(stack.version().await.as_deref(), Some("v2"));
        stack.settled(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_the_first_wave_that_fails_keeps_back_the_second() {
    // The program without a command ends at once.
    let (mut near, mut there) = two_with_images([&image(), "rollout-demo:v2"]).await;
    let (near_before, there_before) = (near.replicas("web").await, there.replicas("web").await);
    let (first, second) = (here(), far().ssh.as_str());
    let hosts = on(&[&first, second]);
    near.tag("v2");
    there.tag("v2");
    let loads = vec![near.load(), there.load()];
    let run = near.rollout(&words(&hosts, &[EMPTY, "web"])).await;
    let reports = stop(loads).await;
    run.code(1);
    let ended = results(&run);
    assert_eq!(
        (ended[&first].as_str(), ended[second].as_str()),
        ("failed", "not_begun")
    );
    for report in &reports {
        assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    }
    assert_eq!(near.replicas("web").await, near_before);
    assert_eq!(there.replicas("web").await, there_before);
    for stack in [&near, &there] {
        stack.no_leftovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_the_second_wave_that_fails_takes_the_first_back() {
    let (mut near, mut there) = two_with_images(["rollout-demo:v2", &image()]).await;
    let (first, second) = (here(), far().ssh.as_str());
    let hosts = on(&[&first, second]);
    near.tag("v2");
    there.tag("v2");
    let loads = vec![near.load(), there.load()];
    let more = ["--on-failure", "rollback", EMPTY, "web"];
    let run = near.start_rollout(&words(&hosts, &more));
    let run = run.wait_for(Duration::from_secs(300)).await;
    let reports = stop(loads).await;
    run.code(1);
    let ended = results(&run);
    assert_eq!(
        (ended[&first].as_str(), ended[second].as_str()),
        ("rolled_back", "failed")
    );
    for report in &reports {
        assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    }
    for stack in [&near, &there] {
        assert_eq!(stack.version().await.as_deref(), Some("v1"));
        stack.no_leftovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_between_two_waves_keeps_back_the_second() {
    let (mut near, there) = two(None).await;
    for stack in [&near, &there] {
        stack.up("v1").await;
    }
    let (first, second) = (here(), far().ssh.as_str());
    near.tag("v2");
    let hosts = on(&[&first, second]);
    let mut running = near.start_rollout(&words(&hosts, &["--wave-bake", "60s", "web"]));
    running.says("wave 1 of 2 is done").await;
    // It was live, so its end is no failure of the rollout itself.
    near.docker(&["kill", &near.newest("web").await]).await;
    let run = running.wait().await;
    run.code(1);
    let ended = results(&run);
    assert_eq!(
        (ended[&first].as_str(), ended[second].as_str()),
        ("failed", "not_begun")
    );
    assert!(
        run.text.contains("stopped before the next wave"),
        "{}",
        run.text
    );
    assert_eq!(there.version().await.as_deref(), Some("v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_wave_that_an_earlier_run_has_rolled_is_watched_before_the_second() {
    let (mut near, there) = two(None).await;
    for stack in [&near, &there] {
        stack.up("v1").await;
    }
    let (first, second) = (here(), far().ssh.as_str());
    near.tag("v2");
    near.rollout(&["--on", &first, "web"]).await.code(0);
    let hosts = on(&[&first, second]);
    let again = words(&hosts, &["--wave-bake", "1s", "web"]);
    let run = near.rollout(&again).await;
    run.code(0);
    let ended = results(&run);
    assert_eq!(
        (ended[&first].as_str(), ended[second].as_str()),
        ("unchanged", "rolled")
    );
    assert!(run.text.contains("wave 1 of 2 is done"), "{}", run.text);
    // Nothing is left to roll, so there is nothing to wait for.
    let run = near.rollout(&again).await;
    run.code(0);
    assert!(!run.text.contains("wave 1 of 2 is done"), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_on_one_host_keeps_the_command_from_all() {
    let (mut near, mut there) = two(None).await;
    for stack in [&mut near, &mut there] {
        stack.up("v1").await;
        stack.tag("v2");
    }
    let (first, second) = (here(), far().ssh.as_str());
    let before = near.replicas("web").await;
    let mut other = there.start_rollout(&["--bake", "60s", "web"]);
    other.reaches("step_started", "bake").await;
    let hosts = on(&[&first, second]);
    let run = near.rollout(&words(&hosts, &["web"])).await;
    run.code(4);
    assert_eq!(near.replicas("web").await, before);
    near.no_leftovers().await;
    other.signal(Signal::SIGINT);
    other.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_is_finished_by_the_same_command() {
    let (mut near, mut there) = two(None).await;
    for stack in [&near, &there] {
        stack.up("v1").await;
    }
    let (first, second) = (here(), far().ssh.as_str());
    let hosts = on(&[&first, second]);
    let words = words(&hosts, &["web"]);
    for (tag, step, times) in [
        ("v2", "ready", 1),
        ("v1", "drain", 1),
        ("v2", "ready", 2),
        ("v1", "drain", 2),
    ] {
        let loads = vec![near.load(), there.load()];
        near.tag(tag);
        there.tag(tag);
        let running = near.start_rollout(&words);
        running.begins(step, times).await;
        running.kill().await;
        let run = near.start_rollout(&words);
        let run = run.wait_for(Duration::from_secs(300)).await;
        let reports = stop(loads).await;
        run.code(0);
        for report in reports {
            assert!(
                report.nothing_lost(),
                "{step} {times}: {report}\n{}",
                run.text
            );
        }
        for stack in [&near, &there] {
            assert_eq!(
                stack.version().await.as_deref(),
                Some(tag),
                "{step} {times}"
            );
            stack.no_leftovers().await;
        }
    }
    for stack in [&near, &there] {
        stack.settled(1).await;
    }
}
