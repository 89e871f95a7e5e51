//! Labels that two containers define differently, for which Traefik drops what they define.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    Check, Edit, Facts, Finding, Fix, Level, ServiceFacts,
    fix::{remove, set},
};
use crate::proxy::traefik::conflicts::{Conflict, Object, between};

/// The new version against what runs: of the same service, which a rollout keeps apart, and of others, which nobody does.
pub fn check(_: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.is_routed() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for neighbour in &service.neighbours {
        let found = between(&service.labels, &neighbour.labels);
        let text = format!(
            "and {} define {} differently: Traefik drops it for both",
            neighbour.name,
            told(&found)
        );
        findings.extend(finding(Level::Fail, service, &found, text));
    }
    let mut olds = service
        .olds
        .iter()
        .map(|old| between(&old.labels, &service.labels));
    if let Some(found) = olds.find(|found| !found.is_empty()) {
        let text = format!(
            "as it runs and as the file has it differ in {}: a rollout keeps them apart; --allow-split, or replicas added \
             by docker compose up --no-recreate, would have Traefik drop it for both",
            told(&found)
        );
        findings.extend(finding(Level::Warn, service, &found, text));
    }
    findings
}

fn finding(
    level: Level,
    service: &ServiceFacts,
    found: &[Conflict],
    text: String,
) -> Option<Finding> {
    let name = service.name();
    let first = found.first()?;
    let edits = renamed(service, found);
    let fix = Fix::edit_of(
        name,
        format!(
            "give what differs, such as {}, a name of its own",
            first.object
        ),
        edits,
    );
    Some(Finding::new(level, Check::Labels, name, format!("{name} {text}")).fix(fix))
}

fn told(found: &[Conflict]) -> String {
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    told.join(", ")
}

/// The labels with new names for the objects that conflict, and for the routers that lead to them.
fn renamed(service: &ServiceFacts, found: &[Conflict]) -> Vec<Edit> {
    let labels = &service.service.labels;
    let mut objects: BTreeSet<Object> = found.iter().map(|own| own.object.clone()).collect();
    for object in found
        .iter()
        .map(|own| &own.object)
        .filter(|own| own.kind != "router")
    {
        let others = labels.keys().filter_map(|key| Object::of(key));
        objects
            .extend(others.filter(|own| own.kind == "router" && own.protocol == object.protocol));
    }
    let names: BTreeMap<&Object, String> =
        objects.iter().map(|own| (own, fresh(&own.name))).collect();
    let at = ["services", service.name(), "labels"];
    let (mut gone, mut come) = (Vec::new(), Map::new());
    for (key, value) in labels {
        let Some(object) = Object::of(key) else {
            continue;
        };
        let new_key = names.get(&object).map(|name| with_name(key, name));
        let new_value = referring(key, value, &object, &names);
        if new_key.is_none() && new_value == *value {
            continue;
        }
        match new_key {
            Some(new_key) => {
                gone.push(remove(&[at[0], at[1], at[2], key]));
                come.insert(new_key, json!(new_value));
            }
            None => drop(come.insert(key.clone(), json!(new_value))),
        }
    }
    gone.push(set(&at, Value::Object(come)));
    gone
}

/// `web` becomes `web-2`, and `web-2` becomes `web-3`.
fn fresh(name: &str) -> String {
    let numbered = name
        .rsplit_once('-')
        .and_then(|(word, number)| Some((word, number.parse::<u32>().ok()?)));
    match numbered {
        Some((word, number)) => format!("{word}-{}", number.saturating_add(1)),
        None => format!("{name}-2"),
    }
}

/// A key with another name in its fourth place.
fn with_name(key: &str, name: &str) -> String {
    let mut parts: Vec<&str> = key.splitn(5, '.').collect();
    if let Some(own) = parts.get_mut(3) {
        *own = name;
    }
    parts.join(".")
}

/// What a router says of services and middlewares that have new names.
fn referring(key: &str, value: &str, router: &Object, names: &BTreeMap<&Object, String>) -> String {
    let option = key
        .splitn(5, '.')
        .nth(4)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let kind = match option.as_str() {
        "service" => "service",
        "middlewares" => "middleware",
        _ => return value.to_owned(),
    };
    let new = |word: &str| {
        let (name, provider) = word.split_once('@').unwrap_or((word, ""));
        let found = names.iter().find(|(own, _)| {
            own.kind == kind && own.name == name && own.protocol == router.protocol
        });
        match found.filter(|_| provider.is_empty() || provider == "docker") {
            Some((_, fresh)) => word.replacen(name, fresh, 1),
            None => word.to_owned(),
        }
    };
    let words: Vec<String> = value.split(',').map(|word| new(word.trim())).collect();
    words.join(",")
}

#[cfg(test)]
#[path = "conflicts_tests.rs"]
mod tests;
