//! The compose view: Docker's API on a private socket, which hides a service's earlier containers from Compose.

pub mod rewrite;
mod serve;
pub mod volumes;

use std::{
    io,
    sync::{Arc, Mutex},
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

pub use rewrite::Subject;
use serve::Handler;

use crate::docker::{http::Upstream, private_socket::PrivateSocket};

/// A running view. A drop ends it and deletes its socket.
pub struct View {
    socket: PrivateSocket,
    refused: Arc<Mutex<Vec<String>>>,
}

impl View {
    /// Serves a view of the engine, which refuses to create and start after the container `lock` is removed. Fails where
    /// no private socket can be created.
    pub async fn start(
        engine: Upstream,
        subject: Subject,
        lock: Option<String>,
    ) -> io::Result<Self> {
        let refused = Arc::default();
        let handler = Handler {
            engine,
            subject: Arc::new(subject),
            lock: lock.map(Arc::from),
            refused: Arc::clone(&refused),
        };
        let failure = "the compose view could not accept a connection";
        let served = move |stream| connection(stream, handler.clone());
        let socket = PrivateSocket::serve(failure, served).await?;
        Ok(Self { socket, refused })
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        self.socket.docker_host()
    }

    /// The first refused action of Compose; it completes "to …".
    pub fn first_refusal(&self) -> Option<String> {
        self.refused.lock().ok()?.first().cloned()
    }
}

async fn connection(stream: UnixStream, handler: Handler) {
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, std::convert::Infallible>(handler.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of compose ended");
    }
}

#[cfg(test)]
mod tests;
