//! Captures the packets of the routed ports on the namespace's network interfaces (`packet(7)`).
//!
//! Needs `CAP_NET_RAW`, which Docker grants by default.

mod filter;
mod raw;
pub mod segment;

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, recv, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use segment::Segment;

/// Large segments come whole: up to 64 KiB, and more if the kernel uses BIG TCP.
const LARGEST: usize = 256 * 1024;
/// The kernel gives at most `net.core.rmem_max`.
const QUEUE: usize = 4 * 1024 * 1024;
/// More than the queue holds. Only a network that is faster than the reading could bring more in one go.
const AT_ONCE: usize = 64 * 1024;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

pub struct Packets {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    /// For the time at which a packet was captured.
    control: Vec<u8>,
}

impl Packets {
    /// Captures packets from now on. Fails with `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(ports: &[u16]) -> io::Result<Self> {
        let every_protocol = i32::from((nix::libc::ETH_P_ALL as u16).to_be());
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(every_protocol)))?;
        socket.attach_filter(&filter::tcp_ports(ports))?;
        socket.set_recv_buffer_size(QUEUE)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self {
            socket: raw::register(socket)?,
            buffer: vec![0; LARGEST],
            control: cmsg_space!(TimeSpec),
        })
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub async fn arrived(&self) {
        if let Ok(mut ready) = self.socket.readable().await {
            // A packet that arrives before the next read is read with it, and causes one more wake-up without packets.
            ready.clear_ready();
        }
    }

    /// Calls `each` with every captured packet, in order.
    pub fn read(&mut self, mut each: impl FnMut(&Segment<'_>)) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            match self.receive() {
                Ok((length, outbound, at)) => {
                    if let Some(segment) = Segment::parse(&self.buffer[..length], outbound, at) {
                        each(&segment);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                // An interface that goes down is reported once; the others stay open.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next packet: its length, whether the application sent it, and when it was captured, in microseconds.
    fn receive(&mut self) -> nix::Result<(usize, bool, u64)> {
        let mut buffers = [IoSliceMut::new(&mut self.buffer)];
        let packet = recvmsg::<LinkAddr>(
            self.socket.get_ref().as_raw_fd(),
            &mut buffers,
            Some(&mut self.control),
            MsgFlags::empty(),
        )?;
        let mut messages = packet.cmsgs().into_iter().flatten();
        let at = messages.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        let outbound = packet
            .address
            .is_some_and(|from| from.pkttype() == OUTGOING);
        let at = at.map_or(0, |at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        Ok((packet.bytes, outbound, at))
    }

    /// Whether no packet was captured since the last read. Then none was dropped since, either.
    pub fn is_empty(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peeked = recv(self.socket.get_ref().as_raw_fd(), &mut [0], flags);
        peeked == Err(Errno::EAGAIN)
    }

    /// Whether the kernel had no room for a packet since the last call.
    pub fn dropped(&self) -> io::Result<bool> {
        raw::dropped(self.socket.get_ref()).map(|packets| packets > 0)
    }
}
