//! The parts of a resolved Compose project that a rollout uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Map, Value};

use super::view::volumes::trimmed;
use crate::{
    docker::engine::ExecCommand,
    error::{Error, Result, did_you_mean},
    model::{ServiceKey, name_and_tag},
    settings::NOTIFY,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    pub name: String,
    /// The enabled services by name.
    pub services: BTreeMap<String, Service>,
    /// Services with inactive profiles; filled only where a command needs them.
    pub disabled: BTreeSet<String>,
    /// The whole resolved configuration, `$` unescaped.
    pub raw: Value,
    /// The base of relative paths in its files.
    pub directory: PathBuf,
}

/// A field without a comment holds the key of the same name in the service or in `deploy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub name: String,
    /// `image`, else `<project>-<service>` for a service with `build`.
    pub image: Option<String>,
    pub has_build: bool,
    /// `pull_policy`, as written.
    pub pull_policy: Option<String>,
    /// `restart`, as written.
    pub restart: Option<String>,
    /// `scale`, else `deploy.replicas`, else 1.
    pub scale: u32,
    pub container_name: Option<String>,
    pub network_mode: Option<String>,
    pub pid: Option<String>,
    pub ipc: Option<String>,
    /// `volumes_from`, as written: `service[:mode]` or `container:name[:mode]`.
    pub volumes_from: Vec<String>,
    /// `ports`.
    pub published_ports: Vec<PublishedPort>,
    /// Network and address, from `networks.*.ipv4_address` and `ipv6_address`.
    pub static_addresses: Vec<(String, String)>,
    /// Its networks, as keys of the file.
    pub networks: Vec<String>,
    /// Targets of volumes without a source, without the image's `VOLUME`s.
    pub anonymous_volumes: Vec<String>,
    /// Targets of all mounts and tmpfs, which replace an image's `VOLUME` at the same path.
    pub mount_targets: Vec<String>,
    /// `mac_address` of the service or of one of its networks.
    pub mac_address: Option<String>,
    /// `depends_on`, and the dependencies implied by `links`, `volumes_from` and shared namespaces.
    pub depends_on: Vec<Dependency>,
    pub labels: BTreeMap<String, String>,
    /// `healthcheck` of the file, not the image's `HEALTHCHECK`.
    pub healthcheck: Option<Healthcheck>,
    pub pre_stop: Vec<ExecCommand>,
    /// `expose`, as written (`80`, `80/tcp`, `80-82`).
    pub expose: Vec<String>,
    /// SHA-256 in hex over the contents of its configs and secrets, which Compose's config hash leaves out. Empty without
    /// any.
    pub inline_digest: String,
    /// Its configs and secrets in its containers.
    pub contents: Vec<Content>,
    /// `x-rollout`, as written.
    pub x_rollout: Option<Value>,
}

/// One config or secret of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The path in the container.
    pub target: String,
    /// SHA-256 over the content in the Compose file.
    pub digest: Vec<u8>,
    /// The source, where it is a file. The container sees each change of it at once.
    pub file: Option<PathBuf>,
}

/// One entry of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    pub host_ip: Option<String>,
    pub host: HostPorts,
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// The host ports of one entry of `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPorts {
    Fixed(u16),
    /// A free one of a range, both ends included.
    Range(u16, u16),
    /// The engine chooses a free one.
    Ephemeral,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    pub condition: Condition,
    pub required: bool,
    /// Compose restarts the service after it replaces this dependency.
    pub restart: bool,
}

/// `depends_on.*.condition`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `service_started`, the default.
    Started,
    Healthy,
    CompletedSuccessfully,
    /// A condition of a newer Compose.
    Other(String),
}

/// `healthcheck`; durations are `None` where the file does not set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `test`, beginning with `CMD`, `CMD-SHELL` or `NONE`; empty where the file sets only the timing.
    pub test: Vec<String>,
    /// `disable: true`, or a test of `NONE`.
    pub disabled: bool,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub retries: Option<u32>,
}

impl Project {
    pub fn key(&self, service: &str) -> ServiceKey {
        ServiceKey {
            project: self.name.clone(),
            service: service.to_owned(),
        }
    }

    /// Refuses an unknown name, with the nearest and all known names.
    pub fn service(&self, name: &str) -> Result<&Service> {
        self.services.get(name).ok_or_else(|| self.no_service(name))
    }

    fn no_service(&self, name: &str) -> Error {
        let known: Vec<&str> = self
            .services
            .keys()
            .chain(&self.disabled)
            .map(String::as_str)
            .collect();
        let guess = did_you_mean(name, known.iter().copied())
            .map(|near| format!("; did you mean {near:?}?"))
            .unwrap_or_default();
        Error::refused(format!(
            "no service {name:?} in project {}{guess}",
            self.name
        ))
        .hint(format!("services: {}", known.join(", ")))
    }

    /// Adds services of the same project that were not enabled, with their networks and volumes.
    pub(super) fn enable(&mut self, other: Self) {
        for (section, value) in other.raw.as_object().into_iter().flatten() {
            let (Value::Object(theirs), ours) = (value, &mut self.raw[section.as_str()]) else {
                continue;
            };
            if ours.is_null() {
                *ours = Value::Object(Map::new());
            }
            for (key, value) in theirs {
                let Value::Object(ours) = &mut *ours else {
                    break;
                };
                let own = ours.entry(key.clone()).or_insert(Value::Null);
                if own.is_null() {
                    *own = value.clone();
                }
            }
        }
        for (name, service) in other.services {
            self.disabled.remove(&name);
            self.services.entry(name).or_insert(service);
        }
    }

    /// The service and its dependencies as a Compose file with the same config hash. JSON is YAML with explicit types.
    pub fn alone(&self, service: &str) -> Value {
        self.only(&[service])
    }

    /// These services and their dependencies as a Compose file with the same config hashes.
    pub(super) fn only(&self, services: &[&str]) -> Value {
        let mut all = self.raw.clone();
        let dependencies = services.iter().flat_map(|own| self.dependencies(own));
        let mut kept: BTreeSet<String> = dependencies.collect();
        kept.extend(services.iter().map(|own| (*own).to_owned()));
        if let Some(services) = all["services"].as_object_mut() {
            services.retain(|name, _| kept.contains(name.as_str()));
            // A service with an inactive profile is not a dependency.
            for service in services.values_mut() {
                service
                    .as_object_mut()
                    .into_iter()
                    .for_each(remove_addresses);
                let all = service.get_mut("depends_on");
                if let Some(all) = all.and_then(Value::as_object_mut) {
                    all.retain(|name, _| self.services.contains_key(name));
                }
            }
        }
        for section in ["configs", "secrets"] {
            let used = used_contents(&all["services"], section);
            if let Some(entries) = all.get_mut(section).and_then(Value::as_object_mut) {
                entries.retain(|name, _| used.contains(name));
            }
        }
        all.as_object_mut().into_iter().for_each(remove_addresses);
        escape(&mut all);
        all
    }

    /// Whether other services wait for the completion of this one.
    pub fn is_awaited(&self, service: &str) -> bool {
        let mut all = self.services.values().flat_map(|own| &own.depends_on);
        all.any(|own| own.service == service && own.condition == Condition::CompletedSuccessfully)
    }

    /// Whether a service runs to completion, and others wait for that. `on-failure` ends with a success, too.
    pub fn runs_once(&self, service: &Service) -> bool {
        let policy = service.restart.as_deref().unwrap_or("no");
        // After exit code 0 neither of them starts it again. `on-failure` may have a count.
        let stays_ended = matches!(policy.split(':').next(), Some("no" | "on-failure"));
        stays_ended && self.is_awaited(&service.name)
    }

    /// All direct and indirect dependencies of `service`, sorted by name, without `service` itself.
    pub fn dependencies(&self, service: &str) -> Vec<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![service];
        while let Some(name) = open.pop() {
            for dependency in self.services.get(name).iter().flat_map(|s| &s.depends_on) {
                if found.insert(dependency.service.clone()) {
                    open.push(&dependency.service);
                }
            }
        }
        found.remove(service);
        found.into_iter().collect()
    }
}

/// The configs, or the secrets, that these services use when they run or are built.
fn used_contents(services: &Value, section: &str) -> BTreeSet<String> {
    let services = services.as_object().into_iter().flatten();
    let uses = services.flat_map(|(_, own)| [&own[section], &own["build"][section]]);
    let uses = uses.filter_map(Value::as_array).flatten();
    uses.filter_map(|used| Some(used["source"].as_str()?.to_owned()))
        .collect()
}

/// The addresses of notifications may be secrets and are no part of a version, so no record keeps them.
pub(super) fn remove_addresses(of: &mut Map<String, Value>) {
    if let Some(Value::Object(settings)) = of.get_mut("x-rollout") {
        settings.remove(NOTIFY);
    }
}

/// Doubles each `$`, which begins a variable in a Compose file. Compose expands variables in values, but not in keys.
pub(super) fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(all) => all.iter_mut().for_each(escape),
        Value::Object(all) => {
            all.values_mut().for_each(escape);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a service shares a namespace or volumes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Service(&'a str),
    Container(&'a str),
}

impl<'a> Target<'a> {
    /// Reads one entry of `volumes_from`: `service[:mode]` or `container:name[:mode]`.
    pub fn of_volumes(entry: &'a str) -> Option<Self> {
        let mut words = entry.split(':');
        match words.next()? {
            "container" => words.next().map(Self::Container),
            service => Some(Self::Service(service)),
        }
    }
}

impl Service {
    /// Its entry in [`Project::raw`].
    pub fn raw<'a>(&self, project: &'a Project) -> &'a Value {
        &project.raw["services"][&self.name]
    }

    /// The volumes of its image at whose place the file mounts nothing.
    pub fn volumes_of_image<'a>(&self, declared: &'a [String]) -> impl Iterator<Item = &'a String> {
        let mounted = self.mount_targets.iter();
        let mounted: BTreeSet<String> = mounted.map(|path| trimmed(path).to_owned()).collect();
        let all = declared.iter();
        all.filter(move |path| !mounted.contains(trimmed(path)))
    }

    /// The last word of its image's name, such as `postgres`.
    pub fn bare_image(&self) -> &str {
        name_and_tag(self.image.as_deref().unwrap_or_default()).0
    }
}
