//! An address on this machine where docker's own commands reach an engine, whatever carries the connection.

use std::io;

use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use super::Endpoint;
use crate::private_socket::PrivateSocket;

/// `DOCKER_HOST` for a command that must reach the same engine as we do, without certificates or contexts of its own.
pub struct Forward {
    docker_host: String,
    served: Option<(PrivateSocket, JoinHandle<()>)>,
}

impl Forward {
    /// A socket whose every connection is one of the engine; none is needed where there is a plain address.
    pub async fn start(endpoint: Endpoint) -> io::Result<Self> {
        if let Endpoint::Unix(_) | Endpoint::Tcp(_) = endpoint {
            return Ok(Self {
                docker_host: endpoint.to_string(),
                served: None,
            });
        }
        let (socket, listener) = PrivateSocket::listen().await?;
        Ok(Self {
            docker_host: socket.docker_host(),
            served: Some((socket, tokio::spawn(serve(listener, endpoint)))),
        })
    }

    /// What to set `DOCKER_HOST` to.
    pub fn docker_host(&self) -> &str {
        &self.docker_host
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some((_, server)) = &self.served {
            server.abort();
        }
    }
}

/// Connections live in a set, so that they end with the socket.
async fn serve(listener: UnixListener, endpoint: Endpoint) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(forward(stream, endpoint.clone())); }
                Err(error) => {
                    // Out of descriptors, at worst: others are closed meanwhile.
                    tracing::warn!(%error, "could not accept a connection for the engine");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut near: UnixStream, endpoint: Endpoint) {
    let mut far = match endpoint.dial().await {
        Ok(far) => far,
        Err(error) => {
            tracing::warn!(%error, "the engine does not answer");
            return;
        }
    };
    if let Err(error) = copy_bidirectional(&mut near, &mut far).await {
        tracing::debug!(%error, "a forwarded connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_plain_address_is_used_as_it_is() {
        for host in ["unix:///run/x.sock", "tcp://127.0.0.1:2375"] {
            let forward = Forward::start(host.parse().unwrap()).await.unwrap();
            assert_eq!(forward.docker_host(), host);
        }
    }

    #[tokio::test]
    async fn others_get_a_socket_that_goes_with_it() {
        let forward = Forward::start("ssh://far".parse().unwrap()).await.unwrap();
        let path = forward
            .docker_host()
            .strip_prefix("unix://")
            .unwrap()
            .to_owned();
        assert!(std::path::Path::new(&path).exists());
        drop(forward);
        assert!(!std::path::Path::new(&path).exists());
    }
}
