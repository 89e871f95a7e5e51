//! `--only`: which containers readers see at all. Others are in no list and no event, and an inspect answers 404.
//!
//! Matches Docker's own labels, never the overlay's: what is hidden for a while still belongs to its reader.

use std::{
    collections::BTreeSet,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use super::{
    overlay::{ENABLE, Labels},
    rebuild::{Inspect, Listed},
};

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

/// Whether these limits, of which any is enough, let a container with these labels through.
pub fn admits(wanted: &[Wanted], labels: &Labels) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted.matches(labels))
}

/// The containers that match any of the given labels; all of them where none is given.
#[derive(Debug, Default)]
pub struct Only {
    wanted: Vec<Wanted>,
    /// Ids of containers whose network one of the last list joins: Traefik inspects them to learn its address.
    joined: Mutex<BTreeSet<String>>,
}

impl Only {
    pub fn new(wanted: Vec<Wanted>) -> Self {
        Self {
            wanted,
            joined: Mutex::default(),
        }
    }

    /// Whether a container with these labels is seen.
    pub fn admits(&self, labels: &Labels) -> bool {
        admits(&self.wanted, labels)
    }

    /// Leaves out of a list what is not seen.
    pub fn of_list(&self, mut listed: Vec<Listed>) -> Vec<Listed> {
        listed.retain(|one| self.admits(&one.labels));
        let modes = listed.iter().map(|one| &one.host_config.network_mode);
        let joined = modes.filter_map(|mode| mode.strip_prefix("container:"));
        let joined = joined.map(str::to_owned).collect();
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined;
        listed
    }

    /// Whether a container may be inspected.
    pub fn admits_inspect(&self, inspect: &Inspect) -> bool {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        self.admits(&inspect.config.labels) || joined.contains(&inspect.id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn only(wanted: &[&str]) -> Only {
        Only::new(wanted.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn without_a_label_every_container_is_seen() {
        assert!(only(&[]).admits(&Labels::default()));
    }

    #[test]
    fn any_of_several_labels_is_enough_and_a_value_counts_where_it_is_given() {
        let only = only(&["shop", "zone=inner"]);
        assert!(only.admits(&labels(&[("shop", "")])));
        assert!(only.admits(&labels(&[("zone", "inner"), ("x", "y")])));
        assert!(!only.admits(&labels(&[("zone", "outer")])));
        assert!(!only.admits(&Labels::default()));
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
            assert_eq!(only.admits(&labels(&[(ENABLE, value)])), seen, "{value}");
        }
    }

    #[test]
    fn a_limit_reads_as_it_is_written() {
        for text in ["shop", "zone=inner", "zone="] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_label_needs_a_name() {
        assert!("=true".parse::<Wanted>().is_err());
        assert!("".parse::<Wanted>().is_err());
    }

    #[test]
    fn a_container_whose_network_a_visible_one_joins_may_be_inspected() {
        let only = only(&["shop"]);
        let listed: Vec<Listed> = serde_json::from_value(json!([
            {"Id": "a", "Labels": {"shop": ""}, "HostConfig": {"NetworkMode": "container:vpn"}},
            {"Id": "b", "Labels": {}, "HostConfig": {"NetworkMode": "container:other"}},
        ]))
        .unwrap();
        let ids: Vec<String> = only.of_list(listed).into_iter().map(|one| one.id).collect();
        assert_eq!(ids, ["a"]);
        let inspect = |id: &str| serde_json::from_value::<Inspect>(json!({"Id": id})).unwrap();
        assert!(only.admits_inspect(&inspect("vpn")));
        assert!(!only.admits_inspect(&inspect("other")));
        only.of_list(Vec::new());
        assert!(!only.admits_inspect(&inspect("vpn")));
    }
}
