//! Decides which services are gone; what is kept of any other service is never removed. Pure.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;

use crate::{
    ask,
    docker::engine::summary,
    model::{ServiceKey, label},
    state::lock,
};

/// What makes a service present: its containers, and its place in the Compose file.
pub struct Present<'a> {
    /// Services with a container of any kind, also a one-off or a hook.
    containers: BTreeSet<ServiceKey>,
    projects: BTreeSet<String>,
    in_file: &'a BTreeSet<ServiceKey>,
    /// Services that have a lock or an open request.
    marked: BTreeSet<ServiceKey>,
}

impl<'a> Present<'a> {
    pub fn of(listed: &[ContainerSummary], in_file: &'a BTreeSet<ServiceKey>) -> Self {
        let project =
            |own: &ContainerSummary| summary::label(own, label::COMPOSE_PROJECT).map(str::to_owned);
        Self {
            containers: listed.iter().filter_map(summary::service).collect(),
            projects: listed.iter().filter_map(project).collect(),
            in_file,
            marked: listed.iter().filter_map(marked).collect(),
        }
    }

    /// Every service that has a container, a lock, a request, records, or a place in the Compose file.
    pub fn all_keys<'b>(&'b self, recorded: &'b [ServiceKey]) -> BTreeSet<&'b ServiceKey> {
        let seen = self.containers.iter().chain(&self.marked);
        seen.chain(self.in_file).chain(recorded).collect()
    }

    /// A service of the Compose file's project is gone if it has no container and is not in the file. A service of
    /// another project is gone if that project has no container at all.
    pub fn is_gone(&self, key: &ServiceKey) -> bool {
        let is_own = self.in_file.iter().any(|own| own.project == key.project);
        let has_containers = match is_own {
            true => self.containers.contains(key),
            false => self.projects.contains(&key.project),
        };
        !has_containers && !self.in_file.contains(key)
    }
}

/// The service that a lock or a request is about.
pub fn marked(own: &ContainerSummary) -> Option<ServiceKey> {
    let key = match summary::label(own, label::ROLE)? {
        "lock" => lock::KEY,
        "ask" => ask::KEY,
        _ => return None,
    };
    ServiceKey::parse(summary::label(own, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ServiceKey {
        ServiceKey::parse(text).unwrap()
    }

    fn container(labels: &[(&str, &str)]) -> ContainerSummary {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ContainerSummary {
            labels: Some(labels.collect()),
            ..ContainerSummary::default()
        }
    }

    fn replica(text: &str) -> ContainerSummary {
        let own = key(text);
        container(&[
            (label::COMPOSE_PROJECT, &own.project),
            (label::COMPOSE_SERVICE, &own.service),
        ])
    }

    #[test]
    fn another_project_is_gone_with_its_last_container() {
        let none = BTreeSet::new();
        let present = Present::of(&[replica("shop/db")], &none);
        for there in ["shop/db", "shop/web"] {
            assert!(!present.is_gone(&key(there)), "{there}");
        }
        assert!(present.is_gone(&key("blog/web")));
        // A container without a service, such as one that another tool has labelled.
        let only_project = container(&[(label::COMPOSE_PROJECT, "blog")]);
        assert!(!Present::of(&[only_project], &none).is_gone(&key("blog/web")));
    }

    #[test]
    fn of_the_project_here_a_service_is_gone_that_is_neither_in_the_file_nor_has_containers() {
        let in_file = [key("shop/web")].into();
        let present = Present::of(&[replica("shop/db")], &in_file);
        assert!(!present.is_gone(&key("shop/web")));
        assert!(!present.is_gone(&key("shop/db")));
        assert!(present.is_gone(&key("shop/old")));
        let stopped = Present::of(&[], &in_file);
        assert!(!stopped.is_gone(&key("shop/web")));
    }

    #[test]
    fn locks_and_requests_are_known_by_their_labels_and_hold_no_project() {
        let lock = container(&[(label::ROLE, "lock"), (lock::KEY, "shop/web")]);
        let ask = container(&[(label::ROLE, "ask"), (ask::KEY, "blog/web")]);
        let foreign = container(&[(lock::KEY, "other/web")]);
        assert_eq!(marked(&foreign), None);
        let none = BTreeSet::new();
        let present = Present::of(&[lock, ask, foreign], &none);
        let recorded = [key("shop/api")];
        let all: Vec<String> = present
            .all_keys(&recorded)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["blog/web", "shop/api", "shop/web"]);
        assert!(all.iter().all(|own| present.is_gone(&key(own))));
    }
}
