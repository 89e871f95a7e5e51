//! The labels by which Traefik reads a previewed replica: a router more for each of its own, with one more condition, and
//! services of its own. Pure.

use std::{borrow::Cow, collections::BTreeSet, sync::LazyLock};

use regex::{Captures, Regex};

use super::names::{Part, Protocol, is_false, names, part};
use crate::{
    overlay::{Effect, Labels},
    settings::{PreviewRule, TEXT},
};

/// The end of the names of a preview's routers and services.
const SUFFIX: &str = "-rollout-preview";

const ROUTERS: &str = "routers";
const SERVICES: &str = "services";

/// A matcher of a rule, such as Host(`a`): its name, and its texts with quotes and commas.
static MATCHERS: LazyLock<Regex> = LazyLock::new(|| {
    let texts = format!(r"(?:(?:{TEXT})\s*,?\s*)*");
    let matcher = format!(r"(?<name>[A-Za-z]+)\s*\(\s*(?<texts>{texts})\)");
    Regex::new(&matcher).expect("the expression is part of the program")
});
static TEXTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(TEXT).expect("the expression is part of the program"));

/// What makes the labels of a replica those of a preview: no router and no service of before is left.
pub fn preview(labels: &Labels, rule: &PreviewRule) -> Effect {
    let is_route = |own: &Part| [ROUTERS, SERVICES].contains(&own.kind.as_str());
    let unset = labels
        .keys()
        .filter(|key| part(key).is_some_and(|own| is_route(&own)));
    let mut set = Labels::new();
    let mut services = BTreeSet::new();
    for router in routers(labels) {
        let Ok(service) = service(labels, router) else {
            continue;
        };
        set.extend(router_labels(labels, router, rule));
        let key = format!("traefik.http.routers.{router}{SUFFIX}.service");
        set.insert(key, format!("{service}{SUFFIX}"));
        services.insert(service);
    }
    set.extend(
        services
            .iter()
            .flat_map(|name| service_labels(labels, name)),
    );
    Effect::Labels {
        set,
        unset: unset.cloned().collect(),
    }
}

/// Why a version with these labels cannot be previewed, in a few words.
pub fn refusal(labels: &Labels, rule: &PreviewRule) -> Option<String> {
    let routers = routers(labels);
    if routers.is_empty() {
        return Some("it has no label traefik.http.routers.NAME.rule".to_owned());
    }
    let serves = |router: &&str| {
        let PreviewRule::Host(host) = rule else {
            return None;
        };
        let is_served = hosts(own_rule(labels, router)?).any(|own| own.eq_ignore_ascii_case(host));
        is_served.then(|| format!("its router {router} serves the host {host} to everyone"))
    };
    let mut all = routers.iter();
    all.find_map(|router| service(labels, router).err().or_else(|| serves(router)))
}

/// What reaches the preview, by the labels of a previewed replica: a line for each router, and what to type for it.
pub fn ways(labels: &Labels) -> Vec<String> {
    let mut lines = Vec::new();
    for router in routers(labels) {
        let rule = own_rule(labels, router).unwrap_or_default();
        lines.push(format!("the preview answers requests that match {rule}"));
        let mut options = options(labels, ROUTERS, router);
        let is_tls = |(option, value): (&str, &str)| {
            let word = option.split('.').next().unwrap_or_default();
            word.eq_ignore_ascii_case("tls") && !is_false(value)
        };
        let scheme = if options.any(is_tls) { "https" } else { "http" };
        lines.extend(to_type(rule, scheme));
    }
    lines
}

/// The command that asks the preview of a router, if its condition is one header or a host.
fn to_type(rule: &str, scheme: &str) -> Option<String> {
    let condition = MATCHERS.captures_iter(rule).last()?;
    if !rule.ends_with(&format!("&& ({})", &condition[0])) {
        return None;
    }
    let of_condition: Vec<&str> = texts(&condition["texts"]).collect();
    let header = match (name(&condition).as_str(), of_condition.as_slice()) {
        ("header" | "headers", [key, value]) => format!("-H '{key}: {value}' "),
        ("host", [_]) => String::new(),
        _ => return None,
    };
    let host = hosts(rule).next()?;
    let path = matched(rule, &["path", "pathprefix"]).next();
    let path = path.unwrap_or("/");
    let line = format!("curl {header}{scheme}://{host}{path}");
    let quotes = if header.is_empty() { 0 } else { 2 };
    (line.matches('\'').count() == quotes).then_some(line)
}

/// The HTTP routers of the labels with a rule, by name.
fn routers(labels: &Labels) -> Vec<&str> {
    let known = names(labels).routers;
    let all = labels.keys().filter_map(|key| part(key));
    let own = all.filter(|own| {
        let is_rule = own.kind == ROUTERS && own.option.eq_ignore_ascii_case("rule");
        is_rule && known.contains(&(Protocol::Http, own.name.to_owned())) && is_http(own)
    });
    let own: BTreeSet<&str> = own.map(|own| own.name).collect();
    own.into_iter().collect()
}

fn is_http(own: &Part<'_>) -> bool {
    own.protocol == Protocol::Http
}

/// The options of an HTTP router or service with their values.
fn options<'a>(
    labels: &'a Labels,
    kind: &str,
    name: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    labels.iter().filter_map(move |(key, value)| {
        let own = part(key).filter(is_http)?;
        let is_it = own.kind == kind && own.name == name && !own.option.is_empty();
        is_it.then_some((own.option, value.as_str()))
    })
}

fn option<'a>(labels: &'a Labels, router: &str, wanted: &str) -> Option<&'a str> {
    let mut all = options(labels, ROUTERS, router);
    let found = all.find(|(option, _)| option.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value)
}

fn own_rule<'a>(labels: &'a Labels, router: &str) -> Option<&'a str> {
    option(labels, router, "rule")
}

/// The service of the labels that a router sends to; an error is why there is none.
fn service(labels: &Labels, router: &str) -> Result<String, String> {
    let services = names(labels).services.into_iter();
    let mut services = services.filter(|(protocol, _)| *protocol == Protocol::Http);
    let given = option(labels, router, "service");
    let wanted = given.map(|name| name.strip_suffix("@docker").unwrap_or(name));
    let found = services.find(|(_, name)| wanted.is_none_or(|wanted| name == wanted));
    found.map(|(_, name)| name).ok_or_else(|| {
        let other = given.unwrap_or_default();
        format!("its router {router} sends to {other}, which its labels do not define")
    })
}

fn router_labels(labels: &Labels, router: &str, rule: &PreviewRule) -> Labels {
    let all = options(labels, ROUTERS, router).filter_map(|(option, value)| {
        let value = match option.to_ascii_lowercase().as_str() {
            "service" => return None,
            "rule" => narrowed(value, rule),
            "priority" => above(value),
            _ => value.to_owned(),
        };
        let key = format!("traefik.http.routers.{router}{SUFFIX}.{option}");
        Some((key, value))
    });
    all.collect()
}

/// A label at least: without one, Traefik would not make the service.
fn service_labels(labels: &Labels, service: &str) -> Labels {
    let mut all = options(labels, SERVICES, service).peekable();
    let usual = all
        .peek()
        .is_none()
        .then_some(("loadbalancer.passhostheader", "true"));
    let key = |option: &str| format!("traefik.http.services.{service}{SUFFIX}.{option}");
    let all = all.chain(usual);
    all.map(|(option, value)| (key(option), value.to_owned()))
        .collect()
}

/// A rule for the requests of the preview alone. It is longer than the router's own, so it is asked first.
fn narrowed(rule: &str, by: &PreviewRule) -> String {
    let of_host = |found: &Captures<'_>| match is_host(found) {
        true => by.to_string(),
        false => found[0].to_owned(),
    };
    let rule = match by {
        PreviewRule::Extra(_) => Cow::Borrowed(rule),
        PreviewRule::Host(_) => MATCHERS.replace_all(rule, of_host),
    };
    format!("({rule}) && ({by})")
}

/// Zero means the length of the rule, and stays.
fn above(priority: &str) -> String {
    let own = priority.parse::<i64>().ok().filter(|own| *own != 0);
    let own = own.and_then(|own| own.checked_add(1));
    own.map_or(priority.to_owned(), |own| own.to_string())
}

fn name(matcher: &Captures<'_>) -> String {
    matcher["name"].to_ascii_lowercase()
}

fn is_host(matcher: &Captures<'_>) -> bool {
    ["host", "hostheader", "hostregexp"].contains(&name(matcher).as_str())
}

/// The hosts that a rule names as they are.
fn hosts(rule: &str) -> impl Iterator<Item = &str> {
    matched(rule, &["host", "hostheader"])
}

/// The texts of all matchers with one of these names.
fn matched<'a>(rule: &'a str, of: &'static [&str]) -> impl Iterator<Item = &'a str> {
    let all = MATCHERS.captures_iter(rule);
    let own = all.filter(|own| of.contains(&name(own).as_str()));
    own.filter_map(|own| own.name("texts"))
        .flat_map(|own| texts(own.as_str()))
}

/// What stands in the quotes.
fn texts(all: &str) -> impl Iterator<Item = &str> {
    TEXTS
        .find_iter(all)
        .map(|own| &own.as_str()[1..own.len() - 1])
}
