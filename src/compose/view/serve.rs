//! Answers Compose's requests by the view's rules, and forwards them to the engine.

use std::{
    iter::successors,
    sync::{self, Arc},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::timeout};

use super::rewrite::{Route, Subject, route};
use crate::docker::http::{self, Body, BoxError, Upstream, full, read_whole, refusal};

const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// To copy a volume's content or to stop a container can take minutes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// Requests whose answer waits for an event, or streams.
const UNLIMITED: [&str; 6] = [
    "/events",
    "/wait",
    "/attach",
    "/logs",
    "/build",
    "/images/create",
];

/// Held while a network is created, by any view of this process.
static NETWORKS: Mutex<()> = Mutex::const_new(());

fn time_limit(method: &Method, path: &str) -> Option<Duration> {
    let unlimited = UNLIMITED.iter().any(|end| path.ends_with(end));
    let limit = if method == Method::GET || method == Method::HEAD {
        READ_TIMEOUT
    } else {
        CHANGE_TIMEOUT
    };
    (!unlimited).then_some(limit)
}

/// Shared by all connections of one view.
#[derive(Clone)]
pub struct Handler {
    pub engine: Upstream,
    pub subject: Arc<Subject>,
    /// The id of the container that is the rollout's lock.
    pub lock: Option<Arc<str>>,
    /// The refusals in order, because Compose shortens the texts.
    pub refused: Arc<sync::Mutex<Vec<String>>>,
}

impl Handler {
    /// Answers 502 where the engine cannot be reached, and 504 where it does not answer in time.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let dispatched = self.dispatch(request);
        let answered = match time_limit(&method, &path) {
            None => dispatched.await,
            Some(limit) => match timeout(limit, dispatched).await {
                Ok(answered) => answered,
                Err(_) => {
                    let limit = humantime::format_duration(limit);
                    let why = format!("the engine has not answered {method} {path} within {limit}");
                    return refusal(StatusCode::GATEWAY_TIMEOUT, &why);
                }
            },
        };
        answered.unwrap_or_else(|error| {
            let causes = successors(Some(&*error as &dyn std::error::Error), |cause| {
                cause.source()
            });
            let why = causes.last().map_or_else(String::new, ToString::to_string);
            let why = format!("the engine does not answer: {why}");
            refusal(StatusCode::BAD_GATEWAY, &why)
        })
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        match route(request.method().as_str(), request.uri().path()) {
            Route::Pass => self.engine.forward(streamed(request)).await,
            Route::List => self.list(request).await,
            Route::Create => self.create(request).await,
            Route::Start => self.start(request).await,
            Route::Change { verb, container } => self.change(request, verb, &container).await,
            Route::CreateNetwork => self.create_network(request).await,
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
        if self.lock_was_removed().await? {
            return Ok(self.refuse("create a container after another run has taken over"));
        }
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

    async fn start(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        match self.lock_was_removed().await? {
            false => self.engine.forward(streamed(request)).await,
            true => Ok(self.refuse("start a container after another run has taken over")),
        }
    }

    async fn change(
        &self,
        request: Request<Incoming>,
        verb: &str,
        container: &str,
    ) -> Result<Response<Body>, BoxError> {
        match self.protected(container).await? {
            None => self.engine.forward(streamed(request)).await,
            Some(name) => Ok(self.refuse(&format!("{verb} container {name}"))),
        }
    }

    /// Two Compose commands that run side by side can both find that a network is missing, and the engine would create two
    /// of the same name. The second one gets the network of the first.
    async fn create_network(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = read_whole(body).await?;
        let wanted: Value = serde_json::from_slice(&body)?;
        let name = wanted["Name"].as_str().unwrap_or_default();
        let _turn = NETWORKS.lock().await;
        let (status, found) = self.engine.get(&format!("/networks/{name}")).await?;
        let found: Value = serde_json::from_slice(&found).unwrap_or_default();
        if status == StatusCode::OK && found["Name"] == *name {
            let answer = json!({"Id": found["Id"], "Warning": ""});
            return Ok(http::json(StatusCode::CREATED, &answer));
        }
        self.engine
            .forward(Request::from_parts(head, full(body)))
            .await
    }

    async fn disconnect(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = read_whole(body).await?;
        let parsed: Value = serde_json::from_slice(&body)?;
        let container = parsed["Container"].as_str().unwrap_or_default();
        match self.protected(container).await? {
            None => {
                self.engine
                    .forward(Request::from_parts(head, full(body)))
                    .await
            }
            Some(name) => Ok(self.refuse(&format!("disconnect container {name} from a network"))),
        }
    }

    /// True if the rollout's lock was removed. Another run then took over, because this one was suspended too long.
    async fn lock_was_removed(&self) -> Result<bool, BoxError> {
        match &self.lock {
            None => Ok(false),
            Some(lock) => Ok(self.inspect(lock).await?.is_none()),
        }
    }

    async fn inspect(&self, container: &str) -> Result<Option<Value>, BoxError> {
        let path = format!("/containers/{container}/json");
        match self.engine.get(&path).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (_, body) => Ok(Some(serde_json::from_slice(&body)?)),
        }
    }

    /// The name of a container that this view must not change; `None` where it may change it or it does not exist.
    async fn protected(&self, container: &str) -> Result<Option<String>, BoxError> {
        let Some(inspected) = self.inspect(container).await? else {
            return Ok(None);
        };
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

/// The same request with a streamed body.
fn streamed(request: Request<Incoming>) -> Request<Body> {
    request.map(|body| body.map_err(Into::into).boxed())
}

/// The body has a new length, which hyper sets.
fn forget_length(headers: &mut header::HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waits_and_streams_have_no_time_limit() {
        let of = |method, path| time_limit(&method, path);
        assert_eq!(
            of(Method::GET, "/v1.41/containers/json"),
            Some(READ_TIMEOUT)
        );
        assert_eq!(
            of(Method::POST, "/containers/a/start"),
            Some(CHANGE_TIMEOUT)
        );
        assert_eq!(of(Method::POST, "/containers/a/wait"), None);
        assert_eq!(of(Method::GET, "/events"), None);
    }
}
