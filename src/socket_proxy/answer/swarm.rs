//! Answers about Swarm's services and tasks. Each is made with the overlay of its moment: a change of one service is in one
//! answer about its tasks.

use std::{collections::BTreeSet, sync::Arc};

use hyper::Response;

use super::{Asked, json};
use crate::{
    docker::http::Body,
    overlay::Overlay,
    socket_proxy::{
        engine::Unanswered,
        rebuild::swarm::{Service, Task},
        request::Query,
    },
};

impl Asked<'_> {
    /// Begins a round, as a list of containers does: Traefik drops a service whose tasks it cannot read afterwards.
    pub(super) async fn services(&self, query: &Query) -> Result<Response<Body>, Unanswered> {
        let _turn = self.daemon.rounds.list().ok_or(Unanswered::Ending)?;
        let path = format!("/services{}", query.encode());
        Ok(json(&self.visible(&path).await?.1))
    }

    pub(super) async fn service(&self, id: &str) -> Result<Response<Body>, Unanswered> {
        let _turn = self.daemon.rounds.inspect();
        let path = format!("/services/{id}");
        let service: Service = self.get(&path, "service").await?;
        let overlay = self.daemon.store.current();
        let shown = service.for_reader(&overlay, &self.daemon.only);
        Ok(json(&shown.ok_or(Unanswered::Missing("service"))?))
    }

    /// The tasks of visible services: those of the named ones, by full id, or else of all.
    pub(super) async fn tasks(&self, query: &Query) -> Result<Response<Body>, Unanswered> {
        let _turn = self.daemon.rounds.inspect();
        let named = query.filters.get("service");
        let named = named.filter(|named| !named.is_empty());
        let of = named.map_or_else(Query::default, |named| {
            with(&Query::default(), "id", named.clone())
        });
        let (overlay, services) = self.visible(&format!("/services{}", of.encode())).await?;
        let services: BTreeSet<&String> = services.iter().map(|own| &own.id).collect();
        if named.is_some_and(|named| !named.iter().all(|id| services.contains(id))) {
            return Err(Unanswered::Missing("service"));
        }
        let mut tasks = self.tasks_by(query).await?;
        tasks.retain(|task| services.contains(&task.service_id));
        for id in services {
            if let Some(others) = self.tasks_in_place(id, &overlay, query).await? {
                tasks.retain(|task| task.service_id != *id);
                tasks.extend(others);
            }
        }
        Ok(json(&tasks))
    }

    async fn visible(&self, path: &str) -> Result<(Arc<Overlay>, Vec<Service>), Unanswered> {
        let services: Vec<Service> = self.get(path, "service").await?;
        let overlay = self.daemon.store.current();
        let only = &self.daemon.only;
        let shown = services
            .into_iter()
            .filter_map(|one| one.for_reader(&overlay, only));
        let shown = shown.collect();
        Ok((overlay, shown))
    }

    async fn tasks_by(&self, query: &Query) -> Result<Vec<Task>, Unanswered> {
        self.get(&format!("/tasks{}", query.encode()), "service")
            .await
    }

    // The tasks that a rule puts in the place of a service's own; `None` if there is no rule, or none of them runs: the
    // service that it names may have been removed.
    async fn tasks_in_place(
        &self,
        id: &str,
        overlay: &Overlay,
        query: &Query,
    ) -> Result<Option<Vec<Task>>, Unanswered> {
        let Some(other) = overlay.tasks_of(id) else {
            return Ok(None);
        };
        let of_other = with(query, "service", [other.to_owned()].into());
        let tasks = match self.tasks_by(&of_other).await {
            Err(Unanswered::Missing(_)) => Vec::new(),
            tasks => tasks?,
        };
        let as_own = |task: Task| Task {
            service_id: id.to_owned(),
            ..task
        };
        let runs = tasks.iter().any(Task::runs);
        Ok(runs.then(|| tasks.into_iter().map(as_own).collect()))
    }
}

fn with(query: &Query, key: &str, values: BTreeSet<String>) -> Query {
    let mut query = query.clone();
    query.filters.insert(key.to_owned(), values);
    query
}
