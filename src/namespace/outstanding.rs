//! Decides what one connection still waits for, from what its packets and its socket show.

/// What one connection still waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Requests whose answer is not complete.
    pub unanswered: u32,
    /// Only silence shows the end: a tunnel, an endless answer, or bytes that cannot be read.
    pub until_silent: bool,
}

/// Which evidence is good enough for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Every byte was captured and read: the packets are exact.
    Packets,
    /// HTTP/1.1 that was captured in part, or TLS: the socket's ages add what the packets do not show.
    Ages,
    /// As `Ages`, but the client sent something that begins no request: it may be a tunnel.
    AgesAndSilence,
    /// TCP, or HTTP/2 that was captured in part: ages say nothing about requests.
    Silence,
}

/// Combines what the packets and the socket's ages show. Without exact packets, a request counts if either shows it.
pub fn outstanding(evidence: Evidence, packets: Outstanding, ages: Outstanding) -> Outstanding {
    let unanswered = packets.unanswered.max(ages.unanswered);
    match evidence {
        Evidence::Packets => packets,
        Evidence::Ages => Outstanding {
            unanswered,
            until_silent: ages.until_silent,
        },
        Evidence::AgesAndSilence => Outstanding {
            unanswered,
            until_silent: ages.unanswered == 0,
        },
        Evidence::Silence => Outstanding {
            unanswered: packets.unanswered,
            until_silent: packets.unanswered == 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn is(unanswered: u32, until_silent: bool) -> Outstanding {
        Outstanding {
            unanswered,
            until_silent,
        }
    }

    /// What the ages can show: nothing, a request, or an answer that goes on after a pause.
    const AGES: [Outstanding; 3] = [is(0, false), is(1, false), is(0, true)];

    #[test]
    fn every_combination_of_evidence_has_one_result() {
        use Evidence::{Ages, AgesAndSilence, Packets, Silence};
        // For what the packets show, the result with each of AGES.
        let table = [
            (Packets, is(0, false), [is(0, false); 3]),
            (Packets, is(0, true), [is(0, true); 3]),
            (Packets, is(2, false), [is(2, false); 3]),
            (Packets, is(2, true), [is(2, true); 3]),
            (
                Ages,
                is(0, false),
                [is(0, false), is(1, false), is(0, true)],
            ),
            (Ages, is(0, true), [is(0, false), is(1, false), is(0, true)]),
            (
                Ages,
                is(2, false),
                [is(2, false), is(2, false), is(2, true)],
            ),
            (Ages, is(2, true), [is(2, false), is(2, false), is(2, true)]),
            (
                AgesAndSilence,
                is(0, false),
                [is(0, true), is(1, false), is(0, true)],
            ),
            (
                AgesAndSilence,
                is(0, true),
                [is(0, true), is(1, false), is(0, true)],
            ),
            (
                AgesAndSilence,
                is(2, false),
                [is(2, true), is(2, false), is(2, true)],
            ),
            (
                AgesAndSilence,
                is(2, true),
                [is(2, true), is(2, false), is(2, true)],
            ),
            (Silence, is(0, false), [is(0, true); 3]),
            (Silence, is(0, true), [is(0, true); 3]),
            (Silence, is(2, false), [is(2, false); 3]),
            (Silence, is(2, true), [is(2, false); 3]),
        ];
        for (evidence, packets, expected) in table {
            let found = AGES.map(|ages| outstanding(evidence, packets, ages));
            assert_eq!(found, expected, "{evidence:?} with packets {packets:?}");
        }
    }

    #[test]
    fn a_request_that_the_packets_show_is_never_dropped() {
        for evidence in [
            Evidence::Packets,
            Evidence::Ages,
            Evidence::AgesAndSilence,
            Evidence::Silence,
        ] {
            for ages in AGES {
                let found = outstanding(evidence, is(2, false), ages);
                assert_eq!(found.unanswered, 2, "{evidence:?}");
            }
        }
    }
}
