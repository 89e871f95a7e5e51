//! What to do about a finding: a line for people, and edits of the Compose file that a program can make as well.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    compose::edits::{Edit, set, written},
    error::Error,
    yaml,
};

/// What to do about a finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fix {
    /// One line; the whole of it where there is neither an edit nor a command.
    pub text: String,
    /// Edits of the Compose file, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// The command that comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// What makes edits of the Compose file count.
pub const UP: &str = "docker compose up -d";

impl Fix {
    /// What cannot be put into an edit.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Edits of what rollouts go through, and the command that makes them count.
    pub fn edit(text: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self {
            text: text.into(),
            edits,
            run: Some(UP.to_owned()),
        }
    }

    /// Edits of a service that can be rolled once they are made, without a gap.
    pub fn edit_of(service: &str, text: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self {
            run: Some(format!("rollout {service}")),
            ..Self::edit(text, edits)
        }
    }

    /// Edits of what only rollouts read: there is nothing to run.
    pub fn setting(text: impl Into<String>, service: &str, key: &str, value: Value) -> Self {
        Self {
            text: text.into(),
            edits: vec![set(
                &["services", service, "x-rollout"],
                json!({key: value}),
            )],
            run: None,
        }
    }

    /// A command alone.
    pub fn run(text: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            edits: Vec::new(),
            run: Some(command.into()),
        }
    }

    /// What a refusal says that one should do.
    pub fn of_hint(error: &Error) -> Option<Self> {
        error.hint.as_ref().map(Self::text)
    }
}

impl Fix {
    /// What to do, edit by edit, and the lines to do it with; all that is set comes last, as one snippet that begins at
    /// the top of the Compose file.
    pub fn told(&self) -> Vec<(String, String)> {
        let mut whole = Value::Null;
        let mut told = Vec::new();
        for edit in &self.edits {
            match edit {
                Edit::Set { at, yaml } => {
                    let place = at.iter().fold(&mut whole, |value, key| &mut value[key]);
                    merge(place, yaml::parse(yaml).unwrap_or_default());
                }
                Edit::Add { at, yaml } => {
                    told.push((format!("add to {}:", at.join(".")), yaml.clone()));
                }
                Edit::Remove { at } => {
                    told.push((format!("take out {}", at.join(".")), String::new()));
                }
                Edit::RemoveMount { at, target } => told.push((
                    format!("take out the mount of {target} in {}", at.join(".")),
                    String::new(),
                )),
            }
        }
        if !whole.is_null() {
            let what = "set, in place of what has the same name:".to_owned();
            told.push((what, written(&whole)));
        }
        told
    }
}

fn merge(place: &mut Value, mapping: Value) {
    let Value::Object(entries) = mapping else {
        return;
    };
    for (key, value) in entries {
        place[key] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::edits::{add, remove, remove_mount};

    #[test]
    fn an_edit_is_told_with_the_place_where_it_goes() {
        let several = Fix::edit(
            "",
            vec![
                set(&["services", "web"], json!({"expose": ["80"]})),
                remove(&["services", "web", "ports"]),
                set(&["services", "web", "x-rollout"], json!({"wait": "5s"})),
            ],
        );
        assert_eq!(several.told()[0].0, "take out services.web.ports");
        assert_eq!(
            several.told()[1].1,
            "services:\n  web:\n    expose:\n    - '80'\n    x-rollout:\n      wait: 5s\n"
        );
        let told = |edit: Edit| Fix::edit("", vec![edit]).told().remove(0);
        assert_eq!(
            told(add(&["services", "t", "command"], &["--api.insecure=true"])),
            (
                "add to services.t.command:".to_owned(),
                "- --api.insecure=true\n".to_owned()
            )
        );
        assert_eq!(
            told(remove(&["services", "web", "ports"])).0,
            "take out services.web.ports"
        );
        assert_eq!(
            told(remove_mount("web", "/data")).0,
            "take out the mount of /data in services.web.volumes"
        );
    }
}
