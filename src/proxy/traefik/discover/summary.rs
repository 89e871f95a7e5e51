//! What the engine's list says of a container: its name, its networks, whether it is a Traefik. Pure.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;

use crate::proxy::traefik::version::Version;

/// The name, without a slash.
pub fn name(summary: &ContainerSummary) -> String {
    let names = summary.names.iter().flatten();
    let first = names.map(|name| name.trim_start_matches('/')).next();
    first.unwrap_or_default().to_owned()
}

/// Whether a container can open connections to a service in these networks; one in the host's network can always.
pub fn reaches(summary: &ContainerSummary, networks: &BTreeSet<String>) -> bool {
    is_in_the_hosts_network(summary)
        || networks_of(summary).any(|network| networks.contains(network))
}

/// Whether it has no network of its own.
pub fn is_in_the_hosts_network(summary: &ContainerSummary) -> bool {
    let host = summary.host_config.as_ref();
    host.and_then(|config| config.network_mode.as_deref()) == Some("host")
}

/// Its addresses in all of its networks.
pub fn addresses_of(summary: &ContainerSummary) -> impl Iterator<Item = &str> {
    let settings = summary.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    let networks = networks.into_iter().flat_map(|networks| networks.values());
    networks
        .flat_map(|own| [&own.ip_address, &own.global_ipv6_address])
        .flatten()
        .map(String::as_str)
}

/// The names of its networks.
pub fn networks_of(summary: &ContainerSummary) -> impl Iterator<Item = &String> {
    let settings = summary.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flat_map(|networks| networks.keys())
}

/// Whether it runs Traefik: by the name of its image, its program, or the title of its image.
pub fn looks_like_traefik(summary: &ContainerSummary) -> bool {
    let image = summary.image.as_deref().unwrap_or_default();
    let command = summary.command.as_deref().unwrap_or_default();
    // An entrypoint script may stand before it.
    let mut program = command.trim_matches('"').split_whitespace().take(2);
    let title = summary.labels.iter().flatten();
    let mut title = title.filter(|(key, _)| *key == "org.opencontainers.image.title");
    image_name(image) == "traefik"
        || program.any(|word| word.rsplit('/').next() == Some("traefik"))
        || title.any(|(_, title)| title.eq_ignore_ascii_case("traefik"))
}

/// What an image is called, without its registry, its tag and its digest.
pub fn image_name(image: &str) -> &str {
    name_and_tag(image).0
}

/// The version of Traefik that the tag of an image says.
pub fn tagged_version(image: &str) -> Option<Version> {
    name_and_tag(image).1.parse().ok()
}

/// The last word of an image's name, and its tag, which is empty where it has none.
fn name_and_tag(image: &str) -> (&str, &str) {
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{mutated_text, replaced};

    #[test]
    fn an_image_has_a_name_and_perhaps_a_version() {
        for (image, name, version) in [
            ("traefik:v3.7", "traefik", Some("3.7")),
            ("docker.io/library/traefik@sha256:0", "traefik", None),
            ("registry:5000/mirror/traefik", "traefik", None),
            (
                "registry:5000/traefik:v2.11.3@sha256:0",
                "traefik",
                Some("2.11.3"),
            ),
            ("traefik:latest", "traefik", None),
            ("shop/web", "web", None),
        ] {
            assert_eq!(image_name(image), name);
            let found = tagged_version(image).map(|own| own.to_string());
            assert_eq!(found.as_deref(), version, "{image}");
        }
    }

    proptest! {
        #[test]
        fn a_listed_container_with_values_of_any_type_has_a_name_and_is_a_traefik_or_not(
            value in replaced(serde_json::json!({
                "Names": ["/edge-1"], "Image": "traefik:v3.7", "Command": "\"/entrypoint.sh traefik\"",
                "HostConfig": {"NetworkMode": "edge"}, "NetworkSettings": {"Networks": {"edge": {"IPAddress": "10.0.0.2"}}},
            })),
            image in mutated_text("registry:5000/traefik:v2.11.3@sha256:0"),
        ) {
            if let Ok(mut summary) = serde_json::from_value::<ContainerSummary>(value) {
                prop_assert!(!name(&summary).starts_with('/'));
                let networks = networks_of(&summary).cloned().collect();
                let reached = is_in_the_hosts_network(&summary) || networks_of(&summary).next().is_some();
                prop_assert_eq!(reaches(&summary, &networks), reached);
                prop_assert!(addresses_of(&summary).count() <= 2 * networks.len());
                summary.image = Some(image.clone());
                prop_assert!(looks_like_traefik(&summary) || image_name(&image) != "traefik");
            }
            prop_assert!(!image_name(&image).contains(['/', ':', '@']));
        }
    }
}
