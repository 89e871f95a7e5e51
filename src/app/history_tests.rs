//! What the history looks like.

use super::*;
use crate::state::revisions::ImageRecord;

fn revision(number: u64, image: &str, config: &str) -> Revision {
    Revision {
        number,
        at: 1_790_000_000_000,
        who: "ada@shop".into(),
        image: ImageRecord {
            reference: "web:latest".into(),
            id: format!("sha256:{image}0000000000000000"),
            ..ImageRecord::default()
        },
        replicas: 2,
        config: config.into(),
        strategy: "blue-green".into(),
        ..Revision::default()
    }
}

#[test]
fn the_table_has_a_line_for_each_revision() {
    let mut revisions = Revisions::default();
    revisions.add(revision(1, "a1", ""));
    revisions.add(Revision {
        undo_to: Some(1),
        ..revision(2, "a1", "")
    });
    let text = table(&revisions, &|own| own.number == 2);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "REVISION WHEN BY IMAGE REPLICAS WAY NOTE",
            "1 2026-09-21T14:13:20Z ada@shop web:latest (a10000000000) 2 blue-green image not kept",
            "2 2026-09-21T14:13:20Z ada@shop web:latest (a10000000000) 2 blue-green undo to 1",
        ]
    );
}

#[test]
fn a_difference_shows_the_image_that_a_moved_tag_hides_and_the_lines_that_changed() {
    let a = revision(
        1,
        "a1",
        "services:\n  web: {image: w, labels: {a: \"1\", b: \"2\"}}\n",
    );
    let b = revision(
        2,
        "b2",
        "services:\n  web:\n    image: w\n    labels:\n      a: \"1\"\n",
    );
    let text = difference(&a, &b);
    let changed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(['+', '-']))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        changed,
        [
            "--- revision 1",
            "+++ revision 2",
            "-# image sha256:a10000000000000000",
            "+# image sha256:b20000000000000000",
            "-      b: '2'",
        ]
    );
    assert_eq!(difference(&a, &a), "");
}

#[test]
fn a_number_that_is_not_recorded_is_refused_with_those_that_are() {
    let mut revisions = Revisions::default();
    revisions.add(revision(4, "a", ""));
    revisions.add(revision(5, "b", ""));
    let error = known(&revisions, 3, "web").unwrap_err();
    assert_eq!(error.message, "revision 3 of web is not recorded");
    assert!(error.hint.unwrap().starts_with("recorded are 4, 5"));
}
