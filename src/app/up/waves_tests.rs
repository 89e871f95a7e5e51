//! Hosts on fake engines: their locks and their report.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::*;
use crate::{
    cli::TargetArgs,
    event::{Scope, Sink},
    fake_engine::FakeEngine,
    roll::tests::Bench,
    settings::Partial,
};

/// What is announced, and the report.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<OnHost>, Vec<ServiceRow>)>>);

impl Sink for Seen {
    fn event(&mut self, _: SystemTime, _: &Scope, event: &Event) {
        let mut seen = self.0.lock().unwrap();
        match event {
            Event::StackStarted { hosts, .. } => seen.0.clone_from(hosts),
            Event::StackFinished { services, .. } => seen.1.clone_from(services),
            _ => {}
        }
    }
}

/// How `rollout web` on two hosts ends, on which it is up to date, and of which the second is locked; the engines.
async fn rolled(is_locked: bool, seen: &Seen) -> (Result<Outcome>, Vec<FakeEngine>, Vec<String>) {
    let (mut fakes, mut all_opened) = (Vec::new(), Vec::new());
    for is_locked in [false, is_locked] {
        let bench = Bench::up_to_date(is_locked).await;
        fakes.push(bench.fake);
        all_opened.push(Opened {
            engine: bench.engine,
            compose: bench.compose,
            project: bench.project,
        });
    }
    let up = UpArgs {
        services: vec!["web".to_owned()],
        all: false,
        remove_orphans: false,
        set: Vec::new(),
        decided: Vec::new(),
        settings: Partial::default(),
        dry_run: false,
        target: TargetArgs::default(),
    };
    let events = Events::new(vec![Box::new(seen.clone())]);
    let (_sender, interrupted) = watch::channel(false);
    let hosts: Vec<Host> = ["a", "2=b"].map(|own| own.parse().unwrap()).into();
    let address = |own: &Opened| own.engine.endpoint().to_string();
    let addresses: Vec<String> = all_opened.iter().map(address).collect();
    let (mut works, mut asked) = (Vec::new(), Vec::new());
    for (opened, address) in all_opened.iter().zip(&addresses) {
        let given = (false, interrupted.clone());
        let work = Work::of(&up, opened, given, &events.of_host(address, address)).await;
        let (work, order, left) = work.unwrap();
        works.push(work);
        asked.push((order, left, Listed::read(&opened.engine).await));
    }
    let checks = works.iter().zip(asked);
    let checks = checks.map(|(work, (order, left, listed))| work.check(order, left, listed));
    let checked = all(checks).await.unwrap();
    let fleet = Fleet {
        hosts: &hosts,
        addresses: &addresses,
        works: &works,
        waves: fleet::waves(&hosts),
        events: &events,
        interrupted,
    };
    let ended = fleet.roll(checked, Instant::now()).await;
    (ended, fakes, addresses)
}

/// The requests that take a lock and release it.
fn locks(fake: &FakeEngine) -> Vec<String> {
    let changes = fake.changes().into_iter();
    let of_lock = changes
        .filter(|(method, path, _)| method == "DELETE" || path.contains("/containers/create"));
    of_lock.map(|(method, ..)| method).collect()
}

#[tokio::test]
async fn each_lock_is_taken_once_and_released_and_each_service_has_a_row_with_its_host() {
    let seen = Seen::default();
    let (ended, fakes, addresses) = rolled(false, &seen).await;
    assert_eq!(ended.unwrap(), Outcome::Done);
    for fake in &fakes {
        assert_eq!(locks(fake), ["POST", "DELETE"]);
    }
    let seen = seen.0.lock().unwrap();
    let announced = |own: &OnHost| (own.host.clone(), own.wave, own.services.join(" "));
    let announced: Vec<_> = seen.0.iter().map(announced).collect();
    let expected = [(&addresses[0], 1), (&addresses[1], 2)];
    let expected = expected.map(|(host, wave)| (host.clone(), wave, "web".to_owned()));
    assert_eq!(announced, expected);
    let row = |own: &ServiceRow| (own.host.clone().unwrap(), own.result);
    let rows: Vec<_> = seen.1.iter().map(row).collect();
    let unchanged = |own: &String| (own.clone(), ServiceResult::Unchanged);
    let expected: Vec<_> = addresses.iter().map(unchanged).collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_lock_that_is_held_on_one_host_ends_the_command_and_the_others_are_released() {
    let seen = Seen::default();
    let (ended, fakes, _) = rolled(true, &seen).await;
    assert_eq!(ended.unwrap_err().outcome, Outcome::Locked);
    assert_eq!(locks(&fakes[1]), ["POST"]);
    // The locks are taken in the order of the addresses, so the first host may not have come to its turn.
    let first = locks(&fakes[0]);
    assert!(first.is_empty() || first == ["POST", "DELETE"], "{first:?}");
    // Nothing is announced that is not reported at its end.
    assert_eq!(*seen.0.lock().unwrap(), (Vec::new(), Vec::new()));
}

/// How a watch of ten seconds ends whose reads succeed like this, by the second of the watch.
async fn watched_with(
    reads: impl Fn(u64) -> bool,
    fails_at: Option<u64>,
) -> Option<Result<String>> {
    let began = Instant::now();
    let read = async || match reads(began.elapsed().as_secs()) {
        true => Ok(Vec::new()),
        false => Err(Error::failed("no answer")),
    };
    let failure = async |_: &[Replica]| {
        let after = Duration::from_secs(fails_at.unwrap_or(60));
        sleep(after.saturating_sub(began.elapsed())).await;
        Ok("web-1 stopped".to_owned())
    };
    watched(began + Duration::from_secs(10), read, failure).await
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_repeated_and_counts_only_where_it_fails_to_the_end() {
    assert_eq!(watched_with(|_| true, None).await, None);
    assert_eq!(watched_with(|second| second > 3, None).await, None);
    let sick = Some(Ok("web-1 stopped".to_owned()));
    assert_eq!(watched_with(|second| second > 3, Some(8)).await, sick);
    let unread = Some(Err(Error::failed("no answer")));
    assert_eq!(watched_with(|_| false, Some(8)).await, unread);
}

#[test]
fn an_error_before_the_services_are_known_names_its_host_once() {
    let named = |message: &str| of_host(Error::refused(message), "ssh://a").message;
    assert_eq!(named("no answer"), "ssh://a: no answer");
    assert_eq!(named("ssh://a is silent"), "ssh://a is silent");
}
