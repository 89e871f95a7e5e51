//! What two sets of a service would both use although it exists once: devices, and a fixed hostname.

use serde_json::Value;

use super::{Check, Facts, Finding, Fix, ServiceFacts};
use crate::compose::edits::remove;

pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.runs_twice() {
        return Vec::new();
    }
    let raw = service.service.raw(&facts.project);
    let found = [devices(service.name(), raw), hostname(service, raw)];
    found.into_iter().flatten().collect()
}

fn devices(name: &str, raw: &Value) -> Option<Finding> {
    let places = [
        ("devices", &raw["devices"]),
        ("gpus", &raw["gpus"]),
        (
            "deploy.resources.reservations.devices",
            &raw["deploy"]["resources"]["reservations"]["devices"],
        ),
    ];
    let given = |value: &Value| match value {
        Value::Null => false,
        Value::Array(all) => !all.is_empty(),
        _ => true,
    };
    let places = places.into_iter().filter(|(_, value)| given(value));
    let keys: Vec<&str> = places.map(|(key, _)| key).collect();
    let text = format!(
        "both versions of {name} use the same device ({}) while both run",
        keys.join(", ")
    );
    (!keys.is_empty()).then(|| {
        let fix = Fix::recreate(name, "if only one process at a time may use it, ");
        Finding::warn(Check::Devices, name, text).fix(fix)
    })
}

/// A hostname does not matter behind a router, but a worker often uses it as its identity.
fn hostname(service: &ServiceFacts, raw: &Value) -> Option<Finding> {
    let name = service.name();
    let hostname = raw["hostname"].as_str().filter(|_| !service.is_routed())?;
    let text = format!(
        "both versions of {name} call themselves {hostname} while both run: a worker that registers by its hostname \
         would be there twice"
    );
    let fix = Fix::edit_of(
        name,
        "let each container have its own hostname",
        vec![remove(&["services", name, "hostname"])],
    );
    Some(Finding::warn(Check::Hostname, name, text).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Level, testing};

    fn found(yaml: &str) -> Vec<(Check, String)> {
        let (facts, service) = testing::of(yaml);
        let found = check(&facts, &service).into_iter();
        found
            .map(|own| {
                assert_eq!(own.level, Level::Warn);
                (own.check, own.text)
            })
            .collect()
    }

    #[test]
    fn a_device_in_whatever_form_is_shared_by_two_sets() {
        for (yaml, key) in [
            ("devices: ['/dev/ttyUSB0:/dev/ttyUSB0']", "(devices)"),
            (
                "devices: [{source: /dev/dri, target: /dev/dri, permissions: rwm}]",
                "(devices)",
            ),
            ("gpus: all", "(gpus)"),
            ("gpus: [{driver: nvidia, count: 1}]", "(gpus)"),
            (
                "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
                "(deploy.resources.reservations.devices)",
            ),
        ] {
            let found = found(yaml);
            assert_eq!(found.len(), 1, "{yaml}");
            assert_eq!(found[0].0, Check::Devices);
            assert!(found[0].1.contains(key), "{yaml}: {}", found[0].1);
        }
        for yaml in [
            "devices: []",
            "gpus: all\nx-rollout: {strategy: recreate}",
            "image: app",
        ] {
            assert_eq!(found(yaml), [], "{yaml}");
        }
    }

    #[test]
    fn a_fixed_hostname_is_a_warning_only_without_a_router() {
        let found = |yaml| {
            found(yaml)
                .into_iter()
                .map(|(check, _)| check)
                .collect::<Vec<_>>()
        };
        assert_eq!(found("hostname: worker"), [Check::Hostname]);
        let routed = "hostname: site\nlabels: {traefik.enable: 'true', traefik.http.routers.web.rule: 'Host(`a`)'}";
        assert_eq!(found(routed), []);
    }
}
