//! What the CLI says to a socket proxy within one `docker exec`: a call a line, numbered and failing as every other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::Mutex,
};

use super::{
    Fault, Shared,
    upstream::{Body, BoxError},
};

/// How each line of the protocol begins.
const BEGINS: &[u8] = b"{\"control\":";

/// Passes an exec on, and listens to what is said in it.
pub async fn pass(
    shared: Arc<Shared>,
    mut request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    let cli = request
        .headers()
        .contains_key(header::UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let mut response = shared.engine.send(request).await?;
    if let Some(cli) = cli
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        let engine = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(cli), Ok(engine)) = (cli.await, engine.await) {
                converse(shared, TokioIo::new(cli), TokioIo::new(engine)).await;
            }
        });
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

/// Until one side ends it, or a fault.
async fn converse<S>(shared: Arc<Shared>, cli: S, engine: S)
where
    S: AsyncRead + AsyncWrite,
{
    let ((from_cli, to_cli), (from_engine, to_engine)) = (split(cli), split(engine));
    let (to_cli, last) = (Mutex::new(to_cli), AtomicBool::new(false));
    let answers = answers(&shared, from_engine, &to_cli, &last);
    let asks = asks(&shared, from_cli, (to_engine, &to_cli), &last);
    tokio::select! {
        _ = answers => {}
        _ = asks => {}
    }
    let _ = to_cli.lock().await.shutdown().await;
}

/// What the engine says; the CLI does not live to hear the `last`.
async fn answers<S>(
    shared: &Shared,
    mut from: ReadHalf<S>,
    to: &Mutex<WriteHalf<S>>,
    last: &AtomicBool,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let size = from.read(&mut chunk).await?;
        if size == 0 {
            return Ok(());
        }
        if last.load(Ordering::SeqCst) {
            shared.kill().await;
            return Ok(());
        }
        to.lock().await.write_all(&chunk[..size]).await?;
    }
}

/// What the CLI says; ends only with a connection that is to be dropped.
async fn asks<S>(
    shared: &Shared,
    mut from: ReadHalf<S>,
    (mut to, back): (WriteHalf<S>, &Mutex<WriteHalf<S>>),
    last: &AtomicBool,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut said = Vec::new();
    loop {
        if from.read_buf(&mut said).await? == 0 {
            to.write_all(&said).await?;
            to.shutdown().await?;
            std::future::pending::<()>().await;
        }
        // The output of other execs is not read, and need not end with a line.
        if said.starts_with(BEGINS) && !said.ends_with(b"\n") {
            continue;
        }
        let call = shape(&said).map(|shape| shared.note(shape));
        match call.and_then(|call| shared.fault_at(&call)) {
            None => {}
            Some(Fault::KilledBefore) => {
                shared.kill().await;
                return Ok(());
            }
            Some(Fault::KilledAfter) => last.store(true, Ordering::SeqCst),
            Some(Fault::Refused) => {
                back.lock().await.write_all(&refusal()).await?;
                said.clear();
            }
            Some(fault @ (Fault::Hangs | Fault::ComesLate)) => {
                tokio::time::sleep(fault.delay()).await;
            }
            Some(Fault::NeverAnswers) => said.clear(),
            Some(Fault::Dropped) => return Ok(()),
        }
        to.write_all(&said).await?;
        to.flush().await?;
        said.clear();
    }
}

/// What is asked, if this is a line of the protocol.
fn shape(said: &[u8]) -> Option<String> {
    let asked: Value = serde_json::from_slice(said).ok()?;
    let call = asked.get("control").and(asked["call"].as_str())?;
    let stage = asked["claim"]["stage"].as_str().unwrap_or_default();
    Some(format!("control {call} {stage}").trim_end().to_owned())
}

/// A socket proxy's own error, in a frame of the engine's (docker/docs, "Stream format" of attach).
fn refusal() -> Vec<u8> {
    let message = "failed on purpose: no space left on device";
    let reply = json!({"control": 1, "error": {"kind": "storage", "message": message}});
    let line = format!("{reply}\n");
    let size = u32::try_from(line.len()).unwrap().to_be_bytes();
    [&[1, 0, 0, 0], &size[..], line.as_bytes()].concat()
}
