//! The health check of a proxy, run from inside the replica's network namespace: one HTTP request, or one TCP connection.

use std::{collections::BTreeMap, fmt::Display, io, net::SocketAddr, str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::unverified_tls;

/// Go's HTTP client stops at its tenth redirect.
const MOST_REDIRECTS: usize = 10;
const FOREIGN: &str = "is not answered in HTTP/1.1";

/// A check on one port of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Where the check is configured, for messages.
    pub source: String,
    pub port: u16,
    pub timeout: Duration,
    pub ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Http(Http),
    /// Connects, sends `send`, and compares what it reads with `expect`, if they are not empty.
    Tcp {
        send: String,
        expect: String,
    },
}

/// One HTTP/1.1 request, and the answer that passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// Over TLS, with any certificate.
    pub tls: bool,
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host` header; the address if `None`.
    pub host: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// The status that passes; any of 2xx and 3xx if `None`.
    pub status: Option<u16>,
    /// Whether redirects are followed.
    pub follow: bool,
}

impl Http {
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    pub fn passes(&self, status: u16) -> bool {
        match self.status {
            Some(wanted) => status == wanted,
            None => (200..400).contains(&status),
        }
    }

    fn url(&self, target: SocketAddr) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{} {scheme}://{target}{}", self.method, self.path)
    }
}

impl FromStr for Check {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl Check {
    pub fn speaks_tls(&self) -> bool {
        matches!(&self.ask, Ask::Http(http) if http.tls)
    }

    /// The arguments for the helper.
    pub fn argument(&self) -> [String; 2] {
        let json = serde_json::json!(self).to_string();
        ["--check".to_owned(), json]
    }

    /// Runs the check once. Says in a few words what passed, or why it failed.
    pub async fn ask(&self, target: SocketAddr) -> Result<String, String> {
        let (what, asked) = match &self.ask {
            Ask::Http(http) => (
                http.url(target),
                timeout(self.timeout, http.judge(target)).await,
            ),
            Ask::Tcp { send, expect } => (
                format!("tcp://{target}"),
                timeout(self.timeout, talk(target, send, expect)).await,
            ),
        };
        match asked {
            Ok(Ok(answer)) => Ok(format!("{what} {answer}")),
            Ok(Err(why)) => Err(format!("{what} {why}")),
            Err(_) => Err(format!("{what} is not answered within {:?}", self.timeout)),
        }
    }
}

impl Http {
    async fn judge(&self, target: SocketAddr) -> Result<String, String> {
        let answer = self.answer(target).await?;
        match (answer, self.status) {
            (Answer::Elsewhere(url), _) => Ok(format!("redirects to {url}")),
            (Answer::Status(status), _) if self.passes(status) => {
                Ok(format!("is answered with {status}"))
            }
            (Answer::Status(status), Some(wanted)) => {
                Err(format!("is answered with {status}, not with {wanted}"))
            }
            (Answer::Status(status), None) => Err(format!("is answered with {status}")),
        }
    }

    /// Sends the request, and follows redirects while they lead to the replica.
    pub async fn answer(&self, target: SocketAddr) -> Result<Answer, String> {
        let mut ask = self.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = ask.exchange(target).await?;
            let status = response.status().as_u16();
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|value| value.to_str().ok());
            let moved = matches!(status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = location.filter(|_| moved && self.follow) else {
                return Ok(Answer::Status(status));
            };
            match ask.moved(target, status, location) {
                Some(next) => ask = next,
                None => return Ok(Answer::Elsewhere(location.to_owned())),
            }
        }
        Err("redirects without an end".to_owned())
    }

    /// The request after a redirect; `None` if it leads away from the replica.
    fn moved(&self, target: SocketAddr, status: u16, location: &str) -> Option<Self> {
        let scheme = if self.tls { "https" } else { "http" };
        let address = format!("{scheme}://{target}");
        let host = self
            .host
            .as_ref()
            .map(|host| format!("{scheme}://{host}"))
            .and_then(|host| Url::parse(&host).ok());
        let address = Url::parse(&address).ok()?;
        let from = address.join(&self.path).ok()?;
        let to = from.join(location).ok()?;
        let stays = [Some(&address), host.as_ref()]
            .into_iter()
            .flatten()
            .any(|own| own.origin() == to.origin());
        // As Go's client: only 307 and 308 keep another method than GET and HEAD.
        let keeps = matches!(status, 307 | 308) || self.method == "HEAD";
        stays.then(|| Self {
            method: if keeps { &self.method } else { "GET" }.to_owned(),
            path: to[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
            ..self.clone()
        })
    }

    async fn exchange(&self, target: SocketAddr) -> Result<Response<Incoming>, String> {
        let stream = TcpStream::connect(target).await.map_err(unanswered)?;
        if !self.tls {
            return self.over(stream, target).await;
        }
        let stream = unverified_tls::connect(stream, target.ip()).await;
        self.over(stream.map_err(unanswered)?, target).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        target: SocketAddr,
    ) -> Result<Response<Incoming>, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| FOREIGN.to_owned())?;
        // The task ends when the answer is dropped.
        tokio::spawn(connection);
        let request = self.request(target).map_err(unanswered)?;
        let answer = sender.send_request(request).await;
        answer.map_err(|_| FOREIGN.to_owned())
    }

    fn request(&self, target: SocketAddr) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(Method::from_str(&self.method)?)
            .uri(&self.path)
            .header(USER_AGENT, "rollout")
            .header(ACCEPT, "*/*")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let address = target.to_string();
        let host = self.host.as_deref().unwrap_or(&address);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(host)?);
        for (name, value) in &self.headers {
            let name = HeaderName::from_str(name)?;
            headers.insert(name, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }
}

/// The answer to an HTTP request.
pub enum Answer {
    Status(u16),
    /// A redirect that leads away from the replica.
    Elsewhere(String),
}

async fn talk(target: SocketAddr, send: &str, expect: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(target).await.map_err(unanswered)?;
    let sent: io::Result<()> = stream.write_all(send.as_bytes()).await;
    sent.map_err(unanswered)?;
    if expect.is_empty() {
        return Ok("accepts connections".to_owned());
    }
    // Traefik reads once, too.
    let mut got = vec![0; expect.len()];
    let read = stream.read(&mut got).await.map_err(unanswered)?;
    match &got[..read] == expect.as_bytes() {
        true => Ok("answers as expected".to_owned()),
        false => Err(format!(
            "answers {:?}, not {expect:?}",
            String::from_utf8_lossy(&got[..read])
        )),
    }
}

fn unanswered(error: impl Display) -> String {
    format!("is not answered: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;
    use crate::arbitrary::{self, mutated, mutated_text, replaced};

    /// Runs the check against a server that answers each connection with the next of `answers`; its result, and what
    /// the server received.
    async fn asked(
        check: impl Fn(u16) -> Check,
        answers: &[&str],
    ) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let answers: Vec<String> = answers.iter().map(|own| (*own).to_owned()).collect();
        let serving = tokio::spawn(async move {
            let mut heard = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                heard += &String::from_utf8_lossy(&bytes[..read]);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heard
        });
        let outcome = check(target.port()).ask(target).await;
        let hide = |text: String| text.replace(&target.to_string(), "ADDRESS");
        let heard = tokio::time::timeout(Duration::from_secs(5), serving).await;
        (
            outcome.map(hide).map_err(hide),
            hide(heard.unwrap().unwrap()),
        )
    }

    fn http(ask: Http) -> impl Fn(u16) -> Check {
        move |port| Check {
            source: "label".to_owned(),
            port,
            timeout: Duration::from_secs(5),
            ask: Ask::Http(ask.clone()),
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn any_answer_of_2xx_or_3xx_passes_unless_one_status_is_given() {
        let up = Http::get("/up");
        let (outcome, _) = asked(http(up.clone()), &[OK]).await;
        assert_eq!(
            outcome.unwrap(),
            "GET http://ADDRESS/up is answered with 200"
        );
        let (outcome, _) = asked(http(up.clone()), &[MISSING]).await;
        let why = "GET http://ADDRESS/up is answered with 404";
        assert_eq!(outcome.unwrap_err(), why);
        let status = Some(404);
        let (outcome, _) = asked(
            http(Http {
                status,
                ..up.clone()
            }),
            &[MISSING],
        )
        .await;
        assert!(outcome.is_ok());
        let (outcome, _) = asked(http(Http { status, ..up }), &[OK]).await;
        assert!(outcome.unwrap_err().ends_with("200, not with 404"));
    }

    #[tokio::test]
    async fn the_request_has_the_method_the_host_and_the_headers_that_are_given() {
        let ask = Http {
            method: "HEAD".to_owned(),
            host: Some("shop.test".to_owned()),
            headers: [("X-Probe".to_owned(), "1".to_owned())].into(),
            ..Http::get("/up?deep=1")
        };
        let (outcome, heard) = asked(http(ask), &[OK]).await;
        outcome.unwrap();
        assert!(heard.starts_with("HEAD /up?deep=1 HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("host: shop.test\r\n"), "{heard}");
        assert!(heard.contains("x-probe: 1\r\n"), "{heard}");
    }

    #[tokio::test]
    async fn a_redirect_is_followed_while_it_leads_to_the_replica() {
        let to = |place: &str| {
            format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
        };
        let follow = Http {
            follow: true,
            host: Some("shop.test".to_owned()),
            ..Http::get("/up")
        };
        let (outcome, heard) = asked(http(follow.clone()), &[&to("/ready"), MISSING]).await;
        assert!(outcome.unwrap_err().ends_with("404"));
        assert!(heard.contains("GET /ready "), "{heard}");
        let (outcome, _) = asked(http(follow.clone()), &[&to("http://shop.test/ready"), OK]).await;
        assert!(outcome.unwrap().ends_with("200"));
        let (outcome, _) = asked(http(follow.clone()), &[&to("https://shop.test/up")]).await;
        assert!(
            outcome
                .unwrap()
                .ends_with("redirects to https://shop.test/up")
        );
        let stays = Http {
            follow: false,
            ..follow
        };
        let (outcome, _) = asked(http(stays), &[&to("/ready")]).await;
        assert!(outcome.unwrap().ends_with("302"));
    }

    #[tokio::test]
    async fn too_many_redirects_fail() {
        let round = "HTTP/1.1 302 Found\r\nLocation: /up\r\nContent-Length: 0\r\n\r\n";
        let follow = Http {
            follow: true,
            ..Http::get("/up")
        };
        let (outcome, heard) = asked(http(follow), &[round; MOST_REDIRECTS]).await;
        assert!(outcome.unwrap_err().ends_with("redirects without an end"));
        assert_eq!(heard.matches("GET /up ").count(), MOST_REDIRECTS);
    }

    #[tokio::test]
    async fn a_tcp_check_compares_what_it_reads_with_what_is_expected() {
        let tcp = |expect: &str| {
            let ask = Ask::Tcp {
                send: "PING\n".to_owned(),
                expect: expect.to_owned(),
            };
            move |port| Check {
                ask: ask.clone(),
                ..http(Http::get("/"))(port)
            }
        };
        let (outcome, heard) = asked(tcp("+PONG"), &["+PONG\r\n"]).await;
        assert_eq!(outcome.unwrap(), "tcp://ADDRESS answers as expected");
        assert_eq!(heard, "PING\n");
        let (outcome, _) = asked(tcp("+PONG"), &["-LOADING"]).await;
        assert!(
            outcome
                .unwrap_err()
                .ends_with("answers \"-LOAD\", not \"+PONG\"")
        );
    }

    #[tokio::test]
    async fn no_answer_in_time_does_not_pass() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let check = Check {
            timeout: Duration::from_millis(50),
            ..http(Http::get("/up"))(target.port())
        };
        let why = check.ask(target).await.unwrap_err();
        assert!(why.ends_with("is not answered within 50ms"), "{why}");
    }

    const MOVED: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /ready\r\nContent-Length: 2\r\n\r\nok";

    /// The status of an answer over a connection in memory.
    fn answered_with(answer: Vec<u8>) -> Result<u16, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                arbitrary::answer(&mut theirs, &answer).await;
            });
            let asked = Http::get("/up")
                .over(ours, ([127, 0, 0, 1], 80).into())
                .await;
            asked.map(|response| response.status().as_u16())
        })
    }

    proptest! {
        #[test]
        fn any_bytes_of_an_answer_are_a_status_or_no_http(answer in mutated(MOVED)) {
            match answered_with(answer.clone()) {
                Ok(status) => {
                    let digits = status.to_string();
                    prop_assert!(answer.windows(3).any(|three| three == digits.as_bytes()), "{}", digits);
                }
                Err(why) => prop_assert!(why == FOREIGN && answer != MOVED, "{}", why),
            }
        }

        #[test]
        fn a_redirect_to_any_location_is_followed_to_the_replica_alone(
            location in mutated_text("http://shop.test/ready?a=b#c"), status in 300..309_u16,
        ) {
            let target = ([10, 0, 0, 2], 80).into();
            let ask = Http { host: Some("shop.test".to_owned()), follow: true, ..Http::get("/up") };
            if let Some(next) = ask.moved(target, status, &location) {
                prop_assert!(next.path.starts_with('/') && next.request(target).is_ok(), "{:?}", next);
                prop_assert_eq!(&next, &Http { path: next.path.clone(), ..ask });
            }
        }

        #[test]
        fn a_check_with_values_of_any_type_is_refused_or_reads_back(
            check in replaced(serde_json::json!(http(Http { host: Some("a".to_owned()), ..Http::get("/up") })(80))),
        ) {
            if let Ok(check) = check.to_string().parse::<Check>() {
                let [_, again] = check.argument();
                if let Ask::Http(http) = &check.ask
                    && let Ok(request) = http.request(([10, 0, 0, 2], check.port).into())
                {
                    prop_assert_eq!(request.method().as_str(), &http.method);
                }
                prop_assert_eq!(again.parse::<Check>().unwrap(), check);
            }
        }
    }
}
