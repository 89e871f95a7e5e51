//! Talking with a socket proxy: its control socket, reached by `docker exec`, requests on standard input alone.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;

use crate::{
    engine::{Engine, Session},
    error::{Error, Result},
    socket_proxy::{
        control::{Answer, Call, Fetched, Outcome, Reader, Response},
        overlay::{Claim, Overlay},
    },
};

/// How long one call may take; the longest, a fetch, gives up after 5 s by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// One running socket proxy; clones share the conversation.
#[derive(Clone)]
pub struct Control {
    engine: Engine,
    pub container: String,
    /// Its container's name.
    pub name: String,
    program: String,
    session: Arc<Mutex<Option<Session>>>,
}

impl Control {
    /// `program` is the path of the binary in that container.
    pub fn new(engine: Engine, container: String, name: String, program: String) -> Self {
        Self {
            engine,
            container,
            name,
            program,
            session: Arc::default(),
        }
    }

    /// Asks once more on a new conversation when the old one has ended: the socket proxy may have been restarted.
    async fn call(&self, call: Call) -> Result<Answer> {
        let request = serde_json::to_string(&call.request())
            .map_err(|error| Error::failed(error.to_string()))?;
        let mut session = self.session.lock().await;
        for last in [false, true] {
            let fresh = session.is_none();
            // Taken out, so that a call that is dropped half-way leaves no conversation with an answer under way.
            let mut talk = match session.take() {
                Some(talk) => talk,
                None => self.open().await?,
            };
            match exchange(&mut talk, &request).await {
                Ok(line) => {
                    *session = Some(talk);
                    return self.read(&line);
                }
                Err(error) if last || fresh => return Err(self.silent(&error)),
                Err(_) => {}
            }
        }
        unreachable!("the second round answers either way")
    }

    async fn open(&self) -> Result<Session> {
        let command = [self.program.as_str(), "socket-proxy", "--control"]
            .map(str::to_owned)
            .to_vec();
        // By name: a recreated socket proxy has another id and the same overlay.
        self.engine
            .exec_session(&self.name, command)
            .await
            .map_err(|error| self.silent(&error))
    }

    fn silent(&self, error: &Error) -> Error {
        Error::failed(format!(
            "the socket proxy {} does not answer: {}",
            self.name, error.message
        ))
    }

    fn read(&self, line: &str) -> Result<Answer> {
        let response: Response = serde_json::from_str(line).map_err(|error| {
            Error::failed(format!(
                "the socket proxy {} said {line:?}: {error}",
                self.name
            ))
        })?;
        match response.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(failure) => Err(Error::failed(format!(
                "the socket proxy {}: {}",
                self.name, failure.message
            ))),
        }
    }

    pub async fn overlay(&self) -> Result<Overlay> {
        match self.call(Call::Get).await? {
            Answer::Overlay(overlay) => Ok(overlay),
            other => Err(self.odd(&other)),
        }
    }

    /// Puts a claim in place, durably; the generation in which it holds.
    pub async fn set(&self, claim: Claim) -> Result<u64> {
        let answer = self.call(Call::Set { claim }).await?;
        self.generation(&answer)
    }

    /// Gives a claim up; the generation from which on it does not hold.
    pub async fn clear(&self, key: &str, epoch: u64) -> Result<u64> {
        let key = key.to_owned();
        let answer = self.call(Call::Clear { key, epoch }).await?;
        self.generation(&answer)
    }

    fn generation(&self, answer: &Answer) -> Result<u64> {
        match answer {
            Answer::Changed { generation } => Ok(*generation),
            other => Err(self.odd(other)),
        }
    }

    pub async fn readers(&self) -> Result<Vec<Reader>> {
        match self.call(Call::Readers).await? {
            Answer::Readers { readers, .. } => Ok(readers),
            other => Err(self.odd(&other)),
        }
    }

    /// An HTTP GET near Traefik.
    pub async fn fetch(&self, url: &str) -> Result<Fetched> {
        match self
            .call(Call::Fetch {
                url: url.to_owned(),
            })
            .await?
        {
            Answer::Fetched(fetched) => Ok(fetched),
            other => Err(self.odd(&other)),
        }
    }

    fn odd(&self, answer: &Answer) -> Error {
        Error::failed(format!(
            "the socket proxy {} answered something else: {answer:?}",
            self.name
        ))
    }
}

async fn exchange(session: &mut Session, request: &str) -> Result<String> {
    let talk = async {
        session.send(request).await?;
        session.next_line().await
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::failed(format!("no answer within {PATIENCE:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::mutated_text, endpoint::Endpoint};

    const CHANGED: &str = r#"{"control":1,"ok":{"changed":{"generation":3}}}"#;
    const FAILED: &str = r#"{"control":1,"error":{"kind":"stale_owner","message":"late"}}"#;

    proptest! {
        #[test]
        fn any_line_of_a_socket_proxy_is_an_answer_or_an_error_that_names_it(
            line in prop_oneof![mutated_text(CHANGED), mutated_text(FAILED)],
        ) {
            let engine = Engine::unconnected(Endpoint::Unix("/none".into()));
            let [id, name, program] = ["1f", "shop-proxy-1", "/rollout"].map(str::to_owned);
            match Control::new(engine, id, name, program).read(&line) {
                Ok(answer) => prop_assert!(line != FAILED && line.contains("ok"), "{:?}", answer),
                Err(error) => {
                    prop_assert!(error.message.starts_with("the socket proxy shop-proxy-1"), "{}", error);
                    prop_assert!(line != CHANGED, "{}", error);
                }
            }
        }
    }
}
