//! The address of a Docker engine, and a connection to it. Everything that talks to an engine dials here.
//!
//! A unix socket and plain TCP are dialled directly, also where a Docker context names them: a process for each
//! connection costs time. TLS and ssh go through `docker system dial-stdio`, with Docker's own options, variables and
//! contexts.

mod address;
mod child_stream;
mod context;
mod docker_cli;
mod find;
mod forward;
mod greeting;
mod stream;

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use self::{address::Address, docker_cli::DockerCli};
pub use self::{forward::Forward, stream::Stream};
use crate::error::{Error, Result};

/// Docker's own default.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// Docker's ports for `tcp://` without a port, without and with TLS.
const PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// As long as Docker's own ssh gets (docker/cli, connhelper).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const ANOTHER: &str = "name another one with -H, --context or DOCKER_HOST";

#[derive(Clone, Debug)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp(Address),
    DockerCli(DockerCli),
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Reads a `DOCKER_HOST` value, without TLS.
    fn from_str(host: &str) -> Result<Self> {
        Self::new(host, false)
    }
}

impl fmt::Display for Endpoint {
    /// Writes a `DOCKER_HOST` value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::DockerCli(cli) => f.write_str(&cli.host),
        }
    }
}

impl Endpoint {
    /// Reads an address as Docker does; `tls` is whether Docker uses TLS for `tcp://`.
    ///
    /// Refuses another scheme and a malformed TCP address. Docker itself checks the rest when it connects.
    fn new(host: &str, tls: bool) -> Result<Self> {
        let host = if host.is_empty() { DEFAULT } else { host };
        if host.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(host)));
        }
        let tcp = |rest, port| {
            Address::parse(rest, port).map_err(|why| {
                Error::refused(format!("{host:?} is not an engine's address: {why}")).hint(ANOTHER)
            })
        };
        let with_tls = |rest, options: &[&str]| {
            let address = format!("tcp://{}", tcp(rest, TLS_PORT)?);
            Ok(Self::DockerCli(DockerCli::new(address, options)))
        };
        match host.split_once("://") {
            Some(("unix", path)) => Ok(Self::Unix(PathBuf::from(path))),
            Some(("ssh", rest)) => {
                let address = format!("ssh://{}", rest.trim_end_matches('/'));
                Ok(Self::DockerCli(DockerCli::new(address, &[])))
            }
            Some(("tcp" | "https", rest)) if tls => with_tls(rest, &[]),
            // Docker itself has no https://.
            Some(("https", rest)) => with_tls(rest, &["--tlsverify"]),
            Some(("tcp" | "http", rest)) => Ok(Self::Tcp(tcp(rest, PORT)?)),
            _ => Err(Error::refused(format!(
                "cannot reach a Docker engine at {host:?}: only unix://, tcp://, https:// and ssh:// are supported"
            ))
            .hint(ANOTHER)),
        }
    }

    /// Makes a connection. Through the Docker CLI, the engine has answered once on it: a process can start although
    /// no engine answers.
    ///
    /// The error completes "… does not answer: {error}"; its hint is the remedy.
    pub async fn dial(&self) -> Result<Stream> {
        match self {
            Self::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Stream::new(stream)),
                Err(error) => Err(not_opened(&error)),
            },
            Self::Tcp(address) => Ok(Stream::new(connect(address).await?)),
            Self::DockerCli(cli) => cli.dial().await,
        }
    }
}

fn not_opened(error: &io::Error) -> Error {
    let failed = Error::failed(error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied => failed.hint(
            "use sudo, or let an administrator add you to the group docker (sudo usermod -aG docker $USER) and log in again",
        ),
        _ => failed,
    }
}

async fn connect(address: &Address) -> Result<TcpStream> {
    match timeout(CONNECT_TIMEOUT, address.connect()).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Error::failed(error.to_string())),
        Err(_) => Err(Error::failed(format!(
            "no connection within {} s",
            CONNECT_TIMEOUT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn permission_denied_on_the_socket_hints_at_the_docker_group() {
        let hint = |kind| not_opened(&io::Error::from(kind)).hint;
        let denied = hint(io::ErrorKind::PermissionDenied).unwrap();
        assert!(denied.contains("group docker"), "{denied}");
        assert_eq!(hint(io::ErrorKind::ConnectionRefused), None);
    }

    fn read(host: &str) -> String {
        let endpoint: Endpoint = host.parse().unwrap();
        let kind = match &endpoint {
            Endpoint::Unix(_) => "unix",
            Endpoint::Tcp(_) => "tcp",
            Endpoint::DockerCli(_) => "docker",
        };
        format!("{kind} {endpoint}")
    }

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (host, is) in [
            ("", "unix unix:///var/run/docker.sock"),
            ("/run/x.sock", "unix unix:///run/x.sock"),
            ("unix:///run/x.sock", "unix unix:///run/x.sock"),
            ("tcp://far", "tcp tcp://far:2375"),
            ("tcp://:1234", "tcp tcp://127.0.0.1:1234"),
            ("tcp://[::1]:1234/", "tcp tcp://[::1]:1234"),
            ("http://far:80", "tcp tcp://far:80"),
            ("https://far", "docker tcp://far:2376"),
            ("ssh://[::1]/", "docker ssh://[::1]"),
            ("ssh://me@far:22", "docker ssh://me@far:22"),
        ] {
            assert_eq!(read(host), is, "{host}");
        }
        let tls = Endpoint::new("tcp://far", true).unwrap();
        assert!(matches!(tls, Endpoint::DockerCli(_)) && tls.to_string() == "tcp://far:2376");
    }

    #[test]
    fn a_malformed_address_is_refused_in_one_line() {
        for (host, why) in [
            (
                "npipe:////./pipe/docker",
                "only unix://, tcp://, https:// and ssh://",
            ),
            ("far:2375", "only unix://"),
            ("tcp://far:port", "\"port\" is no port"),
            ("tcp://far:1/path", "it has a path"),
            ("tcp://::1]:1234", "its brackets do not match"),
            ("tcp://[::1]1234", "no port stands behind its brackets"),
        ] {
            let error = host.parse::<Endpoint>().unwrap_err();
            assert!(error.message.contains(why), "{host}: {error}");
            assert!(!error.message.contains('\n') && error.hint.is_some());
        }
    }

    #[tokio::test]
    async fn a_missing_socket_is_named_in_the_error() {
        let error = Endpoint::Unix("/nowhere/docker.sock".into())
            .dial()
            .await
            .unwrap_err();
        assert!(error.message.contains("No such file"), "{error}");
    }

    proptest! {
        #[test]
        fn any_address_reads_back_or_is_refused_in_one_line(
            host in prop_oneof![mutated_text("tcp://[::1]:1234/"), mutated_text("ssh://me@far:22/run/x.sock"), mutated_text("unix:///x")],
        ) {
            match host.parse::<Endpoint>() {
                Ok(endpoint) => {
                    let written = endpoint.to_string();
                    let again = written.parse::<Endpoint>().map(|again| again.to_string());
                    prop_assert_eq!(again.ok(), Some(written));
                }
                Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
            }
        }
    }
}
