//! The journal: written before anything is created, so that a later run can complete the records of a killed one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    revisions::{Revision, Revisions},
    store::File,
};
use crate::{
    error::{Error, Outcome, one_line},
    model::{Batches, ContainerId, Shift},
};

/// The folder of these entries below a service's.
const FOLDER: &str = "journal";

/// A rollout that was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The revision that it makes if it succeeds.
    pub revision: Revision,
    /// The image that had the tag before an undo gave it to an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<String>,
    /// Why it failed, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The exit code of that end; `None` also where the run was killed and a later one noted its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The old replicas that no proxy routed to before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unrouted: BTreeSet<ContainerId>,
    /// What the proxy complained of before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub complaints: BTreeSet<String>,
    /// If it stops old replicas before its end: those that ran, and their start times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ran: BTreeMap<ContainerId, String>,
    /// The batches of a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    /// The shifts of a canary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shifts: Vec<Shift>,
}

impl Intent {
    /// The entry with its end, which makes no revision.
    #[must_use]
    pub fn ended(mut self, error: &Error) -> Self {
        self.failed = Some(one_line(&error.message));
        self.code = Some(error.outcome as u8);
        self
    }

    /// Whether a run of it needs a person, and may have left it unfinished.
    pub fn needs_person(&self) -> bool {
        self.code == Some(Outcome::NeedsPerson as u8)
    }

    /// Whether the traffic moves in several steps, with which a later run goes on.
    pub fn has_steps(&self) -> bool {
        self.batches.is_some() || !self.shifts.is_empty()
    }

    /// The path of the entry at its start, new each time.
    pub fn path(&self) -> String {
        self.named("")
    }

    /// The path of the entry at its end.
    pub fn end_path(&self) -> String {
        self.named("-end")
    }

    fn named(&self, end: &str) -> String {
        let Revision {
            number, rollout, ..
        } = &self.revision;
        format!("{FOLDER}/{number}-{rollout}{end}.json")
    }

    /// The attempts that made no revision, in the order of their starts.
    pub fn without_revision(files: &[File], revisions: &Revisions) -> Vec<Self> {
        let made = |intent: &Self| {
            let rollout = &intent.revision.rollout;
            revisions.list.iter().any(|own| own.rollout == *rollout)
        };
        let mut attempts = BTreeMap::<String, Self>::new();
        for intent in all(files).filter(|intent| !made(intent)) {
            let rollout = intent.revision.rollout.clone();
            let known = attempts.get(&rollout);
            if known.is_none_or(|known| known.failed.is_none()) {
                attempts.insert(rollout, intent);
            }
        }
        let mut attempts: Vec<Self> = attempts.into_values().collect();
        attempts.sort_by_key(|intent| intent.revision.at);
        attempts
    }

    /// The newest entry, with its end if it has ended. Unreadable entries are skipped: the containers show the rest.
    pub fn last(files: &[File]) -> Option<Self> {
        all(files).max_by_key(|intent| {
            let own = &intent.revision;
            let ended = (intent.failed.is_some(), intent.displaced.is_none());
            (own.at, own.number, ended)
        })
    }
}

fn all(files: &[File]) -> impl Iterator<Item = Intent> {
    let own = files.iter().filter(|file| file.path.starts_with(FOLDER));
    own.filter_map(|file| file.entry::<Intent>().ok())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        arbitrary::{mutated, replaced},
        fixtures::{ROLLOUT, of_0_1_0},
    };

    const SAMPLE: &[u8] = br#"{"format":1,"sha256":"00","entry":"{}"}"#;

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

    #[test]
    fn what_version_0_1_0_has_begun_is_the_last_and_stops_nothing_first() {
        let file = |path: &str, name: &str| File::raw(path, of_0_1_0(name).as_bytes());
        let begun = format!("journal/2-{ROLLOUT}.json");
        let mut files = vec![file(&begun, "state/begun.json")];
        let last = Intent::last(&files).unwrap();
        let revision = &last.revision;
        assert_eq!((last.path(), revision.rollout.as_str()), (begun, ROLLOUT));
        assert_eq!((revision.number, revision.replicas), (2, 2));
        assert!(last.displaced.is_none() && last.failed.is_none());
        assert!(last.ran.is_empty() && last.unrouted.is_empty());
        let attempts = Intent::without_revision(&files, &Revisions::default());
        assert_eq!(attempts, [last]);
        let undo = "journal/3-r1a196fb1601-973757.json";
        files.push(file(undo, "state/undo-begun.json"));
        let last = Intent::last(&files).unwrap();
        assert_eq!(
            (last.path().as_str(), last.revision.undo_to),
            (undo, Some(1))
        );
        let displaced = format!("sha256:{}", "2".repeat(64));
        assert_eq!(last.displaced, Some(displaced));
    }

    #[test]
    fn the_end_of_a_rollout_is_later_than_its_beginning_in_any_order_of_the_files() {
        let begun = Intent {
            displaced: Some("sha256:3".to_owned()),
            ..Intent::default()
        };
        let put_back = Intent::default();
        let failed = Intent {
            failed: Some("web-1 is unhealthy".to_owned()),
            ..begun.clone()
        };
        for ended in [put_back, failed] {
            let mut files = [
                File::of(&begun.path(), &begun),
                File::of(&ended.end_path(), &ended),
            ];
            assert_ne!(files[0].path, files[1].path);
            assert_eq!(Intent::last(&files), Some(ended.clone()));
            files.reverse();
            assert_eq!(Intent::last(&files), Some(ended));
        }
    }

    #[test]
    fn an_entry_with_an_end_that_needs_a_person_counts_before_its_beginning() {
        let begun = Intent::default();
        let ended = begun.clone().ended(&Error::needs_person("nothing\nserves"));
        assert_eq!(ended.failed.as_deref(), Some("nothing serves"));
        let files = [
            File::of(&ended.end_path(), &ended),
            File::of(&begun.path(), &begun),
        ];
        assert!(Intent::last(&files).unwrap().needs_person());
        let failed = begun.ended(&Error::failed("unhealthy"));
        assert!(!failed.needs_person());
    }

    #[test]
    fn an_attempt_that_made_no_revision_is_told_with_why() {
        let intent = |number, rollout: &str, failed: Option<&str>| Intent {
            revision: Revision {
                number,
                rollout: rollout.to_owned(),
                at: number,
                ..Revision::default()
            },
            failed: failed.map(str::to_owned),
            ..Intent::default()
        };
        let (made, begun) = (intent(2, "a", None), intent(3, "b", None));
        let ended = intent(3, "b", Some("web-1 is unhealthy"));
        let killed = intent(4, "c", None);
        let files = [
            File::of(&killed.path(), &killed),
            File::of(&made.path(), &made),
            File::of(&ended.end_path(), &ended),
            File::of(&begun.path(), &begun),
        ];
        let mut revisions = Revisions::default();
        revisions.add(made.revision.clone());
        let attempts = Intent::without_revision(&files, &revisions);
        assert_eq!(attempts, [ended, killed]);
    }

    proptest! {
        #[test]
        fn of_files_of_any_content_those_that_can_be_read_count_and_the_newest_is_the_last(
            records in vec(replaced(serde_json::json!(Intent::default())), 0..5),
            noise in mutated(SAMPLE),
        ) {
            let records = records.iter().enumerate();
            let mut files: Vec<File> = records.map(|(at, own)| File::of(&format!("journal/{at}-r.json"), own)).collect();
            files.push(File::raw("journal/9-r.json", &noise));
            let read: Vec<Intent> = files.iter().filter_map(|file| file.entry().ok()).collect();
            let last = Intent::last(&files);
            let newest = read.iter().map(|own| own.revision.at).max();
            prop_assert_eq!(last.map(|own| own.revision.at), newest);
            let attempts = Intent::without_revision(&files, &Revisions::default());
            prop_assert!(attempts.is_sorted_by_key(|own| own.revision.at));
            let each = |all: &[Intent]| all.iter().map(|own| own.revision.rollout.clone()).collect::<BTreeSet<_>>();
            prop_assert_eq!(each(&attempts), each(&read));
            prop_assert_eq!(attempts.len(), each(&read).len());
        }
    }
}
