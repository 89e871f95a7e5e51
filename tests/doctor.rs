//! `rollout doctor`: broken stacks, whose fault it names, and whose fix, made as it is printed, is one.

mod apply;

use serde_json::Value;

use crate::bad_input::{refused, whole};
use testbed::{Run, Stack, free_port, front::Kind};

/// A fixture: behind the usual Traefik, or with one of its own.
fn stack(yaml: &str) -> Stack {
    // A front that the file changes is no other test's afterwards.
    let mut stack = match yaml.contains("ipam") {
        true => Stack::fresh_usual(Kind::Relabel, ""),
        false => Stack::relabelled(""),
    };
    stack.write("compose.yaml", yaml);
    if yaml.contains("  traefik:\n") {
        stack.set("COMPOSE_FILE", "compose.yaml");
    }
    stack
}

/// The files that the project is made of.
fn files(yaml: &str) -> &'static [&'static str] {
    match yaml.contains("  traefik:\n") {
        true => &["compose.yaml"],
        false => &["front.yaml", "compose.yaml"],
    }
}

async fn ready(stack: &Stack) {
    stack.up("v1").await;
    stack.traefik_listens().await;
}

/// Its findings, as objects.
async fn findings(stack: &Stack) -> (Run, Vec<Value>) {
    let run = stack.rollout(&["doctor", "--output", "json"]).await;
    let lines = run
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let found: Vec<Value> = lines
        .filter(|own: &Value| own["event"] == "finding")
        .collect();
    assert!(!found.is_empty(), "{}{}", run.out, run.text);
    (run, found)
}

fn bad(found: &[Value]) -> Vec<String> {
    let bad = found.iter().filter(|own| own["level"] != "ok");
    let word = |own: &Value, key: &str| own[key].as_str().unwrap().to_owned();
    bad.map(|own| {
        format!(
            "{} {} {}",
            word(own, "level"),
            word(own, "check"),
            word(own, "subject")
        )
    })
    .collect()
}

/// The fault is named, first of all findings, with the exit code that it has; its fix.
async fn named(stack: &Stack, level: &str, check: &str, subject: &str) -> Value {
    let (run, found) = findings(stack).await;
    let fault = format!("{level} {check} {subject}");
    assert_eq!(bad(&found).first(), Some(&fault), "{}", run.out);
    run.code(i32::from(level == "fail"));
    let finding = found
        .into_iter()
        .find(|own| own["check"] == check && own["subject"] == subject);
    let fix = finding.unwrap()["fix"].clone();
    assert!(!fix["text"].as_str().unwrap().is_empty());
    printed(stack, &fix).await;
    fix
}

/// People see the same as programs: what the fix is, the place and the lines of each edit, and its command.
async fn printed(stack: &Stack, fix: &Value) {
    let run = stack.rollout(&["doctor"]).await;
    let contains = |wanted: &str| assert!(run.out.contains(wanted), "{wanted:?}:\n{}", run.out);
    contains(&format!(": {}\n", fix["text"].as_str().unwrap()));
    if let Some(command) = fix["run"].as_str() {
        contains(&format!("  then: {command}\n"));
    }
    for edit in fix["edits"].as_array().into_iter().flatten() {
        let keys = edit["at"].as_array().unwrap().iter();
        let path: Vec<&str> = keys.map(|key| key.as_str().unwrap()).collect();
        let path = path.join(".");
        match edit["do"].as_str().unwrap() {
            "set" => {}
            "add" => contains(&format!("  add to {path}:\n")),
            "remove" => contains(&format!("  remove {path}\n")),
            _ => contains(&format!(" in {path}\n")),
        }
        // What several edits set is printed as one snippet, each edit's lines in their order.
        let mut shown = run.out.lines().map(str::trim_start);
        for line in edit["yaml"].as_str().unwrap_or_default().lines() {
            let line = line.trim_start();
            let there = shown.any(|own| own == line);
            assert!(there, "{line:?} is not in\n{}", run.out);
        }
    }
}

/// Nothing is left to say of what was mended, and nothing else fails.
async fn mended(stack: &Stack, check: &str, subject: &str) {
    let (run, found) = findings(stack).await;
    let same =
        |own: &&Value| own["check"] == check && own["subject"] == subject && own["level"] != "ok";
    assert_eq!(found.iter().find(same), None, "{}", run.out);
    run.code(0);
}

/// Names a fault of a stack that runs, makes the edits of its fix, runs its command, and finds nothing left.
async fn broken_and_mended(stack: &Stack, yaml: &str, level: &str, check: &str, subject: &str) {
    let fix = named(stack, level, check, subject).await;
    apply::apply(stack, files(yaml), &fix["edits"]);
    let command = fix["run"].as_str().unwrap_or("true");
    match command.strip_prefix("rollout ") {
        Some(service) => {
            stack.rollout(&[service]).await.code(0);
        }
        None => {
            stack.shell(command).await;
        }
    }
    ready(stack).await;
    mended(stack, check, subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_reads_the_socket_itself_gets_a_socket_proxy() {
    let yaml = include_str!("doctor/socket.yaml");
    let stack = stack(yaml);
    stack.up("v1").await;
    let traefik = format!("{}-traefik-1", stack.name);
    broken_and_mended(&stack, yaml, "fail", "switch", &traefik).await;
    let (_, found) = findings(&stack).await;
    assert_eq!(bad(&found), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_off_is_switched_on() {
    let yaml = include_str!("doctor/api-off.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    let traefik = format!("{}-traefik-1", stack.name);
    broken_and_mended(&stack, yaml, "fail", "api", &traefik).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_the_new_version_defines_differently_gets_a_name_of_its_own() {
    let yaml = include_str!("doctor/labels.yaml");
    let mut stack = stack(yaml);
    ready(&stack).await;
    stack.set("MORE", "two");
    let fix = named(&stack, "warn", "labels", "web").await;
    apply::apply(&stack, files(yaml), &fix["edits"]);
    // What runs is still the version from before.
    mended(&stack, "labels", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_where_all_is_well_is_told_so_and_left_as_it_is() {
    let stack = Stack::relabelled("");
    ready(&stack).await;
    let before = whole(&stack).await;
    let (run, found) = findings(&stack).await;
    run.code(0);
    assert_eq!(bad(&found), [""; 0]);
    let run = stack.rollout(&["doctor", "web"]).await;
    run.code(0);
    for word in ["OK", "through the socket proxy", "health-check"] {
        assert!(run.out.contains(word), "{word}: {}", run.out);
    }
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_is_switched_by_a_pin_file_is_warned_of_its_socket_alone() {
    let stack = Stack::pinned("");
    stack.up("v1").await;
    let (run, found) = findings(&stack).await;
    run.code(0);
    assert_eq!(bad(&found), ["warn socket traefik"]);
    let way = found
        .iter()
        .find(|own| own["check"] == "switch" && own["subject"] == "web");
    let text = way.unwrap()["text"].as_str().unwrap();
    assert!(text.contains("by a pin file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    let mut stack = Stack::relabelled("");
    let run = stack.rollout(&["doctor", "wbe"]).await;
    let error = format!(
        "no service \"wbe\" in project {}; did you mean \"web\"?",
        stack.name
    );
    refused(&run, &error, "services: ");
    stack.set("COMPOSE_FILE", "missing.yaml");
    stack.rollout(&["doctor"]).await.code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_answer_is_a_finding() {
    let stack = Stack::relabelled("");
    let run = stack
        .rollout(&["doctor", "-H", "unix:///nowhere.sock", "--output", "json"])
        .await;
    run.code(1);
    let first: Value = serde_json::from_str(run.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["level"], &first["check"]),
        (&"fail".into(), &"engine".into())
    );
    assert!(
        first["fix"]["text"]
            .as_str()
            .unwrap()
            .contains("DOCKER_HOST")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_old_traefik_that_ignores_docker_host_the_endpoint_is_said() {
    for version in ["v3.0", "v3.3"] {
        let yaml = include_str!("doctor/deaf.yaml");
        let mut stack = stack(yaml);
        stack.set("TRAEFIK", version);
        stack.compose(&["up", "-d"]).await;
        let traefik = format!("{}-traefik-1", stack.name);
        broken_and_mended(&stack, yaml, "fail", "traefik", &traefik).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_health_check_is_told_so() {
    let yaml = include_str!("doctor/no-health-check.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "warn", "health-check", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_host_port_is_taken_out() {
    let yaml = include_str!("doctor/host-port.yaml");
    let mut stack = stack(yaml);
    stack.set("OTHER_PORT", free_port());
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "fail", "host-ports", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_address_is_taken_out() {
    let yaml = include_str!("doctor/static-address.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "fail", "static-address", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_name_of_two_replicas_is_taken_out() {
    let yaml = include_str!("doctor/container-name.yaml");
    let mut stack = stack(yaml);
    ready(&stack).await;
    stack.set("SCALE", 2);
    broken_and_mended(&stack, yaml, "fail", "container-name", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_both_versions_would_use_lets_the_old_set_stop_first() {
    let yaml = include_str!("doctor/device.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "warn", "devices", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_hostname_of_a_worker_is_taken_out() {
    let yaml = include_str!("doctor/hostname.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "warn", "hostname", "worker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_volume_gets_a_name() {
    let yaml = include_str!("doctor/anonymous-volume.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "fail", "anonymous-volumes", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_with_one_writer_is_told_to_stop_the_old_set_first() {
    let yaml = include_str!("doctor/single-writer.yaml");
    let stack = stack(yaml);
    ready(&stack).await;
    broken_and_mended(&stack, yaml, "warn", "single-writer", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_runs_every_hour_is_told_to_run_more_often() {
    let yaml = include_str!("doctor/hourly.yaml");
    let stack = stack(yaml);
    stack.compose(&["up", "-d"]).await;
    stack.traefik_listens().await;
    broken_and_mended(&stack, yaml, "warn", "health-check", "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_a_service_by_its_name_is_told_of() {
    let stack = stack(include_str!("doctor/calls.yaml"));
    ready(&stack).await;
    named(&stack, "warn", "calls", "web").await;
    let run = stack.rollout(&["doctor", "web"]).await;
    assert!(run.out.contains("worker (UPSTREAM)"), "{}", run.out);
    assert!(!run.out.contains("http://web:80"), "{}", run.out);
}
