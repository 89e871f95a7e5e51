//! Starts the command of a command line, and reports its end as its exit code.

mod agent;
mod complete;
mod doctor;
mod history;
mod image;
mod include;
mod init;
mod made_from;
mod notify;
mod opened;
mod plan;
mod prune;
mod recorded;
mod records;
mod relabel;
mod requests;
mod restart;
mod settle;
mod several;
mod signals;
mod sinks;
mod stacks;
mod status;
mod undo;
mod unlock;
mod up;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{ExitCode, Termination},
};

pub(crate) use self::sinks::EVENT_LOG;
use self::sinks::{shown, sinks};
use crate::{
    ask::Request,
    cli::{self, Command, SettleArgs, Stop, TargetArgs},
    error::{Error, Outcome, Result, one_line},
    event::{Event, Events},
    log, namespace,
    report::Output,
    socket_proxy, state,
};

pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if let Some(answered) = complete::answer(&arguments) {
        return answered;
    }
    let output = cli::output_of(&arguments);
    let call = match cli::plugin::read(arguments) {
        Ok(call) if call.environment.is_empty() => call,
        Ok(call) => return refuse(output, restart(call)),
        Err(error) => return refuse(output, error),
    };
    match cli::parse(call.arguments) {
        Ok(command) => start(command, output),
        Err(Stop::Print(help)) => {
            // A closed standard output is no failure.
            let _ = help.print();
            Outcome::Done.into()
        }
        Err(Stop::Refuse(error)) => refuse(output, error),
    }
}

fn start(command: Command, output: Output) -> ExitCode {
    match command {
        Command::SocketProxy(arguments) => socket_proxy::main(arguments),
        Command::Namespace(command) => namespace::main(command),
        Command::StateFolders { gone } => state::folders::main(&gone),
        Command::Completions { shell } => print(&complete::script(shell)),
        Command::PluginMetadata => print(format!("{}\n", plugin_metadata()).as_bytes()),
        Command::Help { words } => match cli::help::answer(&words) {
            Ok(text) => print(text.as_bytes()),
            Err(error) => refuse(output, error),
        },
        Command::Man { directory } => write_man_pages(&directory, output),
        Command::Up(args) => reporting(&args.target, async |events| up::up(&args, events).await),
        Command::Plan(args) => {
            reporting(&args.target, async |events| plan::plan(&args, events).await)
        }
        Command::Restart(args) => reporting(&args.target, async |events| {
            restart::restart(&args, events).await
        }),
        Command::Resume(args) => settle(&args, Request::Resume),
        Command::Abort(args) => settle(&args, Request::Undo),
        Command::Promote(args) => settle(&args.settle, Request::Promote(args.how())),
        Command::Pause(args) => reporting(&args.target, async |events| {
            settle::pause(&args, events).await
        }),
        Command::Undo(args) => {
            reporting(&args.target, async |events| undo::undo(&args, events).await)
        }
        Command::History(args) => reporting(&args.target, async |events| {
            history::show(&args, events).await
        }),
        Command::Status(args) => reporting(&args.target, async |events| {
            status::show(&args, events).await
        }),
        Command::Doctor(args) => reporting(&args.target, async |events| {
            doctor::show(&args, events).await
        }),
        Command::Prune(args) => reporting(&args.target, async |events| {
            prune::prune(&args, events).await
        }),
        Command::Unlock(args) => reporting(&args.target, async |events| {
            unlock::unlock(&args, events).await
        }),
        Command::Init(args) => {
            reporting(&args.target, async |events| init::init(&args, events).await)
        }
        Command::Image(args) => reporting(&args.target, async |events| {
            image::image(&args, events).await
        }),
        Command::Agent(args) => reporting(&args.target, async |events| {
            agent::agent(&args, events).await
        }),
        Command::Relabel(args) => reporting(&args.target, async |events| {
            relabel::relabel(&args, events).await
        }),
    }
}

fn write_man_pages(directory: &Path, output: Output) -> ExitCode {
    match cli::man::write(directory) {
        Ok(()) => Outcome::Done.into(),
        Err(error) => {
            let message = format!("cannot write to {}: {error}", directory.display());
            refuse(output, Error::refused(message))
        }
    }
}

fn settle(args: &SettleArgs, request: Request) -> ExitCode {
    reporting(&args.target, async |events| {
        settle::settle(args, request, events).await
    })
}

/// Replaces this process by the same program, with Docker's options as variables. Returns the error where that fails.
fn restart(call: cli::plugin::Call) -> Error {
    let failed = |error| Error::refused(format!("cannot start this program again: {error}"));
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let mut command = std::process::Command::new(program);
    command
        .arg0(&call.arguments[0])
        .args(&call.arguments[1..])
        .envs(call.environment);
    failed(command.exec())
}

/// Prints to standard output; a closed one is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    let _ = out.write_all(text).and_then(|()| out.flush());
    Outcome::Done.into()
}

/// What `docker` shows of a plugin (docker/cli, cli-plugins/metadata).
fn plugin_metadata() -> serde_json::Value {
    serde_json::json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "rollout",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": env!("CARGO_PKG_DESCRIPTION"),
    })
}

/// Runs a command, and reports its events and its failure.
fn reporting<T: Termination>(
    target: &TargetArgs,
    command: impl AsyncFnOnce(&Events) -> Result<T>,
) -> ExitCode {
    start_log(target.verbose);
    let output = target.output.unwrap_or_default();
    let events = match sinks(output, target) {
        Ok(sinks) => Events::new(sinks),
        Err(error) => {
            return report(
                &Events::new(vec![shown(output, &TargetArgs::default())]),
                error,
            );
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("failed to start: {error}");
            return report(&events, Error::refused(message));
        }
    };
    let code = match runtime.block_on(command(&events)) {
        Ok(done) => done.report(),
        Err(error) => report(&events, error),
    };
    runtime.block_on(events.end());
    code
}

/// Reports a failure or a pause, and returns its exit code.
fn report(events: &Events, error: Error) -> ExitCode {
    emit_failure(events, &error);
    error.outcome.into()
}

fn emit_failure(events: &Events, error: &Error) {
    let scope = error.scope.as_deref().cloned().unwrap_or_default();
    let (message, code, hint) = (
        one_line(&error.message),
        error.outcome as u8,
        error.hint.clone(),
    );
    events.scoped(scope).emit(match error.is_pause() {
        true => Event::Paused {
            message,
            code,
            hint,
        },
        false => Event::Failed {
            message,
            code,
            hint,
            logs: error.logs.clone(),
            gap_ms: error.gap_ms,
            is_open: error.is_open,
        },
    });
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "rollout=info",
        2 => "rollout=debug",
        _ => "trace",
    };
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
        // It would panic on a closed standard error, in the middle of a rollout.
        .log_internal_errors(false);
    log::start(level, lines);
}

/// Reports a command line that is refused.
fn refuse(output: Output, error: Error) -> ExitCode {
    // This error counts, even if the event log cannot be opened either.
    let none = TargetArgs::default();
    let sinks = sinks(output, &none).unwrap_or_else(|_| vec![shown(output, &none)]);
    report(&Events::new(sinks), error)
}
