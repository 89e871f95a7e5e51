//! Services, and parts of Traefik, that call a service by its name and so bypass its router: they reach both versions
//! during a rollout.

use serde_json::Value;

use super::{Check, Facts, Finding, Fix, ServiceFacts};

/// One finding for each part of Traefik that calls a service, and one for all services that do.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.runs_twice() {
        return Vec::new();
    }
    let of_traefik = service.bypasses.iter().map(|bypass| {
        let finding = Finding::warn(Check::Calls, service.name(), &bypass.text);
        finding.fix(Fix::text(&bypass.advice))
    });
    of_traefik.chain(by_services(facts, service)).collect()
}

/// One finding for a service that others call, with the callers and where they name it.
fn by_services(facts: &Facts, service: &ServiceFacts) -> Option<Finding> {
    let name = service.name();
    let others = facts.project.services.keys().filter(|own| *own != name);
    let callers: Vec<String> = others
        .filter_map(|own| {
            let places = places(&facts.project.raw["services"][own], name);
            (!places.is_empty()).then(|| format!("{own} ({})", places.join(", ")))
        })
        .collect();
    if callers.is_empty() {
        return None;
    }
    let text = format!(
        "is called by its name, past Traefik: {}; such calls reach both versions while both run",
        callers.join(", ")
    );
    let finding = Finding::warn(Check::Calls, name, text);
    let way = match service.is_routed() {
        true => {
            "call it by the host of its router, with that host as a network alias of Traefik; or let the callers try again"
        }
        false => {
            "let the callers try again where a connection ends; or, with a gap, give it x-rollout: { strategy: recreate }"
        }
    };
    Some(finding.fix(Fix::text(way)))
}

/// Where a service is named in the configuration of another: keys of its environment, and keys of the file.
fn places(caller: &Value, name: &str) -> Vec<String> {
    let mut places = Vec::new();
    for (key, value) in caller["environment"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if names(value, name) || (is_host(key) && value == name) {
            places.push(key.clone());
        }
    }
    for key in ["command", "entrypoint"] {
        let words = caller[key].as_array().into_iter().flatten();
        let mut words = words.filter_map(Value::as_str);
        if words.any(|word| names(word, name)) {
            places.push(key.to_owned());
        }
    }
    let links = caller["links"].as_array().into_iter().flatten();
    let mut links = links.filter_map(Value::as_str);
    if links.any(|link| link.split(':').next() == Some(name)) {
        places.push("links".to_owned());
    }
    places
}

/// Keys such as `DB_HOST`, `SERVER` and `API_ADDRESS`, in which a bare name is a host.
fn is_host(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    [
        "HOST", "HOSTNAME", "SERVER", "ADDR", "ADDRESS", "ENDPOINT", "HOSTS", "SERVERS",
    ]
    .iter()
    .any(|end| key.ends_with(end))
}

/// Whether a text contains `//web`, `@web` or `web:8080` as whole words.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + name.len()..]);
        let is_url = before.ends_with("//") || (before.ends_with('@') && before.contains("//"));
        let begins = before.is_empty() || before.ends_with([' ', ',', ';', '=', '"', '\'', '(']);
        let port = after
            .strip_prefix(':')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let ends = after.is_empty() || after.starts_with(['/', ':', ',', ' ', '?', '"', '\'', ';']);
        (is_url && ends) || (begins && port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Level, testing};

    #[test]
    fn a_name_is_a_call_in_a_url_and_before_a_port() {
        for (text, is_call) in [
            ("http://web:8080/x", true),
            ("http://web", true),
            ("postgres://me:secret@web/db", true),
            ("web:8080", true),
            ("a:1,web:2", true),
            ("--upstream=web:80", true),
            ("web", false),
            ("/srv/web:80", false),
            ("http://webshop:80", false),
            ("http://my-web:80", false),
            ("http://web.example.org", false),
            ("image/web:latest", false),
            ("web:latest", false),
        ] {
            assert_eq!(names(text, "web"), is_call, "{text}");
        }
    }

    #[test]
    fn callers_are_reported_with_the_place_and_never_the_value() {
        let (mut facts, service) = testing::of("image: app");
        let other = "environment: {API: 'http://me:secret@web:80', API_HOST: web}\ncommand: [run, 'web:80']\nlinks: [web]";
        testing::add(&mut facts, "worker", other);
        let found = check(&facts, &service);
        assert_eq!(found[0].level, Level::Warn);
        assert!(
            found[0]
                .text
                .contains("worker (API, API_HOST, command, links)"),
            "{found:?}"
        );
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn a_service_that_nothing_names_has_no_finding() {
        let (mut facts, service) = testing::of("image: app");
        testing::add(
            &mut facts,
            "worker",
            "environment: {API: 'http://other:80', NAME: web}",
        );
        assert_eq!(check(&facts, &service), []);
    }
}
