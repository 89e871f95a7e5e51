//! What was begun: written before anything is created, so that a later run can record or tidy up after a dead one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{revisions::Revision, store::File};
use crate::model::ContainerId;

/// The folder of these entries below a service's.
const FOLDER: &str = "journal";

/// A rollout that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What it is to become, as it is recorded once it has.
    pub revision: Revision,
    /// The image that had the reference before an undo gave it to an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<String>,
    /// The old replicas that no proxy routed to before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unrouted: BTreeSet<ContainerId>,
}

impl Intent {
    /// The file that it is written to: a new one each time.
    pub fn path(&self) -> String {
        format!(
            "{FOLDER}/{}-{}.json",
            self.revision.number, self.revision.rollout
        )
    }

    /// The newest among a service's files; what cannot be read is no loss, the containers say the rest.
    pub fn last(files: &[File]) -> Option<Self> {
        let own = |file: &&File| file.path.starts_with(FOLDER);
        let intents = files.iter().filter(own);
        intents
            .filter_map(|file| file.entry::<Self>().ok())
            .max_by_key(|intent| (intent.revision.at, intent.revision.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_can_be_read_is_the_last() {
        let intent = |number, at| Intent {
            revision: Revision {
                number,
                at,
                ..Revision::default()
            },
            ..Intent::default()
        };
        let files = [
            File::of("journal/2-b.json", &intent(2, 20)),
            File::of("journal/1-a.json", &intent(1, 10)),
            File::raw("journal/3-c.json", b""),
            File::of("revisions/4-d.json", &intent(4, 40)),
        ];
        assert_eq!(Intent::last(&files), Some(intent(2, 20)));
        assert_eq!(Intent::last(&files[2..]), None);
    }
}
