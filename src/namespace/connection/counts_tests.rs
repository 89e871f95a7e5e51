//! What the packets of one connection add to the counts of a replica.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::namespace::h2::PREFACE;
use crate::namespace::sock_diag::Ends;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const BROKEN: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
const MS: u64 = 1000;

/// A connection whose every packet is captured.
struct Seen {
    connection: Connection,
    wire: Wire,
    at: u64,
    client: u32,
    application: u32,
}

impl Seen {
    fn joined(protocol: Protocol) -> Self {
        Self {
            connection: Connection::new(protocol),
            wire: Wire::default(),
            at: 0,
            client: 100,
            application: 500,
        }
    }

    fn opened() -> Self {
        let mut seen = Self::joined(Protocol::Http1);
        for outbound in [false, true] {
            let syn = seen.segment(outbound, b"");
            let sequence = syn.sequence.wrapping_sub(1);
            seen.take(&Segment {
                syn: true,
                sequence,
                ..syn
            });
        }
        seen
    }

    fn segment<'a>(&self, outbound: bool, data: &'a [u8]) -> Segment<'a> {
        let (sequence, acknowledges) = match outbound {
            true => (self.application, self.client),
            false => (self.client, self.application),
        };
        Segment {
            ends: Ends {
                local: "172.18.0.3:80".parse().unwrap(),
                remote: "172.18.0.2:4000".parse().unwrap(),
            },
            outbound,
            at: self.at,
            sequence,
            acknowledges: Some(acknowledges),
            syn: false,
            fin: false,
            reset: false,
            data,
        }
    }

    fn take(&mut self, segment: &Segment<'_>) {
        let counted = self.connection.segment(self.at / MS, segment);
        self.wire.add(&counted);
    }

    /// Sends data `ms` after the last.
    fn after(&mut self, ms: u64, outbound: bool, data: &[u8]) -> &mut Self {
        self.at += ms * MS;
        let segment = self.segment(outbound, data);
        self.take(&segment);
        let next = match outbound {
            true => &mut self.application,
            false => &mut self.client,
        };
        *next = next.wrapping_add(data.len() as u32);
        self
    }

    fn client(&mut self, data: &[u8]) -> &mut Self {
        self.after(0, false, data)
    }

    fn answer(&mut self, data: &[u8]) -> &mut Self {
        self.after(0, true, data)
    }

    fn closes(&mut self, outbound: bool, reset: bool) -> &mut Self {
        let segment = self.segment(outbound, b"");
        self.take(&Segment {
            fin: !reset,
            reset,
            ..segment
        });
        self
    }

    /// Answers by class, and requests without one.
    fn counts(&self) -> ([u64; 5], u64) {
        let answers: u64 = self.wire.answers.iter().sum();
        assert_eq!(self.wire.latencies.count(), answers);
        (self.wire.answers, self.wire.unanswered)
    }
}

#[test]
fn each_request_of_a_kept_connection_is_counted_by_its_answer() {
    let mut seen = Seen::opened();
    for answer in [
        OK,
        BROKEN,
        OK,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ] {
        seen.client(GET).answer(answer);
    }
    assert_eq!(seen.counts(), ([0, 2, 0, 1, 1], 0));
}

#[test]
fn the_latency_is_that_of_the_first_bytes_whatever_the_length_of_the_upload_and_the_answer() {
    let mut seen = Seen::opened();
    seen.client(&GET[..3]).after(10, false, &GET[3..]);
    seen.after(30, true, &OK[..9]).after(500, true, &OK[9..]);
    let known = seen.wire.latencies.percentile(0.5).unwrap();
    assert!(known.abs_diff(40 * MS) <= 40 * MS / 50, "{known}");
    seen.after(1000, false, GET).after(40, true, OK);
    assert_eq!(seen.wire.latencies.percentile(1.0), Some(known));
}

#[test]
fn pipelined_requests_have_an_answer_each() {
    let mut seen = Seen::opened();
    seen.client(&GET.repeat(3)).answer(&[OK, BROKEN].concat());
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 1], 0));
    seen.answer(OK);
    assert_eq!(seen.counts(), ([0, 2, 0, 0, 1], 0));
}

#[test]
fn an_interim_answer_is_not_the_answer() {
    let mut seen = Seen::opened();
    seen.client(POST).answer(b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(seen.counts(), ([0; 5], 0));
    seen.client(b"ab").after(20, true, OK);
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 0));
    assert!(seen.wire.latencies.percentile(0.5) >= Some(19 * MS));
}

#[test]
fn the_answer_to_head_has_no_body_and_the_next_one_follows_it() {
    let mut seen = Seen::opened();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    seen.client(HEAD).answer(head).client(GET).answer(BROKEN);
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 1], 0));
}

#[test]
fn a_websocket_is_one_answer() {
    let mut seen = Seen::opened();
    seen.client(b"GET /echo HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    seen.answer(b"HTTP/1.1 101 Switching\r\n\r\n");
    seen.client(b"\x81\x05hello").answer(b"\x81\x05hello");
    seen.closes(true, true);
    assert_eq!(seen.counts(), ([1, 0, 0, 0, 0], 0));
}

#[test]
fn a_connection_that_the_application_ends_before_its_answer_has_an_unanswered_request() {
    for reset in [false, true] {
        let mut seen = Seen::opened();
        seen.client(GET).answer(OK).client(GET).closes(true, reset);
        assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 1));
        seen.closes(true, true).closes(false, false);
        assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 1), "counted once");
    }
}

#[test]
fn an_answer_that_has_begun_is_counted_where_it_began() {
    let mut seen = Seen::opened();
    seen.client(GET)
        .answer(&OK[..OK.len() - 2])
        .closes(true, true);
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 0));
}

#[test]
fn a_request_that_the_client_gives_up_is_not_counted() {
    for reset in [false, true] {
        let mut seen = Seen::opened();
        seen.client(GET).closes(false, reset).closes(true, true);
        assert_eq!(seen.counts(), ([0; 5], 0));
    }
    let mut seen = Seen::opened();
    seen.client(GET).closes(false, false).answer(BROKEN);
    assert_eq!(seen.counts(), ([0, 0, 0, 0, 1], 0), "the answer still came");
}

#[test]
fn a_connection_joined_in_its_middle_counts_from_its_next_request_on() {
    let mut seen = Seen::joined(Protocol::Http1);
    seen.answer(b"the end of an answer").client(GET).answer(OK);
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 0));
    assert_eq!(seen.wire.unread, 0);
}

#[test]
fn a_connection_in_tls_or_another_protocol_is_counted_once_as_one_that_cannot_be_read() {
    const HELLO: &[u8] = b"\x16\x03\x01\x00\x05hello";
    const RECORD: &[u8] = b"\x17\x03\x03\x00\x05abcde";
    for first in [HELLO, b"\x00\x01binary"] {
        let mut seen = Seen::opened();
        seen.client(first)
            .answer(RECORD)
            .client(RECORD)
            .answer(RECORD);
        assert_eq!((seen.wire.unread, seen.wire.is_blind()), (1, true));
        assert_eq!(seen.counts(), ([0; 5], 0));
    }
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let mut seen = Seen::joined(protocol);
        seen.client(RECORD).answer(RECORD).client(RECORD);
        assert_eq!(seen.wire.unread, 1, "{protocol:?}");
    }
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const END_HEADERS: u8 = 4;
const LAST: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u8;
    [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

fn h2() -> Seen {
    let mut seen = Seen::opened();
    let settings = frame(4, 0, 0, b"");
    seen.client(&[PREFACE, &settings].concat())
        .answer(&settings);
    seen
}

#[test]
fn streams_side_by_side_are_counted_by_their_answers() {
    let mut seen = h2();
    for stream in [1, 3, 5] {
        seen.client(&frame(HEADERS, LAST, stream, b"request"));
    }
    seen.after(20, true, &frame(HEADERS, LAST, 3, b"\x8e"));
    seen.after(20, true, &frame(HEADERS, END_HEADERS, 1, b"\x88"));
    // Trailers are no second answer.
    seen.answer(&frame(HEADERS, LAST, 1, b"\x40\x01a\x01b"));
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 1], 0));
    let known = seen.wire.latencies.percentile(1.0).unwrap();
    assert!(known.abs_diff(40 * MS) <= 40 * MS / 50, "{known}");
    seen.closes(true, false);
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 1], 1));
}

#[test]
fn a_status_that_comes_in_two_frames_or_with_padding_is_read() {
    let mut seen = h2();
    seen.client(&frame(HEADERS, LAST, 1, b"request"));
    seen.answer(&frame(HEADERS, 0, 1, b"\x48\x03"));
    seen.answer(&frame(9, END_HEADERS, 1, b"502"));
    seen.client(&frame(HEADERS, LAST, 3, b"request"));
    seen.answer(&frame(HEADERS, LAST | 8, 3, b"\x02\xbe\0\0"));
    assert_eq!(seen.counts(), ([0, 0, 0, 0, 2], 0));
}

#[test]
fn a_stream_that_is_reset_is_unanswered_if_the_application_resets_it() {
    for (outbound, unanswered) in [(true, 1), (false, 0)] {
        let mut seen = h2();
        seen.client(&frame(HEADERS, LAST, 1, b"request"));
        seen.after(0, outbound, &frame(RESET, 0, 1, &[0; 4]));
        seen.closes(true, true);
        assert_eq!(seen.counts(), ([0; 5], unanswered));
    }
}

#[test]
fn an_answer_whose_status_was_added_before_the_capture_is_one_that_cannot_be_read() {
    let mut seen = Seen::joined(Protocol::H2c);
    seen.answer(&frame(6, 0, 0, &[0; 8]));
    for (stream, block) in [(7, &b"\xbe"[..]), (9, b"\x88")] {
        seen.client(&frame(HEADERS, LAST, stream, b"request"));
        seen.answer(&frame(HEADERS, LAST, stream, block));
    }
    assert_eq!(seen.counts(), ([0, 1, 0, 0, 0], 0));
    assert_eq!(seen.wire.unread, 1);
}

proptest! {
    #[test]
    fn no_more_is_counted_than_was_sent(
        pieces in vec((any::<bool>(), any::<u8>(), prop_oneof![
            vec(any::<u8>(), 0..64), Just(GET.to_vec()), Just(OK.to_vec()), Just(BROKEN.to_vec()), Just(PREFACE.to_vec()),
            Just(frame(HEADERS, LAST, 1, b"\x88")), Just(frame(HEADERS, END_HEADERS, 3, b"\x48\x03503")),
        ]), 0..40),
        joined: bool,
    ) {
        let mut seen = if joined { Seen::joined(Protocol::H2c) } else { Seen::opened() };
        for (outbound, bits, data) in &pieces {
            seen.after(u64::from(bits & 7), *outbound, data);
            if bits & 0xf0 == 0 {
                seen.closes(*outbound, bits & 8 == 0);
            }
        }
        let sent: usize = pieces.iter().map(|own| own.2.len()).sum();
        prop_assert!(seen.wire.requests() as usize * 9 <= sent);
        prop_assert!(seen.wire.unread as usize <= 1 + sent / 9);
        prop_assert_eq!(seen.wire.latencies.count() + seen.wire.unanswered, seen.wire.requests());
    }
}
