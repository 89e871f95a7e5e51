//! Which record counts, and which number is next.

use proptest::prelude::*;

use super::*;
use crate::{
    arbitrary::{mutated_text, replaced},
    fixtures::{ROLLOUT, of_0_1_0},
};

fn revision(number: u64, rollout: &str, at: u64) -> Revision {
    Revision {
        number,
        rollout: rollout.into(),
        at,
        ..Revision::default()
    }
}

fn file(revision: &Revision) -> File {
    File::of(&revision.path(&Revisions::default(), 0), revision)
}

#[test]
fn a_revision_says_whose_content_it_has_and_is_read_back_with_it() {
    let restart = Revision {
        restart_of: Some(2),
        ..revision(3, "a", 1)
    };
    let undo = Revision {
        undo_to: Some(1),
        ..revision(4, "b", 2)
    };
    let read = Revisions::read(&[file(&restart), file(&undo)]);
    assert_eq!(read.list, [restart, undo]);
    let said = read.list.iter().map(|own| (own.note(), own.copies()));
    let said: Vec<_> = said.collect();
    let expected = [("restart of 2", Some(2)), ("undo to 1", Some(1))];
    assert_eq!(said, expected.map(|(note, of)| (note.to_owned(), of)));
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
fn what_is_recorded_once_more_gets_a_new_file_and_the_corrupt_one_is_no_trouble_any_more() {
    let own = revision(7, "r", 1);
    let corrupt = || File::raw("revisions/7-r.json", b"{");
    let again = own.path(&Revisions::read(&[corrupt()]), 255);
    assert_eq!(again, "revisions/7-r-ff.json");
    let read = Revisions::read(&[corrupt(), File::of(&again, &own)]);
    assert_eq!((read.list, read.trouble), (vec![own], Vec::<String>::new()));
}

#[test]
fn what_falls_out_is_the_oldest_image_and_every_name_but_one_of_an_image_that_stays() {
    let of_image = |(number, image): (u64, &str)| {
        let mut own = revision(number, "r", number);
        own.image.id = image.to_owned();
        file(&own)
    };
    let images = [(1, "a"), (2, "b"), (3, "a"), (4, "c")];
    let read = Revisions::read(&images.map(of_image));
    let beyond = |keep| -> Vec<u64> { read.beyond(keep).iter().map(|own| own.number).collect() };
    assert_eq!(beyond(1), [3, 2, 1]);
    assert_eq!(beyond(2), [2, 1]);
    assert_eq!(beyond(3), [1]);
    assert_eq!(beyond(5), [1]);
}

#[test]
fn the_revisions_that_version_0_1_0_has_recorded_are_what_runs_and_what_can_be_gone_back_to() {
    let file = |path: &str, name: &str| File::raw(path, of_0_1_0(name).as_bytes());
    let read = Revisions::read(&[
        file(
            &format!("revisions/2-{ROLLOUT}.json"),
            "state/revision.json",
        ),
        file("revisions/1-found.json", "state/revision-found.json"),
    ]);
    assert_eq!(read.trouble, Vec::<String>::new());
    let [first, second] = read.list.as_slice() else {
        panic!("{:?}", read.list)
    };
    assert_eq!(
        (first.number, first.note().as_str()),
        (1, "as it was found")
    );
    assert_eq!((second.number, second.note().as_str()), (2, ""));
    assert_eq!(second.rollout, ROLLOUT);
    assert_eq!(second.image.kept, "rollout/shop-web:2");
    for own in &read.list {
        assert!(own.config.starts_with("name: shop\n"), "{}", own.config);
        assert!(own.lost.is_empty() && !own.of_containers);
    }
    let mut replica = crate::plan::simulator::old("a1");
    (replica.image, replica.hash) = (second.image.id.clone(), second.hash.clone());
    assert_eq!(read.running(std::slice::from_ref(&replica)), Some(2));
    assert_eq!(read.next(&[replica]), 3);
}

proptest! {
    #[test]
    fn records_of_any_content_are_listed_once_each_or_are_trouble_and_a_next_number_is_no_lower(
        records in proptest::collection::vec(
            (mutated_text("revisions/7-r.json"), replaced(serde_json::json!(Revision { number: 7, at: 5, ..Revision::default() }))),
            0..5,
        ),
        label in proptest::option::of(prop_oneof![any::<u64>(), Just(u64::MAX)]),
    ) {
        let files: Vec<File> = records.iter().map(|(path, record)| File::of(path, record)).collect();
        let read = Revisions::read(&files);
        prop_assert!(read.list.len() + read.trouble.len() <= files.len());
        prop_assert!(read.list.is_sorted_by(|a, b| a.number < b.number));
        let mut replica = crate::plan::simulator::old("a");
        replica.revision = label;
        let next = read.next(std::slice::from_ref(&replica));
        prop_assert!(Some(next) >= label && read.list.iter().all(|own| own.number <= read.highest.max(own.number)));
        prop_assert!(next >= 1);
        let _ = (read.running(&[replica]), read.last(), read.beyond(3));
        for own in &read.list {
            prop_assert!(!crate::state::owner::time(own.at).is_empty());
        }
        if let Some(last) = crate::state::journal::Intent::last(&files) {
            prop_assert!(files.iter().any(|file| file.path.starts_with("journal")), "{:?}", last);
        }
    }
}
