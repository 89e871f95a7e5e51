//! The edits that put a socket proxy into a project, and make one of its services read Docker through it.

use serde_json::{Value, json};

use super::{
    Edit, Facts, Fix, TraefikFacts,
    fix::{add, remove_mount, set},
};
use crate::{
    compose::{Project, Service},
    proxy::traefik::{
        advice::{self, NETWORK, SERVICE as NAME, one_line},
        static_config::{Source, StaticConfig},
        version::Version,
    },
    yaml,
};

/// Where the socket is mounted, mostly.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// What makes a Traefik read through a socket proxy; in words where no edit of this project's file does.
pub fn fix(facts: &Facts, traefik: &TraefikFacts) -> Fix {
    let Some(service) = own(facts, traefik) else {
        let project = traefik.project.as_deref().unwrap_or("its own");
        return in_words(traefik, &format!("in the Compose file of {project}, "));
    };
    if traefik.in_host_network {
        return Fix::text(format!(
            "give {} networks of its own in place of network_mode: host, since the socket proxy is never published; or {}, \
             for a pin file",
            service.name,
            traefik
                .config
                .how_to_add("providers.file.directory=/etc/traefik/dynamic")
        ));
    }
    let Some(address) = address(facts, traefik, service) else {
        return in_words(traefik, "");
    };
    let mut edits = of_project(&facts.project);
    edits.extend(of_reader(&facts.project, service));
    edits.push(address);
    edits.extend(unmounted(&facts.project, service));
    Fix::edit(
        "let Traefik read through the socket proxy (rollout init --write does it too)",
        edits,
    )
}

fn in_words(traefik: &TraefikFacts, place: &str) -> Fix {
    let given = match (heeds(traefik), &traefik.config.docker) {
        (true, _) => format!("{} to Traefik's environment", advice::docker_host()),
        (false, Some(docker)) if !docker.endpoint.starts_with("unix://") => {
            format!(
                "put {} in the place of {}",
                advice::address(NAME),
                docker.endpoint
            )
        }
        (false, _) => traefik.config.how_to_add(&advice::endpoint(NAME)),
    };
    Fix::text(format!(
        "{place}add the service {}, in a network with Traefik alone, and {given}; rollout init shows all of it",
        one_line()
    ))
}

fn heeds(traefik: &TraefikFacts) -> bool {
    traefik.version.is_none_or(Version::heeds_docker_host)
}

/// Where Traefik has to read; `None` where that takes the place of something which is no edit of the Compose file.
fn address(facts: &Facts, traefik: &TraefikFacts, service: &Service) -> Option<Edit> {
    if heeds(traefik) {
        let at = ["services", &service.name, "environment"];
        return Some(set(&at, json!({"DOCKER_HOST": advice::address(NAME)})));
    }
    let docker = traefik.config.docker.as_ref();
    // Given twice, an option is an error.
    let given = docker.is_some_and(|docker| !docker.endpoint.starts_with("unix://"));
    let endpoint = advice::endpoint(NAME);
    option(traefik, service, &endpoint, facts).filter(|_| !given)
}

/// The Traefik's service, where it is in the project.
pub fn own<'a>(facts: &'a Facts, traefik: &TraefikFacts) -> Option<&'a Service> {
    facts.project.services.get(traefik.service.as_ref()?)
}

/// The edit that gives Traefik an option, such as `api.insecure=true`; `None` where its configuration is a file.
pub fn option(
    traefik: &TraefikFacts,
    service: &Service,
    option: &str,
    facts: &Facts,
) -> Option<Edit> {
    let StaticConfig { source, .. } = &traefik.config;
    let (name, value) = option.split_once('=').unwrap_or((option, "true"));
    match source {
        Source::File(_) => None,
        Source::Environment => {
            let variable = format!("TRAEFIK_{}", name.to_uppercase().replace('.', "_"));
            let at = ["services", &service.name, "environment"];
            Some(set(&at, json!({variable: value})))
        }
        Source::Command => {
            let flag = format!("--{name}={value}");
            match &service.raw(&facts.project)["command"] {
                Value::Null => Some(set(
                    &["services", &service.name],
                    json!({"command": [flag]}),
                )),
                _ => Some(add(&["services", &service.name, "command"], &[&flag])),
            }
        }
    }
}

/// The service and what it needs, where the project does not have it yet.
fn of_project(project: &Project) -> Vec<Edit> {
    if project.services.contains_key(NAME) {
        return Vec::new();
    }
    let line = yaml::parse(&one_line()).unwrap_or_default();
    let mut service = line[NAME].clone();
    if let Some(volumes) = service["volumes"].as_array_mut() {
        volumes.push(json!(format!("{NAME}:{}", advice::STATE)));
    }
    service["networks"] = json!([NETWORK]);
    service["restart"] = json!("unless-stopped");
    vec![
        set(&["services"], json!({NAME: service})),
        set(&["networks"], json!({NETWORK: {"internal": true}})),
        set(&["volumes"], json!({NAME: {}})),
    ]
}

/// What its reader needs beside the address: a network with it, and that it is started first.
fn of_reader(project: &Project, reader: &Service) -> Vec<Edit> {
    let raw = reader.raw(project);
    let at = ["services", reader.name.as_str()];
    let proxy = project.services.get(NAME);
    let shared =
        proxy.is_some_and(|own| own.networks.iter().any(|own| reader.networks.contains(own)));
    let joined = match proxy {
        Some(proxy) => proxy.networks.first().map_or("default", String::as_str),
        None => NETWORK,
    };
    let mut edits = Vec::new();
    let by_default = reader.networks.iter().all(|own| own == "default");
    match (shared, by_default) {
        (true, _) => {}
        (false, true) => edits.push(set(&at, json!({"networks": ["default", joined]}))),
        (false, false) => edits.push(add(&[at[0], at[1], "networks"], &[joined])),
    }
    if raw["depends_on"].is_null() {
        let healthy = json!({NAME: {"condition": "service_healthy"}});
        edits.push(set(&at, json!({"depends_on": healthy})));
    }
    edits
}

/// Where in the containers of a service the engine's socket is mounted.
pub fn mounts<'a>(
    project: &'a Project,
    service: &Service,
) -> impl Iterator<Item = String> + use<'a> {
    let volumes = service.raw(project)["volumes"].as_array();
    let sockets = volumes.into_iter().flatten().filter(|volume| {
        let source = volume["source"].as_str().unwrap_or_default();
        volume["type"] == "bind" && SOCKETS.contains(&source)
    });
    sockets.filter_map(|volume| volume["target"].as_str().map(str::to_owned))
}

fn unmounted<'a>(
    project: &'a Project,
    service: &'a Service,
) -> impl Iterator<Item = Edit> + use<'a> {
    mounts(project, service).map(|target| remove_mount(&service.name, &target))
}

/// What makes another service than Traefik read through the socket proxy.
pub fn fix_of_reader(facts: &Facts, service: &Service) -> Fix {
    let mut edits = of_project(&facts.project);
    edits.extend(of_reader(&facts.project, service));
    edits.push(set(
        &["services", &service.name, "environment"],
        json!({"DOCKER_HOST": advice::address(NAME)}),
    ));
    edits.extend(unmounted(&facts.project, service));
    Fix::edit(
        format!("let {} read through the socket proxy", service.name),
        edits,
    )
}
