//! What the daemon does by itself when containers end or are removed.

use super::*;
use crate::{
    overlay::{Effect, Health, Labels, Match, Rule},
    socket_proxy::testing::{FakeEngine, claim, daemon, rollout, set, until},
};

async fn watched(directory: &tempfile::TempDir, engine: &FakeEngine) -> Arc<Daemon> {
    let daemon = daemon(directory).await;
    tokio::spawn(watch(daemon.clone()));
    until("the daemon watches", || engine.watchers() > 0).await;
    daemon
}

fn hidden(daemon: &Daemon, id: &str, labels: &[(&str, &str)]) -> bool {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    daemon.store.current().hides(id, &labels.collect())
}

const NEW: [(&str, &str); 1] = [("io.rollout.id", "r1")];

/// After this time the daemon has checked doubtful services again.
const BEYOND_GRACE: Duration = GRACE.saturating_add(Duration::from_millis(500));

#[tokio::test]
async fn hidden_containers_are_shown_once_the_last_visible_one_is_destroyed() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("old-1", &[], "Up");
    engine.create("old-2", &[], "Up");
    engine.create("new", &NEW, "Up 2 seconds (healthy)");
    let daemon = watched(&directory, &engine).await;
    let held = set(&daemon, claim(1, "hold", vec![Rule::hide(rollout("r1"))])).await;
    engine.remove("old-1");
    engine.event("new", "health_status: healthy");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(hidden(&daemon, "new", &NEW));
    engine.remove("old-2");
    until("the new one is shown", || !hidden(&daemon, "new", &NEW)).await;
    let published = daemon.store.subscribe().borrow().clone();
    assert!(published.announced > held);
    assert_eq!(published.overlay.claims["shop/web"].stage, Claim::SHOWN);
}

#[tokio::test]
async fn previewed_containers_are_shown_in_full_once_the_last_public_one_is_destroyed() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("old", &[], "Up");
    engine.create("new", &NEW, "Up 2 seconds (healthy)");
    let daemon = watched(&directory, &engine).await;
    let on = rollout("r1");
    let effect = Effect::Labels {
        set: Labels::new(),
        unset: ["router".to_owned()].into(),
    };
    set(&daemon, claim(1, "shift-1", vec![Rule { on, effect }])).await;
    engine.remove("old");
    let stage = || daemon.store.current().claims["shop/web"].stage.clone();
    until("the new one is shown", || stage() == Claim::SHOWN).await;
    assert!(daemon.store.current().claims["shop/web"].rules[0].is_empty());
}

#[tokio::test]
async fn hidden_containers_that_are_not_healthy_are_not_shown() {
    for status in [
        "Up 2 seconds (health: starting)",
        "Up 2 minutes (unhealthy)",
    ] {
        let (engine, directory) = FakeEngine::start(false);
        engine.create("old", &[], "Up");
        engine.create("new", &NEW, status);
        let daemon = watched(&directory, &engine).await;
        set(&daemon, claim(1, "hold", vec![Rule::hide(rollout("r1"))])).await;
        engine.remove("old");
        sleep(BEYOND_GRACE).await;
        assert!(hidden(&daemon, "new", &NEW), "{status}");
    }
}

#[tokio::test]
async fn the_end_of_a_hidden_container_shows_no_other() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("old", &[], "Up");
    engine.create("new-1", &NEW, "Up");
    engine.create("new-2", &NEW, "Up");
    let daemon = watched(&directory, &engine).await;
    set(&daemon, claim(1, "hold", vec![Rule::hide(rollout("r1"))])).await;
    engine.exit("old");
    engine.remove("new-1");
    sleep(BEYOND_GRACE).await;
    assert!(hidden(&daemon, "new-2", &NEW));
}

#[tokio::test]
async fn a_visible_container_that_does_not_come_to_run_is_waited_for_and_then_replaced() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("old", &[], "Up");
    engine.create("new", &NEW, "Up");
    engine.create("operators", &[], "Created");
    let daemon = watched(&directory, &engine).await;
    set(&daemon, claim(1, "hold", vec![Rule::hide(rollout("r1"))])).await;
    engine.exit("operators");
    let start = std::time::Instant::now();
    engine.remove("old");
    until("the new one is shown", || !hidden(&daemon, "new", &NEW)).await;
    assert!(start.elapsed() >= GRACE);
}

#[tokio::test]
async fn changes_while_the_daemon_did_not_run_are_caught_up_with() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("new", &NEW, "Up");
    engine.create("old", &[], "Up");
    let before = daemon(&directory).await;
    let rules = vec![
        Rule::hide(rollout("r1")),
        Rule::hide(Match::Id("old".to_owned())),
    ];
    set(&before, claim(1, "hold", rules)).await;
    engine.remove("old");
    let daemon = watched(&directory, &engine).await;
    until("the new one is shown", || !hidden(&daemon, "new", &NEW)).await;
    let rules = daemon.store.current().claims["shop/web"].rules.len();
    assert_eq!(rules, 1);
}

#[tokio::test]
async fn an_engine_that_is_away_drops_no_rule() {
    let (engine, directory) = FakeEngine::start(false);
    let daemon = daemon(&directory).await;
    set(
        &daemon,
        claim(1, "hold", vec![Rule::hide(Match::Id("old".to_owned()))]),
    )
    .await;
    std::fs::remove_file(directory.path().join("docker.sock")).unwrap();
    drop(engine);
    let before = Overlay::clone(&daemon.store.current());
    assert!(follow(&daemon).await.is_err());
    assert_eq!(*daemon.store.current(), before);
}

#[tokio::test]
async fn a_health_rule_ends_with_dockers_first_verdict() {
    let (engine, directory) = FakeEngine::start(false);
    engine.create("new", &NEW, "Up 1 second (health: starting)");
    let daemon = watched(&directory, &engine).await;
    let rule = Rule::health(rollout("r1"), Health::Healthy);
    let held = set(&daemon, claim(1, "cutover", vec![rule])).await;
    engine.event("new", "health_status: healthy");
    until("it is settled", || {
        daemon.store.current().settled.contains("new")
    })
    .await;
    assert_eq!(daemon.store.subscribe().borrow().announced, held);
}

#[tokio::test]
async fn a_finished_rollouts_health_rules_end_when_docker_has_a_result_of_each_replica() {
    let (engine, directory) = FakeEngine::start(false);
    let labels = [
        NEW[0],
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web"),
    ];
    let starting = "Up 1 second (health: starting)";
    for name in ["new-1", "new-2"] {
        engine.create(name, &labels, starting);
    }
    let daemon = watched(&directory, &engine).await;
    let rule = Rule::health(rollout("r1"), Health::Healthy);
    set(&daemon, claim(1, Claim::SETTLED, vec![rule])).await;
    let claims = || daemon.store.current().claims.len();
    engine.create("new-1", &labels, "Up 5 seconds (healthy)");
    engine.event("new-1", "health_status: healthy");
    until("the first is settled", || {
        daemon.store.current().settled.contains("new-1")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(claims(), 1);
    engine.create("new-2", &labels, "Up 5 seconds (healthy)");
    engine.event("new-2", "health_status: healthy");
    until("the claim is gone", || claims() == 0).await;
}
