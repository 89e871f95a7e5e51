//! Labels that two containers define differently, so that Traefik drops what they define, and services whose servers
//! Traefik merges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Check, Facts, Finding, Fix, Level, ServiceFacts};
use crate::{
    compose::edits::{Edit, remove, set},
    model::label,
    overlay::Labels,
    proxy::traefik::labels::{
        Clash, MIDDLEWARE, Neighbour, Object, Outcome, ROUTER, SERVICE, between, clashes,
        objects_of,
    },
};

/// Compares the new version with what runs: with the same service, which a rollout keeps apart, and with others.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.is_routed() {
        return Vec::new();
    }
    let mut all = clashes(&service.labels, &service.neighbours);
    all.retain(|clash| !is_reported_by_another(facts, service, clash));
    let mut findings = Vec::new();
    for neighbour in &service.neighbours {
        let own = all.iter().filter(|own| own.neighbour == neighbour);
        let (dropped, shared): (Vec<&Clash<'_>>, Vec<&Clash<'_>>) =
            own.partition(|own| own.outcome != Outcome::Shared);
        findings.extend(with_neighbour(service, neighbour, &dropped, &shared));
    }
    let mut olds = service
        .olds
        .iter()
        .map(|old| (old, between(&old.labels, &service.labels)));
    if let Some((old, found)) = olds.find(|(_, found)| !found.is_empty()) {
        let text = format!(
            "as it runs and as the file has it differ in {}: a rollout keeps them apart; --allow-split, or replicas added \
             by docker compose up --no-recreate, would have Traefik drop it for both",
            joined(&found)
        );
        let objects = found.iter().map(|own| own.object.clone()).collect();
        findings.push(finding(Level::Warn, service, objects, &old.labels, text));
    }
    findings
}

fn with_neighbour(
    service: &ServiceFacts,
    neighbour: &Neighbour,
    dropped: &[&Clash<'_>],
    shared: &[&Clash<'_>],
) -> Option<Finding> {
    let objects = |all: &[&Clash<'_>]| all.iter().map(|own| own.object.clone()).collect();
    if !dropped.is_empty() {
        let text = format!(
            "and {} define {} differently: Traefik drops it for both",
            neighbour.name,
            joined(dropped)
        );
        let objects = objects(dropped);
        return Some(finding(
            Level::Fail,
            service,
            objects,
            &neighbour.labels,
            text,
        ));
    }
    if shared.is_empty() {
        return None;
    }
    let text = format!(
        "and {} define {}: Traefik sends its requests to both",
        neighbour.name,
        joined(shared)
    );
    match neighbour.project()
        == service
            .labels
            .get(label::COMPOSE_PROJECT)
            .map(String::as_str)
    {
        // Within one project this can be intended.
        true => Some(Finding::ok(
            Check::Labels,
            service.name(),
            format!("{} {text}", service.name()),
        )),
        false => Some(finding(
            Level::Fail,
            service,
            objects(shared),
            &neighbour.labels,
            text,
        )),
    }
}

/// Whether another service of the project has a finding for the same object: only one of the two gets the advice.
fn is_reported_by_another(facts: &Facts, service: &ServiceFacts, clash: &Clash<'_>) -> bool {
    let project = service.labels.get(label::COMPOSE_PROJECT);
    if clash.neighbour.project() != project.map(String::as_str) {
        return false;
    }
    let mut earlier = facts
        .services
        .iter()
        .take_while(|own| own.name() != service.name());
    let other = earlier.find(|own| Some(own.name()) == clash.neighbour.service());
    other.filter(|own| own.is_routed()).is_some_and(|other| {
        let theirs = clashes(&other.labels, &other.neighbours);
        theirs.iter().any(|own| {
            own.object == clash.object && own.neighbour.service() == Some(service.name())
        })
    })
}

fn finding(
    level: Level,
    service: &ServiceFacts,
    objects: BTreeSet<Object>,
    other: &Labels,
    text: String,
) -> Finding {
    let name = service.name();
    let first = objects.first().map(ToString::to_string);
    let edits = renamed(service, objects, other);
    let advice = format!(
        "give what differs, such as {}, its own name",
        first.unwrap_or_default()
    );
    let fix = match edits.is_empty() {
        true => Fix::text(advice),
        false => Fix::edit_of(name, advice, edits),
    };
    Finding::new(level, Check::Labels, name, format!("{name} {text}")).fix(fix)
}

fn joined(found: &[impl ToString]) -> String {
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    text.join(", ")
}

/// The labels with new names for the objects that clash, and for the routers that refer to them.
fn renamed(service: &ServiceFacts, objects: BTreeSet<Object>, other: &Labels) -> Vec<Edit> {
    let labels = &service.service.labels;
    let names = fresh_names(service, objects, other);
    let at = ["services", service.name(), "labels"];
    let (mut edits, mut come) = (Vec::new(), Map::new());
    for (key, value) in labels {
        let Some(object) = Object::of(key) else {
            continue;
        };
        let new_key = new_name(&names, &object).map(|name| with_name(key, name));
        let new_value = referring(key, value, &object, &names);
        if new_key.is_none() && new_value == *value {
            continue;
        }
        match new_key {
            Some(new_key) => {
                edits.push(remove(&[at[0], at[1], at[2], key]));
                come.insert(new_key, json!(new_value));
            }
            None => drop(come.insert(key.clone(), json!(new_value))),
        }
    }
    if !come.is_empty() {
        edits.push(set(&at, Value::Object(come)));
    }
    edits
}

type Names = BTreeMap<Object, String>;

/// An unused name for each object, and for each router of both sides that refers to one.
fn fresh_names(service: &ServiceFacts, objects: BTreeSet<Object>, other: &Labels) -> Names {
    let others = service.neighbours.iter().map(|own| &own.labels);
    let olds = service.olds.iter().map(|own| &own.labels);
    let all = others.chain(olds).chain([&service.labels, other]);
    let mut taken: BTreeSet<Object> = all.flat_map(objects_of).collect();
    let mut names = Names::new();
    let mut add = |names: &mut Names, object: Object| {
        let name = object.free_name(&taken);
        taken.insert(Object {
            name: name.clone(),
            ..object.clone()
        });
        names.insert(object, name);
    };
    for object in objects {
        add(&mut names, object);
    }
    let theirs: Vec<Object> = objects_of(other).collect();
    for router in objects_of(&service.service.labels) {
        let is_theirs = router.kind == ROUTER && theirs.contains(&router);
        if is_theirs && !names.contains_key(&router) && refers(service, &router, &names) {
            add(&mut names, router);
        }
    }
    names
}

/// Whether a router refers to anything that gets a new name.
fn refers(service: &ServiceFacts, router: &Object, names: &Names) -> bool {
    let of_it = |key: &String| Object::of(key).is_some_and(|own| own.is(router));
    let mut own = service.service.labels.iter().filter(|(key, _)| of_it(key));
    let by_name = own.any(|(key, value)| referring(key, value, router, names) != *value);
    let unnamed = service_label_of(service, router).is_none();
    let only_service = |own: &Object| own.kind == SERVICE && own.protocol == router.protocol;
    by_name || (unnamed && names.keys().any(only_service))
}

fn service_label_of<'a>(service: &'a ServiceFacts, router: &Object) -> Option<&'a String> {
    let mut labels = service.service.labels.iter();
    let found = labels.find(|(key, _)| {
        Object::of(key).is_some_and(|own| own.is(router)) && option_of(key) == "service"
    });
    found.map(|(_, value)| value)
}

fn new_name<'a>(names: &'a Names, object: &Object) -> Option<&'a String> {
    let mut all = names.iter();
    all.find(|(own, _)| own.is(object)).map(|(_, name)| name)
}

/// A label's key with another name as its fourth part.
fn with_name(key: &str, name: &str) -> String {
    let mut parts: Vec<&str> = key.splitn(5, '.').collect();
    if let Some(own) = parts.get_mut(3) {
        *own = name;
    }
    parts.join(".")
}

fn option_of(key: &str) -> String {
    let option = key.splitn(5, '.').nth(4);
    option.unwrap_or_default().to_ascii_lowercase()
}

/// The references of a router to services and middlewares that have new names.
fn referring(key: &str, value: &str, router: &Object, names: &Names) -> String {
    let kind = match option_of(key).as_str() {
        "service" => SERVICE,
        "middlewares" => MIDDLEWARE,
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
    match words
        .iter()
        .map(String::as_str)
        .eq(value.split(',').map(str::trim))
    {
        true => value.to_owned(),
        false => words.join(","),
    }
}

#[cfg(test)]
#[path = "conflicts_tests.rs"]
mod tests;
