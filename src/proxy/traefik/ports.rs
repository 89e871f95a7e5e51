//! Which of a replica's TCP ports Traefik sends to, and what is spoken on each. Pure.

use std::collections::BTreeMap;

use super::names::{Protocol, names, service_label};
use crate::namespace::traffic::Protocol as Spoken;

/// Port → what is spoken on it: each service's labelled port, else the lowest exposed one (Traefik's
/// `pkg/provider/docker`, `getPort`). UDP has none.
pub fn routed(labels: &BTreeMap<String, String>, exposed: &[u16]) -> BTreeMap<u16, Spoken> {
    let mut ports = BTreeMap::new();
    let services = names(labels).services;
    for (protocol, service) in services.iter().filter(|(own, _)| *own != Protocol::Udp) {
        let label = |option: &str| service_label(labels, *protocol, service, option);
        let labelled = label("loadbalancer.server.port").and_then(|text| text.parse().ok());
        let Some(port) = labelled.or_else(|| exposed.iter().min().copied()) else {
            continue;
        };
        let spoken = match (protocol, label("loadbalancer.server.scheme")) {
            (Protocol::Http, Some("h2c")) => Spoken::H2c,
            (Protocol::Http, _) => Spoken::Http1,
            _ => Spoken::Stream,
        };
        // A port that several services share: whoever can be understood is understood.
        let known = ports.entry(port).or_insert(spoken);
        if *known == Spoken::Stream {
            *known = spoken;
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)], exposed: &[u16]) -> Vec<(u16, Spoken)> {
        let labels = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        routed(&labels.collect(), exposed).into_iter().collect()
    }

    #[test]
    fn a_labelled_port_counts_and_else_the_lowest_exposed_one() {
        let port = "traefik.http.services.a.loadBalancer.server.port";
        assert_eq!(of(&[(port, "8080")], &[80]), [(8080, Spoken::Http1)]);
        let rule = ("traefik.http.routers.a.rule", "Host(`a`)");
        assert_eq!(of(&[rule], &[443, 80]), [(80, Spoken::Http1)]);
        assert_eq!(of(&[rule], &[]), []);
    }

    #[test]
    fn each_port_speaks_what_its_own_service_says() {
        let labels = [
            ("traefik.http.services.web.loadbalancer.server.port", "80"),
            ("traefik.tcp.services.db.loadbalancer.server.port", "5432"),
            ("traefik.http.services.rpc.loadbalancer.server.port", "9000"),
            (
                "traefik.http.services.rpc.loadbalancer.server.scheme",
                "h2c",
            ),
            ("traefik.udp.services.dns.loadbalancer.server.port", "53"),
        ];
        let spoken = [
            (80, Spoken::Http1),
            (5432, Spoken::Stream),
            (9000, Spoken::H2c),
        ];
        assert_eq!(of(&labels, &[80]), spoken);
    }

    #[test]
    fn a_port_that_http_and_tcp_share_is_read_as_http() {
        let labels = [
            ("traefik.http.services.a.loadbalancer.server.port", "80"),
            ("traefik.tcp.services.b.loadbalancer.server.port", "80"),
        ];
        assert_eq!(of(&labels, &[]), [(80, Spoken::Http1)]);
    }
}
