//! Creates a new set of a service's containers through a view that hides the old set from Compose.

mod request;

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::Value;
use url::form_urlencoded;

use request::{Step, check_request, scales};

use super::{
    AnonymousVolumes, Compose, CreateRequest, Project,
    view::{
        Subject, View,
        rewrite::{LABEL_PROJECT, LABEL_ROLLOUT, LABEL_SERVICE, is_one_off},
        volumes::{Volume, by_number, trimmed, volumes},
    },
};
use crate::{
    error::{Error, Result},
    model::label::COMPOSE_NUMBER,
};

impl Compose {
    /// Creates and starts the new set beside the old one, which is left untouched.
    ///
    /// The new containers have temporary names; the label `io.rollout.name` holds the final one. A missing dependency is
    /// refused before anything is touched. The error of a failed Compose is its last line.
    pub async fn create(
        &self,
        request: &CreateRequest<'_>,
        mut on_line: impl FnMut(String),
    ) -> Result<()> {
        check_request(request)?;
        let service = request.service;
        let subject = Subject {
            project: request.project.name.clone(),
            service: service.to_owned(),
            rollout: Some(request.rollout.to_owned()),
            labels: request.labels.clone(),
            volumes: self.inherited(request).await?,
        };
        let view = self.view(subject, request.lock).await?;
        let scales = scales(
            request.project,
            service,
            request.replicas,
            &request.dependencies,
        );
        self.step(&view, (Step::Create, service, &scales), &mut on_line)
            .await?;
        self.made(request, |_| true).await?;
        self.step(&view, (Step::Start, service, &scales), &mut on_line)
            .await?;
        self.made(request, |state| state != "created").await
    }

    /// Replaces the containers of a service by new ones as Compose does by itself, and changes nothing else.
    pub async fn recreate(
        &self,
        project: &Project,
        service: &str,
        lock: &str,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let subject = Subject {
            project: project.name.clone(),
            service: service.to_owned(),
            ..Subject::default()
        };
        let view = self.view(subject, Some(lock)).await?;
        self.step(&view, (Step::Recreate, service, &[]), on_line)
            .await
    }

    async fn step(
        &self,
        view: &View,
        (step, service, scales): (Step, &str, &[String]),
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let doing = format!("could not {} {service}", step.verb());
        let arguments = step.arguments(service, scales);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.through(view, &arguments, &doing, on_line).await
    }

    /// The volumes that each new container takes over, by its number.
    async fn inherited(&self, request: &CreateRequest<'_>) -> Result<BTreeMap<u32, Vec<Volume>>> {
        let AnonymousVolumes::Inherit(earlier) = &request.anonymous_volumes else {
            return Ok(BTreeMap::new());
        };
        let service = request.project.service(request.service)?;
        let mut places = service.anonymous_volumes.clone();
        if let Some(reference) = &service.image {
            let image = self.inspect(&format!("/images/{reference}/json")).await?;
            let of_image = image["Config"]["Volumes"].as_object();
            places.extend(of_image.into_iter().flatten().map(|(path, _)| path.clone()));
        }
        let places = places.iter().map(|path| trimmed(path).to_owned()).collect();
        let mut all = Vec::new();
        for id in earlier {
            let container = self.inspect(&format!("/containers/{}/json", id.0)).await?;
            let number = container["Config"]["Labels"][COMPOSE_NUMBER].as_str();
            let number = number
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            all.push((number, volumes(&container, &places)));
        }
        Ok(by_number(all, request.replicas))
    }

    async fn inspect(&self, path: &str) -> Result<Value> {
        let failed = |why: String| Error::failed(format!("cannot read {path}: {why}"));
        let answered = self.engine.get(path).await;
        let (status, body) = answered.map_err(|error| failed(error.to_string()))?;
        match serde_json::from_slice(&body) {
            Ok(value) if status.is_success() => Ok(value),
            // Compose itself reports a missing image. A missing container has no volumes.
            Ok(_) if status == StatusCode::NOT_FOUND => Ok(Value::Null),
            _ => Err(failed(format!("the engine answered {status}"))),
        }
    }

    pub(super) async fn view(&self, subject: Subject, lock: Option<&str>) -> Result<View> {
        View::start(self.engine.clone(), subject, lock.map(str::to_owned))
            .await
            .map_err(|error| {
                Error::refused(format!("cannot make a socket for docker compose: {error}"))
                    .hint("set TMPDIR to a directory with a short path that you may write")
            })
    }

    /// Runs a command of Compose through a view.
    pub(super) async fn through(
        &self,
        view: &View,
        arguments: &[&str],
        doing: &str,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let done = self
            .act(Some(&view.docker_host()), arguments, doing, on_line)
            .await;
        match view.first_refusal() {
            // Compose shortens and wraps the text of a refusal, or drops it.
            Some(refusal) => Err(Error::failed(format!(
                "{doing}: docker compose wanted to {refusal}, which is not part of this rollout"
            ))
            .hint("bring the rest of the project up to date first: docker compose up -d")),
            None => done,
        }
    }

    /// Checks that the requested number of containers exists in a state that `fits`, whatever Compose's exit code.
    async fn made(&self, request: &CreateRequest<'_>, fits: impl Fn(&str) -> bool) -> Result<()> {
        let label = format!("{LABEL_ROLLOUT}={}", request.rollout);
        let containers = self
            .replicas(&request.project.name, request.service, &[label])
            .await?;
        let fitting = containers
            .iter()
            .filter(|container| fits(container["State"].as_str().unwrap_or_default()))
            .count();
        if fitting == request.replicas as usize {
            return Ok(());
        }
        Err(Error::failed(format!(
            "docker compose reported no error, but created {fitting} of {} containers of {}",
            request.replicas, request.service
        )))
    }

    /// The service's containers in any state with all of `labels`, without one-offs and hooks.
    pub(super) async fn replicas(
        &self,
        project: &str,
        service: &str,
        labels: &[String],
    ) -> Result<Vec<Value>> {
        let compose = [
            format!("{LABEL_PROJECT}={project}"),
            format!("{LABEL_SERVICE}={service}"),
        ];
        let labels: Vec<&String> = compose.iter().chain(labels).collect();
        let filters = serde_json::json!({ "label": labels }).to_string();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("all", "1")
            .append_pair("filters", &filters)
            .finish();
        let unreachable = |error: String| Error::failed(format!("cannot list containers: {error}"));
        let (status, body) = self
            .engine
            .get(&format!("/containers/json?{query}"))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let mut list: Vec<Value> = serde_json::from_slice(&body)
            .map_err(|_| unreachable(format!("the engine answered {status}")))?;
        list.retain(|container| !is_one_off(&container["Labels"]));
        Ok(list)
    }
}
