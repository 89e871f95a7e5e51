//! The overlay: told at once to everyone who lists, and there after a kill.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{Proxy, Thing, hide};

fn enabled(proxy: &Proxy, container: &Thing) -> Value {
    // The list is what makes the new generation this reader's.
    proxy.get("/containers/json?all=1");
    let (_, told) = proxy.get(&format!("/containers/{}/json", container.name));
    told["Config"]["Labels"]["traefik.enable"].clone()
}

#[test]
fn the_overlay_survives_kill_nine_and_an_older_owner_stays_refused() {
    let proxy = Proxy::start();
    let container = Thing::container(
        &["create"],
        &["-l", "traefik.enable=true", "rollout-demo:v1"],
    );
    let call = hide(7, &[json!({"id": container.id()})]);
    assert_eq!(enabled(&proxy, &container), "true");
    assert_eq!(proxy.control(&[call])[0]["ok"]["changed"]["generation"], 1);
    let (_, state) = proxy.end("KILL");
    let proxy = Proxy::on(state);
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

#[test]
fn a_rule_on_a_container_that_is_gone_is_dropped_and_a_rule_on_a_label_is_not() {
    let proxy = Proxy::start();
    let container = Thing::container(&["create"], &["rollout-demo:v1"]);
    let label = json!({"label": {"key": "io.rollout.id", "value": "nobody"}});
    proxy.control(&[hide(1, &[json!({"id": container.id()}), label.clone()])]);
    drop(container);
    let rules = super::fixture::until("the rule is gone", || {
        let answer = proxy.control(&[json!({"call": "get"})]).remove(0);
        let rules = answer["ok"]["overlay"]["claims"]["test/web"]["rules"].clone();
        (rules.as_array()?.len() == 1).then_some(rules)
    });
    assert_eq!(rules[0]["on"], label);
}

#[test]
fn rollouts_own_containers_are_in_no_list_and_cannot_be_inspected() {
    let proxy = Proxy::start();
    let own = Thing::container(
        &["create"],
        &["-l", "io.rollout.role=lock", "rollout-demo:v1"],
    );
    let (status, list) = proxy.get("/containers/json?all=1");
    assert_eq!(status, 200);
    assert!(!list.to_string().contains(&own.id()));
    assert_eq!(proxy.get(&format!("/containers/{}/json", own.name)).0, 404);
}

#[test]
fn versions_that_the_engine_does_not_speak_are_moved_to_ones_that_it_does() {
    let proxy = Proxy::start();
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

#[test]
fn sigterm_ends_the_daemon_within_a_second_whoever_is_connected() {
    let proxy = Proxy::start();
    let stream = std::net::TcpStream::connect(proxy.listen).unwrap();
    std::io::Write::write_all(&mut &stream, b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    let (time, _) = proxy.end("TERM");
    assert!(time < Duration::from_secs(1), "{time:?}");
}
