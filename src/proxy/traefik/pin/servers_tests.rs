//! Files and replicas in, the servers of each service out.

use serde_json::json;

use super::*;
use crate::{model::ServiceKey, plan::simulator};

/// A replica with a network `front`, an address that ends with `number`, and the lowest port 8080.
fn replica(number: u8, labels: &[(&str, &str)]) -> Replica {
    let mut replica =
        simulator::replica(&format!("web-{number}"), None, Run::Running, Health::None);
    replica.labels = all(labels);
    let address = format!("10.0.0.{number}").parse().unwrap();
    replica.endpoints = BTreeMap::from([("front".to_owned(), address)]);
    replica.lowest_port = Some(8080);
    replica
}

fn all(labels: &[(&str, &str)]) -> Labels {
    let compose = [
        ("com.docker.compose.project", "app"),
        ("com.docker.compose.service", "web"),
    ];
    let labels = compose.iter().chain(labels);
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    labels.collect()
}

fn prefix() -> Prefix {
    Prefix::of(&ServiceKey {
        project: "app".to_owned(),
        service: "web".to_owned(),
    })
}

fn sections(value: Value) -> Sections {
    value.as_object().unwrap().clone()
}

/// The copy of a version with one router and one service.
fn copy_of(service: &str) -> Sections {
    let (router, service) = ("rollout.app.web.web", format!("rollout.app.web.{service}"));
    sections(json!({"http": {
        "routers": {router: {"rule": "Host(`a`)", "service": service}},
        "services": {&service: {"loadBalancer": {"servers": [{"url": "http://gone"}], "passHostHeader": false}}},
    }}))
}

/// Where the only service of a file leads.
fn servers(file: Sections, live: &[&Replica]) -> Value {
    let content = pointed(file, &prefix(), live, &Reach::default()).unwrap();
    let services = content.sections["http"]["services"].as_object().unwrap();
    let (_, service) = services.iter().next().unwrap();
    service["loadBalancer"]["servers"].clone()
}

#[test]
fn the_same_definitions_lead_to_the_replicas_that_are_live_and_the_record_has_their_servers() {
    let (one, two) = (replica(3, &[]), replica(4, &[]));
    let live = [&one, &two];
    let content = pointed(copy_of("web-app"), &prefix(), &live, &Reach::default()).unwrap();
    let mut wanted = copy_of("web-app");
    wanted["http"]["services"]["rollout.app.web.web-app"]["loadBalancer"]["servers"] =
        json!([{"url": "http://10.0.0.3:8080"}, {"url": "http://10.0.0.4:8080"}]);
    assert_eq!(content.sections, wanted);
    let shown = [&one, &two].map(|own| {
        let address = format!("http://{}:8080", own.endpoints["front"]);
        (own.id.clone(), BTreeSet::from([address]))
    });
    assert_eq!(content.shows, shown.into());
    // What is written is what the next write starts from.
    let again = pointed(wanted, &prefix(), &[&one], &Reach::default()).unwrap();
    assert_eq!(servers(again.sections, &[]), json!([]));
}

#[test]
fn a_new_port_scheme_or_weight_counts_from_the_cutover_on() {
    let new = replica(
        2,
        &[
            ("traefik.http.services.web.loadbalancer.server.port", "81"),
            (
                "traefik.http.services.web.loadbalancer.server.scheme",
                "h2c",
            ),
            ("traefik.http.services.web.loadbalancer.server.weight", "3"),
        ],
    );
    let wanted = json!([{"url": "h2c://10.0.0.2:81", "weight": "3"}]);
    assert_eq!(servers(copy_of("web"), &[&new]), wanted);
    let unlabelled = Replica {
        lowest_port: Some(9000),
        ..replica(2, &[])
    };
    let wanted = json!([{"url": "http://10.0.0.2:9000"}]);
    assert_eq!(servers(copy_of("web-app"), &[&unlabelled]), wanted);
}

#[test]
fn tcp_and_udp_servers_have_an_address() {
    let file = sections(json!({
        "tcp": {"services": {"rollout.app.web.db": {"loadBalancer": {}}}},
        "udp": {"services": {"~rollout.app.web.dns": {"loadBalancer": {}}}},
    }));
    let new = replica(
        2,
        &[
            ("traefik.tcp.services.db.loadbalancer.server.port", "5432"),
            ("traefik.tcp.services.db.loadbalancer.server.tls", "true"),
            ("traefik.udp.services.dns.loadbalancer.server.port", "53"),
        ],
    );
    let content = pointed(file, &prefix(), &[&new], &Reach::default()).unwrap();
    let wanted = sections(json!({
        "tcp": {"services": {"rollout.app.web.db": {"loadBalancer": {"servers": [{"address": "10.0.0.2:5432", "tls": "true"}]}}}},
        "udp": {"services": {"~rollout.app.web.dns": {"loadBalancer": {"servers": [{"address": "10.0.0.2:53"}]}}}},
    }));
    assert_eq!(content.sections, wanted);
    let addresses = ["10.0.0.2:53", "10.0.0.2:5432"].map(str::to_owned);
    assert_eq!(content.shows[&new.id], addresses.into());
}

#[test]
fn a_service_that_the_new_version_calls_otherwise_is_found() {
    const PORT: &str = "traefik.http.services.site.loadbalancer.server.port";
    const OTHER: &str = "traefik.http.services.admin.loadbalancer.server.port";
    const USES: &str = "traefik.http.routers.web.service";
    for (labels, port) in [
        // The only one.
        (&[(PORT, "81")][..], Some(81)),
        // That of the router.
        (
            &[(PORT, "81"), (OTHER, "82"), (USES, "site@docker")],
            Some(81),
        ),
        (
            &[
                (
                    "traefik.http.services.web-app.loadbalancer.server.port",
                    "80",
                ),
                (PORT, "81"),
                (USES, "site"),
            ],
            Some(81),
        ),
        // The same name, unless its router uses another one.
        (
            &[
                (
                    "traefik.http.services.web-app.loadbalancer.server.port",
                    "80",
                ),
                (PORT, "81"),
            ],
            Some(80),
        ),
        // None, where nothing says which.
        (&[(PORT, "81"), (OTHER, "82")], None),
    ] {
        let url = port.map(|port| json!({"url": format!("http://10.0.0.2:{port}")}));
        let found = servers(copy_of("web-app"), &[&replica(2, labels)]);
        assert_eq!(found, Value::from(Vec::from_iter(url)), "{labels:?}");
    }
}

#[test]
fn a_router_that_has_no_service_of_its_own_any_more_is_named() {
    let of =
        |labels: &[(&str, &str)]| without_service(&copy_of("web-app"), &prefix(), &all(labels));
    let moved = [
        ("traefik.http.routers.web.service", "shared@file"),
        ("traefik.http.services.a.loadbalancer.server.port", "81"),
        ("traefik.http.services.b.loadbalancer.server.port", "82"),
    ];
    assert_eq!(of(&moved), Some("web".to_owned()));
    // A router that is given up, and one that keeps its service.
    assert_eq!(of(&moved[1..]), None);
    assert_eq!(of(&[("traefik.http.routers.web.rule", "Host(`b`)")]), None);
}

#[test]
fn a_file_of_version_0_1_0_is_pointed_at_replicas_as_it_stands() {
    let file: Value = serde_json::from_str(&crate::fixtures::of_0_1_0("pin/back.json")).unwrap();
    let http = sections(json!({"http": file["http"]}));
    let prefix = Prefix::of(&ServiceKey {
        project: "shop".to_owned(),
        service: "web".to_owned(),
    });
    let old = replica(
        9,
        &[("traefik.http.services.web.loadbalancer.server.port", "80")],
    );
    let content = pointed(http.clone(), &prefix, &[&old], &Reach::default()).unwrap();
    let mut wanted = http;
    wanted["http"]["services"]["rollout.shop.web.web"]["loadBalancer"]["servers"] =
        json!([{"url": "http://10.0.0.9:80"}]);
    assert_eq!(content.sections, wanted);
}

fn reach(network: Option<&str>, shared: &[&str]) -> Reach {
    Reach {
        network: network.map(str::to_owned),
        shared: (!shared.is_empty()).then(|| shared.iter().map(|&name| name.to_owned()).collect()),
    }
}

#[test]
fn the_label_wins_over_the_providers_network_and_that_over_a_shared_one() {
    let mut own = replica(2, &[]);
    own.endpoints = BTreeMap::from([
        ("back".to_owned(), "10.0.1.2".parse().unwrap()),
        ("front".to_owned(), "10.0.2.2".parse().unwrap()),
        ("six".to_owned(), "fd00::2".parse().unwrap()),
    ]);
    let url = |own: &Replica, reach: Reach| {
        let server = server(own, Protocol::Http, "web-app", &reach);
        server.map(|(address, _)| address)
    };
    let front = url(&own, reach(None, &["front"])).unwrap();
    assert_eq!(front, "http://10.0.2.2:8080");
    assert_eq!(url(&own, reach(None, &[])).unwrap(), "http://10.0.1.2:8080");
    let back = url(&own, reach(Some("back"), &["front"])).unwrap();
    assert_eq!(back, "http://10.0.1.2:8080");
    assert!(url(&own, reach(None, &["other"])).is_err());
    let network = ("traefik.docker.network".to_owned(), "six".to_owned());
    own.labels.extend([network]);
    let six = url(&own, reach(Some("back"), &["front"])).unwrap();
    assert_eq!(six, "http://[fd00::2]:8080");
}

#[test]
fn what_has_no_port_or_a_url_of_its_own_is_refused() {
    let refused = |own: &Replica| {
        let live = [own];
        pointed(copy_of("web"), &prefix(), &live, &Reach::default()).unwrap_err()
    };
    let mut own = replica(2, &[]);
    own.lowest_port = None;
    let message = refused(&own).message;
    assert_eq!(message, "web-2 has no port that Traefik could use");
    let label = (
        "traefik.http.services.web.loadbalancer.server.url",
        "http://elsewhere",
    );
    let message = refused(&replica(2, &[label])).message;
    assert!(
        message.starts_with("web-2 names its server by a URL"),
        "{message}"
    );
}

#[test]
fn a_hold_shows_the_old_ones_that_traefik_routes_to_and_a_cutover_the_new_ones_that_serve() {
    use Health::{Healthy, Starting, Unhealthy};
    let live = |phase, old: &[(&str, Health)], new: &[(&str, Health)]| -> Vec<String> {
        let made = |set: &[(&str, Health)]| -> Vec<Replica> {
            let one = |(name, health): &(&str, Health)| {
                simulator::replica(name, None, Run::Running, *health)
            };
            set.iter().map(one).collect()
        };
        let (old, new) = (made(old), made(new));
        let (new, old): (Vec<&Replica>, Vec<&Replica>) =
            (new.iter().collect(), old.iter().collect());
        super::live(phase, &new, &old)
            .iter()
            .map(|own| own.name.clone())
            .collect()
    };
    let old = [("a", Healthy), ("b", Starting), ("c", Unhealthy)];
    let new = [("d", Starting), ("e", Unhealthy)];
    assert_eq!(live(Phase::Prepared, &old, &[]), ["a"]);
    assert_eq!(live(Phase::RolledBack, &old[1..], &new), ["b"]);
    assert_eq!(live(Phase::Committed, &old, &new), ["d"]);
    assert_eq!(live(Phase::Committed, &old, &new[1..]), ["e"]);
    assert!(live(Phase::Prepared, &old[2..], &new).is_empty());
}
