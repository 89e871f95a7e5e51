//! Judges one connection by its ages alone: received more recently than sent is a request that is not answered yet.
//!
//! Exact for HTTP/1.1 request and answer, but for two cases in which it errs on the side of waiting: both ages fall
//! into one jiffy, or the answer pauses.

use super::tcp_info::TcpInfo;

/// A pause inside an answer, in milliseconds, that is longer than scheduling explains.
const PAUSE: i64 = 50;
/// Ages run in jiffies, so that one moment comes out a few milliseconds apart from look to look.
const SAME: i64 = 20;

/// What the ages say.
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
    /// Judges by a look at time `now`, in milliseconds of one clock; `quiet` is what silence means here.
    pub fn judge(&mut self, now: u64, info: &TcpInfo, unread: u32, quiet: u64) -> Judgement {
        self.notice_pauses(now, info);
        let undecided = info.last_data_recv == info.last_data_sent;
        let waits = unread > 0
            || info.data_segs_out == 0
            || info.last_data_recv < info.last_data_sent
            || undecided && !acknowledged_later(info) && silence(info) < quiet;
        if info.bytes_received == 0 {
            Judgement::Idle
        } else if waits {
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
            sent_last: info.last_data_sent < info.last_data_recv || acknowledged_later(info),
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

/// Whether an acknowledgement came alone, and later than the last data.
///
/// It can only be for what was sent last: had a request come after that, the request would have carried it.
fn acknowledged_later(info: &TcpInfo) -> bool {
    info.last_ack_recv < info.last_data_recv && info.last_ack_recv < info.last_data_sent
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
            bytes_received: 80,
            data_segs_in: 1,
            data_segs_out: 1,
        }
    }

    fn judge(info: &TcpInfo) -> Judgement {
        Ages::default().judge(10_000, info, 0, QUIET)
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
    fn what_the_application_has_not_read_is_unanswered() {
        let judgement = Ages::default().judge(10_000, &info(8, 900), 12, QUIET);
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
    }

    #[test]
    fn an_answer_that_goes_on_after_a_pause_streams_until_it_is_silent() {
        let mut ages = Ages::default();
        assert_eq!(
            ages.judge(1000, &info(900, 1000), 0, QUIET),
            Judgement::Idle
        );
        assert_eq!(
            ages.judge(1020, &info(4, 1020), 0, QUIET),
            Judgement::Streaming
        );
        assert_eq!(
            ages.judge(3020, &info(2004, 3020), 0, QUIET),
            Judgement::Streaming
        );
        assert_eq!(
            ages.judge(6120, &info(5104, 6120), 0, QUIET),
            Judgement::Idle
        );
    }

    #[test]
    fn the_next_request_ends_the_stream_before_it() {
        let mut ages = Ages::default();
        ages.judge(1000, &info(900, 1000), 0, QUIET);
        ages.judge(1020, &info(4, 1020), 0, QUIET);
        assert_eq!(
            ages.judge(1200, &info(184, 100), 0, QUIET),
            Judgement::Unanswered
        );
        assert_eq!(ages.judge(1300, &info(4, 200), 0, QUIET), Judgement::Idle);
    }

    #[test]
    fn an_answer_in_one_go_is_no_stream_however_long_it_took() {
        let mut ages = Ages::default();
        assert_eq!(
            ages.judge(1000, &info(1000, 900), 0, QUIET),
            Judgement::Unanswered
        );
        assert_eq!(ages.judge(4000, &info(20, 3900), 0, QUIET), Judgement::Idle);
    }
}
