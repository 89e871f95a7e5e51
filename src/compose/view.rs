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
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

pub use rewrite::Subject;
use serve::Handler;

use crate::docker::{http::Upstream, private_socket::PrivateSocket};

/// A running view. A drop ends it and deletes its socket.
pub struct View {
    socket: PrivateSocket,
    server: JoinHandle<()>,
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
        let (socket, listener) = PrivateSocket::listen().await?;
        let refused = Arc::default();
        let handler = Handler {
            engine,
            subject: Arc::new(subject),
            lock: lock.map(Arc::from),
            refused: Arc::clone(&refused),
        };
        Ok(Self {
            socket,
            server: tokio::spawn(serve(listener, handler)),
            refused,
        })
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

impl Drop for View {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The set ends its connections when this future is dropped.
async fn serve(listener: UnixListener, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, handler.clone())); }
                Err(error) => {
                    // Out of file descriptors, for example; the delay lets other connections close.
                    tracing::warn!(%error, "the compose view could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
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
