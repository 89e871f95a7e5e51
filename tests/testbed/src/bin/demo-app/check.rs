//! The image's own health check: asks the running application, in whatever protocol it speaks.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use crate::settings::{Mode, Settings};

const PATIENCE: Duration = Duration::from_millis(900);

pub fn run(settings: &Settings, url: Option<&str>) -> ExitCode {
    let address = format!("127.0.0.1:{}", settings.port);
    let result = match settings.mode {
        Mode::Http => http(&address, url),
        Mode::Tcp => tcp(&address),
        Mode::Udp => udp(&address),
    };
    match result {
        Ok(()) => {
            println!("healthy");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("unhealthy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn http(address: &str, url: Option<&str>) -> Result<(), String> {
    let given = url.and_then(|url| url.strip_prefix("http://"));
    if url.is_some() && given.is_none() {
        return Err("the URL must begin with http://".into());
    }
    let (address, path) = match given {
        Some(rest) => rest
            .find('/')
            .map_or((rest, "/health"), |slash| rest.split_at(slash)),
        None => (address, "/health"),
    };
    let mut stream = connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut head = [0; 12];
    stream
        .read_exact(&mut head)
        .map_err(|error| error.to_string())?;
    let head = String::from_utf8_lossy(&head);
    if head.ends_with(" 200") {
        Ok(())
    } else {
        Err(format!("answered {head}"))
    }
}

fn tcp(address: &str) -> Result<(), String> {
    let mut greeting = [0; 1];
    connect(address)?
        .read_exact(&mut greeting)
        .map_err(|error| error.to_string())
}

fn udp(address: &str) -> Result<(), String> {
    let ask = || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"check", address)?;
        socket.recv(&mut [0; 512])
    };
    ask()
        .map(drop)
        .map_err(|error: std::io::Error| error.to_string())
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| error.to_string())?;
    Ok(stream)
}
