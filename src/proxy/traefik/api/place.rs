//! The place of a server, as Traefik writes it: an address or a name, and a port. Pure.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::model::Replica;

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub address: IpAddr,
    /// Its port, where Traefik says one.
    pub port: Option<u16>,
}

impl Place {
    /// Whether it is one of a replica: an address of its own, or a port of it that is published.
    pub fn is_of(&self, replica: &Replica) -> bool {
        let published = |port| {
            let place = SocketAddr::new(self.address, port);
            replica.published.contains(&place)
        };
        replica.addresses.contains(&self.address) || self.port.is_some_and(published)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// The place in `http://10.0.0.2:80`, `h2c://[fe80::1]:80` or `10.0.0.2:80`; a name is none, and neither is the empty
/// URL of a container that is not ready (`allowEmptyServices`).
pub fn place_of(server: &str) -> Option<Place> {
    let (host, port) = host_and_port(server)?;
    Some(Place {
        address: host.parse().ok()?,
        port,
    })
}

/// The host, IPv6 without brackets, and the port of a URL or of `host:port`.
pub fn host_and_port(server: &str) -> Option<(&str, Option<u16>)> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    Some((host, port.and_then(|port| port.parse().ok())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn place(text: &str) -> Place {
        place_of(text).unwrap()
    }

    #[test]
    fn the_place_of_a_server_is_found_in_every_form_that_traefik_writes() {
        for (text, written) in [
            ("http://10.0.0.2:80", "10.0.0.2:80"),
            ("h2c://[fd00::1]:8080/", "[fd00::1]:8080"),
            ("10.0.0.3:5432", "10.0.0.3:5432"),
            ("http://10.0.0.4/", "10.0.0.4"),
        ] {
            assert_eq!(place(text).to_string(), written, "{text}");
        }
        for text in ["http://name:80", ""] {
            assert_eq!(place_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_published_port_is_its_replicas_own_and_its_neighbours_is_not() {
        let mut replica = crate::plan::simulator::old("a");
        replica.addresses = vec!["10.0.0.2".parse().unwrap()];
        replica.published = ["172.17.0.1:32768".parse().unwrap()].into();
        assert!(place("http://10.0.0.2:80").is_of(&replica));
        assert!(place("http://172.17.0.1:32768").is_of(&replica));
        assert!(!place("http://172.17.0.1:32769").is_of(&replica));
    }

    proptest! {
        #[test]
        fn the_place_of_any_server_reads_back(text in mutated_text("h2c://[fd00::1]:8080/x")) {
            if let Some(place) = place_of(&text).filter(|place| place.port.is_some()) {
                prop_assert_eq!(place_of(&place.to_string()), Some(place));
            }
        }
    }
}
