//! Containers that use namespaces or volumes of a service's containers; they must be recreated by hand afterwards.

use std::collections::BTreeMap;

use super::prepare::Prepared;
use crate::{
    compose::{Service, check},
    context::RunContext,
    docker::engine::shared::Joined,
    model::{ContainerId, Replica},
};

#[derive(Clone, Copy)]
pub(super) enum When {
    Before,
    After,
}

impl RunContext<'_> {
    /// The containers that join this service's, by the Compose file and by what runs.
    pub(super) fn joined(
        &self,
        service: &Service,
        running: Vec<Joined>,
        olds: &[Replica],
    ) -> Vec<Joined> {
        let mut joined = check::joined(self.project, service, olds);
        for own in running {
            if !joined.iter().any(|known| known.is_same(&own)) {
                joined.push(own);
            }
        }
        joined
    }
}

impl Prepared<'_> {
    /// Reports containers that lose their namespace with the old containers; the operator has to recreate them.
    pub(super) fn report_joined(&self, when: When) {
        let (name, project) = (&self.context.service.name, &self.context.key.project);
        for own in &self.context.joined {
            let (called, way) = (own.called(project), own.way);
            let command = own.recreate(project);
            self.run.events.notice(match when {
                When::Before => format!(
                    "{called} uses the containers of {name} by {way}; after the rollout it still uses the old ones, until you recreate it: {command}"
                ),
                When::After => format!("recreate {called} now: {command}"),
            });
        }
    }

    /// The same after a failed stop-first rollout: restarted old containers have new namespaces. `ran` holds their start
    /// times from before.
    pub(super) async fn report_left_behind(&self, ran: &BTreeMap<ContainerId, String>) {
        let Ok(now) = self.run.engine.replicas(&self.context.key).await else {
            return;
        };
        let is_untouched = |(id, since): (&ContainerId, &String)| {
            now.iter()
                .any(|own| own.id == *id && own.started_at == *since)
        };
        if !ran.iter().all(is_untouched) {
            self.report_joined(When::After);
        }
    }
}
