//! The generation that a reader sees: that of its own last list, so that it never sees half a change. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::overlay::{
    Overlay,
    control::{self, Container},
};

/// The number of a connection in this process.
pub type ConnectionId = u64;

/// The readers that are kept in total, and from one address. A further one replaces the one whose last list is oldest.
const MAX_READERS: usize = 256;
const MAX_READERS_OF_ADDRESS: usize = 16;

/// A reader, as HTTP identifies it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// Without a port.
    pub address: IpAddr,
    /// Its `User-Agent` header, shortened.
    pub user_agent: String,
}

/// What the answer to a list was made from.
#[derive(Debug, Default)]
pub struct List {
    pub overlay: Arc<Overlay>,
    /// Ids of containers whose network a listed one joins: Traefik inspects them to find its address.
    pub joined: BTreeSet<String>,
}

#[derive(Clone)]
struct Listed {
    order: u64,
    connection: ConnectionId,
    list: Arc<List>,
}

#[derive(Default)]
struct Entry {
    newest: Option<Listed>,
    streams: usize,
    /// The container at the reader's address. It keeps the address while a stream is open.
    container: Option<Container>,
}

/// The last list of every connection and of every reader.
#[derive(Default)]
pub struct Snapshots {
    lists: u64,
    /// Open connections that have listed.
    connections: HashMap<ConnectionId, Listed>,
    readers: BTreeMap<Reader, Entry>,
}

impl Snapshots {
    pub fn listed(&mut self, connection: ConnectionId, reader: &Reader, list: List) {
        self.lists += 1;
        let listed = Listed {
            order: self.lists,
            connection,
            list: Arc::new(list),
        };
        self.connections.insert(connection, listed.clone());
        self.entry(reader).newest = Some(listed);
    }

    /// The list that a request on this connection belongs to; `None` means the current generation.
    ///
    /// A connection that has listed uses its own list. It uses the newest list of the same address and `User-Agent` if it
    /// has not listed, or if that list is newer and its connection is closed: the reader then continues it here.
    pub fn seen(&self, connection: ConnectionId, reader: &Reader) -> Option<Arc<List>> {
        let newest = self
            .readers
            .get(reader)
            .and_then(|entry| entry.newest.as_ref());
        let listed = match (self.connections.get(&connection), newest) {
            (Some(own), Some(newest))
                if newest.order > own.order
                    && !self.connections.contains_key(&newest.connection) =>
            {
                newest
            }
            (Some(own), _) => own,
            (None, newest) => newest?,
        };
        Some(listed.list.clone())
    }

    pub fn closed(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// An event stream has begun. Its container is looked up again: a stream of a container that had the address before can
    /// still look open.
    pub fn stream_opened(&mut self, reader: &Reader) {
        let entry = self.entry(reader);
        entry.streams += 1;
        entry.container = None;
    }

    /// An event stream has ended.
    pub fn stream_closed(&mut self, reader: &Reader) {
        if let Some(entry) = self.readers.get_mut(reader) {
            entry.streams = entry.streams.saturating_sub(1);
            if entry.streams == 0 {
                entry.container = None;
            }
        }
    }

    /// The generation of a reader's last list, on any connection.
    pub fn generation(&self, reader: &Reader) -> Option<u64> {
        let newest = self.readers.get(reader)?.newest.as_ref()?;
        Some(newest.list.overlay.generation)
    }

    /// Whether a reader has an open event stream and no container yet.
    pub fn has_unknown(&self) -> bool {
        let unknown = |entry: &Entry| entry.streams > 0 && entry.container.is_none();
        self.readers.values().any(unknown)
    }

    /// Notes the container of each reader that has an open event stream, by address.
    pub fn identify(&mut self, owners: &HashMap<IpAddr, Container>) {
        for (reader, entry) in &mut self.readers {
            if entry.streams > 0 {
                entry.container = owners.get(&reader.address).cloned();
            }
        }
    }

    /// Every reader that is kept.
    pub fn readers(&self) -> Vec<control::Reader> {
        let all = self.readers.iter().map(|(reader, entry)| control::Reader {
            address: reader.address,
            user_agent: reader.user_agent.clone(),
            generation: entry
                .newest
                .as_ref()
                .map(|listed| listed.list.overlay.generation),
            streams: entry.streams,
            container: entry.container.clone(),
        });
        all.collect()
    }

    fn entry(&mut self, reader: &Reader) -> &mut Entry {
        if !self.readers.contains_key(reader) {
            self.make_room(reader.address);
        }
        self.readers.entry(reader.clone()).or_default()
    }

    fn make_room(&mut self, address: IpAddr) {
        let of_address = |reader: &Reader| reader.address == address;
        let neighbours = self.readers.keys().filter(|reader| of_address(reader));
        let crowded = neighbours.count() >= MAX_READERS_OF_ADDRESS;
        if !crowded && self.readers.len() < MAX_READERS {
            return;
        }
        let oldest = self
            .readers
            .iter()
            .filter(|(known, entry)| entry.streams == 0 && (!crowded || of_address(known)))
            .min_by_key(|(_, entry)| entry.newest.as_ref().map(|listed| listed.order));
        if let Some(oldest) = oldest.map(|(known, _)| known.clone()) {
            self.readers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(agent: &str) -> Reader {
        Reader {
            address: [127, 0, 0, 1].into(),
            user_agent: agent.to_owned(),
        }
    }

    fn generation(generation: u64) -> List {
        let overlay = Overlay {
            generation,
            ..Overlay::default()
        };
        List {
            overlay: Arc::new(overlay),
            ..List::default()
        }
    }

    fn seen(snapshots: &Snapshots, connection: ConnectionId, agent: &str) -> Option<u64> {
        let list = snapshots.seen(connection, &reader(agent))?;
        Some(list.overlay.generation)
    }

    #[test]
    fn a_connection_sees_the_generation_of_its_own_last_list() {
        let mut snapshots = Snapshots::default();
        snapshots.listed(1, &reader("a"), generation(4));
        snapshots.listed(2, &reader("a"), generation(5));
        assert_eq!(seen(&snapshots, 1, "a"), Some(4));
        assert_eq!(seen(&snapshots, 2, "a"), Some(5));
    }

    #[test]
    fn a_connection_that_has_not_listed_sees_the_last_list_of_its_address_and_user_agent() {
        let mut snapshots = Snapshots::default();
        snapshots.listed(1, &reader("a"), generation(4));
        assert_eq!(seen(&snapshots, 9, "a"), Some(4));
        assert_eq!(seen(&snapshots, 9, "b"), None);
    }

    #[test]
    fn a_reader_whose_listing_connection_broke_keeps_its_list_on_an_older_connection() {
        let mut snapshots = Snapshots::default();
        snapshots.listed(1, &reader("a"), generation(4));
        snapshots.listed(2, &reader("a"), generation(5));
        snapshots.closed(2);
        assert_eq!(seen(&snapshots, 1, "a"), Some(5));
        snapshots.listed(1, &reader("a"), generation(6));
        assert_eq!(seen(&snapshots, 1, "a"), Some(6));
    }

    #[test]
    fn a_list_outlives_its_connection_for_the_reader() {
        let mut snapshots = Snapshots::default();
        snapshots.listed(1, &reader("a"), generation(4));
        snapshots.closed(1);
        assert_eq!(seen(&snapshots, 2, "a"), Some(4));
        assert_eq!(snapshots.generation(&reader("a")), Some(4));
    }

    #[test]
    fn open_streams_are_counted_for_each_reader() {
        let mut snapshots = Snapshots::default();
        snapshots.stream_opened(&reader("a"));
        snapshots.stream_opened(&reader("a"));
        snapshots.stream_closed(&reader("a"));
        assert_eq!(snapshots.readers()[0].streams, 1);
    }

    #[test]
    fn the_container_of_a_reader_is_looked_up_once_for_as_long_as_a_stream_is_open() {
        let mut snapshots = Snapshots::default();
        let traefik = reader("Traefik");
        let container = Container {
            id: "1f".to_owned(),
            name: "edge".to_owned(),
        };
        let owners = HashMap::from([(traefik.address, container.clone())]);
        snapshots.listed(1, &traefik, generation(1));
        assert!(!snapshots.has_unknown(), "it has no stream");
        snapshots.stream_opened(&traefik);
        assert!(snapshots.has_unknown());
        snapshots.identify(&owners);
        assert!(!snapshots.has_unknown());
        assert_eq!(snapshots.readers()[0].container, Some(container));
        // Without an open stream another container can get the address.
        snapshots.stream_closed(&traefik);
        assert_eq!(snapshots.readers()[0].container, None);
        snapshots.stream_opened(&traefik);
        assert!(snapshots.has_unknown());
        // A second stream can be another container's, while the first one still looks open.
        snapshots.identify(&owners);
        snapshots.stream_opened(&traefik);
        snapshots.stream_closed(&traefik);
        assert!(snapshots.has_unknown());
    }

    #[test]
    fn a_peer_that_invents_user_agents_pushes_out_neither_open_readers_nor_other_addresses() {
        let mut snapshots = Snapshots::default();
        let other = Reader {
            address: [127, 0, 0, 2].into(),
            user_agent: "Traefik 3.7".to_owned(),
        };
        snapshots.listed(1, &other, generation(1));
        snapshots.stream_opened(&reader("open"));
        for name in 0..10_000 {
            snapshots.listed(2, &reader(&name.to_string()), generation(1));
        }
        assert!(snapshots.readers().len() <= MAX_READERS_OF_ADDRESS + 2);
        assert_eq!(snapshots.generation(&other), Some(1));
        assert_eq!(
            snapshots
                .readers()
                .iter()
                .filter(|r| r.streams == 1)
                .count(),
            1
        );
    }
}
