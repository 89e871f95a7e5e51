//! Lays out a value as lines of YAML, as people write Compose files. Pure.

use serde_json::{Map, Value};

use crate::yaml;

/// The keys of a service in their usual order; all others follow.
const ORDER: [&str; 11] = [
    "image",
    "command",
    "environment",
    "networks",
    "volumes",
    "depends_on",
    "read_only",
    "cap_drop",
    "cap_add",
    "security_opt",
    "restart",
];
/// A longer list gets a line for each item.
const MAX_LINE: usize = 60;

/// The entries of a mapping in the order in which they are written.
pub fn entries(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    let rank = |key: &str| ORDER.iter().position(|own| *own == key);
    entries.sort_by_key(|(key, _)| rank(key).unwrap_or(ORDER.len()));
    entries
}

/// `key: value` as lines without line ends, `step` spaces a level.
pub fn lines(key: &str, value: &Value, step: usize) -> Vec<String> {
    let below: Vec<String> = match value {
        Value::Null => Vec::new(),
        Value::Object(map) if !map.is_empty() && tagged(map).is_none() => {
            let all = entries(map).into_iter();
            all.flat_map(|(key, value)| lines(key, value, step))
                .collect()
        }
        Value::Array(items) if key.len() + flow(value).len() > MAX_LINE => {
            items.iter().map(item).collect()
        }
        Value::Array(_) | Value::Object(_) => return vec![format!("{key}: {}", flow(value))],
        one => return vec![format!("{key}: {}", scalar(one, false))],
    };
    let below = below.iter().map(|line| format!("{:step$}{line}", ""));
    [format!("{key}:")].into_iter().chain(below).collect()
}

/// An element of a list as a line.
pub fn item(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => format!("- {}", flow(value)),
        one => format!("- {}", scalar(one, false)),
    }
}

/// A value on one line, in brackets or braces if it is a list or a mapping.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => match tagged(map) {
            Some((tag, value)) => format!("{tag} {}", flow(value)),
            None => {
                let pair = |(key, value)| format!("{key}: {}", flow(value)).trim_end().to_owned();
                let pairs: Vec<String> = entries(map).into_iter().map(pair).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        },
        one => scalar(one, true),
    }
}

/// A mapping with a tag of Compose as its only key, such as `!override`, stands for a value with that tag.
fn tagged(map: &Map<String, Value>) -> Option<(&String, &Value)> {
    let first = map.iter().next()?;
    first.0.starts_with('!').then_some(first)
}

/// A scalar, in quotes if it would read as something else without them.
fn scalar(value: &Value, in_flow: bool) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            let is_plain = yaml::parse(text).as_ref() == Ok(value);
            match is_plain && !(in_flow && text.contains([':', ',', '[', ']', '{', '}'])) {
                true => text.clone(),
                false => yaml::json(value),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_laid_out_as_people_write_it_and_reads_the_same() {
        let service = json!({
            "restart": "always",
            "volumes": ["/var/run/docker.sock:/var/run/docker.sock:ro", "socket-proxy:/var/lib/rollout"],
            "image": "app:v1",
            "environment": {"A": "true", "B": "tcp://x:1", "C": "a: b # c", "D": 1},
            "networks": ["default", "a:b"],
            "labels": {},
            "ports": null,
        });
        let text = lines("web", &service, 4).join("\n");
        assert_eq!(
            text,
            "\
web:
    image: app:v1
    environment:
        A: \"true\"
        B: tcp://x:1
        C: \"a: b # c\"
        D: 1
    networks: [default, \"a:b\"]
    volumes:
        - /var/run/docker.sock:/var/run/docker.sock:ro
        - socket-proxy:/var/lib/rollout
    restart: always
    labels: {}
    ports:"
        );
        assert_eq!(yaml::parse(&text).unwrap()["web"], service);
        let on_one_line = format!("web: {}", flow(&service));
        assert_eq!(yaml::parse(&on_one_line).unwrap()["web"], service);
    }

    #[test]
    fn a_tag_of_compose_stands_before_its_value() {
        let value = json!({"!override": ["a:/a"]});
        assert_eq!(
            lines("volumes", &value, 2),
            ["volumes: !override [\"a:/a\"]"]
        );
    }
}
