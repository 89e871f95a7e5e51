//! The checks that can block a rollout; doctor's findings and a rollout's refusals share their names.

use std::fmt;

use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;

/// One check, in the order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[expect(
    clippy::enum_variant_names,
    reason = "the variants are the words of the output"
)]
pub enum Check {
    /// Whether the engine answers, and its version
    Engine,
    /// Whether Compose answers, and its version
    Compose,
    /// Whether Traefik runs, and its version
    Traefik,
    /// Whether its API is reached
    Api,
    /// How the traffic of a service is moved
    Switch,
    /// Labels that clash with those of another container, or that Traefik does not have
    Labels,
    /// Published host ports
    HostPorts,
    /// A network namespace that is not the container's own
    NetworkMode,
    /// Fixed addresses
    StaticAddress,
    /// Fixed MAC addresses
    MacAddress,
    /// A fixed name and several replicas
    ContainerName,
    /// Volumes that a new set would start without
    AnonymousVolumes,
    /// Services that live in this one's namespaces or volumes
    Joined,
    /// Services that this one needs
    Dependency,
    /// Whatever else a rollout would be refused for
    Rollout,
    /// What an earlier rollout has left
    Unfinished,
    /// Data that only one process may write
    SingleWriter,
    /// Services that call this one by its name
    Calls,
    HealthCheck,
    /// Devices that two sets would share
    Devices,
    /// A fixed hostname that two sets would have
    Hostname,
    /// Folders of the project that the engine would look for elsewhere
    Binds,
    /// Which containers have the engine's socket
    Socket,
}

impl Check {
    /// Those whose refusal a rollout can go on in spite of.
    pub const IGNORABLE: [Self; 11] = [
        Self::Traefik,
        Self::Api,
        Self::Switch,
        Self::Labels,
        Self::HostPorts,
        Self::NetworkMode,
        Self::StaticAddress,
        Self::MacAddress,
        Self::AnonymousVolumes,
        Self::Joined,
        Self::Rollout,
    ];

    /// Reads the word of one that can be ignored.
    pub fn ignorable() -> impl TypedValueParser<Value = Self> {
        let words = Self::IGNORABLE.iter().filter_map(Self::to_possible_value);
        PossibleValuesParser::new(words).try_map(|word| Self::from_str(&word, false))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.to_possible_value();
        f.write_str(word.as_ref().map_or("", |word| word.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_flag_is_the_word_of_the_output() {
        for check in Check::value_variants() {
            let written = serde_json::to_string(check).unwrap();
            assert_eq!(written, format!("{:?}", check.to_string()));
        }
    }
}
