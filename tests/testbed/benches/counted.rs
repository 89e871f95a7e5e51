//! A socket that passes everything on to the engine, and counts what is read of it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use testbed::daemon::ENGINE;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

pub struct Counted {
    folder: TempDir,
    reads: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Counted {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(serve(listener, reads.clone()));
        Self {
            folder,
            reads,
            server,
        }
    }

    /// What the `DOCKER_HOST` of the caller is to be.
    pub fn docker_host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: UnixListener, reads: Arc<AtomicUsize>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(pass(client, reads.clone()));
    }
}

/// Passes both directions on, each to its own end: a caller may end its side first.
async fn pass(client: UnixStream, reads: Arc<AtomicUsize>) -> io::Result<()> {
    let engine = UnixStream::connect(ENGINE).await?;
    let (mut asks, mut to_client) = client.into_split();
    let (mut answers, mut to_engine) = engine.into_split();
    let questions = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let new = match asks.read(&mut bytes).await? {
                0 => return to_engine.shutdown().await,
                length => &bytes[..length],
            };
            reads.fetch_add(questions_in(new), Ordering::Relaxed);
            to_engine.write_all(new).await?;
        }
    };
    let answers = async {
        copy(&mut answers, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(questions, answers).map(drop)
}

/// How many GET requests begin here. Clients write the head of a request at once.
fn questions_in(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter(|line| line.starts_with(b"GET ") && line.ends_with(b" HTTP/1.1\r"))
        .count()
}
