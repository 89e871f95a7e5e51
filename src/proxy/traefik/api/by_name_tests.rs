//! Every form in which another provider, or a middleware, names a service.

use super::*;
use crate::{compose::resolved, plan::simulator};

const FILE: &str = r#"{"name": "shop",
    "networks": {"front": {"name": "shop_front"}, "back": {"name": "shop_back"}},
    "services": {"app": {"image": "app", "container_name": "The-App", "hostname": "apphost",
        "networks": {"front": {"aliases": ["api.test"]}, "back": {"aliases": ["inner"]}}}}}"#;

fn key() -> ServiceKey {
    ServiceKey {
        project: "shop".to_owned(),
        service: "app".to_owned(),
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn service(protocol: Protocol, name: &str, server: &str) -> Listed<Vec<String>> {
    Listed {
        protocol,
        name: name.to_owned(),
        sends_to: vec![server.to_owned()],
        users: set(&["app@file"]),
    }
}

fn middleware(name: &str, sends_to: Call) -> Listed<Call> {
    Listed {
        protocol: Protocol::Http,
        name: name.to_owned(),
        sends_to,
        users: set(&["shop@docker"]),
    }
}

fn replica() -> Replica {
    Replica {
        addresses: ["10.0.0.2", "fd00::2"]
            .map(|text| text.parse().unwrap())
            .into(),
        names: [(
            "shop_front".to_owned(),
            set(&["shop-app-1", "0a1b2c3d4e5f"]),
        )]
        .into(),
        ..simulator::old("old")
    }
}

/// A Traefik in the network `front`, which says this.
fn callers(services: Vec<Listed<Vec<String>>>, middlewares: Vec<Listed<Call>>) -> Vec<Caller> {
    let project = resolved(FILE).unwrap();
    let key = key();
    let labels = [(
        "traefik.http.services.own.loadbalancer.server.url",
        "http://app:80",
    )];
    let labels = labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let replicas = [replica()];
    let callee = Callee::new(&key, &project, &project.services["app"], &labels, &replicas);
    let heard = Heard {
        traefik: "shop-traefik-1".to_owned(),
        networks: set(&["shop_front", "other"]),
        listing: Listing {
            services,
            middlewares,
            ..Listing::default()
        },
    };
    callee.callers(&[heard], &[])
}

fn is_hit(protocol: Protocol, name: &str, server: &str) -> bool {
    !callers(vec![service(protocol, name, server)], Vec::new()).is_empty()
}

#[test]
fn a_server_is_found_by_every_name_and_address_of_the_service() {
    use Protocol::{Http, Tcp, Udp};
    for (protocol, server) in [
        (Http, "http://app:8000"),
        (Http, "http://user:secret@app/path?query"),
        (Http, "h2c://APP.:8000"),
        (Http, "https://api.test"),
        (Http, "http://the-app:8000"),
        (Http, "http://apphost:8000"),
        (Http, "http://app.shop_front:8000"),
        (Http, "http://shop-app-1:8000"),
        (Http, "http://10.0.0.2:8000"),
        (Http, "http://[fd00::2]:8000"),
        (Tcp, "app:5432"),
        (Tcp, "[fd00::2]:5432"),
        (Udp, "App:53"),
    ] {
        assert!(is_hit(protocol, "app@file", server), "{server}");
    }
    for server in [
        "http://web:8000",
        "http://app.example.org",
        "http://app.shop_back:8000",
        // Traefik is not in this network.
        "http://inner:8000",
        "http://10.0.0.3:8000",
        "",
    ] {
        assert!(!is_hit(Http, "app@file", server), "{server}");
    }
}

#[test]
fn the_port_of_a_server_is_written_or_that_of_its_scheme() {
    use Protocol::{Http, Tcp, Udp};
    for (protocol, target, expected) in [
        (Http, "http://app", Some((80, Spoken::Http1))),
        (Http, "https://app/x", Some((443, Spoken::Http1))),
        (Http, "h2c://[fd00::2]:9000", Some((9000, Spoken::H2c))),
        (Tcp, "app:5432", Some((5432, Spoken::Stream))),
        (Tcp, "app", None),
        (Udp, "app:53", None),
    ] {
        assert_eq!(port(protocol, target), expected, "{target}");
    }
}

#[test]
fn what_docker_lists_and_what_a_rollout_pins_is_no_hit() {
    let http = Protocol::Http;
    assert!(!is_hit(http, "shop-app@docker", "http://10.0.0.2:8000"));
    assert!(!is_hit(http, "own@docker", "http://app:80"));
    assert!(is_hit(http, "gateway@docker", "http://app:80"));
    assert!(!is_hit(
        http,
        "rollout.shop.app.app@file",
        "http://10.0.0.2:8000"
    ));
    assert!(!is_hit(
        Protocol::Udp,
        "~rollout.shop.app.dns@file",
        "10.0.0.2:53"
    ));
    assert!(is_hit(http, "rollout.shop.web.app@file", "http://app:8000"));
}

#[test]
fn a_hit_names_the_service_its_target_and_its_routers_and_no_secret() {
    let service = service(Protocol::Http, "app@file", "http://me:secret@app:8000");
    let found = &callers(vec![service], Vec::new())[0];
    assert!(found.routes());
    assert_eq!(found.port, Some((8000, Spoken::Http1)));
    assert_eq!(
        found.text(),
        "Traefik (shop-traefik-1) reaches app by service app@file (app:8000, used by router app@file), without \
         the router of its labels: its requests reach both versions while both run, and can fail when the old replicas are stopped"
    );
    assert!(found.advice().contains("app@file"), "{}", found.advice());
}

#[test]
fn a_middleware_that_calls_the_service_by_name_is_a_warning_with_its_routers() {
    let auth = |name, url: &str| middleware(name, Call::Address(url.to_owned()));
    let found = callers(
        Vec::new(),
        vec![
            auth("auth@docker", "http://app:8000/verify"),
            auth("other@docker", "http://app.test/verify"),
        ],
    );
    let [auth] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((auth.kind, auth.routes()), (Kind::ForwardAuth, false));
    let text = auth.text();
    assert!(
        text.contains(
            "middleware auth@docker (forwardAuth to app:8000, used by router shop@docker)"
        ),
        "{text}"
    );
    assert!(
        auth.advice().contains("http://app.test/"),
        "{}",
        auth.advice()
    );
}

#[test]
fn an_error_page_counts_where_its_service_sends_by_name_and_else_for_a_pin() {
    let by_name = service(Protocol::Http, "pages@file", "http://app:8000");
    let errors = |service: &str| middleware("errors@file", Call::Service(service.to_owned()));
    let found = callers(
        vec![by_name],
        vec![
            errors("pages@file"),
            errors("own@docker"),
            errors("own@file"),
        ],
    );
    let kinds: Vec<Kind> = found.iter().map(|own| own.kind).collect();
    assert_eq!(kinds, [Kind::Service, Kind::Errors, Kind::ErrorsOfLabels]);
    assert!(found[2].follows_labels());
    assert_eq!(found[2].port, None);
}
