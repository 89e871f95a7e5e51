//! Whether the image of a service has moved in its registry, and whether the new one is tried.

use crate::{
    error::Outcome,
    state::{
        journal::Intent,
        revisions::{ImageRecord, Revisions},
    },
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

/// Whether an image has this digest in a registry.
pub fn has(digests: &[String], digest: &str) -> bool {
    digests.iter().any(|own| own.ends_with(digest))
}

/// Why an image is not tried again: its last attempt failed or was aborted, or an undo has replaced it. Images
/// are compared by their content where the engine has it: a list may get a new digest with the same image for this platform.
pub fn given_up(
    (digest, content): (&str, &str),
    revisions: &Revisions,
    attempts: &[Intent],
) -> Option<String> {
    let is_it = |own: &ImageRecord| {
        has(&own.digests, digest) || (!content.is_empty() && own.content == content)
    };
    let made = revisions.list.iter().rfind(|own| is_it(&own.image));
    let since = |own: &&Intent| made.is_none_or(|made| made.at < own.revision.at);
    let tried = attempts.iter().filter(|own| is_it(&own.revision.image));
    let tried: Vec<&Intent> = tried.filter(since).collect();
    if let Some(last) = tried.iter().max_by_key(|own| own.revision.at) {
        let without_end = tried.iter().filter(|own| own.code.is_none()).count();
        return unsuccessful(last, without_end);
    }
    let made = made?;
    let next = revisions.list.iter().find(|own| own.number > made.number)?;
    next.undo_to
        .map(|_| format!("revision {} was undone", made.number))
}

/// An image is given up after this many attempts without a recorded end: a version may kill the host, or the agent with it.
const KILLED: usize = 3;

/// Why there is no further attempt; `None` after an interrupted one, and while few were killed.
fn unsuccessful(last: &Intent, without_end: usize) -> Option<String> {
    match last.code {
        None => (without_end >= KILLED).then(|| format!("{without_end} attempts did not end")),
        Some(code) if code == Outcome::Interrupted as u8 => None,
        Some(_) => last.failed.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::revisions::Revision;

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

    fn attempt(at: u64, end: Option<(Outcome, &str)>) -> Intent {
        Intent {
            revision: Revision {
                at,
                ..revision(9, "9", None)
            },
            failed: end.map(|(_, why)| why.to_owned()),
            code: end.map(|(outcome, _)| outcome as u8),
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
        let why = |attempts: &[Intent]| given_up(("sha256:9", ""), &none, attempts);
        let unhealthy = |at| attempt(at, Some((Outcome::Failed, "unhealthy")));
        let interrupted = |at| attempt(at, Some((Outcome::Interrupted, "interrupted")));
        assert_eq!(why(&[]), None);
        assert_eq!(why(&[unhealthy(5)]).unwrap(), "unhealthy");
        assert_eq!(why(&[interrupted(5)]), None);
        let stuck = attempt(
            5,
            Some((Outcome::NeedsPerson, "interrupted; nothing serves")),
        );
        assert!(why(&[stuck]).is_some());
        assert_eq!(
            why(&[unhealthy(5), interrupted(7)]),
            None,
            "the last one counts"
        );
        let other = given_up(("sha256:8", ""), &none, &[unhealthy(5)]);
        assert_eq!(other, None, "it has changed");
        let mut pushed_again = unhealthy(5);
        pushed_again.revision.image.content = "c1".to_owned();
        let again = |content| {
            let attempts = std::slice::from_ref(&pushed_again);
            given_up(("sha256:8", content), &none, attempts)
        };
        assert_eq!(again("c1").unwrap(), "unhealthy");
        assert_eq!((again("c2"), again("")), (None, None));
    }

    #[test]
    fn a_version_that_kills_its_run_each_time_is_given_up() {
        let none = Revisions::default();
        let killed = [attempt(5, None), attempt(6, None), attempt(7, None)];
        assert_eq!(given_up(("sha256:9", ""), &none, &killed[..2]), None);
        let why = given_up(("sha256:9", ""), &none, &killed).unwrap();
        assert_eq!(why, "3 attempts did not end");
        let since = history(&[revision(1, "9", None)]);
        assert!(
            given_up(("sha256:9", ""), &since, &killed).is_none(),
            "it was rolled since"
        );
    }

    #[test]
    fn what_was_undone_is_not_tried_again_unless_it_was_rolled_since() {
        let undone = [
            revision(1, "1", None),
            revision(2, "9", None),
            revision(3, "1", Some(1)),
        ];
        let why = |list: &[Revision]| given_up(("sha256:9", ""), &history(list), &[]);
        assert_eq!(why(&undone).unwrap(), "revision 2 was undone");
        let again = [
            &undone[..],
            &[revision(4, "9", None), revision(5, "5", None)],
        ]
        .concat();
        assert_eq!(why(&again), None);
        // A tag that was moved back to an earlier image.
        assert_eq!(why(&[revision(1, "9", None), revision(2, "2", None)]), None);
        let failed = [attempt(5, Some((Outcome::Failed, "unhealthy")))];
        let since = history(&[revision(2, "9", None), revision(3, "3", None)]);
        assert_eq!(given_up(("sha256:9", ""), &since, &failed), None);
    }
}
