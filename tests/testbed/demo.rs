//! The demonstration: a rollout of the quickstart stack under load, and a verdict on what the clients saw.

#[path = "load.rs"]
mod load;
#[path = "demo/stack.rs"]
mod stack;
#[path = "demo/verdict.rs"]
mod verdict;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use load::{Load, LoadOptions};
use stack::Stack;
use verdict::Verdict;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SLOW: Duration = Duration::from_secs(3);
/// Load before and after the rollout, so that the figures have something to be compared with.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Stack::new() {
        Ok(stack) => run_and_clean(Arc::new(stack)).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail("not everything was as promised; see the table"),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("demo: error: {error}");
    ExitCode::FAILURE
}

/// Whatever happens in the run, a panic or Ctrl-C too: nothing stays behind.
async fn run_and_clean(stack: Arc<Stack>) -> Result<bool> {
    let running = stack.clone();
    let mut task = tokio::spawn(async move { run(&running).await });
    let outcome = tokio::select! {
        outcome = &mut task => outcome.unwrap_or_else(|panic| Err(panic.into())),
        () = interrupted() => {
            task.abort();
            let _ = task.await;
            Err("interrupted".into())
        }
    };
    println!("\nTaking the stack down …");
    let cleaned = stack.down().await;
    outcome.and_then(|passed| cleaned.map(|()| passed))
}

async fn interrupted() {
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else {
        return std::future::pending().await;
    };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// True if everything that was promised was kept.
async fn run(stack: &Stack) -> Result<bool> {
    let start = Instant::now();
    println!("Starting the quickstart stack with version v1 …");
    stack.up().await?;
    let load = Load::start(options(stack.port));
    if !load.seen("v1", Duration::from_secs(20)).await {
        return Err("version v1 does not answer".into());
    }
    println!("Load is on: 400 requests a second, requests of 3 seconds, one WebSocket.\n");
    tokio::time::sleep(BEFORE).await;
    println!("$ WEB_IMAGE=rollout-demo:v2 rollout --proxy traefik web");
    let rollout = stack.roll_out().await?;
    tokio::time::sleep(AFTER).await;
    let report = load.stop().await;
    let verdict = Verdict::of(&report, &rollout);
    println!("\n{}", verdict.table(start.elapsed()));
    let socket_error = report.websocket.and_then(|socket| socket.error);
    for error in report.errors.iter().chain(&socket_error) {
        println!("  {error}");
    }
    Ok(verdict.passed())
}

fn options(port: u16) -> LoadOptions {
    LoadOptions {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        host: "quickstart.localhost".into(),
        path: "/".into(),
        connections: 16,
        rate_per_second: 400,
        slow_requests: Some(SLOW),
        websocket: true,
        max_duration: Duration::from_secs(180),
    }
}

/// The root of the project.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
