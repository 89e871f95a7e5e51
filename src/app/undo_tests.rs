//! Which revision an undo goes back to.

use super::*;
use crate::{
    app::recorded::flags,
    model::{Health, Run},
    plan::simulator::replica,
    settings::{PullPolicy, Settings},
    state::revisions::ImageRecord,
};

fn revisions(images: &[(u64, &str)]) -> Revisions {
    let mut revisions = Revisions::default();
    for (number, image) in images {
        revisions.add(Revision {
            number: *number,
            image: ImageRecord {
                id: (*image).into(),
                ..ImageRecord::default()
            },
            ..Revision::default()
        });
    }
    revisions
}

fn runs(revision: Option<u64>, image: &str) -> Replica {
    Replica {
        revision,
        image: image.into(),
        hash: String::new(),
        digest: None,
        ..replica("a", None, Run::Running, Health::None)
    }
}

fn goes_to(revisions: &Revisions, replica: Replica) -> Option<u64> {
    let target = target(revisions, &[replica], None, "web").ok();
    target.map(|(back, _)| back.number)
}

#[test]
fn it_is_the_newest_before_the_running_one_that_differs_from_it() {
    let all = revisions(&[(1, "a"), (2, "b"), (3, "c"), (4, "c")]);
    assert_eq!(goes_to(&all, runs(Some(4), "c")), Some(2));
    assert_eq!(goes_to(&all, runs(Some(3), "c")), Some(2));
    assert_eq!(goes_to(&all, runs(Some(1), "a")), None);
    // What Compose has made since is none of them.
    assert_eq!(goes_to(&all, runs(None, "d")), Some(4));
    assert_eq!(goes_to(&all, runs(None, "b")), Some(1));
}

#[test]
fn after_an_undo_it_is_the_one_that_was_undone() {
    let all = revisions(&[(1, "a"), (2, "b"), (3, "a")]);
    assert_eq!(goes_to(&all, runs(Some(3), "a")), Some(2));
}

#[test]
fn an_undo_that_died_before_it_was_recorded_goes_on() {
    let all = revisions(&[(1, "a"), (2, "b")]);
    let mut begun = runs(Some(3), "a");
    begun.labels.insert(label::UNDO.into(), "1".into());
    let (back, first) = target(&all, &[begun, runs(Some(2), "b")], None, "web").unwrap();
    assert_eq!((back.number, first), (1, OnUnfinished::Resume));
}

#[test]
fn a_rollout_that_died_in_its_bake_is_taken_back() {
    let all = revisions(&[(1, "a")]);
    let replicas = [runs(Some(1), "a"), runs(Some(2), "b")];
    let (back, first) = target(&all, &replicas, None, "web").unwrap();
    assert_eq!((back.number, first), (1, OnUnfinished::Abort));
}

#[test]
fn an_undo_takes_the_recorded_image_and_as_many_replicas_unless_a_flag_says_more() {
    let settings = |given| {
        let flags = flags(given, 3).or(before(OnUnfinished::Abort));
        let none = Partial::default;
        Settings::resolve([flags, none(), none(), none()])
    };
    let plain = settings(Partial::of("pull", "always"));
    assert_eq!(plain.pull, PullPolicy::Never);
    assert!(!plain.build);
    assert_eq!(plain.scale, Some(3));
    assert_eq!(plain.on_unfinished, OnUnfinished::Abort);
    let given = Partial::of("scale", "5").or(Partial::of("on-unfinished", "fail"));
    let given = settings(given);
    assert_eq!(given.scale, Some(5));
    assert_eq!(given.on_unfinished, OnUnfinished::Fail);
}

#[test]
fn a_number_of_several_services_and_a_name_given_twice_are_refused() {
    assert!(refuse_names(&["web", "api"], None).is_ok());
    assert!(refuse_names(&["web"], Some(3)).is_ok());
    let error = refuse_names(&["web", "api"], Some(3)).unwrap_err();
    assert_eq!(error.message, "--to 3 names a revision of one service");
    let error = refuse_names(&["web", "api", "web"], None).unwrap_err();
    assert_eq!(error.message, "web is named twice");
}
