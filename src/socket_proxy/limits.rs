//! Limits for each peer: connections, event streams, and lines in the log.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

pub const CONNECTIONS: usize = 64;
/// Event streams of one peer.
pub const STREAMS: usize = 8;
/// Connections in total. With a connection to the engine for each, this stays below the usual limit of 1024 open files.
pub const ALL_CONNECTIONS: usize = 384;

#[derive(Clone)]
pub struct Quota {
    each: usize,
    all: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Counts as one until it is dropped.
pub struct Permit {
    peer: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Quota {
    /// A limit for each peer, and one for all together.
    pub fn new(each: usize, all: usize) -> Self {
        let taken = Arc::default();
        Self { each, all, taken }
    }

    /// Counts one more; `None` if a limit is reached.
    pub fn take(&self, peer: IpAddr) -> Option<Permit> {
        let mut taken = self.taken.lock().unwrap();
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let own = taken.entry(peer).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
        let taken = self.taken.clone();
        Some(Permit { peer, taken })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap();
        if let Some(own) = taken.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

/// Chooses the refusals to log: each peer and path once a minute.
#[derive(Default)]
pub struct RefusalLog {
    logged: HashMap<(IpAddr, String), Instant>,
}

impl RefusalLog {
    const EVERY: Duration = Duration::from_secs(60);
    const MOST: usize = 512;
    const LONGEST_PATH: usize = 200;

    /// The path to log, shortened; `None` if it was logged already, or if too much was.
    pub fn admit(&mut self, peer: IpAddr, path: &str) -> Option<String> {
        let now = Instant::now();
        let path: String = path.chars().take(Self::LONGEST_PATH).collect();
        let key = (peer, path.clone());
        if self.logged.len() >= Self::MOST || self.logged.contains_key(&key) {
            self.logged
                .retain(|_, logged| now.duration_since(*logged) < Self::EVERY);
        }
        if self.logged.len() >= Self::MOST || self.logged.contains_key(&key) {
            return None;
        }
        self.logged.insert(key, now);
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_peer_cannot_take_what_another_needs() {
        let quota = Quota::new(2, 3);
        let first: Vec<_> = (0..5).filter_map(|_| quota.take(peer(1))).collect();
        assert_eq!(first.len(), 2);
        let other = quota.take(peer(2));
        assert!(other.is_some());
        assert!(quota.take(peer(3)).is_none());
        drop(first);
        assert!(quota.take(peer(3)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_logged_once_a_minute_for_each_peer_and_path() {
        let mut log = RefusalLog::default();
        assert!(log.admit(peer(1), "/info").is_some());
        assert!(log.admit(peer(1), "/info").is_none());
        assert!(log.admit(peer(2), "/info").is_some());
        assert!(log.admit(peer(1), "/images/json").is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(log.admit(peer(1), "/info").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_paths_fills_neither_memory_nor_log() {
        let mut log = RefusalLog::default();
        let logged = (0..10_000).filter_map(|path| log.admit(peer(1), &format!("/{path}")));
        assert_eq!(logged.count(), RefusalLog::MOST);
        assert_eq!(log.logged.len(), RefusalLog::MOST);
    }
}
