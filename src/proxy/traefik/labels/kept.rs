//! Which containers a Traefik keeps, by their labels (`keepContainer` in `pkg/provider/docker/config.go`). Pure.

use std::{collections::BTreeMap, fmt};

use super::{constraints, names::is_label};
use crate::proxy::traefik::config::Docker;

/// Why a Traefik leaves a container out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// `traefik.enable=false`.
    Disabled,
    /// No `traefik.enable=true`, where that is wanted.
    NotEnabled,
    /// A label whose first word is `traefik` in another case: an error to Traefik (`DecodeToNode` of `traefik/paerser`).
    Misspelt(String),
    /// Its constraints, as they are written.
    Constraints(String),
}

/// Why a Traefik leaves a container with these labels out, whatever its state; `None` where it keeps it, or where its
/// constraints are not understood here.
pub fn left_out(docker: &Docker, labels: &BTreeMap<String, String>) -> Option<LeftOut> {
    let misspelt = |key: &&String| {
        let start = key.get(..8).unwrap_or_default();
        start != "traefik." && start.eq_ignore_ascii_case("traefik.")
    };
    if let Some(key) = labels.keys().find(misspelt) {
        return Some(LeftOut::Misspelt(key.clone()));
    }
    let mut all = labels.iter();
    let enable = all.find(|(key, _)| is_label(key, "traefik.enable"));
    match enable.map(|(_, value)| value.as_str()) {
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => {}
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => return Some(LeftOut::Disabled),
        // Another value is an error to Traefik, and the container is left out.
        Some(_) => return Some(LeftOut::NotEnabled),
        None if docker.exposed_by_default => {}
        None => return Some(LeftOut::NotEnabled),
    }
    let expression = docker.constraints.as_deref()?;
    match constraints::matches(expression, labels) {
        Some(false) => Some(LeftOut::Constraints(expression.to_owned())),
        _ => None,
    }
}

impl LeftOut {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disabled | Self::NotEnabled => {
                "add the label traefik.enable: \"true\" to the service, or roll on health alone with --proxy none"
            }
            Self::Misspelt(_) => "write the first word of its labels as traefik, in lower case",
            Self::Constraints(_) => {
                "add the label that Traefik's constraints ask for to the service, or roll on health alone with --proxy none"
            }
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("its label traefik.enable is false"),
            Self::NotEnabled => f.write_str("it has no label traefik.enable=true"),
            Self::Misspelt(key) => write!(
                f,
                "its label {key} does not begin with traefik in lower case"
            ),
            Self::Constraints(expression) => write!(f, "Traefik's constraints are {expression}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::labels, proxy::traefik::config::StaticConfig};

    fn docker(options: &str) -> Docker {
        let config = StaticConfig::of_arguments(&format!("--providers.docker {options}"));
        config.docker.unwrap()
    }

    #[test]
    fn the_first_word_of_a_label_is_read_in_lower_case_alone() {
        let closed = docker("--providers.docker.exposedbydefault=false");
        for (key, out) in [
            ("traefik.enable", None),
            ("traefik.Enable", None),
            (
                "Traefik.Enable",
                Some(LeftOut::Misspelt("Traefik.Enable".to_owned())),
            ),
        ] {
            assert_eq!(left_out(&closed, &labels(&[(key, "true")])), out, "{key}");
        }
    }

    #[test]
    fn what_is_exposed_by_default_needs_no_label_and_else_it_needs_one() {
        let (open, closed) = (
            docker(""),
            docker("--providers.docker.exposedbydefault=false"),
        );
        let rule = labels(&[("traefik.http.routers.a.rule", "Host(`a`)")]);
        assert_eq!(left_out(&open, &rule), None);
        assert_eq!(left_out(&closed, &rule), Some(LeftOut::NotEnabled));
        let on = labels(&[("traefik.Enable", "true")]);
        assert_eq!(left_out(&closed, &on), None);
        let off = labels(&[("traefik.enable", "false")]);
        assert_eq!(left_out(&open, &off), Some(LeftOut::Disabled));
        let odd = labels(&[("traefik.enable", "yes")]);
        assert_eq!(left_out(&open, &odd), Some(LeftOut::NotEnabled));
    }

    #[test]
    fn constraints_leave_out_what_they_do_not_match_and_nobody_where_they_are_not_understood() {
        let stage = docker("--providers.docker.constraints=Label(`stage`,`live`)");
        let expression = "Label(`stage`,`live`)".to_owned();
        let wrong = labels(&[("stage", "test")]);
        assert_eq!(
            left_out(&stage, &wrong),
            Some(LeftOut::Constraints(expression))
        );
        assert_eq!(left_out(&stage, &labels(&[("stage", "live")])), None);
        let unknown = docker("--providers.docker.constraints=Tag(`x`)");
        assert_eq!(left_out(&unknown, &wrong), None);
    }
}
