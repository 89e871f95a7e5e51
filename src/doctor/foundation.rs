//! The engine and Compose: whether they are new enough.

use super::{Check, Facts, Finding, Fix};
use crate::{engine::About, proxy::traefik::version::Version};

/// The oldest of each that every test has been run on.
const ENGINE: Version = Version {
    major: 20,
    minor: 10,
    patch: 0,
};
const COMPOSE: Version = Version {
    major: 2,
    minor: 26,
    patch: 1,
};

/// The engine and Compose.
pub fn check(facts: &Facts) -> Vec<Finding> {
    vec![engine(&facts.engine), compose(&facts.compose)]
}

/// Before it, newer Composes make every container anew at each `up`: it gives names of networks out as their ids.
const PODMAN: Version = Version {
    major: 5,
    minor: 4,
    patch: 0,
};

fn engine(about: &About) -> Finding {
    if about.name.starts_with("Podman") {
        return podman(about);
    }
    let text = format!("answers: {}, API {}", about.version, about.api);
    match older(&about.version, ENGINE) {
        false => Finding::ok(Check::Engine, "docker", text),
        true => Finding::warn(
            Check::Engine,
            "docker",
            format!("{text}; nobody has tried one before {ENGINE}"),
        )
        .fix(Fix::text(
            "update the engine: https://docs.docker.com/engine/install/",
        )),
    }
}

fn podman(about: &About) -> Finding {
    let text = format!(
        "answers: Podman {} in Docker's place, API {}",
        about.version, about.api
    );
    match older(&about.version, PODMAN) {
        false => Finding::ok(Check::Engine, "podman", text),
        true => Finding::warn(
            Check::Engine,
            "podman",
            format!("{text}; before {PODMAN}, newer Composes make every container anew at each up"),
        )
        .fix(Fix::text("update Podman")),
    }
}

fn compose(version: &str) -> Finding {
    let text = format!("answers: {version}");
    match older(version, COMPOSE) {
        false => Finding::ok(Check::Compose, "docker compose", text),
        true => Finding::warn(
            Check::Compose,
            "docker compose",
            format!("{text}; nobody has tried one before {COMPOSE}"),
        )
        .fix(Fix::text(
            "update the plugin docker-compose-plugin: https://docs.docker.com/compose/install/",
        )),
    }
}

/// What is no version is taken for a new one: forks have their own ways to number.
fn older(version: &str, than: Version) -> bool {
    version.parse().is_ok_and(|own: Version| own < than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn versions_that_somebody_has_tried_are_fine_and_older_ones_are_told() {
        for (version, level) in [
            ("2.26.1-4", Level::Ok),
            ("2.40.3", Level::Ok),
            ("5.1.0", Level::Ok),
            ("2.26.0", Level::Warn),
            ("2.2.3", Level::Warn),
            ("dev", Level::Ok),
        ] {
            assert_eq!(compose(version).level, level, "{version}");
        }
        for (version, level) in [
            ("20.10.24+dfsg1", Level::Ok),
            ("28.5.2", Level::Ok),
            ("19.03.15", Level::Warn),
        ] {
            let about = About {
                version: version.to_owned(),
                ..About::default()
            };
            assert_eq!(engine(&about).level, level, "{version}");
        }
        for (version, level) in [("4.3.1", Level::Warn), ("5.4.2", Level::Ok)] {
            let about = About {
                name: "Podman Engine".to_owned(),
                version: version.to_owned(),
                ..About::default()
            };
            assert_eq!(engine(&about).level, level, "{version}");
        }
    }
}
