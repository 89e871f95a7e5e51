//! A child process as a stream of bytes, with the lines of its standard error.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// Lines of standard error that are kept, the last ones.
const MAX_LINES: usize = 50;
/// In bytes; the rest of a longer line counts as the next one.
const MAX_LINE: u64 = 8 * 1024;
/// For a child that has closed its output to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Standard input and output of a child, which is killed on drop.
pub struct ChildStream {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: JoinHandle<Vec<String>>,
}

impl ChildStream {
    pub fn start(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The connection must survive a Ctrl-C on the terminal, which the rollout handles.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let unpiped = || io::Error::other("no standard streams");
        Ok(Self {
            input: Some(child.stdin.take().ok_or_else(unpiped)?),
            output: child.stdout.take().ok_or_else(unpiped)?,
            errors: tokio::spawn(lines(child.stderr.take().ok_or_else(unpiped)?)),
            child,
        })
    }

    /// The lines of standard error of a child that has closed its output.
    pub async fn end(mut self) -> Vec<String> {
        drop(self.input.take());
        let _ = timeout(EXIT_TIMEOUT, self.child.wait()).await;
        let errors = timeout(EXIT_TIMEOUT, self.errors).await;
        errors.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Reads to the end: a child that nothing reads from stops when the pipe is full.
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
        tracing::debug!(target: "rollout::docker", "{text}");
        if !text.is_empty() {
            kept.push(text);
            kept.drain(..kept.len().saturating_sub(MAX_LINES));
        }
        line.clear();
    }
    kept
}

impl AsyncRead for ChildStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for ChildStream {
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

    /// Closes the child's input; its output stays open.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::arbitrary::mutated;

    #[tokio::test]
    async fn endless_errors_are_kept_within_bounds() {
        let endless = tokio::io::repeat(b'x').take(MAX_LINE * 200);
        let kept = lines(endless).await;
        assert_eq!(kept.len(), MAX_LINES);
        assert!(kept.iter().all(|line| line.len() as u64 <= MAX_LINE));
    }

    proptest! {
        #[test]
        fn any_bytes_of_standard_error_are_lines_of_text(
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
