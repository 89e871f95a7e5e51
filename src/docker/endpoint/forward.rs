//! A local address of an engine for docker's own commands.

use std::io;

use tokio::{io::copy_bidirectional, net::UnixStream};

use super::Endpoint;
use crate::docker::private_socket::PrivateSocket;

/// A `DOCKER_HOST` with which a command reaches the same engine as we do, without certificates or contexts.
pub struct Forward {
    docker_host: String,
    /// Kept while it is served.
    _socket: Option<PrivateSocket>,
}

impl Forward {
    /// Serves a private socket that forwards to the engine, unless the engine has a plain address.
    pub async fn start(endpoint: Endpoint) -> io::Result<Self> {
        if let Endpoint::Unix(_) | Endpoint::Tcp(_) = endpoint {
            return Ok(Self {
                docker_host: endpoint.to_string(),
                _socket: None,
            });
        }
        let failure = "could not accept a connection for the engine";
        let forwarded = move |stream| forward(stream, endpoint.clone());
        let socket = PrivateSocket::serve(failure, forwarded).await?;
        Ok(Self {
            docker_host: socket.docker_host(),
            _socket: Some(socket),
        })
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> &str {
        &self.docker_host
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
    async fn a_plain_address_is_used_unchanged() {
        for host in ["unix:///run/x.sock", "tcp://127.0.0.1:2375"] {
            let forward = Forward::start(host.parse().unwrap()).await.unwrap();
            assert_eq!(forward.docker_host(), host);
        }
    }

    #[tokio::test]
    async fn other_engines_get_a_socket_that_is_deleted_on_drop() {
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
