//! The health checks that a container's labels give to Traefik (`loadbalancer.healthcheck`), and how a rollout asks the
//! same before Traefik does. Pure.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{
    names::{Protocol, is_false, names, service_label, service_labels},
    ports::server_port,
};
use crate::{
    compose::duration,
    namespace::check::{Ask, Check, Http},
    proxy::ServiceCheck,
};

/// Where the options of a check are.
const HEALTHCHECK: &str = "loadbalancer.healthcheck.";
/// Traefik's defaults (`pkg/config/dynamic`, `DefaultHealthCheckInterval` and `DefaultHealthCheckTimeout`).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);

/// The check of each service of a container that has one. `exposed` are the container's TCP ports.
pub fn checks(labels: &BTreeMap<String, String>, exposed: &[u16]) -> Vec<ServiceCheck> {
    let services = names(labels).services.into_iter();
    services
        .filter_map(|(protocol, service)| {
            let options = Options {
                labels,
                protocol,
                service: &service,
            };
            let server = server_port(labels, protocol, &service, exposed);
            options.check(server)
        })
        .collect()
}

/// The labels of one service.
struct Options<'a> {
    labels: &'a BTreeMap<String, String>,
    protocol: Protocol,
    service: &'a str,
}

impl<'a> Options<'a> {
    fn check(&self, server: Option<u16>) -> Option<ServiceCheck> {
        let all = service_labels(self.labels, self.protocol, self.service, HEALTHCHECK);
        let all: Vec<(&str, &str)> = all.collect();
        if all.is_empty() {
            return None;
        }
        let label = self.label(&all);
        let timeout = self.duration("timeout", TIMEOUT);
        let ask = self.port(server).and_then(|port| {
            let ask = match self.protocol {
                Protocol::Http => self.http(port)?,
                Protocol::Tcp => self.tcp()?,
                Protocol::Udp => return Err("Traefik knows no check for UDP".to_owned()),
            };
            Ok(Check {
                source: label.clone(),
                port,
                timeout,
                ask,
            })
        });
        Some(ServiceCheck {
            interval: self.duration("interval", INTERVAL),
            timeout,
            label,
            ask,
        })
    }

    /// What the check is called in a message: the option that says most, and no value that may be secret.
    fn label(&self, all: &[(&str, &str)]) -> String {
        let protocol = self.protocol.word();
        let begin = format!("traefik.{protocol}.services.{}.", self.service);
        let telling = ["path", "mode", "port"].into_iter().find_map(|name| {
            let mut all = all.iter();
            all.find(|(own, _)| own.eq_ignore_ascii_case(name))
        });
        match telling {
            Some((name, value)) => format!("{begin}{HEALTHCHECK}{name}={value}"),
            None => format!("{begin}{}", HEALTHCHECK.trim_end_matches('.')),
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let name = format!("{HEALTHCHECK}{name}");
        service_label(self.labels, self.protocol, self.service, &name)
    }

    fn of_server(&self, name: &str) -> Option<&'a str> {
        service_label(self.labels, self.protocol, self.service, name)
    }

    /// Nothing below zero.
    fn duration(&self, name: &str, default: Duration) -> Duration {
        let read = duration::of_traefik(self.get(name).unwrap_or_default());
        read.filter(|read| !read.is_zero()).unwrap_or(default)
    }

    fn port(&self, server: Option<u16>) -> Result<u16, String> {
        let own = match self.get("port") {
            None | Some("0") => None,
            Some(text) => Some(text.parse().map_err(|_| format!("{text:?} is no port"))?),
        };
        let port = own.or(server);
        port.ok_or_else(|| "the container exposes no port".to_owned())
    }

    /// `newRequest` and `checkHealthHTTP` of Traefik's `pkg/healthcheck`.
    fn http(&self, port: u16) -> Result<Ask, String> {
        if self.get("mode") == Some("grpc") {
            return Err("it is made by gRPC".to_owned());
        }
        let scheme = self.get("scheme").filter(|own| !own.is_empty());
        let scheme = scheme.or(self.of_server("loadbalancer.server.scheme"));
        let tls = match scheme.unwrap_or("http") {
            "http" => false,
            "https" if self.of_server("loadbalancer.serverstransport").is_none() => true,
            "https" => return Err("its serversTransport may hold a certificate".to_owned()),
            other => return Err(format!("it is made by {other}")),
        };
        let status = match self.get("status") {
            None | Some("0") => None,
            Some(text) => Some(text.parse().map_err(|_| format!("{text:?} is no status"))?),
        };
        let method = self.get("method").filter(|own| !own.is_empty());
        let headers = service_labels(self.labels, self.protocol, self.service, HEADERS);
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Ask::Http(Http {
            tls,
            method: method.unwrap_or("GET").to_owned(),
            path: path(port, self.get("path").unwrap_or_default())?,
            host: self
                .get("hostname")
                .filter(|own| !own.is_empty())
                .map(str::to_owned),
            // Go takes the host from elsewhere.
            headers: headers
                .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
                .collect(),
            status,
            follow: !self.get("followredirects").is_some_and(is_false),
        }))
    }

    /// `executeHealthCheck` of Traefik's `pkg/healthcheck/healthcheck_tcp.go`.
    fn tcp(&self) -> Result<Ask, String> {
        let is_true = |text: &str| !is_false(text);
        if self
            .of_server("loadbalancer.server.tls")
            .is_some_and(is_true)
        {
            return Err("it is made over TLS".to_owned());
        }
        let text = |name| self.get(name).unwrap_or_default().to_owned();
        Ok(Ask::Tcp {
            send: text("send"),
            expect: text("expect"),
        })
    }
}

const HEADERS: &str = "loadbalancer.healthcheck.headers.";

/// Path and query of a check, which is relative to a server without a path.
fn path(port: u16, given: &str) -> Result<String, String> {
    let relative = |_| format!("its path {given:?} is no path");
    let server = Url::parse(&format!("http://127.0.0.1:{port}/")).map_err(relative)?;
    let url = server.join(given).map_err(relative)?;
    match url.origin() == server.origin() && !given.contains("://") {
        true => Ok(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()),
        false => Err(format!("its path {given:?} is no path")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn of(pairs: &[(&str, &str)]) -> Vec<ServiceCheck> {
        let labels = pairs.iter().map(|(key, value)| {
            let key = key.replace(
                "CHECK",
                "traefik.http.services.web.loadbalancer.healthcheck",
            );
            (key, (*value).to_owned())
        });
        checks(&labels.collect(), &[8080, 9000])
    }

    fn http(pairs: &[(&str, &str)]) -> (u16, Http) {
        let check = of(pairs).remove(0).ask.unwrap();
        match check.ask {
            Ask::Http(http) => (check.port, http),
            Ask::Tcp { .. } => panic!("{check:?}"),
        }
    }

    fn left(pairs: &[(&str, &str)]) -> String {
        of(pairs).remove(0).ask.unwrap_err()
    }

    const UP: (&str, &str) = ("CHECK.path", "/up");

    #[test]
    fn a_path_alone_is_asked_by_get_on_the_servers_port_within_traefiks_own_times() {
        let check = of(&[UP]).remove(0);
        let label = "traefik.http.services.web.loadbalancer.healthcheck.path=/up";
        assert_eq!(check.label, label);
        assert_eq!((check.interval, check.timeout), (INTERVAL, TIMEOUT));
        assert_eq!(check.verdict_after(2), Duration::from_secs(40));
        let follow = Http {
            follow: true,
            ..Http::get("/up")
        };
        assert_eq!(http(&[UP]), (8080, follow));
        let port = ("traefik.http.services.web.loadbalancer.server.port", "80");
        assert_eq!(http(&[UP, port]).0, 80);
    }

    #[test]
    fn every_option_counts_in_whatever_case() {
        let (port, http) = http(&[
            ("CHECK.Path", "up?deep=1"),
            ("CHECK.port", "9090"),
            ("CHECK.scheme", "https"),
            ("CHECK.hostName", "shop.test"),
            ("CHECK.headers.X-Probe", "1"),
            ("CHECK.method", "HEAD"),
            ("CHECK.status", "204"),
            ("CHECK.followRedirects", "false"),
        ]);
        assert_eq!(port, 9090);
        let expected = Http {
            tls: true,
            method: "HEAD".to_owned(),
            path: "/up?deep=1".to_owned(),
            host: Some("shop.test".to_owned()),
            headers: [("X-Probe".to_owned(), "1".to_owned())].into(),
            status: Some(204),
            follow: false,
        };
        assert_eq!(http, expected);
    }

    #[test]
    fn durations_are_gos_or_seconds() {
        let check = |interval, timeout| {
            let options = [UP, ("CHECK.interval", interval), ("CHECK.timeout", timeout)];
            let check = of(&options).remove(0);
            (check.interval.as_millis(), check.timeout.as_millis())
        };
        assert_eq!(check("10", "1500ms"), (10_000, 1_500));
        assert_eq!(check("1m30s", "0s"), (90_000, 5_000));
    }

    #[test]
    fn the_longest_times_and_the_most_servers_overflow_no_clock() {
        let longest = u64::MAX.to_string();
        let options = [
            UP,
            ("CHECK.interval", &longest),
            ("CHECK.timeout", &longest),
        ];
        let after = of(&options).remove(0).verdict_after(u32::MAX);
        assert!(std::time::Instant::now().checked_add(after).is_some());
    }

    #[test]
    fn what_cannot_be_asked_is_left_to_traefik_and_why() {
        assert_eq!(left(&[("CHECK.mode", "grpc")]), "it is made by gRPC");
        let h2c = (
            "traefik.http.services.web.loadbalancer.server.scheme",
            "h2c",
        );
        assert_eq!(left(&[UP, h2c]), "it is made by h2c");
        assert!(!http(&[UP, h2c, ("CHECK.scheme", "http")]).1.tls);
        let transport = (
            "traefik.http.services.web.loadbalancer.serverstransport",
            "m@file",
        );
        assert!(left(&[UP, ("CHECK.scheme", "https"), transport]).contains("serversTransport"));
        for path in ["http://other/up", "//other/up"] {
            assert!(
                left(&[("CHECK.path", path)]).contains("is no path"),
                "{path}"
            );
        }
    }

    #[test]
    fn each_service_of_a_container_has_its_own_check_and_tcp_ones_too() {
        let found = of(&[
            UP,
            ("traefik.http.services.admin.loadbalancer.server.port", "81"),
            (
                "traefik.http.services.admin.loadbalancer.healthcheck.path",
                "/",
            ),
            ("traefik.http.services.plain.loadbalancer.server.port", "82"),
            ("traefik.tcp.services.db.loadbalancer.server.port", "5432"),
            (
                "traefik.tcp.services.db.loadbalancer.healthcheck.send",
                "PING",
            ),
            (
                "traefik.tcp.services.db.loadbalancer.healthcheck.expect",
                "PONG",
            ),
        ]);
        let ports: Vec<u16> = found
            .iter()
            .map(|own| own.ask.as_ref().unwrap().port)
            .collect();
        assert_eq!(ports, [81, 8080, 5432]);
        let talk = Ask::Tcp {
            send: "PING".to_owned(),
            expect: "PONG".to_owned(),
        };
        assert_eq!(found[2].ask.as_ref().unwrap().ask, talk);
        let tls = [
            ("traefik.tcp.services.db.loadbalancer.healthcheck.port", "1"),
            ("traefik.tcp.services.db.loadbalancer.server.tls", "true"),
        ];
        assert_eq!(left(&tls), "it is made over TLS");
        assert_eq!(of(&[("traefik.http.routers.web.rule", "Host(`a`)")]), []);
    }

    proptest! {
        #[test]
        fn any_labels_have_checks_or_none(
            key in mutated_text("traefik.http.services.web.loadbalancer.healthcheck.path"), value in mutated_text("/up?a=b"),
        ) {
            for check in checks(&[(key, value)].into(), &[80]) {
                prop_assert!(check.ask.is_err() || check.ask.is_ok_and(|own| own.port == 80));
            }
        }
    }
}
