//! The engine, Compose and the socket proxies: whether their versions fit.

use super::{Check, Facts, Finding, Fix};
use crate::{
    docker::engine::About,
    proxy::{socket_proxies::OtherVersion, traefik::config::Version},
};

/// The oldest releases on which every test has been run.
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

/// Older releases report the names of networks as their ids, so that newer Composes recreate every container at each `up`.
const PODMAN: Version = Version {
    major: 5,
    minor: 4,
    patch: 0,
};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![engine(&facts.engine), compose(&facts.compose)];
    findings.extend(facts.other_versions.iter().map(socket_proxy));
    findings
}

fn socket_proxy(own: &OtherVersion) -> Finding {
    let fix = Fix::run("give it the version of this command", &own.upgrade);
    Finding::warn(Check::Switch, &own.name, own.to_string()).fix(fix)
}

fn engine(about: &About) -> Finding {
    if about.name.starts_with("Podman") {
        return podman(about);
    }
    let text = format!("answers: {}, API {}", about.version, about.api);
    match older(&about.version, ENGINE) {
        false => Finding::ok(Check::Engine, "docker", text),
        true => untested(Check::Engine, "docker", &text, ENGINE).fix(Fix::text(
            "update the engine: https://docs.docker.com/engine/install/",
        )),
    }
}

fn podman(about: &About) -> Finding {
    let text = format!(
        "answers: Podman {} in place of Docker, API {}",
        about.version, about.api
    );
    if !older(&about.version, PODMAN) {
        return Finding::ok(Check::Engine, "podman", text);
    }
    let why = format!("before {PODMAN}, newer Composes recreate every container at each up");
    Finding::warn(Check::Engine, "podman", format!("{text}; {why}")).fix(Fix::text("update Podman"))
}

fn compose(version: &str) -> Finding {
    let text = format!("answers: {version}");
    match older(version, COMPOSE) {
        false => Finding::ok(Check::Compose, "docker compose", text),
        true => untested(Check::Compose, "docker compose", &text, COMPOSE).fix(Fix::text(
            "update the plugin docker-compose-plugin: https://docs.docker.com/compose/install/",
        )),
    }
}

fn untested(check: Check, subject: &str, text: &str, least: Version) -> Finding {
    let text = format!("{text}; releases before {least} are untested");
    Finding::warn(check, subject, text)
}

/// An unreadable version counts as new: forks number their releases differently.
fn older(version: &str, than: Version) -> bool {
    version.parse().is_ok_and(|own: Version| own < than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn tested_versions_are_fine_and_older_ones_are_a_warning() {
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
