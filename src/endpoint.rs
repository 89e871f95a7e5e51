//! Where a Docker engine answers, and a connection to it: one dialer for everything that talks with the engine.

mod address;
mod context;
mod find;
mod forward;
mod greeting;
mod ssh;
mod stream;
mod tls;

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use self::{
    address::Address,
    ssh::Target,
    tls::{Client, Material},
};
pub use self::{forward::Forward, stream::Stream, tls::any_certificate};
use crate::error::{Error, Result};

/// Where Docker's own commands look when nothing else is named.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// The ports that Docker takes for `tcp://` without one, and with TLS.
const PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// For a host that does not answer; as ssh is told for `ssh://` (docker/cli, connhelper).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const ANOTHER: &str = "name another one with -H, --context or DOCKER_HOST";

/// Where a Docker engine answers.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A socket on this machine.
    Unix(PathBuf),
    Tcp(Address),
    Tls(Address, Client),
    /// The engine of a host that ssh reaches.
    Ssh(Target),
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Reads a `DOCKER_HOST` value, no certificates given.
    fn from_str(host: &str) -> Result<Self> {
        Self::new(host, None)
    }
}

impl fmt::Display for Endpoint {
    /// Writes a `DOCKER_HOST` value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls(address, _) => write!(f, "tcp://{address}"),
            Self::Ssh(target) => target.fmt(f),
        }
    }
}

impl Endpoint {
    /// Reads an engine's address as Docker does; `material` is what TLS over `tcp://` would use.
    ///
    /// Refused: another scheme, a malformed address, certificates that cannot be read.
    fn new(host: &str, material: Option<Material>) -> Result<Self> {
        let host = if host.is_empty() { DEFAULT } else { host };
        if host.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(host)));
        }
        let malformed = |why| {
            Error::refused(format!("{host:?} is no address of an engine: {why}")).hint(ANOTHER)
        };
        let tcp = |rest, port| Address::parse(rest, port).map_err(malformed);
        match (host.split_once("://"), material) {
            (Some(("unix", path)), _) => Ok(Self::Unix(PathBuf::from(path))),
            (Some(("ssh", _)), _) => Target::parse(host).map(Self::Ssh).map_err(malformed),
            (Some(("tcp", rest)), Some(material)) => {
                Ok(Self::Tls(tcp(rest, TLS_PORT)?, material.client()?))
            }
            (Some(("https", rest)), material) => Ok(Self::Tls(
                tcp(rest, TLS_PORT)?,
                material.unwrap_or_default().client()?,
            )),
            (Some(("tcp" | "http", rest)), _) => Ok(Self::Tcp(tcp(rest, PORT)?)),
            _ => Err(Error::refused(format!(
                "cannot reach a Docker engine at {host:?}: only unix://, tcp://, https:// and ssh:// are supported"
            ))
            .hint(ANOTHER)),
        }
    }

    /// A new connection, on which an engine is known to answer where a tunnel could hide that none does.
    ///
    /// The error fits "… does not answer: {error}", and its hint the cause.
    pub async fn dial(&self) -> Result<Stream> {
        match self {
            Self::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Stream::new(stream)),
                Err(error) => Err(not_opened(&error)),
            },
            Self::Tcp(address) => Ok(Stream::new(connect(address).await?)),
            Self::Tls(address, client) => client.dial(connect(address).await?, &address.host).await,
            Self::Ssh(target) => target.dial().await,
        }
    }
}

/// Why a unix socket cannot be connected to.
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
    fn a_socket_that_may_not_be_opened_is_a_matter_of_the_group() {
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
            Endpoint::Tls(..) => "tls",
            Endpoint::Ssh(_) => "ssh",
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
            ("https://far", "tls tcp://far:2376"),
            ("ssh://me@far:22", "ssh ssh://me@far:22"),
        ] {
            assert_eq!(read(host), is, "{host}");
        }
        let insecure = Material::default().unverified();
        let tls = Endpoint::new("tcp://far", Some(insecure)).unwrap();
        assert!(matches!(tls, Endpoint::Tls(..)) && tls.to_string() == "tcp://far:2376");
    }

    #[test]
    fn what_is_no_address_is_refused_in_one_line() {
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
            ("ssh://", "it names no host"),
            ("ssh://me:secret@far", "it holds a password"),
        ] {
            let error = host.parse::<Endpoint>().unwrap_err();
            assert!(error.message.contains(why), "{host}: {error}");
            assert!(!error.message.contains('\n') && error.hint.is_some());
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_says_so() {
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
