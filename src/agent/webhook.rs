//! The HTTP server of the agent: `/healthz`, `/metrics`, and the webhook `POST /v1/rollout`.

use std::{collections::BTreeSet, convert::Infallible, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::Shared;
use crate::{
    docker::http::{Body, BoxError, full, json, refusal},
    error::{Error, Result},
    socket_proxy::{
        limits::Quota,
        server::{accept, limited},
    },
};

const WEBHOOK: &str = "/v1/rollout";
/// Connections at a time, of all peers and of one.
const CONNECTIONS: usize = 64;
const OF_ONE: usize = 16;
/// The largest body of a call, in bytes, and the longest time until it is there.
const MAX_BODY: usize = 16 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(5);
/// A shorter token could be guessed.
const SHORTEST_TOKEN: usize = 32;

/// The digest of the token: how long a comparison of digests takes says nothing about the token.
pub struct Token([u8; 32]);

impl Token {
    /// Reads the first line of a file.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::refused(format!("cannot read the token file {place}: {error}"))
                .hint(format!("make one: openssl rand -hex 32 >{place}"))
        })?;
        let token = text.lines().next().unwrap_or_default().trim();
        match token.len() {
            SHORTEST_TOKEN.. => Ok(Self(Sha256::digest(token).into())),
            length => Err(Error::refused(format!(
                "the token in {place} has {length} characters, and needs {SHORTEST_TOKEN}"
            ))
            .hint(format!("make another one: openssl rand -hex 32 >{place}"))),
        }
    }

    fn is(&self, header: &[u8]) -> bool {
        let token = header.strip_prefix(b"Bearer ");
        token.is_some_and(|token| self.0 == <[u8; 32]>::from(Sha256::digest(token)))
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let quota = Quota::new(OF_ONE, CONNECTIONS);
    let refused = |peer| tracing::debug!(%peer, "too many connections");
    accept(listener, &quota, refused, |stream, _| {
        connection(stream, Arc::clone(&shared))
    })
    .await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let shared = &shared;
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(shared, request).await) });
    let served = limited().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer<B>(shared: &Shared, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => match shared.trouble() {
            None => text("well\n"),
            Some(why) => refusal(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        (&Method::GET, "/metrics") => text(shared.state().metrics.text()),
        (&Method::POST, WEBHOOK) => {
            let answer = match call(shared, request).await {
                Ok(services) => json(StatusCode::ACCEPTED, &json!({ "services": services })),
                Err((status, why)) => refusal(status, &why),
            };
            shared.state().metrics.called(answer.status().as_u16());
            answer
        }
        (_, "/healthz" | "/metrics" | WEBHOOK) => {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "another method is needed")
        }
        _ => refusal(
            StatusCode::NOT_FOUND,
            "known are /healthz, /metrics and /v1/rollout",
        ),
    }
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The body of a call; without services it is for all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    services: Option<BTreeSet<String>>,
}

/// Has the loop check these services, which are returned. Calls before that check are one.
async fn call<B>(
    shared: &Shared,
    request: Request<B>,
) -> Result<BTreeSet<String>, (StatusCode, String)>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let Some(token) = &shared.token else {
        let why = "the webhook is off: the agent has no --token-file";
        return Err((StatusCode::NOT_FOUND, why.to_owned()));
    };
    let given = request.headers().get(header::AUTHORIZATION);
    if !given.is_some_and(|given| token.is(given.as_bytes())) {
        let why = "the header Authorization: Bearer TOKEN is missing or wrong";
        return Err((StatusCode::UNAUTHORIZED, why.to_owned()));
    }
    if !shared.state().calls.admit() {
        let why = "too many calls; those before are served";
        return Err((StatusCode::TOO_MANY_REQUESTS, why.to_owned()));
    }
    let call = read(request.into_body()).await;
    let call = call.map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let mut state = shared.state();
    let services = call.services.unwrap_or_else(|| state.autos.clone());
    if let Some(other) = services.difference(&state.autos).next() {
        let why = format!("{other:?} is no service with x-rollout: {{ auto: true }}");
        return Err((StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    state.asked.extend(services.iter().cloned());
    shared.called.notify_one();
    Ok(services)
}

async fn read<B>(body: B) -> Result<Call, String>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let whole = timeout(MAX_WAIT, Limited::new(body, MAX_BODY).collect());
    let whole = whole
        .await
        .map_err(|_| "the body does not arrive".to_owned())?;
    let whole = whole.map_err(|error| error.to_string())?.to_bytes();
    match whole.trim_ascii() {
        [] => Ok(Call::default()),
        text => serde_json::from_slice(text)
            .map_err(|error| format!("write {{\"services\": [\"web\"]}}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::sleep,
    };

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn token(text: &str) -> Result<Token> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Token::read(file.path())
    }

    fn shared(has_token: bool) -> Shared {
        let token = has_token.then(|| token(&format!("{TOKEN}\n")).unwrap());
        let autos = ["api", "web"].map(str::to_owned).into();
        Shared::new(token, Duration::from_secs(300), autos)
    }

    async fn call_with(shared: &Shared, authorization: &str, body: &str) -> u16 {
        let request = Request::post(WEBHOOK).header("authorization", authorization);
        let request = request.body(full(body.to_owned())).unwrap();
        answer(shared, request).await.status().as_u16()
    }

    #[test]
    fn a_token_that_is_short_or_missing_is_refused_without_being_shown() {
        let error = token("secret\n").err().unwrap();
        assert!(
            error.message.ends_with("has 6 characters, and needs 32"),
            "{error}"
        );
        assert!(!error.message.contains("secret"));
        let error = Token::read(Path::new("/nowhere/token")).err().unwrap();
        assert!(
            error
                .message
                .contains("cannot read the token file /nowhere/token")
        );
    }

    #[tokio::test]
    async fn only_the_right_token_is_let_in() {
        let shared = shared(true);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            TOKEN,
            "Bearer 0123",
            &format!("Basic {TOKEN}"),
        ] {
            assert_eq!(call_with(&shared, wrong, "").await, 401, "{wrong:?}");
        }
        assert_eq!(
            call_with(&shared, &format!("Bearer {TOKEN}x"), "").await,
            401
        );
        assert!(shared.take_asked().is_empty());
        assert_eq!(
            call_with(&shared, &format!("Bearer {TOKEN}"), "").await,
            202
        );
        assert_eq!(shared.take_asked().len(), 2);
        let off = super::tests::shared(false);
        assert_eq!(call_with(&off, &format!("Bearer {TOKEN}"), "").await, 404);
    }

    #[tokio::test]
    async fn a_call_names_services_that_the_agent_rolls() {
        let right = format!("Bearer {TOKEN}");
        for (body, status, asked) in [
            (r#"{"services": ["web"]}"#, 202, vec!["web"]),
            (r#"{}"#, 202, vec!["api", "web"]),
            (r#"{"services": ["web", "db"]}"#, 422, vec![]),
            (r#"{"service": "web"}"#, 400, vec![]),
            ("web", 400, vec![]),
            (&" ".repeat(MAX_BODY + 1), 400, vec![]),
        ] {
            let shared = shared(true);
            let answered = call_with(&shared, &right, body).await;
            assert_eq!(answered, status, "{}", body.trim());
            let found: Vec<String> = shared.take_asked().into_iter().collect();
            assert_eq!(found, asked, "{}", body.trim());
        }
    }

    #[tokio::test]
    async fn many_calls_wake_the_loop_once() {
        let shared = shared(true);
        let mut counts = std::collections::BTreeMap::<u16, u32>::new();
        for _ in 0..1_000 {
            let status = call_with(&shared, &format!("Bearer {TOKEN}"), "").await;
            *counts.entry(status).or_default() += 1;
        }
        assert_eq!(counts, [(202, 20), (429, 980)].into());
        shared.called.notified().await;
        assert_eq!(shared.take_asked().len(), 2);
        let again = timeout(Duration::from_millis(1), shared.called.notified());
        assert!(again.await.is_err());
        let metrics = shared.state().metrics.text();
        assert!(
            metrics.contains("calls_total{status=\"429\"} 980"),
            "{metrics}"
        );
    }

    /// What a listener answers to these bytes, until it closes the connection.
    async fn exchange(shared: Shared, bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(shared)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_listener_serves_health_and_metrics_and_nothing_else() {
        for (line, status) in [
            ("GET /healthz", "200 OK"),
            ("GET /metrics", "200 OK"),
            ("POST /metrics", "405 Method Not Allowed"),
            ("GET /v1/rollout", "405 Method Not Allowed"),
            ("GET /", "404 Not Found"),
            ("GET /v1/../metrics", "404 Not Found"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = exchange(shared(true), request.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{line}: {answer}"
            );
            assert!(!answer.contains(TOKEN));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let shared = shared(true);
        let endless = futures_util::stream::once(async {
            sleep(Duration::from_secs(3600)).await;
            Ok::<_, BoxError>(hyper::body::Frame::data(Bytes::from_static(b"{}")))
        });
        let request = Request::post(WEBHOOK).header("authorization", format!("Bearer {TOKEN}"));
        let request = request.body(http_body_util::StreamBody::new(Box::pin(endless)));
        let answered = answer(&shared, request.unwrap()).await;
        assert_eq!(answered.status(), 400);
    }
}
