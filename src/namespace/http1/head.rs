//! Collects the head of a message and reads from it where the message ends.

use httparse::{EMPTY_HEADER, Header, Request, Response, Status};

use super::OutOfSync;
use super::body::{Body, Chunked};
use super::take_line;

/// A head with more headers is not read.
const MOST_HEADERS: usize = 256;

/// What a request says about the end of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    head: bool,
    connect: bool,
}

/// What the head of an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 1xx: the answer is still to come.
    Interim,
    /// From here on the connection does not speak HTTP/1.1.
    Tunnel,
    /// The answer itself; `endless` if its body is not meant to end.
    Final {
        /// The first digit of its status.
        class: u16,
        body: Option<Body>,
        endless: bool,
    },
}

/// The part of a head that has arrived.
#[derive(Debug, Default)]
pub struct HeadReader(Vec<u8>);

impl HeadReader {
    /// Takes the head's bytes from the front of `bytes`, and returns the head when it is complete. Empty lines before a
    /// head are skipped (RFC 9112, section 2.2).
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, OutOfSync> {
        while !bytes.is_empty() {
            take_line(&mut self.0, bytes)?;
            // The first byte shows that TLS and binary protocols are no HTTP; their first line may never end.
            let first = Request::new(&mut []).parse(&self.0[..1]);
            first.map_err(|_| OutOfSync)?;
            if matches!(self.0.as_slice(), b"\r\n" | b"\n") {
                self.0.clear();
            } else if self.0.ends_with(b"\n\r\n") || self.0.ends_with(b"\n\n") {
                return Ok(Some(std::mem::take(&mut self.0)));
            }
        }
        Ok(None)
    }

    pub fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whether a segment from the client can only be the beginning of an HTTP/1.1 request. Text inside an upload may look
/// like a head too, so this is stricter than the standard.
pub fn begins_request(bytes: &[u8]) -> bool {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    let is_head = request.parse(bytes).is_ok();
    let method = request.method.unwrap_or_default();
    let target = bytes.get(method.len() + 1);
    is_head
        && (3..=20).contains(&method.len())
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && target.is_some_and(|first| b"/*h".contains(first))
}

/// Reads the head of a request: what was asked, and the body that follows.
pub fn request(head: &[u8]) -> Result<(Asked, Option<Body>), OutOfSync> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    complete(request.parse(head))?;
    let asked = Asked {
        head: request.method == Some("HEAD"),
        connect: request.method == Some("CONNECT"),
    };
    Ok((asked, framing(request.headers)?.unwrap_or_default()))
}

/// Reads the head of an answer to `asked`; an answer without a request is read like one to a GET.
pub fn answer(head: &[u8], asked: Option<&Asked>) -> Result<Answer, OutOfSync> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = Response::new(&mut headers);
    complete(response.parse(head))?;
    let status = response.code.ok_or(OutOfSync)?;
    let connected = asked.is_some_and(|asked| asked.connect) && (200..300).contains(&status);
    let without_body = asked.is_some_and(|asked| asked.head) || matches!(status, 204 | 304);
    Ok(match status {
        101 => Answer::Tunnel,
        _ if connected => Answer::Tunnel,
        100..200 => Answer::Interim,
        _ if without_body => Answer::Final {
            class: status / 100,
            body: None,
            endless: false,
        },
        _ => Answer::Final {
            class: status / 100,
            body: framing(response.headers)?.unwrap_or(Some(Body::UntilClose)),
            endless: is_endless(response.headers),
        },
    })
}

fn complete(parsed: httparse::Result<usize>) -> Result<(), OutOfSync> {
    match parsed {
        Ok(Status::Complete(_)) => Ok(()),
        Ok(Status::Partial) | Err(_) => Err(OutOfSync),
    }
}

/// What the headers say about the body: `None` for nothing, `Some(None)` for an empty one.
fn framing(headers: &[Header<'_>]) -> Result<Option<Option<Body>>, OutOfSync> {
    let chunked = |value: &[u8]| value.to_ascii_lowercase().ends_with(b"chunked");
    if header(headers, "transfer-encoding").is_some_and(chunked) {
        return Ok(Some(Some(Body::Chunked(Chunked::default()))));
    }
    let Some(length) = header(headers, "content-length") else {
        return Ok(None);
    };
    let length = std::str::from_utf8(length).ok();
    let length: u64 = length.and_then(|text| text.parse().ok()).ok_or(OutOfSync)?;
    Ok(Some((length > 0).then_some(Body::Counted(length))))
}

/// Types of answers that go on until one side closes: server-sent events, and the pictures of a camera.
fn is_endless(headers: &[Header<'_>]) -> bool {
    header(headers, "content-type").is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.starts_with(b"text/event-stream") || value.starts_with(b"multipart/x-mixed-replace")
    })
}

fn header<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut named = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    named.next().map(|header| header.value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_first_segment() {
        for request in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"OPTIONS * HTTP/1.1\r\n",
            b"POST http://web/ HTTP/1.0\r\n",
            b"GET /a-target-that-is-longer-than-the-segment",
            b"GET /cut HTTP/1",
        ] {
            assert!(begins_request(request), "{request:?}");
        }
        for other in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"GET",
            b"get / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SELECT 1\r\n",
            b"{\"json\": 1}",
            b"GET / \r\n",
            b"GET / HTTP/1.1\r\nno header\r\n",
            b"HELLO this is text",
        ] {
            assert!(!begins_request(other), "{other:?}");
        }
    }

    #[test]
    fn the_head_decides_where_the_answer_ends() {
        let get = Asked {
            head: false,
            connect: false,
        };
        let body = |head: &str| match answer(head.as_bytes(), Some(&get)) {
            Ok(Answer::Final { body, .. }) => body,
            other => panic!("{other:?}"),
        };
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n"), Some(Body::UntilClose));
        assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n"), None);
        assert_eq!(body("HTTP/1.1 304\r\nContent-Length: 9\r\n\r\n"), None);
        assert_eq!(
            body("HTTP/1.1 200\r\nCONTENT-LENGTH:  9 \r\n\r\n"),
            Some(Body::Counted(9))
        );
        assert_eq!(body("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), None);
        let both = "HTTP/1.1 200\r\nContent-Length: 9\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";
        assert_eq!(body(both), Some(Body::Chunked(Chunked::default())));
    }

    #[test]
    fn an_answer_that_is_no_answer_is_out_of_sync() {
        for wrong in [
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(answer(wrong.as_bytes(), None), Err(OutOfSync), "{wrong}");
        }
        for wrong in [
            "Content-Length: many",
            "A: folded\r\n line",
            "Content-Length : 5",
            &"A: b\r\n".repeat(MOST_HEADERS + 1),
        ] {
            let head = format!("HTTP/1.1 200\r\n{wrong}\r\n\r\n");
            assert_eq!(answer(head.as_bytes(), None), Err(OutOfSync), "{wrong}");
        }
    }
}
