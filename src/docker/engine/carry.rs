//! Carries a local connection to a command in a container, through `docker exec`.

use bollard::container::LogOutput;
use futures_util::StreamExt;
use tokio::{
    io::{AsyncWriteExt, copy},
    net::UnixStream,
};

use super::{Engine, session::push_tail};
use crate::error::{Error, Result};

impl Engine {
    /// Ends with the command or the connection; what the command writes to standard error is the error.
    pub async fn carry(
        &self,
        stream: &mut UnixStream,
        container: &str,
        command: Vec<String>,
    ) -> Result<()> {
        let (mut input, mut output) = self.attached_exec(container, command).await?;
        let (mut from, mut to) = stream.split();
        let mut errors = String::new();
        let receiving = async {
            while let Some(Ok(chunk)) = output.next().await {
                match chunk {
                    LogOutput::StdErr { message } => {
                        push_tail(&mut errors, &String::from_utf8_lossy(&message));
                    }
                    other => to.write_all(&other.into_bytes()).await?,
                }
            }
            std::io::Result::Ok(())
        };
        tokio::select! {
            // A command that has ended takes no more input; its output says why.
            Ok(_) = copy(&mut from, &mut input) => {}
            _ = receiving => {}
        }
        match errors.trim() {
            "" => Ok(()),
            why => Err(Error::failed(why)),
        }
    }
}
