//! An HTTP GET for a CLI on another machine: Traefik's API, metrics or ping, of a reader whose container is known.

use std::{collections::BTreeMap, net::IpAddr, sync::OnceLock, time::Duration};

use reqwest::{Client, Response};
use url::{Host, Url};

use super::engine::with_causes;
use crate::{
    client,
    overlay::control::{Failure, FailureKind, Fetched, Reader},
};

/// From the request to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The headers that are returned.
const HEADERS: [&str; 2] = ["content-type", "x-next-page"];

/// Fetches a URL of one of these readers.
pub async fn fetch(url: &str, readers: &[Reader]) -> Result<Fetched, Failure> {
    let url = admit(url, readers).map_err(|why| FailureKind::FetchRefused.because(why))?;
    let failed = |error: String| FailureKind::FetchFailed.because(error);
    let fetched = tokio::time::timeout(TIMEOUT, get(url)).await;
    fetched
        .map_err(|_| failed(format!("no answer within {} s", TIMEOUT.as_secs())))?
        .map_err(failed)
}

fn admit(url: &str, readers: &[Reader]) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        _ => return Err("only an address is allowed as host".to_owned()),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme {} is not allowed", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials are not allowed".to_owned());
    }
    let path = url.path();
    if !(path.starts_with("/api/") || path == "/metrics" || path == "/ping") || path.contains('%') {
        return Err(format!("the path {path:?} is not allowed"));
    }
    let counts = |reader: &Reader| reader.address.to_canonical() == address && reader.counts();
    match readers.iter().any(counts) {
        true => Ok(url),
        false => Err(format!(
            "{address} is not the address of a reader that counts"
        )),
    }
}

async fn get(url: Url) -> Result<Fetched, String> {
    let response = direct()?.get(url).send().await;
    let response = response.map_err(|error| with_causes(&error))?;
    Ok(Fetched {
        status: response.status().as_u16(),
        headers: headers(&response),
        body: client::text(response).await?,
    })
}

fn headers(response: &Response) -> BTreeMap<String, String> {
    let value = |name: &str| response.headers().get(name)?.to_str().ok();
    HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), value(name)?.to_owned())))
        .collect()
}

fn direct() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        client::builder()
            .no_proxy()
            // The host is an address, and Traefik's default certificate is self-signed.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| with_causes(&error))
    });
    client.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{answer_without_end, mutated_text};
    use crate::overlay::control::Container;

    fn reader(streams: usize, container: bool) -> Reader {
        let container = container.then(|| Container {
            id: "a".to_owned(),
            name: "traefik-1".to_owned(),
        });
        Reader {
            address: [10, 0, 0, 2].into(),
            user_agent: "Traefik 3.7.15".to_owned(),
            generation: None,
            streams,
            container,
        }
    }

    fn admitted(url: &str) -> bool {
        admit(url, &[reader(1, true)]).is_ok()
    }

    #[test]
    fn traefiks_api_metrics_and_ping_may_be_fetched() {
        assert!(admitted(
            "http://10.0.0.2:8080/api/http/services?per_page=1000"
        ));
        assert!(admitted("https://10.0.0.2/metrics"));
        assert!(admitted("http://10.0.0.2:8080/ping"));
    }

    #[test]
    fn nothing_else_may_be_fetched() {
        for url in [
            "http://10.0.0.3:8080/api/version",
            "http://traefik:8080/api/version",
            "file:///api/version",
            "http://10.0.0.2:8080/",
            "http://10.0.0.2:8080/api",
            "http://10.0.0.2:8080/ping/x",
            "http://10.0.0.2:8080/api/../secret",
            "http://10.0.0.2:8080/api/%2e%2e/secret",
            "http://10.0.0.2:8080/api/..%2fsecret",
            "http://10.0.0.2:8080\\secret",
            "http://a@10.0.0.2:8080/api/version",
            "http://169.254.169.254/api/version",
            "gopher://10.0.0.2/api/version",
            "/api/version",
            "",
        ] {
            assert!(!admitted(url), "{url}");
        }
    }

    #[test]
    fn a_reader_counts_with_an_open_stream_and_a_running_container() {
        let url = "http://10.0.0.2:8080/api/version";
        assert!(admit(url, &[reader(0, true)]).is_err());
        assert!(admit(url, &[reader(1, false)]).is_err());
        assert!(admit(url, &[reader(0, true), reader(1, true)]).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_is_admitted_is_a_path_of_the_api_at_a_reader(
            url in mutated_text("https://10.0.0.2:8080/api/http/services?per_page=1000"),
        ) {
            if let Ok(url) = admit(&url, &[reader(1, true)]) {
                prop_assert_eq!(url.host_str(), Some("10.0.0.2"));
                prop_assert!(url.path().starts_with("/api/") || ["/metrics", "/ping"].contains(&url.path()));
                prop_assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_given_up_once_it_is_too_large() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let endless = async {
            answer_without_end(listener.accept().await.unwrap().0).await;
        };
        let (fetched, ()) = tokio::join!(get(url.parse().unwrap()), endless);
        assert_eq!(
            fetched.unwrap_err(),
            "the answer is larger than 16777216 bytes"
        );
    }
}
