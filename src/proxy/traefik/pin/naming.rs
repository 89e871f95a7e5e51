//! What things are called in the pin file, and how what it does not hold itself is referred to. Pure.

use super::definition::{Definition, Name};
use crate::{model::ServiceKey, proxy::traefik::names::Protocol};

/// Before every name of one service's pin. A label's name has no dot, and neither has a project's: no two services meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of a service.
    pub fn of(key: &ServiceKey) -> Self {
        Self(format!("rollout.{}.{}", key.project, key.service))
    }

    /// The name in the file of what the labels call `name`.
    pub fn name(&self, protocol: Protocol, name: &str) -> String {
        // UDP routers have no priority: of several on an entrypoint, Traefik takes the last by name.
        let first = if protocol == Protocol::Udp { "~" } else { "" };
        // Traefik tells names from providers by the first `@`.
        format!("{first}{}.{}", self.0, name.replace('@', "-"))
    }

    /// What the labels call a name of the file, less what tells it from others of that name.
    pub fn label<'n>(&self, protocol: Protocol, full: &'n str) -> &'n str {
        let start = self.name(protocol, "");
        let name = full.strip_prefix(&start).unwrap_or(full);
        name.split('~').next().unwrap_or(name)
    }

    /// The file's name; Traefik's file provider reads `.yml`, `.yaml` and `.toml`, and JSON is YAML.
    pub fn file(&self) -> String {
        format!("{}.yml", self.0)
    }
}

/// Where the bare names of one definition lead.
#[derive(Clone)]
pub struct References<'a> {
    /// The prefix of what is in the file.
    pub prefix: Prefix,
    /// Whose middlewares they are.
    pub of: &'a Definition,
    /// Distinguishes them from the other version's, which may have the same names.
    pub suffix: &'a str,
    /// Whose services the file holds.
    pub live: &'a Definition,
}

impl References<'_> {
    /// A middleware: the file's own copy of what the same labels define, since the original goes with the containers.
    pub fn middleware(&self, protocol: Protocol, reference: &str) -> String {
        match own(reference) {
            Some(bare) if self.of.middlewares.contains_key(&(protocol, bare.into())) => {
                self.own_middleware(protocol, bare)
            }
            _ => docker(reference),
        }
    }

    /// The name of a copy.
    pub fn own_middleware(&self, protocol: Protocol, name: &str) -> String {
        self.prefix
            .name(protocol, &format!("{name}{}", self.suffix))
    }

    /// A service: the file's own, where it holds one of that name.
    pub fn service(&self, protocol: Protocol, reference: &str) -> String {
        match own(reference) {
            Some(bare) if self.live.services.contains_key(&name(protocol, bare)) => {
                self.prefix.name(protocol, bare)
            }
            _ => docker(reference),
        }
    }
}

/// A name that labels can define.
pub fn own(reference: &str) -> Option<&str> {
    match reference.split_once('@') {
        None => Some(reference),
        Some((bare, "docker")) => Some(bare),
        Some(_) => None,
    }
}

/// In labels a bare name is the Docker provider's, in a file it would be the file provider's.
pub fn docker(reference: &str) -> String {
    match reference.contains('@') {
        true => reference.to_owned(),
        false => format!("{reference}@docker"),
    }
}

/// A key of a definition.
pub fn name(protocol: Protocol, name: &str) -> Name {
    (protocol, name.to_owned())
}
