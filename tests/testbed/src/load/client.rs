//! One keep-alive HTTP/1.1 connection that records each request it makes, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::report::{Answer, Kind, Record};

pub struct Client {
    shared: Arc<Shared>,
    kind: Kind,
    patience: Duration,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    pub fn new(shared: Arc<Shared>, kind: Kind, patience: Duration) -> Self {
        Self {
            shared,
            kind,
            patience,
            connection: None,
        }
    }

    pub async fn get(&mut self, path: &str) {
        let mut record = Record {
            kind: self.kind,
            sent: self.shared.now(),
            answered: self.shared.now(),
            ended: self.shared.now(),
            outcome: Err(String::new()),
        };
        record.outcome = match timeout(self.patience, self.exchange(path, &mut record)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer to {path} within {:?}", self.patience)),
        };
        record.ended = self.shared.now();
        if record.outcome.is_err() {
            self.connection = None;
        }
        self.shared.record(record);
    }

    async fn exchange(&mut self, path: &str, record: &mut Record) -> Result<Answer, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // A server that closes an idle connection counts as a failure too: no browser user would call it none.
        connection
            .ready()
            .await
            .map_err(|error| format!("idle connection: {}", chain(&error)))?;
        let request = Request::get(path)
            .header("host", &self.shared.options.host)
            .body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        record.sent = self.shared.now();
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| chain(&error))?;
        record.answered = self.shared.now();
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| format!("answer cut short: {}", chain(&error)))?
            .to_bytes();
        if head
            .headers
            .get("connection")
            .is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"close"))
        {
            self.connection = Some(connection);
        }
        let named = head
            .headers
            .get("x-version")
            .and_then(|value| value.to_str().ok());
        let version = named.map(String::from).or_else(|| version_in(&body));
        Ok(Answer {
            status: head.status.as_u16(),
            version,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = TcpStream::connect(self.shared.options.addr)
            .await
            .map_err(|error| format!("connect: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| chain(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The `version=…` of an answer that has no header for it.
fn version_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("version=")?;
    rest.split_whitespace().next().map(String::from)
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", chain(source)),
    )
}
