//! Talking with a socket proxy: its control socket, reached by `docker exec`, requests on standard input alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    docker::engine::{Engine, Session},
    error::{Error, Result},
    overlay::{
        Claim, Overlay,
        control::{Answer, Call, Hello, Outcome, Reader, Response},
    },
};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The version from which on several claims are put in place in one generation, and rules remove labels.
const SECOND: u32 = 2;

/// One running socket proxy; clones share the conversation.
#[derive(Clone)]
pub struct Control {
    engine: Engine,
    pub container: String,
    /// Its container's name.
    pub name: String,
    program: String,
    session: Arc<Mutex<Option<Session>>>,
    /// The version of its last answer; 0 before the first.
    speaks: Arc<AtomicU32>,
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
            speaks: Arc::default(),
        }
    }

    async fn call(&self, call: Call) -> Result<Answer> {
        self.answer(self.respond(call).await?)
    }

    fn answer(&self, response: Response) -> Result<Answer> {
        match response.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(failure) => Err(Error::failed(format!(
                "the socket proxy {}: {}",
                self.name, failure.message
            ))),
        }
    }

    /// Asks once more on a new conversation when the old one has ended: the socket proxy may have been restarted.
    async fn respond(&self, call: Call) -> Result<Response> {
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

    fn read(&self, line: &str) -> Result<Response> {
        let response: Response = serde_json::from_str(line).map_err(|error| {
            Error::failed(format!(
                "the socket proxy {} said {line:?}: {error}",
                self.name
            ))
        })?;
        self.speaks.store(response.control, Ordering::Relaxed);
        Ok(response)
    }

    /// Whether it can put several claims in place in one generation and remove labels, by its last answer.
    pub fn speaks_second(&self) -> bool {
        self.speaks.load(Ordering::Relaxed) >= SECOND
    }

    /// Refuses what an older socket proxy does not have. It would ignore fields that are new to it.
    async fn require(&self, version: u32, what: &str) -> Result<()> {
        if version == 1 || self.respond(Call::Hello).await?.control >= version {
            return Ok(());
        }
        Err(Error::failed(format!(
            "the socket proxy {} is too old for {what}: run it from the same rollout image as this command",
            self.name
        )))
    }

    pub async fn overlay(&self) -> Result<Overlay> {
        match self.call(Call::Get).await? {
            Answer::Overlay(overlay) => Ok(overlay),
            other => Err(self.odd(&other)),
        }
    }

    /// Puts a claim in place, durably; the generation in which it holds.
    pub async fn set(&self, claim: Claim) -> Result<u64> {
        let what = "rules that remove labels or omit containers";
        self.require(claim.since(), what).await?;
        let answer = self.call(Call::Set { claim }).await?;
        self.generation(&answer)
    }

    /// Puts several claims in place in one generation, durably: all of them or none.
    pub async fn set_all(&self, claims: Vec<Claim>) -> Result<u64> {
        self.require(SECOND, "a cutover of several services at once")
            .await?;
        let answer = self.call(Call::SetAll { claims }).await?;
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

    /// Its version, and what it shows.
    pub async fn hello(&self) -> Result<Hello> {
        match self.call(Call::Hello).await? {
            Answer::Hello(hello) => Ok(hello),
            other => Err(self.odd(&other)),
        }
    }

    pub async fn readers(&self) -> Result<Vec<Reader>> {
        match self.call(Call::Readers).await? {
            Answer::Readers { readers, .. } => Ok(readers),
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
pub mod tests {
    use std::sync::Mutex as StdMutex;

    use bollard::container::LogOutput;
    use futures_util::StreamExt;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::UnixStream,
    };
    use tokio_util::io::ReaderStream;

    use super::*;
    use crate::{
        arbitrary::mutated_text,
        docker::endpoint::Endpoint,
        overlay::{Effect, Health, Match, Rule},
    };

    const CHANGED: &str = r#"{"control":1,"ok":{"changed":{"generation":3}}}"#;
    const FAILED: &str = r#"{"control":1,"error":{"kind":"stale_owner","message":"late"}}"#;

    pub fn control() -> Control {
        let engine = Engine::unconnected(Endpoint::Unix("/none".into()));
        let [id, name, program] = ["1f", "shop-proxy-1", "/rollout"].map(str::to_owned);
        Control::new(engine, id, name, program)
    }

    /// A socket proxy that answers with these lines, and the requests that it gets.
    pub fn answering(lines: &'static [&'static str]) -> (Control, Arc<StdMutex<Vec<String>>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (output, input) = ours.into_split();
        let output = ReaderStream::new(output).map(|read| {
            let message = read?;
            Ok(LogOutput::StdOut { message })
        });
        let session = Session::new("1f", Box::pin(input), Box::pin(output));
        let control = Control {
            session: Arc::new(Mutex::new(Some(session))),
            ..control()
        };
        let requests = Arc::<StdMutex<Vec<String>>>::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            let mut read = BufReader::new(read).lines();
            for line in lines {
                let request = read.next_line().await.unwrap().unwrap();
                seen.lock().unwrap().push(request);
                write
                    .write_all(format!("{line}\n").as_bytes())
                    .await
                    .unwrap();
            }
        });
        (control, requests)
    }

    fn claim(service: &str, effect: Effect) -> Claim {
        let on = Match::Id("a".to_owned());
        Claim {
            key: format!("shop/{service}"),
            rollout: "r".to_owned(),
            epoch: 7,
            stage: "hold".to_owned(),
            rules: vec![Rule { on, effect }],
        }
    }

    const HELLO_1: &str = r#"{"control":1,"ok":{"hello":{"version":"0.1.0","listen":"0.0.0.0:2375","engine":true,"generation":2}}}"#;
    const HELLO_2: &str = r#"{"control":2,"ok":{"hello":{"version":"0.2.0","listen":"0.0.0.0:2375","engine":true,"generation":2}}}"#;

    #[tokio::test]
    async fn a_socket_proxy_of_version_1_is_asked_and_understood_in_its_own_words() {
        let (control, requests) = answering(&[
            r#"{"control":1,"ok":{"overlay":{"generation":2,"claims":{"shop/web":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{},"health":"healthy"}]}},"last_epochs":{"shop/web":7},"settled":["a"]}}}"#,
            CHANGED,
            CHANGED,
            r#"{"control":1,"ok":{"readers":{"generation":3,"readers":[{"address":"10.0.0.2","user_agent":"Traefik 3.7.15","generation":3,"streams":1,"container":{"id":"t","name":"shop-traefik-1"}}]}}}"#,
        ]);
        let held = claim("web", Effect::Health(Health::Healthy));
        let overlay = control.overlay().await.unwrap();
        assert_eq!(overlay.claims["shop/web"], held);
        assert_eq!(control.set(held).await.unwrap(), 3);
        assert_eq!(control.clear("shop/web", 7).await.unwrap(), 3);
        assert_eq!(control.readers().await.unwrap()[0].generation, Some(3));
        assert_eq!(
            *requests.lock().unwrap(),
            [
                r#"{"control":2,"call":"get"}"#,
                r#"{"control":2,"call":"set","claim":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{},"health":"healthy"}]}}"#,
                r#"{"control":2,"call":"clear","key":"shop/web","epoch":7}"#,
                r#"{"control":2,"call":"readers"}"#,
            ]
        );
    }

    #[tokio::test]
    async fn what_a_socket_proxy_of_version_1_would_ignore_is_not_sent_to_it() {
        let unset = Effect::Labels {
            set: Default::default(),
            unset: ["traefik.enable".to_owned()].into(),
        };
        for effect in [unset, Effect::Omit] {
            let (control, requests) = answering(&[HELLO_1]);
            let error = control.set(claim("web", effect)).await.unwrap_err();
            assert_eq!(
                error.message,
                "the socket proxy shop-proxy-1 is too old for rules that remove labels or omit containers: run it from the \
                 same rollout image as this command"
            );
            assert_eq!(
                *requests.lock().unwrap(),
                [r#"{"control":2,"call":"hello"}"#]
            );
        }
        let (control, requests) = answering(&[HELLO_1]);
        let error = control.set_all(vec![]).await.unwrap_err();
        assert_eq!(
            error.message,
            "the socket proxy shop-proxy-1 is too old for a cutover of several services at once: run it from the same \
             rollout image as this command"
        );
        assert_eq!(requests.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_socket_proxy_of_version_2_gets_it_all() {
        let (control, requests) = answering(&[HELLO_2, CHANGED, HELLO_2, CHANGED]);
        let omit = claim("web", Effect::Omit);
        assert_eq!(control.set(omit.clone()).await.unwrap(), 3);
        let health = claim("api", Effect::Health(Health::Healthy));
        assert_eq!(control.set_all(vec![omit, health]).await.unwrap(), 3);
        assert_eq!(
            requests.lock().unwrap()[3],
            r#"{"control":2,"call":"set_all","claims":[{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{},"omit":true}]},{"key":"shop/api","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{},"health":"healthy"}]}]}"#
        );
    }

    proptest! {
        #[test]
        fn any_line_of_a_socket_proxy_is_an_answer_or_an_error_that_names_it(
            line in prop_oneof![mutated_text(CHANGED), mutated_text(FAILED)],
        ) {
            let control = control();
            match control.read(&line).and_then(|response| control.answer(response)) {
                Ok(answer) => prop_assert!(line != FAILED && line.contains("ok"), "{:?}", answer),
                Err(error) => {
                    prop_assert!(error.message.starts_with("the socket proxy shop-proxy-1"), "{}", error);
                    prop_assert!(line != CHANGED, "{}", error);
                }
            }
        }
    }
}
