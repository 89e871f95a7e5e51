//! The control protocol, which the CLI uses over `docker exec`: one JSON line for a request and one for its response.
//!
//! Both sides write their version in each line and work one version apart. Unknown fields are ignored, and an unknown call
//! is refused with [`FailureKind::UnknownCall`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Claim, Overlay};

/// The protocol version of this build.
pub const VERSION: u32 = 2;
/// The file name of the control socket in the state directory.
pub const SOCKET: &str = "control.sock";
/// The longest line, in bytes: the largest `fetch` with every byte escaped fits.
pub const MAX_LINE: usize = 128 * 1024 * 1024;

/// One line from the CLI, such as `{"control":2,"call":"clear","key":"shop/web","epoch":7}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The CLI's [`VERSION`].
    pub control: u32,
    #[serde(flatten)]
    pub call: Call,
}

/// A request of the CLI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// The version and state of the daemon: [`Answer::Hello`].
    Hello,
    /// The whole overlay: [`Answer::Overlay`].
    Get,
    /// Replaces the claim of its key: [`Answer::Changed`], once it is durable.
    Set { claim: Claim },
    /// Replaces several claims in one generation, all or none: [`Answer::Changed`], once they are durable.
    SetAll { claims: Vec<Claim> },
    /// Ends a key's claim: [`Answer::Changed`], once it is durable.
    Clear {
        /// `project/service`.
        key: String,
        epoch: u64,
    },
    /// The clients of the socket proxy: [`Answer::Readers`].
    Readers,
    /// A GET from the network of the readers, for older CLIs: [`Answer::Fetched`].
    Fetch {
        /// `http(s)://<address of a reader whose container is known>:<port>/…` with a path below `/api/`, or `/metrics`, or
        /// `/ping`.
        url: String,
    },
}

impl Call {
    /// As this build sends it.
    pub fn request(self) -> Request {
        Request {
            control: VERSION,
            call: self,
        }
    }
}

/// One line to the CLI: `{"control":2,"ok":{…}}` or `{"control":2,"error":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The daemon's [`VERSION`].
    pub control: u32,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok(Answer),
    Error(Failure),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Call::Hello`].
    Hello(Hello),
    /// To [`Call::Get`].
    Overlay(Overlay),
    /// To [`Call::Set`], [`Call::SetAll`] and [`Call::Clear`].
    Changed {
        /// The first generation with the change.
        generation: u64,
    },
    /// To [`Call::Readers`].
    Readers {
        /// The current generation; each reader has the one of its last list.
        generation: u64,
        /// All that are kept, those without an open stream too.
        readers: Vec<Reader>,
    },
    /// To [`Call::Fetch`].
    Fetched(Fetched),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the rollout binary.
    pub version: String,
    /// `address:port` where readers connect.
    pub listen: String,
    /// Whether the engine answers.
    pub engine: bool,
    pub generation: u64,
    /// Whether readers see Swarm's services, tasks and nodes.
    #[serde(default)]
    pub swarm: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Without a port.
    pub address: IpAddr,
    /// `Traefik 3.7.15`.
    pub user_agent: String,
    /// The generation of its last list.
    #[serde(default)]
    pub generation: Option<u64>,
    /// Its event streams that are open.
    pub streams: usize,
    /// The running container that has its address.
    #[serde(default)]
    pub container: Option<Container>,
}

impl Reader {
    /// Whether it has to list each generation: its stream is open, and its address is that of a running container.
    pub fn counts(&self) -> bool {
        self.streams > 0 && self.container.is_some()
    }
}

/// A container, named both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
}

/// The result of a [`Call::Fetch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    pub status: u16,
    /// `content-type` and `x-next-page`, by lower-case name.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The body; bytes that are not UTF-8 are replaced.
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

/// The kind of a failure, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The key belongs to a later epoch.
    StaleOwner,
    /// The request is not valid.
    BadRequest,
    /// This daemon does not have the call.
    UnknownCall,
    /// The versions are more than one apart.
    UnsupportedVersion,
    /// The URL is not one that may be fetched.
    FetchRefused,
    /// The URL did not answer.
    FetchFailed,
    /// The engine did not answer.
    EngineUnreachable,
    /// The overlay could not be written.
    Storage,
    /// A kind that a later version has added.
    #[serde(other)]
    Other,
}

impl FailureKind {
    /// With a text for people.
    pub fn because(self, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure {
            kind: self,
            message,
        }
    }
}

/// Reads a request line; a failure is the answer to it.
pub fn parse(line: &str) -> Result<Call, Failure> {
    #[derive(Deserialize)]
    struct Head {
        control: u32,
        #[serde(default)]
        call: String,
    }
    const CALLS: [&str; 7] = [
        "hello", "get", "set", "set_all", "clear", "readers", "fetch",
    ];
    let bad = |error: serde_json::Error| FailureKind::BadRequest.because(error.to_string());
    let head: Head = serde_json::from_str(line).map_err(bad)?;
    if head.control.abs_diff(VERSION) > 1 {
        let message = format!(
            "control version {} and {VERSION} are more than one apart: use the same rollout image for both",
            head.control
        );
        return Err(FailureKind::UnsupportedVersion.because(message));
    }
    if !CALLS.contains(&head.call.as_str()) {
        let message = format!("this socket proxy has no call {:?}", head.call);
        return Err(FailureKind::UnknownCall.because(message));
    }
    let request: Request = serde_json::from_str(line).map_err(bad)?;
    Ok(request.call)
}

/// Writes a response line, its newline included.
pub fn encode(outcome: Result<Answer, Failure>) -> String {
    let response = Response {
        control: VERSION,
        outcome: outcome.map_or_else(Outcome::Error, Outcome::Ok),
    };
    let line = serde_json::to_string(&response).unwrap_or_default();
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{mutated_text, replaced},
        overlay::{Health, Match, Rule},
    };

    #[test]
    fn requests_and_responses_are_written_as_documented() {
        let call = Call::Clear {
            key: "shop/web".to_owned(),
            epoch: 7,
        };
        let line = r#"{"control":2,"call":"clear","key":"shop/web","epoch":7}"#;
        assert_eq!(
            serde_json::to_string(&call.clone().request()).unwrap(),
            line
        );
        assert_eq!(parse(line), Ok(call));
        let response = encode(Ok(Answer::Changed { generation: 3 }));
        assert_eq!(
            response,
            "{\"control\":2,\"ok\":{\"changed\":{\"generation\":3}}}\n"
        );
        let response = encode(Err(FailureKind::StaleOwner.because("late")));
        assert_eq!(
            response,
            "{\"control\":2,\"error\":{\"kind\":\"stale_owner\",\"message\":\"late\"}}\n"
        );
        assert!(serde_json::from_str::<Response>(&response).is_ok());
    }

    #[test]
    fn every_call_of_version_1_is_understood() {
        let on = Match::Id("a".to_owned());
        let set = |rules| Call::Set {
            claim: Claim {
                key: "shop/web".to_owned(),
                rollout: "r".to_owned(),
                epoch: 7,
                stage: "hold".to_owned(),
                rules,
            },
        };
        let key = "shop/web".to_owned();
        let url = "http://10.0.0.2:8080/ping".to_owned();
        for (line, call) in [
            (r#"{"control":1,"call":"hello"}"#, Call::Hello),
            (r#"{"control":1,"call":"get"}"#, Call::Get),
            (
                r#"{"control":1,"call":"set","claim":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{"traefik.enable":"false"}}]}}"#,
                set(vec![Rule::hide(on.clone())]),
            ),
            (
                SET,
                set(vec![
                    Rule::hide(on.clone()),
                    Rule::health(on.clone(), Health::Healthy),
                ]),
            ),
            (
                r#"{"control":1,"call":"clear","key":"shop/web","epoch":7}"#,
                Call::Clear { key, epoch: 7 },
            ),
            (r#"{"control":1,"call":"readers"}"#, Call::Readers),
            (
                r#"{"control":1,"call":"fetch","url":"http://10.0.0.2:8080/ping"}"#,
                Call::Fetch { url },
            ),
        ] {
            assert_eq!(parse(line), Ok(call), "{line}");
        }
    }

    #[test]
    fn a_neighbouring_version_is_understood_and_one_further_off_is_not() {
        let call = |control| parse(&format!(r#"{{"control":{control},"call":"get","more":1}}"#));
        assert_eq!(call(VERSION + 1), Ok(Call::Get));
        assert_eq!(call(VERSION - 1), Ok(Call::Get));
        assert_eq!(
            call(VERSION + 2).unwrap_err().kind,
            FailureKind::UnsupportedVersion
        );
    }

    #[test]
    fn what_is_not_known_is_refused_by_kind() {
        let kind = |line: &str| parse(line).unwrap_err().kind;
        assert_eq!(kind("{"), FailureKind::BadRequest);
        assert_eq!(kind(r#"{"call":"get"}"#), FailureKind::BadRequest);
        assert_eq!(
            kind(r#"{"control":1,"call":"pause"}"#),
            FailureKind::UnknownCall
        );
        assert_eq!(
            kind(r#"{"control":1,"call":"clear"}"#),
            FailureKind::BadRequest
        );
        let unknown = r#"{"kind":"of_tomorrow","message":""}"#;
        let failure: Failure = serde_json::from_str(unknown).unwrap();
        assert_eq!(failure.kind, FailureKind::Other);
    }

    const SET: &str = r#"{"control":1,"call":"set","claim":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{"traefik.enable":"false"},"health":"healthy"}]}}"#;

    // A call is the same after writing and reading, and a failure is one line.
    fn reads(line: &str) -> Result<(), TestCaseError> {
        match parse(line) {
            Ok(call) => {
                let again = serde_json::to_string(&call.clone().request()).unwrap();
                prop_assert_eq!(parse(&again), Ok(call));
            }
            Err(failure) => {
                let reply = encode(Err(failure));
                prop_assert_eq!(reply.find('\n'), Some(reply.len() - 1));
                prop_assert!(serde_json::from_str::<Response>(&reply).is_ok());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_line_is_a_call_or_a_failure_of_one_line(line in mutated_text(SET)) {
            reads(&line)?;
        }

        #[test]
        fn values_of_any_type_are_a_call_or_a_failure(line in replaced(serde_json::from_str(SET).unwrap())) {
            reads(&line.to_string())?;
        }

        #[test]
        fn a_reply_of_values_of_any_type_is_read_or_refused(
            reply in replaced(serde_json::json!({"control": 1, "ok": {"readers": {"generation": 1, "readers": [
                {"address": "10.0.0.2", "user_agent": "Traefik", "generation": 1, "streams": 1,
                 "container": {"id": "a", "name": "t"}},
            ]}}})),
        ) {
            if let Ok(read) = serde_json::from_value::<Response>(reply) {
                let text = serde_json::to_string(&read).unwrap();
                prop_assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), read);
            }
        }
    }

    #[test]
    fn values_that_stand_deep_in_one_another_are_a_bad_request() {
        let deep = format!(
            r#"{{"control":1,"call":"get","more":{}"#,
            "[".repeat(100_000)
        );
        assert_eq!(parse(&deep).unwrap_err().kind, FailureKind::BadRequest);
    }
}
