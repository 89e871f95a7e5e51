//! Only the named fields remain in an answer.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::arbitrary::replaced;
use crate::overlay::{Claim, ENABLE, Match, Rule};

fn rebuilt<T: DeserializeOwned + Serialize>(answer: Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(answer).unwrap()).unwrap()
}

fn starting(health: Option<Health>) -> Overlay {
    let mut overlay = Overlay::default();
    let on = Match::Id("a".to_owned());
    let mut rules = vec![Rule::hide(on.clone())];
    rules.extend(health.map(|health| Rule::health(on, health)));
    let claim = Claim {
        key: "p/s".to_owned(),
        rollout: "r".to_owned(),
        epoch: 1,
        stage: "hold".to_owned(),
        rules,
    };
    overlay.set(claim).unwrap();
    overlay
}

fn answer() -> Value {
    json!({
        "Id": "a", "Name": "/web-1", "Path": "SECRET", "Args": ["SECRET"], "Mounts": [{"Source": "SECRET"}],
        "State": {"Status": "running", "Running": true, "Pid": 7, "Error": "SECRET",
            "Health": {"Status": "starting", "FailingStreak": 0, "Log": [{"Output": "SECRET"}]}},
        "Config": {"Env": ["KEY=SECRET"], "Cmd": ["SECRET"], "Labels": null, "Hostname": "SECRET"},
        "HostConfig": {"NetworkMode": "bridge", "Binds": ["SECRET"], "LogConfig": {"Config": {"token": "SECRET"}}},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080", "X": "SECRET"}], "81/tcp": null},
            "Networks": {"net": {"NetworkID": "n", "IPAddress": "10.0.0.2", "DriverOpts": {"password": "SECRET"}}}},
    })
}

fn inspect() -> Inspect {
    serde_json::from_value(answer()).unwrap()
}

#[test]
fn an_inspected_container_keeps_what_traefik_reads_and_nothing_else() {
    let shown = inspect().for_reader(&Overlay::default());
    let expected = json!({
        "Id": "a", "Name": "/web-1", "Created": "",
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "Dead": false,
            "Health": {"Status": "starting"}},
        "HostConfig": {"NetworkMode": "bridge"},
        "Config": {"Labels": {}},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null},
            "Networks": {"net": {"NetworkID": "n", "IPAddress": "10.0.0.2", "GlobalIPv6Address": ""}}},
    });
    assert_eq!(serde_json::to_value(shown).unwrap(), expected);
}

#[test]
fn an_inspected_container_has_the_labels_and_health_of_the_overlay() {
    let shown = inspect()
        .for_reader(&starting(Some(Health::Healthy)))
        .unwrap();
    assert_eq!(shown.config.labels[ENABLE], "false");
    assert_eq!(shown.state.health.unwrap().status, "healthy");
}

#[test]
fn a_container_without_a_health_check_gets_none() {
    let mut container = inspect();
    container.state.health = None;
    let shown = container
        .for_reader(&starting(Some(Health::Healthy)))
        .unwrap();
    assert_eq!(shown.state.health, None);
}

#[test]
fn a_listed_container_has_the_labels_and_health_of_the_overlay() {
    let listed = Listed {
        id: "a".to_owned(),
        status: "Up 2 seconds (health: starting)".to_owned(),
        ..Listed::default()
    };
    let shown = listed
        .clone()
        .for_reader(&starting(Some(Health::Healthy)))
        .unwrap();
    assert_eq!(
        (shown.labels[ENABLE].as_str(), shown.status.as_str()),
        ("false", "Up 2 seconds (healthy)")
    );
    let shown = listed.for_reader(&starting(None)).unwrap();
    assert_eq!(shown.status, "Up 2 seconds (health: starting)");
}

#[test]
fn rollouts_own_containers_are_left_out() {
    let labels: Labels = [(OWN.to_owned(), "lock".to_owned())].into();
    let listed = Listed {
        labels: labels.clone(),
        ..Listed::default()
    };
    assert_eq!(listed.for_reader(&Overlay::default()), None);
    let mut inspected = inspect();
    inspected.config.labels = labels;
    assert_eq!(inspected.for_reader(&Overlay::default()), None);
}

#[test]
fn null_stands_for_an_empty_value() {
    let answer = json!({"Id": "a", "State": null, "Config": null, "HostConfig": {"NetworkMode": null},
        "NetworkSettings": {"Ports": null, "Networks": null}});
    let shown = rebuilt::<Inspect>(answer);
    assert_eq!(shown["State"]["Status"], "");
    assert_eq!(
        rebuilt::<Network>(json!({"Labels": null}))["Labels"],
        json!({})
    );
}

const ALLOWED: [&str; 38] = [
    "Id",
    "Name",
    "Created",
    "State",
    "Status",
    "Running",
    "Paused",
    "Restarting",
    "Dead",
    "Health",
    "HostConfig",
    "NetworkMode",
    "Config",
    "Labels",
    "NetworkSettings",
    "Ports",
    "HostIp",
    "HostPort",
    "Networks",
    "NetworkID",
    "IPAddress",
    "GlobalIPv6Address",
    "Names",
    "IP",
    "PrivatePort",
    "PublicPort",
    "Type",
    "Driver",
    "Scope",
    "Internal",
    "Attachable",
    "Ingress",
    "Version",
    "ApiVersion",
    "MinAPIVersion",
    "Os",
    "Arch",
    "n",
];

// Nested objects with allowed and other keys. Under an allowed key only a value of the right type is kept.
fn any_answer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!("SECRET")),
        Just(json!(1)),
        Just(json!(true))
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        let key = prop_oneof![
            proptest::sample::select(&ALLOWED[..]).prop_map(str::to_owned),
            "[A-Z][a-z]{1,6}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::btree_map(key, inner, 0..8).prop_map(|map| json!(map)),
        ]
    })
}

// The keys in these objects are names that users choose.
fn only_allowed(value: &Value, named: bool) -> bool {
    match value {
        Value::Object(map) => map.iter().all(|(key, value)| {
            let names = matches!(key.as_str(), "Labels" | "Ports" | "Networks");
            (named || ALLOWED.contains(&key.as_str())) && only_allowed(value, names)
        }),
        Value::Array(all) => all.iter().all(|value| only_allowed(value, false)),
        _ => true,
    }
}

fn keeps_only_allowed<T: DeserializeOwned + Serialize>(answer: &Value) -> bool {
    match serde_json::from_value::<T>(answer.clone()) {
        Ok(kept) => only_allowed(&serde_json::to_value(kept).unwrap(), false),
        Err(_) => true,
    }
}

proptest! {
    #[test]
    fn no_secret_survives_in_an_answer_with_values_of_any_type(answer in replaced(answer())) {
        let bytes = answer.to_string();
        let shown = |inspect: Inspect| inspect.for_reader(&starting(Some(Health::Healthy)));
        let kept = [
            serde_json::from_str::<Inspect>(&bytes).ok().and_then(shown).map(|kept| json!(kept)),
            serde_json::from_str::<Listed>(&bytes).ok().map(|kept| json!(kept)),
            serde_json::from_str::<Network>(&bytes).ok().map(|kept| json!(kept)),
        ];
        for kept in kept.into_iter().flatten() {
            prop_assert!(only_allowed(&kept, false), "{}", kept);
            prop_assert!(!kept.to_string().contains("SECRET"), "{}", kept);
        }
    }

    #[test]
    fn no_field_outside_the_allowlist_survives(answer in any_answer()) {
        prop_assert!(keeps_only_allowed::<Version>(&answer));
        prop_assert!(keeps_only_allowed::<Listed>(&answer));
        prop_assert!(keeps_only_allowed::<Network>(&answer));
        let inspected = serde_json::from_value::<Inspect>(answer).ok();
        let shown = inspected.and_then(|inspect| inspect.for_reader(&Overlay::default()));
        prop_assert!(only_allowed(&serde_json::to_value(shown).unwrap(), false));
    }
}
