//! Which edits make a service of this project read Docker through a socket proxy.

use super::{Facts, Fix, SocketProxyFacts, TraefikFacts, fix::UP};
use crate::{
    compose::{
        Project, Service,
        edits::{Edit, remove_mount},
    },
    proxy::traefik::config::{
        StaticConfig, Version,
        advice::{self, NETWORK, Namespace, Reader, SERVICE as NAME, SWARM, edits},
    },
};

/// The usual places of the engine's socket on the host.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Makes a Traefik read through a socket proxy; in words if edits of this project's file cannot.
pub fn fix(facts: &Facts, traefik: &TraefikFacts) -> Fix {
    let in_words = || Fix::text(advice::how_to_add(advice::IMAGE, &reader(traefik)));
    let old = reader(traefik).reads_swarm_elsewhere();
    let Some(service) = own(facts, traefik).filter(|_| !old) else {
        return in_words();
    };
    let holder = match reader(traefik).namespace {
        Namespace::Own => Some(service),
        Namespace::Service(name) => facts.project.services.get(name),
        Namespace::Host | Namespace::Container(_) => None,
    };
    let address = address(traefik, service);
    let (Some(holder), Some(address)) = (holder, address) else {
        return in_words();
    };
    let mut edits = of_project(&facts.project, Some(&traefik.config));
    edits.extend(of_reader(&facts.project, service, holder));
    edits.push(address);
    edits.extend(unmounted(&facts.project, service));
    Fix::edit(
        "let Traefik read through the socket proxy (rollout init --write does it too)",
        edits,
    )
}

/// Makes a socket proxy answer Traefik's Swarm provider; in words if it is in another project.
pub fn fix_of_swarm(facts: &Facts, proxy: &SocketProxyFacts) -> Fix {
    let project = &facts.project;
    let service = proxy.service.as_ref();
    let service = service.and_then(|name| project.services.get(name));
    let edit = service.and_then(|own| edits::passes_swarm(&own.name, &own.raw(project)["command"]));
    match edit {
        Some(edit) => Fix::edit(
            format!(
                "add {SWARM} to its command; an image of an older release needs rollout image first"
            ),
            vec![edit],
        ),
        None => Fix::text(format!(
            "add {SWARM} to the command of {}, and run {UP} in its project",
            proxy.name
        )),
    }
}

fn reader(traefik: &TraefikFacts) -> Reader<'_> {
    let namespace = match (&traefik.holder, traefik.in_host_network) {
        (_, true) => Namespace::Host,
        (Some(holder), _) => holder.namespace(),
        (None, _) => Namespace::Own,
    };
    Reader {
        service: traefik.service.as_deref().unwrap_or("traefik"),
        config: Some(&traefik.config),
        reads_docker_host: reads_docker_host(traefik),
        namespace,
        folder: traefik.folder.as_deref(),
    }
}

fn reads_docker_host(traefik: &TraefikFacts) -> bool {
    traefik.version.is_none_or(Version::reads_docker_host)
}

/// Sets the address at which Traefik reads; `None` if that replaces something outside the Compose file.
fn address(traefik: &TraefikFacts, service: &Service) -> Option<Edit> {
    if reads_docker_host(traefik) {
        return Some(edits::reads(&service.name, NAME));
    }
    let docker = traefik.config.docker.as_ref();
    // An option that is given twice is an error.
    let given = docker.is_some_and(|docker| !docker.endpoint.starts_with("unix://"));
    let endpoint = advice::endpoint(NAME);
    option(traefik, service, &endpoint).filter(|_| !given)
}

/// The service of this Traefik, if it is in the project.
pub fn own<'a>(facts: &'a Facts, traefik: &TraefikFacts) -> Option<&'a Service> {
    facts.project.services.get(traefik.service.as_ref()?)
}

/// Gives Traefik an option such as `api.insecure=true`; `None` if its configuration is a file.
pub fn option(traefik: &TraefikFacts, service: &Service, option: &str) -> Option<Edit> {
    edits::option(&service.name, &traefik.config.source, option).ok()
}

/// Adds the socket proxy; to one that the project has, what Traefik's Swarm provider needs.
fn of_project(project: &Project, config: Option<&StaticConfig>) -> Vec<Edit> {
    if let Some(own) = project.services.get(NAME) {
        let swarm = config.filter(|config| config.swarm.is_some());
        let edit = swarm.and_then(|_| edits::passes_swarm(NAME, &own.raw(project)["command"]));
        return edit.into_iter().collect();
    }
    let proxy = edits::SocketProxy {
        service: NAME,
        network: NETWORK,
        volume: NAME,
        image: advice::IMAGE,
        command: &advice::command(config),
        socket: advice::SOCKET,
    };
    proxy.added()
}

/// What a reader needs besides the address: a network shared with the socket proxy, and a start after it. `holder` is
/// the service whose network namespace the reader is in, usually itself.
fn of_reader(project: &Project, reader: &Service, holder: &Service) -> Vec<Edit> {
    let proxy = project.services.get(NAME);
    let shared =
        proxy.is_some_and(|own| own.networks.iter().any(|own| holder.networks.contains(own)));
    let joined = match proxy {
        Some(proxy) => proxy.networks.first().map_or("default", String::as_str),
        None => NETWORK,
    };
    let mut edits = Vec::new();
    if !shared {
        let networks = &holder.raw(project)["networks"];
        edits.push(edits::joins(&holder.name, networks, joined));
    }
    if reader.raw(project)["depends_on"].is_null() {
        edits.push(edits::waits(&reader.name, NAME));
    }
    edits
}

/// Where the engine's socket is mounted in the containers of a service.
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

/// Makes a service other than Traefik read through the socket proxy.
pub fn fix_of_reader(facts: &Facts, service: &Service) -> Fix {
    let mut edits = of_project(&facts.project, None);
    edits.extend(of_reader(&facts.project, service, service));
    edits.push(edits::reads(&service.name, NAME));
    edits.extend(unmounted(&facts.project, service));
    Fix::edit(
        format!("let {} read through the socket proxy", service.name),
        edits,
    )
}
