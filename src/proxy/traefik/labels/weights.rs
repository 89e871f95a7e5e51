//! The weights of the servers that labels define, and why some services cannot have them. Pure.

use std::collections::BTreeMap;

use super::names::{Protocol, names, service_label};

type Labels = BTreeMap<String, String>;

const WEIGHT: &str = "loadbalancer.server.weight";
const STRATEGY: &str = "loadbalancer.strategy";
/// The strategy of Traefik that follows weights, and its default.
const ROUND_ROBIN: &str = "wrr";

/// The labels that give a container with these labels a weight in each of its services.
pub fn weight_labels(labels: &Labels, weight: u32) -> Labels {
    let services = names(labels).services.into_iter();
    let http = services.filter(|(protocol, _)| *protocol == Protocol::Http);
    let label = |name| format!("traefik.http.services.{name}.{WEIGHT}");
    http.map(|(_, name)| (label(name), weight.to_string()))
        .collect()
}

/// The weight of a service's server that the labels set.
pub fn weight_of(labels: &Labels, service: &str) -> Option<u32> {
    service_label(labels, Protocol::Http, service, WEIGHT)?
        .parse()
        .ok()
}

/// The weight in labels that are nothing but those of [`weight_labels`].
pub fn set_weight(labels: &Labels) -> Option<u32> {
    let mut weights = labels.iter().filter(|(key, _)| key.ends_with(WEIGHT));
    weights.next()?.1.parse().ok()
}

/// Whether a container with these labels has a service of TCP or UDP: Traefik has weights for HTTP alone.
pub fn has_streams(labels: &Labels) -> bool {
    let services = names(labels).services;
    services.iter().any(|own| own.0 != Protocol::Http)
}

/// Why a container with these labels cannot get weights.
pub fn refusal(labels: &Labels) -> Option<String> {
    let services = names(labels).services;
    services.iter().find_map(|(protocol, name)| {
        if service_label(labels, *protocol, name, WEIGHT).is_some() {
            let label = format!("traefik.http.services.{name}.{WEIGHT}");
            return Some(format!("it has a weight of its own by the label {label}"));
        }
        let strategy = service_label(labels, *protocol, name, STRATEGY)?;
        (!strategy.eq_ignore_ascii_case(ROUND_ROBIN)).then(|| {
            format!("the shares of traffic are those of the strategy {ROUND_ROBIN}, and service {name} has {strategy}")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::labels_of_web as labels;

    #[test]
    fn each_service_of_the_labels_or_else_the_default_one_gets_the_weight() {
        let rule = ("traefik.http.routers.web.rule", "Host(`a`)");
        let given = |pairs: &[(&str, &str)]| -> Vec<String> {
            let all = weight_labels(&labels(pairs), 9);
            assert!(all.values().all(|weight| weight == "9"));
            all.into_keys().collect()
        };
        assert_eq!(
            given(&[rule]),
            ["traefik.http.services.web-shop.loadbalancer.server.weight"]
        );
        let ports =
            ["A", "b"].map(|name| format!("traefik.http.services.{name}.loadbalancer.server.port"));
        assert_eq!(
            given(&[rule, (&ports[0], "80"), (&ports[1], "81")]),
            [
                "traefik.http.services.A.loadbalancer.server.weight",
                "traefik.http.services.b.loadbalancer.server.weight"
            ]
        );
    }

    #[test]
    fn own_weights_and_other_strategies_are_refused_and_streams_are_told_apart() {
        let refused = |pairs: &[(&str, &str)]| refusal(&labels(pairs)).unwrap_or_default();
        let http = ("traefik.http.routers.web.rule", "Host(`a`)");
        let tcp = ("traefik.tcp.routers.db.rule", "HostSNI(`*`)");
        let udp = ("traefik.udp.services.dns.loadbalancer.server.port", "53");
        assert_eq!(refused(&[http]), "");
        for (pairs, has) in [(&[http][..], false), (&[tcp], true), (&[http, udp], true)] {
            assert_eq!(has_streams(&labels(pairs)), has, "{pairs:?}");
        }
        let own = refused(&[("traefik.http.services.A.LoadBalancer.server.weight", "3")]);
        assert!(
            own.contains("traefik.http.services.A.loadbalancer.server.weight"),
            "{own}"
        );
        let strategy = |name| refused(&[("traefik.http.services.a.loadbalancer.strategy", name)]);
        assert!(strategy("p2c").contains("has p2c"));
        assert_eq!(strategy("wrr"), "");
    }
}
