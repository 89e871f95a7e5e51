//! The command line: clap → [`Action`].

mod init;
pub mod plugin;
mod refusal;
mod remember;
mod tools;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use self::init::InitArgs;
pub use self::remember::{HistoryArgs, StatusArgs, UndoArgs};
pub use self::tools::{DoctorArgs, RelabelArgs};
use crate::{
    compose::Invocation,
    error::Error,
    namespace::NamespaceCommand,
    report::Output,
    settings::{OnUnfinished, Partial},
    socket_proxy::SocketProxyArgs,
};

/// What Docker asks of a CLI plugin before it lists it (docker/cli, cli-plugins/metadata).
pub const PLUGIN_METADATA: &str = "docker-cli-plugin-metadata";

/// Zero-downtime rollouts for Docker Compose services behind Traefik
#[derive(Debug, Parser)]
#[command(
    name = "rollout",
    version,
    about,
    max_term_width = 120,
    subcommand_precedence_over_arg = true
)]
#[command(after_help = "\
Exit codes:
  0    done, or nothing to do
  1    failed; the old version serves
  2    refused before anything was touched
  3    failed, and needs a person: the message says what and how
  4    locked by another rollout of the service
  130  interrupted; the last line says which version serves")]
pub struct Cli {
    /// What `rollout SERVICE…` rolls
    #[command(flatten)]
    pub up: UpArgs,
    /// Other commands
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Roll services to what the Compose file says (also: `rollout SERVICE…`)
    Up(Box<UpArgs>),
    /// Finish a rollout that was left unfinished, or undo it where its cutover is not written
    Resume(SettleArgs),
    /// Undo a rollout that was left unfinished: the traffic goes back to the old replicas
    Abort(SettleArgs),
    /// Go back to an earlier revision, with the same care
    Undo(Box<UndoArgs>),
    /// List the revisions of a service, show one, or compare two
    History(HistoryArgs),
    /// What runs, what Traefik does with it, and how it differs from the Compose file
    Status(Box<StatusArgs>),
    /// What stands in the way of rollouts with nothing lost, and what to paste against it
    Doctor(Box<DoctorArgs>),
    /// Remove the lock that a dead rollout has left on a service
    Unlock(UnlockArgs),
    /// Put the socket proxy into a Compose file whose Traefik reads the engine's socket itself
    Init(InitArgs),
    /// Change what Traefik reads of a container's labels: a drain without a rollout
    Relabel(RelabelArgs),
    /// The Docker API proxy that Traefik reads through
    SocketProxy(SocketProxyArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// What runs inside a replica's network namespace
    #[command(hide = true, subcommand)]
    Namespace(NamespaceCommand),
}

/// Which services, in which project, on which engine.
#[derive(Args, Clone, Debug, Default)]
pub struct UpArgs {
    /// Services of the Compose file, rolled in this order; the first failure ends it
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub settings: Partial,
}

/// Which service to settle, and how.
#[derive(Args, Clone, Debug)]
pub struct SettleArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub settings: Partial,
}

/// Which service to unlock.
#[derive(Args, Clone, Debug)]
pub struct UnlockArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Remove it although its rollout may still run; that rollout then stops before its next change
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The project and the engine, as `docker` and `docker compose` take them.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// Compose file; repeat for several
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<String>,
    /// Project name
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Where relative paths of the Compose file begin
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Enable a profile; repeat for several
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    /// Environment file; repeat for several
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<String>,
    /// The engine's address; ssh:// and TLS need the Docker CLI [default: DOCKER_HOST, else the current context]
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// The Docker context, read by the Docker CLI [default: DOCKER_CONTEXT, else the current one]
    #[arg(short = 'c', long, value_name = "NAME", conflicts_with = "host")]
    pub context: Option<String>,
    /// How to report
    #[arg(long, value_enum, env = "ROLLOUT_OUTPUT")]
    pub output: Option<Output>,
    /// Log what is done on standard error; twice for more (or RUST_LOG)
    #[arg(short, long, action = clap::ArgAction::Count)]
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

    /// What was given before a subcommand counts where the subcommand itself is silent.
    fn or(self, outer: Self) -> Self {
        let list = |own: Vec<String>, outer: Vec<String>| if own.is_empty() { outer } else { own };
        Self {
            files: list(self.files, outer.files),
            project_name: self.project_name.or(outer.project_name),
            project_directory: self.project_directory.or(outer.project_directory),
            profiles: list(self.profiles, outer.profiles),
            env_files: list(self.env_files, outer.env_files),
            host: self.host.or(outer.host),
            context: self.context.or(outer.context),
            output: self.output.or(outer.output),
            verbose: self.verbose.max(outer.verbose),
        }
    }
}

/// What to do, every option in its place.
#[derive(Debug)]
pub enum Action {
    Up(Box<UpArgs>),
    Settle(Box<SettleArgs>),
    Undo(Box<UndoArgs>),
    History(HistoryArgs),
    Status(Box<StatusArgs>),
    /// Look for what stands in the way.
    Doctor(Box<DoctorArgs>),
    Unlock(UnlockArgs),
    /// Add the socket proxy to a Compose file.
    Init(InitArgs),
    Relabel(RelabelArgs),
    SocketProxy(SocketProxyArgs),
    Completions(clap_complete::Shell),
    /// Look into a replica's network.
    Namespace(NamespaceCommand),
    /// Tell Docker what this plugin is.
    PluginMetadata,
}

/// Why a command line names nothing to do.
#[derive(Debug)]
pub enum Stop {
    /// It asks for help or the version, which is printed.
    Print(clap::Error),
    Refuse(Error),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        if error.use_stderr() {
            Self::Refuse(refusal::refusal(&error, &Cli::command()))
        } else {
            Self::Print(error)
        }
    }
}

pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, Stop> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == PLUGIN_METADATA)
    {
        return Ok(Action::PluginMetadata);
    }
    let cli = Cli::try_parse_from(values_joined(arguments))?;
    if let (Some(first), Some(_)) = (cli.up.services.first(), &cli.command) {
        return Err(misplaced(first));
    }
    match cli.command {
        None if cli.up.services.is_empty() => Err(no_service()),
        None => Ok(Action::Up(Box::new(cli.up))),
        Some(Command::Up(up)) if up.services.is_empty() => Err(no_service()),
        Some(Command::Up(up)) => Ok(Action::Up(Box::new(UpArgs {
            services: up.services,
            target: up.target.or(cli.up.target),
            settings: up.settings.or(cli.up.settings),
        }))),
        Some(Command::Resume(args)) => Ok(settle(args, cli.up, OnUnfinished::Resume)),
        Some(Command::Abort(args)) => Ok(settle(args, cli.up, OnUnfinished::Abort)),
        Some(Command::Undo(undo)) => Ok(Action::Undo(Box::new(undo.after(cli.up)))),
        Some(Command::History(history)) => Ok(Action::History(history.after(cli.up))),
        Some(Command::Status(status)) => Ok(Action::Status(Box::new(status.after(cli.up)))),
        Some(Command::Doctor(doctor)) => Ok(Action::Doctor(Box::new(doctor.after(cli.up)))),
        Some(Command::Unlock(unlock)) => Ok(Action::Unlock(UnlockArgs {
            target: unlock.target.or(cli.up.target),
            ..unlock
        })),
        Some(Command::Init(init)) => Ok(Action::Init(init.after(cli.up))),
        Some(Command::Relabel(relabel)) => Ok(Action::Relabel(RelabelArgs {
            target: relabel.target.or(cli.up.target),
            ..relabel
        })),
        Some(Command::SocketProxy(arguments)) => Ok(Action::SocketProxy(arguments)),
        Some(Command::Completions { shell }) => Ok(Action::Completions(shell)),
        Some(Command::Namespace(command)) => Ok(Action::Namespace(command)),
    }
}

fn settle(args: SettleArgs, outer: UpArgs, on_unfinished: OnUnfinished) -> Action {
    let settings = Partial {
        on_unfinished: Some(on_unfinished),
        ..args.settings.or(outer.settings)
    };
    Action::Settle(Box::new(SettleArgs {
        service: args.service,
        target: args.target.or(outer.target),
        settings,
    }))
}

fn no_service() -> Stop {
    Stop::Refuse(Error::refused("no service named").hint("write: rollout SERVICE"))
}

/// `rollout web socket-proxy` would start a daemon and leave web as it is.
fn misplaced(service: &str) -> Stop {
    let message = format!("service {service} stands before the name of a command");
    Stop::Refuse(
        Error::refused(message)
            .hint("for a service that is called as a command is, write: rollout up SERVICE…"),
    )
}

/// The command line as shells complete it: without what is hidden.
pub fn completed() -> clap::Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|own| !own.is_hide_set());
    let command = UpArgs::augment_args(clap::Command::new("rollout"));
    command
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(shown.cloned())
}

/// How a command line that cannot be read asks for its report.
pub fn output_of(arguments: &[OsString]) -> Output {
    let asked = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    let json = arguments.iter().any(|argument| argument == "--output=json")
        || arguments.windows(2).any(asked)
        || std::env::var("ROLLOUT_OUTPUT").as_deref() == Ok("json");
    if json { Output::Json } else { Output::Human }
}

/// An option's value may be called as a command is: `--switch relabel web` becomes `--switch=relabel web`.
fn values_joined(arguments: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
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
    };

    fn parsed(line: &str) -> Action {
        let words = line.split_whitespace().map(OsString::from);
        let call = plugin::read(words.collect()).unwrap();
        parse(call.arguments).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shells_complete_what_is_shown_and_nothing_hidden() {
        use clap_complete::{Shell, generate};
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            generate(shell, &mut completed(), "rollout", &mut script);
            let script = String::from_utf8(script).unwrap();
            // Bash, zsh and fish in turn write a subcommand like this.
            for form in ["__namespace", ",namespace)", "'namespace:", "\"namespace\""] {
                assert!(!script.contains(form), "{shell}: {form}");
            }
            for word in ["socket-proxy", "drain-timeout", "relabel", "version"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn options_count_before_and_after_the_subcommand_and_without_one() {
        for line in [
            "rollout -f a.yaml web --timeout 5",
            "rollout -f a.yaml up web -t 5",
            "rollout up -t 5s web -f a.yaml",
        ] {
            let Action::Up(up) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(
                (up.services, up.target.files),
                (vec!["web".to_owned()], vec!["a.yaml".to_owned()]),
                "{line}"
            );
            assert_eq!(up.settings.timeout.unwrap().0.as_secs(), 5, "{line}");
        }
    }

    fn refused(line: &str) -> String {
        match parse(line.split_whitespace().map(OsString::from)) {
            Err(Stop::Refuse(error)) => error.message,
            other => panic!("{other:?}"),
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
            let Action::Up(up) = parsed(&format!("rollout web --ignore {check}")) else {
                panic!("{check}")
            };
            assert_eq!(up.settings.ignore, [check]);
        }
    }

    #[test]
    fn the_value_of_an_option_may_be_called_as_a_command_is() {
        for line in [
            "rollout --switch relabel web",
            "rollout up --switch=relabel web",
        ] {
            let Action::Up(up) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(up.services, ["web"], "{line}");
            assert!(up.settings.switch.is_some(), "{line}");
        }
    }

    #[test]
    fn a_service_may_be_called_as_a_command_is() {
        assert!(matches!(
            parsed("rollout socket-proxy"),
            Action::SocketProxy(_)
        ));
        let Action::Up(up) = parsed("rollout up socket-proxy unlock") else {
            panic!()
        };
        assert_eq!(up.services, ["socket-proxy", "unlock"]);
    }

    #[test]
    fn docker_calls_the_plugin_with_its_name_after_dockers_own_options() {
        let Action::Up(up) = parsed("/x/docker-rollout --context far rollout -w 7 web db") else {
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
            Action::PluginMetadata
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
