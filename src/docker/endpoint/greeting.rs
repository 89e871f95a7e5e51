//! A first `HEAD /_ping` on a new connection: a child process that carries it starts even if no engine answers.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Its answer has no body, so the connection is unused after it.
const PING: &[u8] = b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";
/// In bytes.
const MAX_HEAD: usize = 8 * 1024;

#[derive(Debug)]
pub enum Failure {
    /// The connection ended before an answer.
    Closed,
    /// The first line of something else than an answer.
    Foreign(String),
}

/// Sends the request, and reads the answer's head.
pub async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Failure> {
    // A peer that closes at once may still have sent a line, so the reading decides.
    let _ = stream.write_all(PING).await;
    let _ = stream.flush().await;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut part).await.unwrap_or(0);
        if read == 0 && head.is_empty() {
            return Err(Failure::Closed);
        }
        head.extend_from_slice(&part[..read]);
        if read == 0 || head.len() > MAX_HEAD || !looks_like_http(&head) {
            return Err(Failure::Foreign(first_line(&head)));
        }
    }
    match is_kept_open(&head) {
        true => Ok(()),
        false => Err(Failure::Foreign(first_line(&head))),
    }
}

fn looks_like_http(head: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let length = head.len().min(start.len());
    head[..length] == start[..length]
}

fn is_kept_open(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    !text.lines().any(|line| line == "connection: close")
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let printable = |c: &char| !c.is_control();
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(printable).take(120).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated;

    async fn greeted_with(answer: &'static [u8]) -> Result<(), Failure> {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut ping = vec![0; PING.len()];
            theirs.read_exact(&mut ping).await.unwrap();
            theirs.write_all(answer).await.unwrap();
        });
        greet(&mut ours).await
    }

    #[tokio::test]
    async fn only_an_engines_answer_is_accepted() {
        let engine = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 0\r\n\r\n";
        assert!(greeted_with(engine).await.is_ok());
        let motd = greeted_with(b"Welcome to far\r\nLast login: never\r\n").await;
        assert!(matches!(motd, Err(Failure::Foreign(line)) if line == "Welcome to far"));
        let closing = greeted_with(b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        assert!(
            matches!(closing, Err(Failure::Foreign(line)) if line == "HTTP/1.0 400 Bad Request")
        );
        assert!(matches!(greeted_with(b"").await, Err(Failure::Closed)));
    }

    proptest! {
        #[test]
        fn any_answer_is_an_engines_or_is_shown_in_one_short_line(
            answer in mutated(b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 0\r\n\r\n"),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let greeted = runtime.block_on(async {
                let (mut ours, mut theirs) = tokio::io::duplex(1024);
                theirs.write_all(&answer).await.unwrap();
                theirs.shutdown().await.unwrap();
                greet(&mut ours).await
            });
            match greeted {
                Ok(()) => prop_assert!(answer.starts_with(b"HTTP/1.")),
                Err(Failure::Foreign(line)) => {
                    prop_assert!(line.chars().count() <= 120 && !line.contains(char::is_control), "{}", line);
                }
                Err(_) => prop_assert!(answer.is_empty()),
            }
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let endless: &[u8] = Box::leak(
            [&b"HTTP/1.1 200 OK\r\n"[..], &[b'x'; 64 * 1024]]
                .concat()
                .into(),
        );
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let sent = tokio::spawn(async move { theirs.write_all(endless).await });
        assert!(matches!(greet(&mut ours).await, Err(Failure::Foreign(_))));
        drop(ours);
        assert!(sent.await.unwrap().is_err());
    }
}
