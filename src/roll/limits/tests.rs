//! What a rolling update makes of the settings that are given and of those in `deploy`.

use serde_json::{Value, json};

use super::*;
use crate::{compose::Service, settings::Partial};

type Words = [(&'static str, &'static str)];

/// The number of a batch's new replicas, how many old ones are stopped before, the delay, and the notices; as text, the
/// refusal and its hint.
type Judged = Result<(u32, u32, u64, Vec<String>), String>;

fn judged(given: &Words, deploy: &Value, replicas: u32, is_undo: bool) -> Judged {
    let service = Service {
        name: "web".to_owned(),
        ..Service::default()
    };
    let given = given.iter();
    let given = given.fold(Partial::of("strategy", "rolling"), |all, &(name, value)| {
        all.or(Partial::of(name, value))
    });
    let none = Partial::default;
    let places = [given, none(), none(), none()];
    let mut context = ServiceContext::of(&service);
    context.replicas = replicas;
    context.settings = Settings::of_service(places, ("web", deploy), is_undo).unwrap();
    let refused = |error: Error| format!("{}; {}", error.message, error.hint.unwrap());
    let notices = judge(&context).map_err(refused)?;
    let limits = context.settings.limits(replicas).unwrap();
    let batches = Batches::within(limits, replicas, replicas);
    let delay = context.settings.watch(false);
    Ok((batches.size, batches.ahead, delay.as_secs(), notices))
}

/// The notices of settings, or what refuses them.
fn said(given: &Words, update_config: &Value, replicas: u32) -> String {
    let deploy = json!({ "update_config": update_config });
    match judged(given, &deploy, replicas, false) {
        Ok((.., notices)) => notices.join("; "),
        Err(refused) => format!("refused: {refused}"),
    }
}

/// The mapping in `deploy`, the replicas, what follows from them (a batch's new replicas, those that are stopped before, the
/// delay in seconds), and the notices.
type Example = (&'static str, u32, (u32, u32, u64), &'static [&'static str]);

/// The only example of the specification.
const SPECIFIED: &str = r#"{"parallelism": 2, "delay": "10s", "order": "stop-first"}"#;
/// Every key that the specification has.
const EVERY_KEY: &str = r#"{"parallelism": 2, "delay": "1m30s", "failure_action": "pause", "monitor": "30s",
    "max_failure_ratio": 0.2, "order": "stop-first"}"#;
const ONLY: &str =
    "order stop-first in deploy.update_config of web would stop its only replica: start-first";
const EXAMPLES: [Example; 14] = [
    (SPECIFIED, 6, (2, 2, 10), &[]),
    (SPECIFIED, 3, (2, 2, 10), &[]),
    (
        SPECIFIED,
        2,
        (1, 1, 10),
        &["parallelism 2 in deploy.update_config of web would stop all 2 replicas: batches of 1"],
    ),
    (SPECIFIED, 1, (1, 0, 10), &[ONLY]),
    (r#"{"parallelism": 2}"#, 2, (2, 0, 0), &[]),
    (r#"{"parallelism": 2, "delay": "10s"}"#, 6, (2, 0, 10), &[]),
    (r#"{"parallelism": 2, "delay": "10s"}"#, 1, (1, 0, 10), &[]),
    (r#"{"order": "start-first"}"#, 1, (1, 0, 0), &[]),
    (r#"{"order": "stop-first"}"#, 2, (1, 1, 0), &[]),
    (r#"{"parallelism": 0, "delay": "10s"}"#, 4, (4, 0, 10), &[]),
    (
        r#"{"parallelism": 0, "order": "stop-first"}"#,
        4,
        (3, 3, 0),
        &["parallelism 0 in deploy.update_config of web would stop all 4 replicas: batches of 3"],
    ),
    (r#"{"failure_action": "continue"}"#, 3, (1, 0, 0), &[]),
    (
        EVERY_KEY,
        6,
        (2, 2, 90),
        &[
            "failure_action in deploy.update_config of web has no effect, because old replicas are stopped before the new \
             ones: a failed batch rolls the whole update back",
            "max_failure_ratio in deploy.update_config of web has no effect, because old replicas are stopped before the new \
             ones: a failed batch rolls the whole update back",
        ],
    ),
    (EVERY_KEY, 1, (1, 0, 90), &[ONLY]),
];

#[test]
fn every_example_of_the_specification_is_accepted_and_followed_as_far_as_one_replica_stays_live() {
    for (config, replicas, (size, ahead, delay), notices) in EXAMPLES {
        let config: Value = serde_json::from_str(config).unwrap();
        for (mapping, is_undo) in [("update_config", false), ("rollback_config", true)] {
            let deploy = json!({ "replicas": replicas, mapping: config });
            let notices = notices.iter();
            let notices = notices.map(|own| own.replace("update_config", mapping));
            let wanted = Ok((size, ahead, delay, notices.collect()));
            let judged = judged(&[], &deploy, replicas, is_undo);
            assert_eq!(judged, wanted, "{deploy}");
        }
    }
}

const STOP: (&str, &str) = ("order", "stop-first");
const START: (&str, &str) = ("order", "start-first");
const TWO: (&str, &str) = ("parallelism", "2");
const ALL: (&str, &str) = ("parallelism", "0");
const DELAY: (&str, &str) = ("delay", "10s");
const NO_SURGE: (&str, &str) = ("max-surge", "0");
const SURGE: (&str, &str) = ("max-surge", "1");
const NONE_OUT: (&str, &str) = ("max-unavailable", "0");
const ONE_OUT: (&str, &str) = ("max-unavailable", "1");
/// What is given, the replicas, and the notices or the refusal with its hint.
const GIVEN: [(&Words, u32, &str); 20] = [
    (
        &[STOP, NONE_OUT, SURGE],
        4,
        "refused: order stop-first of web contradicts max-unavailable 0: no replica may be stopped before a new one is \
         ready; --order start-first, or --max-unavailable 1",
    ),
    (
        &[START, NO_SURGE, ONE_OUT],
        4,
        "refused: order start-first of web contradicts max-surge 0: no replica may be created before an old one is \
         stopped; --order stop-first, or --max-surge 1",
    ),
    (
        &[("parallelism", "4"), SURGE],
        4,
        "parallelism 4 of web is more than max-surge 1 and max-unavailable 0 allow: batches of 1",
    ),
    (
        &[("parallelism", "3"), STOP, ONE_OUT],
        4,
        "parallelism 3 of web is more than max-surge 0 and max-unavailable 1 allow: batches of 1",
    ),
    (
        &[ALL, DELAY],
        4,
        "refused: delay of web contradicts parallelism 0: its replicas are replaced in one batch; --delay 0s, or \
         --parallelism 3 at most; --monitor watches the new replicas after the last batch too",
    ),
    (
        &[TWO, DELAY],
        2,
        "delay of web has no effect: its 2 replicas are replaced in one batch",
    ),
    (&[ALL, ("delay", "0s")], 4, ""),
    (&[TWO, DELAY], 1, ""),
    (
        &[ALL, DELAY, SURGE],
        4,
        "parallelism 0 of web is more than max-surge 1 and max-unavailable 0 allow: batches of 1",
    ),
    (
        &[STOP, TWO],
        2,
        "refused: web would be stopped as a whole: order stop-first stops all 2 replicas with parallelism 2; \
         --parallelism 1 at most; or, with a gap, --strategy recreate",
    ),
    (
        &[STOP],
        1,
        "refused: web would be stopped as a whole: order stop-first stops its only replica; --order start-first; or, \
         with a gap, --strategy recreate",
    ),
    (&[STOP, TWO, SURGE], 2, ""),
    (&[STOP, TWO, SURGE, ONE_OUT], 4, ""),
    (&[NO_SURGE, ONE_OUT], 4, ""),
    (&[NONE_OUT], 4, ""),
    (
        &[NO_SURGE],
        4,
        "refused: max-surge and max-unavailable of web are both 0: no replica can be replaced; --max-surge 1",
    ),
    (
        &[("max-surge", "5")],
        4,
        "refused: max-surge 5 of web is more than its replicas; --max-surge 4 at most",
    ),
    (
        &[("max-unavailable", "4")],
        4,
        "refused: web would be stopped as a whole: max-unavailable is 4; --order start-first and --max-unavailable 0; \
         or, with a gap, --strategy recreate",
    ),
    (
        &[STOP, ("failure-action", "pause")],
        4,
        "refused: failure-action of web needs that no old replica is stopped before the new ones: after a failed batch \
         it would not serve; --order start-first --max-surge 1, or leave out failure-action",
    ),
    (
        &[("failure-action", "pause"), ("max-failure-ratio", "0.5")],
        4,
        "",
    ),
];

#[test]
fn each_contradiction_of_what_is_given_is_refused_or_named() {
    for (given, replicas, wanted) in GIVEN {
        assert_eq!(
            said(given, &Value::Null, replicas),
            wanted,
            "{given:?} {replicas}"
        );
    }
}

#[test]
fn what_is_given_wins_over_deploy_with_a_notice() {
    let config = json!({ "order": "stop-first", "parallelism": 2, "delay": "10s" });
    let order = "order stop-first in deploy.update_config of web";
    let table: [(&Words, u32, String); 7] = [
        (
            &[("max-unavailable", "0")],
            4,
            format!("{order} has no effect, because max-unavailable is 0: start-first"),
        ),
        (
            &[("parallelism", "0")],
            3,
            format!("{order} would stop all 3 replicas with parallelism 0: batches of 2"),
        ),
        (&[("max-surge", "1")], 2, String::new()),
        (&[("order", "start-first")], 1, String::new()),
        (
            &[("order", "start-first"), ("max-surge", "1")],
            4,
            "parallelism 2 in deploy.update_config of web is more than max-surge 1 and max-unavailable 0 allow: batches of 1"
                .to_owned(),
        ),
        (
            &[("order", "stop-first")],
            2,
            "parallelism 2 in deploy.update_config of web would stop all 2 replicas: batches of 1".to_owned(),
        ),
        (&[("order", "start-first"), ("parallelism", "0")], 4, String::new()),
    ];
    for (given, replicas, wanted) in table {
        assert_eq!(
            said(given, &config, replicas),
            wanted,
            "{given:?} {replicas}"
        );
    }
    let refused = said(&[("max-failure-ratio", "0.5")], &config, 4);
    assert!(
        refused.starts_with("refused: max-failure-ratio of web needs"),
        "{refused}"
    );
    let config = json!({ "order": "start-first" });
    let given: &Words = &[("max-surge", "0"), ("max-unavailable", "1")];
    let notice = "order start-first in deploy.update_config of web has no effect, because max-surge is 0: stop-first";
    assert_eq!(said(given, &config, 4), notice);
}
