//! Finds reasons against a second set of containers beside the old one.

use super::{HostPorts, Project, PublishedPort, Service, Target};
use crate::{check::Check, docker::engine::shared::Joined, model::Replica};

/// A reason against a second set beside the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Lets a flag allow it.
    pub kind: Kind,
    /// One line, lower case.
    pub message: String,
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A published host port, which only one container can have.
    HostPort,
    /// A network namespace that both sets would share.
    NetworkMode,
    StaticAddress,
    MacAddress,
    /// A fixed name with several replicas.
    ContainerName,
    /// Volumes that new containers would not get; `--renew-anon-volumes` allows it.
    AnonymousVolumes,
    /// Another container shares this service's namespaces or volumes.
    Joined,
    UnknownDependency,
}

impl Kind {
    /// The check that reports it.
    pub fn check(self) -> Check {
        match self {
            Self::HostPort => Check::HostPorts,
            Self::NetworkMode => Check::NetworkMode,
            Self::StaticAddress => Check::StaticAddress,
            Self::MacAddress => Check::MacAddress,
            Self::ContainerName => Check::ContainerName,
            Self::AnonymousVolumes => Check::AnonymousVolumes,
            Self::Joined => Check::Joined,
            Self::UnknownDependency => Check::Dependency,
        }
    }

    /// True if Compose cannot create the new set even after the old one is stopped.
    pub fn stops_one_set_too(self) -> bool {
        matches!(self, Self::ContainerName | Self::UnknownDependency)
    }
}

const RECREATE: &str = "roll with --strategy recreate (stops the old first)";
const RENEW: &str = "move the data to a named volume, start empty with --renew-anon-volumes, or roll with \
                     --strategy recreate, which carries it over";
/// The hint for services that join this one by its name.
pub const UP: &str = "run docker compose up -d, which replaces them together";
const NAME: &str = "remove container_name, or set scale to 1";
const DEPENDENCY: &str = "add the service, or its profile with --profile";

/// Finds every reason against `replicas` new containers of `service` beside the old ones.
///
/// `image_volumes` are the `VOLUME`s of the image. `joined` holds the result of [`joined`] and running containers.
pub fn check(
    project: &Project,
    service: &Service,
    replicas: u32,
    image_volumes: &[String],
    joined: &[Joined],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(host_ports(service, replicas));
    problems.extend(network_mode(service));
    problems.extend(addresses(service));
    problems.extend(container_name(service, replicas));
    problems.extend(anonymous_volumes(service, image_volumes));
    problems.extend(joined.iter().map(|own| left_behind(project, service, own)));
    problems.extend(unknown_dependencies(project, service));
    problems
}

fn problem(kind: Kind, hint: &str, message: String) -> Problem {
    Problem {
        kind,
        message,
        hint: hint.to_owned(),
    }
}

/// A range has room for both sets if it has two ports for each replica; the engine always finds an ephemeral port.
fn host_ports(service: &Service, replicas: u32) -> impl Iterator<Item = Problem> {
    let name = service.name.clone();
    service
        .published_ports
        .iter()
        .filter_map(move |port| match port.host {
            HostPorts::Fixed(_) => Some((port, "")),
            HostPorts::Range(first, last) => {
                let room = u32::from(last.saturating_sub(first)) + 1;
                (room < replicas.saturating_mul(2))
                    .then_some((port, ", which has no room for both sets"))
            }
            HostPorts::Ephemeral => None,
        })
        .map(move |(port, why)| {
            let message = format!("{name} publishes host port {}{why}", host_port(port));
            problem(Kind::HostPort, RECREATE, message)
        })
}

fn host_port(port: &PublishedPort) -> String {
    let address = port
        .host_ip
        .as_ref()
        .map(|ip| format!("{ip}:"))
        .unwrap_or_default();
    let udp = if port.protocol == "udp" { "/udp" } else { "" };
    match port.host {
        HostPorts::Fixed(host) => format!("{address}{host}{udp}"),
        HostPorts::Range(first, last) => format!("{address}{first}-{last}{udp}"),
        HostPorts::Ephemeral => format!("{address}(any){udp}"),
    }
}

fn network_mode(service: &Service) -> Option<Problem> {
    let mode = service.network_mode.as_deref()?;
    let shared = mode == "host" || mode.starts_with("container:") || mode.starts_with("service:");
    shared.then(|| {
        let message = format!(
            "{} has network_mode: {mode}, so both sets would share its ports",
            service.name
        );
        problem(Kind::NetworkMode, RECREATE, message)
    })
}

fn addresses(service: &Service) -> impl Iterator<Item = Problem> {
    let name = &service.name;
    let fixed = service
        .static_addresses
        .iter()
        .map(move |(network, address)| {
            let message = format!("{name} has the static address {address} on network {network}");
            problem(Kind::StaticAddress, RECREATE, message)
        });
    let mac = service.mac_address.iter().map(move |mac| {
        problem(
            Kind::MacAddress,
            RECREATE,
            format!("{name} has the fixed mac_address {mac}"),
        )
    });
    fixed.chain(mac)
}

/// Compose's `getScale` also refuses it, but only while it creates containers.
fn container_name(service: &Service, replicas: u32) -> Option<Problem> {
    let fixed = service.container_name.as_ref()?;
    (replicas > 1).then(|| {
        let message = format!(
            "{} has container_name: {fixed} and {replicas} replicas",
            service.name
        );
        problem(Kind::ContainerName, NAME, message)
    })
}

fn anonymous_volumes(service: &Service, image_volumes: &[String]) -> Option<Problem> {
    let of_image = service.volumes_of_image(image_volumes);
    let of_image = of_image.map(|target| format!("{target} (of the image)"));
    let all: Vec<String> = service
        .anonymous_volumes
        .iter()
        .cloned()
        .chain(of_image)
        .collect();
    (!all.is_empty()).then(|| {
        let message = format!(
            "{} has anonymous volumes, whose data new containers would not see: {}",
            service.name,
            all.join(", ")
        );
        problem(Kind::AnonymousVolumes, RENEW, message)
    })
}

/// A container that joins an old replica stays joined to it after the rollout.
fn left_behind(project: &Project, service: &Service, joined: &Joined) -> Problem {
    let message = format!(
        "{} uses the containers of {} by {} and would still use the old ones after the rollout",
        joined.called(&project.name),
        service.name,
        joined.way
    );
    let of_project = joined.of.as_ref().filter(|(own, _)| *own == project.name);
    let declared = of_project.and_then(|(_, name)| project.services.get(name));
    let by_service = |other: &Service| {
        ways(other)
            .any(|(way, target)| way == joined.way && target == Target::Service(&service.name))
    };
    match declared.is_some_and(by_service) {
        true => problem(Kind::Joined, UP, message),
        false => {
            let hint = format!("{RECREATE}, then: {}", joined.recreate(&project.name));
            problem(Kind::Joined, &hint, message)
        }
    }
}

/// The services of the project that join this one's namespaces or volumes, by its name or a container's name.
pub fn joined(project: &Project, service: &Service, old: &[Replica]) -> Vec<Joined> {
    let is_own = |target: &Target<'_>| match target {
        Target::Service(name) => *name == service.name,
        Target::Container(name) => {
            service.container_name.as_deref() == Some(name)
                || old.iter().any(|replica| replica.name == *name)
        }
    };
    let others = project.services.values();
    let others = others.filter(|other| other.name != service.name);
    let found = others.flat_map(|other| {
        let own = ways(other).filter(|(_, target)| is_own(target));
        own.map(|(way, _)| Joined {
            name: other.name.clone(),
            of: Some((project.name.clone(), other.name.clone())),
            folder: None,
            way,
        })
    });
    found.collect()
}

/// Everything that a service joins, with the Compose key.
fn ways(service: &Service) -> impl Iterator<Item = (&'static str, Target<'_>)> {
    let namespaces = [
        ("network_mode", &service.network_mode),
        ("pid", &service.pid),
        ("ipc", &service.ipc),
    ];
    let namespaces = namespaces.into_iter().filter_map(|(way, value)| {
        let (kind, name) = value.as_deref()?.split_once(':')?;
        let target = match kind {
            "service" => Target::Service(name),
            "container" => Target::Container(name),
            _ => return None,
        };
        Some((way, target))
    });
    let volumes = service.volumes_from.iter();
    let volumes = volumes.filter_map(|from| Some(("volumes_from", Target::of_volumes(from)?)));
    namespaces.chain(volumes)
}

fn unknown_dependencies(project: &Project, service: &Service) -> impl Iterator<Item = Problem> {
    service
        .depends_on
        .iter()
        .filter(|dependency| {
            dependency.required && !project.services.contains_key(&dependency.service)
        })
        .map(|dependency| {
            let message = format!(
                "{} depends on {:?}, which is not in project {}",
                service.name, dependency.service, project.name
            );
            problem(Kind::UnknownDependency, DEPENDENCY, message)
        })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
