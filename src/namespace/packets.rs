//! Reads the packets of the routed ports as they pass the namespace's network interfaces (`packet(7)`).
//!
//! Needs `CAP_NET_RAW`, which Docker grants by default.

mod filter;
mod raw;
pub mod segment;

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, recv, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use segment::Segment;

/// Large segments come whole: up to 64 KiB, and more where the kernel has BIG TCP.
const LARGEST: usize = 256 * 1024;
/// The kernel gives what `net.core.rmem_max` allows.
const QUEUE: usize = 4 * 1024 * 1024;
/// More than the queue holds: so much cannot come while it is read, unless reading is slower than the network.
const AT_ONCE: usize = 64 * 1024;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

pub struct Packets {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Packets {
    /// Packets from now on are kept until read. Fails with `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(ports: &[u16]) -> io::Result<Self> {
        let every_protocol = i32::from((nix::libc::ETH_P_ALL as u16).to_be());
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(every_protocol)))?;
        socket.attach_filter(&filter::tcp_ports(ports))?;
        socket.set_recv_buffer_size(QUEUE)?;
        Ok(Self {
            socket: raw::register(socket)?,
            buffer: vec![0; LARGEST],
        })
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub async fn arrived(&self) {
        if let Ok(mut ready) = self.socket.readable().await {
            // What comes between this and the next read is read then, and wakes once more for nothing.
            ready.clear_ready();
        }
    }

    /// Hands on every packet that has come, in order.
    pub fn read(&mut self, mut each: impl FnMut(&Segment<'_>)) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            match recvfrom::<LinkAddr>(self.socket.get_ref().as_raw_fd(), &mut self.buffer) {
                Ok((length, from)) => {
                    let outbound = from.is_some_and(|from| from.pkttype() == OUTGOING);
                    if let Some(segment) = Segment::parse(&self.buffer[..length], outbound) {
                        each(&segment);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                // An interface that went down tells so once; the others go on.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether nothing has come since the last read; then nothing was dropped since, either.
    pub fn is_empty(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peeked = recv(self.socket.get_ref().as_raw_fd(), &mut [0], flags);
        peeked == Err(Errno::EAGAIN)
    }

    /// Whether the kernel had no room for a packet since the last time this was asked.
    pub fn dropped(&self) -> io::Result<bool> {
        raw::dropped(self.socket.get_ref()).map(|packets| packets > 0)
    }
}
