//! The claim of a service that no proxy routes to, in the state volume.
//!
//! Two files take turns, so that a write that is cut off leaves the claim before it. The newest epoch counts, whatever an
//! earlier run writes later.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::store::File;
use crate::model::{ContainerId, Phase, RolloutId};

/// The folder of these entries below a service's.
const FOLDER: &str = "claim";

/// A claim as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of the lock under which it was written.
    pub epoch: u64,
    /// Grows with each entry of the service.
    pub number: u64,
    pub rollout: RolloutId,
    pub phase: Phase,
    /// The old replicas that the new ones replace.
    pub hides: BTreeSet<ContainerId>,
}

impl Entry {
    /// The file that it is written to.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}.json", self.number % 2)
    }

    /// The newest among a service's files.
    ///
    /// # Errors
    /// There are files, and none can be read: which one and why, in a few words.
    pub fn last(files: &[File]) -> Result<Option<Self>, String> {
        let own = files.iter().filter(|file| file.path.starts_with(FOLDER));
        let read: Vec<Result<Self, String>> = own.map(File::entry::<Self>).collect();
        let newest = read
            .iter()
            .flatten()
            .max_by_key(|own| (own.epoch, own.number));
        match (newest, read.iter().find_map(|own| own.as_ref().err())) {
            (Some(newest), _) => Ok(Some(newest.clone())),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u64, number: u64, phase: Phase) -> Entry {
        Entry {
            epoch,
            number,
            rollout: RolloutId("r1".to_owned()),
            phase,
            hides: BTreeSet::new(),
        }
    }

    #[test]
    fn the_newest_epoch_counts_and_a_write_that_was_cut_off_does_not() {
        let hold = entry(7, 1, Phase::Prepared);
        let cutover = entry(7, 2, Phase::Committed);
        assert_ne!(hold.path(), cutover.path());
        let file = |own: &Entry| File::of(&own.path(), own);
        let last = |files: &[File]| Entry::last(files);
        assert_eq!(last(&[]), Ok(None));
        assert_eq!(
            last(&[file(&hold), file(&cutover)]),
            Ok(Some(cutover.clone()))
        );
        let torn = File::raw(&cutover.path(), b"{\"format\":1,");
        assert_eq!(last(&[file(&hold), torn]), Ok(Some(hold.clone())));
        let late = entry(6, 3, Phase::RolledBack);
        assert_eq!(last(&[file(&late), file(&cutover)]), Ok(Some(cutover)));
        let torn = File::raw(&hold.path(), b"");
        assert_eq!(last(&[torn]), Err("claim/1.json is corrupt".to_owned()));
    }

    #[test]
    fn a_phase_of_a_later_version_is_no_claim_that_can_be_read() {
        let value = serde_json::json!({"epoch": 7, "number": 1, "rollout": "r1", "phase": "of-tomorrow", "hides": []});
        assert!(Entry::last(&[File::of("claim/1.json", &value)]).is_err());
    }
}
