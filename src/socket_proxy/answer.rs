//! Answers one request: asks the engine, and applies the overlay of the reader's generation.

mod swarm;

use std::{net::IpAddr, sync::Arc};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    daemon::Daemon,
    engine::{Ask, Unanswered, encode},
    only,
    rebuild::{
        Inspect, Listed, Network, Version,
        swarm::{Info, Node},
    },
    request::{self, ApiVersion, Query, Refusal, Route},
    snapshot::{ConnectionId, List, Reader},
    stream,
};
use crate::{
    docker::http::{Body, empty, full, refusal},
    overlay::Overlay,
};

const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const MAX_USER_AGENT: usize = 128;

/// One connection of a reader.
pub struct Peer {
    /// Unique in this process.
    pub connection: ConnectionId,
    /// Without a port.
    pub address: IpAddr,
}

impl Peer {
    /// The reader behind one of its requests.
    fn reader(&self, request: &Request<Incoming>) -> Reader {
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        let agent = agent.unwrap_or_default();
        Reader {
            address: self.address,
            user_agent: agent.chars().take(MAX_USER_AGENT).collect(),
        }
    }
}

pub async fn answer(
    daemon: &Arc<Daemon>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    match request::parse(method, uri, headers, daemon.swarm) {
        Ok(call) => {
            let reader = peer.reader(&request);
            let head = request.method() == Method::HEAD;
            let asked = Asked {
                daemon,
                peer,
                reader,
                head,
                version: call.version,
            };
            asked.route(call.route).await.unwrap_or_else(unanswered)
        }
        Err(refused) => {
            daemon.refuse(peer.address, &request.uri().to_string());
            forbid(&refused)
        }
    }
}

fn forbid(refused: &Refusal) -> Response<Body> {
    let mut response = refusal(refused.status, &refused.message);
    if refused.close {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn unanswered(error: Unanswered) -> Response<Body> {
    let status = match &error {
        Unanswered::Missing(_) => StatusCode::NOT_FOUND,
        Unanswered::Refused(status) => *status,
        Unanswered::Unreachable(_) | Unanswered::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    if status.is_server_error() {
        tracing::warn!(%error, "no answer for a reader");
    }
    refusal(status, &error.to_string())
}

struct Asked<'a> {
    daemon: &'a Arc<Daemon>,
    peer: &'a Peer,
    reader: Reader,
    head: bool,
    version: Option<ApiVersion>,
}

impl Asked<'_> {
    async fn route(self, route: Route) -> Result<Response<Body>, Unanswered> {
        match route {
            Route::Ping => self.ping().await,
            Route::Version => self.rebuilt::<Version>("/version", "version").await,
            Route::Events(query) => self.events(query).await,
            Route::List(query) => self.list(query).await,
            Route::Inspect(id) => self.inspect(&id).await,
            Route::Networks(query) => {
                let path = format!("/networks{}", query.encode());
                self.rebuilt::<Vec<Network>>(&path, "network").await
            }
            Route::Network(id) => {
                let path = format!("/networks/{id}");
                self.rebuilt::<Network>(&path, "network").await
            }
            Route::Info => self.rebuilt::<Info>("/info", "engine").await,
            Route::Services(query) => self.services(&query).await,
            Route::Service(id) => self.service(&id).await,
            Route::Tasks(query) => self.tasks(&query).await,
            Route::Nodes => self.rebuilt::<Vec<Node>>("/nodes", "node").await,
            Route::Node(id) => {
                let _turn = self.daemon.rounds.inspect();
                let path = format!("/nodes/{id}");
                self.rebuilt::<Node>(&path, "node").await
            }
        }
    }

    // What is the same for all readers in every generation.
    async fn rebuilt<T>(&self, path: &str, kind: &'static str) -> Result<Response<Body>, Unanswered>
    where
        T: DeserializeOwned + Serialize,
    {
        let rebuilt: T = self.get(path, kind).await?;
        Ok(json(&rebuilt))
    }

    async fn get<T>(&self, path: &str, kind: &'static str) -> Result<T, Unanswered>
    where
        T: DeserializeOwned,
    {
        let version = self.version;
        let ask = Ask {
            version,
            path,
            kind,
        };
        self.daemon.engine.get(ask).await
    }

    // Clients negotiate the version by this header only, and send HEAD first.
    async fn ping(&self) -> Result<Response<Body>, Unanswered> {
        self.daemon.engine.ping().await?;
        let version = self.daemon.engine.versions().await?.api_version;
        let mut response = Response::new(full("OK"));
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        if let Ok(version) = HeaderValue::from_str(&version) {
            headers.insert(API_VERSION, version);
        }
        Ok(response)
    }

    async fn list(&self, mut query: Query) -> Result<Response<Body>, Unanswered> {
        let _turn = self.daemon.rounds.list().ok_or(Unanswered::Ending)?;
        let only = &self.daemon.only;
        if let Some(label) = only::filter(only) {
            let labels = query.filters.entry("label".to_owned());
            labels.or_default().insert(label);
        }
        let path = format!("/containers/json{}", query.encode());
        let (listed, overlay) = self.list_of_one_generation(&path).await?;
        let listed = listed
            .into_iter()
            .filter(|one| only::admits(only, &one.labels));
        let shown = listed.filter_map(|one| one.for_reader(&overlay));
        let shown: Vec<Listed> = shown.collect();
        if !self.head {
            let joined = shown.iter().filter_map(Listed::joined).collect();
            let list = List { overlay, joined };
            let mut snapshots = self.daemon.snapshots.lock().unwrap();
            snapshots.listed(self.peer.connection, &self.reader, list);
        }
        Ok(json(&shown))
    }

    // The engine may make a list before or after a change of the generation that happens meanwhile. The list could contain
    // a new container that the old generation shows, or lack one that the new generation relies on. So it is made again,
    // and the next generation waits for it.
    async fn list_of_one_generation(
        &self,
        path: &str,
    ) -> Result<(Vec<Listed>, Arc<Overlay>), Unanswered> {
        const TRIES: u32 = 5;
        let store = &self.daemon.store;
        for tried in 0..TRIES {
            let _held = match tried {
                0 => None,
                _ => Some(store.hold().await),
            };
            let before = store.current().generation;
            let listed = self.get(path, "container").await?;
            let overlay = store.current();
            if overlay.generation == before {
                return Ok((listed, overlay));
            }
        }
        let why = "the overlay changes faster than the engine lists".to_owned();
        Err(Unanswered::Unreachable(why))
    }

    async fn inspect(&self, id: &str) -> Result<Response<Body>, Unanswered> {
        let _turn = self.daemon.rounds.inspect();
        let path = format!("/containers/{id}/json");
        let inspect: Inspect = self.get(&path, "container").await?;
        let snapshots = self.daemon.snapshots.lock().unwrap();
        let seen = snapshots.seen(self.peer.connection, &self.reader);
        drop(snapshots);
        let (overlay, joined) = match &seen {
            Some(list) => (list.overlay.clone(), list.joined.contains(&inspect.id)),
            None => (self.daemon.store.current(), false),
        };
        let labels = &inspect.config.labels;
        let listed = only::admits(&self.daemon.only, labels) && !overlay.omits(&inspect.id, labels);
        let shown = inspect.for_reader(&overlay);
        let shown = shown.filter(|_| listed || joined);
        Ok(json(&shown.ok_or(Unanswered::Missing("container"))?))
    }

    async fn events(self, query: Query) -> Result<Response<Body>, Unanswered> {
        let Some(permit) = self.daemon.streams.take(self.reader.address) else {
            self.daemon
                .refuse(self.reader.address, "(too many event streams)");
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Ok(refusal(status, "too many event streams are open"));
        };
        let body = match self.head {
            true => empty(),
            false => {
                let daemon = self.daemon.clone();
                stream::open(daemon, self.reader, permit, query, self.version).await?
            }
        };
        Ok(json_body(body))
    }
}

fn json(value: &impl Serialize) -> Response<Body> {
    json_body(full(encode(value)))
}

fn json_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
