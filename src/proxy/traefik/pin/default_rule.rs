//! The rule that Traefik gives a router which has none. Pure.

use std::collections::BTreeMap;

use crate::proxy::traefik::labels::default_name;

/// Traefik's own (`pkg/provider/docker`, `DefaultTemplateRule`).
const DEFAULT: &str = "Host(`{{ normalize .Name }}`)";

/// What is known of default rules.
#[derive(Clone, Debug, Default)]
pub struct DefaultRules {
    /// The provider's `defaultRule`, a Go template.
    pub template: Option<String>,
    /// Router → its rule, as Traefik tells it; for templates that are not understood here.
    pub known: BTreeMap<String, String>,
}

impl DefaultRules {
    /// The rule of a router of a container with these labels.
    pub fn of(&self, labels: &BTreeMap<String, String>, router: &str) -> Option<String> {
        let template = self.template.as_deref().unwrap_or(DEFAULT);
        render(template, labels).or_else(|| self.known.get(router).cloned())
    }
}

/// Renders what templates mostly are made of: the name, and labels.
fn render(template: &str, labels: &BTreeMap<String, String>) -> Option<String> {
    let mut rule = String::new();
    let mut rest = template;
    while let Some((text, action)) = rest.split_once("{{") {
        let (action, after) = action.split_once("}}")?;
        rule.push_str(text);
        rule.push_str(&value(action.trim(), labels)?);
        rest = after;
    }
    rule.push_str(rest);
    (!rule.is_empty()).then_some(rule)
}

fn value(action: &str, labels: &BTreeMap<String, String>) -> Option<String> {
    // A service's name is normalised already (`getServiceName`).
    if matches!(action, ".Name" | "normalize .Name") {
        return Some(default_name(labels));
    }
    let label = action.strip_prefix("index .Labels ")?.trim();
    let quoted = ['"', '`'].iter().find_map(|quote| {
        label
            .strip_prefix(*quote)?
            .strip_suffix(*quote)
            .filter(|name| !name.contains(['"', '`', '\\']))
    })?;
    Some(labels.get(quoted).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;
    use crate::model::label;

    fn rule(template: Option<&str>) -> Option<String> {
        let labels = [
            (label::COMPOSE_PROJECT, "my_app"),
            (label::COMPOSE_SERVICE, "web"),
            ("host", "a.b"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let rules = DefaultRules {
            template: template.map(str::to_owned),
            known: BTreeMap::from([("odd".to_owned(), "Host(`odd`)".to_owned())]),
        };
        rules.of(&BTreeMap::from(labels), "odd")
    }

    #[test]
    fn names_and_labels_are_put_in_and_anything_else_is_what_traefik_has_said() {
        for (template, wanted) in [
            (None, "Host(`web-my-app`)"),
            (
                Some("Host(`{{ .Name }}.local`)"),
                "Host(`web-my-app.local`)",
            ),
            (
                Some("Host(`{{ index .Labels \"host\" }}`) && Path(`/`)"),
                "Host(`a.b`) && Path(`/`)",
            ),
            (Some("Host(`{{ trimPrefix `/` .Name }}`)"), "Host(`odd`)"),
            (Some("Host(`{{ .ContainerName }}`)"), "Host(`odd`)"),
        ] {
            assert_eq!(rule(template).as_deref(), Some(wanted), "{template:?}");
        }
    }

    proptest! {
        #[test]
        fn any_template_gives_a_rule_without_actions_or_the_rule_that_is_known(
            template in mutated_text("Host(`{{ .Name }}`) && Path(`{{ index .Labels \"host\" }}`)"),
        ) {
            if let Some(rule) = rule(Some(&template)).filter(|rule| rule != "Host(`odd`)") {
                prop_assert!(!rule.contains("{{"), "{}", rule);
            }
        }
    }
}
