//! The demonstration: a rollout of the quickstart stack under load, and a verdict on what the clients saw.

mod verdict;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use testbed::{Load, LoadOptions, Run, Running, Stack};
use tokio::signal::unix::{SignalKind, signal};

use verdict::Verdict;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SLOW: Duration = Duration::from_secs(3);
/// Load before and after the rollout, so that the figures have something to be compared with.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    match run_and_clean().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail("not everything was as promised; see the table"),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("demo: error: {error}");
    ExitCode::FAILURE
}

/// Takes the stack down after a panic or Ctrl-C too.
async fn run_and_clean() -> Result<bool> {
    let stack = Stack::quickstart();
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(run(&stack)).catch_unwind() => match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err("see the panic above".into()),
        },
        () = interrupted() => Err("interrupted".into()),
    };
    println!("\nTaking the stack down …");
    drop(stack);
    outcome
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

/// True if every promise was kept.
async fn run(stack: &Stack) -> Result<bool> {
    let start = Instant::now();
    println!("Starting the quickstart stack with version v1 …");
    stack.up("v1").await;
    let load = Load::start(options(stack));
    if !load.seen("v1", Duration::from_secs(20)).await {
        return Err("version v1 does not answer".into());
    }
    println!("Load is on: 400 requests a second, requests of 3 seconds, one WebSocket.\n");
    tokio::time::sleep(BEFORE).await;
    println!("$ WEB_IMAGE=rollout-demo:v2 rollout --proxy traefik web");
    let rollout = roll_out(stack).await;
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

/// The CLI prints to this terminal, as it does for its users.
async fn roll_out(stack: &Stack) -> Run {
    let (mut command, log) = stack.rollout_command(&["--proxy", "traefik", "web"]);
    command.env("WEB_IMAGE", "rollout-demo:v2");
    Running::start(command, log).wait().await
}

fn options(stack: &Stack) -> LoadOptions {
    LoadOptions {
        connections: 16,
        rate_per_second: 400,
        slow_requests: Some(SLOW),
        websocket: true,
        max_duration: Duration::from_secs(180),
        ..stack.load_options()
    }
}
