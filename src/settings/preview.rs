//! The condition of a preview: which requests the new version gets before the cutover. Pure.

use std::{fmt, sync::LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Which requests are those of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreviewRule {
    /// Those that match this too, beside the rule of their router.
    Extra(String),
    /// Those to this host, in place of the hosts in the rule of their router.
    Host(String),
}

/// As a rule of Traefik.
impl fmt::Display for PreviewRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extra(rule) => f.write_str(rule),
            Self::Host(host) => write!(f, "Host(`{host}`)"),
        }
    }
}

/// A text in a rule, as Go writes one.
pub const TEXT: &str = r#"`[^`]*`|"(?:[^"\\]|\\.)*""#;

static TEXTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(TEXT).expect("the expression is part of the program"));

/// A rule that stays one where it is put in parentheses.
pub(super) fn extra_rule(text: &str) -> Result<String, String> {
    let rule = text.trim();
    if rule.is_empty() {
        return Err("the rule is empty; write one such as Header(`X-Preview`, `1`)".to_owned());
    }
    let bare = TEXTS.replace_all(rule, "");
    if bare.contains(['`', '"']) {
        return Err(format!("a quote in {rule} is not closed"));
    }
    let mut depth = 0_usize;
    for character in bare.chars() {
        let next = match character {
            '(' => Some(depth + 1),
            ')' => depth.checked_sub(1),
            _ => Some(depth),
        };
        depth = next.ok_or_else(|| format!("a parenthesis in {rule} is closed and not opened"))?;
    }
    match depth {
        0 => Ok(rule.to_owned()),
        _ => Err(format!("a parenthesis in {rule} is not closed")),
    }
}

pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        let is_bare = !label.starts_with('-') && !label.ends_with('-');
        is_bare && (1..=63).contains(&label.len()) && label.bytes().all(is_inner)
    };
    match text.len() <= 253 && text.split('.').all(is_label) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "{text:?} is not the name of a host; write one such as preview.example.com"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn a_rule_whose_quotes_and_parentheses_do_not_match_is_refused() {
        for (rule, said) in [
            ("", "the rule is empty"),
            ("  ", "the rule is empty"),
            ("Header(`a`, `1`", "is not closed"),
            ("Header(`a`, `1)", "a quote in"),
            ("Header(\"a`, `1\")x\"", "a quote in"),
            (
                "Header(`a`, `1`)) || (Host(`b`)",
                "is closed and not opened",
            ),
        ] {
            let error = extra_rule(rule).unwrap_err();
            assert!(error.contains(said), "{rule}: {error}");
        }
        for rule in [
            "Header(`a`, `)`)",
            " !(Query(\"a\", \"\\\"(\") || Host(`b`)) ",
        ] {
            assert_eq!(extra_rule(rule).as_deref(), Ok(rule.trim()));
        }
    }

    #[test]
    fn a_host_is_a_name_without_a_port_a_path_or_a_wildcard() {
        assert_eq!(
            host_name("Preview.example.com").unwrap(),
            "preview.example.com"
        );
        for text in [
            "",
            "a b",
            "a.",
            ".a",
            "-a",
            "*.a",
            "a:80",
            "a/b",
            "a`) || Host(`b",
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_cannot_leave_its_parentheses(text in mutated_text("(Header(`a`, `1`) || Host(\"b\"))")) {
            if let Ok(rule) = extra_rule(&text) {
                let whole = format!("({rule})");
                let bare = TEXTS.replace_all(&whole, "");
                let mut depth = 0_i32;
                let depths: Vec<i32> = bare.chars().map(|own| {
                    depth += i32::from(own == '(') - i32::from(own == ')');
                    depth
                }).collect();
                prop_assert!(depths[..depths.len() - 1].iter().all(|depth| *depth > 0), "{}", rule);
                prop_assert_eq!(depths.last(), Some(&0));
            }
        }
    }
}
