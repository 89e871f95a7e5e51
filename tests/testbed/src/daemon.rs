//! `rollout socket-proxy` as a process of this machine, its control socket, and plain HTTP to it.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{binary, wait::eventually};

/// The engine's socket.
pub const ENGINE: &str = "/var/run/docker.sock";

/// One daemon; it is killed when this is dropped.
pub struct Daemon {
    child: Child,
    state: TempDir,
    /// Where readers connect.
    pub listen: SocketAddr,
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(options: &[&str]) -> Self {
        Self::on_with(tempfile::tempdir().unwrap(), options).await
    }

    /// Starts on the state that another daemon has left.
    pub async fn on(state: TempDir) -> Self {
        Self::on_with(state, &[]).await
    }

    async fn on_with(state: TempDir, more: &[&str]) -> Self {
        let options = [
            "socket-proxy",
            "--listen",
            "127.0.0.1:0",
            "--socket",
            ENGINE,
        ];
        let mut command = Command::new(binary());
        command
            .args(options)
            .args(more)
            .arg("--state-dir")
            .arg(state.path())
            .stderr(Stdio::null());
        let child = command.spawn().expect("rollout starts");
        let hello = eventually("the daemon answers", Duration::from_secs(30), async || {
            control(state.path(), &[json!({"call": "hello"})])
        })
        .await;
        let listen = hello[0]["ok"]["hello"]["listen"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            state,
            listen,
        }
    }

    /// Calls on the control socket, one after another.
    pub fn control(&self, calls: &[Value]) -> Vec<Value> {
        control(self.state.path(), calls).expect("the control socket answers")
    }

    /// Sends bytes to the control socket as they are, and reads until it ends.
    pub fn raw_control(&self, bytes: &[u8]) -> String {
        let socket = UnixStream::connect(self.state.path().join("control.sock")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        exchange(socket, bytes)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end of the process, 30 s at most.
    pub async fn exits(mut self) -> ExitStatus {
        eventually("the daemon ends", Duration::from_secs(30), async || {
            self.child.try_wait().unwrap().ok_or("it runs")
        })
        .await
    }

    /// Sends a signal and waits for the end of the process; its state.
    pub fn end(mut self, signal: Signal) -> TempDir {
        self.signal(signal);
        self.child.wait().unwrap();
        std::mem::replace(&mut self.state, tempfile::tempdir().unwrap())
    }

    /// An event stream that is open, with status 200.
    pub fn events(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
            .write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
            .unwrap();
        let mut events = BufReader::new(stream);
        let mut status = String::new();
        events.read_line(&mut status).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        events
    }

    /// GETs a path; the status and the JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
        let answer = self.raw(request.as_bytes());
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (
            status(&answer),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    /// Sends bytes as they are, and reads until the connection ends.
    pub fn raw(&self, request: &[u8]) -> String {
        let stream = TcpStream::connect(self.listen).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        exchange(stream, request)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> String {
    // A refusal may come, and the connection end, before everything is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let timed_out = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
        assert!(!timed_out, "the connection did not end: {answer:?}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn control(state: &Path, calls: &[Value]) -> std::io::Result<Vec<Value>> {
    let mut socket = UnixStream::connect(state.join("control.sock"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut replies = BufReader::new(socket.try_clone()?);
    let mut answers = Vec::new();
    for call in calls {
        let mut call = call.clone();
        call["control"] = json!(1);
        writeln!(socket, "{call}")?;
        let mut line = String::new();
        replies.read_line(&mut line)?;
        answers.push(serde_json::from_str(&line)?);
    }
    Ok(answers)
}

/// The status of an answer that has a status line, else 0.
pub fn status(answer: &str) -> u16 {
    let code = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}
