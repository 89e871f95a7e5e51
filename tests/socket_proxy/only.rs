//! `--only` through random changes on the real engine: what has not the label is in no list, no event, and no inspect.

use std::{io::BufRead, time::SystemTime};

use testbed::{Temporary, daemon::Daemon, engine::docker};

const CHANGES: usize = 20;
const SLOTS: usize = 4;

/// A container that may come and go.
struct Slot {
    container: Temporary,
    id: String,
    labelled: bool,
    running: bool,
    /// The slot whose network namespace it is in.
    joins: Option<usize>,
}

/// The next numbers of a sequence that only looks random (Marsaglia's xorshift), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// The containers, and the names of those that readers must never learn of.
struct Changes {
    numbers: Numbers,
    slots: [Option<Slot>; SLOTS],
    secret: Vec<String>,
}

impl Changes {
    fn make(&mut self) {
        let at = self.numbers.below(SLOTS);
        let others_join = self.slots.iter().flatten().any(|own| own.joins == Some(at));
        match (&mut self.slots[at], self.numbers.below(3)) {
            (None, _) => self.create(at),
            // The engine starts no container in the namespace of one that has ended.
            (Some(slot), 0) if !slot.running && slot.joins.is_none() => {
                docker(&["start", &slot.container.name]);
                slot.running = true;
            }
            (Some(slot), 1) if slot.running && !others_join => {
                docker(&["kill", &slot.container.name]);
                slot.running = false;
            }
            (Some(_), 2) if !others_join => self.slots[at] = None,
            (Some(_), _) => {}
        }
    }

    fn create(&mut self, at: usize) {
        let (labelled, running) = (self.numbers.below(2) == 0, self.numbers.below(3) > 0);
        let other = self.numbers.below(SLOTS);
        let joined = self.slots[other]
            .as_ref()
            .filter(|own| running && own.running && own.joins.is_none());
        let network = joined.map_or_else(
            || "none".to_owned(),
            |own| format!("container:{}", own.container.name),
        );
        let joins = joined.map(|_| other);
        let verb: &[&str] = if running { &["run", "-d"] } else { &["create"] };
        let label = if labelled { "seen=yes" } else { "seen=no" };
        // Containers in one namespace share its ports.
        let port = format!("PORT={}", 8000 + at);
        let options = ["--network", &network, "-l", label, "-e", &port];
        let options = [&options[..], &["rollout-demo:v1-plain"]].concat();
        let container = Temporary::container(verb, &options);
        if !labelled {
            self.secret.push(container.name.clone());
        }
        self.slots[at] = Some(Slot {
            id: container.id(),
            container,
            labelled,
            running,
            joins,
        });
    }

    fn check(&self, proxy: &Daemon, context: &str) {
        let (_, list) = proxy.get("/containers/json");
        let all = list.as_array().expect("a list");
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let listed = |own: &Slot| own.labelled && own.running;
            let mut others = self.slots.iter().flatten();
            let joined = others.any(|own| own.joins == Some(at) && listed(own));
            let status = proxy.get(&format!("/containers/{}/json", slot.id)).0;
            let is_listed = all.iter().any(|own| own["Id"] == slot.id);
            assert_eq!(is_listed, listed(slot), "{context}: {list}");
            assert_eq!(
                status == 200,
                slot.labelled || joined,
                "{context}, slot {at}"
            );
        }
    }
}

#[tokio::test]
async fn through_random_changes_readers_learn_of_containers_with_the_label_alone() {
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = since_1970.as_nanos() as u64 | 1;
    let proxy = Daemon::start_with(&["--only", "seen=yes"]).await;
    let mut events = proxy.events();
    let mut changes = Changes {
        numbers: Numbers(seed),
        slots: [const { None }; SLOTS],
        secret: Vec::new(),
    };
    for number in 0..CHANGES {
        changes.make();
        changes.check(&proxy, &format!("seed {seed}, change {number}"));
    }
    let last = ["-l", "seen=yes", "rollout-demo:v1-plain"];
    let last = Temporary::container(&["run", "-d"], &last);
    let mut heard = String::new();
    while !heard.contains(&last.name) {
        assert!(events.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    let mut secret = changes.secret.iter();
    let leaked = secret.find(|name| heard.contains(name.as_str()));
    assert_eq!(leaked, None, "seed {seed}: {heard}");
}
