//! `--control`, which `docker exec` runs: copies standard input to the control socket and its replies to standard output.
//! And `--check`, the health check of the image.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use nix::unistd::{Gid, Uid, geteuid, setgid, setuid};

use crate::{
    error::{Error, Result},
    overlay::control::{Answer, Call, Outcome, Response},
};

const CHECK: Duration = Duration::from_secs(5);
/// The most that the health check reads of an answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Copies requests and replies until standard input ends and the last reply has arrived.
pub fn pass(path: &Path) -> Result<()> {
    let socket = connect(path)?;
    let failed = |error: io::Error| Error::failed(format!("the control socket broke: {error}"));
    let requests = socket.try_clone().map_err(failed)?;
    std::thread::spawn(move || {
        // After an error the replies end.
        let _ = io::copy(&mut io::stdin().lock(), &mut &requests);
        let _ = requests.shutdown(std::net::Shutdown::Write);
    });
    let mut replies = BufReader::new(socket);
    let mut out = io::stdout().lock();
    let mut line = Vec::new();
    while replies.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        out.write_all(&line)
            .and_then(|()| out.flush())
            .map_err(failed)?;
        line.clear();
    }
    Ok(())
}

// Only its owner can use the socket. Root without CAP_DAC_OVERRIDE has to become that user.
fn connect(path: &Path) -> Result<UnixStream> {
    let mut connected = UnixStream::connect(path);
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if connected.as_ref().is_err_and(denied) && geteuid().is_root() {
        // The directory has the same owner and is as private as the socket.
        let owner = std::fs::metadata(path.parent().unwrap_or(path));
        let owner = owner.map(|directory| (directory.gid(), directory.uid()));
        if let Ok((gid, uid)) = owner
            && setgid(Gid::from_raw(gid)).is_ok()
            && setuid(Uid::from_raw(uid)).is_ok()
        {
            connected = UnixStream::connect(path);
        }
    }
    connected.map_err(|error| {
        let message = format!(
            "cannot reach the socket proxy at {}: {error}",
            path.display()
        );
        Error::failed(message).hint("is `rollout socket-proxy` running in this container?")
    })
}

/// Succeeds if the daemon answers on its port and reaches the engine.
pub fn check(path: &Path, listen: SocketAddr) -> Result<()> {
    // The daemon reports where it listens; the arguments of this process may differ.
    let address = hello(path).unwrap_or(listen);
    let failed = |error: io::Error| Error::failed(format!("no answer on {address}: {error}"));
    let mut stream = TcpStream::connect_timeout(&reachable(address), CHECK).map_err(failed)?;
    stream.set_read_timeout(Some(CHECK)).map_err(failed)?;
    let request = "GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream
        .take(MAX_ANSWER)
        .read_to_string(&mut answer)
        .map_err(failed)?;
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => {
            let why = answer.lines().last().unwrap_or("nothing was answered");
            Err(Error::failed(format!("not healthy: {why}")))
        }
    }
}

fn hello(path: &Path) -> Option<SocketAddr> {
    let mut socket = connect(path).ok()?;
    socket.set_read_timeout(Some(CHECK)).ok()?;
    let request = serde_json::to_string(&Call::Hello.request()).ok()?;
    writeln!(socket, "{request}").ok()?;
    let mut line = String::new();
    BufReader::new(socket.take(MAX_ANSWER))
        .read_line(&mut line)
        .ok()?;
    let response: Response = serde_json::from_str(&line).ok()?;
    match response.outcome {
        Outcome::Ok(Answer::Hello(hello)) => hello.listen.parse().ok(),
        _ => None,
    }
}

// A daemon that listens on every address listens on loopback too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener, thread};

    use super::*;

    // Reads nothing, and writes until the connection is closed.
    fn write_without_end(mut stream: impl Write) {
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    }

    #[test]
    fn the_health_check_reads_only_the_beginning_of_answers_without_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let control = UnixListener::bind(&path).unwrap();
        let readers = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = readers.local_addr().unwrap();
        let endless = [
            thread::spawn(move || write_without_end(control.accept().unwrap().0)),
            thread::spawn(move || write_without_end(readers.accept().unwrap().0)),
        ];
        let error = check(&path, listen).unwrap_err();
        let read = error.message.matches('x').count();
        assert_eq!(read as u64, MAX_ANSWER);
        for writing in endless {
            writing.join().unwrap();
        }
    }
}
