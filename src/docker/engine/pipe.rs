//! A program in a container as one stream of bytes, through `docker exec`.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bollard::container::LogOutput;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::StreamReader;

use super::{
    Engine,
    session::{Output, push_tail},
};
use crate::error::Result;

/// A program's standard input and output as one stream of bytes.
pub struct Pipe {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn AsyncRead + Send>>,
    errors: Arc<Mutex<String>>,
}

impl Pipe {
    fn new(input: Pin<Box<dyn AsyncWrite + Send>>, output: Output) -> Self {
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = errors.clone();
        let bytes = output.filter_map(move |chunk| {
            let chunk = match chunk {
                Ok(LogOutput::StdErr { message }) => {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    push_tail(&mut kept, &String::from_utf8_lossy(&message));
                    None
                }
                Ok(other) => Some(Ok(other.into_bytes())),
                Err(error) => Some(Err(std::io::Error::other(error))),
            };
            std::future::ready(chunk)
        });
        Self {
            input,
            output: Box::pin(StreamReader::new(bytes)),
            errors,
        }
    }

    /// The end of its standard error so far.
    pub fn errors(&self) -> String {
        let errors = self.errors.lock();
        errors.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.output.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.input.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.input.as_mut().poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.input.as_mut().poll_shutdown(context)
    }
}

impl Engine {
    /// Runs a command in a running container and returns its standard input and output.
    pub async fn exec_pipe(&self, container: &str, command: Vec<String>) -> Result<Pipe> {
        let (input, output) = self.attached_exec(container, command).await?;
        Ok(Pipe::new(input, output))
    }
}
