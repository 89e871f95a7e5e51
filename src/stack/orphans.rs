//! Containers of services that the Compose file no longer has.

use bollard::models::ContainerSummary;

use crate::{
    compose::Project,
    docker::engine::{shared::is_one_off, summary},
    model::{ContainerId, ServiceKey, label},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub id: ContainerId,
    pub name: String,
}

/// Finds the orphans of a project. No orphans are one-off runs, rollout's own containers, and services for which `stay`
/// is true. `project.disabled` must hold the services with inactive profiles.
pub fn orphans(
    containers: &[ContainerSummary],
    project: &Project,
    stay: impl Fn(&ServiceKey) -> bool,
) -> Vec<Orphan> {
    let orphan = |own: &ContainerSummary| {
        let labels = own.labels.as_ref()?;
        let key = summary::service(own)?;
        let is_of_file =
            project.services.contains_key(&key.service) || project.disabled.contains(&key.service);
        let is_of_project = key.project == project.name;
        let one_off = labels.get(label::COMPOSE_ONEOFF).map(String::as_str);
        let is_replica =
            one_off == Some("False") && !is_one_off(own) && !labels.contains_key(label::ROLE);
        (is_of_project && !is_of_file && is_replica && !stay(&key)).then(|| Orphan {
            id: ContainerId(own.id.clone().unwrap_or_default()),
            name: summary::name(own),
        })
    };
    containers.iter().filter_map(orphan).collect()
}

pub fn names(orphans: &[Orphan]) -> String {
    let names: Vec<&str> = orphans.iter().map(|own| own.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, project: &str, more: (&str, &str)) -> ContainerSummary {
        let labels = [
            (label::COMPOSE_PROJECT, project),
            (label::COMPOSE_SERVICE, name),
            (label::COMPOSE_ONEOFF, "False"),
            (label::COMPOSE_NUMBER, "1"),
            more,
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSummary {
            id: Some(name.to_owned()),
            names: Some(vec![format!("/{project}-{name}-1")]),
            labels: Some(labels.into()),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn only_replicas_of_this_project_whose_service_is_gone_are_orphans() {
        let mut project = crate::compose::resolved("name: p\nservices: {web: {image: a}}").unwrap();
        project.disabled.insert("debug".to_owned());
        let none = ("x", "y");
        let all = [
            container("web", "p", none),
            container("debug", "p", none),
            container("old", "p", none),
            container("older", "p", (label::ROLLOUT, "r1")),
            container("other", "q", none),
            container("once", "p", (label::COMPOSE_ONEOFF, "True")),
            container("hook", "p", (label::COMPOSE_HOOK, "pre_start")),
            container("lock", "p", (label::ROLE, "lock")),
            container("traefik", "p", none),
        ];
        let stay = |key: &ServiceKey| key.service == "traefik";
        assert_eq!(names(&orphans(&all, &project, stay)), "p-old-1, p-older-1");
    }
}
