//! The compose view: Docker's API on a private socket, on which Compose sees a service without its earlier containers.

pub mod rewrite;
mod serve;

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

pub use rewrite::{Mode, Subject};
use serve::Handler;

use crate::docker_http::Upstream;

/// The length of `sun_path` in Linux's `sockaddr_un` is 108 with its end; other systems have 104.
const MAX_SOCKET_PATH: usize = 103;
const SOCKET: &str = "docker.sock";
const PREFIX: &str = "rollout-view-";

/// A view that is served; it ends, and its socket goes, when this is dropped.
pub struct View {
    directory: TempDir,
    server: JoinHandle<()>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl View {
    /// Serves a view of the engine; an error means that no private socket could be made.
    pub async fn start(engine: Upstream, subject: Subject) -> io::Result<Self> {
        let directory = private_directory().await?;
        let socket = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let refused = Arc::default();
        let handler = Handler {
            engine,
            subject: Arc::new(subject),
            refused: Arc::clone(&refused),
        };
        Ok(Self {
            directory,
            server: tokio::spawn(serve(listener, handler)),
            refused,
        })
    }

    /// What to set `DOCKER_HOST` to.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.directory.path().join(SOCKET).display())
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

/// A 0700 directory in which a socket's path is short enough; what a killed run left behind is swept.
async fn private_directory() -> io::Result<TempDir> {
    let mut tried = None;
    for parent in [std::env::temp_dir(), PathBuf::from("/tmp")] {
        sweep(&parent).await;
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent);
        match made {
            Ok(directory) if fits(directory.path()) => return Ok(directory),
            Ok(directory) => {
                let path = directory.path().display();
                tried = Some(io::Error::other(format!("{path} is too long for a socket")));
            }
            Err(error) => tried = Some(error),
        }
    }
    Err(tried.unwrap_or_else(|| io::Error::other("no temporary directory")))
}

fn fits(directory: &Path) -> bool {
    directory.join(SOCKET).as_os_str().len() <= MAX_SOCKET_PATH
}

/// Removes directories whose socket nobody serves any more.
async fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let refused = UnixStream::connect(entry.path().join(SOCKET)).await;
        if refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod fake_engine;
#[cfg(test)]
mod tests;
