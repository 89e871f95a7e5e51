//! A unix socket that only this user can open, and what serves it. A drop ends and deletes it.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// `sun_path` in `sockaddr_un` has 108 bytes on Linux and 104 on other systems, with its terminator.
const MAX_SOCKET_PATH: usize = 103;
const SOCKET: &str = "docker.sock";
const PREFIX: &str = "rollout-view-";

/// A socket of mode 0600 in a directory of mode 0700.
pub struct PrivateSocket {
    directory: TempDir,
    server: JoinHandle<()>,
}

impl PrivateSocket {
    /// Has `connection` serve each connection; `failure` is logged where one cannot be accepted. Fails where no directory
    /// can be created in which the path is short enough.
    pub async fn serve<F>(
        failure: &'static str,
        connection: impl Fn(UnixStream) -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let directory = private_directory().await?;
        let socket = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let server = tokio::spawn(accept(listener, failure, connection));
        Ok(Self { directory, server })
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.directory.path().join(SOCKET).display())
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The set ends its connections when this future is dropped.
async fn accept<F>(
    listener: UnixListener,
    failure: &'static str,
    connection: impl Fn(UnixStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream)); }
                Err(error) => {
                    // Out of file descriptors, for example; the delay lets other connections close.
                    tracing::warn!(%error, "{failure}");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Creates the directory, and removes those that killed runs left.
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

/// Removes directories whose socket has no listener any more.
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_deleted_on_drop() {
        let socket = PrivateSocket::serve("", async |_| {}).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = socket.directory.path().to_owned();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join(SOCKET)), 0o600);
        assert!(directory.join(SOCKET).as_os_str().len() < 104);
        drop(socket);
        assert!(!directory.exists());
    }

    #[tokio::test]
    async fn sockets_of_killed_runs_are_removed_and_live_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let (dead, alive) = (
            parent.path().join("rollout-view-a"),
            parent.path().join("rollout-view-b"),
        );
        for directory in [&dead, &alive] {
            std::fs::create_dir(directory).unwrap();
        }
        drop(UnixListener::bind(dead.join(SOCKET)).unwrap());
        let _served = UnixListener::bind(alive.join(SOCKET)).unwrap();
        sweep(parent.path()).await;
        assert!(!dead.exists());
        assert!(alive.exists());
    }
}
