//! Whose address a Traefik takes where a container is in several networks (`getIPAddress` in
//! `pkg/provider/docker/config.go`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::names::is_label;
use crate::proxy::traefik::config::Docker;

/// The label that names the network.
const LABEL: &str = "traefik.docker.network";

/// Why Traefik may send where it does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Astray {
    /// In a few words, to be followed by what to do.
    pub message: String,
    /// A network that both are in; the one to name.
    pub shared: Option<String>,
}

/// Whether a Traefik in `its` networks surely gets to containers with these labels in `theirs`; all are the engine's names.
pub fn astray(
    docker: &Docker,
    labels: &BTreeMap<String, String>,
    its: &BTreeSet<String>,
    theirs: &BTreeSet<String>,
) -> Option<Astray> {
    let mut all = labels.iter();
    let label = all.find(|(key, _)| is_label(key, LABEL));
    let named = label
        .map(|(_, network)| network)
        .filter(|own| !own.is_empty());
    let named = named.or(docker.network.as_ref());
    let shared = its.intersection(theirs).next().cloned();
    if let Some(network) = named.filter(|network| theirs.contains(*network)) {
        let message = format!(
            "takes the service's address in network {network}, in which Traefik itself is not"
        );
        return (!its.contains(network)).then_some(Astray { message, shared });
    }
    // Otherwise it takes the first of a map, which Go shuffles at each reload.
    if theirs.is_subset(its) || (theirs.len() < 2 && named.is_none()) {
        return None;
    }
    let why = match named {
        Some(network) => {
            format!("is configured with network {network}, in which the service is not, and so")
        }
        None => "is not configured with a network for the service, and so".to_owned(),
    };
    let networks: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let message = format!(
        "{why} takes the service's address in any of {}",
        networks.join(", ")
    );
    Some(Astray { message, shared })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::traefik::config::{Given, read};

    fn docker(network: &str) -> Docker {
        let option = format!("--providers.docker.network={network}");
        let given = Given {
            arguments: &[option],
            ..Given::default()
        };
        read(given).unwrap().docker.unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(provider: &str, label: &str, its: &[&str], theirs: &[&str]) -> Option<String> {
        let labels = match label {
            "" => BTreeMap::new(),
            label => BTreeMap::from([("traefik.Docker.network".to_owned(), label.to_owned())]),
        };
        let astray = astray(&docker(provider), &labels, &set(its), &set(theirs))?;
        Some(format!(
            "{}; {}",
            astray.message,
            astray.shared.unwrap_or_default()
        ))
    }

    #[test]
    fn one_network_that_both_are_in_needs_no_word() {
        assert_eq!(found("", "", &["front", "api"], &["front"]), None);
        assert_eq!(found("", "", &["front", "back"], &["front", "back"]), None);
    }

    #[test]
    fn of_several_networks_one_has_to_be_named() {
        let any = found("", "", &["front"], &["back", "front"]).unwrap();
        assert_eq!(
            any,
            "is not configured with a network for the service, and so takes the service's address in any of back, front; front"
        );
        assert_eq!(found("", "front", &["front"], &["back", "front"]), None);
        assert_eq!(found("front", "", &["front"], &["back", "front"]), None);
    }

    #[test]
    fn the_label_wins_over_the_provider_and_has_to_be_right() {
        let wrong = found("front", "back", &["front"], &["back", "front"]).unwrap();
        assert_eq!(
            wrong,
            "takes the service's address in network back, in which Traefik itself is not; front"
        );
        let unknown = found("", "frnot", &["front"], &["back", "front"]).unwrap();
        assert!(
            unknown.contains("network frnot, in which the service is not"),
            "{unknown}"
        );
        // With one network alone, Traefik falls back to the right one.
        assert_eq!(found("", "frnot", &["front"], &["front"]), None);
    }
}
