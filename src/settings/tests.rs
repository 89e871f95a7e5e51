//! Every setting in every place, and what is refused.

use std::path::Path;

use clap::FromArgMatches as _;
use proptest::prelude::{ProptestConfig, prop_assert, proptest};
use serde_json::json;

use super::{
    places::{command, names, names_under, variable},
    values::LONGEST,
    *,
};
use crate::{
    arbitrary::{mutated_text, replaced},
    model::FailureAction,
};

fn environment(name: &str, value: &str) -> Result<Partial> {
    Partial::from_environment([(name.to_owned(), value.to_owned())])
}

#[test]
fn a_flag_wins_over_the_service_then_the_top_level_then_the_environment() {
    let flags = Partial::of("timeout", "1");
    let file = Partial::from_service(
        "web",
        Some(&json!({"timeout": "2s", "wait": 3, "build": true})),
    )
    .unwrap();
    let variables = [
        ("ROLLOUT_WAIT", "4s"),
        ("ROLLOUT_STABLE", "500ms"),
        ("ROLLOUT_DRAIN_TIMEOUT", "7s"),
        ("ROLLOUT_TRAEFIK_URL", "http://a,http://b"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let top = json!({"wait": "9s", "drain-timeout": "6s"});
    let top = Partial::from_project(Some(&top)).unwrap();
    let environment = Partial::from_environment(variables).unwrap();
    let settings = Settings::resolve([flags, file, top, environment]);
    assert_eq!(settings.timeout, Duration::from_secs(1));
    assert_eq!(settings.wait, Duration::from_secs(3));
    assert_eq!(settings.drain_timeout, Duration::from_secs(6));
    assert_eq!(settings.stable, Duration::from_millis(500));
    assert_eq!(settings.traefik_url, ["http://a", "http://b"]);
    assert!(settings.build && !settings.force);
}

#[test]
fn one_place_has_one_preview_and_the_first_place_that_has_one_wins() {
    let rule = Partial::of("preview", "Host(`a`)");
    let host = Partial::from_service("web", Some(&json!({"preview-host": "B.example"}))).unwrap();
    let none = Partial::default;
    let of = |places| Settings::resolve(places).preview();
    let by_rule = Some(PreviewRule::Extra("Host(`a`)".to_owned()));
    let by_host = Some(PreviewRule::Host("b.example".to_owned()));
    assert_eq!(of([rule.clone(), host.clone(), none(), none()]), by_rule);
    assert_eq!(of([none(), host, rule, none()]), by_host);
    assert_eq!(of(Default::default()), None);
    let both = json!({"preview": "Host(`a`)", "preview-host": "b"});
    let error = Partial::from_service("web", Some(&both)).unwrap_err();
    assert_eq!(
        error.message,
        "preview in x-rollout of web and preview-host in x-rollout of web: only one of them can be given"
    );
    let bad = environment("ROLLOUT_PREVIEW", "Host(`a`").unwrap_err();
    assert!(
        bad.message
            .starts_with("ROLLOUT_PREVIEW: a parenthesis in Host(`a`"),
        "{bad}"
    );
}

#[test]
fn a_check_is_ignored_by_a_flag_alone_and_allow_split_is_one_of_them() {
    let error = Partial::from_service("web", Some(&json!({"ignore": ["labels"]})));
    assert!(error.unwrap_err().message.starts_with("unknown key ignore"));
    let environment = environment("ROLLOUT_IGNORE", "labels").unwrap();
    let file = Partial::from_service("web", Some(&json!({"allow-split": true}))).unwrap();
    let flags = Partial::of("ignore", "host-ports");
    let settings = Settings::resolve([flags, file, Partial::default(), environment]);
    let ignored = |check: &&Check| settings.ignores(**check);
    let ignored: Vec<_> = Check::IGNORABLE.iter().filter(ignored).collect();
    assert_eq!(ignored, [&Check::Switch, &Check::HostPorts]);
}

#[test]
fn anonymous_volumes_are_renewed_where_their_check_is_ignored() {
    let renews = |flags| {
        let none = Partial::default;
        let settings = Settings::resolve([flags, none(), none(), none()]);
        settings.renews_anon_volumes()
    };
    assert!(!renews(Partial::default()));
    assert!(renews(Partial::of("renew-anon-volumes", "true")));
    assert!(renews(Partial::of("ignore", "anonymous-volumes")));
}

#[test]
fn an_unknown_key_is_one_line_that_names_the_near_one() {
    let error = Partial::from_service("web", Some(&json!({"drian-timeout": "2s"}))).unwrap_err();
    assert_eq!(
        error.message,
        "unknown key drian-timeout in x-rollout of web; did you mean drain-timeout?"
    );
    let error = environment("ROLLOUT_DRAIN_TIMEOT", "2s").unwrap_err();
    assert_eq!(
        error.message,
        "unknown variable ROLLOUT_DRAIN_TIMEOT; did you mean ROLLOUT_DRAIN_TIMEOUT?"
    );
}

#[test]
fn what_is_wrong_at_the_top_level_is_said_to_be_there() {
    let error = Partial::from_project(Some(&json!({"traefik-auth": "a:b"}))).unwrap_err();
    let place = "unknown key traefik-auth in x-rollout at the top level";
    assert!(error.message.starts_with(place), "{error}");
    let error = Partial::from_project(Some(&json!("a"))).unwrap_err();
    assert!(error.message.contains("is not a mapping"), "{error}");
}

#[test]
fn a_relative_path_of_a_compose_file_begins_at_its_project() {
    let file = |path: &str| {
        let own = json!({"traefik-auth-file": path});
        let own = Partial::from_project(Some(&own)).unwrap();
        let own = own.in_directory(Path::new("/srv/shop"));
        parse(&own).unwrap().traefik_auth_file
    };
    assert_eq!(file("auth").as_deref(), Some("/srv/shop/auth"));
    assert_eq!(file("/run/auth").as_deref(), Some("/run/auth"));
}

#[test]
fn a_bad_value_is_one_line_that_names_its_place() {
    let error = Partial::from_service("web", Some(&json!({"timeout": "soon"}))).unwrap_err();
    assert!(
        error
            .message
            .starts_with("timeout in x-rollout of web: \"soon\" is not a duration"),
        "{error}"
    );
    let error = environment("ROLLOUT_SCALE", "0").unwrap_err();
    assert!(
        error
            .message
            .starts_with("ROLLOUT_SCALE: \"0\" is not a number from 1 on"),
        "{error}"
    );
    let error = Partial::from_project(Some(&json!({"strategy": "blue-gren"}))).unwrap_err();
    assert_eq!(
        error.message,
        "strategy in x-rollout at the top level: unknown value \"blue-gren\"; did you mean blue-green?"
    );
}

#[test]
fn a_duration_that_no_clock_can_hold_is_refused() {
    for text in ["1e19", "-1", "NaN", "40000000", "500days"] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
}

#[test]
fn conditions_can_be_a_mapping_in_a_file_and_other_settings_cannot() {
    let read = |own| Partial::from_service("web", Some(&own));
    let mapping = read(json!({"analysis": {"success-rate": "99%", "p99": "500ms"}})).unwrap();
    let analysis = parse(&mapping).unwrap().analysis;
    assert_eq!("p99=500ms,success-rate=99%".parse(), Ok(analysis));
    let off = read(json!({"analysis": false})).unwrap();
    assert!(!parse(&off).unwrap().analysis.is_on);
    // The metrics are read elsewhere.
    let metrics = read(json!({"analysis": {"prometheus": [{"query": "up"}]}})).unwrap();
    assert_eq!(metrics, Partial::default());
    let of_all = json!({"analysis": {"prometheus": "http://a:secret@b"}});
    let error = Partial::from_project(Some(&of_all)).unwrap_err().message;
    assert!(
        error.contains("is a setting of one service") && !error.contains("secret"),
        "{error}"
    );
    let error = read(json!({"analysis": {"p98": "1s"}})).unwrap_err();
    let said = "analysis in x-rollout of web: unknown condition p98; did you mean p95?";
    assert_eq!(error.message, said);
    let error = read(json!({"wait": {"p99": "1s"}})).unwrap_err();
    assert!(error.message.contains("is not a single value"), "{error}");
}

#[test]
fn notifications_are_addresses_and_mappings_and_a_bad_one_is_not_repeated() {
    let read = |own| Partial::from_service("web", Some(&json!({"notify": own})));
    let given = read(json!(["ntfys://h/t", {"url": "https://h/x", "on": "paused"}])).unwrap();
    let notify = parse(&given).unwrap().notify;
    let ends: Vec<usize> = notify.iter().map(|own| own.on.len()).collect();
    assert_eq!(ends, [5, 1]);
    let one = read(json!({"url": "https://h/x"})).unwrap();
    assert_eq!(parse(&one).unwrap().notify.len(), 1);
    for bad in [
        json!("s3cret"),
        json!([["https://h/s3cret"]]),
        json!({"url": ["https://h/s3cret"]}),
        json!([{"url": "s3cret"}]),
    ] {
        let message = read(bad).unwrap_err().message;
        let place = "notify in x-rollout of web: ";
        assert!(message.starts_with(place), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}

#[test]
fn other_programs_variables_are_left_alone() {
    for name in [
        "ROLLOUT_TESTBED_CACHE",
        "ROLLOUT_EVENT_LOG",
        "ROLLOUT_LOG_DIR",
        "ROLLOUT_OUTPUT",
        "ROLLOUT_TIMESTAMPS",
        "ROLLOUT_STATE_VOLUME",
        "ROLLOUT_PORT",
        "ROLLOUT_NAME",
        "ROLLOUT_PROJECT",
        "ROLLOUT_SERVICE",
        "ROLLOUT_ROLLOUT",
        "ROLLOUT_REVISION",
        "ROLLOUT_IMAGE",
        "ROLLOUT_OLD_IMAGE",
        "ROLLOUT_HOOK",
        "ROLLOUT_ERROR",
        TRAEFIK_AUTH,
        "ROLLOUT_",
    ] {
        assert_eq!(
            environment(name, "/x").unwrap(),
            Partial::default(),
            "{name}"
        );
    }
}

/// The setting as one pair of words of a command line.
fn flag(name: &str, value: &str) -> Partial {
    let matches = command().try_get_matches_from([format!("--{name}={value}")]);
    Partial::from_arg_matches(&matches.unwrap()).unwrap()
}

#[test]
fn every_setting_has_the_same_name_and_meaning_in_all_three_places() {
    for name in names() {
        let value = match name.as_str() {
            "proxy" => "none",
            "analysis" => "p99=500ms",
            "switch" => "pin",
            "strategy" => "recreate",
            "pull" => "never",
            "on-unfinished" => "abort",
            "on-failure" => "rollback",
            "order" => "stop-first",
            "failure-action" => "pause",
            "max-failure-ratio" => "0.5",
            "parallelism" | "max-surge" | "max-unavailable" => "7",
            "scale" | "keep" | "parallel" | "pull-parallel" | "twin-replicas" => "7",
            "attach" | "build" | "follow" | "force" | "together" | "renew-anon-volumes"
            | "allow-split" => "true",
            "notify" => "https://a/b",
            "traefik-url" => "http://a:8080",
            "preview" => "Host(`a`)",
            "preview-host" => "a.example",
            "ready-http" | "pre-stop-hook" | "traefik-auth-file" | "traefik-ca" => "/x",
            _ => "77ms",
        };
        let by_flag = flag(&name, value);
        let by_variable = environment(&variable(&name), value).unwrap();
        let written = json!({name.clone(): value});
        let by_key = Partial::from_project(Some(&written)).unwrap();
        let of_service = Partial::from_service("web", Some(&written));
        match names_under(STACK).any(|own| own == name) {
            true => assert!(
                of_service.unwrap_err().message.contains("top level"),
                "{name}"
            ),
            false => assert_eq!(of_service.unwrap(), by_key, "{name}"),
        }
        assert_ne!(by_flag, Partial::default(), "{name}");
        assert_eq!(by_flag, by_variable, "{name}");
        assert_eq!(by_flag, by_key, "{name}");
        let default = Settings::resolve(Default::default());
        for place in 0..4 {
            let mut sources: [Partial; 4] = Default::default();
            sources[place] = by_flag.clone();
            assert_ne!(Settings::resolve(sources), default, "{name} counts nowhere");
        }
    }
}

#[test]
fn the_topic_of_settings_has_each_setting_with_its_default() {
    let text = include_str!("../help/settings.md");
    for argument in command().get_arguments() {
        let name = format!("--{}", argument.get_long().unwrap());
        let begins = |entry: &&str| {
            let head = entry.split(['`', ' ']);
            head.take(5).any(|word| word == name)
        };
        let mut entries = text.split("\n- `");
        let entry = entries.find(begins);
        let entry = entry.unwrap_or_else(|| panic!("the topic has no entry for {name}"));
        let default = match argument.get_default_values() {
            [] => continue,
            [off] if off == "false" => "default off".to_owned(),
            [value, ..] => format!("default `{}`", value.to_str().unwrap()),
        };
        assert!(entry.contains(&default), "{name}: {default}: {entry}");
        for value in argument.get_possible_values() {
            assert!(entry.contains(value.get_name()), "{name}: {entry}");
        }
    }
}

/// The settings of a service with `--strategy rolling`, what is given, and `deploy`.
fn rolling(given: Partial, deploy: &serde_json::Value, is_undo: bool) -> Result<Settings> {
    let none = Partial::default;
    let given = given.or(Partial::of("strategy", "rolling"));
    Settings::of_service([given, none(), none(), none()], ("web", deploy), is_undo)
}

#[test]
fn a_rolling_update_takes_what_is_not_given_from_update_config_and_explicit_limits_win() {
    let deploy = json!({ "update_config": {
        "parallelism": 2, "delay": "1m0s", "order": "stop-first", "monitor": "5s", "failure_action": "rollback",
    }});
    let none = Partial::default;
    let limits = |given: Partial, deploy: &serde_json::Value, replicas| {
        let limits = rolling(given, deploy, false).unwrap().limits(replicas);
        let limits = limits.unwrap();
        (limits.parallelism, limits.surge, limits.unavailable)
    };
    let empty = json!({});
    assert_eq!(limits(none(), &empty, 4), (1, 1, 0));
    assert_eq!(limits(none(), &deploy, 4), (2, 0, 2));
    let first = Partial::of("order", "start-first");
    assert_eq!(limits(first, &deploy, 4), (2, 2, 0));
    let surge = Partial::of("max-surge", "1");
    assert_eq!(limits(surge, &deploy, 4), (2, 1, 2));
    for all in ["0", "9"] {
        let all = Partial::of("parallelism", all);
        assert_eq!(limits(all, &empty, 4), (4, 4, 0));
    }
    // One stays live; of one alone, the new one comes first.
    assert_eq!(limits(none(), &deploy, 2), (2, 0, 1));
    assert_eq!(limits(none(), &deploy, 1), (1, 1, 0));
    let never = Partial::of("max-unavailable", "0");
    assert_eq!(limits(never, &deploy, 4), (2, 2, 0));
    let settings = rolling(none(), &deploy, false).unwrap();
    assert_eq!(settings.watch(false), Duration::from_secs(60));
    assert_eq!(settings.watch(true), Duration::from_secs(5));
    let other = Settings::of_service(Default::default(), ("web", &deploy), false).unwrap();
    assert_eq!(other, Settings::resolve(Default::default()));
    assert_eq!(other.limits(4), None);
}

#[test]
fn an_undo_takes_rollback_config_key_by_key_before_update_config() {
    let deploy = json!({
        "update_config": { "parallelism": 1, "order": "stop-first", "delay": "30s" },
        "rollback_config": { "parallelism": 0, "delay": "0s", "failure_action": "pause" },
    });
    let read = |given, is_undo| rolling(given, &deploy, is_undo).unwrap();
    let (ahead, back) = (
        read(Partial::default(), false),
        read(Partial::default(), true),
    );
    assert_eq!((ahead.parallelism, back.parallelism), (Some(1), Some(0)));
    assert_eq!(ahead.watch(false), Duration::from_secs(30));
    assert_eq!(back.watch(false), Duration::ZERO);
    assert_eq!((ahead.order, back.order), (back.order, ahead.order));
    assert_eq!(ahead.failure_action, None);
    assert_eq!(back.failure_action, Some(FailureAction::Pause));
    let of_deploy = |own: &Settings| own.of_deploy.values().copied().collect::<Vec<_>>();
    assert_eq!(of_deploy(&ahead), ["update_config"; 3]);
    assert_eq!(back.of_deploy["order"], "update_config");
    assert_eq!(back.of_deploy["parallelism"], "rollback_config");
    let flag = read(Partial::of("parallelism", "2"), true);
    assert_eq!(flag.parallelism, Some(2));
    assert!(!flag.of_deploy.contains_key("parallelism"));
    // The rollout already finds what an undo could not read.
    let bad = json!({ "rollback_config": { "order": "first" } });
    let error = rolling(Partial::default(), &bad, false).unwrap_err();
    let said = "order in deploy.rollback_config of web: unknown value \"first\"";
    assert!(error.message.starts_with(said), "{error}");
}

#[test]
fn update_config_is_read_in_every_form_of_the_specification() {
    let read = |config: serde_json::Value| {
        rolling(
            Partial::default(),
            &json!({ "update_config": config }),
            false,
        )
    };
    for (delay, ms) in [
        ("0s", 0),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1.5s", 1500),
        ("1h0m0s", 3_600_000),
        ("100ms", 100),
        ("500\u{b5}s", 0),
    ] {
        let settings = read(json!({ "delay": delay, "monitor": delay })).unwrap();
        assert_eq!(settings.watch(true).as_millis(), ms, "{delay}");
    }
    let all = json!({ "parallelism": 0, "failure_action": "continue", "max_failure_ratio": 0.5, "x-own": 1 });
    let all = read(all).unwrap();
    assert_eq!(all.limits(4).unwrap().parallelism, 4);
    let action = Some(FailureAction::Continue);
    assert_eq!(
        (all.failure_action, all.max_failure_ratio),
        (action, Some(0.5))
    );
    let error = read(json!({ "failure_action": "stop" })).unwrap_err();
    assert_eq!(
        error.message,
        "failure_action in deploy.update_config of web: unknown value \"stop\"; known are rollback, pause, continue"
    );
    let error = read(json!({ "order": "first" })).unwrap_err();
    assert_eq!(
        error.message,
        "order in deploy.update_config of web: unknown value \"first\"; known are start-first, stop-first"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn settings_of_any_type_are_read_or_refused_in_one_line(
        value in replaced(json!({"wait": "30s", "drain-timeout": 5, "scale": 2, "strategy": "blue-green", "traefik-url": ["http://a"],
            "analysis": {"p99": "500ms", "no-data": "fail"}})),
    ) {
        match Partial::from_service("web", Some(&value)) {
            Ok(read) => prop_assert!(parse(&read).unwrap().scale.is_none_or(|count| count > 0)),
            Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
        }
    }

    #[test]
    fn no_span_is_longer_than_a_year(text in mutated_text("1h 2m 3s 4ms 5us 6ns 1e9")) {
        if let Ok(span) = duration(&text) {
            prop_assert!(span <= LONGEST);
        }
    }
}
