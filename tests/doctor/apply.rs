//! Makes the edits of a fix in Compose files, by nothing but what the fix says.

use serde_json::{Map, Value, json};

use testbed::{Stack, image};

/// Makes every edit in the file that has its service, and else in the last one.
pub fn apply(stack: &Stack, files: &[&str], edits: &Value) {
    for edit in edits.as_array().expect("a fix with edits") {
        let at: Vec<&str> = edit["at"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap())
            .collect();
        let read = |name: &str| {
            let text = std::fs::read_to_string(stack.path(name)).unwrap();
            parse(&text)
        };
        let has = |name: &&&str| at.len() > 1 && !read(name)[at[0]][at[1]].is_null();
        let name = files.iter().find(has).unwrap_or(files.last().unwrap());
        let mut file = read(name);
        make(&mut file, &at, edit);
        stack.write(name, &serde_yaml::to_string(&file).unwrap());
    }
}

/// With merge keys (`<<`) merged, as people write them.
fn parse(text: &str) -> Value {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    value.apply_merge().unwrap();
    serde_yaml::from_value(value).unwrap()
}

fn make(file: &mut Value, at: &[&str], edit: &Value) {
    let snippet = || {
        // The testbed's image has another name than the one that people build.
        let text = edit["yaml"].as_str().unwrap();
        parse(&text.replace("rollout:latest", &image()))
    };
    match edit["do"].as_str().unwrap() {
        "set" => {
            let place = place(file, at);
            for (key, value) in snippet().as_object().unwrap() {
                match &mut *place {
                    Value::Array(list) => {
                        list.push(json!(format!("{key}={}", value.as_str().unwrap())))
                    }
                    own => own[key.as_str()] = value.clone(),
                }
            }
        }
        "add" => match place(file, at) {
            place @ Value::Null => *place = snippet(),
            Value::Array(list) => list.extend(snippet().as_array().unwrap().clone()),
            place => {
                for item in snippet().as_array().unwrap() {
                    place[item.as_str().unwrap()] = Value::Null;
                }
            }
        },
        "remove" => {
            let (last, above) = at.split_last().unwrap();
            let above: &mut Map<String, Value> = place(file, above).as_object_mut().unwrap();
            assert!(above.remove(*last).is_some(), "{at:?} is not there");
        }
        "remove_mount" => {
            let target = edit["target"].as_str().unwrap();
            let list = place(file, at).as_array_mut().unwrap();
            let before = list.len();
            list.retain(|mount| !is_at(mount, target));
            assert_eq!(list.len(), before - 1, "no mount of {target}");
        }
        other => panic!("{other} is no edit"),
    }
}

fn place<'a>(file: &'a mut Value, at: &[&str]) -> &'a mut Value {
    at.iter().fold(file, |value, key| &mut value[*key])
}

/// `TARGET`, `SOURCE:TARGET`, `SOURCE:TARGET:ro`, or the long form.
fn is_at(mount: &Value, target: &str) -> bool {
    match mount {
        Value::String(text) => {
            let parts: Vec<&str> = text.split(':').collect();
            parts.get(usize::from(parts.len() > 1)) == Some(&target)
        }
        long => long["target"] == target,
    }
}
