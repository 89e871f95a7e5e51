//! What to do about a finding: a line for people, and edits of the Compose file, which a program can make.

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
    /// One line; without edits and a command, this is the whole fix.
    pub text: String,
    /// Edits of the Compose file, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// The command to run after the edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// The command that applies the Compose file.
pub const UP: &str = "docker compose up -d";

impl Fix {
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Edits of the infrastructure, which `docker compose up` applies.
    pub fn edit(text: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self {
            text: text.into(),
            edits,
            run: Some(UP.to_owned()),
        }
    }

    /// Edits of a service, which a rollout applies without a gap.
    pub fn edit_of(service: &str, text: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self {
            run: Some(format!("rollout {service}")),
            ..Self::edit(text, edits)
        }
    }

    /// A setting of `x-rollout`: no command has to run after the edit.
    pub fn setting(text: impl Into<String>, service: &str, key: &str, value: &str) -> Self {
        let at = ["services", service, "x-rollout"];
        Self {
            edits: vec![set(&at, json!({key: value}))],
            ..Self::text(text)
        }
    }

    /// The setting for a service that cannot run twice; `condition` says when that is so.
    pub fn recreate(service: &str, condition: &str) -> Self {
        let text =
            format!("{condition}let rollouts stop the old set of {service} first, with a gap");
        Self::setting(text, service, "strategy", "recreate")
    }

    pub fn run(text: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            run: Some(command.into()),
            ..Self::text(text)
        }
    }

    pub fn of_hint(error: &Error) -> Option<Self> {
        error.hint.as_ref().map(Self::text)
    }

    /// What to do for each edit, with the lines to paste. Everything to set comes last, as one snippet that begins at the
    /// top of the Compose file.
    pub fn instructions(&self) -> Vec<(String, String)> {
        let mut whole = Value::Null;
        let mut instructions = Vec::new();
        for edit in &self.edits {
            match edit {
                Edit::Set { at, yaml } => {
                    let place = at.iter().fold(&mut whole, |value, key| &mut value[key]);
                    merge(place, yaml::parse(yaml).unwrap_or_default());
                }
                Edit::Add { at, yaml } => {
                    instructions.push((format!("add to {}:", at.join(".")), yaml.clone()));
                }
                Edit::Remove { at } => {
                    instructions.push((format!("remove {}", at.join(".")), String::new()));
                }
                Edit::RemoveMount { at, target } => instructions.push((
                    format!("remove the mount of {target} in {}", at.join(".")),
                    String::new(),
                )),
            }
        }
        if !whole.is_null() {
            let what = "set, replacing what has the same name:".to_owned();
            instructions.push((what, written(&whole)));
        }
        instructions
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
    fn an_edit_is_printed_with_its_place() {
        let several = Fix::edit(
            "",
            vec![
                set(&["services", "web"], json!({"expose": ["80"]})),
                remove(&["services", "web", "ports"]),
                set(&["services", "web", "x-rollout"], json!({"wait": "5s"})),
            ],
        );
        assert_eq!(several.instructions()[0].0, "remove services.web.ports");
        assert_eq!(
            several.instructions()[1].1,
            "services:\n  web:\n    expose:\n    - '80'\n    x-rollout:\n      wait: 5s\n"
        );
        let printed = |edit: Edit| Fix::edit("", vec![edit]).instructions().remove(0);
        assert_eq!(
            printed(add(&["services", "t", "command"], &["--api.insecure=true"])),
            (
                "add to services.t.command:".to_owned(),
                "- --api.insecure=true\n".to_owned()
            )
        );
        assert_eq!(
            printed(remove(&["services", "web", "ports"])).0,
            "remove services.web.ports"
        );
        assert_eq!(
            printed(remove_mount("web", "/data")).0,
            "remove the mount of /data in services.web.volumes"
        );
    }
}
