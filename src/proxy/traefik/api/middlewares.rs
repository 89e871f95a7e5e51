//! Which HTTP middlewares of one Traefik can hold a request before a server gets it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::listing::{provider, qualified};

/// Every HTTP middleware of an instance, by its full name.
pub struct Middlewares(BTreeMap<String, Value>);

impl Middlewares {
    pub fn of(list: Vec<Value>) -> Self {
        let named = |own: Value| Some((own["name"].as_str()?.to_owned(), own));
        Self(list.into_iter().filter_map(named).collect())
    }

    /// Whether one of these can hold a request before a server gets it. A chain holds what is in it.
    pub fn hold(&self, names: &[String]) -> bool {
        let (mut left, mut seen) = (names.to_vec(), BTreeSet::new());
        while let Some(name) = left.pop() {
            let Some(own) = self.0.get(&name) else {
                continue;
            };
            if holds(own) {
                return true;
            }
            if seen.insert(name.clone()) {
                left.extend(chained(&name, own));
            }
        }
        false
    }

    /// Whether an `errors` middleware asks this service for its pages: only once another service has answered.
    pub fn are_error_pages(&self, service: &str) -> bool {
        let full = format!("{service}@docker");
        self.0.iter().any(|(name, own)| {
            let pages = own["errors"]["service"].as_str();
            pages.is_some_and(|pages| qualified(pages, provider(name)) == full)
        })
    }
}

fn holds(middleware: &Value) -> bool {
    let kind = middleware["type"].as_str().unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    ["forwardauth", "buffering", "retry"].contains(&kind.as_str())
        || kind.contains("plugin")
        || middleware.get("plugin").is_some()
}

/// The middlewares in a chain, by their full names.
fn chained(name: &str, chain: &Value) -> Vec<String> {
    let inner = chain["chain"]["middlewares"].as_array();
    let inner = inner.into_iter().flatten().filter_map(Value::as_str);
    inner
        .map(|inner| qualified(inner, provider(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middlewares(list: Value) -> Middlewares {
        Middlewares::of(serde_json::from_value(list).unwrap())
    }

    #[test]
    fn a_chain_holds_a_request_only_where_something_in_it_does() {
        let all = middlewares(serde_json::json!([
            {"name": "gz@docker", "type": "compress"},
            {"name": "again@file", "type": "retry"},
            {"name": "own@docker", "type": "my-plugin", "plugin": {"mine": {}}},
            {"name": "pages@docker", "type": "errors", "errors": {"service": "pages"}},
            {"name": "mild@docker", "type": "chain", "chain": {"middlewares": ["gz", "pages@docker"]}},
            {"name": "round@docker", "type": "chain", "chain": {"middlewares": ["round@docker", "gz"]}},
            {"name": "deep@docker", "type": "chain", "chain": {"middlewares": ["mild@docker", "inner@file"]}},
            {"name": "inner@file", "type": "chain", "chain": {"middlewares": ["again"]}},
        ]));
        let hold = |name: &str| all.hold(&[name.to_owned()]);
        for mild in [
            "gz@docker",
            "pages@docker",
            "mild@docker",
            "round@docker",
            "none@docker",
        ] {
            assert!(!hold(mild), "{mild}");
        }
        for holding in ["again@file", "own@docker", "deep@docker", "inner@file"] {
            assert!(hold(holding), "{holding}");
        }
    }

    #[test]
    fn the_pages_of_an_errors_middleware_are_asked_for_late() {
        let all = middlewares(serde_json::json!([
            {"name": "errors@docker", "type": "errors", "errors": {"service": "pages"}},
            {"name": "other@file", "type": "errors", "errors": {"service": "site"}},
        ]));
        assert!(all.are_error_pages("pages"));
        assert!(!all.are_error_pages("site"));
    }
}
