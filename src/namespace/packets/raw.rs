//! The two calls on a packet socket for which no crate has a safe interface.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{PACKET_STATISTICS, SOL_PACKET, getsockopt, socklen_t, tpacket_stats};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers the socket with the runtime, which reports when there is something to read.
pub fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, always gives the same one, and closes it only when it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(registered?)
}

/// The number of packets that the kernel had no room for since the last call.
pub fn dropped(socket: &Socket) -> io::Result<u32> {
    let mut statistics = tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of::<tpacket_stats>() as socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel writes at most `length` bytes,
    // which is the size of `statistics`, a structure of two integers of which any value is valid.
    let returned = unsafe {
        getsockopt(
            socket.as_raw_fd(),
            SOL_PACKET,
            PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    Errno::result(returned)?;
    Ok(statistics.tp_drops)
}
