//! Everything that one Traefik reports of its routers, services, middlewares and entrypoints, to be copied from.

use serde_json::{Map, Value};

use super::{
    Api,
    listing::{qualified, texts},
};
use crate::{error::Result, proxy::traefik::labels::Protocol};

/// One definition, as the API writes it.
type Object = Map<String, Value>;

pub struct Reported {
    /// The answer of `/api/rawdata`: each kind of definition of all providers, by name with the provider.
    raw: Value,
    entrypoints: Vec<Value>,
}

impl Api {
    pub async fn reported(&self) -> Result<Reported> {
        let raw = self.get("/api/rawdata").await?.ok_or_else(|| self.off())?;
        let entrypoints = self.list("/api/entrypoints").await?;
        Ok(Reported::new(raw, entrypoints))
    }
}

impl Reported {
    pub fn new(raw: Value, entrypoints: Vec<Value>) -> Self {
        Self { raw, entrypoints }
    }

    /// A definition by its full name; `None` also for one that is disabled, since it serves nothing.
    pub fn get(&self, protocol: Protocol, kind: &str, name: &str) -> Option<&Object> {
        let body = self.section(protocol, kind)?.get(name)?.as_object()?;
        let is_disabled = body
            .get("status")
            .is_some_and(|status| status == "disabled");
        (!is_disabled).then_some(body)
    }

    /// What Traefik has made of a router of the Docker provider: the router itself, or a variant of it for each of some
    /// entrypoints. Each with the name of the variant, which is empty for the router itself.
    pub fn routers(&self, protocol: Protocol, name: &str) -> Vec<(&str, &Object)> {
        let full = format!("{name}@docker");
        let all = self.section(protocol, "routers").into_iter().flatten();
        let found = all.filter_map(|(key, body)| {
            let variant = variant(&full, key, body)?;
            Some((variant, self.get(protocol, "routers", key)?))
        });
        found.collect()
    }

    /// The middlewares that an entrypoint puts before those of each of its HTTP routers.
    pub fn middlewares_of(&self, entrypoint: &str) -> Vec<String> {
        let mut all = self.entrypoints.iter();
        let own = all.find(|own| own["name"] == entrypoint);
        let names = own.map(|own| texts(&own["http"]["middlewares"]));
        let names = names.into_iter().flatten();
        names.map(|name| qualified(&name, "docker")).collect()
    }

    fn section(&self, protocol: Protocol, kind: &str) -> Option<&Object> {
        let key = match (protocol, kind) {
            (Protocol::Http, kind) => kind,
            (Protocol::Tcp, "routers") => "tcpRouters",
            (Protocol::Tcp, "services") => "tcpServices",
            (Protocol::Tcp, _) => "tcpMiddlewares",
            (Protocol::Udp, "routers") => "udpRouters",
            (Protocol::Udp, _) => "udpServices",
        };
        self.raw.get(key)?.as_object()
    }
}

/// Entrypoints that have defaults for their routers, and conflicts of TLS options, make variants
/// (`pkg/server/aggregator.go`, `applyModel` and `resolveHTTPTLSOptions`).
fn variant<'k>(full: &str, key: &'k str, body: &Value) -> Option<&'k str> {
    if key == full {
        return Some("");
    }
    let start = key.strip_suffix(full)?.strip_suffix('-')?;
    let is_of = |point: String| {
        let conflicted = format!("{point}-conflicted");
        let both = format!("{conflicted}-{point}");
        [point, conflicted, both].iter().any(|own| own == start)
    };
    let mut points = texts(&body["entryPoints"]);
    points.any(is_of).then_some(start)
}
