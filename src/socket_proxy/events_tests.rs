//! The events that pass, their fields, and what a slow reader gets.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::arbitrary::{mutated_text, replaced};
use crate::overlay::{Claim, Match, Rule};

fn line(action: &str, attributes: Value) -> String {
    json!({
        "status": action, "id": "a", "from": "secret/image", "Type": "container", "Action": action,
        "Actor": {"ID": "a", "Attributes": attributes}, "scope": "local", "time": 5, "timeNano": 5_000_000_001_i64,
    })
    .to_string()
}

fn event(action: &str) -> Option<Event> {
    Event::parse(&line(
        action,
        json!({"name": "web-1", "token": "SECRET", "execID": "SECRET"}),
    ))
}

#[test]
fn an_event_is_rebuilt_with_only_the_name() {
    let shown = event("start")
        .unwrap()
        .for_reader(&Overlay::default())
        .unwrap();
    assert!(shown.ends_with(b"\n"));
    let expected = json!({
        "status": "start", "id": "a", "Type": "container", "Action": "start",
        "Actor": {"ID": "a", "Attributes": {"name": "web-1"}}, "scope": "local", "time": 5, "timeNano": 5_000_000_001_i64,
    });
    assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap(), expected);
}

#[test]
fn the_words_of_podman_are_heard_as_those_of_docker() {
    assert_eq!(event("died").unwrap().action, "die");
    assert_eq!(event("remove").unwrap().action, "destroy");
    let asked = with_aliases(["destroy", "start"].into_iter());
    let expected = ["destroy", "remove", "start"].map(str::to_owned);
    assert_eq!(asked, expected.into());
}

/// Podman's line for a check that has run.
fn check(verdict: &str) -> Event {
    let mut line: Value = serde_json::from_str(&line("health_status", json!({}))).unwrap();
    line["HealthStatus"] = verdict.into();
    Event::parse(&line.to_string()).unwrap()
}

#[test]
fn a_check_with_the_same_result_as_the_last_one_sends_no_event() {
    let mut verdicts = Verdicts::default();
    assert_eq!(check("healthy").action, "health_status: healthy");
    assert!(check("starting").is_undecided() && !check("healthy").is_undecided());
    let said = [
        (check("starting"), true),
        (check("starting"), false),
        (check("healthy"), true),
        (check("healthy"), false),
        (check("unhealthy"), true),
        (event("die").unwrap(), true),
        (event("start").unwrap(), true),
        (check("unhealthy"), true),
        // Without a health it may be any of them.
        (event("health_status").unwrap(), true),
        (event("health_status").unwrap(), true),
    ];
    for (number, (event, news)) in said.into_iter().enumerate() {
        assert_eq!(verdicts.is_new(&event), news, "{number}");
    }
}

#[test]
fn start_die_stop_destroy_and_health_pass_and_nothing_else() {
    for action in [
        "start",
        "die",
        "stop",
        "destroy",
        "health_status",
        "health_status: unhealthy",
    ] {
        assert!(event(action).is_some(), "{action}");
    }
    for action in [
        "exec_create: sh -c SECRET",
        "exec_start: SECRET",
        "exec_die",
        "attach",
        "kill",
        "create",
        "rename",
        "oom",
        "pause",
        "top",
        "copy",
        "health_status: sh -c SECRET",
        "health_statusX",
        "start SECRET",
        "",
    ] {
        assert!(event(action).is_none(), "{action}");
    }
    let network = line("destroy", json!({})).replace("\"container\"", "\"network\"");
    assert!(Event::parse(&network).is_none());
    assert!(Event::parse("{").is_none());
}

fn hiding(on: Match) -> Overlay {
    let mut overlay = Overlay::default();
    let claim = Claim {
        key: "p/s".to_owned(),
        rollout: "r1".to_owned(),
        epoch: 1,
        stage: "hold".to_owned(),
        rules: vec![Rule::hide(on)],
    };
    overlay.set(claim).unwrap();
    overlay
}

#[test]
fn a_loss_may_be_made_good_where_hidden_replicas_of_before_are_left() {
    let of = |project: &str| {
        let labels =
            json!({"com.docker.compose.project": project, "com.docker.compose.service": "s"});
        move |action: &str| Event::parse(&line(action, labels.clone())).unwrap()
    };
    let (own, others) = (of("p"), of("q"));
    let mut before = hiding(Match::Id("old".to_owned()));
    for action in ["die", "stop", "destroy", "health_status: unhealthy"] {
        assert!(
            own(action).is_a_loss_that_may_be_made_good(&before),
            "{action}"
        );
        assert!(!others(action).is_a_loss_that_may_be_made_good(&before));
    }
    for action in ["start", "health_status: healthy"] {
        assert!(
            !own(action).is_a_loss_that_may_be_made_good(&before),
            "{action}"
        );
    }
    before.forget_container("old");
    assert!(!own("die").is_a_loss_that_may_be_made_good(&before));
    let itself = hiding(Match::Id("a".to_owned()));
    assert!(!own("die").is_a_loss_that_may_be_made_good(&itself));
}

#[test]
fn events_of_hidden_and_of_own_containers_do_not_pass() {
    let overlay = hiding(Match::Label {
        key: "io.rollout.id".to_owned(),
        value: "r1".to_owned(),
    });
    let shown = |attributes| {
        Event::parse(&line("start", attributes))
            .unwrap()
            .for_reader(&overlay)
    };
    assert!(shown(json!({"io.rollout.id": "r1"})).is_none());
    assert!(shown(json!({"io.rollout.role": "lock"})).is_none());
    assert!(shown(json!({"io.rollout.id": "r2"})).is_some());
}

#[test]
fn a_nudge_is_an_event_that_makes_traefik_read_again() {
    let nudge: Value =
        serde_json::from_slice(&nudge(UNIX_EPOCH + Duration::from_millis(1500))).unwrap();
    assert_eq!(nudge["Type"], "container");
    assert_eq!(nudge["Action"], "health_status: healthy");
    assert_eq!(
        (&nudge["time"], &nudge["timeNano"]),
        (&json!(1), &json!(1_500_000_000))
    );
}

#[test]
fn a_slow_reader_gets_one_nudge_for_everything_that_did_not_fit() {
    let mut queue = Queue::default();
    for _ in 0..100_000 {
        queue.push(Bytes::from_static(b"event"));
        assert!(queue.waiting.len() <= MAX_WAITING);
    }
    let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(rest.last(), Some(&Next::Nudge));
    assert_eq!(rest.iter().filter(|next| **next == Next::Nudge).count(), 1);
    assert!(queue.is_empty());
}

#[test]
fn few_large_events_fall_together_too() {
    let mut queue = Queue::default();
    queue.push(Bytes::from(vec![b'x'; MAX_WAITING_BYTES]));
    queue.push(Bytes::from_static(b"event"));
    assert_eq!((queue.pop(), queue.pop()), (Some(Next::Nudge), None));
}

#[test]
fn events_come_in_order_and_nudges_together() {
    let mut queue = Queue::default();
    queue.nudge();
    queue.push(Bytes::from_static(b"a"));
    queue.nudge();
    queue.push(Bytes::from_static(b"b"));
    let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    let event = |text: &'static str| Next::Event(Bytes::from_static(text.as_bytes()));
    assert_eq!(all, [event("a"), event("b"), Next::Nudge]);
}

#[test]
fn the_engine_is_asked_for_events_of_containers_alone() {
    let mut query = Query::default();
    assert!(narrow(&mut query));
    assert_eq!(query.filters["type"], ["container".to_owned()].into());
    assert!(query.filters["event"].contains("health_status"));
    query.filters = [("type".to_owned(), ["network".to_owned()].into())].into();
    assert!(!narrow(&mut query));
}

#[test]
fn a_service_is_known_by_its_compose_labels_and_one_off_runs_are_not_its_replicas() {
    let labels = |one_off: &str| {
        let pairs = [("oneoff", one_off), ("project", "shop"), ("service", "web")];
        pairs
            .map(|(key, value)| (format!("com.docker.compose.{key}"), value.to_owned()))
            .into()
    };
    assert_eq!(service_key(&labels("False")), Some("shop/web".to_owned()));
    assert_eq!(service_key(&labels("True")), None);
    assert_eq!(service_key(&BTreeMap::new()), None);
}

const SAMPLE: &str = r#"{"status":"health_status: healthy","Type":"container","Action":"health_status: healthy","HealthStatus":"healthy","Actor":{"ID":"a","Attributes":{"name":"web-1","token":"SECRET"}},"scope":"local","time":5,"timeNano":5000000001}"#;

// An event that passes is one line with only the named fields.
fn passes(line: &str) -> Result<(), TestCaseError> {
    let Some(shown) = Event::parse(line).and_then(|event| event.for_reader(&Overlay::default()))
    else {
        return Ok(());
    };
    prop_assert_eq!(
        shown.iter().position(|byte| *byte == b'\n'),
        Some(shown.len() - 1)
    );
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let action = shown["Action"].as_str().unwrap();
    prop_assert!(PASSING.contains(&action) || is_health(action), "{}", action);
    prop_assert_eq!(shown.as_object().unwrap().len(), 8);
    prop_assert_eq!(shown["Actor"]["Attributes"].as_object().unwrap().len(), 1);
    Ok(())
}

proptest! {
    #[test]
    fn a_line_passes_as_one_line_of_the_named_fields_or_not_at_all(line in mutated_text(SAMPLE)) {
        passes(&line)?;
    }

    #[test]
    fn a_line_with_values_of_any_type_passes_as_the_named_fields_or_not_at_all(
        line in replaced(serde_json::from_str(SAMPLE).unwrap()),
    ) {
        passes(&line.to_string())?;
    }

    #[test]
    fn what_waits_for_a_slow_reader_is_bounded(lengths in proptest::collection::vec(0..100_000_usize, 0..200)) {
        let mut queue = Queue::default();
        for length in lengths {
            queue.push(Bytes::from(vec![0; length]));
            prop_assert!(queue.waiting.len() <= MAX_WAITING && queue.bytes <= MAX_WAITING_BYTES);
            prop_assert_eq!(queue.bytes, queue.waiting.iter().map(Bytes::len).sum::<usize>());
        }
    }
}

#[test]
fn verdicts_on_ever_new_containers_do_not_fill_the_memory() {
    let mut verdicts = Verdicts::default();
    for id in 0..3 * MAX_VERDICTS {
        let event = Event {
            id: id.to_string(),
            ..event("health_status: healthy").unwrap()
        };
        assert!(verdicts.is_new(&event));
        assert!(!verdicts.is_new(&event));
        assert!(verdicts.0.len() <= MAX_VERDICTS);
    }
}
