//! Which routers and services Traefik makes of a container's labels. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Replica, label};

/// A protocol of Traefik's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2, gRPC, WebSocket.
    Http,
    Tcp,
    Udp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Http, Self::Tcp, Self::Udp];

    /// Its word in labels and in the API's paths.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Routers and services, by the names that the API gives them, less `@docker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub routers: BTreeSet<(Protocol, String)>,
    pub services: BTreeSet<(Protocol, String)>,
}

impl Names {
    /// The names of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.routers.extend(other.routers);
        self.services.extend(other.services);
        self
    }
}

/// Whether the labels ask for Traefik at all: any `traefik.` label, and not `traefik.enable=false`.
pub fn wants_traefik(labels: &BTreeMap<String, String>) -> bool {
    let mut own = labels.iter().filter(|(key, _)| is_traefik(key)).peekable();
    own.peek().is_some()
        && !own.any(|(key, value)| is_label(key, "traefik.enable") && is_false(value))
}

/// What Go's `strconv.ParseBool` takes for false.
pub fn is_false(value: &str) -> bool {
    ["0", "f", "F", "false", "False", "FALSE"].contains(&value)
}

/// Whether a label is Traefik's: the first word as it is written here (`label.DecodeToNode` of `traefik/paerser`).
pub fn is_traefik(key: &str) -> bool {
    key.starts_with("traefik.")
}

/// Whether Traefik reads this key as that label: all words but the first in any case.
pub fn is_label(key: &str, label: &str) -> bool {
    is_traefik(key) && key.eq_ignore_ascii_case(label)
}

/// The key of a label about a router, a service or the like.
pub struct Part<'a> {
    pub protocol: Protocol,
    /// `routers`, `services` or the like, in lower case.
    pub kind: String,
    pub name: &'a str,
    /// The rest; empty where there is none.
    pub option: &'a str,
}

/// Takes a label's key to its parts; `None` for any other.
pub fn part(key: &str) -> Option<Part<'_>> {
    let mut words = key.splitn(5, '.').skip(1);
    let protocol = words.next().filter(|_| is_traefik(key))?;
    let mut known = Protocol::ALL.into_iter();
    Some(Part {
        protocol: known.find(|own| own.word().eq_ignore_ascii_case(protocol))?,
        kind: words.next()?.to_ascii_lowercase(),
        name: words.next()?,
        option: words.next().unwrap_or_default(),
    })
}

/// The rule of Traefik's `pkg/provider/docker/config.go` (`buildConfiguration`) and `pkg/provider/configuration.go`
/// (`BuildRouterConfiguration`): what the labels name, else one router and one service called after the Compose service.
pub fn names(labels: &BTreeMap<String, String>) -> Names {
    names_of(labels, &default_name(labels))
}

/// The same for a Swarm service, whose own name is that of what its labels do not name.
pub fn names_in_swarm(labels: &BTreeMap<String, String>, service: &str) -> Names {
    names_of(labels, &normalized(service))
}

fn names_of(labels: &BTreeMap<String, String>, default: &str) -> Names {
    let mut names = Names::default();
    for own in labels.keys().filter_map(|key| part(key)) {
        let known = match own.kind.as_str() {
            "routers" => &mut names.routers,
            "services" => &mut names.services,
            _ => continue,
        };
        // The first of the sorted keys decides how a name is written (`containsNode` of `traefik/paerser`).
        let is_it = |known: &(Protocol, String)| {
            known.0 == own.protocol && known.1.eq_ignore_ascii_case(own.name)
        };
        if !known.iter().any(is_it) {
            known.insert((own.protocol, own.name.to_owned()));
        }
    }
    add_defaults(&mut names, labels, default);
    drop_unlinked(&mut names, labels);
    names
}

/// The same for all of these replicas.
pub fn all_names(replicas: &[Replica]) -> Names {
    let all = replicas.iter().map(|own| names(&own.labels));
    all.reduce(Names::and).unwrap_or_default()
}

/// A router that names no service belongs to the only one of its container; where there are several, it is left out.
fn drop_unlinked(names: &mut Names, labels: &BTreeMap<String, String>) {
    let services = |protocol| {
        let own = names.services.iter();
        own.filter(|(known, _)| *known == protocol).count()
    };
    let several = Protocol::ALL.map(|protocol| (protocol, services(protocol) > 1));
    names.routers.retain(|(protocol, router)| {
        let unclear = several.contains(&(*protocol, true));
        !unclear || option(labels, *protocol, "routers", router, "service").is_some()
    });
}

fn add_defaults(names: &mut Names, labels: &BTreeMap<String, String>, default: &str) {
    let used = |set: &BTreeSet<(Protocol, String)>, protocol| {
        set.iter().any(|(known, _)| *known == protocol)
    };
    let streams = [Protocol::Tcp, Protocol::Udp];
    let mut wanted: Vec<Protocol> = streams
        .into_iter()
        .filter(|p| used(&names.routers, *p) || used(&names.services, *p))
        .collect();
    let middleware = labels.keys().any(|key| {
        let middlewares = "traefik.http.middlewares.";
        key.get(..middlewares.len())
            .is_some_and(|start| is_label(start, middlewares))
    });
    let http =
        used(&names.routers, Protocol::Http) || used(&names.services, Protocol::Http) || middleware;
    if wanted.is_empty() || http {
        wanted.push(Protocol::Http);
    }
    for protocol in wanted {
        if !used(&names.services, protocol) {
            names.services.insert((protocol, default.to_owned()));
        }
        let own = names.services.iter().filter(|(own, _)| *own == protocol);
        if protocol == Protocol::Http && !used(&names.routers, protocol) && own.count() == 1 {
            names.routers.insert((protocol, default.to_owned()));
        }
    }
}

/// `Normalize(service_project)` of Traefik's `pkg/provider/configuration.go`: runs of other characters become one `-`.
pub fn default_name(labels: &BTreeMap<String, String>) -> String {
    let get = |key| labels.get(key).map(String::as_str).unwrap_or_default();
    let full = format!(
        "{}_{}",
        get(label::COMPOSE_SERVICE),
        get(label::COMPOSE_PROJECT)
    );
    normalized(&full)
}

fn normalized(name: &str) -> String {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// Whether UDP is all that the labels route.
pub fn only_datagrams(labels: &BTreeMap<String, String>) -> bool {
    names(labels)
        .services
        .iter()
        .all(|(protocol, _)| *protocol == Protocol::Udp)
}

/// What a label says of a service's option, such as `loadbalancer.server.port`; Traefik reads keys in any case.
pub fn service_label<'a>(
    labels: &'a BTreeMap<String, String>,
    protocol: Protocol,
    service: &str,
    name: &str,
) -> Option<&'a str> {
    option(labels, protocol, "services", service, name)
}

/// Every option of a service whose name begins like this, such as `loadbalancer.healthcheck.`: the rest of its name as
/// it is written, and its value.
pub fn service_labels<'a>(
    labels: &'a BTreeMap<String, String>,
    protocol: Protocol,
    service: &str,
    begin: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let begin = format!("traefik.{}.services.{service}.{begin}", protocol.word());
    labels.iter().filter_map(move |(key, value)| {
        let (start, rest) = key.split_at_checked(begin.len())?;
        is_label(start, &begin).then_some((rest, value.as_str()))
    })
}

fn option<'a>(
    labels: &'a BTreeMap<String, String>,
    protocol: Protocol,
    kind: &str,
    owner: &str,
    name: &str,
) -> Option<&'a str> {
    let wanted = format!("traefik.{}.{kind}.{owner}.{name}", protocol.word());
    let mut all = labels.iter();
    let found = all.find(|(key, _)| is_label(key, &wanted));
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::mutated_text,
        compose::exposed::Exposed,
        proxy::traefik::labels::ports::{routed, trap},
    };

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let compose = [
            (label::COMPOSE_PROJECT, "my_app"),
            (label::COMPOSE_SERVICE, "web.front"),
        ];
        compose
            .iter()
            .chain(pairs)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_router_label_alone_leaves_the_service_its_default_name() {
        let names = names(&labels(&[
            ("traefik.http.routers.Shop.rule", "Host(`a`)"),
            ("traefik.enable", "true"),
        ]));
        assert_eq!(
            names.routers,
            BTreeSet::from([(Protocol::Http, "Shop".to_owned())])
        );
        assert_eq!(
            names.services,
            BTreeSet::from([(Protocol::Http, "web-front-my-app".to_owned())])
        );
    }

    #[test]
    fn a_tcp_router_makes_no_http_service_unless_something_http_is_there() {
        let tcp = names(&labels(&[("traefik.tcp.routers.db.rule", "HostSNI(`*`)")]));
        assert_eq!(
            tcp.services,
            BTreeSet::from([(Protocol::Tcp, "web-front-my-app".to_owned())])
        );
        assert_eq!(
            tcp.routers,
            BTreeSet::from([(Protocol::Tcp, "db".to_owned())])
        );
        let both = names(&labels(&[
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
            ("traefik.http.services.api.loadbalancer.server.port", "81"),
        ]));
        assert!(both.services.contains(&(Protocol::Http, "api".to_owned())));
    }

    #[test]
    fn of_several_services_each_router_has_to_name_its_own() {
        let two = [
            ("traefik.http.services.app.loadbalancer.server.port", "80"),
            ("traefik.http.services.admin.loadbalancer.server.port", "81"),
        ];
        assert!(names(&labels(&two)).routers.is_empty());
        let mut routed = two.to_vec();
        routed.extend([
            ("traefik.http.routers.app.rule", "Host(`a`)"),
            ("traefik.http.routers.app.service", "app"),
            ("traefik.http.routers.lost.rule", "Host(`b`)"),
        ]);
        let names = names(&labels(&routed));
        assert_eq!(
            names.routers,
            BTreeSet::from([(Protocol::Http, "app".to_owned())])
        );
        assert_eq!(names.services.len(), 2);
    }

    #[test]
    fn a_container_asks_for_traefik_with_any_label_of_its_but_not_with_enable_false() {
        assert!(!wants_traefik(&labels(&[])));
        assert!(wants_traefik(&labels(&[("traefik.enable", "true")])));
        assert!(!wants_traefik(&labels(&[("Traefik.Enable", "true")])));
        assert!(!wants_traefik(&labels(&[("traefik.ENABLE", "false")])));
        assert!(!wants_traefik(&labels(&[
            ("traefik.enable", "false"),
            ("traefik.http.routers.a.rule", "x")
        ])));
    }

    proptest! {
        #[test]
        fn any_labels_have_names_and_ports(
            key in mutated_text("traefik.http.services.web.loadbalancer.server.port"), value in mutated_text("80"),
            exposed in mutated_text("80-82/tcp"),
        ) {
            let labels = labels(&[(&key, &value)]);
            let found = names(&labels);
            prop_assert!(!found.services.is_empty());
            let exposed = Exposed::read(&exposed);
            let lowest = exposed.iter().map(|own| own.port).min();
            let ports: Vec<u16> = exposed.iter().map(|own| own.port).collect();
            let labelled = value.parse().ok();
            prop_assert!(routed(&labels, &ports).keys().all(|port| lowest == Some(*port) || labelled == Some(*port)));
            let _ = (trap(&labels, &exposed), wants_traefik(&labels), only_datagrams(&labels));
        }
    }
}
