//! The container that a person means. Pure.

use bollard::models::ContainerSummary;

use crate::{
    docker::engine::summary::{self, name},
    error::{Error, Result, did_you_mean},
    model::{ContainerId, label},
};

/// By name, by id, or by the beginning of one; our own locks and helpers aside.
pub fn container(all: &[ContainerSummary], given: &str) -> Result<ContainerId> {
    let all: Vec<(&str, String, &ContainerSummary)> = all
        .iter()
        .filter(|own| summary::label(own, label::ROLE).is_none())
        .filter_map(|own| Some((own.id.as_deref()?, name(own), own)))
        .collect();
    let wanted = given.trim_start_matches('/');
    if let Some((id, ..)) = all
        .iter()
        .find(|(id, name, _)| name == wanted || *id == wanted)
    {
        return Ok(ContainerId((*id).to_owned()));
    }
    let beginning = |id: &str| !wanted.is_empty() && id.starts_with(wanted);
    let begin: Vec<&str> = all
        .iter()
        .map(|(id, ..)| *id)
        .filter(|id| beginning(id))
        .collect();
    match begin[..] {
        [one] => return Ok(ContainerId(one.to_owned())),
        [] => {}
        _ => {
            let message = format!(
                "{} containers have an id that begins with {wanted}",
                begin.len()
            );
            return Err(Error::refused(message).hint("write more of the id, or the name"));
        }
    }
    let of_service: Vec<&str> = all
        .iter()
        .filter(|(.., own)| summary::label(own, label::COMPOSE_SERVICE) == Some(wanted))
        .map(|(_, name, _)| name.as_str())
        .collect();
    if !of_service.is_empty() {
        return Err(
            Error::refused(format!("{wanted} is a service, not a container"))
                .hint(format!("name one of {}", of_service.join(", "))),
        );
    }
    let near = did_you_mean(wanted, all.iter().map(|(_, name, _)| name.as_str()));
    let guess = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Err(
        Error::refused(format!("no container {given:?} on this engine{guess}"))
            .hint("docker ps shows their names"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn listed(id: &str, name: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        let labels: HashMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        ContainerSummary {
            id: Some(id.to_owned()),
            names: Some(vec![format!("/{name}")]),
            labels: Some(labels),
            ..ContainerSummary::default()
        }
    }

    fn all() -> Vec<ContainerSummary> {
        let web = [(label::COMPOSE_SERVICE, "web")];
        vec![
            listed("aa11", "shop-web-1", &web),
            listed("aa22", "shop-web-2", &web),
            listed("bb33", "rollout-lock", &[(label::ROLE, "lock")]),
        ]
    }

    #[test]
    fn a_container_is_found_by_name_id_and_the_beginning_of_an_id() {
        for given in ["shop-web-2", "/shop-web-2", "aa22", "aa2"] {
            assert_eq!(container(&all(), given).unwrap().0, "aa22", "{given}");
        }
    }

    #[test]
    fn what_names_no_single_container_is_refused_in_one_line() {
        for (given, message) in [
            (
                "shop-wbe-2",
                "no container \"shop-wbe-2\" on this engine; did you mean \"shop-web-2\"?",
            ),
            ("aa", "2 containers have an id that begins with aa"),
            ("web", "web is a service, not a container"),
            (
                "rollout-lock",
                "no container \"rollout-lock\" on this engine",
            ),
            ("", "no container \"\" on this engine"),
        ] {
            assert_eq!(container(&all(), given).unwrap_err().message, message);
        }
        let hint = container(&all(), "web").unwrap_err().hint.unwrap();
        assert_eq!(hint, "name one of shop-web-1, shop-web-2");
    }
}
