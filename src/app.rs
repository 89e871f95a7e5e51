//! What all subcommands share: the engine, the project, the events and the exit code.

mod agent;
mod complete;
mod doctor;
mod history;
mod image;
mod include;
mod init;
mod made_from;
mod notify;
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
mod stacks;
mod status;
mod undo;
mod unlock;
mod up;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::OpenOptions,
    io::{IsTerminal, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{ExitCode, Termination},
};

use crate::{
    ask::Request,
    cli::{self, Command, SettleArgs, Stop, TargetArgs},
    compose::{Compose, Project},
    context::RunContext,
    docker::{endpoint::Endpoint, engine::Engine},
    error::{Error, Outcome, Result, one_line},
    event::{Event, Events, Sink},
    fleet::{self, Host},
    log, namespace,
    report::{Output, github::GitHub, html::Report, human::Human, json::Json, log_dir::LogDir},
    settings::NOTIFY,
    socket_proxy, state,
    swarm::{self, Stack},
};

/// Names a file that every event is appended to, as a JSON line.
pub(crate) const EVENT_LOG: &str = "ROLLOUT_EVENT_LOG";

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

fn shown(output: Output, target: &TargetArgs) -> Box<dyn Sink> {
    match output {
        Output::Human => {
            let has_times = target.timestamps.unwrap_or_else(|| is_set("CI"));
            let log_dir = target.log_dir.clone();
            Box::new(Human::new(target.verbose > 0, has_times, log_dir))
        }
        Output::Json => Box::new(Json::new(std::io::stdout())),
    }
}

/// Whether the variable of a CI is there and on.
fn is_set(variable: &str) -> bool {
    let value = std::env::var(variable).unwrap_or_default();
    !matches!(value.as_str(), "" | "0" | "false")
}

/// The sinks of events; refused if a log cannot be written.
fn sinks(output: Output, target: &TargetArgs) -> Result<Vec<Box<dyn Sink>>> {
    let mut sinks = vec![shown(output, target)];
    if is_set("GITHUB_ACTIONS") {
        sinks.push(Box::new(GitHub));
    }
    if let Some(path) = &target.report {
        sinks.push(Box::new(Report::open(path, typed())?));
    }
    if let Some(directory) = &target.log_dir {
        sinks.push(Box::new(LogDir::open(directory, typed())?));
    }
    if let Some(path) = std::env::var_os(EVENT_LOG).filter(|path| !path.is_empty()) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| {
            let path = path.to_string_lossy();
            Error::refused(format!("cannot write the event log {path}: {error}")).hint(format!(
                "name a file that may be written in {EVENT_LOG}, or unset it"
            ))
        })?;
        sinks.push(Box::new(Json::new(file)));
    }
    Ok(sinks)
}

fn typed() -> String {
    let words = std::env::args_os();
    without_secrets(words.map(|own| own.to_string_lossy().into_owned()))
}

/// A command line, less the passwords in URLs and the addresses of notifications.
fn without_secrets(words: impl Iterator<Item = String>) -> String {
    let option = format!("--{NOTIFY}");
    let mut shown: Vec<String> = Vec::new();
    for word in words {
        let is_value = shown.last() == Some(&option);
        shown.push(match word.strip_prefix(&option) {
            _ if is_value => "…".to_owned(),
            Some(value) if value.starts_with('=') => format!("{option}=…"),
            _ => masked(&word),
        });
    }
    shown.join(" ")
}

fn masked(word: &str) -> String {
    let parts = word.split_once("://");
    let secret = parts.and_then(|(begin, rest)| {
        let host = rest.find('/').unwrap_or(rest.len());
        let at = rest[..host].rfind('@')?;
        Some(format!("{begin}://…{}", &rest[at..]))
    });
    secret.unwrap_or_else(|| word.to_owned())
}

/// The engine, and the stack of a Swarm that the command names on it, if there is one.
async fn connect(
    target: &TargetArgs,
    endpoint: Endpoint,
    events: &Events,
) -> Result<(Engine, Option<Stack>)> {
    let engine = Engine::connect(endpoint, events).await?;
    let stack = match target.project() {
        Some(name) => swarm::find(&engine, &name).await?,
        None => None,
    };
    Ok((engine, stack))
}

/// The refusal of a command that works with a project of Compose alone.
fn no_part(stack: &Stack) -> Error {
    let name = &stack.name;
    Error::refused(format!(
        "{name} is a stack of a Swarm, for which this command does not exist"
    ))
    .hint(format!(
        "rollout -f FILE -p {name} SERVICE rolls a service of it: rollout help swarm"
    ))
}

/// The engine and the project of a command.
struct Opened {
    engine: Engine,
    compose: Compose,
    project: Project,
}

/// Where a command works.
enum Found<T> {
    /// On one engine, with what was read of it beside the project.
    One(Box<Opened>, T),
    /// On the hosts that the Compose file names.
    Several(Vec<Host>),
    /// On a stack of a Swarm, whose name the command gives as that of its project.
    Stack(Box<Stack>),
}

impl<T> Found<T> {
    /// The engine of a command that works with one project of Compose.
    fn one(self) -> Result<(Opened, T)> {
        match self {
            Self::One(opened, beside) => Ok((*opened, beside)),
            Self::Several(hosts) => Err(fleet::one_at_a_time(&hosts)),
            Self::Stack(stack) => Err(no_part(&stack)),
        }
    }
}

/// What to do where Compose cannot read the project.
#[derive(Clone, Copy)]
enum Unread {
    Refuse,
    /// The labels of its containers say enough for the records of services.
    AskContainers,
}

impl Opened {
    /// Connects, and reads the project with these services enabled.
    async fn of(target: &TargetArgs, names: &[&str], events: &Events) -> Result<Self> {
        let found = Self::find_alone(target, names, events, Unread::Refuse).await?;
        found.one().map(|(opened, ())| opened)
    }

    /// The same with variables that override environment files, and with something that is read from the engine while
    /// Compose reads the project.
    async fn beside<T>(
        target: (&TargetArgs, &BTreeMap<String, String>),
        names: &[&str],
        events: &Events,
        read: &impl AsyncFn(&Engine) -> T,
    ) -> Result<(Self, T)> {
        let found = Self::find(target, names, events, (read, Unread::Refuse));
        found.await?.one()
    }

    /// The same for the records of services, which need no Compose file.
    async fn of_records(target: &TargetArgs, names: &[&str], events: &Events) -> Result<Self> {
        let found = Self::find_alone(target, names, events, Unread::AskContainers).await?;
        found.one().map(|(opened, ())| opened)
    }

    /// What the command works on, with nothing beside it.
    async fn find_alone(
        target: &TargetArgs,
        names: &[&str],
        events: &Events,
        unread: Unread,
    ) -> Result<Found<()>> {
        let (target, read) = ((target, &BTreeMap::new()), &async |_: &Engine| ());
        Self::find(target, names, events, (read, unread)).await
    }

    /// Finds the engine by the options, the Compose file, and Docker's own choice, in this order.
    async fn find<T>(
        (target, variables): (&TargetArgs, &BTreeMap<String, String>),
        names: &[&str],
        events: &Events,
        (read, unread): (&impl AsyncFn(&Engine) -> T, Unread),
    ) -> Result<Found<T>> {
        let endpoint = match endpoint(target).await {
            Err(error) if target.names_engine() => return Err(error),
            found => found,
        };
        let connected = async {
            let (engine, stack) = connect(target, endpoint.clone()?, events).await?;
            let beside = read(&engine).await;
            Ok::<_, Error>((engine, stack, beside))
        };
        let composed = async {
            // The hosts of the file are read also where Docker's own choice names no engine; reading asks none.
            let endpoint = endpoint.clone().or_else(|_| "".parse())?;
            let compose = Compose::find(target.invocation(), endpoint).await?;
            let compose = compose.given(variables);
            let project = read_project(&compose, names).await;
            Ok::<_, Error>((compose, project))
        };
        let (connected, composed) = tokio::join!(connected, composed);
        // The hosts of the file are in place of this engine, which need not be there.
        match &composed {
            Ok((_, Ok(project))) if !target.names_engine() => match &hosts(target, project)?[..] {
                [] => {}
                [one] => {
                    let target = (&target.at(one), variables);
                    return Box::pin(Self::find(target, names, events, (read, unread))).await;
                }
                several => return Ok(Found::Several(several.to_vec())),
            },
            Ok((compose, Err(error))) if lacks_hosts(target, compose) => {
                let hint = error.hint.clone().unwrap_or_default();
                return Err(error.clone().hint(format!(
                    "{hint}\n      its hosts cannot be read: name one with --on, -H or --context"
                )));
            }
            _ => {}
        }
        let (engine, stack, beside) = connected?;
        if let Some(stack) = stack {
            return Ok(Found::Stack(stack.into()));
        }
        let (compose, project) = composed?;
        let project = match (project, unread) {
            (Ok(project), _) => project,
            (Err(error), Unread::Refuse) => {
                return Err(made_from::explain(error, &engine, &compose, names).await);
            }
            (Err(error), Unread::AskContainers) => {
                made_from::project(error, &engine, &compose, names).await?
            }
        };
        let opened = Self {
            engine,
            compose,
            project,
        };
        Ok(Found::One(opened.into(), beside))
    }

    /// The same where Compose cannot read its file, which is the error.
    async fn of_containers(
        target: &TargetArgs,
        names: &[&str],
        (error, events): (&Error, &Events),
    ) -> Result<Self> {
        let (engine, stack) = connect(target, endpoint(target).await?, events).await?;
        if let Some(stack) = stack {
            return Err(no_part(&stack));
        }
        let compose = Compose::find(target.invocation(), engine.endpoint().clone()).await?;
        if lacks_hosts(target, &compose) {
            return Err(error.clone());
        }
        let project = made_from::of_containers(error.clone(), &engine, &compose, names).await?;
        Ok(Self {
            engine,
            compose,
            project,
        })
    }

    fn run<'a>(&'a self, events: &'a Events) -> RunContext<'a> {
        RunContext {
            engine: &self.engine,
            compose: &self.compose,
            project: &self.project,
            hashes: None,
            events,
            back: None,
            replaces: None,
            decided: None,
            of_several: false,
            together: false,
            promotes: None,
            set: None,
        }
    }

    /// The events of one service.
    fn events(&self, all: &Events, service: &str) -> Events {
        let host = self.engine.endpoint().to_string();
        all.of_service(&host, &self.project.key(service))
    }
}

async fn read_project(compose: &Compose, names: &[&str]) -> Result<Project> {
    let project = compose.project_for(names).await;
    project.map_err(|error| {
        error.or_hint("see what docker compose config says, or name another file with -f FILE")
    })
}

/// The hosts of the Compose file.
fn hosts(target: &TargetArgs, project: &Project) -> Result<Vec<Host>> {
    let hosts = fleet::of_file(project.raw.get("x-rollout"))?;
    if !hosts.is_empty() {
        refuse_standard_input(target)?;
    }
    Ok(hosts)
}

/// Whether the engine of a project that Compose cannot read is one of the hosts in its file.
fn lacks_hosts(target: &TargetArgs, compose: &Compose) -> bool {
    !target.names_engine() && include::names_hosts(compose.files())
}

/// The Compose file is read for each host.
fn refuse_standard_input(target: &TargetArgs) -> Result<()> {
    match target.files.iter().any(|file| file == "-") {
        false => Ok(()),
        true => Err(Error::refused(
            "a project with hosts is read for each of them, so its Compose file cannot be standard input",
        )
        .hint("name a file with -f FILE")),
    }
}

async fn endpoint(target: &TargetArgs) -> Result<Endpoint> {
    let target = match &target.on[..] {
        [] => target,
        [one] => &target.at(one),
        several => return Err(fleet::one_at_a_time(several)),
    };
    Endpoint::find(target.host.as_deref(), target.context.as_deref()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_the_password_of_a_url_are_left_out() {
        for (word, shown) in [
            (
                "--traefik-url=https://a:b@t/x@y",
                "--traefik-url=https://…@t/x@y",
            ),
            ("https://t/x@y", "https://t/x@y"),
            ("web", "web"),
        ] {
            assert_eq!(masked(word), shown);
        }
    }

    #[test]
    fn the_addresses_of_notifications_are_left_out() {
        let line = "rollout --notify https://h/x web --notify=ntfy://h/x -H ssh://u@h";
        let words = line.split(' ').map(str::to_owned);
        let shown = "rollout --notify … web --notify=… -H ssh://…@h";
        assert_eq!(without_secrets(words), shown);
    }
}
