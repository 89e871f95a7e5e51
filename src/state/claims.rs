//! The claim of a service that no proxy routes to, in the state volume.
//!
//! Each entry is a new file, so that a torn write leaves the previous claim. An entry of an earlier lock holder never
//! overrides one of a later holder, whenever it is written.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::store::File;
use crate::model::{ContainerId, Phase, RolloutId};

/// The folder of these entries below a service's.
pub const FOLDER: &str = "claim";

/// A claim as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Grows with each holder of the service's lock.
    pub epoch: u64,
    /// Grows with each entry of a holder.
    pub number: u64,
    pub rollout: RolloutId,
    /// See [`Phase`].
    phase: String,
    /// The old replicas that the new ones replace.
    pub hides: BTreeSet<ContainerId>,
}

impl Entry {
    pub fn new(
        (epoch, number): (u64, u64),
        rollout: RolloutId,
        phase: Phase,
        hides: BTreeSet<ContainerId>,
    ) -> Self {
        Self {
            epoch,
            number,
            rollout,
            phase: phase.to_string(),
            hides,
        }
    }

    /// The file that it is written to.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}-{}.json", self.epoch, self.number)
    }

    /// The newest entry and its phase. A torn entry is skipped: nothing was done after it.
    ///
    /// # Errors
    /// A newer version wrote the newest entry: why it cannot be read, in a few words.
    pub fn last(files: &[File]) -> Result<Option<(Self, Phase)>, String> {
        let mut own: Vec<_> = files
            .iter()
            .filter_map(|file| Some((order(&file.path)?, file)))
            .collect();
        own.sort_by_key(|(order, _)| *order);
        for (_, file) in own.into_iter().rev() {
            match file.entry::<Self>() {
                Ok(entry) => {
                    let phase = entry.phase.parse::<Phase>();
                    let phase = phase.map_err(|unknown| unknown.to_string())?;
                    return Ok(Some((entry, phase)));
                }
                Err(newer) if file.is_of_a_newer_format() => return Err(newer),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

/// Epoch and number, which are the name of an entry's file.
fn order(path: &str) -> Option<(u64, u64)> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    let (epoch, number) = name.strip_suffix(".json")?.split_once('-')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u64, number: u64, phase: Phase) -> Entry {
        let rollout = RolloutId("r1".to_owned());
        Entry::new((epoch, number), rollout, phase, BTreeSet::new())
    }

    fn file(own: &Entry) -> File {
        File::of(&own.path(), own)
    }

    fn last(files: &[File]) -> Option<Phase> {
        Entry::last(files).unwrap().map(|(_, phase)| phase)
    }

    #[test]
    fn the_last_entry_of_the_last_owner_counts_and_a_write_that_was_cut_off_does_not() {
        let hold = entry(7, 1, Phase::Prepared);
        let cutover = entry(7, 2, Phase::Committed);
        assert_eq!(last(&[]), None);
        let both = [file(&cutover), file(&hold)];
        assert_eq!(last(&both), Some(Phase::Committed));
        for cut in [&b"{\"format\":1,"[..], b""] {
            let torn = File::raw(&cutover.path(), cut);
            assert_eq!(last(&[file(&hold), torn]), Some(Phase::Prepared));
            let torn = File::raw(&hold.path(), cut);
            assert_eq!(last(&[torn]), None);
        }
        let late = entry(6, 9, Phase::RolledBack);
        assert_eq!(last(&[file(&late), file(&cutover)]), Some(Phase::Committed));
        assert_ne!(late.path(), cutover.path());
    }

    #[test]
    fn a_last_entry_of_a_newer_version_is_an_error_and_one_that_was_followed_is_none() {
        let hold = entry(7, 1, Phase::Prepared);
        let mut newer = entry(7, 2, Phase::Committed);
        newer.phase = "of-tomorrow".to_owned();
        let error = Entry::last(&[file(&hold), file(&newer)]).unwrap_err();
        assert!(error.contains("of-tomorrow"), "{error}");
        let newer = File::raw(&newer.path(), br#"{"format":2,"what":"ever"}"#);
        let error = Entry::last(&[file(&hold), newer]).unwrap_err();
        assert!(error.contains("newer rollout"), "{error}");
        let newer = File::raw(&entry(6, 2, Phase::Committed).path(), br#"{"format":2}"#);
        assert_eq!(last(&[file(&hold), newer]), Some(Phase::Prepared));
    }
}
