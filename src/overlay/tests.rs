//! The overlay by examples and by properties.

use proptest::prelude::*;

use super::*;

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn rule(on: Match, enabled: &str) -> Rule {
    Rule::set(on, labels([(ENABLE, enabled)]))
}

fn id(id: &str) -> Match {
    Match::Id(id.to_owned())
}

fn label(value: &str) -> Match {
    Match::Label {
        key: "io.rollout.id".to_owned(),
        value: value.to_owned(),
    }
}

fn claim(epoch: u64, rules: Vec<Rule>) -> Claim {
    Claim {
        key: "shop/web".to_owned(),
        rollout: format!("r{epoch}"),
        epoch,
        stage: "hold".to_owned(),
        rules,
    }
}

fn tasks_of(service: &str, other: &str) -> Rule {
    Rule {
        on: Match::Service(service.to_owned()),
        effect: Effect::TasksOf(other.to_owned()),
    }
}

fn overlay(rules: Vec<Rule>) -> Overlay {
    let mut overlay = Overlay::default();
    overlay.set(claim(1, rules)).unwrap();
    overlay
}

#[test]
fn a_label_rule_hides_a_container_that_did_not_exist_when_it_was_set() {
    let overlay = overlay(vec![rule(label("r1"), "false")]);
    let mut new = labels([("io.rollout.id", "r1"), (ENABLE, "true")]);
    assert!(overlay.hides("later", &new));
    overlay.apply("later", &mut new, false);
    assert_eq!(new[ENABLE], "false");
    assert!(!overlay.hides("other", &labels([("io.rollout.id", "r2")])));
}

#[test]
fn a_container_that_hides_itself_is_not_hidden_by_the_overlay() {
    assert!(!Overlay::default().hides("a", &labels([(ENABLE, "false")])));
}

#[test]
fn the_later_rule_wins_label_by_label() {
    let first = Rule::set(id("a"), labels([(ENABLE, "false"), ("weight", "9")]));
    let overlay = overlay(vec![first, rule(id("a"), "true")]);
    let mut shown = Labels::new();
    overlay.apply("a", &mut shown, false);
    assert_eq!(shown, labels([(ENABLE, "true"), ("weight", "9")]));
    assert!(!overlay.hides("a", &Labels::new()));
}

#[test]
fn a_rule_matches_dockers_own_labels_and_not_those_of_another_rule() {
    let first = Rule::set(id("a"), labels([("io.rollout.id", "r1")]));
    let overlay = overlay(vec![first, rule(label("r1"), "false")]);
    let mut shown = Labels::new();
    overlay.apply("a", &mut shown, false);
    assert_eq!(shown, labels([("io.rollout.id", "r1")]));
}

#[test]
fn a_health_rule_applies_while_docker_reports_starting_and_never_again() {
    let mut overlay = overlay(vec![Rule::health(id("a"), Health::Healthy)]);
    let health = |overlay: &Overlay, starting| overlay.apply("a", &mut Labels::new(), starting);
    assert_eq!(health(&overlay, true), Some(Health::Healthy));
    assert_eq!(health(&overlay, false), None);
    assert!(overlay.settle("a", &Labels::new()));
    assert_eq!(health(&overlay, true), None);
    assert!(!overlay.settle("b", &Labels::new()));
}

#[test]
fn an_older_owner_is_refused_even_after_a_clear() {
    let mut overlay = overlay(vec![]);
    overlay.set(claim(5, vec![])).unwrap();
    let stale = Stale {
        key: "shop/web".to_owned(),
        last: 5,
    };
    assert_eq!(overlay.set(claim(4, vec![])), Err(stale.clone()));
    assert_eq!(overlay.clear("shop/web", 4), Err(stale.clone()));
    overlay.clear("shop/web", 5).unwrap();
    assert_eq!(overlay.set(claim(4, vec![])), Err(stale));
    assert!(overlay.claims.is_empty());
}

#[test]
fn two_rollouts_cannot_share_an_epoch() {
    let mut overlay = overlay(vec![]);
    let mut other = claim(1, vec![]);
    other.rollout = "another".to_owned();
    assert!(overlay.set(other).is_err());
}

#[test]
fn setting_the_same_claim_again_is_no_new_generation() {
    let mut overlay = overlay(vec![rule(id("a"), "false")]);
    let before = overlay.clone();
    assert_eq!(overlay.set(claim(1, vec![rule(id("a"), "false")])), Ok(1));
    assert_eq!(overlay, before);
}

#[test]
fn a_container_that_is_gone_takes_its_id_rules_along_and_no_label_rule_nor_claim() {
    let mut overlay = overlay(vec![rule(id("a"), "false"), rule(label("r1"), "false")]);
    assert!(overlay.forget_container("a"));
    assert!(!overlay.forget_container("a"));
    assert_eq!(
        overlay.claims["shop/web"].rules,
        [rule(label("r1"), "false")]
    );
    assert_eq!(overlay.claims["shop/web"].stage, "hold");
}

#[test]
fn showing_ends_the_hiding_of_the_named_containers_and_marks_the_stage() {
    let mut overlay = overlay(vec![rule(label("r1"), "false"), rule(id("b"), "false")]);
    let new = ("new".to_owned(), labels([("io.rollout.id", "r1")]));
    assert!(overlay.show("shop/web", std::slice::from_ref(&new)));
    assert!(!overlay.hides("new", &new.1));
    assert!(overlay.hides("b", &Labels::new()));
    assert_eq!(overlay.claims["shop/web"].stage, Claim::SHOWN);
    assert!(!overlay.show("shop/web", &[new]));
}

#[test]
fn a_previewed_container_is_kept_back_until_it_is_shown_in_full() {
    let preview = Rule {
        on: label("r1"),
        effect: Effect::Labels {
            set: labels([("router-preview", "b")]),
            unset: ["router".to_owned()].into(),
        },
    };
    let mut overlay = overlay(vec![preview]);
    let own = labels([("io.rollout.id", "r1"), ("router", "a")]);
    assert!(overlay.keeps_back("new", &own) && !overlay.hides("new", &own));
    assert!(overlay.show("shop/web", &[("new".to_owned(), own.clone())]));
    assert!(!overlay.keeps_back("new", &own));
    let mut shown = own.clone();
    overlay.apply("new", &mut shown, false);
    assert_eq!(shown, own);
}

#[test]
fn a_label_is_removed_whether_docker_or_an_earlier_rule_has_it() {
    let on = || label("r1");
    let effect = Effect::Labels {
        set: labels([("rule", "b")]),
        unset: ["rule", "port", "weight"].map(str::to_owned).into(),
    };
    let first = Rule::set(on(), labels([("weight", "9"), ("own", "1")]));
    let overlay = overlay(vec![first, Rule { on: on(), effect }]);
    let mut shown = labels([("io.rollout.id", "r1"), ("rule", "a"), ("port", "80")]);
    overlay.apply("a", &mut shown, false);
    assert_eq!(
        shown,
        labels([("io.rollout.id", "r1"), ("rule", "b"), ("own", "1")])
    );
}

#[test]
fn a_container_without_the_hiding_label_of_an_earlier_rule_is_not_hidden() {
    let effect = Effect::Labels {
        set: Labels::new(),
        unset: [ENABLE.to_owned()].into(),
    };
    let on = id("a");
    let overlay = overlay(vec![rule(id("a"), "false"), Rule { on, effect }]);
    assert!(!overlay.hides("a", &Labels::new()));
}

#[test]
fn an_omitted_container_is_hidden_until_it_is_shown() {
    let omit = Rule {
        on: label("r1"),
        effect: Effect::Omit,
    };
    let mut overlay = overlay(vec![omit, rule(label("r1"), "true")]);
    let new = ("new".to_owned(), labels([("io.rollout.id", "r1")]));
    assert!(overlay.omits("new", &new.1) && overlay.hides("new", &new.1));
    assert!(overlay.show("shop/web", std::slice::from_ref(&new)));
    assert!(!overlay.omits("new", &new.1) && !overlay.hides("new", &new.1));
}

#[test]
fn a_rule_is_written_as_version_1_reads_it_and_more_only_where_that_is_needed() {
    let on = || id("a");
    for (rule, json, since) in [
        (
            rule(on(), "false"),
            r#"{"on":{"id":"a"},"labels":{"traefik.enable":"false"}}"#,
            1,
        ),
        (
            Rule::set(on(), Labels::new()),
            r#"{"on":{"id":"a"},"labels":{}}"#,
            1,
        ),
        (
            Rule::health(on(), Health::Healthy),
            r#"{"on":{"id":"a"},"labels":{},"health":"healthy"}"#,
            1,
        ),
        (
            Rule {
                on: on(),
                effect: Effect::Labels {
                    set: labels([("k", "v")]),
                    unset: ["l".to_owned()].into(),
                },
            },
            r#"{"on":{"id":"a"},"labels":{"k":"v"},"unset":["l"]}"#,
            2,
        ),
        (
            Rule {
                on: on(),
                effect: Effect::Omit,
            },
            r#"{"on":{"id":"a"},"labels":{},"omit":true}"#,
            2,
        ),
        (
            tasks_of("a", "b"),
            r#"{"on":{"service":"a"},"labels":{},"tasks_of":"b"}"#,
            2,
        ),
    ] {
        assert_eq!(serde_json::to_string(&rule).unwrap(), json);
        assert_eq!(claim(1, vec![rule]).since(), since, "{json}");
    }
}

#[test]
fn a_rule_of_version_1_with_labels_and_health_is_two() {
    let text = r#"{"key":"shop/web","rollout":"r1","epoch":1,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{"traefik.enable":"false"},"health":"healthy"},{"on":{"id":"b"}}]}"#;
    let expected = vec![
        rule(id("a"), "false"),
        Rule::health(id("a"), Health::Healthy),
        Rule::set(id("b"), Labels::new()),
    ];
    assert_eq!(
        serde_json::from_str::<Claim>(text).unwrap(),
        claim(1, expected)
    );
}

#[test]
fn a_match_has_the_json_form_of_the_control_protocol() {
    let json = |on: Match| serde_json::to_string(&on).unwrap();
    assert_eq!(json(id("a")), r#"{"id":"a"}"#);
    let expected = r#"{"label":{"key":"io.rollout.id","value":"r1"}}"#;
    assert_eq!(json(label("r1")), expected);
}

#[test]
fn a_claim_without_a_service_or_with_an_empty_match_is_refused() {
    assert_eq!(claim(1, vec![rule(id("a"), "false")]).validate(), Ok(()));
    assert!(claim(1, vec![rule(id(""), "false")]).validate().is_err());
    let mut nameless = claim(1, vec![]);
    nameless.key = "shop".to_owned();
    assert!(nameless.validate().is_err());
}

fn any_match() -> impl Strategy<Value = Match> {
    prop_oneof![
        "[ab]".prop_map(Match::Id),
        "[xy]".prop_map(|value| label(&value))
    ]
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let key = || prop_oneof![Just(ENABLE.to_owned()), "[kl]"];
    let set = proptest::collection::btree_map(key(), "true|false", 0..3);
    let unset = proptest::collection::btree_set(key(), 0..3);
    prop_oneof![
        4 => (set, unset).prop_map(|(set, unset)| Effect::Labels { set, unset }),
        2 => Just(Effect::Health(Health::Healthy)),
        1 => Just(Effect::Omit),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (any_match(), any_effect()).prop_map(|(on, effect)| Rule { on, effect })
}

#[test]
fn a_rule_on_a_swarm_service_is_read_without_labels_and_is_on_no_container() {
    let text = r#"{"key":"shop/web","rollout":"r1","epoch":1,"stage":"hold","rules":[{"on":{"service":"a"},"tasks_of":"b"},{"on":{"service":"b"},"omit":true}]}"#;
    let claim: Claim = serde_json::from_str(text).unwrap();
    assert_eq!(claim.validate(), Ok(()));
    let overlay = overlay(claim.rules);
    assert_eq!(overlay.tasks_of("a"), Some("b"));
    assert_eq!(overlay.tasks_of("b"), None);
    assert!(overlay.omits_service("b") && !overlay.omits_service("a"));
    assert!(!overlay.omits("b", &Labels::new()) && overlay.ids().is_empty());
}

#[test]
fn an_effect_without_a_meaning_on_what_it_is_on_is_refused() {
    let service = || Match::Service("a".to_owned());
    for rule in [
        tasks_of("a", ""),
        tasks_of("", "b"),
        Rule::hide(service()),
        Rule::health(service(), Health::Healthy),
        Rule {
            on: id("a"),
            ..tasks_of("a", "b")
        },
        Rule {
            on: label("r1"),
            ..tasks_of("a", "b")
        },
    ] {
        let text = serde_json::to_string(&rule).unwrap();
        assert!(claim(1, vec![rule]).validate().is_err(), "{text}");
    }
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let rules = proptest::collection::vec(any_rule(), 0..4);
    (0..3_u8, 0..4_u64, rules).prop_map(|(service, epoch, rules)| Claim {
        key: format!("shop/{service}"),
        ..claim(epoch, rules)
    })
}

proptest! {
    #[test]
    fn a_refused_claim_changes_nothing_and_any_other_is_there(claims in proptest::collection::vec(any_claim(), 1..12)) {
        let mut overlay = Overlay::default();
        for claim in claims {
            let before = overlay.clone();
            match overlay.set(claim.clone()) {
                Ok(generation) => {
                    prop_assert_eq!(&overlay.claims[&claim.key], &claim);
                    prop_assert!(generation == overlay.generation && generation >= before.generation);
                }
                Err(_) => {
                    prop_assert!(before.last_epochs[&claim.key] > claim.epoch);
                    prop_assert_eq!(&overlay, &before);
                }
            }
        }
    }

    #[test]
    fn a_container_has_the_hiding_label_exactly_if_it_is_hidden(claims in proptest::collection::vec(any_claim(), 0..6), name in "[abc]", value in "[xyz]") {
        let mut overlay = Overlay::default();
        for claim in claims {
            let _ = overlay.set(claim);
        }
        let own = labels([("io.rollout.id", &value)]);
        let mut shown = own.clone();
        overlay.apply(&name, &mut shown, true);
        let disabled = shown.get(ENABLE).is_some_and(|value| value == "false");
        let omitted = overlay.omits(&name, &own);
        prop_assert_eq!(disabled || omitted, overlay.hides(&name, &own));
    }

    #[test]
    fn claims_set_together_are_what_each_makes_in_turn_in_one_generation(
        before in proptest::collection::vec(any_claim(), 0..4), claims in proptest::collection::vec(any_claim(), 0..4),
    ) {
        let mut together = Overlay::default();
        for claim in before {
            let _ = together.set(claim);
        }
        let before = together.clone();
        let mut each = before.clone();
        let set: Result<Vec<u64>, Stale> = claims.iter().map(|claim| each.set(claim.clone())).collect();
        match set {
            Ok(_) => {
                let changed = u64::from(each != before);
                each.generation = before.generation + changed;
                prop_assert_eq!(together.set_all(claims), Ok(each.generation));
                prop_assert_eq!(together, each);
            }
            Err(stale) => {
                prop_assert_eq!(together.set_all(claims), Err(stale));
                prop_assert_eq!(together, before);
            }
        }
    }

    #[test]
    fn an_overlay_survives_its_file(claims in proptest::collection::vec(any_claim(), 0..6)) {
        let mut overlay = Overlay::default();
        for claim in claims {
            let _ = overlay.set(claim);
        }
        let text = serde_json::to_string(&overlay).unwrap();
        prop_assert_eq!(serde_json::from_str::<Overlay>(&text).unwrap(), overlay);
    }
}
