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

/// The labels of a replica as those of a preview.
pub fn previewed(labels: &Labels, rule: &PreviewRule) -> Labels {
    let mut seen = labels.clone();
    preview(labels, rule).change(&mut seen);
    seen
}

/// Why a version with these labels cannot be previewed, in a few words.
pub fn refusal(labels: &Labels, rule: &PreviewRule) -> Option<String> {
    let routers = routers(labels);
    if routers.is_empty() {
        return Some("it has no label traefik.http.routers.NAME.rule".to_owned());
    }
    let mut all = routers.iter();
    let other = all.find_map(|router| service(labels, router).err());
    other.or_else(|| match rule {
        PreviewRule::Extra(_) => None,
        PreviewRule::Host(host) => {
            let router = served_by(labels, host)?;
            Some(format!(
                "its router {router} serves the host {host} to everyone"
            ))
        }
    })
}

/// The router of a container with these labels that names the host.
pub fn served_by<'a>(labels: &'a Labels, host: &str) -> Option<&'a str> {
    let names_it = |router: &&str| {
        let mut hosts = own_rule(labels, router).into_iter().flat_map(hosts);
        hosts.any(|own| own.eq_ignore_ascii_case(host))
    };
    routers(labels).into_iter().find(names_it)
}

/// The router of a container with these labels that matches the host without its name: for every host, or by an expression.
pub fn matched_by<'a>(labels: &'a Labels, host: &str) -> Option<&'a str> {
    let matches_it = |router: &&str| {
        let rule = own_rule(labels, router).unwrap_or_default();
        let mut expressions = matched(rule, &["hostregexp"]).peekable();
        // What is no expression here may be one for Traefik.
        let fits = |text: &str| Regex::new(text).map_or(true, |own| own.is_match(host));
        match expressions.peek() {
            None => hosts(rule).next().is_none(),
            Some(_) => expressions.any(fits),
        }
    };
    routers(labels).into_iter().find(matches_it)
}

/// What reaches the preview, by the labels of a previewed replica: a line for each router, and what to type for it.
/// `is_secured` is whether each of these entrypoints, or of the default ones if there is none, speaks TLS by itself.
pub fn ways(labels: &Labels, is_secured: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    for router in routers(labels) {
        let rule = own_rule(labels, router).unwrap_or_default();
        lines.push(format!("the preview answers requests that match {rule}"));
        let mut options = options(labels, ROUTERS, router);
        let is_tls = |(option, value): (&str, &str)| {
            let word = option.split('.').next().unwrap_or_default();
            word.eq_ignore_ascii_case("tls") && !is_false(value)
        };
        let entrypoints = option(labels, router, "entrypoints").unwrap_or_default();
        let entrypoints = entrypoints.split(',').map(str::trim);
        let entrypoints: Vec<&str> = entrypoints.filter(|own| !own.is_empty()).collect();
        let is_tls = options.any(is_tls) || is_secured(&entrypoints);
        let scheme = if is_tls { "https" } else { "http" };
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
        let mut known = known.iter();
        let is_known =
            known.any(|(of, name)| *of == Protocol::Http && name.eq_ignore_ascii_case(own.name));
        is_rule && is_known && is_http(own)
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
        let is_it = own.kind == kind && own.name.eq_ignore_ascii_case(name);
        let is_it = is_it && !own.option.is_empty();
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
            "priority" => above(priority(labels, router)?).to_string(),
            _ => value.to_owned(),
        };
        let key = format!("traefik.http.routers.{router}{SUFFIX}.{option}");
        Some((key, value))
    });
    let key = format!("traefik.http.routers.{router}{SUFFIX}.priority");
    // The length of the longer rule would put it above more than its own router.
    let usual = own_rule(labels, router).map_or(0, str::len) + 1;
    let mut all: Labels = all.collect();
    if priority(labels, router).is_none() {
        all.insert(key, usual.to_string());
    }
    all
}

/// The next higher priority. Zero would be the length of the rule.
fn above(priority: i64) -> i64 {
    match priority.saturating_add(1) {
        0 => 1,
        above => above,
    }
}

/// The priority that a router sets. Zero means the length of the rule.
fn priority(labels: &Labels, router: &str) -> Option<i64> {
    let own = option(labels, router, "priority")?.parse().ok();
    own.filter(|own| *own != 0)
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

/// A rule for the requests of the preview alone. A negated matcher stays as it is.
fn narrowed(rule: &str, by: &PreviewRule) -> String {
    let is_negated = |found: &Captures<'_>| {
        let before = found.get(0).map_or("", |own| &rule[..own.start()]);
        before.trim_end().ends_with('!')
    };
    let of_host = |found: &Captures<'_>| match is_host(found) && !is_negated(found) {
        true => by.to_string(),
        false => found[0].to_owned(),
    };
    let rule = match by {
        PreviewRule::Extra(_) => Cow::Borrowed(rule),
        PreviewRule::Host(_) => MATCHERS.replace_all(rule, of_host),
    };
    format!("({rule}) && ({by})")
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::mutated_text, fixtures::labels_of_web as labels};

    fn header() -> PreviewRule {
        PreviewRule::Extra("Header(`X`, `1`)".to_owned())
    }

    fn host() -> PreviewRule {
        PreviewRule::Host("p.example".to_owned())
    }

    /// The labels as Traefik reads them, less those of Compose.
    fn seen(pairs: &[(&str, &str)], rule: &PreviewRule) -> Vec<String> {
        let labels = previewed(&labels(pairs), rule);
        let own = labels.iter().filter(|(key, _)| key.starts_with("traefik."));
        own.map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_previewed_replica_has_routers_and_services_of_its_own_and_keeps_the_rest() {
        let given = [
            ("traefik.enable", "true"),
            ("traefik.HTTP.Routers.Web.Rule", "Host(`a`)"),
            ("traefik.http.routers.Web.priority", "7"),
            ("traefik.http.routers.Web.middlewares", "auth"),
            ("traefik.http.routers.Web.tls.certresolver", "le"),
            ("traefik.http.routers.Web.service", "app@docker"),
            ("traefik.http.middlewares.auth.basicauth.users", "u:p"),
            ("traefik.http.services.app.loadbalancer.server.port", "80"),
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
        ];
        let wanted = [
            "traefik.enable=true",
            "traefik.http.middlewares.auth.basicauth.users=u:p",
            "traefik.http.routers.Web-rollout-preview.Rule=(Host(`a`)) && (Header(`X`, `1`))",
            "traefik.http.routers.Web-rollout-preview.middlewares=auth",
            "traefik.http.routers.Web-rollout-preview.priority=8",
            "traefik.http.routers.Web-rollout-preview.service=app-rollout-preview",
            "traefik.http.routers.Web-rollout-preview.tls.certresolver=le",
            "traefik.http.services.app-rollout-preview.loadbalancer.server.port=80",
        ];
        assert_eq!(seen(&given, &header()), wanted);
    }

    #[test]
    fn a_default_service_gets_a_label_so_that_traefik_makes_it() {
        let wanted = [
            "traefik.http.routers.web-rollout-preview.priority=11",
            "traefik.http.routers.web-rollout-preview.rule=(Path(`/a`)) && (Header(`X`, `1`))",
            "traefik.http.routers.web-rollout-preview.service=web-shop-rollout-preview",
            "traefik.http.services.web-shop-rollout-preview.loadbalancer.passhostheader=true",
        ];
        let rule = ("traefik.http.routers.web.rule", "Path(`/a`)");
        assert_eq!(seen(&[rule], &header()), wanted);
    }

    #[test]
    fn a_host_takes_the_place_of_every_host_and_no_other_host_is_served() {
        for (rule, wanted) in [
            ("Host(`a`)", "(Host(`p.example`)) && (Host(`p.example`))"),
            (
                "host(`a`) || HostRegexp( `b.+`, \"c\" ) && Path(`/Host(x)`)",
                "(Host(`p.example`) || Host(`p.example`) && Path(`/Host(x)`)) && (Host(`p.example`))",
            ),
            (
                "PathPrefix(`/`)",
                "(PathPrefix(`/`)) && (Host(`p.example`))",
            ),
            (
                "! Host(`a`) && Host(`b`)",
                "(! Host(`a`) && Host(`p.example`)) && (Host(`p.example`))",
            ),
        ] {
            assert_eq!(narrowed(rule, &host()), wanted);
        }
    }

    #[test]
    fn the_priority_is_one_above_that_of_the_router_itself() {
        let rule = ("traefik.http.routers.web.rule", "Host(`a`)");
        for (own, wanted) in [
            ("0", "10"),
            ("9", "10"),
            ("-3", "-2"),
            ("-1", "1"),
            ("high", "10"),
        ] {
            let own = ("traefik.http.routers.web.priority", own);
            let set = router_labels(&labels(&[rule, own]), "web", &header());
            let key = "traefik.http.routers.web-rollout-preview.priority";
            assert_eq!(set[key], wanted);
        }
    }

    #[test]
    fn what_has_no_router_of_its_own_to_copy_is_refused() {
        let refused =
            |pairs: &[(&str, &str)], rule| refusal(&labels(pairs), &rule).unwrap_or_default();
        let rule = (
            "traefik.http.routers.web.rule",
            "Host(`a`) || Host(`P.example`)",
        );
        assert_eq!(refused(&[rule], header()), "");
        assert!(refused(&[rule], host()).contains("serves the host p.example to everyone"));
        let none = "it has no label traefik.http.routers.NAME.rule";
        let tcp = ("traefik.tcp.routers.web.rule", "HostSNI(`*`)");
        let default = ("traefik.http.routers.web.tls", "true");
        for pairs in [&[][..], &[tcp], &[default]] {
            assert_eq!(refused(pairs, header()), none);
        }
        let file = ("traefik.http.routers.web.service", "other@file");
        let said = refused(&[rule, file], header());
        assert_eq!(
            said,
            "its router web sends to other@file, which its labels do not define"
        );
    }

    #[test]
    fn a_router_for_every_host_or_by_an_expression_matches_a_host_without_its_name() {
        for (rule, wanted) in [
            ("PathPrefix(`/`)", true),
            ("HostRegexp(`.+\\.example`)", true),
            ("HostRegexp(`{any:.+}`)", true),
            ("HostRegexp(`.+\\.org`) || Path(`/a`)", false),
            ("Host(`a`) && Path(`/b`)", false),
        ] {
            let labels = labels(&[("traefik.http.routers.all.rule", rule)]);
            let found = matched_by(&labels, "p.example");
            assert_eq!(found.is_some(), wanted, "{rule}");
        }
        assert_eq!(matched_by(&Labels::new(), "p.example"), None);
    }

    #[test]
    fn a_line_to_type_reaches_the_preview() {
        let ways = |pairs: &[(&str, &str)], rule: &PreviewRule| {
            let labels = previewed(&labels(pairs), rule);
            ways(&labels, |entrypoints| entrypoints == ["safe", "sound"])
        };
        let tls = ("traefik.http.routers.web.tls", "true");
        let router = |rule| ("traefik.http.routers.web.rule", rule);
        let said = ways(&[router("Host(`a`) && PathPrefix(`/b`)"), tls], &header());
        let rule = "the preview answers requests that match (Host(`a`) && PathPrefix(`/b`)) && (Header(`X`, `1`))";
        assert_eq!(said, [rule, "curl -H 'X: 1' https://a/b"]);
        let said = ways(&[router("Host(`a`)")], &host());
        assert_eq!(said[1..], ["curl http://p.example/"]);
        let safe = ("traefik.http.routers.web.entrypoints", "safe, sound");
        let said = ways(&[router("Host(`a`)"), safe], &host());
        assert_eq!(said[1..], ["curl https://p.example/"]);
        let hostless = ways(&[router("Path(`/a`)")], &header());
        let quoted = PreviewRule::Extra("Header(`X`, `it's`)".to_owned());
        let quoted = ways(&[router("Host(`a`)")], &quoted);
        let two = PreviewRule::Extra("Header(`X`, `1`) || Header(`X`, `2`)".to_owned());
        let two = ways(&[router("Host(`a`)")], &two);
        assert_eq!((hostless.len(), quoted.len(), two.len()), (1, 1, 1));
    }

    proptest! {
        #[test]
        fn no_public_router_or_service_is_left_whatever_the_labels_are(
            keys in prop::collection::vec(mutated_text("traefik.http.routers.web.rule"), 0..4),
            others in prop::collection::vec(mutated_text("traefik.tcp.services.web.loadbalancer.server.port"), 0..3),
            value in mutated_text("Host(`a`) && (Path(`/b`) || Path(\"c\"))"),
            by_host in any::<bool>(),
        ) {
            let given = keys.iter().chain(&others).map(|key| (key.as_str(), value.as_str()));
            let rule = if by_host { host() } else { header() };
            let labels = previewed(&labels(&given.collect::<Vec<_>>()), &rule);
            for own in labels.keys().filter_map(|key| part(key)) {
                let is_route = [ROUTERS, SERVICES].contains(&own.kind.as_str());
                prop_assert!(!is_route || own.name.ends_with(SUFFIX), "{}", own.name);
            }
            for router in routers(&labels) {
                let own = own_rule(&labels, router).unwrap_or_default();
                let condition = format!(" && ({rule})");
                prop_assert!(own.starts_with('(') && own.ends_with(&condition), "{}", own);
            }
        }
    }
}
