//! What lives in namespaces or volumes of a service's containers, and has to be recreated by hand once those are replaced.

use std::collections::BTreeMap;

use super::prepare::Prepared;
use crate::{
    compose::{Service, check},
    context::RunContext,
    engine::shared::Joined,
    model::{ContainerId, Replica},
};

/// When it is said what has to be recreated by hand.
#[derive(Clone, Copy)]
pub(super) enum When {
    Before,
    After,
}

impl RunContext<'_> {
    /// What lives in namespaces or volumes of a service's containers: as the file says, and as it runs.
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
    /// What is left in a namespace that ends with the old containers is for the operator to recreate.
    pub(super) fn tell_joined(&self, when: When) {
        let (name, project) = (&self.context.service.name, &self.context.key.project);
        for own in &self.context.joined {
            let (called, way) = (own.called(project), own.way);
            let command = own.recreate(project);
            self.run.events.notice(match when {
                When::Before => format!(
                    "{called} joins {name} by {way} and will stay with its old containers; recreate it afterwards: {command}"
                ),
                When::After => format!("recreate {called} now: {command}"),
            });
        }
    }

    /// The same where the rollout came to nothing after it had stopped old containers that were running since these times:
    /// started again, they have new namespaces.
    pub(super) async fn tell_left_behind(&self, ran: &BTreeMap<ContainerId, String>) {
        let Ok(now) = self.run.engine.replicas(&self.context.key).await else {
            return;
        };
        let is_untouched = |(id, since): (&ContainerId, &String)| {
            now.iter()
                .any(|own| own.id == *id && own.started_at == *since)
        };
        if !ran.iter().all(is_untouched) {
            self.tell_joined(When::After);
        }
    }
}
