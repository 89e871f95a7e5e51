//! A reader never sees half a generation, whatever happens between its list and its inspects.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use hyper::StatusCode;

use super::{
    daemon::Daemon,
    testing::{Client, FakeEngine, claim, daemon, rollout, set, until},
};
use crate::overlay::{ENABLE, Match, Rule};

/// Lists and inspects, as Traefik does: the ids of live containers.
async fn read(
    daemon: &Daemon,
    connection: &mut Client,
    agent: &str,
    inspect_elsewhere: bool,
) -> Vec<String> {
    let (_, list) = connection.get("/v1.24/containers/json?all=1").await;
    let mut other = match inspect_elsewhere {
        true => Some(Client::connect(daemon, agent).await),
        false => None,
    };
    let mut live = Vec::new();
    for listed in list.as_array().unwrap() {
        let id = listed["Id"].as_str().unwrap();
        let path = format!("/v1.24/containers/{id}/json");
        let (status, container) = other.as_mut().unwrap_or(connection).get(&path).await;
        let enabled = |labels: &serde_json::Value| labels.get(ENABLE).cloned();
        if status == StatusCode::OK {
            let inspected = enabled(&container["Config"]["Labels"]);
            assert_eq!(
                enabled(&listed["Labels"]),
                inspected,
                "list and inspect differ on {id}"
            );
            if inspected.is_none_or(|enabled| enabled != "false") {
                live.push(id.to_owned());
            }
        }
    }
    live
}

async fn read_for_ever(
    daemon: Arc<Daemon>,
    number: usize,
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
) {
    let agent = format!("reader {number}");
    let mut connection = Client::connect(&daemon, &agent).await;
    while !stop.load(Ordering::Relaxed) {
        let live = read(&daemon, &mut connection, &agent, number % 2 == 1).await;
        assert_eq!(live.len(), 1, "reader {number} saw {live:?} live");
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// All readers have listed with the generation or a later one.
async fn confirmed(daemon: &Daemon, readers: usize, generation: u64) {
    until("every reader has listed", || {
        let seen = daemon.snapshots.lock().unwrap().readers();
        seen.iter()
            .filter(|seen| seen.generation >= Some(generation))
            .count()
            == readers
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_both_live_or_none_over_a_thousand_generations() {
    const READERS: usize = 4;
    let (engine, directory) = FakeEngine::start(true);
    let daemon = daemon(&directory).await;
    engine.create("c0", &[], "Up");
    let (stop, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let task = read_for_ever(daemon.clone(), number, stop.clone(), reads.clone());
            tokio::spawn(task)
        })
        .collect();
    let mut round = 0;
    while daemon.store.current().generation < 1000 {
        round += 1;
        let (old, new, id) = (
            format!("c{}", round - 1),
            format!("c{round}"),
            format!("r{round}"),
        );
        let hold = claim(round, "hold", vec![Rule::hide(rollout(&id))]);
        let cutover = claim(round, "cutover", vec![Rule::hide(Match::Id(old.clone()))]);
        set(&daemon, hold.clone()).await;
        // Lists that the engine began before the hold may contain the new container already.
        engine.create(&new, &[("io.rollout.id", &id)], "Up");
        set(&daemon, cutover.clone()).await;
        set(&daemon, hold).await;
        let generation = set(&daemon, cutover).await;
        confirmed(&daemon, READERS, generation).await;
        engine.remove(&old);
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 1000 / 4);
}

#[tokio::test]
async fn a_reader_keeps_its_generation_until_it_lists_again() {
    let (engine, directory) = FakeEngine::start(false);
    let daemon = daemon(&directory).await;
    engine.create("a", &[], "Up");
    let mut reader = Client::connect(&daemon, "Traefik").await;
    let hidden = |answer: (StatusCode, serde_json::Value)| {
        answer.1["Config"]["Labels"].get(ENABLE).is_some()
    };
    reader.get("/containers/json").await;
    set(
        &daemon,
        claim(1, "hold", vec![Rule::hide(Match::Id("a".to_owned()))]),
    )
    .await;
    assert!(!hidden(reader.get("/containers/a/json").await));
    let mut second = Client::connect(&daemon, "Traefik").await;
    assert!(!hidden(second.get("/containers/a/json").await));
    let mut other = Client::connect(&daemon, "curl").await;
    assert!(hidden(other.get("/containers/a/json").await));
    reader.get("/containers/json").await;
    assert!(hidden(reader.get("/containers/a/json").await));
    assert!(hidden(second.get("/containers/a/json").await));
}
