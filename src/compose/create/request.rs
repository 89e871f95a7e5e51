//! Turns a request for containers into two commands, and refuses what they cannot do.

use super::super::{
    AnonymousVolumes, CreateRequest, Project,
    view::rewrite::{is_valid_name, temporary_name},
};
use crate::error::{Error, Result};

#[derive(Clone, Copy)]
pub enum Step {
    Create,
    Start,
    /// Stops the old ones first.
    Recreate,
}

impl Step {
    /// Only flags that every supported Compose accepts: `--pull` and `--scale` on `create` are older than 2.26, and newer
    /// versions refuse `--renew-anon-volumes` with `--no-recreate`.
    pub fn arguments(self, service: &str, scales: &[String]) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Create => &["create", "--no-recreate"],
            Self::Start => &["up", "--detach", "--no-deps", "--no-recreate"],
            Self::Recreate => &["up", "--detach", "--no-deps", "--force-recreate"],
        };
        let mut arguments: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments.extend(["--no-build", "--pull", "never"].map(str::to_owned));
        for scale in scales {
            arguments.extend(["--scale".to_owned(), scale.clone()]);
        }
        arguments.push(service.to_owned());
        arguments
    }

    pub fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Recreate => "run",
        }
    }
}

/// `SERVICE=NUMBER` for the service and each of its dependencies. Without it, `create` would remove replicas of a
/// dependency that was scaled by hand. A dependency that was not observed has no replicas.
pub fn scales(
    project: &Project,
    service: &str,
    replicas: u32,
    observed: &[(String, u32)],
) -> Vec<String> {
    let mut scales = vec![format!("{service}={replicas}")];
    for name in project.dependencies(service) {
        if project.services.contains_key(&name) {
            scales.push(format!("{name}={}", observed_count(observed, &name)));
        }
    }
    scales
}

fn observed_count(observed: &[(String, u32)], service: &str) -> u32 {
    observed
        .iter()
        .find(|(name, _)| name == service)
        .map_or(0, |(_, count)| *count)
}

pub fn check_request(request: &CreateRequest<'_>) -> Result<()> {
    let service = request.project.service(request.service)?;
    let name = service.container_name.as_deref().unwrap_or(&service.name);
    if !is_valid_name(&temporary_name(name, request.rollout)) {
        return Err(Error::refused(format!(
            "{:?} cannot be part of a container name",
            request.rollout
        )));
    }
    if !service.anonymous_volumes.is_empty()
        && request.anonymous_volumes == AnonymousVolumes::Refuse
    {
        return Err(Error::refused(format!(
            "{} has anonymous volumes, which new containers would start without: {}",
            service.name,
            service.anonymous_volumes.join(", ")
        ))
        .hint("--renew-anon-volumes or --strategy recreate"));
    }
    check_dependencies(request.project, request.service, &request.dependencies)
}

/// Refuses a missing dependency, because Compose would create it.
fn check_dependencies(project: &Project, service: &str, observed: &[(String, u32)]) -> Result<()> {
    let reachable = project.dependencies(service);
    let dependants = std::iter::once(service).chain(reachable.iter().map(String::as_str));
    for dependant in dependants.filter_map(|name| project.services.get(name)) {
        for dependency in dependant.depends_on.iter().filter(|d| d.required) {
            let name = &dependency.service;
            let wanted = project.services.get(name).is_none_or(|s| s.scale > 0);
            if wanted && observed_count(observed, name) == 0 {
                let message = format!(
                    "{} depends on {name}, which has no container",
                    dependant.name
                );
                return Err(Error::refused(message)
                    .hint(format!("start it first: docker compose up -d {name}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::super::parse, *};

    const YAML: &str = "name: p
services:
  web: {image: a, depends_on: {db: {condition: service_healthy, required: true}, mail: {condition: service_started, required: false}}}
  db: {image: b, depends_on: {disk: {condition: service_completed_successfully, required: true}}}
  mail: {image: c}
  disk: {image: d}
";

    fn project() -> Project {
        parse::project(YAML, "-").unwrap()
    }

    fn observed(counts: &[(&str, u32)]) -> Vec<(String, u32)> {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn every_dependency_keeps_the_number_that_was_observed() {
        assert_eq!(
            scales(&project(), "web", 3, &observed(&[("db", 2), ("disk", 1)])),
            ["web=3", "db=2", "disk=1", "mail=0"]
        );
    }

    #[test]
    fn a_required_dependency_without_a_container_is_refused_however_far_away() {
        let missing = |counts| {
            check_dependencies(&project(), "web", &observed(counts))
                .unwrap_err()
                .message
        };
        assert_eq!(
            missing(&[("disk", 1)]),
            "web depends on db, which has no container"
        );
        assert_eq!(
            missing(&[("db", 1)]),
            "db depends on disk, which has no container"
        );
        assert_eq!(
            check_dependencies(&project(), "web", &observed(&[("db", 1), ("disk", 1)])),
            Ok(())
        );
    }

    #[test]
    fn a_dependency_that_the_file_scales_to_zero_may_be_absent() {
        let mut project = project();
        project.services.get_mut("disk").unwrap().scale = 0;
        assert_eq!(
            check_dependencies(&project, "web", &observed(&[("db", 1)])),
            Ok(())
        );
    }

    #[test]
    fn a_rollout_id_that_is_no_part_of_a_name_is_refused() {
        let project = project();
        let request = |rollout| CreateRequest {
            project: &project,
            service: "mail",
            replicas: 1,
            dependencies: Vec::new(),
            rollout,
            lock: None,
            labels: Default::default(),
            anonymous_volumes: AnonymousVolumes::Refuse,
        };
        assert!(check_request(&request("r/2")).is_err());
        assert_eq!(check_request(&request("r2")), Ok(()));
    }

    #[test]
    fn the_commands_are_these() {
        let scales = ["web=3".to_owned(), "db=1".to_owned()];
        let line = |step: Step| step.arguments("web", &scales).join(" ");
        assert_eq!(
            line(Step::Create),
            "create --no-recreate --no-build --pull never --scale web=3 --scale db=1 web"
        );
        assert_eq!(
            line(Step::Start),
            "up --detach --no-deps --no-recreate --no-build --pull never --scale web=3 --scale db=1 web"
        );
        assert_eq!(
            Step::Recreate.arguments("job", &[]).join(" "),
            "up --detach --no-deps --force-recreate --no-build --pull never job"
        );
    }
}
