//! Decides from the listening sockets whether the routed ports of a new replica can be reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Docker's DNS resolver listens here in every container of a user-defined network.
const DOCKER_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// A line of `probe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Ports that accept connections on a network address, in order.
    pub listening: Vec<u16>,
    /// Ports that accept connections from inside the container only, in order.
    pub loopback_only: Vec<u16>,
    /// Whether the last try succeeded on every routed port.
    pub answers: bool,
    /// The reason if not, else what answered; one line.
    pub detail: String,
    /// The result of the last try of every check: what passed, or why one failed.
    pub checks: Result<String, String>,
}

/// The listening sockets of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners(Vec<SocketAddr>);

impl Listeners {
    /// Leaves out Docker's resolver.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        let ours = |address: &SocketAddr| address.ip() != DOCKER_DNS;
        Self(addresses.into_iter().filter(ours).collect())
    }

    /// The ports open on a network address, and those open on loopback only.
    pub fn ports(&self) -> (Vec<u16>, Vec<u16>) {
        let ports = |inside: bool| -> BTreeSet<u16> {
            let there = self
                .0
                .iter()
                .filter(|address| address.ip().is_loopback() == inside);
            there.map(SocketAddr::port).collect()
        };
        let (inside, outside) = (ports(true), ports(false));
        let loopback_only = inside.difference(&outside).copied().collect();
        (outside.into_iter().collect(), loopback_only)
    }

    /// The address to try for each of `routed`, or for the first open port if none is given. `own` are this namespace's
    /// network addresses, the preferred one first. The error says why there is nothing to try.
    pub fn targets(&self, routed: &[u16], own: &[IpAddr]) -> Result<Vec<SocketAddr>, String> {
        let (open, loopback_only) = self.ports();
        let wanted = match (routed, open.first()) {
            ([], Some(first)) => vec![*first],
            ([], None) => return Err(nothing_open(&loopback_only)),
            _ => routed.to_vec(),
        };
        wanted
            .into_iter()
            .map(|port| self.target(port, own, loopback_only.contains(&port)))
            .collect()
    }

    fn target(&self, port: u16, own: &[IpAddr], loopback_only: bool) -> Result<SocketAddr, String> {
        if loopback_only {
            return Err(loopback_alone(port));
        }
        let mut bound = self
            .0
            .iter()
            .filter(|address| address.port() == port && !address.ip().is_loopback())
            .map(SocketAddr::ip)
            .peekable();
        if bound.peek().is_none() {
            return Err(format!("port {port} is not open yet"));
        }
        let reached = |bound: IpAddr| {
            own.iter()
                .find(|own| bound == **own || bound.is_unspecified() && accepts(bound, **own))
        };
        bound
            .find_map(reached)
            .map(|own| SocketAddr::new(*own, port))
            .ok_or_else(|| format!("port {port} is open, but the container has no address for it"))
    }
}

/// A socket bound to `::` accepts IPv4 too, unless it is set not to; the try shows that.
fn accepts(unspecified: IpAddr, own: IpAddr) -> bool {
    unspecified.is_ipv6() || own.is_ipv4()
}

fn nothing_open(loopback_only: &[u16]) -> String {
    match loopback_only.first() {
        Some(port) => loopback_alone(*port),
        None => "no port is open yet".into(),
    }
}

fn loopback_alone(port: u16) -> String {
    format!("port {port} is open on loopback alone; let the application listen on 0.0.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(addresses: &[&str]) -> Listeners {
        Listeners::new(addresses.iter().map(|one| one.parse().unwrap()).collect())
    }

    fn own() -> Vec<IpAddr> {
        vec!["172.18.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]
    }

    #[test]
    fn a_port_that_is_open_on_both_is_not_loopback_only_and_dockers_resolver_is_left_out() {
        let found = listeners(&[
            "127.0.0.11:40001",
            "127.0.0.1:80",
            "0.0.0.0:80",
            "[::1]:9000",
        ]);
        assert_eq!(found.ports(), (vec![80], vec![9000]));
    }

    #[test]
    fn every_routed_port_is_tried_on_a_network_address() {
        let found = listeners(&["0.0.0.0:80", "[::]:81", "172.18.0.5:82"]);
        let targets = found.targets(&[80, 81, 82], &own()).unwrap();
        let expected = ["172.18.0.5:80", "172.18.0.5:81", "172.18.0.5:82"];
        assert_eq!(targets, expected.map(|one| one.parse().unwrap()));
    }

    #[test]
    fn without_a_routed_port_the_first_open_one_is_tried() {
        let found = listeners(&["0.0.0.0:9000", "0.0.0.0:3000"]);
        assert_eq!(
            found.targets(&[], &own()).unwrap(),
            ["172.18.0.5:3000".parse().unwrap()]
        );
        assert_eq!(
            listeners(&[]).targets(&[], &own()).unwrap_err(),
            "no port is open yet"
        );
    }

    #[test]
    fn an_application_that_is_bound_to_loopback_is_reported() {
        let expected = "port 80 is open on loopback alone; let the application listen on 0.0.0.0";
        let found = listeners(&["127.0.0.1:80"]);
        assert_eq!(found.targets(&[80], &own()).unwrap_err(), expected);
        assert_eq!(found.targets(&[], &own()).unwrap_err(), expected);
        assert_eq!(
            found.targets(&[81], &own()).unwrap_err(),
            "port 81 is not open yet"
        );
    }

    #[test]
    fn a_container_without_a_network_has_nothing_to_try() {
        assert_eq!(
            listeners(&["0.0.0.0:80"]).targets(&[80], &[]).unwrap_err(),
            "port 80 is open, but the container has no address for it"
        );
    }

    #[test]
    fn an_ipv6_address_is_used_where_there_is_no_other() {
        let only_six = [own()[1]];
        assert_eq!(
            listeners(&["[::]:80"]).targets(&[80], &only_six).unwrap(),
            ["[fd00::5]:80".parse().unwrap()]
        );
    }
}
