//! Collects the head of a message and reads from it what decides where the message ends.

use super::OutOfSync;
use super::body::{Body, Chunk};

/// Servers refuse longer heads; what has no end by then is no head.
const LONGEST_HEAD: usize = 128 * 1024;

/// What of a request decides how its answer ends.
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
    /// From here on it is no HTTP/1.1.
    Tunnel,
    /// The answer, whose body is still to come; `endless` when it is not meant to end.
    Final { body: Option<Body>, endless: bool },
}

/// The part of a head that has come so far.
#[derive(Debug, Default)]
pub struct HeadReader(Vec<u8>);

impl HeadReader {
    /// Takes from the front of `bytes` what belongs to the head, and gives it when it is complete. Empty lines before
    /// it are no part of it (RFC 9112, section 2.2).
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, OutOfSync> {
        while !bytes.is_empty() {
            let break_at = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(break_at.map_or(bytes.len(), |at| at + 1));
            *bytes = rest;
            self.0.extend_from_slice(line);
            if !self
                .0
                .first()
                .is_some_and(|first| b"\r\n".contains(first) || begins_line(*first))
                || self.0.len() > LONGEST_HEAD
            {
                return Err(OutOfSync);
            }
            if matches!(self.0.as_slice(), b"\r\n" | b"\n") {
                self.0.clear();
            } else if self.0.ends_with(b"\n\r\n") || self.0.ends_with(b"\n\n") {
                return Ok(Some(std::mem::take(&mut self.0)));
            }
        }
        Ok(None)
    }

    /// Whether part of a head has come.
    pub fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Methods and `HTTP/1.1` alike begin with a token character (RFC 9110, section 5.6.2).
fn begins_line(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether bytes from the client can be nothing but the beginning of an HTTP/1.1 request.
pub fn begins_request(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let is_whole = line.len() < bytes.len();
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let method_fits = method.is_some_and(|method| {
        (3..=20).contains(&method.len()) && method.iter().all(u8::is_ascii_uppercase)
    });
    let target_fits = target.is_some_and(|target| {
        target.first().is_some_and(|first| b"/*h".contains(first))
            && target.iter().all(u8::is_ascii_graphic)
    });
    // A target longer than a segment has its version in the next one.
    let version_fits = match version {
        Some(version) if is_whole => version.starts_with(b"HTTP/1."),
        Some(version) => b"HTTP/1.1\r".starts_with(version),
        None => !is_whole,
    };
    method_fits && target_fits && version_fits
}

/// Reads the head of a request: what was asked, and the body that follows.
pub fn request(head: &[u8]) -> Result<(Asked, Option<Body>), OutOfSync> {
    let line = lines(head).next().ok_or(OutOfSync)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    if !parts
        .next_back()
        .is_some_and(|version| version.starts_with(b"HTTP/1."))
    {
        return Err(OutOfSync);
    }
    let asked = Asked {
        head: method == b"HEAD",
        connect: method == b"CONNECT",
    };
    Ok((asked, framing(head)?.unwrap_or_default()))
}

/// Reads the head of an answer to `asked`; an answer to nothing is read like one to a GET.
pub fn answer(head: &[u8], asked: Option<&Asked>) -> Result<Answer, OutOfSync> {
    let line = lines(head).next().ok_or(OutOfSync)?;
    let status = line
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5));
    let status: u16 = status
        .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok())
        .ok_or(OutOfSync)?;
    let connected = asked.is_some_and(|asked| asked.connect) && (200..300).contains(&status);
    let without_body = asked.is_some_and(|asked| asked.head) || matches!(status, 204 | 304);
    Ok(match status {
        101 => Answer::Tunnel,
        _ if connected => Answer::Tunnel,
        100..200 => Answer::Interim,
        _ if without_body => Answer::Final {
            body: None,
            endless: false,
        },
        _ => Answer::Final {
            body: framing(head)?.unwrap_or(Some(Body::UntilClose)),
            endless: is_endless(head),
        },
    })
}

/// What the headers say about the body: `None` for nothing, `Some(None)` for an empty one.
fn framing(head: &[u8]) -> Result<Option<Option<Body>>, OutOfSync> {
    let chunked = |value: &[u8]| value.to_ascii_lowercase().ends_with(b"chunked");
    if header(head, b"transfer-encoding").is_some_and(chunked) {
        return Ok(Some(Some(Body::Chunked(Chunk::START))));
    }
    let Some(length) = header(head, b"content-length") else {
        return Ok(None);
    };
    let length = std::str::from_utf8(length).ok();
    let length: u64 = length.and_then(|text| text.parse().ok()).ok_or(OutOfSync)?;
    Ok(Some((length > 0).then_some(Body::Counted(length))))
}

/// Types of answers that go on until someone leaves: server-sent events, and the pictures of a camera.
fn is_endless(head: &[u8]) -> bool {
    header(head, b"content-type").is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.starts_with(b"text/event-stream") || value.starts_with(b"multipart/x-mixed-replace")
    })
}

fn header<'a>(head: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    lines(head).skip(1).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.eq_ignore_ascii_case(wanted)
            .then(|| value.trim_ascii())
    })
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
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
        assert_eq!(body(both), Some(Body::Chunked(Chunk::START)));
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
        let length = b"HTTP/1.1 200\r\nContent-Length: many\r\n\r\n";
        assert_eq!(answer(length, None), Err(OutOfSync));
    }
}
