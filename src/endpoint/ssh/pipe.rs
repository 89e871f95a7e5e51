//! A running ssh as a stream of bytes, and what it complains of.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf},
    process::{Child, ChildStdin, ChildStdout},
    task::JoinHandle,
    time::timeout,
};

/// Lines of complaint that are kept.
const MAX_LINES: usize = 50;
/// The longest of them, in bytes; the rest of a longer one counts as the next.
const MAX_LINE: u64 = 8 * 1024;

/// Standard input and output of ssh, which ends with this.
pub struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    complaint: JoinHandle<Vec<String>>,
}

impl Pipe {
    /// `None` where the child was started without pipes.
    pub fn new(mut child: Child) -> Option<Self> {
        Some(Self {
            input: Some(child.stdin.take()?),
            output: child.stdout.take()?,
            complaint: tokio::spawn(lines(child.stderr.take()?)),
            child,
        })
    }

    /// Its exit code and the lines of its standard error, once it has ended by itself.
    pub async fn end(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.input.take());
        let patience = Duration::from_secs(2);
        let status = timeout(patience, self.child.wait()).await;
        let said = timeout(patience, self.complaint).await;
        let code = status
            .ok()
            .and_then(Result::ok)
            .and_then(|status| status.code());
        (code, said.ok().and_then(Result::ok).unwrap_or_default())
    }
}

/// Read to the end, or ssh would wait for somebody to read.
async fn lines(stream: impl AsyncRead + Unpin) -> Vec<String> {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while (&mut reader)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        tracing::debug!(target: "rollout::ssh", "{text}");
        if kept.len() < MAX_LINES && !text.is_empty() {
            kept.push(text);
        }
        line.clear();
    }
    kept
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The far side sees the end of what is sent, and may go on answering.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        process::Command,
    };

    use super::*;
    use crate::arbitrary::mutated;

    fn pipe(script: &str) -> Pipe {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Pipe::new(child.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_end_of_what_is_sent_is_seen_and_answered() {
        let mut pipe = pipe("cat; echo end");
        pipe.write_all(b"there ").await.unwrap();
        pipe.shutdown().await.unwrap();
        let mut text = String::new();
        pipe.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "there end\n");
    }

    #[tokio::test]
    async fn exit_code_and_complaint_are_told() {
        let ended = pipe("echo one >&2; echo two >&2; exit 127").end().await;
        assert_eq!(ended, (Some(127), vec!["one".to_owned(), "two".to_owned()]));
    }

    #[tokio::test]
    async fn a_complaint_without_an_end_is_kept_in_bounds() {
        let endless = tokio::io::repeat(b'x').take(MAX_LINE * 200);
        let kept = lines(endless).await;
        assert_eq!(kept.len(), MAX_LINES);
        assert!(kept.iter().all(|line| line.len() as u64 <= MAX_LINE));
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_complaint_are_lines_of_text(
            bytes in mutated(b"Warning: x\r\n\n Permission denied (publickey).\n"),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let kept = runtime.block_on(lines(&bytes[..]));
            let text = String::from_utf8_lossy(&bytes);
            let expected: Vec<&str> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(kept, expected);
        }
    }
}
