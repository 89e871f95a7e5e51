//! Whole connections, cut into segments at random places.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::arbitrary::mutated;
use crate::namespace::segmentation::segments;

fn connection(request: &str, answer: &str) -> Http1 {
    let mut http = Http1::default();
    http.inbound(request.as_bytes()).unwrap();
    http.outbound(answer.as_bytes()).unwrap();
    http
}

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";

#[test]
fn a_request_counts_from_its_first_byte_to_the_last_of_its_answer() {
    let mut http = Http1::default();
    assert_eq!(http.unanswered(), 0);
    http.inbound(b"G").unwrap();
    assert_eq!(http.unanswered(), 1);
    http.inbound(&GET.as_bytes()[1..]).unwrap();
    assert_eq!(http.unanswered(), 1);
    http.outbound(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        .unwrap();
    assert_eq!(http.unanswered(), 1);
    http.outbound(b"k").unwrap();
    assert_eq!(http.unanswered(), 0);
    assert!(!http.streams());
}

#[test]
fn a_chunked_answer_that_pauses_is_unanswered_through_all_its_pauses() {
    let mut http = connection(
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    );
    assert_eq!(http.unanswered(), 1);
    http.outbound(b"0\r\n\r\n").unwrap();
    assert_eq!(http.unanswered(), 0);
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let head = "HEAD / HTTP/1.1\r\n\r\n";
    assert_eq!(
        connection(head, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").unanswered(),
        0
    );
    assert_eq!(
        connection(GET, "HTTP/1.1 204 No Content\r\n\r\n").unanswered(),
        0
    );
    assert_eq!(
        connection(GET, "HTTP/1.1 304 Not Modified\r\n\r\n").unanswered(),
        0
    );
}

#[test]
fn an_interim_answer_is_no_answer() {
    let mut http = connection(GET, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    assert_eq!(http.unanswered(), 1);
    http.outbound(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(http.unanswered(), 0);
}

#[test]
fn pipelined_requests_are_answered_one_by_one() {
    let mut http = Http1::default();
    http.inbound(GET.repeat(3).as_bytes()).unwrap();
    assert_eq!(http.unanswered(), 3);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    http.outbound(answer.repeat(2).as_bytes()).unwrap();
    assert_eq!(http.unanswered(), 1);
}

#[test]
fn an_upload_counts_until_it_is_answered_and_the_next_request_is_found_behind_it() {
    let mut http = Http1::default();
    http.inbound(b"POST /upload HTTP/1.1\r\nContent-Length: 4\r\n\r\nab")
        .unwrap();
    assert_eq!(http.unanswered(), 1);
    http.inbound(b"cdGET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(http.unanswered(), 2);
}

#[test]
fn an_upgraded_connection_is_a_stream_and_is_not_read_further() {
    let mut http = connection(GET, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x01\x02");
    http.inbound(b"\x81\x05GET /").unwrap();
    http.outbound(b"\x81\x00").unwrap();
    assert_eq!((http.unanswered(), http.streams()), (0, true));
}

#[test]
fn server_sent_events_are_a_stream_until_they_end() {
    let events =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut http = connection(GET, events);
    assert_eq!((http.unanswered(), http.streams()), (0, true));
    http.outbound(b"0\r\n\r\n").unwrap();
    assert_eq!((http.unanswered(), http.streams()), (0, false));
}

#[test]
fn an_answer_without_a_length_ends_with_the_connection() {
    let mut http = connection(GET, "HTTP/1.0 200 OK\r\n\r\nsome");
    assert_eq!(http.unanswered(), 1);
    http.outbound_closed();
    assert_eq!(http.unanswered(), 0);
}

#[test]
fn a_gap_is_harmless_inside_a_counted_body_only() {
    let mut http = connection(GET, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    http.outbound_lost(900).unwrap();
    assert_eq!(http.unanswered(), 1);
    http.outbound_lost(100).unwrap();
    assert_eq!(http.unanswered(), 0);
    assert_eq!(http.outbound_lost(1), Err(OutOfSync));
    assert_eq!(http.inbound_lost(1), Err(OutOfSync));
}

/// A request, and its answer whose end is known.
fn exchange() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let upload = prop_oneof![
        Just("GET /x HTTP/1.1\r\nHost: w\r\n\r\n".to_owned()),
        "[a-z\r\n]{1,40}".prop_map(|body| format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )),
        vec("[a-z\r\n]{1,20}", 0..4).prop_map(|chunks| format!(
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            framed(&chunks)
        )),
    ];
    let answer = prop_oneof![
        Just("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        "[a-z\r\n]{0,40}".prop_map(|body| format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )),
        vec("[a-z\r\n]{1,20}", 0..4).prop_map(|chunks| format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            framed(&chunks)
        )),
    ];
    (upload, answer).prop_map(|(request, answer)| (request.into_bytes(), answer.into_bytes()))
}

fn framed(chunks: &[String]) -> String {
    let chunks = chunks
        .iter()
        .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    chunks.chain(["0\r\n\r\n".to_owned()]).collect()
}

proptest! {
    #[test]
    fn no_segmentation_changes_what_is_unanswered(
        exchanges in vec(exchange(), 1..5),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let mut http = Http1::default();
        for (request, answer) in &exchanges {
            for segment in segments(request, &cuts) {
                http.inbound(segment).unwrap();
            }
            prop_assert_eq!(http.unanswered(), 1);
            let (last, all_but_last) = answer.split_last().unwrap();
            for segment in segments(all_but_last, &cuts) {
                http.outbound(segment).unwrap();
                prop_assert_eq!(http.unanswered(), 1);
            }
            http.outbound(&[*last]).unwrap();
            prop_assert_eq!(http.unanswered(), 0);
        }
    }

    #[test]
    fn pipelining_counts_each_request_whatever_the_segments(
        exchanges in vec(exchange(), 1..5),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let requests: Vec<u8> = exchanges.iter().flat_map(|(request, _)| request.clone()).collect();
        let mut http = Http1::default();
        for segment in segments(&requests, &cuts) {
            http.inbound(segment).unwrap();
        }
        for (done, (_, answer)) in exchanges.iter().enumerate() {
            prop_assert_eq!(http.unanswered() as usize, exchanges.len() - done);
            for segment in segments(answer, &cuts) {
                http.outbound(segment).unwrap();
            }
        }
        prop_assert_eq!(http.unanswered(), 0);
    }

    #[test]
    fn arbitrary_bytes_are_survived(pieces in vec((any::<bool>(), vec(any::<u8>(), 0..64)), 0..32)) {
        let mut http = Http1::default();
        for (inbound, bytes) in &pieces {
            let _ = if *inbound { http.inbound(bytes) } else { http.outbound(bytes) };
            let _ = http.unanswered();
        }
    }
}

#[test]
fn a_head_without_an_end_is_given_up() {
    let mut http = Http1::default();
    http.inbound(b"GET / HTTP/1.1\r\n").unwrap();
    let line = [&b"x: "[..], &[b'y'; 1000], b"\r\n"].concat();
    let taken = (0..1000).take_while(|_| http.inbound(&line).is_ok());
    assert!(taken.count() * line.len() <= 128 * 1024);
    let mut http = Http1::default();
    assert_eq!(http.outbound(&[b'H'; 200 * 1024]), Err(OutOfSync));
}

#[test]
fn requests_that_are_never_answered_are_given_up() {
    let mut http = Http1::default();
    http.inbound(GET.repeat(MOST_PENDING).as_bytes()).unwrap();
    assert_eq!(http.unanswered() as usize, MOST_PENDING);
    assert_eq!(http.inbound(GET.as_bytes()), Err(OutOfSync));
}

const REQUESTS: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabPUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: x\r\n\r\nGET / HTTP/1.1\r\n\r\n";
const ANSWERS: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

proptest! {
    #[test]
    fn changed_connections_read_the_same_in_any_segments(
        requests in mutated(REQUESTS), answers in mutated(ANSWERS), cuts in vec(any::<usize>(), 0..12),
    ) {
        let (mut whole, mut cut) = (Http1::default(), Http1::default());
        let read = [whole.inbound(&requests), whole.outbound(&answers)];
        let by_segments = [
            segments(&requests, &cuts).into_iter().try_for_each(|segment| cut.inbound(segment)),
            segments(&answers, &cuts).into_iter().try_for_each(|segment| cut.outbound(segment)),
        ];
        prop_assert_eq!(read, by_segments);
        if read == [Ok(()); 2] {
            prop_assert_eq!((whole.unanswered(), whole.streams()), (cut.unanswered(), cut.streams()));
        }
        prop_assert!(whole.unanswered() as usize <= requests.len());
    }
}
