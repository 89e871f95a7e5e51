//! TCP mode: greets with the version, then answers each line with the version and the line.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::settings::Settings;

pub async fn serve(
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind((settings.bind, settings.port)).await?;
    settings.log(&format!("listening on {} (tcp)", listener.local_addr()?));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, settings.clone()));
                }
            }
            _ = stopping.changed() => return Ok(()),
        }
    }
}

async fn connection(mut stream: TcpStream, settings: Arc<Settings>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    writer
        .write_all(format!("{}\n", settings.version).as_bytes())
        .await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        writer
            .write_all(format!("{} {line}\n", settings.version).as_bytes())
            .await?;
    }
    Ok(())
}
