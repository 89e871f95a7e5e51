//! The overlay: visible in each list at once, and there after a kill.

use std::{io::BufRead, time::Duration};

use serde_json::{Value, json};

use super::hide;
use nix::sys::signal::Signal;
use testbed::{Temporary, daemon::Daemon, eventually};

fn enabled(proxy: &Daemon, container: &Temporary) -> Value {
    // The list is what makes the new generation this reader's.
    proxy.get("/containers/json?all=1");
    let (_, inspected) = proxy.get(&format!("/containers/{}/json", container.name));
    inspected["Config"]["Labels"]["traefik.enable"].clone()
}

#[tokio::test]
async fn the_overlay_survives_kill_nine_and_an_older_owner_stays_refused() {
    let proxy = Daemon::start().await;
    let container = Temporary::container(
        &["create"],
        &["-l", "traefik.enable=true", "rollout-demo:v1"],
    );
    let call = hide(7, &[json!({"id": container.id()})]);
    assert_eq!(enabled(&proxy, &container), "true");
    assert_eq!(proxy.control(&[call])[0]["ok"]["changed"]["generation"], 1);
    let state = proxy.end(Signal::SIGKILL);
    let proxy = Daemon::on(state).await;
    assert_eq!(enabled(&proxy, &container), "false");
    let answers = proxy.control(&[
        hide(6, &[]),
        json!({"call": "clear", "key": "test/web", "epoch": 6}),
        json!({"call": "clear", "key": "test/web", "epoch": 7}),
    ]);
    assert_eq!(answers[0]["error"]["kind"], "stale_owner");
    assert_eq!(answers[1]["error"]["kind"], "stale_owner");
    assert_eq!(answers[2]["ok"]["changed"]["generation"], 2);
    assert_eq!(enabled(&proxy, &container), "true");
}

#[tokio::test]
async fn a_rule_on_a_container_that_is_gone_is_dropped_and_a_rule_on_a_label_is_not() {
    let proxy = Daemon::start().await;
    let container = Temporary::container(&["create"], &["rollout-demo:v1"]);
    let label = json!({"label": {"key": "io.rollout.id", "value": "nobody"}});
    proxy.control(&[hide(1, &[json!({"id": container.id()}), label.clone()])]);
    drop(container);
    let rules = eventually("the rule is gone", Duration::from_secs(30), async || {
        let answer = proxy.control(&[json!({"call": "get"})]).remove(0);
        let rules = answer["ok"]["overlay"]["claims"]["test/web"]["rules"].clone();
        if rules.as_array().map(Vec::len) == Some(1) {
            Ok(rules)
        } else {
            Err(answer)
        }
    })
    .await;
    assert_eq!(rules[0]["on"], label);
}

#[tokio::test]
async fn rollouts_own_containers_are_in_no_list_and_cannot_be_inspected() {
    let proxy = Daemon::start().await;
    // Lists hold no other container that was only created.
    let create = ["create", "-l", "traefik.docker.allownonrunning=true"];
    let own = Temporary::container(&create, &["-l", "io.rollout.role=lock", "rollout-demo:v1"]);
    let ordinary = Temporary::container(&create, &["rollout-demo:v1"]);
    let (status, list) = proxy.get("/containers/json?all=1");
    assert_eq!(status, 200);
    let list = list.to_string();
    assert!(list.contains(&ordinary.id()), "{list}");
    assert!(!list.contains(&own.id()), "{list}");
    let inspected = |one: &Temporary| proxy.get(&format!("/containers/{}/json", one.name)).0;
    assert_eq!((inspected(&ordinary), inspected(&own)), (200, 404));
}

#[tokio::test]
async fn versions_that_the_engine_does_not_speak_are_moved_to_ones_that_it_does() {
    let proxy = Daemon::start().await;
    for version in ["1.12", "1.24", "1.41", "1.99", "9.0"] {
        let (status, list) = proxy.get(&format!("/v{version}/containers/json"));
        assert!(
            status == 200 && list.is_array(),
            "{version}: {status} {list}"
        );
    }
    let answer = proxy.raw(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("api-version: 1."),
        "{answer}"
    );
}

#[tokio::test]
async fn sigterm_ends_the_daemon_although_a_reader_is_connected() {
    let proxy = Daemon::start().await;
    let _reader = proxy.events();
    proxy.signal(Signal::SIGTERM);
    let status = proxy.exits().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn of_containers_without_the_label_that_only_names_readers_learn_nothing() {
    let proxy = Daemon::start_with(&["--only", "seen=yes"]).await;
    let mut events = proxy.events();
    let mut heard = String::new();
    let run =
        |label: &str| Temporary::container(&["run", "-d"], &["-l", label, "rollout-demo:v1-plain"]);
    let (other, seen) = (run("seen=no"), run("seen=yes"));
    let (_, list) = proxy.get("/containers/json");
    let list = list.to_string();
    assert!(
        list.contains(&seen.id()) && !list.contains(&other.id()),
        "{list}"
    );
    assert_eq!(proxy.get(&format!("/containers/{}/json", seen.name)).0, 200);
    assert_eq!(
        proxy.get(&format!("/containers/{}/json", other.name)).0,
        404
    );
    while !heard.contains(&seen.name) {
        assert!(events.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    assert!(!heard.contains(&other.name), "{heard}");
}
