//! A dummy database that greets once and falls silent, and the idle connection an application holds to it.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::resolve::resolve;
use crate::settings::Settings;

const GREETING: &[u8] = b"demo-db ready\n";

pub async fn serve(settings: &Settings) -> std::io::Result<()> {
    let listener = TcpListener::bind((settings.bind, settings.port)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    settings.log(&format!("database listening on {}", listener.local_addr()?));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(greet_and_wait(stream));
                }
            }
            _ = terminate.recv() => return Ok(()),
        }
    }
}

async fn greet_and_wait(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(GREETING).await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Connects, takes the greeting, and keeps the connection open and idle until the process ends.
pub async fn connect(settings: &Settings, database: &str) -> std::io::Result<()> {
    let mut last = Error::new(ErrorKind::TimedOut, "not tried");
    for _ in 0..50 {
        match greeted(database).await {
            Ok(stream) => {
                settings.log(&format!("connected to the database at {database}"));
                tokio::spawn(hold(stream));
                return Ok(());
            }
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(Error::new(
        last.kind(),
        format!("no database at {database}: {last}"),
    ))
}

async fn greeted(database: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(resolve(database).await?).await?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).await?;
    Ok(stream)
}

async fn hold(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1]).await;
}
