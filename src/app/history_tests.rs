//! What the history looks like.

use super::*;
use crate::{
    figures::{Figures, Spans},
    state::revisions::ImageRecord,
};

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

fn shown() -> (Shown, Revisions, Vec<Intent>) {
    let mut revisions = Revisions::default();
    revisions.add(revision(1, "a1", ""));
    revisions.add(Revision {
        undo_to: Some(1),
        replicas: 1,
        at: 1_790_000_010_000,
        ..revision(2, "b2", "")
    });
    let failed = Intent {
        revision: Revision {
            at: 1_790_000_005_000,
            ..revision(2, "c3", "")
        },
        failed: Some("web-1 is unhealthy".into()),
        ..Intent::default()
    };
    let shown = Shown {
        live: Some(2),
        kept: [revisions.list[1].image.id.clone()].into(),
    };
    (shown, revisions, vec![failed])
}

/// The lines, without what only aligns them.
fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[test]
fn the_table_has_a_line_for_each_revision_and_each_attempt_and_marks_the_live_one() {
    let (shown, revisions, attempts) = shown();
    assert_eq!(
        lines(&shown.text(&entries(&revisions, &attempts), usize::MAX)),
        [
            "REVISION WHEN IMAGE BY NOTE",
            "1 2026-09-21T14:13:20Z web:latest (a10000000000) ada@shop 2 replicas, image not kept",
            "- 2026-09-21T14:13:25Z web:latest (c30000000000) ada@shop failed: web-1 is unhealthy",
            "2 * 2026-09-21T14:13:30Z web:latest (b20000000000) ada@shop live, undo to 1",
        ]
    );
}

#[test]
fn an_image_without_an_id_is_shown_by_its_digest_if_it_has_one() {
    let mut own = revision(1, "a1", "");
    own.image.id.clear();
    assert_eq!(image(&own), "web:latest");
    own.image.digests = vec!["web@sha256:0123456789abcdef".into()];
    assert_eq!(image(&own), "web:latest (0123456789ab)");
}

#[test]
fn where_the_table_is_too_wide_each_entry_has_two_lines() {
    let (shown, revisions, attempts) = shown();
    let text = shown.text(&entries(&revisions, &attempts), 80);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert_eq!(
        lines(&text)[4..],
        [
            "2 * 2026-09-21T14:13:30Z web:latest (b20000000000)",
            "ada@shop, live, undo to 1"
        ]
    );
}

#[test]
fn an_image_is_kept_by_any_revisions_name() {
    let (mut shown, mut revisions, _) = shown();
    revisions.add(revision(3, "a1", ""));
    shown.kept.insert(revisions.list[2].image.id.clone());
    let text = shown.text(&entries(&revisions, &[]), usize::MAX);
    assert!(!text.contains("not kept"), "{text}");
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
fn one_revision_is_shown_with_the_figures_of_its_rollout() {
    let before = Figures {
        requests: Some(100),
        failed: Some(1),
        success_rate: Some(99.0),
        ..Figures::default()
    };
    let mut spans = Spans::default();
    spans.before.old = Some(before);
    let own = Revision {
        figures: Some(spans),
        ..revision(4, "a", "services: {}")
    };
    let text = whole(&own);
    let figures = "old before 100 requests, 1 failed (99 % good)";
    assert!(lines(&text).iter().any(|line| line == figures), "{text}");
    assert!(!whole(&revision(4, "a", "services: {}")).contains("before"));
}

#[test]
fn a_number_that_is_not_recorded_is_refused_with_those_that_are() {
    let mut revisions = Revisions::default();
    revisions.add(revision(4, "a", ""));
    revisions.add(revision(5, "b", ""));
    let error = known(&revisions, 3, "web", Some("shop")).unwrap_err();
    assert_eq!(error.message, "revision 3 of web is not recorded");
    let hint = "available: 4, 5; see rollout history web -p shop";
    assert_eq!(error.hint.unwrap(), hint);
}
