//! Facts for the checks' tests, from a few lines of YAML.

use std::collections::BTreeMap;

use super::{Facts, Reads, ServiceFacts, TraefikFacts};
use crate::{
    compose::Service,
    docker::engine::Image,
    error::Error,
    model::label,
    plan::simulator,
    proxy::traefik::{
        config::{Given, read},
        labels::{Neighbour, wants_traefik},
    },
    roll::Way,
    settings::{Partial, Settings},
    yaml,
};

/// A project whose service `web` is this YAML, in the long form of `docker compose config`; and that service.
pub fn of(web: &str) -> (Facts, ServiceFacts) {
    let mut facts = Facts::default();
    facts.project.name = "shop".to_owned();
    add(&mut facts, "web", web);
    let service = facts.services[0].clone();
    (facts, service)
}

pub fn add(facts: &mut Facts, name: &str, yaml: &str) {
    let value = yaml::parse(yaml).unwrap();
    facts.project.raw["services"][name] = value;
    let whole = serde_json::json!({"name": "shop", "services": facts.project.raw["services"]});
    let project = crate::compose::resolved(&yaml::write(&whole).unwrap()).unwrap();
    facts.project = project;
    let service = facts.project.services[name].clone();
    let mut found = self::service(name);
    let file = Partial::from_service(name, service.x_rollout.as_ref()).unwrap();
    found.settings = Settings::resolve([
        file,
        Partial::default(),
        Partial::default(),
        Partial::default(),
    ]);
    found.replicas = service.scale;
    found.labels.extend(service.labels.clone());
    found.is_labelled = wants_traefik(&service.labels);
    found.service = service;
    facts.services.push(found);
}

/// Adds a routed service with these labels; its container, as others see it.
pub fn add_routed(facts: &mut Facts, name: &str, labels: &BTreeMap<String, String>) -> Neighbour {
    let mut found = service(name);
    found.labels.extend(labels.clone());
    found.is_labelled = true;
    let neighbour = Neighbour {
        runs: true,
        name: format!("shop-{name}-1"),
        labels: found.labels.clone(),
    };
    facts.services.push(found);
    neighbour
}

/// A service with one replica, without a route.
pub fn service(name: &str) -> ServiceFacts {
    let labels = [
        (label::COMPOSE_PROJECT, "shop"),
        (label::COMPOSE_SERVICE, name),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ServiceFacts {
        service: Service {
            name: name.to_owned(),
            ..Service::default()
        },
        part: None,
        settings: Settings::resolve(Default::default()),
        replicas: 1,
        runs_once: false,
        olds: vec![simulator::old("old")],
        image: Image::default(),
        programs: None,
        labels: labels.into(),
        is_labelled: false,
        is_alone: true,
        fronts: Vec::new(),
        way: Ok(Way::default()),
        bypasses: Vec::new(),
        hazards: Vec::new(),
        neighbours: Vec::new(),
        joined: Vec::new(),
        refused: None,
        lock: None,
        lost_binds: Vec::new(),
        unfinished: None,
    }
}

/// A Traefik of the same project, well in every way, with these options.
pub fn traefik(version: &str, reads: Reads) -> TraefikFacts {
    let arguments = ["--providers.docker".to_owned()];
    let given = Given {
        arguments: &arguments,
        ..Given::default()
    };
    TraefikFacts {
        name: "shop-traefik-1".to_owned(),
        service: Some("traefik".to_owned()),
        folder: None,
        version: version.parse().ok(),
        reads,
        sees_all: false,
        is_deaf: false,
        config: read(given).unwrap(),
        unread: None,
        pin: Err(Error::refused("has no file provider")),
        api: Ok("http://traefik:8080".to_owned()),
        in_host_network: false,
        holder: None,
        swarm_through: None,
    }
}
