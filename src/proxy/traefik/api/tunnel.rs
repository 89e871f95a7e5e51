//! A socket of our own that leads to a port in Traefik's container, by its `nc`: for an API that nothing else leads to.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    docker::engine::Engine,
    error::{Error, Result},
};

#[derive(Clone)]
struct End {
    engine: Engine,
    container: String,
    address: String,
    port: u16,
}

/// It is there until it is dropped; each connection is one `docker exec`.
pub struct Tunnel {
    path: PathBuf,
    /// Only this user may enter it.
    _directory: TempDir,
    complaint: Arc<Mutex<Option<String>>>,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    /// Opens it; whether the other end is there the first connection will tell.
    pub fn open(engine: &Engine, container: &str, address: &str, port: u16) -> Result<Self> {
        let failed = |error| Error::failed(format!("cannot open a socket of our own: {error}"));
        let directory = tempfile::Builder::new()
            .prefix("rollout-")
            .tempdir()
            .map_err(failed)?;
        let path = directory.path().join("traefik.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let complaint = Arc::new(Mutex::new(None));
        let end = End {
            engine: engine.clone(),
            container: container.to_owned(),
            address: address.to_owned(),
            port,
        };
        let accepting = tokio::spawn(accept(listener, end, complaint.clone()));
        Ok(Self {
            path,
            _directory: directory,
            complaint,
            accepting,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the last connection came to nothing, where the other end has said.
    pub fn complaint(&self) -> Option<String> {
        let complaint = self.complaint.lock();
        complaint.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, end: End, complaint: Arc<Mutex<Option<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (end, complaint) = (end.clone(), complaint.clone());
        tokio::spawn(async move {
            let said = end.carry(stream).await;
            *complaint.lock().unwrap_or_else(PoisonError::into_inner) = said;
        });
    }
}

impl End {
    /// Carries one connection to its end; what went wrong, in one line.
    async fn carry(&self, mut stream: UnixStream) -> Option<String> {
        let port = self.port.to_string();
        let command = ["nc", self.address.as_str(), port.as_str()].map(str::to_owned);
        let mut pipe = match self
            .engine
            .exec_pipe(&self.container, command.to_vec())
            .await
        {
            Ok(pipe) => pipe,
            Err(error) => return Some(error.message),
        };
        // A connection that breaks shows at its user's end.
        let _ = copy_bidirectional(&mut stream, &mut pipe).await;
        let said = pipe.errors();
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.next().map(str::to_owned)
    }
}
