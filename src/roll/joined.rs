//! What lives in namespaces or volumes of a service's containers, and has to be recreated by hand once those are replaced.

use std::collections::BTreeMap;

use super::{Scene, Subject};
use crate::{
    compose::{Service, check},
    engine::shared::Joined,
    model::{ContainerId, Replica},
};

/// When it is said what has to be recreated by hand.
#[derive(Clone, Copy)]
pub(super) enum When {
    Before,
    After,
}

impl Scene<'_> {
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

    /// What is left in a namespace that ends with the old containers is for the operator to recreate.
    pub(super) fn tell_joined(&self, subject: &Subject<'_>, when: When) {
        let name = &subject.service.name;
        for own in &subject.joined {
            let (called, way) = (own.called(&self.project.name), own.way);
            let command = own.recreate(&self.project.name);
            self.events.notice(match when {
                When::Before => format!(
                    "{called} joins {name} by {way} and will stay with its old containers; recreate it afterwards: {command}"
                ),
                When::After => format!("recreate {called} now: {command}"),
            });
        }
    }

    /// The same where the rollout came to nothing after it had stopped old containers that were running since these times:
    /// started again, they have new namespaces.
    pub(super) async fn tell_left_behind(
        &self,
        subject: &Subject<'_>,
        ran: &BTreeMap<ContainerId, String>,
    ) {
        let Ok(now) = self.engine.replicas(&subject.key).await else {
            return;
        };
        let is_untouched = |(id, since): (&ContainerId, &String)| {
            now.iter()
                .any(|own| own.id == *id && own.started_at == *since)
        };
        if !ran.iter().all(is_untouched) {
            self.tell_joined(subject, When::After);
        }
    }
}
