//! Compares two versions of a Compose file by their values: only what is meant may differ. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{compose::edits::plain, yaml};

/// Refuses a text that does not read as `wanted`, with the first place that differs.
pub fn check(wanted: &Value, text: &str) -> Result<(), String> {
    let read =
        yaml::parse_merged(text).map_err(|error| format!("the result is not YAML: {error}"))?;
    match differences(wanted, &read).first() {
        None => Ok(()),
        Some(found) => Err(format!("it would read differently at {}", place(found))),
    }
}

/// Refuses a change of what Compose resolves that is not below a place that is meant to change.
pub fn check_resolved(old: &Value, new: &Value, meant: &BTreeSet<String>) -> Result<(), String> {
    let is_meant = |found: &String| meant.iter().any(|own| covers(own, place(found)));
    match differences(old, new).iter().find(|own| !is_meant(own)) {
        None => Ok(()),
        Some(found) => Err(format!("{found} would change as well")),
    }
}

fn place(change: &str) -> &str {
    change.split_once(' ').map_or(change, |(_, place)| place)
}

/// Whether a change that is meant at one place may appear at another: below it, or anywhere in the same list.
fn covers(meant: &str, found: &str) -> bool {
    let meant = place(meant);
    let list = |place: &str| place.split('[').next().unwrap_or_default().to_owned();
    let below = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
    found.strip_prefix(meant).is_some_and(below)
        || (meant.contains('[') && list(meant) == list(found))
        || list(found) == meant
}

/// Every place that differs: `+` is added, `-` is removed, `~` is changed; elements of a list are in brackets.
pub fn differences(old: &Value, new: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    compare(&normal(old), &normal(new), "", &mut found);
    found
}

fn compare(old: &Value, new: &Value, path: &str, found: &mut BTreeSet<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => maps(old, new, path, found),
        (Value::Array(old), Value::Array(new)) => lists(old, new, path, found),
        _ => {
            found.insert(format!("~ {path}"));
        }
    }
}

fn maps(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    path: &str,
    found: &mut BTreeSet<String>,
) {
    let below = |key: &String| match path.is_empty() {
        true => key.clone(),
        false => format!("{path}.{key}"),
    };
    for (key, value) in old {
        match new.get(key) {
            Some(other) => compare(value, other, &below(key), found),
            None => drop(found.insert(format!("- {}", below(key)))),
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        found.insert(format!("+ {}", below(key)));
    }
}

fn lists(old: &[Value], new: &[Value], path: &str, found: &mut BTreeSet<String>) {
    let kept = |own: &[Value], other: &[Value]| -> Vec<Value> {
        own.iter()
            .filter(|own| other.contains(own))
            .cloned()
            .collect()
    };
    if kept(old, new) != kept(new, old) {
        found.insert(format!("~ {path}"));
    }
    for (sign, own, other) in [("-", old, new), ("+", new, old)] {
        let only = own.iter().filter(|own| !other.contains(own));
        found.extend(only.map(|own| format!("{sign} {path}[{own}]")));
    }
}

/// One form for values that can be written in several: as a mapping, as a list, or left out.
fn normal(file: &Value) -> Value {
    let mut file = file.clone();
    for section in ["services", "networks", "volumes"] {
        put(&mut file, section, json!({}), |_| json!(null));
    }
    let services = file["services"].as_object_mut().into_iter().flatten();
    for (_, service) in services {
        put(service, "environment", json!({}), |value| value);
        put(service, "networks", json!({}), |_| json!(null));
        let started = |_| json!({"condition": "service_started"});
        put(service, "depends_on", json!({}), started);
        for list in ["volumes", "command"] {
            put(service, list, json!([]), |value| value);
        }
    }
    file
}

/// Gives an absent key the value `empty`, and turns a list into a mapping if `empty` is one.
fn put(map: &mut Value, key: &str, empty: Value, of: impl Fn(Value) -> Value) {
    let Some(map) = map.as_object_mut() else {
        return;
    };
    let value = map.entry(key).or_insert(Value::Null);
    match value {
        Value::Null => *value = empty,
        Value::Array(items) if empty.is_object() => {
            let pair = |item: &Value| {
                let text = plain(item);
                let (name, rest) = match text.split_once('=') {
                    Some((name, rest)) => (name.to_owned(), Value::from(rest)),
                    None => (text, Value::Null),
                };
                (name, of(rest))
            };
            *value = items.iter().map(pair).collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        yaml::parse_merged(text).unwrap()
    }

    #[test]
    fn two_ways_to_write_the_same_differ_in_nothing() {
        let a = yaml(
            "services: {t: {environment: [A=1, B], depends_on: [db], networks: [x]}}\nnetworks:",
        );
        let b = yaml(
            "services: {t: {environment: {A: '1', B: }, volumes: , networks: {x: }, \
             depends_on: {db: {condition: service_started}}}}",
        );
        assert_eq!(differences(&a, &b), BTreeSet::new());
    }

    #[test]
    fn every_place_that_differs_is_named() {
        let a = yaml("services: {t: {command: [a, b], image: x, ports: [1]}}\nvolumes: {v: }");
        let b = yaml("services: {t: {command: [b, c], image: y, ports: [1]}, u: {image: z}}");
        let found: Vec<_> = differences(&a, &b).into_iter().collect();
        assert_eq!(
            found,
            [
                "+ services.t.command[\"c\"]",
                "+ services.u",
                "- services.t.command[\"a\"]",
                "- volumes.v",
                "~ services.t.image"
            ]
        );
        let c = yaml("services: {t: {command: [b, a], image: x, ports: [1]}}\nvolumes: {v: }");
        let found: Vec<_> = differences(&a, &c).into_iter().collect();
        assert_eq!(found, ["~ services.t.command"]);
    }

    #[test]
    fn a_result_that_reads_differently_is_refused_with_its_place() {
        let wanted = yaml("services: {t: {command: [a, b]}}");
        let check = |text: &str| check(&wanted, text);
        assert_eq!(check("services: {t: {command: [a, b]}}"), Ok(()));
        for (text, why) in [
            ("services: {t: {command: [a]}}", "command[\"b\"]"),
            ("services: {t: {command: [a, b], x: 1}}", "services.t.x"),
            ("a: [", "not YAML"),
        ] {
            let said = check(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn compose_may_resolve_the_same_to_another_form() {
        let meant = [
            "- services.t.volumes[\"/s:/s\"]",
            "+ services.p",
            "+ services.t.networks.n",
        ];
        let meant: BTreeSet<String> = meant.map(str::to_owned).into();
        let old = yaml("services: {t: {volumes: [{source: /s, target: /s}]}}");
        let new = yaml("services: {t: {networks: {n: {}}}, p: {image: x}}");
        assert_eq!(check_resolved(&old, &new, &meant), Ok(()));
        let more = yaml("services: {t: {networks: {n: {}}, image: y}, p: {image: x}}");
        let said = check_resolved(&old, &more, &meant).unwrap_err();
        assert!(said.starts_with("+ services.t.image"), "{said}");
    }
}
