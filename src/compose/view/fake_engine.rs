//! An engine for tests: one old and one new replica, and a record of what was asked of it.

use std::sync::{Arc, Mutex};

use hyper::{Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::UnixListener};

use super::rewrite::{LABEL_PROJECT, LABEL_ROLLOUT, LABEL_SERVICE};
use crate::{
    docker_http::{Body, Endpoint, full, json, read_whole, refusal},
    model::label::COMPOSE_NUMBER,
};

/// What the engine was asked: method, path and query, body.
pub type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

pub struct FakeEngine {
    directory: TempDir,
    pub asked: Asked,
}

impl FakeEngine {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let asked = Asked::default();
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                let service = service_fn(move |request| answer(request, Arc::clone(&record)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        Self { directory, asked }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.directory.path().join("engine.sock"))
    }

    /// The requests that would have changed something.
    pub fn changes(&self) -> Vec<(String, String, Value)> {
        let asked = self.asked.lock().unwrap();
        let changes = asked.iter().filter(|(method, ..)| method != "GET");
        changes.cloned().collect()
    }
}

async fn answer(
    mut request: Request<Incoming>,
    record: Asked,
) -> Result<Response<Body>, hyper::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        return Ok(echo(&mut request));
    }
    let (head, body) = request.into_parts();
    let body = read_whole(body).await.unwrap();
    let asked = (
        head.method.to_string(),
        head.uri.to_string(),
        serde_json::from_slice(&body).unwrap_or_default(),
    );
    record.lock().unwrap().push(asked);
    let path = head.uri.path().trim_start_matches("/v1.41");
    Ok(match (head.method.as_str(), path) {
        ("GET", "/containers/json") => {
            let summary = |id, rollout| json!({"Id": id, "Labels": labels(rollout)});
            json(
                StatusCode::OK,
                &json!([summary("old", None), summary("new", Some("r2"))]),
            )
        }
        ("GET", "/containers/old/json") => inspected("shop-web-1", None),
        ("GET", "/containers/new/json") => inspected("shop-web-1.r2", Some("r2")),
        ("GET", _) => refusal(StatusCode::NOT_FOUND, "No such container"),
        _ => json(StatusCode::CREATED, &json!({"Id": "made"})),
    })
}

fn labels(rollout: Option<&str>) -> Value {
    let mut labels = json!({LABEL_PROJECT: "shop", LABEL_SERVICE: "web", COMPOSE_NUMBER: "1"});
    if let Some(rollout) = rollout {
        labels[LABEL_ROLLOUT] = rollout.into();
    }
    labels
}

fn inspected(name: &str, rollout: Option<&str>) -> Response<Body> {
    let value = json!({"Name": format!("/{name}"), "Config": {"Labels": labels(rollout)}});
    json(StatusCode::OK, &value)
}

/// Switches protocols, says what arrives back, and ends with the client.
fn echo(request: &mut Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
