//! What is kept of services that are gone, as `rollout prune` shows it.

use serde::Serialize;

pub use super::lines as json;
use super::{table::table, word};

/// One thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "kept")]
pub struct Item {
    pub project: String,
    pub service: String,
    pub what: What,
    /// The image's tag, the folder in the state volume, or the container.
    pub name: String,
    /// Whether this command has removed it.
    pub removed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Image,
    /// Revisions, journal and claim.
    Records,
    Lock,
    /// A request to roll back.
    Request,
}

/// A table, and a last line that says what has become of it.
pub fn human(items: &[Item]) -> String {
    let Some(first) = items.first() else {
        return "nothing is kept of services or projects that are gone\n".to_owned();
    };
    let rows = items.iter().map(|own| {
        [
            own.project.clone(),
            own.service.clone(),
            word(&own.what),
            own.name.clone(),
        ]
    });
    let last = match first.removed {
        true => "all of it is removed\n",
        false => "nothing is removed yet; to remove all of it: rollout prune --yes\n",
    };
    table(["project", "service", "what", "name"], rows) + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_how_to_remove_it_or_that_it_is_removed() {
        let mut item = Item {
            project: "shop".to_owned(),
            service: "web".to_owned(),
            what: What::Image,
            name: "rollout/shop-web:1".to_owned(),
            removed: false,
        };
        let text = human(std::slice::from_ref(&item));
        assert!(text.contains("rollout/shop-web:1"), "{text}");
        assert!(text.ends_with("rollout prune --yes\n"), "{text}");
        let line: serde_json::Value = serde_json::from_str(&json(&[item.clone()])).unwrap();
        assert_eq!(
            line,
            serde_json::json!({"event": "kept", "project": "shop", "service": "web", "what": "image",
                "name": "rollout/shop-web:1", "removed": false})
        );
        item.removed = true;
        assert!(human(&[item]).ends_with("all of it is removed\n"));
        assert_eq!(human(&[]).lines().count(), 1);
    }
}
