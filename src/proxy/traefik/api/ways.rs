//! The ways that lead to the API of a Traefik by its configuration; none is tried here. Pure.

use std::collections::BTreeMap;

use crate::proxy::traefik::config::{Node, StaticConfig, Tree};

/// Where the API answers unless the entrypoint `traefik` says otherwise.
const API_PORT: u16 = 8080;

/// One way: what to say to which port of Traefik's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The router that leads to it; `None` for the insecure API.
    pub router: Option<String>,
    /// The port in the container.
    pub port: u16,
    pub tls: bool,
    /// The name it goes by, where a rule asks for one.
    pub host: Option<String>,
    /// What stands before `/api`; empty mostly.
    pub base: String,
}

/// A router whose service is `api@internal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRouter {
    name: String,
    rule: String,
    entrypoints: Vec<String>,
    tls: bool,
}

/// The routers to the API in the labels of one container.
pub fn routers_in_labels(labels: &BTreeMap<String, String>) -> Vec<ApiRouter> {
    routers(Tree::of_labels(labels).at("traefik.http.routers"))
}

/// The routers to the API in one file of the file provider; none in a file that cannot be read.
pub fn routers_in_file(path: &str, text: &str) -> Vec<ApiRouter> {
    match Tree::of_file(path, text) {
        Ok(tree) => routers(tree.at("http.routers")),
        Err(_) => Vec::new(),
    }
}

fn routers(node: Option<Node<'_>>) -> Vec<ApiRouter> {
    let all = node.into_iter().flat_map(Node::children);
    let leads_there = |node: Node<'_>| {
        let service = node.at("service").and_then(Node::text);
        service.as_deref() == Some("api@internal")
    };
    all.filter(|(_, node)| leads_there(*node))
        .map(|(name, node)| ApiRouter {
            name: name.to_owned(),
            rule: node.at("rule").and_then(Node::text).unwrap_or_default(),
            entrypoints: node.at("entryPoints").map(Node::list).unwrap_or_default(),
            tls: node.at("tls").is_some_and(Node::is_on),
        })
        .collect()
}

/// Every way, the likeliest first: the insecure API, then each router on each of its entrypoints.
///
/// `certain` is whether the configuration is known for sure: else the insecure API is worth a try in any case.
pub fn ways(config: &StaticConfig, routers: &[ApiRouter], certain: bool) -> Vec<Way> {
    let base = config.api.as_ref().map_or("", |api| api.base_path.as_str());
    let insecure = |port, tls| Way {
        router: None,
        port,
        tls,
        host: None,
        base: base.to_owned(),
    };
    let own = config.entrypoints.get("traefik");
    let tls = own.is_some_and(|own| own.tls);
    let mut ways: Vec<Way> = config
        .insecure_port()
        .map(|port| insecure(port, tls))
        .into_iter()
        .collect();
    for router in routers {
        ways.extend(of_router(config, router, base));
    }
    if ways.is_empty() && !certain {
        ways.push(insecure(own.map_or(API_PORT, |own| own.port), tls));
    }
    ways
}

fn of_router(config: &StaticConfig, router: &ApiRouter, base: &str) -> Vec<Way> {
    let names: Vec<&str> = match router.entrypoints.is_empty() {
        true => config.default_entrypoints(),
        false => router.entrypoints.iter().map(String::as_str).collect(),
    };
    let mut ways = Vec::new();
    for name in names {
        // Variables know entrypoints in lower case alone.
        let mut all = config.entrypoints.iter();
        let known = all.find(|(own, _)| own.eq_ignore_ascii_case(name));
        let Some((_, entrypoint)) = known.filter(|(_, own)| !own.udp) else {
            continue;
        };
        for prefix in prefixes(&router.rule) {
            ways.push(Way {
                router: Some(router.name.clone()),
                port: entrypoint.port,
                tls: router.tls || entrypoint.tls,
                host: arguments(&router.rule, "Host").next(),
                base: format!("{prefix}{base}"),
            });
        }
    }
    ways
}

/// What may stand before `/api`, where a middleware takes it away: nothing, and each prefix that is not the API's own.
fn prefixes(rule: &str) -> Vec<String> {
    let own = ["/", "/api", "/dashboard", "/debug"];
    let own = |prefix: &String| own.contains(&prefix.as_str()) || prefix.starts_with("/api/");
    let given = arguments(rule, "PathPrefix").map(|prefix| match prefix.len() {
        1 => prefix,
        _ => prefix.trim_end_matches('/').to_owned(),
    });
    let mut prefixes: Vec<String> = given.filter(|prefix| !own(prefix)).collect();
    prefixes.insert(0, String::new());
    prefixes
}

/// What a rule gives to a matcher: `a` and `b` for `Host` in ``Host(`a`) || Host(`b`)``.
fn arguments<'a>(rule: &'a str, matcher: &'a str) -> impl Iterator<Item = String> + 'a {
    rule.match_indices(matcher).filter_map(move |(start, _)| {
        let before = rule[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '!') {
            return None;
        }
        let rest = rule[start + matcher.len()..]
            .trim_start()
            .strip_prefix('(')?;
        let rest = rest.trim_start();
        let quote = rest
            .chars()
            .next()
            .filter(|c| ['`', '"', '\''].contains(c))?;
        rest[1..].split_once(quote).map(|(text, _)| text.to_owned())
    })
}

#[cfg(test)]
#[path = "ways_tests.rs"]
mod tests;
