//! `host:port` of an engine, and a TCP connection to it.

use std::{fmt, io, net::IpAddr, time::Duration};

use hickory_resolver::TokioResolver;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// As Docker's own client sets it.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, `:PORT` and `[IPV6]:PORT`; the error completes "is not an engine's address: {error}".
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.contains('/') {
            return Err("it has a path".to_owned());
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => {
                let port = rest.strip_prefix(':');
                (
                    host,
                    Some(port.ok_or("no port stands behind its brackets")?),
                )
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.contains(['[', ']']) {
            return Err("its brackets do not match".to_owned());
        }
        let port = match port {
            None => default_port,
            Some(port) => port.parse().map_err(|_| format!("{port:?} is no port"))?,
        };
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Connects to the first address of the host that answers.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other(format!("{} has no address", self.host));
        for address in self.addresses().await? {
            match TcpStream::connect((address, self.port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
                    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads the hosts file and DNS itself, because a static binary cannot load the system's resolver.
    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        let resolver = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .map_err(io::Error::other)?;
        let found = resolver
            .lookup_ip(self.host.as_str())
            .await
            .map_err(|error| io::Error::other(format!("cannot resolve {}: {error}", self.host)))?;
        Ok(found.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_in_the_hosts_file_is_resolved() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address::parse(&format!("localhost:{port}"), 1).unwrap();
        assert!(address.connect().await.is_ok());
    }
}
