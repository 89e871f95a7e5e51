//! Host names in an empty image: a static C library cannot resolve there, so the name server is asked directly.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Resolves `host:port`, where the host may be an address.
pub async fn resolve(target: &str) -> std::io::Result<SocketAddr> {
    if let Ok(address) = target.parse() {
        return Ok(address);
    }
    let (host, port) = target
        .rsplit_once(':')
        .ok_or_else(|| invalid("expected HOST:PORT"))?;
    let port = port.parse().map_err(|_| invalid("not a port"))?;
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect((name_server()?, 53)).await?;
    socket.send(&question(host)).await?;
    let mut answer = [0; 512];
    let length = timeout(Duration::from_secs(2), socket.recv(&mut answer)).await??;
    let address = first_address(&answer[..length])
        .ok_or_else(|| invalid(&format!("{host} has no address")))?;
    Ok(SocketAddr::new(IpAddr::V4(address), port))
}

fn name_server() -> std::io::Result<IpAddr> {
    let file = std::fs::read_to_string("/etc/resolv.conf")?;
    let servers = file
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "));
    servers
        .filter_map(|server| server.trim().parse().ok())
        .next()
        .ok_or_else(|| invalid("no name server in /etc/resolv.conf"))
}

/// A query for the A record of `host`, with recursion desired.
fn question(host: &str) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

fn first_address(answer: &[u8]) -> Option<Ipv4Addr> {
    let records = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    let mut at = skip_name(answer, 12)? + 4;
    for _ in 0..records {
        at = skip_name(answer, at)?;
        let fixed = answer.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = answer.get(at + 10..at + 10 + length)?;
        if fixed[..4] == [0, 1, 0, 1] {
            return <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
        }
        at += 10 + length;
    }
    None
}

/// The position after a name, which ends in an empty label or in a pointer.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
