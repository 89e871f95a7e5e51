//! Judges one connection by its ages alone: received more recently than sent is a request that is not answered yet.
//!
//! Exact for HTTP/1.1 request and answer, but for two cases: where both ages fall into one jiffy and nothing else tells
//! which came last, it errs on the side of waiting; an answer that pauses is noticed only when it goes on.

use std::cmp::Ordering;

use super::tcp_info::TcpInfo;

/// A pause inside an answer, in milliseconds, that is longer than scheduling explains.
const PAUSE: i64 = 50;
/// The longest that a kernel waits for an answer to carry the acknowledgement of a request: `TCP_DELACK_MAX`, and a
/// jiffy.
const DELAYED_ACK: u64 = 210;
/// Ages run in jiffies, so that one moment comes out a few milliseconds apart from look to look.
const SAME: i64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Everything received has been answered.
    Idle,
    /// Something received has not been answered.
    Unanswered,
    /// Sends again and again without being asked: over when it falls silent.
    Streaming,
}

/// What earlier looks at the connection have shown.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    last: Option<Last>,
    /// Sent after a pause, with nothing received in between.
    pauses: bool,
}

/// The look before; times are in milliseconds of the watch's clock, negative before it began.
#[derive(Clone, Copy, Debug)]
struct Last {
    sent: i64,
    received: i64,
    sent_last: bool,
}

impl Ages {
    /// Judges by a look at time `now`, in milliseconds of one clock; `quiet` is what silence means here, and `sent_last`
    /// says that something else shows that nothing was received after what was sent last.
    pub fn judge(
        &mut self,
        now: u64,
        info: &TcpInfo,
        unread: u32,
        quiet: u64,
        sent_last: bool,
    ) -> Judgement {
        self.notice_pauses(now, info);
        let waits = match came_last(info) {
            CameLast::Sent => false,
            CameLast::Received => true,
            CameLast::Unclear => !sent_last && silence(info) < quiet,
        };
        if info.bytes_received == 0 {
            Judgement::Idle
        } else if unread > 0 || waits {
            Judgement::Unanswered
        } else if self.pauses && silence(info) < quiet {
            Judgement::Streaming
        } else {
            Judgement::Idle
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

/// Milliseconds since data moved, either way.
pub fn silence(info: &TcpInfo) -> u64 {
    u64::from(info.last_data_recv.min(info.last_data_sent))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CameLast {
    Sent,
    Received,
    Unclear,
}

/// What came last, sending or receiving.
///
/// Where both fell into one jiffy, an acknowledgement that came alone and later can only be for what was sent last: had
/// a request come after that, the request would have carried it. And where we never acknowledged anything but by
/// sending (the one segment without data answers the SYN), nothing was received and then left alone.
fn came_last(info: &TcpInfo) -> CameLast {
    let acknowledged_later = info.last_ack_recv < info.last_data_recv;
    let never_silent = info.segs_out == info.data_segs_out.wrapping_add(1);
    match info.last_data_sent.cmp(&info.last_data_recv) {
        // Its age is the connection's then.
        _ if info.data_segs_out == 0 => CameLast::Received,
        Ordering::Less => CameLast::Sent,
        Ordering::Greater => CameLast::Received,
        Ordering::Equal if acknowledged_later => CameLast::Sent,
        Ordering::Equal if never_silent && silence(info) >= DELAYED_ACK => CameLast::Sent,
        Ordering::Equal => CameLast::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: u64 = 5000;

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

    fn judge(info: &TcpInfo) -> Judgement {
        Ages::default().judge(10_000, info, 0, QUIET, false)
    }

    #[test]
    fn a_silent_request_is_unanswered_until_something_is_sent() {
        assert_eq!(judge(&info(1516, 1496)), Judgement::Unanswered);
        assert_eq!(judge(&info(308, 3308)), Judgement::Idle);
    }

    #[test]
    fn a_connection_that_never_received_is_idle() {
        let fresh = TcpInfo {
            bytes_received: 0,
            data_segs_out: 0,
            ..info(40, 40)
        };
        assert_eq!(judge(&fresh), Judgement::Idle);
    }

    #[test]
    fn a_first_request_right_after_the_handshake_is_unanswered_though_the_ages_are_equal() {
        let first = TcpInfo {
            data_segs_out: 0,
            ..info(40, 40)
        };
        assert_eq!(judge(&first), Judgement::Unanswered);
    }

    #[test]
    fn the_answer_to_a_first_request_is_no_stream() {
        let mut ages = Ages::default();
        let first = TcpInfo {
            data_segs_out: 0,
            last_ack_recv: 90,
            ..info(100, 100)
        };
        assert_eq!(
            ages.judge(1000, &first, 0, QUIET, false),
            Judgement::Unanswered
        );
        assert_eq!(
            ages.judge(1500, &info(0, 600), 0, QUIET, false),
            Judgement::Idle
        );
    }

    #[test]
    fn what_the_application_has_not_read_is_unanswered() {
        let judgement = Ages::default().judge(10_000, &info(8, 900), 12, QUIET, false);
        assert_eq!(judgement, Judgement::Unanswered);
    }

    #[test]
    fn equal_ages_are_unanswered_until_a_later_acknowledgement_or_a_long_silence() {
        let equal = info(300, 300);
        assert_eq!(judge(&equal), Judgement::Unanswered);
        let acknowledged = TcpInfo {
            last_ack_recv: 260,
            ..equal
        };
        assert_eq!(judge(&acknowledged), Judgement::Idle);
        assert_eq!(judge(&info(5000, 5000)), Judgement::Idle);
        let judgement = Ages::default().judge(10_000, &equal, 0, QUIET, true);
        assert_eq!(judgement, Judgement::Idle, "packets have shown the order");
    }

    #[test]
    fn equal_ages_are_idle_where_nothing_was_ever_acknowledged_without_an_answer() {
        let prompt = |age| TcpInfo {
            segs_out: 2,
            ..info(age, age)
        };
        assert_eq!(
            judge(&prompt(40)),
            Judgement::Unanswered,
            "it may still come"
        );
        assert_eq!(judge(&prompt(300)), Judgement::Idle);
    }

    #[test]
    fn an_answer_that_goes_on_after_a_pause_streams_until_it_is_silent() {
        let mut ages = Ages::default();
        assert_eq!(
            ages.judge(1000, &info(900, 1000), 0, QUIET, false),
            Judgement::Idle
        );
        assert_eq!(
            ages.judge(1020, &info(4, 1020), 0, QUIET, false),
            Judgement::Streaming
        );
        assert_eq!(
            ages.judge(3020, &info(2004, 3020), 0, QUIET, false),
            Judgement::Streaming
        );
        assert_eq!(
            ages.judge(6120, &info(5104, 6120), 0, QUIET, false),
            Judgement::Idle
        );
    }

    #[test]
    fn the_next_request_ends_the_stream_before_it() {
        let mut ages = Ages::default();
        ages.judge(1000, &info(900, 1000), 0, QUIET, false);
        ages.judge(1020, &info(4, 1020), 0, QUIET, false);
        assert_eq!(
            ages.judge(1200, &info(184, 100), 0, QUIET, false),
            Judgement::Unanswered
        );
        assert_eq!(
            ages.judge(1300, &info(4, 200), 0, QUIET, false),
            Judgement::Idle
        );
    }

    #[test]
    fn an_answer_in_one_go_is_no_stream_however_long_it_took() {
        let mut ages = Ages::default();
        assert_eq!(
            ages.judge(1000, &info(1000, 900), 0, QUIET, false),
            Judgement::Unanswered
        );
        assert_eq!(
            ages.judge(4000, &info(20, 3900), 0, QUIET, false),
            Judgement::Idle
        );
    }
}
