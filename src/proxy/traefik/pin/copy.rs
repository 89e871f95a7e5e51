//! The routers, services and middlewares of a version as Traefik's API reports them, copied into a pin file. Pure.
//!
//! Traefik reports what it has made of the labels: default names and rules, effective priorities, the names of cookies, and
//! references with their provider. Its file provider reads the same fields.

use serde_json::Value;

use super::{
    cover::{above, priority},
    record::{Sections, entry},
};
use crate::{
    error::Result,
    proxy::traefik::{
        api::{Prefix, Reported, qualified, texts},
        labels::{Names, Protocol},
    },
};

/// What the API says about a definition, besides the definition itself. Traefik reads no file with a field that it does
/// not know.
const ABOUT: [&str; 8] = [
    "name",
    "provider",
    "type",
    "status",
    "error",
    "using",
    "usedBy",
    "serverStatus",
];

/// The copies of one version.
pub struct Copies<'a> {
    prefix: &'a Prefix,
    /// What its labels define.
    names: &'a Names,
    sections: Sections,
}

impl<'a> Copies<'a> {
    pub fn new(prefix: &'a Prefix, names: &'a Names) -> Self {
        Self {
            prefix,
            names,
            sections: Sections::new(),
        }
    }

    /// Copies what one Traefik reports of the version, except for what another one has reported before.
    pub fn add(&mut self, reported: &Reported) -> Result<()> {
        let names = self.names;
        for (protocol, name) in &names.services {
            self.service(reported, *protocol, name);
        }
        for (protocol, name) in &names.routers {
            for (variant, router) in reported.routers(*protocol, name) {
                self.router(reported, (*protocol, name), variant, router)?;
            }
        }
        Ok(())
    }

    /// The sections of the file; `None` where Traefik has no server of the version, so that there is nothing to hold.
    pub fn sections(self) -> Option<Sections> {
        let services = self.sections.values().filter_map(|own| own.get("services"));
        let mut services = services.filter_map(Value::as_object).flatten();
        let has_servers = |service: &Value| service.pointer("/loadBalancer/servers/0").is_some();
        let is_served = services.any(|(_, service)| has_servers(service));
        is_served.then_some(self.sections)
    }

    fn service(&mut self, reported: &Reported, protocol: Protocol, name: &str) {
        let full = qualified(name, "docker");
        let Some(body) = reported.get(protocol, "services", &full) else {
            return;
        };
        let mut body = bare(body);
        self.refer_to_middlewares(reported, protocol, &mut body);
        let balancer = body.get_mut("loadBalancer");
        if let Some(Value::String(own)) = balancer.and_then(|own| own.get_mut("serversTransport")) {
            *own = qualified(own, "docker");
        }
        self.put(protocol, "services", self.prefix.name(protocol, name), body);
    }

    fn router(
        &mut self,
        reported: &Reported,
        (protocol, name): (Protocol, &str),
        variant: &str,
        body: &Sections,
    ) -> Result<()> {
        let mut body = bare(body);
        let service = body.get("service").and_then(Value::as_str);
        let service = self.service_name(protocol, service.unwrap_or_default());
        let name = match variant {
            "" => name.to_owned(),
            // Another service's router may have the name of a variant.
            _ if !self.has(protocol, "services", &service) => return Ok(()),
            _ => format!("{name}~{variant}"),
        };
        body.insert("service".to_owned(), service.into());
        leave_to_entrypoints(reported, &mut body);
        self.refer_to_middlewares(reported, protocol, &mut body);
        if let Some(Value::String(options)) =
            body.get_mut("tls").and_then(|own| own.get_mut("options"))
            && options != "default"
        {
            *options = qualified(options, "docker");
        }
        // UDP routers have none.
        if protocol != Protocol::Udp {
            let rule = body.get("rule").and_then(Value::as_str).unwrap_or_default();
            let given = body.get("priority").and_then(Value::as_i64);
            let higher = above(priority(protocol, given, rule))?;
            body.insert("priority".to_owned(), higher.into());
        }
        self.put(protocol, "routers", self.prefix.name(protocol, &name), body);
        Ok(())
    }

    /// Replaces the middlewares in a list by their names in the file.
    fn refer_to_middlewares(
        &mut self,
        reported: &Reported,
        protocol: Protocol,
        body: &mut Sections,
    ) {
        if let Some(list) = body.get_mut("middlewares") {
            let names = texts(list).map(|own| self.middleware(reported, protocol, &own));
            *list = names.collect();
        }
    }

    /// The name in the file of a middleware. Docker's are copied, since they go with the containers that define them.
    fn middleware(&mut self, reported: &Reported, protocol: Protocol, reference: &str) -> String {
        let full = qualified(reference, "docker");
        let docker = full.strip_suffix("@docker");
        let body = reported.get(protocol, "middlewares", &full);
        let (Some(name), Some(body)) = (docker, body) else {
            return full;
        };
        let name = self.prefix.name(protocol, name);
        if self.has(protocol, "middlewares", &name) {
            return name;
        }
        // A chain may lead back to itself.
        self.put(protocol, "middlewares", name.clone(), Sections::new());
        let mut body = bare(body);
        if let Some(Value::Object(chain)) = body.get_mut("chain") {
            self.refer_to_middlewares(reported, protocol, chain);
        }
        if let Some(Value::String(service)) = body
            .get_mut("errors")
            .and_then(|own| own.get_mut("service"))
        {
            *service = self.service_name(protocol, service);
        }
        entry(&mut self.sections, protocol, "middlewares").insert(name.clone(), body.into());
        name
    }

    /// The name in the file of a service: that of its copy, where there is one.
    fn service_name(&self, protocol: Protocol, reference: &str) -> String {
        let full = qualified(reference, "docker");
        let docker = full.strip_suffix("@docker");
        let copy = docker.map(|own| self.prefix.name(protocol, own));
        let copy = copy.filter(|own| self.has(protocol, "services", own));
        copy.unwrap_or(full)
    }

    fn has(&self, protocol: Protocol, kind: &str, name: &str) -> bool {
        let section = self.sections.get(protocol.word());
        let all = section.and_then(|own| own.get(kind));
        all.is_some_and(|own| own.get(name).is_some())
    }

    fn put(&mut self, protocol: Protocol, kind: &str, name: String, body: Sections) {
        let all = entry(&mut self.sections, protocol, kind);
        all.entry(name).or_insert(body.into());
    }
}

/// The definition alone, as a file may have it.
fn bare(body: &Sections) -> Sections {
    let own = body
        .iter()
        .filter(|(key, _)| !ABOUT.contains(&key.as_str()));
    let own = own.map(|(key, value)| (key.clone(), without_empty(value.clone())));
    own.collect()
}

/// Drops the empty sections in a section. They mean what no section means, but Traefik reads no file that has one; only
/// some outermost ones can be empty, such as `tls` and `compress`.
fn without_empty(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        for field in fields.values_mut() {
            *field = without_empty(field.take());
        }
        fields.retain(|_, own| own.as_object().is_none_or(|own| !own.is_empty()));
    }
    value
}

/// Takes out the middlewares of a router's entrypoint, which puts them before those of the copy as well.
fn leave_to_entrypoints(reported: &Reported, router: &mut Sections) {
    let points = router.get("entryPoints").map(|own| texts(own).collect());
    let points: Vec<String> = points.unwrap_or_default();
    let Some(list) = router.get_mut("middlewares") else {
        return;
    };
    let mut own: Vec<String> = texts(list).map(|own| qualified(&own, "docker")).collect();
    for point in points {
        let before = reported.middlewares_of(&point);
        if own.starts_with(&before) {
            own.drain(..before.len());
        }
    }
    *list = own.into();
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
