//! A unix socket that only this user can open. It is deleted on drop.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

/// `sun_path` in `sockaddr_un` has 108 bytes on Linux and 104 on other systems, with its terminator.
const MAX_SOCKET_PATH: usize = 103;
const SOCKET: &str = "docker.sock";
const PREFIX: &str = "rollout-view-";

/// A socket of mode 0600 in a directory of mode 0700.
pub struct PrivateSocket {
    directory: TempDir,
}

impl PrivateSocket {
    /// Fails where no directory can be created in which the path is short enough.
    pub async fn listen() -> io::Result<(Self, UnixListener)> {
        let directory = private_directory().await?;
        let socket = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        Ok((Self { directory }, listener))
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.directory.path().join(SOCKET).display())
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
        let (socket, _listener) = PrivateSocket::listen().await.unwrap();
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
