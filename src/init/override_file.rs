//! The edits as a Compose override file: Compose merges it into the user's own file, which stays as it is. Pure.

use serde_json::{Value, json};

use crate::compose::{edits::Edit, layout::lines};

/// The name under which Compose finds it beside the main file.
pub const NAME: &str = "compose.override.yaml";

/// The text of the file; `wanted` is the user's own file with the edits made.
pub fn text(edits: &[Edit], wanted: &Value) -> Result<String, String> {
    let mut file = json!({});
    for edit in edits {
        let at = edit.at();
        let whole = at.iter().fold(wanted, |value, key| &value[key.as_str()]);
        match edit {
            Edit::Set { .. } => edit.make(&mut file)?,
            // A command is replaced by the override, and its mounts are added to unless a tag says otherwise.
            Edit::Add { .. } if at.last().is_some_and(|key| key == "command") => {
                put(&mut file, at, whole.clone());
            }
            Edit::Add { .. } => edit.make(&mut file)?,
            Edit::Remove { .. } | Edit::RemoveMount { .. } => {
                let left = whole.as_array().cloned().unwrap_or_default();
                put(&mut file, at, json!({"!override": left}));
            }
        }
    }
    let sections = ["services", "networks", "volumes"];
    let sections = sections.iter().filter(|key| !file[**key].is_null());
    let texts = sections.map(|key| lines(key, &file[*key], 2).join("\n") + "\n");
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

fn put(file: &mut Value, at: &[String], value: Value) {
    *at.iter().fold(file, |value, key| &mut value[key.as_str()]) = value;
}
