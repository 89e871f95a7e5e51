//! The containers that readers see in lists, inspects and events.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{Stream, StreamExt};
use hyper::StatusCode;
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::{
    daemon::Daemon,
    only::Wanted,
    stream::lines,
    testing::{Client, FakeEngine, daemon, daemon_with, rollout, set},
};
use crate::overlay::{Claim, Effect, Match, Rule};

async fn listed(reader: &mut Client) -> Vec<String> {
    let (_, list) = reader.get("/containers/json?all=1").await;
    let ids = list.as_array().unwrap().iter().map(|one| &one["Id"]);
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

async fn inspected(reader: &mut Client, id: &str) -> bool {
    let answer = reader.get(&format!("/containers/{id}/json")).await;
    answer.0 == StatusCode::OK
}

async fn events(daemon: &Daemon) -> impl Stream<Item = String> + Unpin + use<> {
    let mut reader = Client::connect(daemon, "Traefik").await;
    lines(reader.send("/events").await.into_body())
}

/// The id and the action of the next event.
async fn next(events: &mut (impl Stream<Item = String> + Unpin)) -> (String, String) {
    let event: Value = serde_json::from_str(&events.next().await.unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&event["Actor"]["ID"]), text(&event["Action"]))
}

#[tokio::test]
async fn a_container_that_does_not_run_is_in_no_list_unless_traefik_may_keep_it() {
    const ALLOWED: (&str, &str) = ("traefik.docker.AllowNonRunning", "true");
    let (engine, directory) = FakeEngine::start(false);
    for state in [
        "running",
        "paused",
        "restarting",
        "created",
        "exited",
        "dead",
    ] {
        engine.create(state, &[], "");
        engine.set_state(state, state);
    }
    engine.create("allowed", &[ALLOWED], "");
    engine.exit("allowed");
    engine.create("allowed-by-a-rule", &[], "");
    engine.exit("allowed-by-a-rule");
    let daemon = daemon(&directory).await;
    let label = [(ALLOWED.0.to_owned(), ALLOWED.1.to_owned())].into();
    set(&daemon, Claim::by_hand("allowed-by-a-rule", label)).await;
    let mut reader = Client::connect(&daemon, "Traefik").await;
    assert_eq!(
        listed(&mut reader).await,
        [
            "allowed",
            "allowed-by-a-rule",
            "paused",
            "restarting",
            "running"
        ]
    );
    // Another container may join its network.
    assert!(inspected(&mut reader, "exited").await);
}

#[tokio::test]
async fn a_container_that_starts_is_listed_as_soon_as_its_event_has_come() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("new", &[], "Created");
    engine.set_state("new", "created");
    let daemon = daemon(&directory).await;
    let mut reader = Client::connect(&daemon, "Traefik").await;
    let mut events = events(&daemon).await;
    assert!(listed(&mut reader).await.is_empty());
    engine.start_container("new");
    assert_eq!(
        next(&mut events).await,
        ("new".to_owned(), "start".to_owned())
    );
    assert_eq!(listed(&mut reader).await, ["new"]);
    engine.exit("new");
    assert_eq!(
        next(&mut events).await,
        ("new".to_owned(), "die".to_owned())
    );
    assert!(listed(&mut reader).await.is_empty());
}

#[tokio::test]
async fn an_empty_list_is_a_list_of_its_generation() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("a", &[("io.rollout.id", "r1")], "Up");
    let daemon = daemon(&directory).await;
    let mut reader = Client::connect(&daemon, "Traefik").await;
    assert_eq!(listed(&mut reader).await, ["a"]);
    let omit = Rule {
        on: rollout("r1"),
        effect: Effect::Omit,
    };
    let generation = set(&daemon, omitting(1, vec![omit])).await;
    assert!(
        inspected(&mut reader, "a").await,
        "it belongs to the last list"
    );
    assert!(listed(&mut reader).await.is_empty());
    assert!(!inspected(&mut reader, "a").await);
    let seen = daemon.snapshots.lock().unwrap().readers();
    assert_eq!(seen[0].generation, Some(generation));
}

#[tokio::test]
async fn a_list_of_another_reader_does_not_end_what_a_reader_may_inspect() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("web", &[("shop", "")], "Up");
    engine.create("vpn", &[], "Up");
    engine.join("web", "vpn");
    let daemon = daemon_with(&directory, only_shop()).await;
    let mut reader = Client::connect(&daemon, "Traefik").await;
    let mut other = Client::connect(&daemon, "curl").await;
    assert_eq!(listed(&mut reader).await, ["web"]);
    engine.exit("web");
    assert!(listed(&mut other).await.is_empty());
    assert!(inspected(&mut reader, "vpn").await);
    assert!(!inspected(&mut other, "vpn").await);
}

fn only_shop() -> Vec<Wanted> {
    vec!["shop".parse().unwrap()]
}

/// A claim of another service, so that no event of the containers is held back for a replica that could take over.
fn omitting(epoch: u64, rules: Vec<Rule>) -> Claim {
    Claim {
        key: "shop/omitted".to_owned(),
        rollout: "r".to_owned(),
        epoch,
        stage: "hold".to_owned(),
        rules,
    }
}

/// How containers are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Only,
    Omit,
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
struct Container {
    visible: bool,
    running: bool,
    joins: &'static str,
}

#[derive(Clone, Debug)]
enum Change {
    Create(&'static str, Container),
    Start(&'static str),
    Exit(&'static str),
    Remove(&'static str),
}

fn any_id() -> impl Strategy<Value = &'static str> {
    (0..IDS.len()).prop_map(|index| IDS[index])
}

fn any_change() -> impl Strategy<Value = Change> {
    let container =
        (any::<bool>(), any::<bool>(), any_id()).prop_map(|(visible, running, joins)| Container {
            visible,
            running,
            joins,
        });
    prop_oneof![
        3 => (any_id(), container).prop_map(|(id, container)| Change::Create(id, container)),
        1 => any_id().prop_map(Change::Start),
        1 => any_id().prop_map(Change::Exit),
        1 => any_id().prop_map(Change::Remove),
    ]
}

/// An engine, a daemon, and the expected containers.
struct World {
    limit: Limit,
    engine: Arc<FakeEngine>,
    daemon: Arc<Daemon>,
    containers: BTreeMap<&'static str, Container>,
    epoch: u64,
}

impl World {
    /// Makes a change; returns the event that readers get.
    async fn make(&mut self, change: Change) -> Option<(String, String)> {
        let (id, action) = match change {
            Change::Create(id, container) => {
                self.create(id, container).await;
                return None;
            }
            Change::Start(id) => (id, "start"),
            Change::Exit(id) => (id, "die"),
            Change::Remove(id) => (id, "destroy"),
        };
        let container = self.containers.get_mut(id)?;
        container.running = action == "start";
        let visible = container.visible;
        match action {
            "start" => self.engine.start_container(id),
            "die" => self.engine.exit(id),
            _ => {
                self.containers.remove(id);
                self.engine.remove(id);
            }
        }
        visible.then(|| (id.to_owned(), action.to_owned()))
    }

    async fn create(&mut self, id: &'static str, container: Container) {
        let labelled = self.limit == Limit::Only && container.visible;
        let labels: &[(&str, &str)] = if labelled { &[("shop", "")] } else { &[] };
        self.engine.create(id, labels, "Up");
        self.engine.join(id, container.joins);
        if !container.running {
            self.engine.set_state(id, "created");
        }
        self.containers.insert(id, container);
        if self.limit == Limit::Omit {
            let omitted = self.containers.iter().filter(|(_, one)| !one.visible);
            let rules = omitted.map(|(id, _)| Rule {
                on: Match::Id((*id).to_owned()),
                effect: Effect::Omit,
            });
            self.epoch += 1;
            set(&self.daemon, omitting(self.epoch, rules.collect())).await;
        }
    }

    fn is_listed(&self, id: &str) -> bool {
        let own = self.containers.get(id);
        own.is_some_and(|own| own.visible && own.running)
    }

    fn is_inspected(&self, id: &str) -> bool {
        let Some(own) = self.containers.get(id) else {
            return false;
        };
        let joins = |(other, one): (&&str, &Container)| one.joins == id && self.is_listed(other);
        own.visible || self.containers.iter().any(joins)
    }
}

async fn what_is_left_out_stays_out(
    limit: Limit,
    changes: Vec<Change>,
) -> Result<(), TestCaseError> {
    let (engine, directory) = FakeEngine::start(false);
    let only = match limit {
        Limit::Only => only_shop(),
        Limit::Omit => Vec::new(),
    };
    let daemon = daemon_with(&directory, only).await;
    engine.create("last", &[("shop", "")], "Up");
    let mut reader = Client::connect(&daemon, "Traefik").await;
    let mut events = events(&daemon).await;
    let mut world = World {
        limit,
        engine,
        daemon,
        containers: BTreeMap::new(),
        epoch: 0,
    };
    for change in changes {
        let expected = world.make(change).await;
        // An event of a container that is always visible comes last; every other event has come before it.
        world.engine.event("last", "start");
        let mut passed = Vec::new();
        loop {
            let event = next(&mut events).await;
            match event.0.as_str() {
                "last" => break,
                nudge if nudge.starts_with('0') => {}
                _ => passed.push(event),
            }
        }
        prop_assert_eq!(passed, Vec::from_iter(expected));
        let in_list = IDS.into_iter().filter(|id| world.is_listed(id));
        let in_list: Vec<&str> = in_list.chain(["last"]).collect();
        prop_assert_eq!(listed(&mut reader).await, in_list);
        for id in IDS {
            let answered = inspected(&mut reader, id).await;
            prop_assert_eq!(answered, world.is_inspected(id), "inspect of {}", id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_container_without_the_label_is_in_no_list_no_inspect_and_no_event(changes in vec(any_change(), 1..24)) {
        run(what_is_left_out_stays_out(Limit::Only, changes))?;
    }

    #[test]
    fn an_omitted_container_is_in_no_list_no_inspect_and_no_event(changes in vec(any_change(), 1..24)) {
        run(what_is_left_out_stays_out(Limit::Omit, changes))?;
    }
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}
