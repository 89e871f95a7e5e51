//! Where Traefik reaches a replica: the address, port and scheme that its Docker provider would use. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde_json::Value;

use super::{
    definition::Service,
    tree::{Object, take, text},
};
use crate::{
    error::{Error, Result},
    model::Replica,
    proxy::traefik::labels::{Protocol, is_label},
};

/// What decides which of a replica's networks is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The Docker provider's option `network`.
    pub network: Option<String>,
    /// The networks that the Traefiks in question are all in; `None` for the host's network, which reaches any.
    pub shared: Option<BTreeSet<String>>,
}

impl Reach {
    /// Another Traefik reads the same file: what both reach.
    pub fn meet(&mut self, other: &Self) {
        self.shared = match (self.shared.take(), &other.shared) {
            (Some(own), Some(other)) => Some(own.intersection(other).cloned().collect()),
            (own, other) => own.or(other.clone()),
        };
        self.network = self.network.take().or(other.network.clone());
    }

    /// By the label, else by the provider's option (Traefik's `pkg/provider/docker/config.go`, `getIPAddress`). Where
    /// Traefik would take any network, one that it shares.
    pub fn address(&self, replica: &Replica) -> Option<IpAddr> {
        let label = replica
            .labels
            .iter()
            .find(|(key, _)| is_label(key, "traefik.docker.network"))
            .map(|(_, network)| network);
        let named = label
            .filter(|network| !network.is_empty())
            .or(self.network.as_ref());
        if let Some(address) = named.and_then(|network| replica.endpoints.get(network)) {
            return Some(*address);
        }
        let reachable = |network: &&String| {
            let shared = self.shared.as_ref();
            shared.is_none_or(|shared| shared.contains(*network))
        };
        let mut networks = replica.endpoints.keys();
        let network = networks.find(reachable)?;
        replica.endpoints.get(network).copied()
    }
}

/// One server as the file has it; per-server options such as the weight stay.
pub fn server(
    replica: &Replica,
    protocol: Protocol,
    service: &Service,
    reach: &Reach,
) -> Result<Object> {
    let mut server = service.server.clone();
    if text(&server, "url").is_some() {
        return Err(Error::refused(format!(
            "{} names its server by a URL: all replicas would share it",
            replica.name
        ))
        .hint("use the labels loadbalancer.server.port and .scheme instead of .url"));
    }
    let labelled = take(&mut server, "port")
        .as_ref()
        .and_then(Value::as_str)
        .map(str::to_owned);
    let scheme = take(&mut server, "scheme");
    let scheme = scheme
        .as_ref()
        .and_then(Value::as_str)
        .filter(|scheme| !scheme.is_empty())
        .unwrap_or("http");
    let port = match labelled.filter(|port| !port.is_empty()) {
        Some(text) => text.parse().ok(),
        None => replica.lowest_port,
    };
    let port = port.ok_or_else(|| {
        Error::refused(format!(
            "{} has no port that Traefik could use",
            replica.name
        ))
        .hint("add the label traefik.http.services.NAME.loadbalancer.server.port")
    })?;
    let address = reach.address(replica).ok_or_else(|| {
        Error::failed(format!(
            "{} has no address in a network of Traefik's",
            replica.name
        ))
    })?;
    let authority = SocketAddr::new(address, port);
    match protocol {
        Protocol::Http => server.insert("url".to_owned(), format!("{scheme}://{authority}").into()),
        Protocol::Tcp | Protocol::Udp => {
            server.insert("address".to_owned(), authority.to_string().into())
        }
    };
    Ok(server)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        model::{Health, Run},
        plan::simulator,
    };

    fn replica() -> Replica {
        let mut replica = simulator::replica("web-1", None, Run::Running, Health::None);
        replica.endpoints = BTreeMap::from([
            ("back".to_owned(), "10.0.1.2".parse().unwrap()),
            ("front".to_owned(), "10.0.2.2".parse().unwrap()),
            ("six".to_owned(), "fd00::2".parse().unwrap()),
        ]);
        replica.lowest_port = Some(8080);
        replica
    }

    fn reach(network: Option<&str>, shared: &[&str]) -> Reach {
        Reach {
            network: network.map(str::to_owned),
            shared: (!shared.is_empty())
                .then(|| shared.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    fn service(pairs: &[(&str, &str)]) -> Service {
        let server = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()));
        Service {
            server: server.collect(),
            ..Service::default()
        }
    }

    #[test]
    fn the_label_wins_over_the_providers_network_and_that_over_a_shared_one() {
        let address = |replica: &Replica, reach: Reach| reach.address(replica).unwrap().to_string();
        let mut own = replica();
        assert_eq!(address(&own, reach(None, &["front"])), "10.0.2.2");
        assert_eq!(address(&own, reach(None, &[])), "10.0.1.2");
        assert_eq!(address(&own, reach(Some("back"), &["front"])), "10.0.1.2");
        own.labels
            .insert("traefik.docker.network".to_owned(), "six".to_owned());
        assert_eq!(address(&own, reach(Some("back"), &["front"])), "fd00::2");
        assert_eq!(reach(None, &["other"]).address(&replica()), None);
    }

    #[test]
    fn a_server_is_what_the_docker_provider_would_make_of_it() {
        let front = reach(None, &["front"]);
        let of = |protocol, pairs: &[(&str, &str)]| {
            Value::Object(server(&replica(), protocol, &service(pairs), &front).unwrap())
        };
        assert_eq!(
            of(Protocol::Http, &[]),
            json!({"url": "http://10.0.2.2:8080"})
        );
        assert_eq!(
            of(
                Protocol::Http,
                &[("Port", "81"), ("scheme", "h2c"), ("weight", "3")]
            ),
            json!({"url": "h2c://10.0.2.2:81", "weight": "3"})
        );
        assert_eq!(
            of(Protocol::Tcp, &[("port", "5432"), ("tls", "true")]),
            json!({"address": "10.0.2.2:5432", "tls": "true"})
        );
        let six = reach(Some("six"), &[]);
        let v6 = server(&replica(), Protocol::Http, &service(&[]), &six).unwrap();
        assert_eq!(text(&v6, "url"), Some("http://[fd00::2]:8080"));
    }

    #[test]
    fn what_has_no_port_or_a_url_of_its_own_is_refused() {
        let mut own = replica();
        own.lowest_port = None;
        let front = reach(None, &["front"]);
        let refused = server(&own, Protocol::Http, &service(&[]), &front).unwrap_err();
        assert_eq!(refused.message, "web-1 has no port that Traefik could use");
        let fixed = service(&[("url", "http://elsewhere")]);
        assert!(server(&own, Protocol::Http, &fixed, &front).is_err());
    }
}
