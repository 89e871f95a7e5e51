//! The topic `events` is complete.

use serde_json::Value;

use super::*;

fn text() -> String {
    "x".to_owned()
}

fn row() -> ServiceRow {
    ServiceRow {
        host: Some(text()),
        service: text(),
        result: ServiceResult::Rolled,
        revision: None,
        image: None,
        reason: None,
    }
}

/// One of each event that is not of a step.
fn of_runs() -> Vec<Event> {
    vec![
        Event::Opening {
            services: vec![text()],
        },
        Event::Started {
            revision: 1,
            replicas: 1,
            proxy: text(),
            image: text(),
            replaces: None,
            undo_to: None,
            restart_of: None,
        },
        Event::Notice { text: text() },
        Event::Plan(Plan {
            changes: vec![Change {
                name: Some(text()),
                from: Some(text()),
                to: Some(text()),
                ..Change::of("label")
            }],
            steps: vec![PlannedStep {
                old: vec![text()],
                percent: Some(10),
                limit_ms: Some(1),
                ..PlannedStep::new("shift", Vec::new())
            }],
            ..Plan::default()
        }),
        Event::NothingToDo {
            replicas: 1,
            image: text(),
        },
        Event::Unfinished { forward: true },
        Event::Undoing { reason: text() },
        Event::Figures(Box::default()),
        Event::Finished {
            revision: 1,
            replicas: 1,
            image: text(),
            replaces: None,
            cutover_ms: None,
            live_ms: None,
            gap_ms: None,
            total_ms: 1,
            phases: BTreeMap::new(),
        },
        Event::Relabelled {
            container: text(),
            labels: BTreeMap::new(),
            route: None,
            ms: 1,
        },
    ]
}

fn of_stacks() -> Vec<Event> {
    vec![
        Event::Settled {
            forward: true,
            revision: Some(1),
            image: Some(text()),
        },
        Event::StackStarted {
            services: vec![text()],
            parallel: 1,
            hosts: vec![OnHost {
                host: text(),
                wave: 1,
                services: vec![text()],
            }],
        },
        Event::StackFinished {
            services: vec![row()],
            total_ms: 1,
        },
        Event::Completed {
            image: text(),
            ms: 1,
        },
        Event::VariablesWritten {
            file: text(),
            variables: vec![text()],
        },
        Event::Failed {
            message: text(),
            code: 1,
            gap_ms: Some(1),
            is_open: false,
            hint: None,
            logs: Vec::new(),
        },
        Event::Paused {
            message: text(),
            code: 5,
            hint: None,
        },
    ]
}

fn of_steps() -> Vec<Event> {
    let step = "pull";
    vec![
        Event::StepStarted {
            step,
            replicas: Vec::new(),
            limit_ms: Some(1),
            batch: Some(Batch {
                batch: 1,
                batches: 2,
            }),
        },
        Event::StepFinished { step, ms: 1 },
        Event::StepFailed {
            step,
            reason: text(),
        },
        Event::Compose { line: text() },
        Event::Hook {
            hook: "pre-deploy",
            line: text(),
        },
        Event::Log {
            replica: text(),
            line: text(),
        },
        Event::Ready {
            replica: text(),
            by: text(),
        },
        Event::Confirmed {
            side: Side::New,
            ms: 1,
        },
        Event::Traffic { percent: 10 },
        Event::Draining {
            replica: text(),
            unanswered: 1,
            streaming: 1,
        },
        Event::Drained {
            replica: text(),
            how: Drained::Answered,
        },
    ]
}

/// How many kinds of events there are; a new one does not compile until it is here, and belongs to those above.
fn kinds(event: &Event) -> usize {
    use Event as E;
    match event {
        E::Opening { .. } => {}
        E::Started { .. } | E::Notice { .. } | E::NothingToDo { .. } | E::Unfinished { .. } => {}
        E::Plan(_) | E::Paused { .. } | E::Settled { .. } => {}
        E::StackStarted { .. } | E::StackFinished { .. } | E::Completed { .. } => {}
        E::Undoing { .. } | E::Finished { .. } | E::Relabelled { .. } | E::Failed { .. } => {}
        E::StepStarted { .. } | E::StepFinished { .. } | E::StepFailed { .. } => {}
        E::Compose { .. } | E::Hook { .. } | E::Ready { .. } | E::Confirmed { .. } => {}
        E::Traffic { .. } | E::VariablesWritten { .. } | E::Log { .. } => {}
        E::Draining { .. } | E::Drained { .. } | E::Figures(_) => {}
    }
    28
}

/// The entry of the topic that has this event first.
fn entry(name: &str) -> &'static str {
    let text = include_str!("help/events.md");
    let start = text.find(&format!("- `{name}`"));
    let start = start.unwrap_or_else(|| panic!("the topic has no entry for the event {name}"));
    let entry = text[start..].split("\n- ").next().unwrap();
    entry.split("\n\n").next().unwrap()
}

#[test]
fn the_topic_of_events_has_each_event_with_each_field() {
    let all = [of_runs(), of_stacks(), of_steps()].concat();
    for event in &all {
        assert_eq!(all.len(), kinds(event));
        let Ok(Value::Object(fields)) = serde_json::to_value(event) else {
            panic!("{event:?}")
        };
        let name = fields["event"].as_str().unwrap().to_owned();
        let entry = entry(&name);
        let nested = ["changes", "steps", "hosts"]
            .map(|field| &fields.get(field).unwrap_or(&Value::Null)[0]);
        let nested = nested.into_iter().filter_map(Value::as_object);
        let fields = nested.chain([&fields]).flat_map(|own| own.keys());
        for field in fields.filter(|field| *field != "event") {
            assert!(
                entry.contains(&format!("`{field}`")),
                "{name}: {field}: {entry}"
            );
        }
    }
}

#[test]
fn the_report_of_several_services_is_in_the_topic_with_each_field_and_each_result() {
    use ServiceResult as R;
    let entry = entry("stack_finished");
    let Ok(Value::Object(fields)) = serde_json::to_value(row()) else {
        panic!()
    };
    let results = [
        R::Rolled,
        R::Unchanged,
        R::Completed,
        R::Failed,
        R::RolledBack,
        R::NotBegun,
        R::Paused,
        R::LeftAlone,
    ];
    let results = results.map(|own| serde_json::to_value(own).unwrap());
    let results = results.iter().map(|own| own.as_str().unwrap());
    for word in fields.keys().map(String::as_str).chain(results) {
        assert!(entry.contains(&format!("`{word}`")), "{word}: {entry}");
    }
}

#[test]
fn the_objects_of_other_commands_are_in_the_topic_too() {
    for name in ["rule", "finding", "kept"] {
        assert!(entry(name).contains("rollout"), "{name}");
    }
}
