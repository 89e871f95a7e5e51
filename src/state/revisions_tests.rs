//! Which record counts, and which number is next.

use super::*;

fn revision(number: u64, rollout: &str, at: u64) -> Revision {
    Revision {
        number,
        rollout: rollout.into(),
        at,
        ..Revision::default()
    }
}

fn file(revision: &Revision) -> File {
    File::of(&revision.path(), revision)
}

#[test]
fn the_newest_valid_record_of_a_number_counts() {
    let (older, newer) = (revision(2, "a", 1), revision(2, "b", 2));
    let other = revision(1, "c", 3);
    let journal = File::of("journal/9-x.json", &revision(9, "x", 9));
    let read = Revisions::read(&[file(&newer), file(&older), journal, file(&other)]);
    assert_eq!(read.list, [other, newer]);
    assert!(read.trouble.is_empty());
    assert_eq!(read.next(&[]), 3);
}

#[test]
fn a_corrupt_record_is_named_and_its_number_is_not_used_again() {
    let corrupt = File::raw("revisions/7-r.json", b"{");
    let read = Revisions::read(&[file(&revision(1, "a", 1)), corrupt]);
    assert_eq!(read.trouble, ["revisions/7-r.json is corrupt"]);
    assert_eq!(read.list.len(), 1);
    assert_eq!(read.next(&[]), 8);
}

#[test]
fn what_falls_out_is_the_oldest() {
    let files: Vec<File> = (1..=4).map(|n| file(&revision(n, "r", n))).collect();
    let read = Revisions::read(&files);
    let numbers: Vec<u64> = read.beyond(3).iter().map(|own| own.number).collect();
    assert_eq!(numbers, [1]);
    assert!(read.beyond(5).is_empty());
}

#[test]
fn an_undo_to_the_same_content_is_known_as_such() {
    let mut first = revision(1, "a", 1);
    first.image.id = "sha256:1".into();
    let mut again = revision(3, "c", 3);
    again.image.id = "sha256:1".into();
    assert!(first.same_content(&again));
    again.hash = "other".into();
    assert!(!first.same_content(&again));
}
