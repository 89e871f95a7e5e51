//! Labels as the nested configuration that Traefik makes of them, with texts for leaves. Pure.
//!
//! Traefik decodes labels and files with one library (traefik/paerser), which turns both into the same nodes before it
//! looks at any type: a text is as good as a number, a list or an empty section in a file too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A section of the configuration.
pub type Object = Map<String, Value>;

/// The most steps of a label's path; Traefik's own have a dozen.
const MAX_STEPS: usize = 64;

/// The sections `http`, `tcp` and `udp` that the labels describe (paerser `parser/labels_decode.go`).
pub fn tree(labels: &BTreeMap<String, String>) -> Object {
    let mut root = Object::new();
    for (key, value) in labels {
        let Some(path) = path(key) else { continue };
        insert(&mut root, &path, value);
    }
    root.into_iter()
        .map(|(key, value)| (key, listed(value)))
        .collect()
}

/// The steps of `traefik.http.routers.web.tls.domains[0].main`, less the first; `None` for what is no configuration.
fn path(key: &str) -> Option<Vec<&str>> {
    let mut steps = Vec::new();
    let mut words = key.split('.');
    if words.next() != Some("traefik") {
        return None;
    }
    for word in words {
        match word.find('[') {
            None if !word.is_empty() => steps.push(word),
            Some(at) if at > 0 && word.ends_with(']') => steps.extend([&word[..at], &word[at..]]),
            _ => return None,
        }
    }
    if steps.len() > MAX_STEPS {
        return None;
    }
    let protocol = steps.first()?;
    ["http", "tcp", "udp"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(protocol))
        .then_some(steps)
}

fn insert(object: &mut Object, path: &[&str], value: &str) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    let known = key(object, step);
    let entry = object
        .entry(known.unwrap_or_else(|| (*step).to_owned()))
        .or_insert(Value::Null);
    if rest.is_empty() {
        // A section that is switched off stays off, whatever else is said of it.
        if !entry.is_object() || !is_on(value) {
            *entry = Value::String(value.to_owned());
        }
        return;
    }
    if entry.as_str().is_some_and(|text| !is_on(text)) {
        return;
    }
    if !entry.is_object() {
        *entry = Value::Object(Object::new());
    }
    if let Value::Object(inner) = entry {
        insert(inner, rest, value);
    }
}

/// A section's own value: `tls=true` and `tls.certresolver=x` go together.
fn is_on(value: &str) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case("true")
}

/// `[0]`, `[1]` … are the items of a list.
fn listed(value: Value) -> Value {
    let Value::Object(object) = value else {
        return value;
    };
    let is_list = !object.is_empty() && object.keys().all(|key| key.starts_with('['));
    let inner = object.into_iter().map(|(key, value)| (key, listed(value)));
    match is_list {
        true => Value::Array(inner.map(|(_, value)| value).collect()),
        false => Value::Object(inner.collect()),
    }
}

/// The key as it is written here: Traefik reads them in any case.
pub fn key(object: &Object, name: &str) -> Option<String> {
    object
        .keys()
        .find(|key| key.eq_ignore_ascii_case(name))
        .cloned()
}

/// A section in a section.
pub fn section<'a>(object: &'a Object, name: &str) -> Option<&'a Object> {
    object.get(&key(object, name)?)?.as_object()
}

/// A section in a section, to be changed.
pub fn section_mut<'a>(object: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    let key = key(object, name)?;
    object.get_mut(&key)?.as_object_mut()
}

/// A text in a section.
pub fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(&key(object, name)?)?.as_str()
}

/// Takes an entry out of a section.
pub fn take(object: &mut Object, name: &str) -> Option<Value> {
    let key = key(object, name)?;
    object.remove(&key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[track_caller]
    fn makes(labels: &[(&str, &str)], wanted: Value) {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(Value::Object(tree(&labels)), wanted);
    }

    #[test]
    fn a_path_is_a_nest_of_sections_and_its_value_stays_the_text_that_it_is() {
        makes(
            &[
                ("traefik.enable", "true"),
                ("traefik.docker.network", "front"),
                ("com.example", "x"),
                ("traefik.http.routers.web.priority", "7"),
                ("traefik.http.routers.web.entrypoints", "a,b"),
            ],
            json!({"http": {"routers": {"web": {"priority": "7", "entrypoints": "a,b"}}}}),
        );
    }

    #[test]
    fn a_section_that_is_only_switched_on_keeps_its_word_and_one_with_contents_does_not_need_it() {
        makes(
            &[
                ("traefik.http.middlewares.zip.compress", "true"),
                ("traefik.http.routers.web.tls", "true"),
                ("traefik.http.routers.web.tls.certresolver", "le"),
                ("traefik.http.routers.old.tls", "false"),
                ("traefik.http.routers.old.tls.certresolver", "le"),
            ],
            json!({"http": {
                "middlewares": {"zip": {"compress": "true"}},
                "routers": {"web": {"tls": {"certresolver": "le"}}, "old": {"tls": "false"}},
            }}),
        );
    }

    #[test]
    fn numbered_steps_are_a_list() {
        makes(
            &[
                ("traefik.tcp.routers.db.tls.domains[0].main", "a.b"),
                ("traefik.tcp.routers.db.tls.domains[0].sans", "c.b,d.b"),
                ("traefik.tcp.routers.db.tls.domains[1].main", "e.f"),
            ],
            json!({"tcp": {"routers": {"db": {"tls": {"domains": [{"main": "a.b", "sans": "c.b,d.b"}, {"main": "e.f"}]}}}}}),
        );
    }

    #[test]
    fn keys_that_differ_in_case_alone_are_one() {
        makes(
            &[
                ("traefik.http.Services.a.loadBalancer.server.port", "1"),
                (
                    "traefik.http.services.a.loadbalancer.passHostHeader",
                    "false",
                ),
            ],
            json!({"http": {"Services": {"a": {"loadBalancer": {"server": {"port": "1"}, "passHostHeader": "false"}}}}}),
        );
    }

    #[test]
    fn what_traefik_cannot_read_as_a_path_is_left_out() {
        makes(
            &[
                ("traefik.http..rule", "x"),
                ("traefik.http.routers.[0].rule", "x"),
                ("traefik", "x"),
            ],
            json!({}),
        );
    }

    // One valid label, and one whose key and value are mutated samples.
    fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        let key = mutated_text("traefik.http.routers.web.tls.domains[0].main");
        let value = prop_oneof![
            Just("true".to_owned()),
            Just("false".to_owned()),
            mutated_text("Host(`a`)")
        ];
        proptest::collection::btree_map(key, value, 0..6)
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn leaves_are_texts(value: &Value) -> bool {
        match value {
            Value::Object(map) => map.values().all(leaves_are_texts),
            Value::Array(items) => items.iter().all(leaves_are_texts),
            leaf => leaf.is_string(),
        }
    }

    proptest! {
        #[test]
        fn any_labels_are_a_tree_of_the_three_protocols_with_texts_for_leaves(labels in any_labels()) {
            let tree = tree(&labels);
            let known = |key: &String| ["http", "tcp", "udp"].iter().any(|own| own.eq_ignore_ascii_case(key));
            prop_assert!(tree.keys().all(known));
            prop_assert!(tree.values().all(leaves_are_texts));
        }
    }

    #[test]
    fn a_path_of_more_steps_than_traefik_has_is_left_out() {
        let label = |steps| {
            (
                format!("traefik.http{}", ".a".repeat(steps)),
                "x".to_owned(),
            )
        };
        assert_eq!(
            depth(&Value::Object(tree(&[label(MAX_STEPS - 1)].into()))),
            MAX_STEPS
        );
        assert_eq!(tree(&[label(MAX_STEPS)].into()), Object::new());
        assert_eq!(tree(&[label(200_000)].into()), Object::new());
    }
}
