//! What the pin file says: copies of the service's routers, above the Docker provider's, to explicit servers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    balancer::{balanced, items, qualify, rename_all},
    definition::{Definition, Name, Service},
    naming::{References, name, own},
    priority::{above, both, priority},
    server::{Reach, server},
    tree::{Object, key, section_mut, take, text},
};
use crate::{
    error::{Error, Result},
    model::{ContainerId, Replica, ServiceKey},
    proxy::traefik::{api::Prefix, labels::Protocol},
};

/// Behind the names of what only the version that is not live defines.
const OTHERS: &str = "~other";
/// Behind the names of a preview's middlewares.
const PREVIEW: &str = "~preview";

/// What is to be pinned.
pub struct Pinned<'a> {
    pub key: &'a ServiceKey,
    pub live: &'a [&'a Replica],
    /// What the version that is live defines.
    pub shown: &'a Definition,
    /// What the other version defines.
    pub other: &'a Definition,
    /// The other version's containers are there, so that what only it defines leads to them unless it is pinned too.
    pub other_is_there: bool,
    /// Previewed replicas, with the labels of their preview.
    pub previewed: &'a [Replica],
    /// How Traefik reaches a replica.
    pub reach: &'a Reach,
}

/// The sections of the file, and which servers they list for which replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `http`, `tcp`, `udp`.
    pub sections: Object,
    /// Replica → its servers, as the file has them.
    pub shows: BTreeMap<ContainerId, BTreeSet<String>>,
}

pub fn content(pinned: &Pinned<'_>) -> Result<Content> {
    if let Some(router) = pinned.shown.unruled.first() {
        return Err(Error::refused(format!(
            "router {router} has no rule, and Traefik's default rule for it is not known"
        ))
        .hint(format!("add the label traefik.http.routers.{router}.rule")));
    }
    let mut file = File {
        pinned,
        prefix: Prefix::of(pinned.key),
        content: Content::default(),
    };
    let shown = file.references(pinned.shown, "");
    file.version(&shown, pinned.live)?;
    file.mask(&shown)?;
    file.preview()?;
    Ok(file.content)
}

struct File<'a> {
    pinned: &'a Pinned<'a>,
    prefix: Prefix,
    content: Content,
}

impl<'a> File<'a> {
    fn references(&self, of: &'a Definition, suffix: &'a str) -> References<'a> {
        References {
            prefix: self.prefix.clone(),
            of,
            suffix,
            live: self.pinned.shown,
        }
    }

    fn put(&mut self, protocol: Protocol, kind: &str, name: String, body: Value) {
        let section = entry(&mut self.content.sections, protocol.word());
        entry(section, kind).insert(name, body);
    }

    /// All that one version defines, with its replicas for servers.
    fn version(&mut self, own: &References<'_>, replicas: &[&Replica]) -> Result<()> {
        for (name, service) in &own.of.services {
            self.service(own, name, service, replicas)?;
        }
        for (name, router) in &own.of.routers {
            self.router(own, name, "", router, above(priority(name, router))?)?;
        }
        self.middlewares(own);
        Ok(())
    }

    /// The previewed replicas, beside the live ones. Their routers come first: the labels give them higher priorities.
    fn preview(&mut self) -> Result<()> {
        let pinned = self.pinned;
        let mut preview = Definition::default();
        for replica in pinned.previewed {
            // A preview has no router without a rule.
            preview.extend(Definition::of(&replica.labels, &|_| None));
        }
        // A middleware may lead to a service of the live version.
        let mut services = preview.clone();
        services.extend(pinned.shown.clone());
        let references = References {
            live: &services,
            ..self.references(&preview, PREVIEW)
        };
        let replicas: Vec<&Replica> = pinned.previewed.iter().collect();
        self.version(&references, &replicas)
    }

    fn service(
        &mut self,
        references: &References<'_>,
        (protocol, name): &Name,
        service: &Service,
        replicas: &[&Replica],
    ) -> Result<()> {
        let mut servers = Vec::new();
        for replica in replicas {
            let own = Definition::of(&replica.labels, &|_| None);
            let Some(own) = own.services.get(&(*protocol, name.clone())) else {
                continue;
            };
            let server = server(replica, *protocol, own, self.pinned.reach)?;
            let address = text(&server, "url").or(text(&server, "address"));
            let shown = self.content.shows.entry(replica.id.clone()).or_default();
            shown.extend(address.map(str::to_owned));
            servers.push(Value::Object(server));
        }
        let body = balanced(name, service, servers, references);
        let name = self.prefix.name(*protocol, name);
        self.put(*protocol, "services", name, body);
        Ok(())
    }

    fn router(
        &mut self,
        references: &References<'_>,
        (protocol, name): &Name,
        suffix: &str,
        router: &Object,
        priority: i64,
    ) -> Result<()> {
        let mut router = router.clone();
        if take(&mut router, "parentrefs").is_some() {
            return Err(Error::refused(format!(
                "router {name} has a parent router, which a pin cannot stand in for"
            ))
            .hint("let Traefik read through the socket proxy instead"));
        }
        if let Some(at) = key(&router, "entrypoints") {
            let points = items(router.get(&at)).map(Value::from).collect();
            router.insert(at, Value::Array(points));
        }
        rename_all(&mut router, "middlewares", |own| {
            references.middleware(*protocol, own)
        });
        let service = take(&mut router, "service");
        let service = service.as_ref().and_then(Value::as_str).unwrap_or_default();
        let service = references.service(*protocol, service);
        router.insert("service".to_owned(), service.into());
        take(&mut router, "priority");
        if *protocol != Protocol::Udp {
            router.insert("priority".to_owned(), priority.into());
        }
        if let Some(tls) = section_mut(&mut router, "tls") {
            qualify(tls, "options", &["default"]);
        }
        let name = self.prefix.name(*protocol, &format!("{name}{suffix}"));
        self.put(*protocol, "routers", name, Value::Object(router));
        Ok(())
    }

    fn middlewares(&mut self, references: &References<'_>) {
        for ((protocol, name), body) in &references.of.middlewares {
            let mut body = body.clone();
            if let Value::Object(body) = &mut body {
                if let Some(chain) = section_mut(body, "chain") {
                    rename_all(chain, "middlewares", |own| {
                        references.middleware(*protocol, own)
                    });
                }
                if let Some(errors) = section_mut(body, "errors")
                    && let Some(at) = key(errors, "service")
                {
                    let service = errors[&at].as_str().unwrap_or_default();
                    let service = references.service(*protocol, service);
                    errors.insert(at, service.into());
                }
            }
            let name = references.own_middleware(*protocol, name);
            self.put(*protocol, "middlewares", name, body);
        }
    }

    /// Covers routers that only the other version has: uncovered, they would lead to its containers, or to both sets.
    fn mask(&mut self, live: &References<'_>) -> Result<()> {
        let (shown, other) = (self.pinned.shown, self.pinned.other);
        let others = self.references(other, OTHERS);
        let mut kept = false;
        for (name, router) in &other.routers {
            if shown.routers.contains_key(name) || leads_elsewhere(name, router, other) {
                continue;
            }
            // Requests that both versions' routers match stay with the live version: a combined rule at a higher priority.
            for (own, served) in shown.routers.iter().filter(|(own, _)| own.0 == name.0) {
                if let Some((served, priority)) = both(own, served, name, router)? {
                    self.router(live, own, &format!("~{}", name.1), &served, priority)?;
                }
            }
            if self.pinned.other_is_there {
                let service = self.stand_in(name, router, &others);
                let priority = above(priority(name, router))?;
                let mut router = router.clone();
                take(&mut router, "service");
                router.insert("service".to_owned(), service.into());
                self.router(&others, name, OTHERS, &router, priority)?;
                kept = true;
            }
        }
        if kept {
            self.middlewares(&others);
        }
        Ok(())
    }

    /// The live service that answers for a router which the live version does not have: the one of the same name, else the
    /// only one, else one without servers.
    fn stand_in(&mut self, router: &Name, fields: &Object, others: &References<'_>) -> String {
        let protocol = router.0;
        let wanted = text(fields, "service").and_then(own).unwrap_or_default();
        let services = &self.pinned.shown.services;
        if services.contains_key(&name(protocol, wanted)) {
            return wanted.to_owned();
        }
        let mut all = services.keys().filter(|(known, _)| *known == protocol);
        if let (Some((_, only)), None) = (all.next(), all.next()) {
            return only.clone();
        }
        let options = self.pinned.other.services.get(&name(protocol, wanted));
        let service = options.cloned().unwrap_or_default();
        let body = balanced(wanted, &service, Vec::new(), others);
        let full = self.prefix.name(protocol, &format!("{wanted}{OTHERS}"));
        self.put(protocol, "services", full.clone(), body);
        format!("{full}@file")
    }
}

/// A router that leads to another container's service, or to another provider's.
fn leads_elsewhere((protocol, _): &Name, router: &Object, definition: &Definition) -> bool {
    let service = text(router, "service").and_then(own);
    !service.is_some_and(|own| definition.services.contains_key(&name(*protocol, own)))
}

fn entry<'o>(object: &'o mut Object, name: &str) -> &'o mut Object {
    let value = object
        .entry(name)
        .or_insert_with(|| Value::Object(Object::new()));
    match value {
        Value::Object(object) => object,
        _ => unreachable!("only sections are put there"),
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
