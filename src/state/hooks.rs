//! The record of hooks: written before the first hook of a phase begins and after the last has ended, so that a later run
//! can say that hooks run a second time.

use serde::{Deserialize, Serialize};

use super::store::File;
use crate::model::{HookEnd, HookPhase, RolloutId};

/// The folder of these entries below a service's.
const FOLDER: &str = "hooks";

/// The hooks of one phase of a rollout that began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Grows with each holder of the service's lock.
    pub epoch: u64,
    pub rollout: RolloutId,
    pub phase: HookPhase,
    /// `None` at the beginning.
    pub end: Option<HookEnd>,
}

impl Entry {
    /// The file that it is written to.
    pub fn path(&self) -> String {
        let Self { epoch, rollout, .. } = self;
        let (phase, end) = (self.phase.name(), self.end.as_ref().map_or("", |_| "-end"));
        format!("{FOLDER}/{epoch}-{rollout}-{phase}{end}.json")
    }

    fn is_of(&self, rollout: &RolloutId, phase: HookPhase) -> bool {
        self.rollout == *rollout && self.phase == phase
    }
}

/// What earlier runs have recorded.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Entry>);

impl Records {
    /// Unreadable entries are skipped.
    pub fn read(files: &[File]) -> Self {
        let own = files.iter().filter(|file| file.path.starts_with(FOLDER));
        Self(own.filter_map(|file| file.entry().ok()).collect())
    }

    /// How the hooks of a phase ended in this rollout, if they did.
    pub fn ended(&self, rollout: &RolloutId, phase: HookPhase) -> Option<&HookEnd> {
        let own = self.0.iter().filter(|own| own.is_of(rollout, phase));
        own.filter_map(|own| own.end.as_ref()).next_back()
    }

    /// Why the hooks of a phase run a second time; `killed` is the last rollout, if its run was killed.
    pub fn again(&self, phase: HookPhase, killed: Option<&RolloutId>) -> Option<String> {
        let (rollout, why) = match self.unended(phase) {
            Some(rollout) => (rollout, "began and did not end"),
            None => (
                killed.filter(|own| self.ended(own, phase) == Some(&HookEnd::Passed))?,
                "ended before that rollout was killed",
            ),
        };
        let phase = phase.name();
        Some(format!(
            "the {phase} hook of rollout {rollout} {why}: it runs again"
        ))
    }

    /// The rollout in which the hooks of a phase ran last, if they began and did not end.
    fn unended(&self, phase: HookPhase) -> Option<&RolloutId> {
        let of_phase = || self.0.iter().filter(|own| own.phase == phase);
        let last = of_phase().map(|own| own.epoch).max()?;
        let mut begun = of_phase().filter(|own| own.epoch == last);
        let unended = begun.find(|own| self.ended(&own.rollout, phase).is_none());
        unended.map(|own| &own.rollout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u64, rollout: &str, phase: HookPhase, end: Option<HookEnd>) -> File {
        let entry = Entry {
            epoch,
            rollout: RolloutId(rollout.to_owned()),
            phase,
            end,
        };
        File::of(&entry.path(), &entry)
    }

    #[test]
    fn hooks_that_began_and_did_not_end_are_found_until_they_have_run_again() {
        use HookPhase::{PostCutover, PreDeploy};
        let unended = |files: &[File], phase| {
            let records = Records::read(files);
            records.unended(phase).map(|rollout| rollout.0.clone())
        };
        let passed = || Some(HookEnd::Passed);
        let mut files = vec![entry(7, "r7", PreDeploy, None)];
        assert_eq!(unended(&files, PreDeploy).as_deref(), Some("r7"));
        assert_eq!(unended(&files, PostCutover), None);
        files.push(entry(8, "r8", PreDeploy, None));
        assert_eq!(unended(&files, PreDeploy).as_deref(), Some("r8"));
        files.push(entry(8, "r8", PreDeploy, passed()));
        assert_eq!(unended(&files, PreDeploy), None);
        assert_ne!(files[1].path, files[2].path);
    }

    #[test]
    fn hooks_that_ended_in_a_rollout_that_was_killed_are_said_to_run_again() {
        let phase = HookPhase::PreDeploy;
        let files = [
            entry(7, "r7", phase, None),
            entry(7, "r7", phase, Some(HookEnd::Passed)),
        ];
        let killed = RolloutId("r7".to_owned());
        let again = Records::read(&files).again(phase, Some(&killed));
        let text =
            "the pre-deploy hook of rollout r7 ended before that rollout was killed: it runs again";
        assert_eq!(again.as_deref(), Some(text));
        assert_eq!(Records::read(&files).again(phase, None), None);
        let other = RolloutId("r6".to_owned());
        assert_eq!(Records::read(&files).again(phase, Some(&other)), None);
        let begun = Records::read(&files[..1])
            .again(phase, Some(&killed))
            .unwrap();
        assert!(
            begun.ends_with("began and did not end: it runs again"),
            "{begun}"
        );
    }

    #[test]
    fn how_the_hooks_of_a_rollout_ended_is_known_and_a_torn_entry_counts_as_none() {
        use HookPhase::PostCutover;
        let why = HookEnd::Failed("ended with 3".to_owned());
        let mut files = vec![
            entry(7, "r7", PostCutover, None),
            entry(7, "r7", PostCutover, Some(why.clone())),
        ];
        let ended = |files: &[File], rollout: &str| {
            let rollout = RolloutId(rollout.to_owned());
            Records::read(files).ended(&rollout, PostCutover).cloned()
        };
        assert_eq!(ended(&files, "r7"), Some(why));
        assert_eq!(ended(&files, "r8"), None);
        files[1] = File::raw(&files[1].path, b"{\"format\":1,");
        assert_eq!(ended(&files, "r7"), None);
        let records = Records::read(&files);
        assert_eq!(records.unended(PostCutover).unwrap().0, "r7");
    }
}
