//! Traefiks that keep a service, lose it, or never had it.

use bollard::models::{ContainerInspectResponse, EndpointSettings, NetworkSettings};

use super::*;
use crate::{
    compose::Service,
    docker::engine::Image,
    plan::simulator,
    proxy::traefik::{
        config::{Given, StaticConfig, read},
        discover::is_unknown,
    },
};

fn traefik(name: &str, options: &str, networks: &[&str]) -> TraefikContainer {
    let networks = networks
        .iter()
        .map(|name| ((*name).to_owned(), EndpointSettings::default()));
    let settings = NetworkSettings {
        networks: Some(networks.collect()),
        ..Default::default()
    };
    TraefikContainer {
        inspect: ContainerInspectResponse {
            network_settings: Some(settings),
            ..Default::default()
        },
        ..TraefikContainer::of_arguments(name, &format!("--providers.docker {options}"))
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |text: &str| text.to_owned();
    pairs
        .iter()
        .map(|(key, value)| (own(key), own(value)))
        .collect()
}

fn wanted(own: &[(&str, &str)], image: Option<&[(&str, &str)]>) -> Wanted {
    let service = Service {
        labels: map(own),
        ..Service::default()
    };
    let image = image.map(|labels| Image {
        labels: map(labels),
        ..Image::default()
    });
    Wanted::of(&ServiceContext {
        image,
        declared_networks: ["shop_back", "shop_front"].map(str::to_owned).into(),
        ..ServiceContext::of(&service)
    })
}

fn old(labels: &[(&str, &str)]) -> Replica {
    Replica {
        labels: map(labels),
        ..simulator::old("old")
    }
}

const BOTH: [&str; 2] = ["shop_front", "shop_back"];
const CLOSED: &str = "--providers.docker.exposedbydefault=false";
const ON: (&str, &str) = ("traefik.enable", "true");

/// Those that have to do with the service, where none would lose it.
fn kept(traefiks: &[TraefikContainer], wanted: &Wanted, olds: &[Replica]) -> Vec<String> {
    refuse_lost(traefiks, wanted, olds).unwrap();
    let own = traefiks.iter().filter(|own| concerns(own, wanted, olds));
    own.map(|own| own.name.clone()).collect()
}

fn refused(traefiks: &[TraefikContainer], wanted: &Wanted, olds: &[Replica]) -> String {
    refuse_lost(traefiks, wanted, olds).unwrap_err().message
}

#[test]
fn a_traefik_whose_constraints_leave_the_service_out_is_not_in_front_of_it() {
    let inner = "--providers.docker.constraints=Label(`zone`,`inner`)";
    let all = [
        traefik("outer", CLOSED, &BOTH),
        traefik("inner", inner, &BOTH),
    ];
    let service = wanted(&[ON], Some(&[]));
    assert_eq!(kept(&all, &service, &[old(&[ON])]), ["outer"]);
    let zoned = wanted(&[ON, ("zone", "inner")], Some(&[]));
    assert_eq!(kept(&all, &zoned, &[]), ["outer", "inner"]);
}

#[test]
fn a_new_version_that_a_traefik_would_lose_is_refused() {
    let all = [traefik("outer", CLOSED, &BOTH)];
    let service = wanted(&[], Some(&[]));
    assert_eq!(
        refused(&all, &service, &[old(&[ON])]),
        "Traefik (outer) would leave the new version of web out: it has no label traefik.enable=true"
    );
    let off = wanted(&[("traefik.enable", "false")], None);
    assert_eq!(
        refused(&all, &off, &[old(&[ON])]),
        "Traefik (outer) would leave the new version of web out: its label traefik.enable is false"
    );
}

#[test]
fn a_service_that_no_traefik_keeps_is_told_why() {
    let expression = "--providers.docker.constraints=Label(`com.docker.compose.project`,`blog`)";
    let all = [traefik("outer", expression, &BOTH)];
    assert_eq!(
        refused(&all, &wanted(&[ON], Some(&[])), &[]),
        "Traefik (outer) leaves web out: Traefik's constraints are Label(`com.docker.compose.project`,`blog`)"
    );
}

fn in_host_network(mut traefik: TraefikContainer) -> TraefikContainer {
    traefik.inspect.host_config = Some(bollard::models::HostConfig {
        network_mode: Some("host".to_owned()),
        ..Default::default()
    });
    traefik
}

#[test]
fn a_traefik_of_another_project_in_the_hosts_network_is_not_named() {
    let all = [in_host_network(traefik("other", CLOSED, &["host"]))];
    let service = wanted(&[("traefik.enable", "false")], Some(&[]));
    assert_eq!(kept(&all, &service, &[]), [""; 0]);
    let mut own = all;
    own[0].inspect.config = Some(bollard::models::ContainerConfig {
        labels: Some([(label::COMPOSE_PROJECT.to_owned(), "shop".to_owned())].into()),
        ..Default::default()
    });
    assert!(refused(&own, &service, &[]).contains("(other) leaves web out"));
}

#[test]
fn nothing_is_concluded_from_what_is_not_known() {
    let mut unread = traefik("outer", CLOSED, &BOTH);
    unread.unread = Some("/etc/traefik/traefik.yml: broken".to_owned());
    assert_eq!(kept(&[unread], &wanted(&[], Some(&[])), &[]), ["outer"]);
    // The image that is not here yet may have the label.
    let all = [traefik("outer", CLOSED, &BOTH)];
    assert_eq!(kept(&all, &wanted(&[], None), &[]), ["outer"]);
    assert_eq!(kept(&all, &wanted(&[], Some(&[ON])), &[]), ["outer"]);
}

#[test]
fn the_neighbours_of_a_traefik_are_unknown_where_its_configuration_is() {
    let known = traefik("outer", CLOSED, &BOTH);
    assert!(!is_unknown(&known));
    let unread = TraefikContainer {
        config: StaticConfig::default(),
        unread: Some("/etc/traefik/traefik.yml: broken".to_owned()),
        ..known
    };
    assert!(is_unknown(&unread));
    let off = TraefikContainer {
        reads: Reads::Nothing,
        unread: None,
        ..unread
    };
    assert!(!is_unknown(&off));
}

#[test]
fn a_traefik_in_one_of_two_networks_has_to_be_told_which() {
    let all = [traefik("outer", CLOSED, &["shop_front", "shop_api"])];
    let error = refuse_lost(&all, &wanted(&[ON], None), &[]).unwrap_err();
    assert_eq!(
        error.message,
        "Traefik (outer) may not get through to web: it is not configured with a network for the service, and so takes the \
         service's address in any of shop_back, shop_front"
    );
    let hint = error.hint.unwrap();
    assert_eq!(
        hint,
        "add the label traefik.docker.network: shop_front to web"
    );
    let named = wanted(&[ON, ("traefik.docker.network", "shop_front")], None);
    assert_eq!(kept(&all, &named, &[]), ["outer"]);
    let host = in_host_network(traefik("outer", CLOSED, &["host"]));
    assert_eq!(kept(&[host], &wanted(&[ON], None), &[]), ["outer"]);
}

#[test]
fn a_traefik_that_does_not_watch_docker_is_refused_however_it_is_told_so() {
    let watching = traefik("a", CLOSED, &BOTH);
    assert_eq!(refuse_unwatched(std::slice::from_ref(&watching)), Ok(()));
    let deaf = traefik("b", "--providers.docker.watch=false", &BOTH);
    let error = refuse_unwatched(&[watching, deaf.clone()]).unwrap_err();
    assert!(
        error.message.contains("Traefik (b) does not watch Docker"),
        "{error}"
    );
    assert!(
        error
            .hint
            .unwrap()
            .contains("--providers.docker.watch=true")
    );
    let file = (
        "/etc/traefik/traefik.yml",
        "providers: {docker: {watch: false}}",
    );
    let environment = ["TRAEFIK_PROVIDERS_DOCKER_WATCH=false".to_owned()];
    for given in [
        Given {
            file: Some(file),
            ..Given::default()
        },
        Given {
            environment: &environment,
            ..Given::default()
        },
    ] {
        let config = read(given).unwrap();
        assert!(
            refuse_unwatched(&[TraefikContainer {
                config,
                ..deaf.clone()
            }])
            .is_err()
        );
    }
}
