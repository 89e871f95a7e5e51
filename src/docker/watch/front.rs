//! Reports stops and starts of Traefik and the socket proxy during a rollout.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::event::Events;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Traefik,
    SocketProxy,
}

/// The containers in front of a service, by name: a recreated one has another id.
#[derive(Default)]
pub struct Front {
    roles: HashMap<String, Role>,
    stopped: HashMap<String, Instant>,
    events: Events,
}

impl Front {
    pub fn new(containers: Vec<(String, Role)>, events: Events) -> Self {
        Self {
            roles: containers.into_iter().collect(),
            stopped: HashMap::new(),
            events,
        }
    }

    /// Takes one event of a container.
    pub(super) fn record(&mut self, name: &str, action: &str) {
        let Some(role) = self.roles.get(name) else {
            return;
        };
        match action {
            "die" => {
                self.stopped.insert(name.to_owned(), Instant::now());
                self.events.notice(stopped(*role, name));
            }
            "start" => {
                let since = self.stopped.remove(name);
                self.events
                    .notice(started(*role, name, since.map(|since| since.elapsed())));
            }
            _ => {}
        }
    }
}

fn stopped(role: Role, name: &str) -> String {
    match role {
        Role::Traefik => format!(
            "Traefik {name} stopped: requests through it fail until it runs again, whichever version is live"
        ),
        Role::SocketProxy => format!(
            "the socket proxy {name} stopped: Traefik keeps its last configuration until the socket proxy runs again"
        ),
    }
}

fn started(role: Role, name: &str, after: Option<Duration>) -> String {
    let what = match role {
        Role::Traefik => "Traefik",
        Role::SocketProxy => "the socket proxy",
    };
    let after = after.map_or_else(String::new, |after| {
        format!(" after {:.1} s", after.as_secs_f64())
    });
    format!("{what} {name} was started again{after}")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::SystemTime,
    };

    use super::*;
    use crate::event::{Event, Scope, Sink};

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Sink for Recorder {
        fn event(&mut self, _: SystemTime, _: &Scope, event: &Event) {
            if let Event::Notice { text } = event {
                self.0.lock().unwrap().push(text.clone());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_restarts_of_containers_in_front_are_reported_with_their_length() {
        let recorder = Recorder::default();
        let names = [("edge", Role::Traefik), ("sp", Role::SocketProxy)];
        let names = names.map(|(name, role)| (name.to_owned(), role)).to_vec();
        let mut front = Front::new(names, Events::new(vec![Box::new(recorder.clone())]));
        front.record("other", "die");
        front.record("edge", "kill");
        front.record("edge", "die");
        tokio::time::advance(Duration::from_millis(1500)).await;
        front.record("edge", "start");
        front.record("sp", "die");
        let notices = recorder.0.lock().unwrap().join("\n");
        let lines: Vec<&str> = notices.lines().collect();
        assert_eq!(lines.len(), 3, "{notices}");
        assert!(lines[0].starts_with("Traefik edge stopped"), "{notices}");
        assert_eq!(lines[1], "Traefik edge was started again after 1.5 s");
        assert!(
            lines[2].starts_with("the socket proxy sp stopped"),
            "{notices}"
        );
    }
}
