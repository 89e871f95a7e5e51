//! The command line: clap → [`Command`].

mod examples;
pub mod help;
pub mod man;
mod options;
pub mod plugin;
mod refusal;
mod remember;
mod roll;
mod target;
#[cfg(test)]
mod tests;
mod tools;
pub mod words;

use std::{ffi::OsString, path::PathBuf};

use clap::{FromArgMatches as _, Parser, Subcommand};

pub use self::options::{command, completed};
pub use self::remember::{HistoryArgs, StatusArgs, UndoArgs};
pub use self::roll::{PauseArgs, PlanArgs, PromoteArgs, RestartArgs, SettleArgs, UpArgs};
pub use self::target::TargetArgs;
pub use self::tools::{
    AgentArgs, DoctorArgs, ImageArgs, InitArgs, PruneArgs, RelabelArgs, UnlockArgs,
};
use crate::{
    error::Error, namespace::NamespaceCommand, report::Output, settings::Partial,
    socket_proxy::SocketProxyArgs, state,
};

/// Zero-downtime rollouts for Docker Compose services behind Traefik
#[derive(Debug, Parser)]
#[command(
    name = "rollout",
    version,
    about,
    max_term_width = 120,
    subcommand_precedence_over_arg = true,
    disable_help_subcommand = true
)]
struct Cli {
    /// What `rollout SERVICE…` rolls
    #[command(flatten)]
    up: UpArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Roll services to what the Compose file says (also: `rollout SERVICE…`)
    #[command(after_help = examples::UP)]
    Up(UpArgs),
    /// Print what a rollout would do, and change nothing
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// Replace the containers by new ones of the same revision, as it is recorded
    #[command(after_help = examples::RESTART)]
    Restart(RestartArgs),
    /// Move a canary, a preview or a rolling update that is paused on to its next step, or to its end
    #[command(after_help = examples::PROMOTE)]
    Promote(PromoteArgs),
    /// Stop a canary or a rolling update before its next step
    #[command(after_help = examples::PAUSE)]
    Pause(PauseArgs),
    /// Finish an interrupted rollout, or roll it back if no traffic had moved yet; go on with one that is between two steps
    #[command(after_help = examples::RESUME)]
    Resume(SettleArgs),
    /// Roll back an interrupted or paused rollout: the traffic returns to the old replicas
    #[command(after_help = examples::ABORT)]
    Abort(SettleArgs),
    /// Return to an earlier revision, with the same care as any rollout
    #[command(after_help = examples::UNDO)]
    Undo(UndoArgs),
    /// List the revisions of a service, show one, or compare two
    #[command(after_help = examples::HISTORY)]
    History(HistoryArgs),
    /// Show what runs, where Traefik routes, and the differences from the Compose file
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Find what blocks zero-downtime rollouts, and print the fix
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// List what is kept of services and projects that are gone, or remove it
    #[command(after_help = examples::PRUNE)]
    Prune(PruneArgs),
    /// Remove the lock that an ended rollout left on a service
    #[command(after_help = examples::UNLOCK)]
    Unlock(UnlockArgs),
    /// Add the socket proxy to a Compose file whose Traefik reads the engine's socket itself
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// Build the image rollout:latest from this program, on the engine that runs the socket proxy
    #[command(after_help = examples::IMAGE)]
    Image(ImageArgs),
    /// Change the labels that Traefik reads of a container: a drain without a rollout
    #[command(after_help = examples::RELABEL)]
    Relabel(RelabelArgs),
    /// Roll services by themselves when their images move in a registry
    #[command(after_help = examples::AGENT)]
    Agent(AgentArgs),
    /// Run the Docker API proxy that Traefik reads through
    #[command(after_help = examples::SOCKET_PROXY)]
    SocketProxy(SocketProxyArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions { shell: clap_complete::Shell },
    /// Print the help of a command or a topic, or list the topics
    #[command(after_help = examples::HELP)]
    Help {
        /// A command or a topic
        #[arg(value_name = "COMMAND|TOPIC")]
        words: Vec<String>,
    },
    /// Write the man pages of all commands and topics
    #[command(hide = true, name = "write-man-pages")]
    Man { directory: PathBuf },
    /// What runs inside a container's network namespace
    #[command(hide = true, subcommand)]
    Namespace(NamespaceCommand),
    /// What runs in a container that has the state volume mounted
    #[command(hide = true, name = state::folders::COMMAND)]
    StateFolders {
        /// Folders to remove: PROJECT/SERVICE
        gone: Vec<String>,
    },
    /// What Docker asks of a CLI plugin before it lists it (docker/cli, cli-plugins/metadata)
    #[command(hide = true, name = "docker-cli-plugin-metadata")]
    PluginMetadata,
}

impl Command {
    /// The settings of a command that has some.
    fn settings(&mut self) -> Option<&mut Partial> {
        match self {
            Self::Up(up) => Some(&mut up.settings),
            Self::Plan(plan) => Some(&mut plan.settings),
            Self::Restart(restart) => Some(&mut restart.settings),
            Self::Resume(args) | Self::Abort(args) => Some(&mut args.settings),
            Self::Promote(promote) => Some(&mut promote.settle.settings),
            Self::Undo(undo) => Some(&mut undo.settings),
            Self::Status(status) => Some(&mut status.settings),
            Self::Doctor(doctor) => Some(&mut doctor.settings),
            _ => None,
        }
    }
}

/// Why a command line gives no command.
#[derive(Debug)]
pub enum Stop {
    /// It asks for help or the version, which is printed.
    Print(clap::Error),
    Refuse(Error),
}

impl Stop {
    fn of(error: clap::Error, arguments: &[OsString]) -> Self {
        if error.use_stderr() {
            Self::Refuse(refusal::refusal(&error, &command(), &page(arguments)))
        } else {
            Self::Print(error)
        }
    }
}

/// The command of a line that cannot be read.
fn page(arguments: &[OsString]) -> String {
    let matches = command()
        .ignore_errors(true)
        .try_get_matches_from(arguments);
    let name = matches
        .ok()
        .and_then(|own| Some(own.subcommand()?.0.to_owned()));
    name.map_or_else(|| "rollout".to_owned(), |name| format!("rollout {name}"))
}

pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let arguments = values_joined(arguments.into_iter().collect());
    let stop = |error| Stop::of(error, &arguments);
    let matches = command().try_get_matches_from(&arguments).map_err(stop)?;
    options::refuse_idle(&matches)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(stop)?;
    let first = cli.up.services.first().cloned();
    let (outer, dry_run) = (cli.up.settings.clone(), cli.up.dry_run);
    let (all, remove_orphans) = (cli.up.all, cli.up.remove_orphans);
    let set = std::mem::take(&mut cli.up.set);
    let mut chosen = match (cli.command, first) {
        (Some(_), Some(service)) => return Err(misplaced(&service)),
        (Some(command), None) => command,
        (None, _) => Command::Up(cli.up),
    };
    match &mut chosen {
        Command::Up(up) => {
            up.all |= all;
            up.remove_orphans |= remove_orphans;
            up.set.splice(..0, set);
            check(up)?;
        }
        Command::Plan(plan) if !remove_orphans => {
            plan.all |= all;
            plan.set.splice(..0, set);
        }
        _ if all || remove_orphans => return Err(only_up()),
        _ if !set.is_empty() => return Err(Stop::Refuse(no_set())),
        _ => {}
    }
    let mut chosen = match chosen {
        Command::Up(up) if (up.dry_run || dry_run) && up.remove_orphans => {
            return Err(no_plan_of_orphans());
        }
        Command::Up(up) if (up.dry_run || dry_run) && up.target.report.is_some() => {
            return Err(no_page_of_a_plan());
        }
        Command::Up(up) if up.dry_run || dry_run => Command::Plan(PlanArgs {
            services: up.services,
            all: up.all,
            set: up.set,
            settings: up.settings,
            target: up.target,
        }),
        Command::Plan(plan) => Command::Plan(plan),
        _ if dry_run => return Err(no_dry_run()),
        other => other,
    };
    let fixed = match chosen {
        Command::Resume(_) | Command::Promote(_) => Partial::of("on-unfinished", "resume"),
        Command::Abort(_) => Partial::of("on-unfinished", "abort"),
        _ => Partial::default(),
    };
    if let Some(own) = chosen.settings() {
        *own = fixed.or(std::mem::take(own)).or(outer);
    }
    Ok(chosen)
}

fn check(up: &UpArgs) -> Result<(), Stop> {
    let refused = match (up.all, up.services.is_empty()) {
        (false, true) => Error::refused("no service named")
            .hint("write: rollout SERVICE, or rollout --all for every service that has changed"),
        (false, false) if up.remove_orphans => Error::refused("--remove-orphans needs --all")
            .hint("write: rollout --all --remove-orphans"),
        _ => return Ok(()),
    };
    Err(Stop::Refuse(refused))
}

fn only_up() -> Stop {
    let message = "--all and --remove-orphans are options of `rollout` and `rollout up` alone";
    Stop::Refuse(Error::refused(message).hint("write: rollout --all"))
}

fn no_set() -> Error {
    let message = "--set is an option of `rollout`, `rollout up` and `rollout plan` alone";
    let hint = "write: rollout SERVICE --set NAME=VALUE; undo takes the earlier value by itself";
    Error::refused(message).hint(hint)
}

fn no_plan_of_orphans() -> Stop {
    Stop::Refuse(
        Error::refused("--dry-run does not show what --remove-orphans removes")
            .hint("leave out --remove-orphans; `rollout --all` without it lists the orphans"),
    )
}

fn no_page_of_a_plan() -> Stop {
    Stop::Refuse(
        Error::refused("--dry-run moves nothing, so --report has nothing to show")
            .hint("leave out --report; rollout plan --output json has the plan for programs"),
    )
}

/// Another command would change something.
fn no_dry_run() -> Stop {
    Stop::Refuse(
        Error::refused("--dry-run is an option of `rollout SERVICE` and `rollout up` alone")
            .hint("write: rollout plan SERVICE"),
    )
}

/// `rollout web socket-proxy` would start a daemon and leave web as it is.
fn misplaced(service: &str) -> Stop {
    let message = format!("service {service} stands before the name of a command");
    Stop::Refuse(
        Error::refused(message)
            .hint("for a service that has the name of a command, write: rollout up SERVICE…"),
    )
}

/// The format of the report, for a command line that cannot be read.
pub fn output_of(arguments: &[OsString]) -> Output {
    let asked = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    let json = arguments.iter().any(|argument| argument == "--output=json")
        || arguments.windows(2).any(asked)
        || std::env::var("ROLLOUT_OUTPUT").as_deref() == Ok("json");
    if json { Output::Json } else { Output::Human }
}

/// Joins an option and a value that is also the name of a command: `--switch relabel web` becomes `--switch=relabel web`.
fn values_joined(arguments: Vec<OsString>) -> Vec<OsString> {
    let command = command();
    let takes_value = |word: &str| {
        let named = |own: &clap::Arg| {
            own.get_long()
                .is_some_and(|long| word == format!("--{long}"))
        };
        let one = |own: &clap::Arg| own.get_action().takes_values() && !own.is_require_equals_set();
        command.get_arguments().any(|own| named(own) && one(own))
    };
    let is_command = |word: &str| command.get_subcommands().any(|own| own.get_name() == word);
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        let value = argument.to_str().filter(|word| is_command(word));
        let option = joined.last().and_then(|last| last.to_str());
        match (option.filter(|word| takes_value(word)), value) {
            (Some(option), Some(value)) => {
                let whole = format!("{option}={value}");
                joined.pop();
                joined.push(whole.into());
            }
            _ => joined.push(argument),
        }
    }
    joined
}
