//! Answers the calls on the control socket, one after another on each connection.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixStream as StdUnixStream},
    path::Path,
    sync::Arc,
};

use futures_util::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::{daemon::Daemon, engine::Unanswered, fetch, store::Unchanged};
use crate::overlay::{
    Claim, Overlay, Stale,
    control::{self, Answer, Call, Failure, FailureKind, Hello},
};

/// The connections that are served at once; further ones wait.
const AT_ONCE: usize = 32;
/// The longest request, in bytes.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// Creates the socket, and replaces one on which no process listens.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if StdUnixStream::connect(path).is_ok() {
        let message = "another socket proxy answers there; two must not share a state directory";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the process ends.
pub async fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let turn = turns.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = daemon.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, &daemon).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, daemon: &Daemon) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_REQUEST));
    while let Some(line) = lines.next().await {
        let outcome = match line {
            Ok(line) => answer(&line, daemon).await,
            Err(error) => Err(FailureKind::BadRequest.because(error.to_string())),
        };
        write.write_all(control::encode(outcome).as_bytes()).await?;
    }
    Ok(())
}

async fn answer(line: &str, daemon: &Daemon) -> Result<Answer, Failure> {
    match control::parse(line)? {
        Call::Hello => Ok(Answer::Hello(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: daemon.listen.to_string(),
            engine: daemon.engine.ping().await.is_ok(),
            generation: daemon.store.current().generation,
            swarm: daemon.swarm,
        })),
        Call::Get => Ok(Answer::Overlay(Overlay::clone(
            &*daemon.store.settled().await,
        ))),
        Call::Set { claim } => {
            validate(&claim)?;
            let (key, stage, rules) = (claim.key.clone(), claim.stage.clone(), claim.rules.len());
            let generation = change(daemon, |overlay| overlay.set(claim)).await?;
            tracing::info!(key, stage, rules, generation, "set");
            Ok(Answer::Changed { generation })
        }
        Call::SetAll { claims } => {
            claims.iter().try_for_each(validate)?;
            let keys: Vec<String> = claims.iter().map(|claim| claim.key.clone()).collect();
            let generation = change(daemon, |overlay| overlay.set_all(claims)).await?;
            tracing::info!(?keys, generation, "set together");
            Ok(Answer::Changed { generation })
        }
        Call::Clear { key, epoch } => {
            let generation = change(daemon, |overlay| overlay.clear(&key, epoch)).await?;
            tracing::info!(key, generation, "cleared");
            Ok(Answer::Changed { generation })
        }
        Call::Readers => {
            let generation = daemon.store.current().generation;
            let readers = daemon.readers().await.map_err(unreachable)?;
            let answer = Answer::Readers {
                generation,
                readers,
            };
            Ok(answer)
        }
        Call::Fetch { url } => {
            let readers = daemon.readers().await.map_err(unreachable)?;
            fetch::fetch(&url, &readers).await.map(Answer::Fetched)
        }
    }
}

fn validate(claim: &Claim) -> Result<(), Failure> {
    let valid = claim.validate();
    valid.map_err(|wrong| FailureKind::BadRequest.because(wrong))
}

async fn change<F>(daemon: &Daemon, change: F) -> Result<u64, Failure>
where
    F: FnOnce(&mut Overlay) -> Result<u64, Stale>,
{
    let changed = daemon.store.change(true, change).await;
    changed.map_err(|error| {
        let kind = match error {
            Unchanged::Stale(_) => FailureKind::StaleOwner,
            Unchanged::Storage { .. } => FailureKind::Storage,
        };
        kind.because(error.to_string())
    })
}

fn unreachable(error: Unanswered) -> Failure {
    FailureKind::EngineUnreachable.because(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{
        arbitrary::mutated,
        docker::http::Endpoint,
        overlay::{
            Labels,
            control::{Outcome, Response},
        },
        socket_proxy::{engine::Engine, store::Store},
    };

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(control::SOCKET);
        drop(bind(&path).unwrap());
        let live = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(live);
    }

    // The replies to these bytes, and the daemon.
    fn answered(bytes: &[u8]) -> (Vec<Response>, Arc<Daemon>) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        answered_in(&directory.unwrap(), bytes)
    }

    fn answered_in(directory: &tempfile::TempDir, bytes: &[u8]) -> (Vec<Response>, Arc<Daemon>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let engine = Engine::new(Endpoint::Unix(directory.path().join("none")));
            let store = Store::open(directory.path()).unwrap();
            let daemon = Daemon::new(engine, store, Vec::new(), false, ([127, 0, 0, 1], 0).into());
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (mut read, mut write) = ours.into_split();
            let ask = async move {
                // A refused connection is closed before everything is written.
                let _ = write.write_all(bytes).await;
            };
            let mut replies = String::new();
            let replied = read.read_to_string(&mut replies);
            let (_, _, ended) = tokio::join!(ask, replied, connection(theirs, &daemon));
            drop(ended);
            let replies = replies
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            (replies.collect(), daemon)
        })
    }

    #[test]
    fn every_call_of_version_1_is_answered() {
        const CALLS: &str = r#"{"control":1,"call":"hello"}
{"control":1,"call":"set","claim":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"labels":{"traefik.enable":"false"}}]}}
{"control":1,"call":"get"}
{"control":1,"call":"clear","key":"shop/web","epoch":7}
{"control":1,"call":"readers"}
{"control":1,"call":"fetch","url":"http://10.0.0.2:8080/ping"}
"#;
        let (replies, _) = answered(CALLS.as_bytes());
        let outcomes: Vec<_> = replies.into_iter().map(|reply| reply.outcome).collect();
        assert!(matches!(outcomes[0], Outcome::Ok(Answer::Hello(_))));
        assert_eq!(outcomes[1], Outcome::Ok(Answer::Changed { generation: 1 }));
        let Outcome::Ok(Answer::Overlay(overlay)) = &outcomes[2] else {
            panic!("{outcomes:?}");
        };
        assert!(overlay.hides("a", &Labels::new()));
        assert_eq!(outcomes[3], Outcome::Ok(Answer::Changed { generation: 2 }));
        let none = Answer::Readers {
            generation: 2,
            readers: Vec::new(),
        };
        assert_eq!(outcomes[4], Outcome::Ok(none));
        let Outcome::Error(refused) = &outcomes[5] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(refused.kind, FailureKind::FetchRefused);
        assert_eq!(outcomes.len(), 6);
    }

    #[test]
    fn several_claims_hold_in_one_generation_that_a_restart_keeps_or_not_at_all() {
        const CALLS: &str = r#"{"control":2,"call":"set_all","claims":[{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[]},{"key":"shop/api","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"},"omit":true}]}]}
{"control":2,"call":"set_all","claims":[{"key":"shop/db","rollout":"r","epoch":8,"stage":"hold","rules":[]},{"key":"shop/web","rollout":"r","epoch":6,"stage":"hold","rules":[]}]}
{"control":2,"call":"set_all","claims":[{"key":"shop/db","rollout":"r","epoch":8,"stage":"hold","rules":[]},{"key":"shop","rollout":"r","epoch":8,"stage":"hold","rules":[]}]}
"#;
        let directory = tempfile::tempdir().unwrap();
        let (replies, daemon) = answered_in(&directory, CALLS.as_bytes());
        assert_eq!(
            replies[0].outcome,
            Outcome::Ok(Answer::Changed { generation: 1 })
        );
        let kind = |reply: &Response| match &reply.outcome {
            Outcome::Error(failure) => failure.kind,
            Outcome::Ok(answer) => panic!("{answer:?}"),
        };
        assert_eq!(kind(&replies[1]), FailureKind::StaleOwner);
        assert_eq!(kind(&replies[2]), FailureKind::BadRequest);
        let overlay = daemon.store.current();
        let keys: Vec<&String> = overlay.claims.keys().collect();
        assert_eq!(keys, ["shop/api", "shop/web"]);
        assert!(overlay.omits("a", &Labels::new()));
        assert_eq!(*Store::open(directory.path()).unwrap().current(), *overlay);
    }

    const CALLS: &str = r#"{"control":1,"call":"set","claim":{"key":"shop/web","rollout":"r","epoch":7,"stage":"hold","rules":[{"on":{"id":"a"}}]}}
{"control":1,"call":"get"}
{"control":1,"call":"clear","key":"shop/web","epoch":7}
"#;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn each_line_has_one_reply_and_only_a_change_that_is_answered_is_one(bytes in mutated(CALLS.as_bytes())) {
            let (replies, daemon) = answered(&bytes);
            let lines = bytes.split(|byte| *byte == b'\n');
            prop_assert!(replies.len() <= lines.count());
            let last = replies.iter().rev().find_map(|reply| match reply.outcome {
                Outcome::Ok(Answer::Changed { generation }) => Some(generation),
                _ => None,
            });
            prop_assert_eq!(daemon.store.current().generation, last.unwrap_or(0));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_ends_the_connection() {
        let call = b"\n{\"control\":1,\"call\":\"clear\",\"key\":\"shop/web\",\"epoch\":7}\n";
        let endless = [&vec![b'{'; MAX_REQUEST + 64 * 1024], &call[..]].concat();
        let (replies, daemon) = answered(&endless);
        let [
            Response {
                outcome: Outcome::Error(failure),
                ..
            },
        ] = &replies[..]
        else {
            panic!("{replies:?}");
        };
        assert_eq!(failure.kind, FailureKind::BadRequest);
        assert_eq!(*daemon.store.current(), Overlay::default());
    }
}
