//! How long a request can be on its way to a server that Traefik has left: some HTTP middlewares hold requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::{
    Api, Router, Service,
    listing::{provider, qualified},
};
use crate::{
    error::Result,
    proxy::traefik::labels::{Names, Protocol},
};

/// An old handler may still pass a request on for this long.
const SETTLE: Duration = Duration::from_millis(250);
/// The same, where a middleware holds requests.
const SETTLE_HELD: Duration = Duration::from_secs(5);

impl Api {
    /// How long a request can still be on its way to an old server of these services of a provider after they have
    /// switched. Where Traefik does not say, the longer time is the safe answer.
    pub async fn switch_delay(&self, provider: &str, names: &Names) -> Duration {
        match self.holds_requests(provider, names).await {
            Ok(false) => SETTLE,
            Ok(true) | Err(_) => SETTLE_HELD,
        }
    }

    /// Whether a router of these services has a middleware that holds requests, or they are the error pages of others.
    async fn holds_requests(&self, provider: &str, names: &Names) -> Result<bool> {
        let middlewares = Middlewares::of(self.list("/api/http/middlewares").await?);
        let services = names.services.iter();
        let http: Vec<&String> = services
            .filter(|(protocol, _)| *protocol == Protocol::Http)
            .map(|(_, name)| name)
            .collect();
        let are_pages = |name: &&String| middlewares.are_error_pages(&qualified(name, provider));
        if http.iter().any(are_pages) {
            return Ok(true);
        }
        for name in http {
            let service = self.item_of::<Service>(provider, "services", Protocol::Http, name);
            for router in service.await?.map_or_else(Vec::new, |own| own.used_by) {
                let path = format!("/api/http/routers/{router}");
                let Some(router) = self.get(&path).await? else {
                    continue;
                };
                let router: Router = serde_json::from_value(router).unwrap_or_default();
                if middlewares.hold(&router.middlewares) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Every HTTP middleware of an instance, by its full name.
struct Middlewares(BTreeMap<String, Value>);

impl Middlewares {
    fn of(list: Vec<Value>) -> Self {
        let named = |own: Value| Some((own["name"].as_str()?.to_owned(), own));
        Self(list.into_iter().filter_map(named).collect())
    }

    /// Whether one of these can hold a request before a server gets it. A chain holds what is in it.
    fn hold(&self, names: &[String]) -> bool {
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
    fn are_error_pages(&self, full: &str) -> bool {
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
        assert!(all.are_error_pages("pages@docker"));
        assert!(!all.are_error_pages("site@docker"));
    }
}
