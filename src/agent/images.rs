//! Whether the image of a service has moved in its registry, and whether the new one is tried.

use crate::state::{
    journal::Intent,
    revisions::{ImageRecord, Revisions},
};

/// Why no registry is asked; `running` has the digests of each image that its replicas run.
pub fn unasked(reference: &str, running: &[Vec<String>]) -> Option<&'static str> {
    if reference.contains('@') {
        return Some("its image is pinned by a digest");
    }
    let built = running.iter().any(Vec::is_empty);
    built.then_some("it runs an image that came from no registry")
}

/// Whether every replica runs the image that has this digest in the registry. For an image of several platforms, both are
/// the digest of the list.
pub fn runs(running: &[Vec<String>], digest: &str) -> bool {
    running.iter().all(|own| has(own, digest))
}

fn has(digests: &[String], digest: &str) -> bool {
    digests.iter().any(|own| own.ends_with(digest))
}

/// Why an image is not tried again: its last attempt failed or was aborted, or an undo has replaced it.
pub fn given_up(digest: &str, revisions: &Revisions, attempts: &[Intent]) -> Option<String> {
    let is_it = |own: &ImageRecord| has(&own.digests, digest);
    let made = revisions.list.iter().rfind(|own| is_it(&own.image));
    let tried = attempts.iter().filter(|own| is_it(&own.revision.image));
    let last = tried.max_by_key(|own| own.revision.at);
    let last = last.filter(|own| made.is_none_or(|made| made.at < own.revision.at));
    if let Some(last) = last {
        return unsuccessful(last);
    }
    let made = made?;
    let next = revisions.list.iter().find(|own| own.number > made.number)?;
    next.undo_to
        .map(|_| format!("revision {} was undone", made.number))
}

/// How an attempt ended; `None` for one that was only interrupted.
fn unsuccessful(attempt: &Intent) -> Option<String> {
    match &attempt.failed {
        Some(why) if why.starts_with("interrupted") => None,
        Some(why) => Some(why.clone()),
        // A canary or a preview that was aborted while it waited has no recorded end either.
        None => (!attempt.shifts.is_empty()).then(|| "it did not end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Shift, state::revisions::Revision};

    fn digests(names: &[&str]) -> Vec<String> {
        let full = |name: &&str| format!("r.example/web@sha256:{name}");
        names.iter().map(full).collect()
    }

    #[test]
    fn an_image_has_moved_if_any_replica_runs_another() {
        let (one, two) = (digests(&["1"]), digests(&["2", "3"]));
        assert!(runs(&[one.clone(), one.clone()], "sha256:1"));
        assert!(runs(std::slice::from_ref(&two), "sha256:3"));
        assert!(!runs(&[one.clone(), two.clone()], "sha256:1"));
        assert_eq!(unasked("r.example/web:live", &[one.clone(), two]), None);
        let pinned = unasked("r.example/web@sha256:1", &[one]);
        assert!(pinned.unwrap().contains("pinned"));
        assert!(
            unasked("web", &[Vec::new()])
                .unwrap()
                .contains("no registry")
        );
    }

    fn revision(number: u64, digest: &str, undo_to: Option<u64>) -> Revision {
        Revision {
            number,
            at: number * 10,
            rollout: format!("r{number}"),
            undo_to,
            image: ImageRecord {
                digests: digests(&[digest]),
                ..ImageRecord::default()
            },
            ..Revision::default()
        }
    }

    fn attempt(at: u64, failed: Option<&str>, shifts: &[Shift]) -> Intent {
        Intent {
            revision: Revision {
                at,
                ..revision(9, "9", None)
            },
            failed: failed.map(str::to_owned),
            shifts: shifts.to_owned(),
            ..Intent::default()
        }
    }

    fn history(list: &[Revision]) -> Revisions {
        let mut revisions = Revisions::default();
        list.iter().for_each(|own| revisions.add(own.clone()));
        revisions
    }

    #[test]
    fn what_failed_is_not_tried_again_and_what_was_interrupted_is() {
        let none = Revisions::default();
        let shift = Shift {
            percent: 10,
            pause: None,
            analysis: false,
        };
        let why = |attempts: &[Intent]| given_up("sha256:9", &none, attempts);
        assert_eq!(why(&[]), None);
        assert_eq!(
            why(&[attempt(5, Some("unhealthy"), &[])]).unwrap(),
            "unhealthy"
        );
        assert_eq!(
            why(&[attempt(5, Some("interrupted; v1 serves"), &[])]),
            None
        );
        assert_eq!(why(&[attempt(5, None, &[])]), None, "killed");
        assert!(why(&[attempt(5, None, &[shift])]).is_some(), "aborted");
        let both = [
            attempt(5, Some("unhealthy"), &[]),
            attempt(7, Some("interrupted"), &[]),
        ];
        assert_eq!(why(&both), None, "the last one counts");
        let other = given_up("sha256:8", &none, &[attempt(5, Some("unhealthy"), &[])]);
        assert_eq!(other, None, "it has changed");
    }

    #[test]
    fn what_was_undone_is_not_tried_again_unless_it_was_rolled_since() {
        let undone = [
            revision(1, "1", None),
            revision(2, "9", None),
            revision(3, "1", Some(1)),
        ];
        let why = |list: &[Revision]| given_up("sha256:9", &history(list), &[]);
        assert_eq!(why(&undone).unwrap(), "revision 2 was undone");
        let again = [
            &undone[..],
            &[revision(4, "9", None), revision(5, "5", None)],
        ]
        .concat();
        assert_eq!(why(&again), None);
        // A tag that was moved back to an earlier image.
        assert_eq!(why(&[revision(1, "9", None), revision(2, "2", None)]), None);
        let failed = [attempt(5, Some("unhealthy"), &[])];
        let since = history(&[revision(2, "9", None), revision(3, "3", None)]);
        assert_eq!(given_up("sha256:9", &since, &failed), None);
    }
}
