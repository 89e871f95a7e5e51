//! Looks at simulated sockets: which connections count, and as what.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::arbitrary::mutated;
use crate::namespace::tcp_info::TcpInfo;

const QUIET: u64 = 5000;

fn tally(protocol: Protocol) -> Tally {
    Tally::new([(80, protocol)].into(), QUIET, false)
}

/// A connection that last sent and received so many milliseconds ago.
fn socket(local: &str, remote: &str, sent: u32, received: u32) -> Socket {
    Socket {
        ends: Ends {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        },
        answering: true,
        unread: 0,
        unsent: 0,
        info: TcpInfo {
            last_data_sent: sent,
            last_data_recv: received,
            last_ack_recv: sent.min(received),
            bytes_acked: 0,
            bytes_received: 80,
            segs_out: 3,
            data_segs_out: 1,
        },
    }
}

/// A packet in the middle of a connection.
fn segment(
    ends: Ends,
    outbound: bool,
    sequence: u32,
    acknowledges: Option<u32>,
    data: &[u8],
) -> Segment<'_> {
    Segment {
        ends,
        outbound,
        at: 0,
        sequence,
        acknowledges,
        syn: false,
        fin: false,
        reset: false,
        data,
    }
}

const REPLICA: &str = "172.18.0.3:80";
const TRAEFIK: &str = "172.18.0.2:4000";

#[test]
fn each_port_is_read_by_its_own_protocol() {
    let ports = [(80, Protocol::Http1), (5432, Protocol::Stream)].into();
    let mut tally = Tally::new(ports, QUIET, false);
    // Data received after data sent: an unanswered request on HTTP, recent data on a stream.
    let sockets = [
        socket(REPLICA, TRAEFIK, 900, 100),
        socket("172.18.0.3:5432", TRAEFIK, 900, 100),
    ];
    let traffic = tally.look(1000, &sockets, false);
    assert_eq!((traffic.unanswered, traffic.streaming), (1, 1));
}

#[test]
fn only_connections_that_the_proxy_may_have_opened_count() {
    let sockets = [
        socket(REPLICA, TRAEFIK, 900, 100),
        socket("[fd00::3]:80", "[fd00::2]:4000", 900, 100),
        socket("127.0.0.1:80", "127.0.0.1:4000", 900, 100),
        socket("[::1]:80", "[::1]:4000", 900, 100),
        socket(REPLICA, "172.18.0.3:4000", 900, 100),
        socket("172.18.0.3:4000", "172.18.0.9:80", 900, 100),
        socket("172.18.0.3:4000", "172.18.0.9:5432", 900, 100),
        socket("172.18.0.3:8080", TRAEFIK, 900, 100),
    ];
    let traffic = tally(Protocol::Http1).look(2000, &sockets, false);
    assert_eq!((traffic.connections, traffic.unanswered), (2, 2));
}

#[test]
fn unsent_data_counts_even_after_the_application_has_closed() {
    let closing = Socket {
        answering: false,
        unsent: 1000,
        ..socket(REPLICA, TRAEFIK, 900, 100)
    };
    let traffic = tally(Protocol::Http1).look(2000, &[closing], false);
    assert_eq!(
        (traffic.connections, traffic.unanswered, traffic.unsent),
        (0, 0, 1)
    );
    assert!(traffic.busy());
}

#[test]
fn a_stream_counts_until_it_is_silent() {
    let mut tally = tally(Protocol::Stream);
    let traffic = tally.look(1000, &[socket(REPLICA, TRAEFIK, 4999, 8000)], false);
    assert_eq!((traffic.streaming, traffic.unanswered), (1, 0));
    let traffic = tally.look(1010, &[socket(REPLICA, TRAEFIK, 5000, 8000)], false);
    assert!(!traffic.busy());
}

#[test]
fn http2_that_cannot_be_read_counts_until_it_is_silent() {
    let mut tally = tally(Protocol::H2c);
    assert!(
        tally
            .look(1000, &[socket(REPLICA, TRAEFIK, 100, 80)], false)
            .busy()
    );
    assert!(
        !tally
            .look(9000, &[socket(REPLICA, TRAEFIK, 8100, 8080)], false)
            .busy()
    );
}

#[test]
fn the_quiet_time_begins_with_the_watch_and_again_with_each_byte() {
    let mut tally = tally(Protocol::Http1);
    assert_eq!(tally.look(700, &[], false).quiet_ms, 700);
    let traffic = tally.look(1000, &[socket(REPLICA, TRAEFIK, 40, 90)], false);
    assert_eq!(traffic.quiet_ms, 40);
    assert_eq!(tally.look(1500, &[], false).quiet_ms, 540);
}

#[test]
fn a_connection_named_twice_in_one_look_counts_once() {
    let twice = [socket(REPLICA, TRAEFIK, 900, 100); 2];
    assert_eq!(
        tally(Protocol::Http1).look(2000, &twice, false).unanswered,
        1
    );
}

#[test]
fn packets_overrule_misleading_ages() {
    let mut tally = Tally::new([(80, Protocol::Http1)].into(), QUIET, true);
    let ends = socket(REPLICA, TRAEFIK, 0, 0).ends;
    let request = b"GET / HTTP/1.1\r\n\r\n";
    tally.segment(0, &segment(ends, false, 1000, Some(1000), request));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let out = segment(ends, true, 1000, Some(1018), head);
    tally.segment(2, &out);
    let pausing = [socket(REPLICA, TRAEFIK, 900, 902)];
    let traffic = tally.look(902, &pausing, false);
    assert_eq!((traffic.unanswered, traffic.exact), (1, true));
    let end = Segment {
        data: b"0\r\n\r\n",
        sequence: out.sequence + head.len() as u32,
        ..out
    };
    tally.segment(910, &end);
    assert!(!tally.look(920, &pausing, false).busy());
}

/// A new connection, its first request, and the head of an answer of 5000 bytes.
fn download(tally: &mut Tally, ends: Ends) {
    let syn = |outbound, acknowledges| Segment {
        syn: true,
        ..segment(ends, outbound, 0, acknowledges, b"")
    };
    tally.segment(0, &syn(false, None));
    tally.segment(0, &syn(true, Some(1)));
    let request = b"GET / HTTP/1.1\r\n\r\n";
    tally.segment(0, &segment(ends, false, 1, Some(1), request));
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    assert_eq!((request.len(), head.len()), (18, 41));
    tally.segment(1, &segment(ends, true, 1, Some(19), head));
}

#[test]
fn the_kernels_counts_replace_dropped_packets_once_every_packet_is_read() {
    let mut tally = Tally::new([(80, Protocol::Http1)].into(), QUIET, true);
    let mut end = socket(REPLICA, TRAEFIK, 1, 1000);
    download(&mut tally, end.ends);
    end.info.bytes_received = 18;
    end.info.bytes_acked = 41;
    assert_eq!(tally.look(1000, &[end], true).unanswered, 1);
    // The packets with the rest of the answer are dropped.
    end.info.bytes_acked = 41 + 5000;
    end.info.last_data_recv = 2000;
    tally.packets_dropped();
    assert_eq!(tally.look(2000, &[end], false).streaming, 1, "it paused");
    assert!(!tally.look(2010, &[end], true).busy());
}

fn any_segment() -> impl Strategy<Value = (u64, u8, Vec<u8>, u32, Option<u32>, u16)> {
    let near = prop_oneof![0_u32..64, u32::MAX - 64..=u32::MAX, any::<u32>()];
    let acknowledged = prop_oneof![0_u32..64, any::<u32>()];
    let data = prop_oneof![
        mutated(b"GET / HTTP/1.1\r\n\r\n"),
        mutated(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Just(Vec::new()),
    ];
    (
        0..10_000_u64,
        any::<u8>(),
        data,
        near,
        proptest::option::of(acknowledged),
        4000..4003_u16,
    )
}

fn any_info() -> impl Strategy<Value = TcpInfo> {
    vec(any::<u8>(), 0..170).prop_map(|bytes| TcpInfo::parse(&bytes))
}

proptest! {
    #[test]
    fn any_packets_and_any_tcp_info_count_no_more_connections_than_there_are(
        packets in vec(any_segment(), 0..24), infos in vec((any_info(), any::<u32>(), any::<u32>()), 0..3),
        protocol in prop_oneof![Just(Protocol::Http1), Just(Protocol::H2c), Just(Protocol::Stream)],
        all_read: bool,
    ) {
        let mut tally = tally(protocol);
        for (now, bits, data, sequence, acknowledges, port) in packets {
            let ends = socket(REPLICA, &format!("172.18.0.2:{port}"), 0, 0).ends;
            let one = Segment {
                syn: bits & 7 == 0,
                fin: bits & 0x38 == 0,
                ..segment(ends, bits & 8 == 0, sequence, acknowledges, &data)
            };
            tally.segment(now, &one);
            if bits == 1 {
                tally.packets_dropped();
            }
            prop_assert!(tally.connections.len() <= 3);
        }
        let sockets: Vec<Socket> = infos.into_iter().zip(4000..).map(|((info, unread, unsent), port)| Socket {
            unread,
            unsent,
            info,
            ..socket(REPLICA, &format!("172.18.0.2:{port}"), 0, 0)
        }).collect();
        for now in [10_000, u64::MAX] {
            let traffic = tally.look(now, &sockets, all_read);
            prop_assert_eq!(traffic.connections as usize, sockets.len());
            prop_assert!(traffic.streaming as usize <= sockets.len());
        }
    }
}

#[test]
fn packets_of_ever_new_connections_do_not_fill_the_memory() {
    let mut tally = tally(Protocol::Http1);
    let local = REPLICA.parse().unwrap();
    for number in 0..MOST_BY_PACKETS as u32 + 1000 {
        let [_, _, high, low] = number.to_be_bytes();
        let port = 1 + (number >> 16) as u16;
        let remote = std::net::SocketAddr::from(([10, 0, high, low], port));
        tally.segment(0, &segment(Ends { local, remote }, false, 7, None, b"GET"));
    }
    assert_eq!(tally.connections.len(), MOST_BY_PACKETS);
    let traffic = tally.look(0, &[socket(REPLICA, TRAEFIK, 10, 20)], true);
    assert_eq!(traffic.connections, 1);
    tally.look(KEPT, &[], true);
    assert!(tally.connections.is_empty());
}
