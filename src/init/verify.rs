//! Compares two versions of a Compose file by their values: only what the edits name may differ. Pure.

use serde_json::Value;

use crate::{compose::edits::Edit, yaml};

/// Refuses a text that does not read as `wanted`.
pub fn check(wanted: &Value, text: &str) -> Result<(), String> {
    let read =
        yaml::parse_merged(text).map_err(|error| format!("the result is not YAML: {error}"))?;
    same(wanted, &read)
}

/// Refuses what Compose resolves if it differs in anything but the places of the edits.
pub fn check_resolved(before: &Value, after: &Value, edits: &[Edit]) -> Result<(), String> {
    same(&without(before, edits), &without(after, edits))
}

fn same(one: &Value, other: &Value) -> Result<(), String> {
    match difference(one, other) {
        None => Ok(()),
        Some(place) => Err(format!("it would read differently at {place}")),
    }
}

/// A project without the places of the edits, and without the mappings that are empty then.
fn without(project: &Value, edits: &[Edit]) -> Value {
    let mut project = project.clone();
    for edit in edits {
        match edit {
            Edit::Set { at, yaml } => {
                let mapping = yaml::parse(yaml).unwrap_or_default();
                for key in mapping.as_object().into_iter().flat_map(|map| map.keys()) {
                    let place = at.iter().chain([key]).map(String::as_str);
                    remove(&mut project, &place.collect::<Vec<_>>());
                }
            }
            Edit::Add { at, .. } | Edit::Remove { at } | Edit::RemoveMount { at, .. } => {
                let place = at.iter().map(String::as_str);
                remove(&mut project, &place.collect::<Vec<_>>());
            }
        }
    }
    project
}

fn remove(value: &mut Value, at: &[&str]) {
    let (Some(map), [key, below @ ..]) = (value.as_object_mut(), at) else {
        return;
    };
    if let (Some(value), [_, ..]) = (map.get_mut(*key), below) {
        remove(value, below);
    }
    let is_empty =
        |value: &Value| value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
    if below.is_empty() || map.get(*key).is_some_and(is_empty) {
        map.remove(*key);
    }
}

/// The first place that differs, key by key from the top.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        _ if one == other => None,
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys());
            keys.find_map(|key| match (a.get(key), b.get(key)) {
                (Some(one), Some(other)) => difference(one, other)
                    .map(|below| format!("{key}.{below}").trim_end_matches('.').to_owned()),
                _ => Some(key.clone()),
            })
        }
        _ => Some(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::edits::{add, remove_mount, set};

    fn yaml(text: &str) -> Value {
        yaml::parse_merged(text).unwrap()
    }

    #[test]
    fn a_result_that_reads_differently_is_refused_with_its_place() {
        let wanted = yaml("services: {t: {command: [a, b]}}");
        let check = |text: &str| check(&wanted, text);
        assert_eq!(check("services: {t: {command: [a, b]}}"), Ok(()));
        for (text, why) in [
            ("services: {t: {command: [a]}}", "at services.t.command"),
            ("services: {t: {command: [a, b], x: 1}}", "at services.t.x"),
            ("services: {t: {}}", "at services.t.command"),
            ("a: [", "not YAML"),
        ] {
            let said = check(text).unwrap_err();
            assert!(said.ends_with(why) || said.contains("not YAML"), "{said}");
        }
    }

    #[test]
    fn compose_may_resolve_the_places_of_the_edits_to_any_form_and_no_other_place() {
        let edits = [
            remove_mount("t", "/s"),
            set(&["services"], serde_json::json!({"p": {"image": "x"}})),
            set(
                &["services", "t", "environment"],
                serde_json::json!({"A": "1"}),
            ),
            add(&["services", "t", "networks"], &["n"]),
        ];
        let check = |old: &str, new: &str| check_resolved(&yaml(old), &yaml(new), &edits);
        let old =
            "services: {t: {image: x, volumes: [{source: /s, target: /s}], networks: {default: }}}";
        let new =
            "services: {t: {image: x, environment: {A: 1}, networks: {n: {}}}, p: {image: x}}";
        assert_eq!(check(old, new), Ok(()));
        let more = new.replace("A: 1", "A: 1, B: 2");
        let said = check(old, &more).unwrap_err();
        assert!(said.ends_with("at services.t.environment"), "{said}");
        let more = new.replace("x}}", "x}}\nnetworks: {o: {}}");
        let said = check(old, &more).unwrap_err();
        assert!(said.ends_with("at networks"), "{said}");
    }
}
