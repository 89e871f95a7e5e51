//! Whether a container that the engine lists is a Traefik, and of which version. Pure.

use bollard::models::ContainerSummary;

use super::version::Version;
use crate::model::name_and_tag;

/// Whether it runs Traefik: by the name of its image, its program, or the title of its image.
pub fn looks_like_traefik(summary: &ContainerSummary) -> bool {
    let image = summary.image.as_deref().unwrap_or_default();
    let command = summary.command.as_deref().unwrap_or_default();
    // An entrypoint script may stand before it.
    let mut program = command.trim_matches('"').split_whitespace().take(2);
    let title = summary.labels.iter().flatten();
    let mut title = title.filter(|(key, _)| *key == "org.opencontainers.image.title");
    name_and_tag(image).0 == "traefik"
        || program.any(|word| word.rsplit('/').next() == Some("traefik"))
        || title.any(|(_, title)| title.eq_ignore_ascii_case("traefik"))
}

/// The version of Traefik that the tag of an image says.
pub fn tagged_version(image: &str) -> Option<Version> {
    name_and_tag(image).1.parse().ok()
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
            assert_eq!(name_and_tag(image).0, name);
            let found = tagged_version(image).map(|own| own.to_string());
            assert_eq!(found.as_deref(), version, "{image}");
        }
    }

    proptest! {
        #[test]
        fn a_listed_container_with_values_of_any_type_is_a_traefik_or_not(
            value in replaced(serde_json::json!({
                "Image": "traefik:v3.7", "Command": "\"/entrypoint.sh traefik\"",
            })),
            image in mutated_text("registry:5000/traefik:v2.11.3@sha256:0"),
        ) {
            if let Ok(mut summary) = serde_json::from_value::<ContainerSummary>(value) {
                summary.image = Some(image.clone());
                prop_assert!(looks_like_traefik(&summary) || name_and_tag(&image).0 != "traefik");
            }
            prop_assert!(!name_and_tag(&image).0.contains(['/', ':', '@']));
        }
    }
}
