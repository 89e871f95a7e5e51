//! Answers one request of Compose by the rules of the rewrite, with the engine behind it.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header};
use serde_json::Value;

use super::rewrite::{Route, Subject, route};
use crate::docker_http::{Body, BoxError, Upstream, empty, full, read_whole, refusal};

/// What all connections of one view share.
#[derive(Clone)]
pub struct Handler {
    pub engine: Upstream,
    pub subject: Arc<Subject>,
    /// What was refused, in order: Compose wraps and shortens what it is told.
    pub refused: Arc<Mutex<Vec<String>>>,
}

impl Handler {
    /// Answers one request; a failure to reach the engine is a 502.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.dispatch(request)
            .await
            .unwrap_or_else(|error| refusal(StatusCode::BAD_GATEWAY, &error.to_string()))
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        match route(request.method().as_str(), request.uri().path()) {
            Route::Pass => self.engine.forward(streamed(request)).await,
            Route::List => self.list(request).await,
            Route::Create => self.create(request).await,
            Route::Change { verb, container } => self.change(request, verb, &container).await,
            Route::Disconnect => self.disconnect(request).await,
            Route::Never(what) => Ok(self.refuse(&what)),
        }
    }

    async fn list(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (mut head, body) = self.engine.send(streamed(request)).await?.into_parts();
        let body = read_whole(body).await?;
        let body = match head.status {
            StatusCode::OK => self
                .subject
                .visible(&body)
                .ok_or("the engine's list of containers is no list")?
                .into(),
            _ => body,
        };
        forget_length(&mut head.headers);
        Ok(Response::from_parts(head, full(body)))
    }

    async fn create(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (mut head, body) = request.into_parts();
        let body = read_whole(body).await?;
        let query = head.uri.query().unwrap_or_default();
        match self.subject.creation(query, &body) {
            Ok((query, body)) => {
                head.uri = format!("{}?{query}", head.uri.path()).parse::<Uri>()?;
                forget_length(&mut head.headers);
                self.engine
                    .forward(Request::from_parts(head, full(body)))
                    .await
            }
            Err(what) => Ok(self.refuse(&what)),
        }
    }

    async fn change(
        &self,
        request: Request<Incoming>,
        verb: &str,
        container: &str,
    ) -> Result<Response<Body>, BoxError> {
        match self.stranger(container).await? {
            None => self.engine.forward(streamed(request)).await,
            Some(name) => Ok(self.refuse(&format!("{verb} container {name}"))),
        }
    }

    async fn disconnect(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = read_whole(body).await?;
        let parsed: Value = serde_json::from_slice(&body)?;
        let container = parsed["Container"].as_str().unwrap_or_default();
        match self.stranger(container).await? {
            None => {
                self.engine
                    .forward(Request::from_parts(head, full(body)))
                    .await
            }
            Some(name) => Ok(self.refuse(&format!("disconnect container {name} from a network"))),
        }
    }

    /// The name of a container that this view may not change; `None` where it may, or where there is none.
    async fn stranger(&self, container: &str) -> Result<Option<String>, BoxError> {
        let path = format!("/containers/{container}/json");
        let request = Request::get(path).body(empty())?;
        let response = self.engine.send(request).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let inspected: Value = serde_json::from_slice(&read_whole(response.into_body()).await?)?;
        let name = inspected["Name"].as_str().unwrap_or(container);
        let owned = self.subject.owns(&inspected["Config"]["Labels"]);
        Ok((!owned).then(|| name.trim_start_matches('/').to_owned()))
    }

    fn refuse(&self, what: &str) -> Response<Body> {
        tracing::warn!("refused to let compose {what}");
        if let Ok(mut refused) = self.refused.lock() {
            refused.push(what.to_owned());
        }
        refusal(
            StatusCode::FORBIDDEN,
            &format!("rollout does not let compose {what}"),
        )
    }
}

/// The same request, its body passed on as it comes.
fn streamed(request: Request<Incoming>) -> Request<Body> {
    request.map(|body| body.map_err(Into::into).boxed())
}

/// The body has another length now; hyper writes the new one.
fn forget_length(headers: &mut header::HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
}
