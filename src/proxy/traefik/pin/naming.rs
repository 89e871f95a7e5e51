//! What things are called in the pin file, and how what it does not hold itself is referred to. Pure.

use super::definition::{Definition, Name};
use crate::proxy::traefik::{api::Prefix, labels::Protocol};

/// Where the bare names of one definition lead.
#[derive(Clone)]
pub struct References<'a> {
    /// The prefix of what is in the file.
    pub prefix: Prefix,
    /// The version that defines the middlewares.
    pub of: &'a Definition,
    /// Distinguishes them from the other version's, which may have the same names.
    pub suffix: &'a str,
    /// The version whose services are in the file.
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
