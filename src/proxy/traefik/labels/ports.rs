//! Which of a replica's TCP ports Traefik sends to, and what is spoken on each. Pure.

use std::collections::BTreeMap;

use super::names::{Protocol, names, service_label};
use crate::{compose::exposed::Exposed, namespace::traffic::Protocol as Spoken};

/// Port → what is spoken on it: each service's labelled port, else the lowest exposed one (Traefik's
/// `pkg/provider/docker`, `getPort`). UDP has none.
pub fn routed(labels: &BTreeMap<String, String>, exposed: &[u16]) -> BTreeMap<u16, Spoken> {
    let mut ports = BTreeMap::new();
    let services = names(labels).services;
    for (protocol, service) in services.iter().filter(|(own, _)| *own != Protocol::Udp) {
        let Some(port) = server_port(labels, *protocol, service, exposed) else {
            continue;
        };
        let scheme = service_label(labels, *protocol, service, "loadbalancer.server.scheme");
        let spoken = match (protocol, scheme) {
            (Protocol::Http, Some("h2c")) => Spoken::H2c,
            (Protocol::Http, _) => Spoken::Http1,
            _ => Spoken::Stream,
        };
        // A port that several services share: the protocol that can be followed counts.
        let known = ports.entry(port).or_insert(spoken);
        if *known == Spoken::Stream {
            *known = spoken;
        }
    }
    ports
}

/// Whether Traefik speaks TLS to a service of a container with these labels.
pub fn tls(labels: &BTreeMap<String, String>) -> bool {
    let all = names(labels).services;
    let scheme = |own: &(Protocol, String)| {
        service_label(labels, own.0, &own.1, "loadbalancer.server.scheme") == Some("https")
    };
    all.iter().any(scheme)
}

/// The port of a container that Traefik sends to for one of its services.
pub fn server_port(
    labels: &BTreeMap<String, String>,
    protocol: Protocol,
    service: &str,
    exposed: &[u16],
) -> Option<u16> {
    let label = service_label(labels, protocol, service, "loadbalancer.server.port");
    let labelled = label.and_then(|text| text.parse().ok());
    labelled.or_else(|| exposed.iter().min().copied())
}

/// Why Traefik would not get through to a service, by the ports of its containers.
///
/// Without a label it takes the lowest port whatever its protocol, and leaves a container without any out (`getPort` in
/// `pkg/provider/docker/config.go`).
pub fn trap(labels: &BTreeMap<String, String>, exposed: &[Exposed]) -> Option<Trap> {
    let lowest = exposed.iter().map(|own| own.port).min();
    names(labels)
        .services
        .into_iter()
        .find_map(|(protocol, service)| {
            let given = |option| service_label(labels, protocol, &service, option).is_some();
            if given("loadbalancer.server.port") || given("loadbalancer.server.url") {
                return None;
            }
            let udp = protocol == Protocol::Udp;
            let fits = |own: &&Exposed| Some(own.port) == lowest && own.udp == udp;
            match exposed.iter().any(|own| fits(&own)) {
                true => None,
                false => Some(Trap {
                    label: format!(
                        "traefik.{}.services.{service}.loadbalancer.server.port",
                        protocol.word()
                    ),
                    taken: lowest.map(|port| Exposed { port, udp: !udp }),
                    meant: exposed
                        .iter()
                        .filter(|own| own.udp == udp)
                        .map(|own| own.port)
                        .min(),
                }),
            }
        })
}

/// A service whose label gives it one address for all its containers, whichever version they are
/// (`loadbalancer.server.url`, since Traefik 3.4): its name, and the address.
pub fn fixed_address(labels: &BTreeMap<String, String>) -> Option<(String, String)> {
    names(labels)
        .services
        .into_iter()
        .find_map(|(protocol, service)| {
            let url = service_label(labels, protocol, &service, "loadbalancer.server.url")?;
            Some((service.clone(), url.to_owned()))
        })
}

/// See [`trap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The label that leads out of it.
    pub label: String,
    /// The port that Traefik would take; `None` where there is none.
    pub taken: Option<Exposed>,
    /// The lowest port of the right protocol, where there is one.
    pub meant: Option<u16>,
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
    fn one_service_with_the_scheme_https_is_enough_for_tls() {
        let of = |scheme: &str| {
            let key = "traefik.http.services.a.loadBalancer.server.scheme".to_owned();
            let port = "traefik.http.services.b.loadbalancer.server.port".to_owned();
            tls(&[(key, scheme.to_owned()), (port, "80".to_owned())].into())
        };
        assert!(of("https") && !of("h2c"));
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
    fn the_lowest_port_of_all_is_a_trap_where_it_speaks_something_else() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |text: &str| text.to_owned();
            pairs
                .iter()
                .map(|(key, value)| (own(key), own(value)))
                .collect()
        };
        let exposed = |texts: &[&str]| -> Vec<Exposed> {
            texts.iter().flat_map(|text| Exposed::read(text)).collect()
        };
        let http = labels(&[("traefik.http.services.a.loadbalancer.sticky.cookie", "true")]);
        assert_eq!(trap(&http, &exposed(&["8080/tcp", "9000-9002"])), None);
        assert_eq!(trap(&http, &exposed(&["53/udp", "53/tcp"])), None);
        let fell = trap(&http, &exposed(&["53/udp", "8080"])).unwrap();
        assert_eq!(
            fell.label,
            "traefik.http.services.a.loadbalancer.server.port"
        );
        assert_eq!(
            fell.taken,
            Some(Exposed {
                port: 53,
                udp: true
            })
        );
        assert_eq!(fell.meant, Some(8080));
        let none = trap(&http, &[]).unwrap();
        assert_eq!((none.taken, none.meant), (None, None));
        let labelled = labels(&[("traefik.http.services.a.loadbalancer.server.port", "8080")]);
        assert_eq!(trap(&labelled, &exposed(&["53/udp"])), None);
        let both = labels(&[
            ("traefik.udp.routers.dns.entrypoints", "dns"),
            ("traefik.http.services.a.loadbalancer.server.port", "8080"),
        ]);
        assert_eq!(trap(&both, &exposed(&["53/udp", "8080"])), None);
        assert_eq!(
            trap(&both, &exposed(&["53/tcp", "54/udp"])).unwrap().meant,
            Some(54)
        );
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
