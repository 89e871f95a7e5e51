//! Edits of a Compose file, as data: doctor prints them, `init` makes them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::mounts::Mount;
use crate::yaml;

/// One edit; `at` is a place in the Compose file, key by key from the top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Edit {
    /// Each key of a mapping replaces what has its name at `at`. A missing mapping is created.
    Set {
        at: Vec<String>,
        /// The mapping, as YAML.
        yaml: String,
    },
    /// The items of a list are added to those at `at`: as keys without a value if that is a mapping, as words if it is
    /// text. A missing list is created.
    Add {
        at: Vec<String>,
        /// The list, as YAML.
        yaml: String,
    },
    /// Removes what is at `at`.
    Remove { at: Vec<String> },
    /// Removes one mount from the list at `at`.
    RemoveMount {
        at: Vec<String>,
        /// The path in the container.
        target: String,
    },
}

pub fn set(at: &[&str], mapping: Value) -> Edit {
    Edit::Set {
        at: owned(at),
        yaml: written(&mapping),
    }
}

pub fn add(at: &[&str], items: &[&str]) -> Edit {
    Edit::Add {
        at: owned(at),
        yaml: written(&json!(items)),
    }
}

pub fn remove(at: &[&str]) -> Edit {
    Edit::Remove { at: owned(at) }
}

pub fn remove_mount(service: &str, target: &str) -> Edit {
    Edit::RemoveMount {
        at: owned(&["services", service, "volumes"]),
        target: target.to_owned(),
    }
}

fn owned(at: &[&str]) -> Vec<String> {
    at.iter().map(|&key| key.to_owned()).collect()
}

/// YAML can express every plain value.
pub fn written(value: &Value) -> String {
    yaml::write(value).unwrap_or_default()
}

impl Edit {
    pub fn at(&self) -> &[String] {
        match self {
            Self::Set { at, .. }
            | Self::Add { at, .. }
            | Self::Remove { at }
            | Self::RemoveMount { at, .. } => at,
        }
    }

    /// Makes the edit in a file, in either of the forms that Compose accepts; the error is one line.
    pub fn make(&self, file: &mut Value) -> Result<(), String> {
        match self {
            Self::Set { at, yaml } => set_in(place(file, at)?, &yaml::parse(yaml)?),
            Self::Add { at, yaml } => add_to(place(file, at)?, &yaml::parse(yaml)?),
            Self::Remove { at } => remove_from(file, at).map(drop),
            Self::RemoveMount { at, target } => {
                let list = place(file, at)?.as_array_mut();
                let list = list.ok_or_else(|| format!("{} is not a list", at.join(".")))?;
                list.retain(|own| Mount::of(own).is_none_or(|own| own.target != *target));
                match list.is_empty() {
                    true => remove_from(file, at),
                    false => Ok(()),
                }
            }
        }
        .map_err(|why: String| format!("{}: {why}", self.at().join(".")))
    }
}

/// The value at a place; missing mappings are created on the way.
fn place<'a>(file: &'a mut Value, at: &[String]) -> Result<&'a mut Value, String> {
    at.iter().try_fold(file, |value, key| {
        if value.is_null() {
            *value = json!({});
        }
        let map = value
            .as_object_mut()
            .ok_or_else(|| format!("{key} is not in a mapping"))?;
        Ok(map.entry(key.clone()).or_insert(Value::Null))
    })
}

fn remove_from(file: &mut Value, at: &[String]) -> Result<(), String> {
    let (last, above) = at.split_last().ok_or("the whole file cannot be removed")?;
    let map = place(file, above)?.as_object_mut();
    map.and_then(|map| map.remove(last));
    Ok(())
}

fn set_in(place: &mut Value, mapping: &Value) -> Result<(), String> {
    for (key, value) in mapping.as_object().into_iter().flatten() {
        match (&mut *place, value) {
            (Value::Null, _) => *place = json!({key: value}),
            (Value::Object(map), _) => drop(map.insert(key.clone(), value.clone())),
            // A list of dependencies has no room for a condition.
            (Value::Array(names), Value::Object(_)) => {
                let started = |name: &Value| (plain(name), json!({"condition": "service_started"}));
                let mut map: Map<String, Value> = names.iter().map(started).collect();
                map.insert(key.clone(), value.clone());
                *place = map.into();
            }
            (Value::Array(pairs), _) => {
                let pair = json!(format!("{key}={}", plain(value)));
                let is = |own: &&mut Value| plain(own).split('=').next() == Some(key);
                match pairs.iter_mut().find(is) {
                    Some(own) => *own = pair,
                    None => pairs.push(pair),
                }
            }
            _ => return Err("this is neither a mapping nor a list".to_owned()),
        }
    }
    Ok(())
}

fn add_to(place: &mut Value, items: &Value) -> Result<(), String> {
    for item in items.as_array().into_iter().flatten() {
        match &mut *place {
            Value::Null => *place = json!([item]),
            Value::Array(list) => list.push(item.clone()),
            Value::Object(map) => drop(map.insert(plain(item), Value::Null)),
            Value::String(line) => {
                let end = line.trim_end().len();
                line.insert_str(end, &format!(" {}", plain(item)));
            }
            _ => return Err("this is neither a list nor text".to_owned()),
        }
    }
    Ok(())
}

/// A scalar as Compose reads it.
pub fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(before: &str, edit: &Edit, after: &str) {
        let mut value = yaml::parse(before).unwrap();
        edit.make(&mut value).unwrap();
        assert_eq!(value, yaml::parse(after).unwrap(), "{before}");
    }

    #[test]
    fn a_value_is_set_in_every_form_that_compose_accepts() {
        let host = set(&["e"], json!({"A": "2"}));
        becomes("{}", &host, "e: {A: '2'}");
        becomes("e: {A: '1', B: x}", &host, "e: {A: '2', B: x}");
        becomes("e: [B=x, A=1]", &host, "e: [B=x, A=2]");
        becomes("e: [B]", &host, "e: [B, A=2]");
        let wait = set(&["d"], json!({"p": {"condition": "service_healthy"}}));
        becomes(
            "d: [db]",
            &wait,
            "d: {db: {condition: service_started}, p: {condition: service_healthy}}",
        );
        assert!(host.make(&mut json!({"e": 1})).is_err());
        assert!(host.make(&mut json!([])).is_err());
    }

    #[test]
    fn items_are_added_to_a_list_a_mapping_and_a_line() {
        let more = add(&["n"], &["b", "c"]);
        becomes("{}", &more, "n: [b, c]");
        becomes("n: [a]", &more, "n: [a, b, c]");
        becomes("n: {a: }", &more, "n: {a: , b: , c: }");
        becomes("n: a", &more, "n: a b c");
    }

    #[test]
    fn the_last_mount_is_removed_with_its_list() {
        let gone = remove_mount("t", "/s");
        becomes(
            "services: {t: {volumes: ['/h:/s:ro', 'x:/x']}}",
            &gone,
            "services: {t: {volumes: ['x:/x']}}",
        );
        becomes(
            "services: {t: {volumes: [{type: bind, source: /h, target: /s}]}}",
            &gone,
            "services: {t: {}}",
        );
        becomes("a: {b: 1, c: 2}", &remove(&["a", "b"]), "a: {c: 2}");
    }

    #[test]
    fn in_json_an_edit_says_what_it_does_and_where() {
        let value = serde_json::to_value(set(&["services"], json!({"a": 1}))).unwrap();
        assert_eq!(
            value,
            json!({"do": "set", "at": ["services"], "yaml": "a: 1\n"})
        );
    }
}
