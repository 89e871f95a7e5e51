//! The lines that the helper and the CLI exchange about a replica's traffic.

use std::{num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

use super::wire::Wire;

/// The protocol of a routed port, as far as it decides how the end of an answer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, or h2c if a connection begins with its preface.
    Http1,
    /// HTTP/2 without TLS. A connection that cannot be read (TLS, or captured from its middle) counts until it is silent.
    H2c,
    /// Anything else over TCP: every connection counts until it is silent.
    Stream,
}

impl Protocol {
    /// Its name in the helper's arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::Stream => "stream",
        }
    }
}

/// A routed port and its protocol, written `80` or `80=h2c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutedPort {
    pub port: NonZeroU16,
    /// HTTP/1.1 if none is given.
    pub protocol: Protocol,
}

impl FromStr for RoutedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, word) = text.split_once('=').unwrap_or((text, "http1"));
        Ok(Self {
            port: port
                .parse()
                .map_err(|_| format!("{port:?} is not a port"))?,
            protocol: <Protocol as clap::ValueEnum>::from_str(word, false)?,
        })
    }
}

/// The connections of a replica on its routed ports, and what they still wait for.
///
/// Only connections from another network namespace count: not those over loopback or from its own addresses, and not those
/// that it opened itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Open connections, idle ones too.
    pub connections: u32,
    /// Requests, incomplete ones too, whose answer is not complete.
    pub unanswered: u32,
    /// Connections without requests to count (WebSockets, TCP, endless answers) that carried data within the quiet time.
    pub streaming: u32,
    /// Connections with data that the other side has not acknowledged.
    pub unsent: u32,
    /// Milliseconds since one of these connections carried data, or since the start of the watch.
    pub quiet_ms: u64,
    /// Whether packets are captured. If not, the sockets' ages decide, and a pause can be taken for the end of an answer.
    pub exact: bool,
    /// The number of the request that this line answers. The look began after the request arrived.
    pub answer_to: Option<u64>,
    /// What was counted since the beginning, in a line that answers a request and if packets are captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
}

impl Traffic {
    /// Whether stopping the replica now would interrupt a request or a connection.
    pub fn busy(&self) -> bool {
        self.unanswered > 0 || self.streaming > 0 || self.unsent > 0
    }

    /// The counts alone, without the fields that differ in every line.
    pub fn counts(&self) -> Self {
        Self {
            quiet_ms: 0,
            answer_to: None,
            wire: None,
            ..self.clone()
        }
    }
}

/// A line on standard input of `watch`: asks for a new look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// A number that comes back as `answer_to`.
    pub ask: u64,
    /// From here on, the shortest pause before a look that is not asked for, in milliseconds: for a replica whose counts
    /// alone matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{mutated_text, replaced},
        namespace::readiness::Readiness,
    };

    #[test]
    fn a_line_reads_back_as_what_was_written() {
        let traffic = Traffic {
            connections: 2,
            unanswered: 1,
            quiet_ms: 7,
            answer_to: Some(3),
            ..Traffic::default()
        };
        let line = serde_json::to_string(&traffic).unwrap();
        assert_eq!(
            line,
            r#"{"connections":2,"unanswered":1,"streaming":0,"unsent":0,"quiet_ms":7,"exact":false,"answer_to":3}"#
        );
        assert_eq!(serde_json::from_str::<Traffic>(&line).unwrap(), traffic);
    }

    #[test]
    fn idle_connections_alone_are_not_busy() {
        let idle = Traffic {
            connections: 9,
            ..Traffic::default()
        };
        assert!(!idle.busy());
        for (unanswered, streaming, unsent) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let busy = Traffic {
                unanswered,
                streaming,
                unsent,
                ..idle.clone()
            };
            assert!(busy.busy());
        }
    }

    proptest! {
        #[test]
        fn any_line_of_the_helper_reads_back_or_is_refused(
            traffic in replaced(serde_json::json!({"connections": 2, "unanswered": 1, "streaming": 0, "unsent": 0,
                "quiet_ms": 7, "exact": false, "answer_to": 3,
                "wire": {"answers": [0, 9, 0, 0, 1], "unanswered": 1, "unread": 0, "latencies": {"70": 10}}})),
            readiness in replaced(serde_json::json!({"listening": [80], "loopback_only": [], "answers": true, "detail": "x"})),
            noise in mutated_text(r#"{"ask":5}"#),
        ) {
            for line in [traffic.to_string(), noise.clone()] {
                if let Ok(read) = serde_json::from_str::<Traffic>(&line) {
                    let text = serde_json::to_string(&read).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Traffic>(&text).unwrap(), read);
                }
            }
            if let Ok(read) = serde_json::from_value::<Readiness>(readiness) {
                prop_assert_eq!(serde_json::from_value::<Readiness>(serde_json::json!(read)).unwrap(), read);
            }
            let _ = serde_json::from_str::<Ask>(&noise);
        }

        #[test]
        fn any_text_is_a_routed_port_that_reads_back_or_none(text in mutated_text("80=http1")) {
            if let Ok(RoutedPort { port, protocol }) = text.parse() {
                let again = format!("{port}={}", protocol.word());
                prop_assert_eq!(again.parse(), Ok(RoutedPort { port, protocol }));
            }
        }
    }
}
