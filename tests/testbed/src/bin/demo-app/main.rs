//! The demo application: one static binary whose behaviour, good and bad, is chosen by environment variables.

mod check;
mod database;
mod datagrams;
mod http;
mod lines;
mod resolve;
mod settings;
mod websocket;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use settings::{Mode, Settings, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let settings = match Settings::from_env() {
        Ok(settings) => Arc::new(settings),
        Err(error) => return fail(&error),
    };
    let result = match args.next().as_deref() {
        None => serve(settings).await,
        Some("db") => database::serve(&settings).await,
        Some("check") => return check::run(&settings, args.next().as_deref()),
        Some(other) => {
            return fail(&format!(
                "unknown subcommand '{other}'; there are: check, db"
            ));
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("demo-app: error: {error}");
    ExitCode::FAILURE
}

/// Runs the life of the application: start, serve, and the end that its variables choose.
async fn serve(settings: Arc<Settings>) -> std::io::Result<()> {
    let stopping = watch_for_stop(&settings)?;
    settings.log("starting");
    match settings.crash_after {
        // A crash at the very start must come before the port opens.
        Some(Duration::ZERO) => crash(settings.clone(), Duration::ZERO).await,
        Some(after) => drop(tokio::spawn(crash(settings.clone(), after))),
        None => {}
    }
    // Written to, so that the pages are there.
    let _memory = vec![1_u8; settings.memory << 20];
    tokio::time::sleep(settings.start_delay).await;
    if let Some(database) = &settings.database {
        database::connect(&settings, database).await?;
    }
    match settings.mode {
        Mode::Http => http::serve(settings, stopping).await,
        Mode::Tcp => lines::serve(settings, stopping).await,
        Mode::Udp => datagrams::serve(settings, stopping).await,
    }
}

async fn crash(settings: Arc<Settings>, after: Duration) {
    tokio::time::sleep(after).await;
    settings.log("loading configuration");
    settings.log("fatal: the setting 'GREETING' is missing");
    settings.log("crashing with exit code 1");
    std::process::exit(1);
}

/// Turns SIGTERM into the end that was asked for; the receiver turns true for a graceful one.
fn watch_for_stop(settings: &Arc<Settings>) -> std::io::Result<watch::Receiver<bool>> {
    let (tell, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let settings = settings.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match settings.stop {
                Stop::Now => {
                    settings.log("stopping at once");
                    std::process::exit(0);
                }
                Stop::Graceful => {
                    settings.log("stopping gracefully");
                    tell.send_replace(true);
                }
                Stop::Ignore => settings.log("ignoring the stop signal"),
            }
        }
    });
    Ok(stopping)
}
