//! Which router matches first: the priorities of a pin's routers. Pure.

use super::{
    definition::Name,
    tree::{Object, take, text},
};
use crate::{
    error::{Error, Result},
    proxy::traefik::labels::Protocol,
};

/// The highest priority that Traefik takes from any provider (`maxUserPriority`, `pkg/server/router`).
const HIGHEST: i64 = i64::MAX - 1000;

/// The priority that the Docker provider's router has: its own, else the length of its rule; the TCP rule that takes
/// everything comes last (`GetRulePriority` of Traefik's `pkg/muxer/{http,tcp}`).
pub fn priority((protocol, _): &Name, router: &Object) -> i64 {
    let rule = text(router, "rule").unwrap_or_default();
    let labelled = text(router, "priority").and_then(|text| text.parse().ok());
    let takes_all = || {
        let rule: String = rule.split_whitespace().collect();
        *protocol == Protocol::Tcp && rule.eq_ignore_ascii_case("hostsni(`*`)")
    };
    match labelled {
        Some(priority) if priority != 0 => priority,
        _ if takes_all() => -1,
        _ => i64::try_from(rule.len()).unwrap_or(HIGHEST),
    }
}

/// The next higher one; zero would mean "the length of the rule".
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

/// One version's router for the requests that another router claims too, where that one would be asked first: with both
/// rules, and above its copy as well.
pub fn both(
    own: &Name,
    served: &Object,
    other: &Name,
    claims: &Object,
) -> Result<Option<(Object, i64)>> {
    let claimed = priority(other, claims);
    let syntax = |router| text(router, "rulesyntax").map(str::to_ascii_lowercase);
    let (Some(rule), Some(claimed_rule)) = (text(served, "rule"), text(claims, "rule")) else {
        return Ok(None);
    };
    if claimed < above(priority(own, served))? || syntax(served) != syntax(claims) {
        return Ok(None);
    }
    let rule = format!("({rule}) && ({claimed_rule})");
    let mut served = served.clone();
    take(&mut served, "rule");
    served.insert("rule".to_owned(), rule.into());
    Ok(Some((served, above(above(claimed)?)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn of(protocol: Protocol, pairs: &[(&str, &str)]) -> i64 {
        priority(&(protocol, "a".to_owned()), &router(pairs))
    }

    fn router(pairs: &[(&str, &str)]) -> Object {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()));
        pairs.collect()
    }

    #[test]
    fn a_router_without_a_priority_has_the_length_of_its_rule_and_the_tcp_fallback_comes_last() {
        assert_eq!(of(Protocol::Http, &[("rule", "Host(`a`)")]), 9);
        assert_eq!(
            of(Protocol::Http, &[("rule", "Host(`a`)"), ("Priority", "0")]),
            9
        );
        assert_eq!(
            of(Protocol::Http, &[("rule", "Host(`a`)"), ("priority", "-5")]),
            -5
        );
        assert_eq!(of(Protocol::Tcp, &[("rule", "HostSNI( `*` )")]), -1);
        assert_eq!(of(Protocol::Tcp, &[("rule", "HostSNI(`a`)")]), 12);
    }

    #[test]
    fn above_is_one_more_but_never_zero_and_never_more_than_traefik_takes() {
        assert_eq!(above(9).unwrap(), 10);
        assert_eq!(above(-1).unwrap(), 1);
        assert_eq!(above(-2).unwrap(), -1);
        assert!(above(HIGHEST).is_err());
    }

    #[test]
    fn only_a_router_that_would_be_asked_first_needs_an_answer() {
        let (own, other) = (
            (Protocol::Http, "a".to_owned()),
            (Protocol::Http, "b".to_owned()),
        );
        let served = router(&[("rule", "Host(`a`)")]);
        let longer = router(&[("rule", "Host(`a`) && PathPrefix(`/x`)")]);
        let (both_of, priority) = both(&own, &served, &other, &longer).unwrap().unwrap();
        assert_eq!(
            text(&both_of, "rule"),
            Some("(Host(`a`)) && (Host(`a`) && PathPrefix(`/x`))")
        );
        assert_eq!(priority, 31);
        assert!(both(&own, &served, &other, &served).unwrap().is_none());
        let v2 = router(&[("rule", "Host(`a`, `b`)"), ("rulesyntax", "v2")]);
        assert!(both(&own, &served, &other, &v2).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn above_any_priority_is_a_higher_one_or_none(
            text in prop_oneof![any::<i64>().prop_map(|number| number.to_string()), mutated_text("-9223372036854775808")],
        ) {
            let own = of(Protocol::Http, &[("rule", "Host(`a`)"), ("priority", &text)]);
            if let Ok(higher) = above(own) {
                prop_assert!(higher > own && higher != 0);
            }
        }
    }
}
