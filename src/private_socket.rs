//! A Unix socket that only we and what we start can reach; it goes with its last owner.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

/// The length of `sun_path` in Linux's `sockaddr_un` is 108 with its end; other systems have 104.
const MAX_SOCKET_PATH: usize = 103;
const SOCKET: &str = "docker.sock";
const PREFIX: &str = "rollout-view-";

/// Where a socket is, mode 0600 in a directory of mode 0700.
pub struct PrivateSocket {
    directory: TempDir,
}

impl PrivateSocket {
    /// Listens; an error means that no directory could be made in which the path is short enough.
    pub async fn listen() -> io::Result<(Self, UnixListener)> {
        let directory = private_directory().await?;
        let socket = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        Ok((Self { directory }, listener))
    }

    /// What to set `DOCKER_HOST` to.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.directory.path().join(SOCKET).display())
    }
}

/// What a killed run left behind is swept.
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_ours_alone_and_goes_with_its_owner() {
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
    async fn what_a_killed_run_left_is_swept_and_what_is_served_stays() {
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
