//! The exact rows of the table.

use super::*;

fn seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn row(service: &str, events: Vec<(u64, Event)>) -> Row {
    let mut row = Row::new(service.to_owned(), Screen::named(Look::default(), false));
    for (at, event) in events {
        row.follow(seconds(at), &event);
        let scope = crate::event::Scope::default();
        row.screen.lines(seconds(at), &scope, &event);
    }
    row
}

fn begins(replaces: &str, image: &str) -> Event {
    Event::Started {
        revision: 2,
        replicas: 2,
        proxy: "Traefik (edge) through the socket proxy".to_owned(),
        image: image.to_owned(),
        replaces: Some(replaces.to_owned()),
        undo_to: None,
        restart_of: None,
    }
}

fn waits(step: &'static str) -> Event {
    Event::StepStarted {
        step,
        replicas: vec!["shop-web-1".to_owned()],
        limit_ms: Some(60_000),
        batch: None,
    }
}

fn finished() -> Event {
    Event::Finished {
        revision: 2,
        replicas: 1,
        image: "app:v2".to_owned(),
        replaces: Some("app:v1".to_owned()),
        cutover_ms: None,
        live_ms: None,
        gap_ms: None,
        total_ms: 6000,
        phases: std::collections::BTreeMap::new(),
    }
}

fn failed() -> Event {
    Event::Failed {
        message: "broken".to_owned(),
        code: 1,
        gap_ms: None,
        is_open: false,
        hint: None,
        logs: Vec::new(),
    }
}

fn stack() -> Vec<Row> {
    let replica = "shop-web-3".to_owned();
    let by = "health check passed".to_owned();
    let (v1, v2) = (
        "registry.example.com/team/site:2026-11-28",
        "registry.example.com/team/site:2026-11-29",
    );
    let drains = Event::Draining {
        replica: "shop-worker-1".to_owned(),
        unanswered: 2,
        streaming: 1,
    };
    let web = vec![
        (4, begins(v1, v2)),
        (5, waits("ready")),
        (6, Event::Ready { replica, by }),
    ];
    vec![
        row(
            "api",
            vec![(1, begins("app:v1", "app:v2")), (7, finished())],
        ),
        row("web", web),
        row(
            "worker",
            vec![
                (2, begins("app:v1", "app:v2")),
                (6, waits("drain")),
                (7, drains),
            ],
        ),
        row("mail", vec![(2, begins("app:v1", "app:v2")), (5, failed())]),
        row("cron", vec![]),
    ]
}

#[track_caller]
fn shows(rows: &[Row], size: (usize, usize), expected: &str) {
    let lines = table(rows, Look::default(), seconds(10), size);
    assert_eq!(lines.join("\n"), expected.trim_matches('\n'));
    for line in &lines {
        assert!(measure_text_width(line) <= size.1, "{line}");
    }
    assert!(lines.len() < size.0);
}

#[test]
fn eighty_columns_have_what_goes_on_in_few_words_and_the_new_tag() {
    shows(
        &stack(),
        (24, 80),
        "
  ✓ api     rolled                                app:v1 → app:v2          6.0 s
  ⠋ web     wait until ready: 1 of 2, 55 s left   …6-11-28 → 2026-11-29      6 s
  ⠋ worker  drain: 2 requests and 1 stream in f…  app:v1 → app:v2            8 s
  ✗ mail    failed                                app:v1 → app:v2          3.0 s
    cron    to come
",
    );
}

#[test]
fn two_hundred_columns_have_it_in_full() {
    shows(
        &stack(),
        (24, 200),
        "
  ✓ api     rolled                                                                  app:v1 → app:v2                                                                          6.0 s
  ⠋ web     waiting until the new replicas are ready (1 of 2 ready, 55 s left)      registry.example.com/team/site:2026-11-28 → registry.example.com/team/site:2026-11-29      6 s
  ⠋ worker  draining shop-worker-1: 2 requests and 1 stream in flight (56 s left)   app:v1 → app:v2                                                                            8 s
  ✗ mail    failed                                                                  app:v1 → app:v2                                                                          3.0 s
    cron    to come
",
    );
}

#[test]
fn thirty_columns_are_cut_and_never_wrap() {
    shows(
        &stack()[..2],
        (24, 30),
        "
  ✓ api  rolled          6.0 s
  ⠋ web  wait unti…        6 s
",
    );
}

#[test]
fn where_lines_are_too_few_what_is_at_work_has_a_row_and_the_rest_is_counted() {
    shows(
        &stack(),
        (5, 80),
        "
  ⠋ web     wait until ready: 1 of 2, 55 s left   …6-11-28 → 2026-11-29      6 s
  ⠋ worker  drain: 2 requests and 1 stream in f…  app:v1 → app:v2            8 s
    1 done, 1 failed, 1 to come
",
    );
    let all = table(&stack(), Look::default(), seconds(10), (3, 80));
    assert_eq!(all.len(), 2);
    assert_eq!(all[1], "    1 more at work, 1 done, 1 failed, 1 to come");
}

#[test]
fn an_image_that_is_fetched_ahead_is_not_the_beginning() {
    let pulled = Event::StepFinished {
        step: "pull",
        ms: 900,
    };
    let mut web = row("web", vec![(1, waits("pull"))]);
    assert_eq!(web.state(seconds(2), 36), "pulling the image (59 s left)");
    web.follow(seconds(2), &pulled);
    assert_eq!(web.state(seconds(9), 36), "to come");
    web.follow(seconds(9), &begins("app:v1", "app:v2"));
    assert_eq!(web.time(seconds(10)), "1 s");
}

#[test]
fn what_is_undone_because_another_service_failed_ends_rolled_back() {
    let mut web = row(
        "web",
        vec![
            (1, begins("app:v1", "app:v2")),
            (2, finished()),
            (8, waits("hold")),
        ],
    );
    assert_eq!(
        web.state(seconds(9), 36),
        "rolling back: prepare: 59 s left"
    );
    assert_eq!(web.time(seconds(9)), "1 s");
    web.follow(seconds(10), &finished());
    assert_eq!(web.state(seconds(10), 36), "rolled back");
}

#[test]
fn colours_are_as_the_look_has_them() {
    let look = Look {
        colours: true,
        ..Look::default()
    };
    let lines = table(&stack()[..1], look, seconds(10), (24, 80));
    assert!(
        lines[0].starts_with("  \u{1b}[32m✓\u{1b}[0m \u{1b}[1mapi\u{1b}[0m  rolled"),
        "{lines:?}"
    );
}
