//! Labels that Traefik does not know: it then ignores the whole container.

use serde_json::{Map, Value, json};

use super::{Check, Facts, Finding, Fix, Level, ServiceFacts};
use crate::compose::edits::{remove, set};
use crate::proxy::traefik::labels::{Unknown, unknown};

/// One finding for each unknown label of the new version.
pub fn check(_: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.is_routed() {
        return Vec::new();
    }
    let found = unknown(&service.labels);
    found.iter().map(|own| finding(service, own)).collect()
}

fn finding(service: &ServiceFacts, unknown: &Unknown) -> Finding {
    let name = service.name();
    let label = &unknown.label;
    let (level, text) = match unknown.is_certain {
        true => (
            Level::Fail,
            format!("Traefik has no option {label}, and ignores {name} because of it"),
        ),
        false => (
            Level::Warn,
            format!(
                "Traefik up to v3.7 has no option {label}: a release without it ignores {name}"
            ),
        ),
    };
    Finding::new(level, Check::Labels, name, text).fix(fix(service, unknown))
}

/// Removes the label, and adds the one that was probably meant.
fn fix(service: &ServiceFacts, unknown: &Unknown) -> Fix {
    let name = service.name();
    let at = ["services", name, "labels"];
    let begins = |key: &str| {
        let rest = key.strip_prefix(unknown.label.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let (mut edits, mut meant) = (Vec::new(), Map::new());
    for (key, value) in service.service.labels.iter().filter(|(key, _)| begins(key)) {
        edits.push(remove(&[at[0], at[1], at[2], key]));
        if let Some(right) = corrected(key, unknown) {
            meant.insert(right, json!(value));
        }
    }
    let text = match unknown.meant {
        Some(word) => format!("did you mean {word}? Correct the label, or remove it"),
        None => "correct the label, or remove it".to_owned(),
    };
    if !meant.is_empty() {
        edits.push(set(&at, Value::Object(meant)));
    }
    Fix::edit_of(name, text, edits)
}

/// The label with the word that was meant.
fn corrected(key: &str, unknown: &Unknown) -> Option<String> {
    let rest = key.strip_prefix(unknown.label.as_str())?;
    let (before, _) = unknown.label.rsplit_once('.')?;
    Some(format!("{before}.{}{rest}", unknown.meant?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing;

    fn found(label: &str) -> Vec<Finding> {
        let (facts, service) = testing::of(&format!(
            "image: app\nlabels: {{traefik.enable: 'true', {label}: '5'}}"
        ));
        check(&facts, &service)
    }

    #[test]
    fn an_option_that_no_traefik_has_fails_with_what_was_meant() {
        let found = found("traefik.tcp.routers.db.prioritty");
        assert_eq!((found.len(), found[0].level), (1, Level::Fail));
        assert!(
            found[0].text.contains("traefik.tcp.routers.db.prioritty"),
            "{}",
            found[0].text
        );
        let fix = found[0].fix.as_ref().unwrap();
        let at = ["services", "web", "labels"];
        assert_eq!(
            fix.edits,
            [
                remove(&[at[0], at[1], at[2], "traefik.tcp.routers.db.prioritty"]),
                set(&at, json!({"traefik.tcp.routers.db.priority": "5"})),
            ]
        );
    }

    #[test]
    fn an_option_of_a_middleware_that_may_be_newer_is_a_warning() {
        let newer = found("traefik.http.middlewares.a.ratelimit.mode");
        assert_eq!((newer.len(), newer[0].level), (1, Level::Warn));
        assert_eq!(found("traefik.http.routers.web.priority"), []);
    }
}
