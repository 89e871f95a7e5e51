//! Ten thousand inspects through the socket proxy and directly, and the ratio.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream as StdUnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

const INSPECTS: u32 = 10_000;
const ENGINE: &str = "/var/run/docker.sock";

type AnyError = Box<dyn std::error::Error>;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let container = container()?;
    let state = tempfile::tempdir()?;
    let (_daemon, address) = daemon(&state)?;
    let direct = UnixStream::connect(ENGINE).await?;
    let through = TcpStream::connect(address).await?;
    through.set_nodelay(true)?;
    let path = format!("/containers/{}/json", container.0);
    let direct = inspects(connect(direct).await?, &path).await?;
    let through = inspects(connect(through).await?, &path).await?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(INSPECTS);
    println!("{INSPECTS} inspects, one after another, on one connection");
    println!("directly                  {:8.1} µs each", each(direct));
    println!("through the socket proxy  {:8.1} µs each", each(through));
    println!(
        "ratio                     {:8.2}",
        through.as_secs_f64() / direct.as_secs_f64()
    );
    Ok(())
}

fn container() -> Result<Removed, AnyError> {
    let output = Command::new("docker")
        .args(["create", "rollout-demo:v1"])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let id = String::from_utf8(output.stdout)?;
    Ok(Removed(id.trim().to_owned()))
}

fn daemon(state: &tempfile::TempDir) -> Result<(Ended, String), AnyError> {
    let built = env!("CARGO_BIN_EXE_rollout").into();
    let binary = std::env::var_os("ROLLOUT_BIN").map_or(built, PathBuf::from);
    let child = Command::new(binary)
        .args([
            "socket-proxy",
            "--listen",
            "127.0.0.1:0",
            "--socket",
            ENGINE,
        ])
        .arg("--state-dir")
        .arg(state.path())
        .stderr(Stdio::null())
        .spawn()?;
    let child = Ended(child);
    let control = state.path().join("control.sock");
    for _ in 0..500 {
        std::thread::sleep(Duration::from_millis(10));
        let Ok(mut socket) = StdUnixStream::connect(&control) else {
            continue;
        };
        writeln!(socket, r#"{{"control":1,"call":"hello"}}"#)?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        let hello: serde_json::Value = serde_json::from_str(&line)?;
        let listen = hello["ok"]["hello"]["listen"].as_str();
        return Ok((child, listen.ok_or("no address")?.to_owned()));
    }
    Err("the socket proxy does not answer".into())
}

async fn connect<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, AnyError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn inspects(mut sender: SendRequest<Empty<Bytes>>, path: &str) -> Result<Duration, AnyError> {
    let start = Instant::now();
    for _ in 0..INSPECTS {
        let request = Request::get(path)
            .header("host", "docker")
            .body(Empty::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("{path} answered {}", response.status()).into());
        }
        response.into_body().collect().await?;
    }
    Ok(start.elapsed())
}
