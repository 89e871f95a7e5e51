//! Streams side by side, cut into segments at random places.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::arbitrary::mutated;
use crate::namespace::segmentation::segments;

const QUIET: u64 = 5000;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const PING: u8 = 6;
const END: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn opened(streams: &[u32]) -> H2 {
    let mut h2 = H2::from_start();
    h2.inbound(0, PREFACE);
    h2.inbound(0, &frame(4, 0, 0, &[]));
    h2.outbound(0, &frame(4, 0, 0, &[0; 12]));
    for stream in streams {
        h2.inbound(0, &frame(HEADERS, END | 4, *stream, b"hpack"));
    }
    h2
}

#[test]
fn a_stream_counts_until_the_last_byte_of_its_last_frame() {
    let mut h2 = opened(&[1, 3]);
    assert_eq!(h2.unanswered(0, QUIET), 2);
    h2.outbound(10, &frame(HEADERS, 4, 3, b"hpack"));
    let last = frame(DATA, END, 3, b"hello");
    h2.outbound(10, &last[..last.len() - 1]);
    assert_eq!(h2.unanswered(10, QUIET), 2);
    h2.outbound(11, &last[last.len() - 1..]);
    assert_eq!(h2.unanswered(11, QUIET), 1);
    assert_eq!(
        h2.unanswered(99_999, QUIET),
        1,
        "a request without an answer counts for ever"
    );
    h2.outbound(100_000, &frame(HEADERS, END | 4, 1, b"hpack"));
    assert_eq!(h2.unanswered(100_000, QUIET), 0);
}

#[test]
fn a_reset_by_either_side_closes_the_stream() {
    let mut h2 = opened(&[1, 3]);
    h2.inbound(5, &frame(RESET, 0, 1, &[0; 4]));
    h2.outbound(5, &frame(RESET, 0, 3, &[0; 4]));
    assert_eq!(h2.unanswered(5, QUIET), 0);
}

#[test]
fn trailers_and_pings_open_nothing() {
    let mut h2 = opened(&[1]);
    h2.inbound(5, &frame(DATA, 0, 1, b"upload"));
    h2.inbound(5, &frame(HEADERS, END | 4, 1, b"trailers"));
    h2.inbound(5, &frame(PING, 0, 0, &[0; 8]));
    assert_eq!(h2.unanswered(5, QUIET), 1);
    h2.outbound(6, &frame(HEADERS, END | 4, 1, b"hpack"));
    h2.inbound(7, &frame(DATA, END, 1, b"late"));
    assert_eq!(h2.unanswered(7, QUIET), 0);
}

#[test]
fn an_answer_that_began_and_fell_silent_is_a_subscription() {
    let mut h2 = opened(&[1]);
    h2.outbound(1000, &frame(HEADERS, 4, 1, b"hpack"));
    assert_eq!(h2.unanswered(5999, QUIET), 1);
    assert_eq!(h2.unanswered(6000, QUIET), 0);
    h2.outbound(7000, &frame(DATA, 0, 1, b"event"));
    assert_eq!(h2.unanswered(7000, QUIET), 1);
}

#[test]
fn a_connection_captured_from_its_middle_is_certain_after_the_quiet_time() {
    let mut h2 = H2::default();
    h2.inbound(100, b"in the middle of something");
    h2.inbound(200, &frame(HEADERS, END | 4, 7, b"hpack"));
    assert!(!h2.is_certain(9000, QUIET));
    h2.outbound(1000, &frame(DATA, 0, 5, b"an older stream"));
    assert_eq!(h2.unanswered(1000, QUIET), 2);
    assert!(!h2.is_certain(5999, QUIET));
    assert!(h2.is_certain(6000, QUIET));
    h2.outbound(6000, &frame(DATA, END, 5, b"its end"));
    h2.outbound(6000, &frame(HEADERS, END, 7, b"hpack"));
    assert_eq!(h2.unanswered(6000, QUIET), 0);
}

#[test]
fn a_gap_inside_a_payload_is_harmless_and_any_other_ends_certainty() {
    let mut h2 = opened(&[1]);
    let data = frame(DATA, END, 1, &[0; 1000]);
    h2.outbound(1, &data[..100]);
    h2.outbound_lost(2, 900);
    assert!(h2.is_certain(2, QUIET));
    h2.outbound(3, &data[1000..]);
    assert_eq!(h2.unanswered(3, QUIET), 0);
    h2.outbound_lost(4, 1);
    assert!(!h2.is_certain(4, QUIET));
}

#[test]
fn bytes_that_are_not_http2_end_certainty() {
    let mut h2 = opened(&[]);
    h2.outbound(1, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(!h2.is_certain(1, QUIET));
}

proptest! {
    #[test]
    fn no_segmentation_changes_which_streams_are_open(
        streams in vec((any::<bool>(), vec(0_usize..300, 0..3)), 1..8),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let ids = (0..streams.len() as u32).map(|number| 2 * number + 1);
        let requests: Vec<u8> = ids.clone().flat_map(|id| frame(HEADERS, 4, id, b"hpack")).collect();
        let requests = [PREFACE, &requests].concat();
        let mut answers = Vec::new();
        let mut closed = 0;
        for (id, (ends, sizes)) in ids.zip(&streams) {
            answers.extend(frame(HEADERS, 4, id, b"hpack"));
            answers.extend(sizes.iter().flat_map(|size| frame(DATA, 0, id, &vec![0; *size])));
            if *ends {
                answers.extend(frame(DATA, END, id, b"end"));
                closed += 1;
            }
        }
        let mut h2 = H2::from_start();
        for segment in segments(&requests, &cuts) {
            h2.inbound(1, segment);
        }
        prop_assert_eq!(h2.unanswered(1, QUIET) as usize, streams.len());
        for segment in segments(&answers, &cuts) {
            h2.outbound(1, segment);
        }
        prop_assert!(h2.is_certain(1, QUIET));
        prop_assert_eq!(h2.unanswered(1, QUIET) as usize, streams.len() - closed);
    }

    #[test]
    fn arbitrary_bytes_are_survived(pieces in vec((any::<bool>(), vec(any::<u8>(), 0..64)), 0..32)) {
        for mut h2 in [H2::from_start(), H2::default()] {
            for (inbound, bytes) in &pieces {
                if *inbound { h2.inbound(1, bytes) } else { h2.outbound(1, bytes) }
            }
            let _ = h2.unanswered(1, QUIET);
        }
    }
}

#[test]
fn a_connection_with_too_many_open_streams_is_followed_from_its_middle() {
    let mut h2 = opened(&[]);
    for number in 0..MOST_STREAMS as u32 {
        h2.inbound(1, &frame(HEADERS, END | 4, 2 * number + 1, b"hpack"));
    }
    assert!(h2.is_certain(1, QUIET));
    assert_eq!(h2.unanswered(1, QUIET) as usize, MOST_STREAMS);
    for number in 0..3 * MOST_STREAMS as u32 {
        h2.inbound(2, &frame(HEADERS, END | 4, 2 * number + 20_001, b"hpack"));
        assert!(h2.open.len() <= MOST_STREAMS);
    }
    assert!(!h2.is_certain(2, QUIET));
}

// A preface, settings, a request with a body, a reset and a ping.
const CLIENT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\x04\0\0\0\x01hp\
    \0\0\x02\0\x01\0\0\0\x01ab\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";

proptest! {
    #[test]
    fn changed_frames_read_the_same_in_any_segments_from_the_start(
        frames in mutated(CLIENT), answers in mutated(&CLIENT[24..]), cuts in vec(any::<usize>(), 0..12),
    ) {
        let (mut whole, mut cut) = (H2::from_start(), H2::from_start());
        whole.inbound(1, &frames);
        whole.outbound(1, &answers);
        segments(&frames, &cuts).into_iter().for_each(|segment| cut.inbound(1, segment));
        segments(&answers, &cuts).into_iter().for_each(|segment| cut.outbound(1, segment));
        // A position that is lost may be found again at the next segment, so the two may differ.
        if whole.from_start && cut.from_start {
            prop_assert_eq!(whole.unanswered(1, QUIET), cut.unanswered(1, QUIET));
        }
        prop_assert!(whole.open.len() <= (frames.len() + answers.len()) / 9);
    }
}
