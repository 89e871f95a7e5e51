//! `--only`: the containers that readers see. Others are in no list and no event, and an inspect answers 404. Pure.
//!
//! Matches Docker's own labels, never the overlay's: readers also see containers that the overlay hides from Traefik.

use std::{fmt, str::FromStr};

use crate::overlay::{ENABLE, Labels};

/// One label to match, written `LABEL` (any value) or `LABEL=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    label: String,
    value: Option<String>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.label),
            None => f.write_str(&self.label),
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, value) = match text.split_once('=') {
            Some((label, value)) => (label, Some(value.to_owned())),
            None => (text, None),
        };
        if label.is_empty() {
            return Err("expected LABEL or LABEL=VALUE".to_owned());
        }
        Ok(Self {
            label: label.to_owned(),
            value,
        })
    }
}

impl Wanted {
    fn matches(&self, labels: &Labels) -> bool {
        let Some(found) = labels.get(&self.label) else {
            return false;
        };
        match &self.value {
            None => true,
            Some(value) if self.label == ENABLE => is_true(found) == is_true(value),
            Some(value) => found == value,
        }
    }
}

/// As Traefik reads a boolean label (Go's `strconv.ParseBool`).
fn is_true(value: &str) -> bool {
    ["1", "t", "T", "true", "True", "TRUE"].contains(&value)
}

/// A filter with which the engine itself leaves out other containers. Only a single limit has one, because the engine
/// requires all filters to match; and `traefik.enable` has none, because one value has several spellings.
pub fn filter(wanted: &[Wanted]) -> Option<String> {
    match wanted {
        [one] if one.label == ENABLE => Some(one.label.clone()),
        [one] => Some(one.to_string()),
        _ => None,
    }
}

/// Whether readers see a container with these labels: any of the limits is enough.
pub fn admits(wanted: &[Wanted], labels: &Labels) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted.matches(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::labels;

    fn only(wanted: &[&str]) -> Vec<Wanted> {
        wanted.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn without_a_label_every_container_is_seen() {
        assert!(admits(&[], &Labels::default()));
    }

    #[test]
    fn any_of_several_labels_is_enough_and_a_value_counts_where_it_is_given() {
        let only = only(&["shop", "zone=inner"]);
        assert!(admits(&only, &labels(&[("shop", "")])));
        assert!(admits(&only, &labels(&[("zone", "inner"), ("x", "y")])));
        assert!(!admits(&only, &labels(&[("zone", "outer")])));
        assert!(!admits(&only, &Labels::default()));
    }

    #[test]
    fn traefik_enable_is_compared_as_traefik_reads_it() {
        let only = only(&["traefik.enable=true"]);
        for (value, seen) in [
            ("true", true),
            ("1", true),
            ("TRUE", true),
            ("yes", false),
            ("false", false),
        ] {
            assert_eq!(admits(&only, &labels(&[(ENABLE, value)])), seen, "{value}");
        }
    }

    #[test]
    fn a_limit_reads_as_it_is_written() {
        for text in ["shop", "zone=inner", "zone="] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_engine_filters_by_a_single_limit() {
        for (limits, filter) in [
            (&["shop"][..], Some("shop")),
            (&["zone=inner"], Some("zone=inner")),
            (&["traefik.enable=true"], Some("traefik.enable")),
            (&["shop", "zone=inner"], None),
            (&[], None),
        ] {
            assert_eq!(super::filter(&only(limits)).as_deref(), filter);
        }
    }

    #[test]
    fn a_label_needs_a_name() {
        assert!("=true".parse::<Wanted>().is_err());
        assert!("".parse::<Wanted>().is_err());
    }
}
