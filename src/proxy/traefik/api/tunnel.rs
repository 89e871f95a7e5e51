//! A socket of our own that leads to a port in Traefik's network namespace, by a helper there: for an API that this machine
//! does not reach.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    docker::engine::{Engine, PROGRAM, Session},
    error::{Error, Result},
    model::ContainerId,
    proxy::{helper_image, socket_proxies::SocketProxy},
};

/// A helper in the network namespace of a Traefik. It ends when this is dropped, or with this process.
pub struct Helper {
    engine: Engine,
    socket_proxies: Vec<SocketProxy>,
    traefik: ContainerId,
    running: tokio::sync::Mutex<Option<Session>>,
}

impl Helper {
    /// It runs once it is needed.
    pub fn new(engine: &Engine, socket_proxies: &[SocketProxy], traefik: &str) -> Self {
        Self {
            engine: engine.clone(),
            socket_proxies: socket_proxies.to_vec(),
            traefik: ContainerId(traefik.to_owned()),
            running: Default::default(),
        }
    }

    /// Starts it unless it runs; returns its container.
    pub async fn start(&self) -> Result<String> {
        let mut running = self.running.lock().await;
        if let Some(own) = &*running {
            return Ok(own.container.clone());
        }
        let started = async {
            let image = match helper_image::found(&self.engine, &self.socket_proxies).await? {
                Some(image) => image,
                None => helper_image::load(&self.engine).await?,
            };
            let command = ["namespace", "wait"].map(str::to_owned).to_vec();
            self.engine.helper(&image, &self.traefik, command).await
        };
        let session = started.await.map_err(|error: Error| {
            let why = error.message;
            Error::failed(format!(
                "no helper can run beside it (`rollout image` builds its image): {why}"
            ))
        })?;
        Ok(running.insert(session).container.clone())
    }

    /// Carries one connection to its end; each is one `docker exec` in the helper's container.
    async fn carry(&self, stream: &mut UnixStream, address: SocketAddr) -> Result<()> {
        let container = self.start().await?;
        let address = address.to_string();
        let command = [PROGRAM, "namespace", "connect", &address].map(str::to_owned);
        let carried = self.engine.carry(stream, &container, command.to_vec());
        let carried = carried.await;
        if carried.is_err() {
            // A Traefik that has restarted has another network namespace: the next connection starts another helper.
            let mut running = self.running.lock().await;
            running.take_if(|own| own.container == container);
        }
        carried
    }
}

/// The socket is removed on drop.
pub struct Tunnel {
    path: PathBuf,
    /// Only this user may enter it.
    _directory: TempDir,
    complaint: Complaint,
    accepting: JoinHandle<()>,
}

type Complaint = Arc<Mutex<Option<String>>>;

impl Tunnel {
    /// Does not connect yet: the first connection may fail.
    pub fn open(helper: Arc<Helper>, address: SocketAddr) -> Result<Self> {
        let failed = |error| Error::failed(format!("cannot open a socket of our own: {error}"));
        let directory = tempfile::Builder::new()
            .prefix("rollout-")
            .tempdir()
            .map_err(failed)?;
        let path = directory.path().join("traefik.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let complaint = Complaint::default();
        let accepting = tokio::spawn(accept(listener, helper, address, complaint.clone()));
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

    /// Why the last connection failed, where the other end has said.
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

async fn accept(
    listener: UnixListener,
    helper: Arc<Helper>,
    address: SocketAddr,
    complaint: Complaint,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (helper, complaint) = (helper.clone(), complaint.clone());
        tokio::spawn(async move {
            let carried = helper.carry(&mut stream, address).await;
            // Stored before the stream ends: the client reads it then.
            *complaint.lock().unwrap_or_else(PoisonError::into_inner) =
                carried.err().map(|error| error.message);
        });
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        docker::http::json as answer, event::Events, fake_engine::FakeEngine, model::label,
        namespace,
    };

    /// An engine whose commands write what they read: frames of their standard output (1) or standard error (2).
    fn engine() -> FakeEngine {
        FakeEngine::start(|method, path, _| {
            let labels = json!({label::HELPER: namespace::PROTOCOL});
            let image = json!({"Id": "sha256:a", "Config": {"Labels": labels}});
            match (method, path) {
                ("GET", "/version") => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
                ("GET", _) => answer(StatusCode::OK, &image),
                _ => answer(StatusCode::CREATED, &json!({"Id": "made", "Warnings": []})),
            }
        })
    }

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let head = [stream, 0, 0, 0, 0, 0, 0, text.len() as u8];
        [&head, text.as_bytes()].concat()
    }

    async fn connected(tunnel: &Tunnel, frame: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(tunnel.path()).await.unwrap();
        stream.write_all(frame).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn connections_share_a_helper_until_one_of_them_fails() {
        let fake = engine();
        let engine = Engine::connect(fake.endpoint(), &Events::new(Vec::new())).await;
        let helper = Arc::new(Helper::new(&engine.unwrap(), &[], "traefik"));
        let tunnel = Tunnel::open(helper, ([127, 0, 0, 1], 8080).into()).unwrap();
        let bodies = |path: &str| {
            let changes = fake.changes().into_iter();
            let bodies = changes.filter(|(_, asked, _)| asked.ends_with(path));
            bodies.map(|(.., body)| body).collect::<Vec<_>>()
        };

        let (first, second) = (frame(1, "first"), frame(1, "second"));
        let mut both = tokio::join!(connected(&tunnel, &first), connected(&tunnel, &second));
        let (mut one, mut other) = ([0; 5], [0; 6]);
        both.0.read_exact(&mut one).await.unwrap();
        both.1.read_exact(&mut other).await.unwrap();
        assert_eq!((&one, &other), (b"first", b"second"));
        assert_eq!(tunnel.complaint(), None);
        let made = bodies("/containers/create");
        assert_eq!(made.len(), 1);
        assert_eq!(made[0]["HostConfig"]["NetworkMode"], "container:traefik");
        let command = json!(["/rollout", "namespace", "connect", "127.0.0.1:8080"]);
        assert_eq!(bodies("/containers/made/exec")[0]["Cmd"], command);

        let said = [frame(2, "Connection refused\n"), first.clone()].concat();
        let mut refused = connected(&tunnel, &said).await;
        refused.read_exact(&mut one).await.unwrap();
        refused.shutdown().await.unwrap();
        assert_eq!(refused.read(&mut one).await.unwrap(), 0);
        assert_eq!(tunnel.complaint().as_deref(), Some("Connection refused"));
        let mut again = connected(&tunnel, &first).await;
        again.read_exact(&mut one).await.unwrap();
        assert_eq!(bodies("/containers/create").len(), 2);
    }
}
