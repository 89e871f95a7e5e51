//! One HTTP GET of a Traefik API: straight, or by a tunnel into Traefik's network namespace.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Client, ClientBuilder};

use super::{
    access::{Access, Credentials},
    tunnel::Tunnel,
};
use crate::{
    client::{self, builder, reason},
    error::{Error, Result},
};

/// How long a connection within this machine may take to come about: an address that is not reached from here stays silent.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// An HTTP client of one API.
pub struct Http {
    client: Client,
    credentials: Option<Credentials>,
    tunnel: Option<Tunnel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub location: Option<String>,
    /// The page after this one (`X-Next-Page`); the last one says 1.
    pub next_page: Option<u32>,
}

impl Http {
    /// For a URL that the operator gave: names are resolved, and certificates looked at.
    pub fn named(access: &Access, credentials: Option<Credentials>) -> Result<Self> {
        Ok(Self {
            client: built(trusting(builder(), access))?,
            credentials: credentials.or_else(|| access.credentials.clone()),
            tunnel: None,
        })
    }

    /// For an address that the engine gave; `host` is what the API goes by there.
    ///
    /// The engine vouches for the address. So a certificate is checked only where the operator names its authority.
    pub fn at(
        address: SocketAddr,
        host: &str,
        access: &Access,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let client = vouched(builder(), access)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .resolve(host, address);
        Ok(Self {
            client: built(client)?,
            credentials,
            tunnel: None,
        })
    }

    /// Through a tunnel into Traefik's network namespace.
    pub fn inside(
        tunnel: Tunnel,
        access: &Access,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let client = vouched(builder(), access).unix_socket(tunnel.path());
        Ok(Self {
            client: built(client)?,
            credentials,
            tunnel: Some(tunnel),
        })
    }

    /// The user and password that it sends along.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub async fn get(&self, url: &str) -> Result<Answer> {
        let mut request = self.client.get(url);
        if let Some(own) = &self.credentials {
            request = request.basic_auth(&own.user, Some(&own.password));
        }
        let response = request.send().await;
        let response = response.map_err(|error| self.failed(reason(&error.without_url())))?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let mut answer = Answer {
            status: response.status().as_u16(),
            location: header("location").map(str::to_owned),
            next_page: header("x-next-page").and_then(|page| page.parse().ok()),
            body: String::new(),
        };
        answer.body = client::text(response)
            .await
            .map_err(|why| self.failed(why))?;
        Ok(answer)
    }

    fn failed(&self, why: String) -> Error {
        let complaint = self.tunnel.as_ref().and_then(Tunnel::complaint);
        Error::failed(complaint.unwrap_or(why))
    }
}

fn trusting(builder: ClientBuilder, access: &Access) -> ClientBuilder {
    match access.authorities.is_empty() {
        true => builder,
        false => builder.tls_certs_merge(access.authorities.clone()),
    }
}

fn vouched(builder: ClientBuilder, access: &Access) -> ClientBuilder {
    match access.authorities.is_empty() {
        // Traefik's own certificate is made by itself.
        true => builder.tls_danger_accept_invalid_certs(true),
        false => builder.tls_certs_only(access.authorities.clone()),
    }
}

fn built(builder: ClientBuilder) -> Result<Client> {
    builder
        .build()
        .map_err(|error| Error::refused(format!("no HTTP client: {}", reason(&error))))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::arbitrary::answer_without_end;

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up_once_it_is_too_large() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = Http::at(address, "127.0.0.1", &Access::default(), None).unwrap();
        let endless = async {
            answer_without_end(listener.accept().await.unwrap().0).await;
        };
        let url = format!("http://{address}/api/overview");
        let (answer, ()) = tokio::join!(http.get(&url), endless);
        let error = answer.unwrap_err().message;
        assert_eq!(error, "the answer is larger than 16777216 bytes");
    }
}
