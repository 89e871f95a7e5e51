//! Reads the IP and TCP headers of one packet.

use std::net::SocketAddr;

use etherparse::{LaxIpSlice, TcpSlice, ip_number};

use crate::namespace::sock_diag::Ends;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub ends: Ends,
    /// Whether the application sent it.
    pub outbound: bool,
    /// When it was captured, in microseconds of the kernel's clock.
    pub at: u64,
    /// The sequence number of the first byte, or of the SYN.
    pub sequence: u32,
    /// The sequence number that the sender expects next.
    pub acknowledges: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub reset: bool,
    pub data: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a packet that begins with its IP header; `None` if it is not TCP or is cut short.
    pub fn parse(packet: &'a [u8], outbound: bool, at: u64) -> Option<Self> {
        // The lax reader takes the whole packet where the header gives the length 0 (BIG TCP: more than 64 KiB).
        let (ip, _) = LaxIpSlice::from_slice(packet).ok()?;
        let payload = ip.payload();
        if payload.ip_number != ip_number::TCP || payload.fragmented {
            return None;
        }
        let tcp = TcpSlice::from_slice(payload.payload).ok()?;
        let source = SocketAddr::new(ip.source_addr().to_canonical(), tcp.source_port());
        let destination =
            SocketAddr::new(ip.destination_addr().to_canonical(), tcp.destination_port());
        let (local, remote) = match outbound {
            true => (source, destination),
            false => (destination, source),
        };
        Some(Self {
            ends: Ends { local, remote },
            outbound,
            at,
            sequence: tcp.sequence_number(),
            acknowledges: tcp.ack().then(|| tcp.acknowledgment_number()),
            syn: tcp.syn(),
            fin: tcp.fin(),
            reset: tcp.rst(),
            data: tcp.payload(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated;

    const FIN: u8 = 0x01;
    const ACK: u8 = 0x10;
    const TCP: u8 = 6;

    fn tcp(data: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[0..2].copy_from_slice(&40000_u16.to_be_bytes());
        header[2..4].copy_from_slice(&80_u16.to_be_bytes());
        header[4..8].copy_from_slice(&7_u32.to_be_bytes());
        header[8..12].copy_from_slice(&9_u32.to_be_bytes());
        header[12] = 5 << 4;
        header[13] = ACK | FIN;
        [&header, data].concat()
    }

    fn ipv4_packet(payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        header[9] = TCP;
        header[12..16].copy_from_slice(&[172, 18, 0, 2]);
        header[16..20].copy_from_slice(&[172, 18, 0, 3]);
        [&header, payload].concat()
    }

    #[test]
    fn an_ipv4_segment_is_read_without_its_padding() {
        let mut packet = ipv4_packet(&tcp(b"hi"));
        packet.extend([0; 4]);
        let segment = Segment::parse(&packet, false, 0).unwrap();
        assert_eq!(segment.ends.local, "172.18.0.3:80".parse().unwrap());
        assert_eq!(segment.ends.remote, "172.18.0.2:40000".parse().unwrap());
        assert_eq!((segment.sequence, segment.acknowledges), (7, Some(9)));
        assert_eq!((segment.syn, segment.fin), (false, true));
        assert_eq!(segment.data, b"hi");
        let outbound = Segment::parse(&packet, true, 0).unwrap();
        assert_eq!(outbound.ends.local, segment.ends.remote);
    }

    #[test]
    fn an_ipv6_segment_is_read() {
        let payload = tcp(b"six");
        let mut header = vec![0; 40];
        header[0] = 0x60;
        header[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        header[6] = TCP;
        (header[23], header[39]) = (1, 2);
        let packet = [header, payload].concat();
        let segment = Segment::parse(&packet, false, 0).unwrap();
        assert_eq!(segment.ends.local, "[::2]:80".parse().unwrap());
        assert_eq!(segment.data, b"six");
    }

    #[test]
    fn a_length_of_zero_stands_for_the_whole_packet() {
        let mut packet = ipv4_packet(&tcp(b"big"));
        (packet[2], packet[3]) = (0, 0);
        assert_eq!(Segment::parse(&packet, false, 0).unwrap().data, b"big");
        let mut packet = IPV6.to_vec();
        (packet[4], packet[5]) = (0, 0);
        assert_eq!(Segment::parse(&packet, false, 0).unwrap().data, b"hi");
    }

    #[test]
    fn a_packet_that_is_cut_short_or_not_tcp_is_no_segment() {
        let packet = ipv4_packet(&tcp(b""));
        for length in 0..packet.len() {
            assert_eq!(Segment::parse(&packet[..length], false, 0), None);
        }
        let mut udp = packet;
        udp[9] = 17;
        assert_eq!(Segment::parse(&udp, false, 0), None);
        let mut fragment = ipv4_packet(&tcp(b""));
        fragment[7] = 1;
        assert_eq!(Segment::parse(&fragment, false, 0), None);
    }

    const IPV4: &[u8] = b"\x45\0\0\x2a\0\0\0\0\x40\x06\0\0\xac\x12\0\x02\xac\x12\0\x03\
        \x9c\x40\0\x50\0\0\0\x07\0\0\0\x09\x50\x11\0\0\0\0\0\0hi";
    const IPV6: &[u8] = b"\x60\0\0\0\0\x16\x06\x40\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
        \xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\
        \x9c\x40\0\x50\0\0\0\x07\0\0\0\x09\x50\x11\0\0\0\0\0\0hi";

    #[test]
    fn both_samples_are_segments() {
        for sample in [IPV4, IPV6] {
            let segment = Segment::parse(sample, false, 0).unwrap();
            assert_eq!((segment.data, segment.ends.local.port()), (&b"hi"[..], 80));
        }
    }

    proptest! {
        #[test]
        fn the_data_of_any_packet_is_a_part_of_it_behind_both_headers(
            packet in prop_oneof![mutated(IPV4), mutated(IPV6)], outbound: bool,
        ) {
            if let Some(segment) = Segment::parse(&packet, outbound, 0) {
                let from = segment.data.as_ptr().addr() - packet.as_ptr().addr();
                prop_assert!(from + segment.data.len() <= packet.len());
                prop_assert!(segment.acknowledges.is_some() || packet.len() >= 20);
                let other = Segment::parse(&packet, !outbound, 0).unwrap();
                prop_assert_eq!((other.ends.local, other.ends.remote), (segment.ends.remote, segment.ends.local));
            }
        }
    }
}
