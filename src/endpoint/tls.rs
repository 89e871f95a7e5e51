//! TLS to an engine, with certificates as Docker keeps them.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::unverified::Unverified;
use super::{
    CONNECT_TIMEOUT,
    greeting::{Failure, greet},
    stream::Stream,
};
use crate::error::{Error, Result};

mod unverified;

const WHERE: &str = "DOCKER_CERT_PATH names the directory that holds ca.pem, cert.pem and key.pem";

/// Files to make a TLS client of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// Who may have signed the engine's certificate; where `None`, the system's authorities.
    pub authorities: Option<PathBuf>,
    /// The client's own certificate.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether any certificate of the engine will do: where Docker itself would not verify it either.
    pub any: bool,
}

impl Material {
    /// The files of a directory by the names that Docker gives them.
    ///
    /// As in Docker, the client's own may be missing, the authorities not (docker/cli, `ClientOptions.SetDefaultOptions`).
    pub fn of(directory: &Path, any: bool) -> Self {
        let there = |name| Some(directory.join(name)).filter(|path| path.exists());
        Self {
            authorities: Some(directory.join("ca.pem")),
            certificate: there("cert.pem"),
            key: there("key.pem"),
            any,
        }
    }

    #[cfg(test)]
    pub fn unverified(mut self) -> Self {
        self.any = true;
        self
    }

    /// Reads the files; refused where one is missing, unreadable or does not fit.
    pub fn client(&self) -> Result<Client> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::refused(format!("cannot set up TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key_read = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("private key", key, &error))?;
                builder
                    .with_client_auth_cert(chain, key_read)
                    .map_err(|error| {
                        let (certificate, key) = (certificate.display(), key.display());
                        Error::refused(format!("{certificate} does not go with {key}: {error}"))
                            .hint(WHERE)
                    })?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(lone), None) | (None, Some(lone)) => {
                let lone = lone.display();
                return Err(Error::refused(format!(
                    "{lone} is alone: a certificate needs its key, and a key its certificate"
                ))
                .hint(WHERE));
            }
        };
        Ok(Client(Arc::new(config)))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        if self.any {
            return Ok(Arc::new(Unverified(provider)));
        }
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| {
                        Error::refused(format!("{} is of no use: {error}", path.display()))
                            .hint(WHERE)
                    })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        match verifier {
            Ok(verifier) => Ok(verifier),
            Err(_) => Err(
                Error::refused("no certificate authorities to verify the engine with").hint(WHERE),
            ),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(Error::refused(format!("{} holds no certificate", path.display())).hint(WHERE))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable("certificate", path, &error)),
    }
}

fn unreadable(what: &str, path: &Path, error: &pem::Error) -> Error {
    let path = path.display();
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it holds no {what}"),
        other => other.to_string(),
    };
    Error::refused(format!("cannot read the {what} {path}: {why}")).hint(WHERE)
}

/// What a connection needs to be made with TLS; clones share it.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Speaks TLS on a connection to `host`.
    pub async fn dial(&self, stream: TcpStream, host: &str) -> Result<Stream> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::failed(format!("no certificate can be for {host:?}")))?;
        let connect = async {
            let mut stream = TlsConnector::from(Arc::clone(&self.0))
                .connect(name, stream)
                .await?;
            // In TLS 1.3 the engine's word on our certificate comes with what is read first.
            greet(&mut stream).await.map(|()| Stream::new(stream))
        };
        match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(failure)) => Err(explain(&failure, host)),
            Err(_) => Err(Error::failed("it does not speak TLS, or hangs")),
        }
    }
}

/// Speaks TLS with what answers at an address, whichever certificate it shows; it is no engine.
pub async fn any_certificate(stream: TcpStream, address: IpAddr) -> Result<TlsStream<TcpStream>> {
    let any = Material {
        any: true,
        ..Material::default()
    };
    let connector = TlsConnector::from(any.client()?.0);
    let stream = connector.connect(address.into(), stream).await;
    stream.map_err(|error| Error::failed(error.to_string()))
}

fn explain(failure: &Failure, host: &str) -> Error {
    let error = match failure {
        Failure::Io(error) => error,
        Failure::Closed => return Error::failed("it closes every connection with TLS"),
        Failure::Foreign(line) => {
            return Error::failed(format!("it is no Docker engine: {line:?}"));
        }
    };
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::failed("it does not speak TLS").hint(PLAIN),
            _ => Error::failed(error.to_string()),
        };
    };
    use rustls::Error as Tls;
    match inner {
        Tls::InvalidMessage(_) => Error::failed("it does not speak TLS").hint(PLAIN),
        Tls::AlertReceived(alert) => {
            Error::failed(format!("it does not accept our certificate ({alert:?})")).hint(WHERE)
        }
        Tls::InvalidCertificate(why) => untrusted(why, host),
        other => Error::failed(other.to_string()),
    }
}

const PLAIN: &str = "for an engine without TLS, unset DOCKER_TLS_VERIFY and DOCKER_TLS";

fn untrusted(why: &CertificateError, host: &str) -> Error {
    use CertificateError as Bad;
    match why {
        Bad::UnknownIssuer | Bad::BadSignature => {
            Error::failed("its certificate is signed by nobody that ca.pem names").hint(WHERE)
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            Error::failed(format!("its certificate is not for {host}"))
                .hint("name the engine as its certificate does, or make it one with this name")
        }
        Bad::Expired | Bad::ExpiredContext { .. } => {
            Error::failed("its certificate has expired").hint("renew the engine's certificate")
        }
        other => Error::failed(format!("its certificate is not valid: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let refused = |any| {
            let error = Material::of(directory.path(), any).client().unwrap_err();
            assert_eq!(error.hint.as_deref(), Some(WHERE));
            error.message
        };
        let ca = path("ca.pem").display().to_string();
        assert_eq!(
            refused(false),
            format!("cannot read the certificate {ca}: No such file or directory (os error 2)")
        );
        // Nothing is verified, so nothing is needed to verify with.
        assert!(Material::of(directory.path(), true).client().is_ok());
        std::fs::write(path("ca.pem"), "nothing").unwrap();
        assert_eq!(refused(false), format!("{ca} holds no certificate"));
        std::fs::write(path("cert.pem"), "nothing").unwrap();
        assert!(refused(true).ends_with("a certificate needs its key, and a key its certificate"));
    }

    #[test]
    fn failures_name_their_cause() {
        let said = |error: rustls::Error| {
            let failure = Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error));
            explain(&failure, "far").message
        };
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(
            said(unknown),
            "its certificate is signed by nobody that ca.pem names"
        );
        let name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        assert_eq!(said(name), "its certificate is not for far");
        let message = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(said(message), "it does not speak TLS");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        assert_eq!(
            said(alert),
            "it does not accept our certificate (CertificateRequired)"
        );
    }
}
