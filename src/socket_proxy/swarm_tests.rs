//! What readers see of Swarm's services and tasks.

use std::{collections::BTreeSet, sync::Arc};

use hyper::StatusCode;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    daemon::Daemon,
    rebuild::OWN,
    testing::{Client, FakeEngine, claim, daemon_of, set},
};
use crate::overlay::{Effect, Match, Rule};

struct World {
    engine: Arc<FakeEngine>,
    daemon: Arc<Daemon>,
    reader: Client,
    _directory: tempfile::TempDir,
}

impl World {
    async fn start(only: &[&str]) -> Self {
        let (engine, directory) = FakeEngine::start(false);
        let only = only.iter().map(|own| own.parse().unwrap()).collect();
        let daemon = daemon_of(&directory, only, true).await;
        let reader = Client::connect(&daemon, "Traefik").await;
        Self {
            engine,
            daemon,
            reader,
            _directory: directory,
        }
    }

    async fn services(&mut self) -> Vec<String> {
        let (_, list) = self.reader.get("/services").await;
        texts(&list, "ID")
    }

    async fn inspected(&mut self, id: &str) -> StatusCode {
        self.reader.get(&format!("/services/{id}")).await.0
    }

    /// Asks as Traefik does.
    async fn asked(&mut self, service: &str) -> (StatusCode, Value) {
        let filters = json!({"desired-state": {"running": true}, "service": {service: true}});
        let filters = filters.to_string();
        let filters: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        self.reader
            .get(&format!("/v1.44/tasks?filters={filters}"))
            .await
    }

    /// The ids of a service's tasks, all of which are said to be its own.
    async fn tasks(&mut self, service: &str) -> Vec<String> {
        let (status, list) = self.asked(service).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let owners = texts(&list, "ServiceID");
        assert!(owners.iter().all(|own| own == service), "{list}");
        texts(&list, "ID")
    }

    async fn rule(&self, epoch: u64, rules: Vec<Rule>) {
        set(&self.daemon, claim(epoch, "hold", rules)).await;
    }
}

fn texts(list: &Value, key: &str) -> Vec<String> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| one[key].as_str().unwrap().to_owned())
        .collect()
}

fn on(service: &str, effect: Effect) -> Rule {
    let on = Match::Service(service.to_owned());
    Rule { on, effect }
}

fn tasks_of(service: &str, other: &str) -> Rule {
    on(service, Effect::TasksOf(other.to_owned()))
}

#[tokio::test]
async fn a_service_is_left_out_with_its_tasks_by_rollouts_own_label_by_omit_and_by_only() {
    const SHOWN: (&str, &str) = ("traefik.enable", "true");
    let mut world = World::start(&["traefik.enable=true"]).await;
    for (id, labels) in [
        ("web", &[SHOWN][..]),
        ("own", &[SHOWN, (OWN, "twin")]),
        ("omitted", &[SHOWN]),
        ("other", &[]),
    ] {
        world.engine.swarm.create(id, labels, &["running"]);
    }
    world.rule(1, vec![on("omitted", Effect::Omit)]).await;
    assert_eq!(world.services().await, ["web"]);
    for out in ["own", "omitted", "other", "none"] {
        assert_eq!(world.inspected(out).await, 404, "{out}");
        assert_eq!(world.asked(out).await.0, 404, "{out}");
    }
    assert_eq!(world.inspected("web").await, 200);
    assert_eq!(world.tasks("web").await, ["web-0"]);
    let (_, all) = world.reader.get("/tasks").await;
    assert_eq!(texts(&all, "ID"), ["web-0"]);
    // A part of an id stands for no service.
    assert_eq!(world.asked("we").await.0, 404);
    assert_eq!(
        world.reader.get("/nodes/n1").await.1["Status"]["Addr"],
        "10.0.0.1"
    );
}

#[tokio::test]
async fn the_tasks_of_another_service_are_listed_as_long_as_one_of_them_runs() {
    let mut world = World::start(&[]).await;
    let swarm = &world.engine.swarm;
    swarm.create("web", &[], &["running", "running"]);
    swarm.create("api", &[], &["running"]);
    swarm.create("twin", &[(OWN, "twin")], &["starting"]);
    world
        .rule(1, vec![tasks_of("web", "twin"), on("twin", Effect::Omit)])
        .await;
    assert_eq!(world.tasks("web").await, ["web-0", "web-1"], "none runs");

    world.engine.swarm.end("twin");
    world
        .engine
        .swarm
        .create("twin", &[(OWN, "twin")], &["starting", "running"]);
    assert_eq!(world.tasks("web").await, ["twin-0", "twin-1"]);
    assert_eq!(world.tasks("api").await, ["api-0"]);
    let (_, all) = world.reader.get("/tasks").await;
    assert_eq!(texts(&all, "ID"), ["api-0", "twin-0", "twin-1"]);
    assert_eq!(texts(&all, "ServiceID"), ["api", "web", "web"]);

    world.engine.swarm.end("web");
    assert_eq!(
        world.tasks("web").await,
        ["twin-0", "twin-1"],
        "web has none"
    );

    world.engine.swarm.create("web", &[], &["running"]);
    world.engine.swarm.remove("twin");
    assert_eq!(world.tasks("web").await, ["web-0"], "it is removed");

    world.engine.swarm.create("twin", &[], &["running"]);
    world.rule(2, Vec::new()).await;
    assert_eq!(world.tasks("web").await, ["web-0"], "the rule has ended");
}

#[tokio::test]
async fn an_ending_socket_proxy_begins_no_round_and_ends_those_in_progress() {
    let mut world = World::start(&[]).await;
    world.engine.swarm.create("web", &[], &["running"]);
    assert_eq!(world.services().await, ["web"]);
    world.daemon.rounds.end().await;
    assert_eq!(world.reader.get("/services").await.0, 503);
    assert_eq!(world.tasks("web").await, ["web-0"]);
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
struct Service {
    own: bool,
    states: Vec<&'static str>,
}

fn any_service() -> impl Strategy<Value = Service> {
    let state = prop_oneof![Just("running"), Just("starting"), Just("failed")];
    (any::<bool>(), vec(state, 0..3)).prop_map(|(own, states)| Service { own, states })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let id = || proptest::sample::select(&IDS[..]);
    prop_oneof![
        id().prop_map(|id| on(id, Effect::Omit)),
        (id(), id()).prop_map(|(id, other)| tasks_of(id, other)),
    ]
}

async fn tasks_belong_to_services(
    services: Vec<Option<Service>>,
    rules: Vec<Rule>,
) -> Result<(), TestCaseError> {
    let mut world = World::start(&[]).await;
    for (id, service) in IDS.iter().zip(&services) {
        let Some(service) = service else { continue };
        let labels: &[(&str, &str)] = if service.own { &[(OWN, "twin")] } else { &[] };
        world.engine.swarm.create(id, labels, &service.states);
    }
    world.rule(1, rules).await;
    let listed = world.services().await;
    let (_, all) = world.reader.get("/tasks").await;
    let owners: BTreeSet<String> = texts(&all, "ServiceID").into_iter().collect();
    prop_assert!(owners.iter().all(|own| listed.contains(own)), "{}", all);
    let mut each = Vec::new();
    for id in IDS {
        let seen = listed.iter().any(|own| own == id);
        prop_assert_eq!(world.inspected(id).await == 200, seen);
        prop_assert_eq!(world.asked(id).await.0 == 200, seen);
        if seen {
            each.extend(world.tasks(id).await);
        }
    }
    let mut together = texts(&all, "ID");
    together.sort();
    each.sort();
    prop_assert_eq!(together, each);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_listed_task_belongs_to_a_listed_service_however_it_is_asked_for(
        services in vec(proptest::option::of(any_service()), 4), rules in vec(any_rule(), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(tasks_belong_to_services(services, rules))?;
    }
}
