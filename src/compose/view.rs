//! The compose view: Docker's API on a private socket, on which Compose sees a service without its earlier containers.

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

use crate::{docker_http::Upstream, private_socket::PrivateSocket};

/// A view that is served; it ends, and its socket goes, when this is dropped.
pub struct View {
    socket: PrivateSocket,
    server: JoinHandle<()>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl View {
    /// Serves a view of the engine, which changes nothing once the container `lock` is gone; an error means that no
    /// private socket could be made.
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

    /// What to set `DOCKER_HOST` to.
    pub fn docker_host(&self) -> String {
        self.socket.docker_host()
    }

    /// What Compose was refused first, fit for "to …".
    pub fn first_refusal(&self) -> Option<String> {
        self.refused.lock().ok()?.first().cloned()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Connections live in a set, so that they end with the view.
async fn serve(listener: UnixListener, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, handler.clone())); }
                Err(error) => {
                    // Out of descriptors, at worst: others are closed meanwhile.
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
