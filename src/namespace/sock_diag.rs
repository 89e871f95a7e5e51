//! Asks the kernel for the TCP sockets of this network namespace (netlink, `sock_diag(7)`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1,
    TCP_LAST_ACK,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla,
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::tcp_info::TcpInfo;

/// The two ends of a connection, seen from this namespace. IPv4-mapped addresses are written as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Ends {
    /// Whether the other side is in another namespace: its address is neither loopback nor our own.
    pub fn comes_from_outside(&self) -> bool {
        let local = self.local.ip();
        !local.is_loopback() && !local.is_unspecified() && local != self.remote.ip()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    pub ends: Ends,
    /// Whether the application can still answer: established, or closed by the other side only.
    pub answering: bool,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// Bytes that the other side has not acknowledged.
    pub unsent: u32,
    pub info: TcpInfo,
}

/// A netlink socket. It needs no capability for the sockets of its own namespace.
pub struct SockDiag {
    netlink: Netlink,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Fails if the kernel has no `sock_diag`.
    pub fn open() -> io::Result<Self> {
        let mut netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
        netlink.bind_auto()?;
        netlink.connect(&NetlinkAddr::new(0, 0))?;
        let mut sock_diag = Self {
            netlink,
            buffer: Vec::with_capacity(64 * 1024),
        };
        sock_diag.dump(AF_INET, StateFlags::LISTEN)?;
        Ok(sock_diag)
    }

    /// The addresses that accept connections.
    pub fn listeners(&mut self) -> io::Result<Vec<SocketAddr>> {
        let found = self.both_families(StateFlags::LISTEN)?;
        Ok(found
            .iter()
            .map(|found| ends(&found.header.socket_id).local)
            .collect())
    }

    /// The connections that may still carry data; half-open and closed ones are left out.
    pub fn connections(&mut self) -> io::Result<Vec<Socket>> {
        let states = StateFlags::ESTABLISHED
            | StateFlags::CLOSE_WAIT
            | StateFlags::FIN_WAIT1
            | StateFlags::LAST_ACK
            | StateFlags::CLOSING;
        Ok(self.both_families(states)?.iter().map(socket).collect())
    }

    fn both_families(&mut self, states: StateFlags) -> io::Result<Vec<InetResponse>> {
        let mut found = self.dump(AF_INET, states.clone())?;
        match self.dump(AF_INET6, states) {
            Ok(more) => found.extend(more),
            // A kernel without IPv6 has no such sockets.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    fn dump(&mut self, family: u8, states: StateFlags) -> io::Result<Vec<InetResponse>> {
        self.netlink.send(&request(family, states), 0)?;
        let mut found = Vec::new();
        loop {
            self.buffer.clear();
            self.netlink.recv(&mut self.buffer, 0)?;
            if read_datagram(&self.buffer, &mut found)? {
                return Ok(found);
            }
        }
    }
}

fn request(family: u8, states: StateFlags) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let ask = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states,
        socket_id: SocketId::new_v4(),
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(ask).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Adds the sockets of one datagram; true if it was the last.
fn read_datagram(mut rest: &[u8], found: &mut Vec<InetResponse>) -> io::Result<bool> {
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(one)) => found.push(*one),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        // Messages are aligned to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn socket(found: &InetResponse) -> Socket {
    let header = &found.header;
    let fin_received = u32::from(matches!(
        header.state,
        TCP_CLOSE_WAIT | TCP_LAST_ACK | TCP_CLOSING
    ));
    let fin_sent = u32::from(matches!(
        header.state,
        TCP_FIN_WAIT1 | TCP_LAST_ACK | TCP_CLOSING
    ));
    let info = found.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(bytes) => Some(TcpInfo::parse(bytes)),
        _ => None,
    });
    let mut info = info.unwrap_or_default();
    info.bytes_received = info.bytes_received.saturating_sub(u64::from(fin_received));
    Socket {
        ends: ends(&header.socket_id),
        answering: matches!(header.state, TCP_ESTABLISHED | TCP_CLOSE_WAIT),
        // The kernel counts a FIN as one byte, in the queues as in the sum.
        unread: header.recv_queue.saturating_sub(fin_received),
        unsent: header.send_queue.saturating_sub(fin_sent),
        info,
    }
}

fn ends(id: &SocketId) -> Ends {
    Ends {
        local: address(id.source_address, id.source_port),
        remote: address(id.destination_address, id.destination_port),
    }
}

fn address(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated;

    // A socket in state ESTABLISHED with four bytes of `tcp_info`, and the end of the dump.
    const DATAGRAM: &[u8] = b"\x58\0\0\0\x14\0\x02\0\0\0\0\0\x01\0\0\0\
        \x02\x01\0\0\0\x50\x0f\xa0\xac\x12\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\xac\x12\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\
        \x14\0\0\0\x03\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0\0";

    #[test]
    fn the_sample_is_one_socket_and_an_end() {
        let mut found = Vec::new();
        assert!(read_datagram(DATAGRAM, &mut found).unwrap());
        let socket = socket(&found[0]);
        assert_eq!(socket.ends.local, "172.18.0.3:80".parse().unwrap());
        assert_eq!(
            (socket.answering, socket.unread, socket.unsent),
            (true, 5, 6)
        );
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_to_its_end_or_refused(bytes in mutated(DATAGRAM)) {
            let mut found = Vec::new();
            let _ = read_datagram(&bytes, &mut found);
            prop_assert!(found.len() <= bytes.len() / 72);
            for one in &found {
                socket(one);
            }
        }
    }
}
