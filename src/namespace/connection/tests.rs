//! A simulated TCP connection whose packets are captured, captured twice, or missed.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::namespace::segmentation::segments;
use crate::namespace::sock_diag::Ends;

const QUIET: u64 = 5000;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// The sequence numbers of the first bytes, which wrap soon.
const FIRST_OF_CLIENT: u32 = u32::MAX - 40;
const FIRST_OF_APPLICATION: u32 = u32::MAX - 70;

/// Both ends of a connection, and the watch between them.
struct Wire {
    watched: Connection,
    client: u32,
    application: u32,
}

impl Wire {
    fn joined(protocol: Protocol) -> Self {
        Self {
            watched: Connection::new(protocol),
            client: FIRST_OF_CLIENT,
            application: FIRST_OF_APPLICATION,
        }
    }

    fn opened() -> Self {
        let mut wire = Self::joined(Protocol::Http1);
        wire.client = FIRST_OF_CLIENT.wrapping_sub(1);
        wire.application = FIRST_OF_APPLICATION.wrapping_sub(1);
        let syn = wire.segment(false, b"");
        wire.see(&Segment {
            syn: true,
            acknowledges: None,
            ..syn
        });
        wire.client = wire.client.wrapping_add(1);
        let answer = wire.segment(true, b"");
        wire.see(&Segment {
            syn: true,
            ..answer
        });
        wire.application = wire.application.wrapping_add(1);
        wire
    }

    fn segment<'a>(&self, outbound: bool, data: &'a [u8]) -> Segment<'a> {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (sequence, acknowledges) = if outbound {
            (self.application, self.client)
        } else {
            (self.client, self.application)
        };
        Segment {
            ends: Ends {
                local: address("172.18.0.3:80"),
                remote: address("172.18.0.2:4000"),
            },
            outbound,
            at: 0,
            sequence,
            acknowledges: Some(acknowledges),
            syn: false,
            fin: false,
            reset: false,
            data,
        }
    }

    fn see(&mut self, segment: &Segment<'_>) {
        self.watched.segment(0, segment);
    }

    /// Sends a segment that is not captured.
    fn miss<'a>(&mut self, outbound: bool, data: &'a [u8]) -> Segment<'a> {
        let segment = self.segment(outbound, data);
        let next = if outbound {
            &mut self.application
        } else {
            &mut self.client
        };
        *next = next.wrapping_add(data.len() as u32);
        segment
    }

    fn send(&mut self, outbound: bool, data: &[u8]) {
        let segment = self.miss(outbound, data);
        self.see(&segment);
    }

    fn acknowledge(&mut self, outbound: bool) {
        self.see(&self.segment(outbound, b""));
    }

    /// The kernel has counted all that was sent.
    fn count(&mut self) {
        let received = self.client.wrapping_sub(FIRST_OF_CLIENT);
        let sent = self.application.wrapping_sub(FIRST_OF_APPLICATION);
        self.watched.received(0, received.into());
        self.watched.sent(0, sent.into());
    }

    fn outstanding(&self) -> (Evidence, Outstanding) {
        self.watched.outstanding(0, QUIET)
    }
}

const fn unanswered(unanswered: u32) -> Outstanding {
    Outstanding {
        unanswered,
        until_silent: false,
    }
}

const fn known(requests: u32) -> (Evidence, Outstanding) {
    (Evidence::Packets, unanswered(requests))
}

const BY_AGES: (Evidence, Outstanding) = (Evidence::Ages, unanswered(0));

#[test]
fn a_connection_captured_from_its_start_is_exact_from_its_first_byte() {
    let mut wire = Wire::opened();
    assert_eq!(wire.outstanding(), known(0));
    wire.send(false, &GET[..2]);
    assert_eq!(wire.outstanding(), known(1));
    wire.send(false, &GET[2..]);
    assert_eq!(wire.outstanding(), known(1));
    wire.send(true, OK);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn http2_is_recognised_by_its_preface_however_it_is_cut() {
    for cut in 0..h2::PREFACE.len() {
        let mut wire = Wire::opened();
        wire.send(false, &h2::PREFACE[..cut]);
        wire.send(false, &h2::PREFACE[cut..]);
        assert!(matches!(wire.watched.content, Content::H2(_)), "{cut}");
    }
}

#[test]
fn a_put_is_not_taken_for_a_preface() {
    let mut wire = Wire::opened();
    wire.send(false, b"P");
    assert_eq!(wire.outstanding(), known(1));
    wire.send(false, b"UT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    wire.send(true, OK);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn a_connection_captured_from_its_middle_is_exact_from_its_next_request_on() {
    let mut wire = Wire::joined(Protocol::Http1);
    assert_eq!(wire.outstanding(), BY_AGES);
    wire.send(true, b"the end of some answer");
    assert_eq!(wire.outstanding(), BY_AGES);
    wire.send(false, GET);
    assert_eq!(wire.outstanding(), known(1));
    wire.send(true, OK);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn a_tunnel_captured_from_its_middle_counts_until_it_is_silent_or_a_request_follows_an_answer() {
    let mut wire = Wire::joined(Protocol::Http1);
    wire.send(true, b"\x81\x05hello");
    wire.send(false, b"\x81\x85\0\0\0\0hello");
    let by_both = (Evidence::AgesAndSilence, unanswered(0));
    assert_eq!(wire.outstanding(), by_both);
    wire.send(true, b"\x81\x05hello");
    assert_eq!(wire.outstanding(), by_both);
    wire.send(false, GET);
    assert_eq!(wire.outstanding(), known(1));
}

#[test]
fn an_encrypted_connection_captured_from_its_middle_is_judged_by_its_ages() {
    let mut wire = Wire::joined(Protocol::Http1);
    wire.send(true, b"\x17\x03\x03\0\x05");
    wire.send(false, b"\x17\x03\x03\0\x05");
    assert_eq!(wire.outstanding(), BY_AGES);
}

#[test]
fn a_request_inside_an_upload_is_not_taken_for_a_request() {
    let mut wire = Wire::joined(Protocol::Http1);
    wire.send(false, b"an upload, which contains");
    wire.send(false, GET);
    assert_eq!(wire.outstanding(), BY_AGES);
}

#[test]
fn a_segment_sent_again_counts_once_and_a_keep_alive_probe_not_at_all() {
    let mut wire = Wire::opened();
    let request = wire.miss(false, GET);
    wire.see(&request);
    wire.see(&request);
    assert_eq!(wire.outstanding(), known(1));
    wire.send(true, OK);
    let probe = Segment {
        sequence: wire.client.wrapping_sub(1),
        ..wire.segment(false, b"\0")
    };
    wire.see(&probe);
    wire.see(&Segment { data: b"", ..probe });
    assert_eq!(wire.outstanding(), known(0));
    wire.send(false, GET);
    assert_eq!(wire.outstanding(), known(1));
}

#[test]
fn a_missed_request_is_noticed_by_its_acknowledgement() {
    let mut wire = Wire::opened();
    wire.miss(false, GET);
    wire.acknowledge(true);
    assert_eq!(wire.outstanding(), BY_AGES);
    wire.send(true, OK);
    wire.send(false, GET);
    assert_eq!(wire.outstanding(), known(1));
}

#[test]
fn the_side_that_sent_last_is_known_unless_packets_of_the_client_are_missed() {
    let mut wire = Wire::joined(Protocol::Http1);
    assert!(!wire.watched.sent_last());
    wire.send(false, b"the end of an upload");
    assert!(!wire.watched.sent_last());
    wire.send(true, OK);
    assert!(wire.watched.sent_last());
    wire.miss(false, GET);
    wire.watched.packets_dropped();
    assert!(!wire.watched.sent_last());
    wire.acknowledge(true);
    assert!(!wire.watched.sent_last());
    wire.send(true, OK);
    assert!(wire.watched.sent_last());
}

#[test]
fn a_missed_answer_is_noticed_by_its_acknowledgement() {
    let mut wire = Wire::opened();
    wire.send(false, GET);
    wire.miss(true, OK);
    assert_eq!(wire.outstanding(), known(1));
    wire.acknowledge(false);
    assert_eq!(wire.outstanding(), BY_AGES);
}

#[test]
fn a_download_captured_in_parts_is_exact_to_its_end() {
    let mut wire = Wire::opened();
    wire.send(false, GET);
    wire.send(true, b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n");
    wire.miss(true, &[b'x'; 1000]);
    wire.send(true, &[b'x'; 1000]);
    assert_eq!(wire.outstanding(), known(1));
    wire.miss(true, &[b'x'; 1000]);
    wire.acknowledge(false);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn after_dropped_packets_both_directions_must_prove_complete() {
    let mut wire = Wire::opened();
    wire.watched.packets_dropped();
    assert_eq!(wire.outstanding(), BY_AGES);
    wire.acknowledge(true);
    assert_eq!(
        wire.outstanding(),
        BY_AGES,
        "the outbound direction is not proven"
    );
    wire.acknowledge(false);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn a_download_whose_last_packets_are_missed_ends_by_the_kernels_count() {
    let mut wire = Wire::opened();
    wire.send(false, GET);
    wire.send(true, b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n");
    wire.send(true, &[b'x'; 1000]);
    wire.watched.packets_dropped();
    wire.count();
    assert_eq!(wire.outstanding(), known(1));
    wire.miss(true, &[b'x'; 2000]);
    wire.watched.packets_dropped();
    assert_eq!(wire.outstanding(), (Evidence::Ages, unanswered(1)));
    wire.count();
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn the_kernels_counts_of_a_connection_captured_from_its_middle_matter_once_they_are_calibrated() {
    let mut wire = Wire::joined(Protocol::Http1);
    wire.miss(false, GET);
    wire.miss(true, OK);
    wire.send(false, GET);
    wire.send(true, OK);
    wire.watched.packets_dropped();
    wire.count();
    assert_eq!(
        wire.outstanding(),
        BY_AGES,
        "after dropped packets there is nothing to calibrate with"
    );
    wire.acknowledge(true);
    wire.acknowledge(false);
    wire.count();
    wire.watched.packets_dropped();
    wire.count();
    assert_eq!(wire.outstanding(), known(0));
    wire.miss(false, GET);
    wire.watched.packets_dropped();
    wire.count();
    assert_eq!(wire.outstanding(), BY_AGES);
}

#[test]
fn an_application_that_closes_answers_nothing_more() {
    let mut wire = Wire::opened();
    wire.send(false, GET);
    wire.send(true, b"HTTP/1.0 200 OK\r\n\r\nuntil close");
    assert_eq!(wire.outstanding(), known(1));
    let fin = wire.segment(true, b"");
    wire.see(&Segment { fin: true, ..fin });
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn a_new_connection_between_the_same_ends_is_another_one() {
    let mut wire = Wire::opened();
    wire.send(false, GET);
    let syn = Segment {
        syn: true,
        acknowledges: None,
        sequence: 12345,
        ..wire.segment(false, b"")
    };
    wire.see(&syn);
    assert_eq!(wire.outstanding(), known(0));
}

#[test]
fn an_encrypted_connection_is_judged_by_its_ages() {
    let mut wire = Wire::opened();
    wire.send(false, b"\x16\x03\x01\x02\x00\x01\x00");
    assert_eq!(wire.outstanding(), BY_AGES);
}

/// What the capture makes of a segment.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Seen,
    SeenTwice,
    Dropped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Seen), 1 => Just(Fate::SeenTwice), 1 => Just(Fate::Dropped)]
}

proptest! {
    #[test]
    fn whatever_packets_are_missed_an_exact_count_is_true(
        exchanges in vec((vec(any::<usize>(), 0..3), vec(any::<usize>(), 0..3)), 1..6),
        fates in vec(fate(), 64),
        counted in vec(any::<bool>(), 64),
        begins_before_the_watch in any::<bool>(),
    ) {
        let mut wire = if begins_before_the_watch { Wire::joined(Protocol::Http1) } else { Wire::opened() };
        let (mut fates, mut counted) = (fates.into_iter().cycle(), counted.into_iter().cycle());
        for (request_cuts, answer_cuts) in exchanges {
            let halves = [(false, GET, request_cuts), (true, OK, answer_cuts)];
            for (outbound, bytes, cuts) in halves {
                let mut left = bytes.len();
                for piece in segments(bytes, &cuts) {
                    let segment = wire.miss(outbound, piece);
                    left -= piece.len();
                    match fates.next().unwrap() {
                        Fate::Seen => wire.see(&segment),
                        Fate::SeenTwice => { wire.see(&segment); wire.see(&segment); }
                        Fate::Dropped => wire.watched.packets_dropped(),
                    }
                    if counted.next().unwrap() {
                        wire.count();
                    }
                    let begun = !outbound && left < bytes.len();
                    let truth = u32::from(begun || outbound && left > 0);
                    let (evidence, found) = wire.outstanding();
                    if evidence == Evidence::Packets {
                        prop_assert_eq!(found, unanswered(truth));
                    }
                }
            }
        }
    }

    #[test]
    fn with_no_packet_missed_every_count_is_exact(cuts in vec(vec(any::<usize>(), 0..6), 1..6)) {
        let mut wire = Wire::opened();
        for cuts in cuts {
            for (outbound, bytes) in [(false, GET), (true, OK)] {
                for piece in segments(bytes, &cuts) {
                    wire.send(outbound, piece);
                    prop_assert_eq!(wire.outstanding().0, Evidence::Packets);
                }
            }
            prop_assert_eq!(wire.outstanding(), known(0));
        }
    }
}
