//! The rules of the view, one by one.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arbitrary::{mutated_text, replaced};

fn beside() -> Subject {
    Subject {
        project: "shop".to_owned(),
        service: "web".to_owned(),
        rollout: Some("r2".to_owned()),
        labels: BTreeMap::from([("io.rollout.revision".to_owned(), "7".to_owned())]),
        volumes: BTreeMap::new(),
    }
}

fn labels(service: &str, rollout: Option<&str>) -> Value {
    let mut labels = json!({
        LABEL_PROJECT: "shop",
        LABEL_SERVICE: service,
        LABEL_ONE_OFF: "False",
        label::COMPOSE_NUMBER: "1",
    });
    if let Some(rollout) = rollout {
        labels[LABEL_ROLLOUT] = rollout.into();
    }
    labels
}

fn visible_ids(subject: &Subject, containers: &Value) -> Vec<String> {
    let kept = subject.visible(containers.to_string().as_bytes()).unwrap();
    let kept: Vec<Value> = serde_json::from_slice(&kept).unwrap();
    kept.iter()
        .map(|container| container["Id"].as_str().unwrap().to_owned())
        .collect()
}

fn create(subject: &Subject, query: &str, labels: Value) -> Result<(String, Value), String> {
    let body = json!({"Image": "a", "Labels": labels, "HostConfig": {"Memory": 1}});
    let (query, body) = subject.creation(query, body.to_string().as_bytes())?;
    Ok((query, serde_json::from_slice(&body).unwrap()))
}

#[test]
fn earlier_containers_in_any_state_are_hidden_and_everything_else_stays() {
    let mut one_off = labels("web", None);
    one_off[LABEL_ONE_OFF] = "True".into();
    let mut elsewhere = labels("web", None);
    elsewhere[LABEL_PROJECT] = "other".into();
    let containers = json!([
        {"Id": "old", "State": "running", "Labels": labels("web", None)},
        {"Id": "exited", "State": "exited", "Labels": labels("web", Some("r1"))},
        {"Id": "ours", "State": "created", "Labels": labels("web", Some("r2"))},
        {"Id": "db", "Labels": labels("db", None)},
        {"Id": "one-off", "Labels": one_off},
        {"Id": "elsewhere", "Labels": elsewhere},
        {"Id": "plain", "Labels": {}},
        {"Id": "null", "Labels": null},
    ]);
    assert_eq!(
        visible_ids(&beside(), &containers),
        ["ours", "db", "one-off", "elsewhere", "plain", "null"]
    );
}

#[test]
fn an_answer_that_is_not_a_list_is_refused() {
    assert_eq!(beside().visible(b"{\"message\": \"no\"}"), None);
}

#[test]
fn a_new_container_gets_a_temporary_name_and_our_labels_and_keeps_the_rest() {
    let (query, body) = create(
        &beside(),
        "name=shop-web-1&platform=linux",
        labels("web", None),
    )
    .unwrap();
    assert_eq!(query, "platform=linux&name=shop-web-1.r2");
    assert_eq!(body["HostConfig"], json!({"Memory": 1}));
    assert_eq!(
        body["Labels"],
        json!({
            LABEL_PROJECT: "shop", LABEL_SERVICE: "web", LABEL_ONE_OFF: "False",
            label::COMPOSE_NUMBER: "1", LABEL_ROLLOUT: "r2", LABEL_NAME: "shop-web-1", "io.rollout.revision": "7",
        })
    );
}

#[test]
fn a_new_container_takes_over_the_volumes_of_its_number_and_a_hooks_container_none() {
    let volume = Volume {
        name: "of-old".to_owned(),
        target: "/data".to_owned(),
        read_only: false,
    };
    let subject = Subject {
        volumes: BTreeMap::from([(1, vec![volume])]),
        ..beside()
    };
    let mounts = |labels: Value| {
        let (_, body) = create(&subject, "name=shop-web-1", labels).unwrap();
        body["HostConfig"]["Mounts"].clone()
    };
    assert_eq!(mounts(labels("web", None))[0]["Source"], "of-old");
    let mut second = labels("web", None);
    second[label::COMPOSE_NUMBER] = "2".into();
    assert_eq!(mounts(second), Value::Null);
    let mut hook = labels("web", None);
    hook[label::COMPOSE_HOOK] = "pre_start".into();
    assert_eq!(mounts(hook), Value::Null);
}

#[test]
fn a_container_of_another_service_is_refused_by_name() {
    assert_eq!(
        create(&beside(), "name=shop-db-1", labels("db", None)),
        Err("create container shop-db-1: it belongs to service db, not to web".to_owned())
    );
}

#[test]
fn only_containers_of_this_rollout_may_be_changed() {
    assert!(beside().owns(&labels("web", Some("r2"))));
    assert!(!beside().owns(&labels("web", Some("r1"))));
    assert!(!beside().owns(&labels("web", None)));
    assert!(!beside().owns(&labels("db", Some("r2"))));
}

#[test]
fn changes_of_containers_are_found_with_and_without_a_version() {
    for prefix in ["", "/v1.41", "/v1.24"] {
        for verb in [
            "stop", "kill", "rename", "update", "restart", "pause", "unpause",
        ] {
            let container = "abc".to_owned();
            let path = format!("{prefix}/containers/abc/{verb}");
            assert_eq!(route("POST", &path), Route::Change { verb, container });
        }
        let is_change = |method: &str, rest: &str| {
            matches!(
                route(method, &format!("{prefix}{rest}")),
                Route::Change { .. }
            )
        };
        assert!(is_change("DELETE", "/containers/abc"));
        assert!(is_change("PUT", "/containers/abc/archive"));
    }
}

#[test]
fn networks_and_volumes_are_never_removed() {
    for (method, path, refusal) in [
        ("DELETE", "/v1.41/networks/front", "remove network front"),
        ("DELETE", "/v1.41/volumes/data", "remove volume data"),
        ("POST", "/v1.41/containers/prune", "prune containers"),
        ("POST", "/volumes/prune", "prune volumes"),
    ] {
        assert_eq!(route(method, path), Route::Never(refusal.to_owned()));
    }
    assert_eq!(
        route("POST", "/v1.41/networks/front/disconnect"),
        Route::Disconnect
    );
    assert_eq!(
        route("POST", "/v1.41/networks/create"),
        Route::CreateNetwork
    );
}

#[test]
fn all_else_passes() {
    for (method, path) in [
        ("GET", "/_ping"),
        ("GET", "/v1.41/containers/abc/json"),
        ("GET", "/v1.41/events"),
        ("POST", "/v1.41/containers/abc/exec"),
        ("POST", "/v1.41/networks/front/connect"),
        ("POST", "/v1.41/volumes/create"),
        ("GET", "/v1.41/images/json"),
        ("GET", "/"),
        ("GET", ""),
    ] {
        assert_eq!(route(method, path), Route::Pass, "{method} {path}");
    }
    assert_eq!(route("GET", "/v1.41/containers/json"), Route::List);
    assert_eq!(route("POST", "/containers/create"), Route::Create);
    assert_eq!(route("POST", "/containers/abc/start"), Route::Start);
}

#[test]
fn a_version_is_digits_around_a_dot() {
    assert_eq!(route("GET", "/v1.x/containers/json"), Route::Pass);
    assert_eq!(route("GET", "/v.1/containers/json"), Route::Pass);
    assert_eq!(route("GET", "/version"), Route::Pass);
}

proptest! {
    #[test]
    fn a_valid_name_stays_valid_with_a_valid_rollout_id(
        name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,60}", rollout in "[a-z0-9]{1,20}",
    ) {
        prop_assert!(is_valid_name(&temporary_name(&name, &rollout)));
    }

    #[test]
    fn a_name_survives_any_encoding_of_the_query(name in ".{1,40}") {
        let query = with_query_value("platform=a", "name", &name);
        prop_assert_eq!(query_value(&query, "name"), Some(name));
    }

    #[test]
    fn what_is_created_is_a_replica_with_our_labels_whatever_else_is_asked(
        body in replaced(json!({"Image": "a", "Labels": labels("web", None), "HostConfig": {"Memory": 1}})),
        query in mutated_text("name=shop-web-1&platform=linux"),
    ) {
        if let Ok((query, body)) = beside().creation(&query, body.to_string().as_bytes()) {
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert!(beside().owns(&body["Labels"]));
            // With an empty name, the engine chooses one.
            let name = query_value(&query, "name").filter(|name| !name.is_empty());
            prop_assert!(name.map_or(is_one_off(&body["Labels"]), |name| name.ends_with(".r2")));
        }
    }

    #[test]
    fn an_earlier_replica_is_in_no_list(
        list in replaced(json!([{"Id": "old", "Labels": labels("web", None)}, {"Id": "new", "Labels": labels("web", Some("r2"))}])),
    ) {
        let kept = beside().visible(list.to_string().as_bytes());
        let kept: Vec<Value> = kept.map(|kept| serde_json::from_slice(&kept).unwrap()).unwrap_or_default();
        let earlier = |one: &Value| {
            let labels = &one["Labels"];
            let is_ours = beside().owns(labels) || labels[LABEL_ONE_OFF] == "True";
            beside().is_of_service(labels) && !is_ours
        };
        prop_assert!(!kept.iter().any(earlier));
    }

    #[test]
    fn no_request_is_a_panic(method in "[A-Z]{0,6}", path in ".*", query in ".*", body in ".*") {
        route(&method, &path);
        let _ = beside().creation(&query, body.as_bytes());
        beside().visible(body.as_bytes());
    }
}

#[test]
fn a_hooks_container_and_a_one_off_belong_to_the_rollout_and_are_hidden_from_the_proxy() {
    let project = json!({LABEL_PROJECT: "shop", LABEL_SERVICE: "web"});
    let mut marked = labels("web", None);
    marked[label::COMPOSE_HOOK] = "pre_start".into();
    marked["traefik.enable"] = "true".into();
    marked["traefik.HTTP.routers.web.rule"] = "Host(`a`)".into();
    let mut one_off = labels("web", None);
    one_off[LABEL_ONE_OFF] = "True".into();
    one_off["traefik.enable"] = "true".into();
    for (query, name, own) in [
        ("", "", project),
        ("name=shop-web-run-1", "name=shop-web-run-1.r2", one_off),
        (
            "name=shop-web-pre_start-0",
            "name=shop-web-pre_start-0.r2",
            marked,
        ),
    ] {
        let body = json!({"Image": "a", "Labels": own, "HostConfig": {"AutoRemove": true}});
        let (query, body) = beside()
            .creation(query, body.to_string().as_bytes())
            .unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(query, name);
        let labels = body["Labels"].as_object().unwrap();
        let traefik: Vec<_> = labels
            .iter()
            .filter(|(key, _)| key.starts_with("traefik."))
            .collect();
        assert_eq!(traefik, [(&ENABLE.to_owned(), &Value::from("false"))]);
        assert_eq!(labels.get("io.rollout.revision"), None);
        assert_eq!(body["HostConfig"]["AutoRemove"], false);
        assert!(beside().owns(&body["Labels"]));
        assert!(is_one_off(&body["Labels"]));
    }
    assert!(!is_one_off(&labels("web", None)));
}

#[test]
fn in_place_compose_replaces_what_is_of_the_service_and_nothing_else() {
    let subject = Subject {
        rollout: None,
        ..beside()
    };
    let containers = json!([
        {"Id": "old", "Labels": labels("web", None)},
        {"Id": "rolled", "Labels": labels("web", Some("r1"))},
    ]);
    assert_eq!(visible_ids(&subject, &containers), ["old", "rolled"]);
    assert!(subject.owns(&labels("web", None)) && subject.owns(&labels("web", Some("r1"))));
    assert!(!subject.owns(&labels("db", None)));
    let (query, body) = create(&subject, "name=shop-web-1", labels("web", None)).unwrap();
    assert_eq!(query, "name=shop-web-1");
    assert_eq!(body["Labels"], labels("web", None));
    assert!(create(&subject, "name=shop-db-1", labels("db", None)).is_err());
}
