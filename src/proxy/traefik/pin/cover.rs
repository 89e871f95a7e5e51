//! Keeps the requests of the old version's routers from routers of the new one that Traefik would ask first. Pure.
//!
//! The Docker provider publishes the routers of the new replicas as soon as those are healthy.

use std::collections::BTreeMap;

use serde_json::Value;

use super::record::{Sections, entry};
use crate::{
    error::{Error, Result},
    proxy::traefik::{
        api::Prefix,
        labels::{Protocol, names, router_label},
    },
};

/// The highest priority that Traefik takes from any provider (`maxUserPriority`, `pkg/server/router`).
const HIGHEST: i64 = i64::MAX - 1000;

/// Adds to the copied routers what answers in the place of a router that only the new version with these labels has, where a
/// request matches both: a router with both rules, and a priority above the new one's.
pub fn cover(
    sections: &mut Sections,
    prefix: &Prefix,
    new: &BTreeMap<String, String>,
) -> Result<()> {
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let copies = sections.get(protocol.word());
        let copies = copies.and_then(|own| own.get("routers")?.as_object().cloned());
        let Some(copies) = copies else {
            continue;
        };
        let is_copied = |name: &String| {
            copies
                .keys()
                .any(|full| prefix.label(protocol, full) == name)
        };
        let routers = names(new).routers.into_iter();
        let routers = routers.filter(|(own, name)| *own == protocol && !is_copied(name));
        for (_, name) in routers {
            let Some(claim) = Claim::of(new, protocol, &name)? else {
                continue;
            };
            for (full, copy) in &copies {
                if let Some(both) = claim.covered_by(copy)? {
                    let full = format!("{full}~{name}");
                    entry(sections, protocol, "routers").insert(full, both);
                }
            }
        }
    }
    Ok(())
}

/// A router that only the new version has.
struct Claim<'a> {
    name: &'a str,
    rule: &'a str,
    syntax: &'a str,
    priority: i64,
}

impl<'a> Claim<'a> {
    /// `None` where it does not exist, as a TCP router without a rule.
    fn of(
        labels: &'a BTreeMap<String, String>,
        protocol: Protocol,
        name: &'a str,
    ) -> Result<Option<Self>> {
        let label = |option| router_label(labels, protocol, name, option);
        let Some(rule) = label("rule").filter(|rule| !rule.is_empty()) else {
            return match protocol {
                Protocol::Http => Err(unknown_rule(name)),
                Protocol::Tcp | Protocol::Udp => Ok(None),
            };
        };
        let given = label("priority").and_then(|text| text.parse().ok());
        Ok(Some(Self {
            name,
            rule,
            syntax: label("rulesyntax").unwrap_or_default(),
            priority: priority(protocol, given, rule),
        }))
    }

    /// The copy with both rules; `None` where it is not needed: the copy is asked first, or no request matches both.
    fn covered_by(&self, copy: &Value) -> Result<Option<Value>> {
        let text = |field: &str| copy[field].as_str().unwrap_or_default();
        let rule = text("rule");
        let own = copy["priority"].as_i64();
        if own.is_some_and(|own| own > self.priority) || are_apart(rule, self.rule) {
            return Ok(None);
        }
        let is_v2 = |syntax: &str| syntax.eq_ignore_ascii_case("v2");
        if is_v2(text("ruleSyntax")) != is_v2(self.syntax) {
            let name = self.name;
            return Err(Error::refused(format!(
                "router {name} of the new version has another rule syntax than those that serve now"
            ))
            .hint(format!("give router {name} the same ruleSyntax as before")));
        }
        let mut both = copy.clone();
        both["rule"] = format!("({rule}) && ({})", self.rule).into();
        both["priority"] = above(self.priority)?.into();
        Ok(Some(both))
    }
}

/// Whether two rules require different hosts. A router with both would also count for Traefik as one of either host, whose
/// TLS options may differ.
fn are_apart(one: &str, other: &str) -> bool {
    match (required_host(one), required_host(other)) {
        (Some(one), Some(other)) => !one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// The host of every request that a rule matches, where the rule is a plain one.
fn required_host(rule: &str) -> Option<&str> {
    if rule.contains("||") || rule.contains('!') {
        return None;
    }
    let matcher = rule.split_once("Host(`").or(rule.split_once("HostSNI(`"));
    let (host, rest) = matcher?.1.split_once('`')?;
    (rest.starts_with(')') && host != "*").then_some(host)
}

/// The priority that a router has: the one that it sets, else the length of its rule, but the TCP rule that takes everything
/// comes last (`GetRulePriority`, `pkg/muxer/{http,tcp}`).
pub fn priority(protocol: Protocol, given: Option<i64>, rule: &str) -> i64 {
    let plain: String = rule.split_whitespace().collect();
    match given {
        Some(given) if given != 0 => given,
        _ if protocol == Protocol::Tcp && plain.eq_ignore_ascii_case("hostsni(`*`)") => -1,
        _ => i64::try_from(rule.len()).unwrap_or(HIGHEST),
    }
}

/// The next higher priority; zero would mean "the length of the rule".
pub fn above(priority: i64) -> Result<i64> {
    match priority {
        -1 => Ok(1),
        priority if priority < HIGHEST => Ok(priority + 1),
        _ => Err(Error::refused(format!(
            "a router has the priority {priority}, and nothing can be put above it"
        ))
        .hint("give it a lower priority")),
    }
}

fn unknown_rule(name: &str) -> Error {
    Error::refused(format!(
        "router {name} is new and has no rule of its own, so a pin cannot keep requests of the old version from it"
    ))
    .hint(format!("add the label traefik.http.routers.{name}.rule"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{arbitrary::mutated_text, model::ServiceKey};

    /// What is added to these routers of the file for a new version with these labels.
    fn added(
        protocol: Protocol,
        routers: &Value,
        new: &[(&str, &str)],
    ) -> Result<Vec<(String, Value)>> {
        let prefix = Prefix::of(&ServiceKey {
            project: "app".to_owned(),
            service: "web".to_owned(),
        });
        let new = new.iter();
        let new = new.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut sections = Sections::new();
        sections.insert(protocol.word().to_owned(), json!({"routers": routers}));
        cover(&mut sections, &prefix, &new.collect())?;
        assert_eq!(
            sections.len(),
            1,
            "a section without contents is no part of a file"
        );
        let all = entry(&mut sections, protocol, "routers").clone();
        let is_new = |name: &String| routers.get(name).is_none();
        Ok(all.into_iter().filter(|(name, _)| is_new(name)).collect())
    }

    fn old() -> Value {
        json!({"rollout.app.web.web": {"rule": "Host(`a`)", "priority": 10, "service": "s", "middlewares": ["m"]}})
    }

    #[test]
    fn a_new_router_that_would_be_asked_first_leaves_the_old_ones_requests_to_the_old_one() {
        let new = [
            ("traefik.http.routers.web.rule", "Host(`a`)"),
            ("traefik.http.routers.admin.rule", "Host(`a`) && Path(`/x`)"),
            ("traefik.http.routers.late.rule", "Host(`b`) && Path(`/x`)"),
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
        ];
        let both = json!({
            "rule": "(Host(`a`)) && (Host(`a`) && Path(`/x`))", "priority": 24, "service": "s", "middlewares": ["m"],
        });
        assert_eq!(
            added(Protocol::Http, &old(), &new).unwrap(),
            [("rollout.app.web.web~admin".to_owned(), both)]
        );
    }

    #[test]
    fn routers_that_share_no_request_need_no_cover() {
        for (one, other, apart) in [
            ("Host(`a`)", "Host(`b`) && Path(`/x`)", true),
            ("HostSNI(`a`)", "HostSNI(`b`)", true),
            ("Host(`a`)", "Path(`/x`) && Host(`A`)", false),
            ("Host(`a`)", "Host(`b`) || Path(`/x`)", false),
            ("Host(`a`)", "!Host(`b`)", false),
            ("Host(`a`)", "HostRegexp(`b`)", false),
            ("Host(`a`, `b`)", "Host(`b`)", false),
            ("HostSNI(`*`)", "HostSNI(`b`)", false),
        ] {
            assert_eq!(are_apart(one, other), apart, "{one} {other}");
            assert_eq!(are_apart(other, one), apart, "{other} {one}");
        }
    }

    #[test]
    fn a_tcp_router_for_a_name_is_covered_by_the_one_that_takes_everything() {
        let old =
            json!({"rollout.app.web.db": {"rule": "HostSNI(`*`)", "priority": 1, "service": "s"}});
        let new = [
            ("traefik.tcp.routers.db.rule", "HostSNI( `*` )"),
            ("traefik.tcp.routers.one.rule", "HostSNI(`a`)"),
            ("traefik.tcp.routers.none.entrypoints", "db"),
        ];
        let added = added(Protocol::Tcp, &old, &new).unwrap();
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].0, "rollout.app.web.db~one");
        assert_eq!(added[0].1["rule"], "(HostSNI(`*`)) && (HostSNI(`a`))");
        assert_eq!(added[0].1["priority"], 13);
    }

    #[test]
    fn what_cannot_be_covered_is_refused_with_the_label_to_change() {
        let refused = |new: &[(&str, &str)]| added(Protocol::Http, &old(), new).unwrap_err();
        let unruled = refused(&[("traefik.http.routers.b.middlewares", "x")]);
        assert!(
            unruled
                .message
                .starts_with("router b is new and has no rule"),
            "{unruled}"
        );
        let v2 = refused(&[
            ("traefik.http.routers.b.rule", "Host(`a`, `b`)"),
            ("traefik.http.routers.b.rulesyntax", "v2"),
        ]);
        assert!(v2.message.contains("another rule syntax"), "{v2}");
        let highest = refused(&[
            ("traefik.http.routers.b.rule", "Host(`a`)"),
            ("traefik.http.routers.b.priority", "9223372036854774807"),
        ]);
        assert!(
            highest.message.contains("nothing can be put above it"),
            "{highest}"
        );
    }

    #[test]
    fn a_router_with_the_default_rule_in_both_versions_needs_no_cover() {
        let new = [("traefik.http.routers.web.middlewares", "x")];
        assert_eq!(added(Protocol::Http, &old(), &new).unwrap(), []);
    }

    proptest! {
        #[test]
        fn above_any_priority_is_a_higher_one_or_none(priority in any::<i64>()) {
            if let Ok(higher) = above(priority) {
                prop_assert!(higher > priority && higher != 0);
            }
        }

        #[test]
        fn of_any_labels_each_router_that_is_added_is_above_the_new_one_and_leads_to_the_old(
            rule in mutated_text("Host(`a`) && Path(`/x`)"), priority in mutated_text("100"),
        ) {
            let labels = [
                ("traefik.http.routers.b.rule", &*rule),
                ("traefik.http.routers.b.priority", &*priority),
            ];
            for (_, router) in added(Protocol::Http, &old(), &labels).unwrap_or_default() {
                prop_assert!(router["priority"].as_i64() > Some(10) && router["service"] == "s", "{}", router);
            }
        }
    }
}
