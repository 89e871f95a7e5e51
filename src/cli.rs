//! The command line: clap → [`Command`].

mod examples;
pub mod help;
mod init;
pub mod man;
pub mod plugin;
mod refusal;
mod remember;
mod tools;
pub mod words;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint,
    parser::ValueSource,
};

pub use self::init::InitArgs;
pub use self::remember::{HistoryArgs, StatusArgs, UndoArgs};
pub use self::tools::{DoctorArgs, PruneArgs, RelabelArgs};
use crate::{
    compose::Invocation,
    error::Error,
    namespace::NamespaceCommand,
    report::Output,
    settings::{self, Partial},
    socket_proxy::SocketProxyArgs,
    state,
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
    /// Finish an interrupted rollout, or roll it back if its cutover had not happened yet
    #[command(after_help = examples::RESUME)]
    Resume(SettleArgs),
    /// Roll back an interrupted rollout: the traffic returns to the old replicas
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
    /// Change the labels that Traefik reads of a container: a drain without a rollout
    #[command(after_help = examples::RELABEL)]
    Relabel(RelabelArgs),
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
            Self::Undo(undo) => Some(&mut undo.settings),
            Self::Status(status) => Some(&mut status.settings),
            Self::Doctor(doctor) => Some(&mut doctor.settings),
            _ => None,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// Services of the Compose file; what others depend on comes first
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Roll every service that has changed; databases only where they are named
    #[arg(long, help_heading = settings::STACK)]
    pub all: bool,
    /// With --all: stop and remove the containers of services that the Compose file no longer has
    #[arg(long, help_heading = settings::STACK)]
    pub remove_orphans: bool,
    #[command(flatten)]
    pub settings: Partial,
    /// Print what would be done, and change nothing: rollout plan
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// Services of the Compose file [default: as --all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Plan every service that --all would roll, and the named ones
    #[arg(long, help_heading = settings::STACK)]
    pub all: bool,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Services of the Compose file, restarted in this order; the first failure ends the run
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The arguments of `resume` and `abort`.
#[derive(Args, Clone, Debug)]
pub struct SettleArgs {
    /// Service of the Compose file
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct UnlockArgs {
    /// Service of the Compose file
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Remove the lock although its rollout may still run; that rollout then stops before its next change
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

const PROJECT: &str = "Project and engine";

/// The project and the engine, as `docker` and `docker compose` take them: before or after the name of a command.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// Compose file; repeat for several
    #[arg(short, long = "file", value_name = "FILE", value_hint = ValueHint::FilePath, global = true)]
    pub files: Vec<String>,
    /// Project name
    #[arg(short, long, value_name = "NAME", global = true)]
    pub project_name: Option<String>,
    /// Report for people, or as one JSON event a line: human or json
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "ROLLOUT_OUTPUT",
        global = true,
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub output: Option<Output>,
    /// Directory where relative paths of the Compose file begin
    #[arg(long, value_name = "DIR", global = true, help_heading = PROJECT)]
    pub project_directory: Option<PathBuf>,
    /// Enable a profile; repeat for several
    #[arg(long = "profile", value_name = "NAME", global = true, help_heading = PROJECT)]
    pub profiles: Vec<String>,
    /// Environment file; repeat for several
    #[arg(long = "env-file", value_name = "FILE", value_hint = ValueHint::FilePath, global = true, help_heading = PROJECT)]
    pub env_files: Vec<String>,
    /// Address of the engine; ssh:// and TLS need the Docker CLI [default: DOCKER_HOST, else the current context]
    #[arg(short = 'H', long, value_name = "ADDRESS", global = true, help_heading = PROJECT)]
    pub host: Option<String>,
    /// Docker context [default: DOCKER_CONTEXT, else the current one]
    #[arg(short = 'c', long, value_name = "NAME", conflicts_with = "host", global = true, help_heading = PROJECT)]
    pub context: Option<String>,
    /// Append all that happens to a service to DIR/SERVICE.log
    #[arg(
        long,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        env = "ROLLOUT_LOG_DIR",
        global = true,
        help_heading = PROJECT,
        hide_env_values = true
    )]
    pub log_dir: Option<PathBuf>,
    /// Log to standard error; twice for more (or RUST_LOG)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = PROJECT)]
    pub verbose: u8,
}

impl TargetArgs {
    /// What Compose is called with.
    pub fn invocation(&self) -> Invocation {
        Invocation {
            files: self.files.clone(),
            project_name: self.project_name.clone(),
            project_directory: self.project_directory.clone(),
            profiles: self.profiles.clone(),
            env_files: self.env_files.clone(),
        }
    }
}

/// A command line without a command.
#[derive(Debug)]
pub enum Stop {
    /// It asks for help or the version, which is printed.
    Print(clap::Error),
    Refuse(Error),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        if error.use_stderr() {
            Self::Refuse(refusal::refusal(&error, &command()))
        } else {
            Self::Print(error)
        }
    }
}

pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let arguments = values_joined(arguments.into_iter().collect());
    let matches = command().try_get_matches_from(arguments)?;
    refuse_idle(&matches)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let first = cli.up.services.first().cloned();
    let (outer, dry_run) = (cli.up.settings.clone(), cli.up.dry_run);
    let (all, remove_orphans) = (cli.up.all, cli.up.remove_orphans);
    let mut chosen = match (cli.command, first) {
        (Some(_), Some(service)) => return Err(misplaced(&service)),
        (Some(command), None) => command,
        (None, _) => Command::Up(cli.up),
    };
    match &mut chosen {
        Command::Up(up) => {
            up.all |= all;
            up.remove_orphans |= remove_orphans;
            check(up)?;
        }
        Command::Plan(plan) if !remove_orphans => plan.all |= all,
        _ if all || remove_orphans => return Err(only_up()),
        _ => {}
    }
    let mut chosen = match chosen {
        Command::Up(up) if (up.dry_run || dry_run) && up.remove_orphans => {
            return Err(no_plan_of_orphans());
        }
        Command::Up(up) if up.dry_run || dry_run => Command::Plan(PlanArgs {
            services: up.services,
            all: up.all,
            settings: up.settings,
            target: up.target,
        }),
        Command::Plan(plan) => Command::Plan(plan),
        _ if dry_run => return Err(no_dry_run()),
        other => other,
    };
    let fixed = match chosen {
        Command::Resume(_) => Partial::of("on-unfinished", "resume"),
        Command::Abort(_) => Partial::of("on-unfinished", "abort"),
        _ => Partial::default(),
    };
    if let Some(own) = chosen.settings() {
        *own = fixed.or(std::mem::take(own)).or(outer);
    }
    Ok(chosen)
}

/// The command line as clap reads it; options are shown only where they act.
pub fn command() -> clap::Command {
    let topics = help::topics();
    let mut command = Cli::command().after_help(format!("{}\n\n{topics}", examples::ROLLOUT));
    for (name, shown) in [
        ("status", &["scale"][..]),
        ("doctor", &["scale", "strategy"]),
    ] {
        command = hide(command, name, |argument| {
            let is_traefik = argument.get_help_heading() == Some(settings::TRAEFIK);
            !is_traefik && !shown.contains(&argument.get_id().as_str())
        });
    }
    for (name, idle) in IDLE {
        command = hide(command, name, |argument| is_idle(argument, idle));
    }
    for name in RECORDED {
        command = command.mut_subcommand(name, |own| {
            own.mut_arg("scale", |scale| {
                scale.help("Number of replicas [default: as recorded]")
            })
        });
    }
    let target = TargetArgs::augment_args(clap::Command::new("target"));
    let hidden: Vec<_> = target.get_arguments().cloned().collect();
    for name in [
        "socket-proxy",
        "completions",
        "help",
        "write-man-pages",
        "namespace",
        state::folders::COMMAND,
    ] {
        let hidden = hidden.iter().cloned().map(|argument| argument.hide(true));
        command = command.mut_subcommand(name, |own| own.args(hidden));
    }
    command
}

/// The commands that roll a recorded revision.
const RECORDED: [&str; 2] = ["restart", "undo"];

/// Commands, and the settings that do nothing with them, beside those of several services.
const IDLE: [(&str, &[&str]); 5] = [
    ("plan", &WAITS),
    ("restart", &["build", "pull", "force"]),
    ("resume", &["on_unfinished"]),
    ("abort", &["on_unfinished"]),
    ("undo", &["build", "pull"]),
];

fn is_idle(argument: &clap::Arg, idle: &[&str]) -> bool {
    let is_of_several = argument.get_help_heading() == Some(settings::STACK);
    is_of_several || idle.contains(&argument.get_id().as_str())
}

/// Refuses options that ask for something that a command with a recorded revision does not do. `plan`, `resume` and
/// `abort` take all that a rollout takes.
fn refuse_idle(matches: &ArgMatches) -> Result<(), Stop> {
    let Some((name, own)) = matches.subcommand() else {
        return Ok(());
    };
    let idle = IDLE.iter().find(|(command, _)| *command == name);
    let Some((_, idle)) = idle.filter(|_| RECORDED.contains(&name)) else {
        return Ok(());
    };
    let is_given = |argument: &&clap::Arg| {
        let id = argument.get_id().as_str();
        let mut places = [matches, own].into_iter();
        places.any(|place| place.value_source(id) == Some(ValueSource::CommandLine))
    };
    let settings = Partial::augment_args(clap::Command::new("settings"));
    let mut all = settings.get_arguments();
    match all.find(|argument| is_idle(argument, idle) && is_given(argument)) {
        None => Ok(()),
        Some(argument) => {
            let option = argument.get_long().unwrap_or_default();
            let message = format!("rollout {name} has no option --{option}");
            let hint = format!("leave it out; rollout {name} --help lists the options");
            Err(Stop::Refuse(Error::refused(message).hint(hint)))
        }
    }
}

/// Settings of waits and of what comes after a rollout, which a plan does without.
const WAITS: [&str; 11] = [
    "timeout",
    "drain_timeout",
    "wait",
    "wait_after_healthy",
    "stable",
    "ready_http",
    "confirm_timeout",
    "settle",
    "drain_quiet",
    "lock_wait",
    "keep",
];

/// Leaves out of the help of a command the settings that do nothing with it.
fn hide(
    command: clap::Command,
    name: &str,
    is_hidden: impl Fn(&clap::Arg) -> bool,
) -> clap::Command {
    let settings = Partial::augment_args(clap::Command::new("settings"));
    let hidden: Vec<_> = settings
        .get_arguments()
        .filter(|own| is_hidden(own))
        .collect();
    command.mut_subcommand(name, |own| {
        hidden.iter().fold(own, |own, argument| {
            own.mut_arg(argument.get_id(), |argument| argument.hide(true))
        })
    })
}

fn no_plan_of_orphans() -> Stop {
    Stop::Refuse(
        Error::refused("--dry-run does not show what --remove-orphans removes")
            .hint("leave out --remove-orphans; `rollout --all` without it lists the orphans"),
    )
}

/// Another command would change something.
fn no_dry_run() -> Stop {
    Stop::Refuse(
        Error::refused("--dry-run is an option of `rollout SERVICE` and `rollout up` alone")
            .hint("write: rollout plan SERVICE"),
    )
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

/// `rollout web socket-proxy` would start a daemon and leave web as it is.
fn misplaced(service: &str) -> Stop {
    let message = format!("service {service} stands before the name of a command");
    Stop::Refuse(
        Error::refused(message)
            .hint("for a service that has the name of a command, write: rollout up SERVICE…"),
    )
}

/// The command line as shells complete it: without hidden commands.
pub fn completed() -> clap::Command {
    let whole = command();
    let shown = whole.get_subcommands().filter(|own| !own.is_hide_set());
    let command = UpArgs::augment_args(clap::Command::new("rollout"));
    command
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands(shown.cloned())
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use clap::ValueEnum as _;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        arbitrary::{bytes, mutated_text},
        check::Check,
        error::Outcome,
        settings::{OnUnfinished, Settings, SwitchBy},
    };

    fn resolved(flags: Partial) -> Settings {
        Settings::resolve([
            flags,
            Partial::default(),
            Partial::default(),
            Partial::default(),
        ])
    }

    fn parsed(line: &str) -> Command {
        let words = line.split_whitespace().map(OsString::from);
        let call = plugin::read(words.collect()).unwrap();
        parse(call.arguments).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn options_count_before_and_after_the_subcommand_and_without_one() {
        for line in [
            "rollout -f a.yaml web --timeout 5",
            "rollout -f a.yaml up web -t 5",
            "rollout up -t 5s web -f a.yaml",
        ] {
            let Command::Up(up) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(
                (up.services, up.target.files),
                (vec!["web".to_owned()], vec!["a.yaml".to_owned()]),
                "{line}"
            );
            assert_eq!(resolved(up.settings).timeout.as_secs(), 5, "{line}");
        }
    }

    #[test]
    fn options_before_a_command_count_for_it() {
        let line = "rollout -f a.yaml --timeout 5 --drain-timeout 6 undo web --timeout 7 -f b.yaml";
        let Command::Undo(undo) = parsed(line) else {
            panic!("{line}")
        };
        let settings = resolved(undo.settings);
        assert_eq!(settings.timeout.as_secs(), 7);
        assert_eq!(settings.drain_timeout.as_secs(), 6);
        assert_eq!(undo.target.files, ["b.yaml"]);
        let Command::History(history) = parsed("rollout -p shop --timeout 5 history web") else {
            panic!()
        };
        assert_eq!(history.target.project_name.as_deref(), Some("shop"));
    }

    #[test]
    fn a_dry_run_is_a_plan_of_the_same_services_and_settings() {
        for line in [
            "rollout web db --dry-run --scale 2",
            "rollout --dry-run up web db --scale 2",
            "rollout up --scale 2 --dry-run web db",
            "rollout --scale 2 plan web db",
        ] {
            let Command::Plan(plan) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(plan.services, ["web", "db"], "{line}");
            assert_eq!(resolved(plan.settings).scale, Some(2), "{line}");
        }
        let Command::Plan(plan) = parsed("rollout plan") else {
            panic!()
        };
        assert_eq!(plan.services, [""; 0]);
        for line in [
            "rollout --all --dry-run db",
            "rollout --all plan db",
            "rollout plan --all db",
        ] {
            let Command::Plan(plan) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!((plan.all, plan.services), (true, vec!["db".to_owned()]));
        }
    }

    #[test]
    fn commands_that_roll_nothing_still_take_every_setting() {
        for command in ["status web", "doctor", "doctor web"] {
            parsed(&format!(
                "rollout {command} --timeout 5 --build --ignore labels"
            ));
        }
    }

    #[test]
    fn an_undo_may_be_forced_and_a_plan_takes_what_a_rollout_takes() {
        let Command::Undo(undo) = parsed("rollout undo web --force --scale 2") else {
            panic!()
        };
        assert!(resolved(undo.settings).force);
        for line in [
            "rollout plan --parallel 2 --pull always web",
            "rollout web --on-failure rollback --build --timeout 5 --dry-run",
        ] {
            assert!(matches!(parsed(line), Command::Plan(_)), "{line}");
        }
    }

    #[test]
    fn resume_and_abort_are_what_they_say_whatever_the_flags() {
        let Command::Resume(args) = parsed("rollout resume web --on-unfinished fail") else {
            panic!()
        };
        assert_eq!(resolved(args.settings).on_unfinished, OnUnfinished::Resume);
        let Command::Abort(args) = parsed("rollout --on-unfinished fail abort web") else {
            panic!()
        };
        assert_eq!(resolved(args.settings).on_unfinished, OnUnfinished::Abort);
    }

    fn refused(line: &str) -> String {
        match parse(line.split_whitespace().map(OsString::from)) {
            Err(Stop::Refuse(error)) => error.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_option_that_means_nothing_to_a_command_is_refused_by_name() {
        for (line, message) in [
            ("rollout --dry-run", "no service named"),
            (
                "rollout --dry-run undo web",
                "--dry-run is an option of `rollout SERVICE` and `rollout up` alone",
            ),
            (
                "rollout undo web --dry-run",
                "this command has no option --dry-run",
            ),
            (
                "rollout restart web --pull always",
                "rollout restart has no option --pull",
            ),
            (
                "rollout --force=false restart web",
                "rollout restart has no option --force",
            ),
            (
                "rollout undo web api --on-failure rollback",
                "rollout undo has no option --on-failure",
            ),
            (
                "rollout --build undo web",
                "rollout undo has no option --build",
            ),
        ] {
            assert_eq!(refused(line), message, "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line_that_names_the_word() {
        for (line, message) in [
            (
                "rollout --drian-timeout 3 web",
                "unknown option --drian-timeout; did you mean --drain-timeout?",
            ),
            ("rollout web --frobnicate", "unknown option --frobnicate"),
            ("rollout -x web", "unknown option -x"),
            ("rollout", "no service named"),
            ("rollout up", "no service named"),
            ("rollout unlock", "<SERVICE> is missing"),
            ("rollout restart", "<SERVICE>... is missing"),
            ("rollout unlock web db", "\"db\" is one argument too many"),
            ("rollout relabel", "<CONTAINER> <KEY=VALUE>... is missing"),
            ("rollout relabel web-1", "<KEY=VALUE>... is missing"),
            (
                "rollout relabel web-1 a",
                "[KEY=VALUE]...: \"a\" is not key=value",
            ),
            (
                "rollout relabel web-1 a=b --clear",
                "[KEY=VALUE]... and --clear exclude each other",
            ),
            (
                "rollout web --strategy blue-gren",
                "--strategy: unknown value \"blue-gren\"; did you mean blue-green?",
            ),
            (
                "rollout web --strategy canary",
                "--strategy: unknown value \"canary\"; known are blue-green, recreate",
            ),
            (
                "rollout web --scale 0",
                "--scale: \"0\" is not a number from 1 on",
            ),
            ("rollout web --file", "--file needs a value"),
            (
                "rollout web -H x --context y",
                "--host and --context exclude each other",
            ),
            (
                "rollout web socket-proxy",
                "service web stands before the name of a command",
            ),
            (
                "rollout web --remove-orphans",
                "--remove-orphans needs --all",
            ),
            (
                "rollout --all undo web",
                "--all and --remove-orphans are options of `rollout` and `rollout up` alone",
            ),
        ] {
            assert_eq!(refused(line), message, "{line}");
        }
    }

    #[test]
    fn a_check_that_cannot_be_ignored_is_refused_with_the_list_of_those_that_can() {
        let other = Check::value_variants().iter();
        let other = other.filter(|own| !Check::IGNORABLE.contains(own));
        let other = other.map(ToString::to_string);
        for word in other.chain(["everything", "lables"].map(str::to_owned)) {
            let line = ["rollout", "web", "--ignore", &word];
            let Err(Stop::Refuse(error)) = parse(line.map(OsString::from)) else {
                panic!("{word}")
            };
            let told = format!("{} {}", error.message, error.hint.unwrap_or_default());
            assert!(told.contains("known are traefik, api, switch"), "{told}");
        }
    }

    #[test]
    fn every_check_that_can_be_ignored_is_taken() {
        for check in Check::IGNORABLE {
            let Command::Up(up) = parsed(&format!("rollout web --ignore {check}")) else {
                panic!("{check}")
            };
            assert_eq!(resolved(up.settings).ignore, [check]);
        }
    }

    #[test]
    fn the_value_of_an_option_may_be_called_as_a_command_is() {
        for line in [
            "rollout --switch relabel web",
            "rollout up --switch=relabel web",
        ] {
            let Command::Up(up) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(up.services, ["web"], "{line}");
            assert_eq!(resolved(up.settings).switch, SwitchBy::Relabel, "{line}");
        }
    }

    #[test]
    fn a_service_may_be_called_as_a_command_is() {
        assert!(matches!(
            parsed("rollout socket-proxy"),
            Command::SocketProxy(_)
        ));
        let Command::Up(up) = parsed("rollout up socket-proxy unlock") else {
            panic!()
        };
        assert_eq!(up.services, ["socket-proxy", "unlock"]);
    }

    #[test]
    fn all_services_are_chosen_before_and_after_the_command_and_without_one() {
        for line in [
            "rollout --all --remove-orphans",
            "rollout up --all --remove-orphans",
            "rollout --all up --remove-orphans",
        ] {
            let Command::Up(up) = parsed(line) else {
                panic!("{line}")
            };
            assert!(
                up.all && up.remove_orphans && up.services.is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn docker_calls_the_plugin_with_its_name_after_dockers_own_options() {
        let Command::Up(up) = parsed("/x/docker-rollout --context far rollout -w 7 web db") else {
            panic!()
        };
        assert_eq!(up.services, ["web", "db"]);
        let help = ["docker rollout", "--help"];
        let Err(Stop::Print(help)) = parse(help.map(OsString::from)) else {
            panic!()
        };
        let usage = "Usage: docker rollout [OPTIONS]";
        assert!(help.to_string().contains(usage), "{help}");
        assert_eq!(up.target.context.as_deref(), Some("far"));
        assert!(matches!(
            parsed("/x/docker-rollout docker-cli-plugin-metadata"),
            Command::PluginMetadata
        ));
    }

    fn any_words() -> impl Strategy<Value = Vec<OsString>> {
        let line = prop_oneof![
            mutated_text(
                "docker-rollout -H tcp://far rollout --file a.yaml -p shop web db --timeout 5s --scale=3"
            ),
            mutated_text("rollout relabel web-1 a=b --clear"),
            mutated_text("rollout socket-proxy --listen 0.0.0.0:2375 --only a=b"),
            mutated_text("rollout namespace watch 80=http1"),
            mutated_text("rollout history web 1 2 --output json"),
            mutated_text("rollout up --strategy recreate --ignore api,switch --bake 1m web"),
        ];
        let without_breaks = |mut raw: Vec<u8>| {
            raw.retain(|byte| *byte != b'\n');
            OsString::from_vec(raw)
        };
        let raw = vec(bytes().prop_map(without_breaks), 0..2);
        (line, raw).prop_map(|(line, raw)| {
            line.split([' ', '\n'])
                .map(OsString::from)
                .chain(raw)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn any_arguments_are_an_action_or_help_or_a_refusal_of_one_line(words in any_words()) {
            output_of(&words);
            let Ok(call) = plugin::read(words) else {
                return Ok(());
            };
            match parse(call.arguments) {
                Ok(_) => {}
                Err(Stop::Print(help)) => prop_assert!(!help.to_string().is_empty()),
                Err(Stop::Refuse(error)) => {
                    prop_assert_eq!(error.outcome, Outcome::Refused);
                    prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error.message);
                    prop_assert!(error.hint.is_some());
                }
            }
        }
    }
}
