//! Notices before the first step: actions of Compose that a rollout omits, and bind mounts that would be empty.

use super::prepare::Prepared;
use crate::{compose::Project, here::Here};

impl Prepared<'_> {
    pub(super) async fn warn(&self) {
        let (run, service) = (&self.run, self.context.service);
        if let Some(text) = left_running(run.project, &service.name) {
            run.events.notice(text);
        }
        let here = Here::find(run.engine).await;
        for lost in here.lost_binds(run.project, service) {
            run.events.notice(format!("{lost}; {}", lost.hint()));
        }
    }
}

/// Services that Compose would restart once it has replaced this one.
fn left_running(project: &Project, name: &str) -> Option<String> {
    let restarts = project.services.values().filter(|own| {
        let mut needs = own.depends_on.iter();
        needs.any(|own| own.service == name && own.restart)
    });
    let names: Vec<&str> = restarts.map(|own| own.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "depends_on with restart: true is not carried out, {} is not restarted; if it must be, run afterwards: \
             docker compose restart {}",
            names.join(", "),
            names.join(" ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_compose_would_restart_is_named() {
        let text = "name: p
services:
  web: {image: a}
  api: {image: a, depends_on: {web: {condition: service_started, restart: true, required: true}}}
  job: {image: a, depends_on: {web: {condition: service_started, required: true}}}
";
        let project = crate::compose::resolved(text).unwrap();
        let said = left_running(&project, "web").unwrap();
        assert!(said.ends_with("docker compose restart api"), "{said}");
        assert_eq!(left_running(&project, "api"), None);
    }
}
