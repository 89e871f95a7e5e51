//! Judges one connection by its socket's ages alone: data received more recently than sent is an unanswered request.
//!
//! This is exact for HTTP/1.1, with two exceptions. If both ages fall into one jiffy and nothing else shows the order, the
//! request counts as unanswered. A pause inside an answer is noticed only when the answer goes on.

use std::cmp::Ordering;

use super::outstanding::Outstanding;
use super::tcp_info::TcpInfo;

/// A pause inside an answer, in milliseconds, that scheduling does not explain.
const PAUSE: i64 = 50;
/// The longest time that a kernel delays the acknowledgement of a request, so that an answer can carry it:
/// `TCP_DELACK_MAX`, and a jiffy.
const DELAYED_ACK: u64 = 210;
/// Ages count in jiffies, so one moment differs by a few milliseconds from look to look.
const SAME: i64 = 20;

/// What earlier looks at the connection have shown.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    last: Option<Last>,
    /// The application has sent again after a pause, and nothing was received in between.
    pauses: bool,
}

/// The previous look. Times are in milliseconds of the watch's clock, negative before its start.
#[derive(Clone, Copy, Debug)]
struct Last {
    sent: i64,
    received: i64,
    sent_last: bool,
}

impl Ages {
    /// What a look at time `now` shows; `now` and `quiet` are in milliseconds. `sent_last` says that the packets show the
    /// order: nothing was received after the last data sent.
    pub fn look(
        &mut self,
        now: u64,
        info: &TcpInfo,
        unread: u32,
        quiet: u64,
        sent_last: bool,
    ) -> Outstanding {
        self.notice_pauses(now, info);
        let asked = match came_last(info) {
            CameLast::Sent => false,
            CameLast::Received => true,
            CameLast::Unclear => !sent_last && silence(info) < quiet,
        };
        let waits = info.bytes_received > 0 && (unread > 0 || asked);
        let streams = info.bytes_received > 0 && self.pauses && silence(info) < quiet;
        Outstanding {
            unanswered: u32::from(waits),
            until_silent: streams && !waits,
        }
    }

    fn notice_pauses(&mut self, now: u64, info: &TcpInfo) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let look = Last {
            sent: now - i64::from(info.last_data_sent),
            received: now - i64::from(info.last_data_recv),
            sent_last: came_last(info) == CameLast::Sent,
        };
        if let Some(before) = self.last {
            if look.received - before.received > SAME {
                self.pauses = false;
            } else if before.sent_last && look.sent - before.sent > PAUSE {
                self.pauses = true;
            }
        }
        self.last = Some(look);
    }
}

/// Milliseconds since data moved in either direction.
pub fn silence(info: &TcpInfo) -> u64 {
    u64::from(info.last_data_recv.min(info.last_data_sent))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CameLast {
    Sent,
    Received,
    Unclear,
}

/// Which came last, sending or receiving.
///
/// If both fall into one jiffy, two things can show that sending came last. An acknowledgement that arrived later without
/// data can only be for the last data sent, because a request after it would have carried it. And if no segment without
/// data was sent except the one that answers the SYN, then everything received was acknowledged by an answer.
fn came_last(info: &TcpInfo) -> CameLast {
    let acknowledged_later = info.last_ack_recv < info.last_data_recv;
    let always_answered = info.segs_out == info.data_segs_out.wrapping_add(1);
    match info.last_data_sent.cmp(&info.last_data_recv) {
        // Nothing was sent, so the age of the last data sent is that of the connection.
        _ if info.data_segs_out == 0 => CameLast::Received,
        Ordering::Less => CameLast::Sent,
        Ordering::Greater => CameLast::Received,
        Ordering::Equal if acknowledged_later => CameLast::Sent,
        Ordering::Equal if always_answered && silence(info) >= DELAYED_ACK => CameLast::Sent,
        Ordering::Equal => CameLast::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: u64 = 5000;
    const IDLE: Outstanding = is(0, false);
    const UNANSWERED: Outstanding = is(1, false);
    const STREAMING: Outstanding = is(0, true);

    const fn is(unanswered: u32, until_silent: bool) -> Outstanding {
        Outstanding {
            unanswered,
            until_silent,
        }
    }

    fn info(sent: u32, received: u32) -> TcpInfo {
        TcpInfo {
            last_data_sent: sent,
            last_data_recv: received,
            last_ack_recv: sent.min(received),
            bytes_acked: 0,
            bytes_received: 80,
            segs_out: 3,
            data_segs_out: 1,
        }
    }

    fn first_look(info: &TcpInfo) -> Outstanding {
        Ages::default().look(10_000, info, 0, QUIET, false)
    }

    #[test]
    fn a_silent_request_is_unanswered_until_something_is_sent() {
        assert_eq!(first_look(&info(1516, 1496)), UNANSWERED);
        assert_eq!(first_look(&info(308, 3308)), IDLE);
    }

    #[test]
    fn a_connection_that_never_received_is_idle() {
        let fresh = TcpInfo {
            bytes_received: 0,
            data_segs_out: 0,
            ..info(40, 40)
        };
        assert_eq!(first_look(&fresh), IDLE);
    }

    #[test]
    fn a_first_request_right_after_the_handshake_is_unanswered_though_the_ages_are_equal() {
        let first = TcpInfo {
            data_segs_out: 0,
            ..info(40, 40)
        };
        assert_eq!(first_look(&first), UNANSWERED);
    }

    #[test]
    fn the_answer_to_a_first_request_is_no_stream() {
        let mut ages = Ages::default();
        let first = TcpInfo {
            data_segs_out: 0,
            last_ack_recv: 90,
            ..info(100, 100)
        };
        assert_eq!(ages.look(1000, &first, 0, QUIET, false), UNANSWERED);
        assert_eq!(ages.look(1500, &info(0, 600), 0, QUIET, false), IDLE);
    }

    #[test]
    fn what_the_application_has_not_read_is_unanswered() {
        let found = Ages::default().look(10_000, &info(8, 900), 12, QUIET, false);
        assert_eq!(found, UNANSWERED);
    }

    #[test]
    fn equal_ages_are_unanswered_until_a_later_acknowledgement_or_a_long_silence() {
        let equal = info(300, 300);
        assert_eq!(first_look(&equal), UNANSWERED);
        let acknowledged = TcpInfo {
            last_ack_recv: 260,
            ..equal
        };
        assert_eq!(first_look(&acknowledged), IDLE);
        assert_eq!(first_look(&info(5000, 5000)), IDLE);
        let found = Ages::default().look(10_000, &equal, 0, QUIET, true);
        assert_eq!(found, IDLE, "packets have shown the order");
    }

    #[test]
    fn equal_ages_are_idle_where_nothing_was_ever_acknowledged_without_an_answer() {
        let prompt = |age| TcpInfo {
            segs_out: 2,
            ..info(age, age)
        };
        assert_eq!(first_look(&prompt(40)), UNANSWERED, "it may still come");
        assert_eq!(first_look(&prompt(300)), IDLE);
    }

    #[test]
    fn an_answer_that_goes_on_after_a_pause_streams_until_it_is_silent() {
        let mut ages = Ages::default();
        assert_eq!(ages.look(1000, &info(900, 1000), 0, QUIET, false), IDLE);
        assert_eq!(ages.look(1020, &info(4, 1020), 0, QUIET, false), STREAMING);
        assert_eq!(
            ages.look(3020, &info(2004, 3020), 0, QUIET, false),
            STREAMING
        );
        assert_eq!(ages.look(6120, &info(5104, 6120), 0, QUIET, false), IDLE);
    }

    #[test]
    fn the_next_request_ends_the_stream_before_it() {
        let mut ages = Ages::default();
        ages.look(1000, &info(900, 1000), 0, QUIET, false);
        ages.look(1020, &info(4, 1020), 0, QUIET, false);
        assert_eq!(
            ages.look(1200, &info(184, 100), 0, QUIET, false),
            UNANSWERED
        );
        assert_eq!(ages.look(1300, &info(4, 200), 0, QUIET, false), IDLE);
    }

    #[test]
    fn an_answer_in_one_go_is_no_stream_however_long_it_took() {
        let mut ages = Ages::default();
        assert_eq!(
            ages.look(1000, &info(1000, 900), 0, QUIET, false),
            UNANSWERED
        );
        assert_eq!(ages.look(4000, &info(20, 3900), 0, QUIET, false), IDLE);
    }
}
