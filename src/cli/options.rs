//! The options of each command: which ones its help shows, and which ones it refuses.

use clap::{ArgMatches, Args as _, CommandFactory as _, parser::ValueSource};

use super::{Cli, Stop, TargetArgs, UpArgs, examples, help};
use crate::{
    error::Error,
    settings::{self, Partial},
    state,
};

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
    for name in WITHOUT_PAGE {
        command = command.mut_subcommand(name, |own| own.mut_arg("report", |own| own.hide(true)));
    }
    command = command.mut_subcommand("image", |own| {
        let hidden = |own: clap::Command, id| own.mut_arg(id, |own| own.hide(true));
        OF_THE_PROJECT.into_iter().fold(own, hidden)
    });
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

/// The commands that write no page about a run.
const WITHOUT_PAGE: [&str; 11] = [
    "plan", "pause", "history", "status", "doctor", "prune", "unlock", "init", "image", "relabel",
    "agent",
];

/// Options that do nothing with the image of this program.
const OF_THE_PROJECT: [&str; 6] = [
    "files",
    "project_name",
    "project_directory",
    "profiles",
    "env_files",
    "log_dir",
];

/// The commands that roll a recorded revision.
const RECORDED: [&str; 2] = ["restart", "undo"];

/// Commands, and the settings that do nothing with them, beside those of several services but `--together`.
const IDLE: [(&str, &[&str]); 6] = [
    ("plan", &WAITS),
    ("restart", &["attach", "build", "pull", "force", "together"]),
    ("resume", &["on_unfinished", "together"]),
    ("promote", &["on_unfinished", "together"]),
    ("abort", &["attach", "follow", "on_unfinished", "together"]),
    ("undo", &["attach", "build", "pull"]),
];

fn is_idle(argument: &clap::Arg, idle: &[&str]) -> bool {
    let id = argument.get_id().as_str();
    let is_of_several = argument.get_help_heading() == Some(settings::STACK) && id != "together";
    is_of_several || idle.contains(&id)
}

/// Settings of waits and of what comes after a rollout, which a plan does without.
const WAITS: [&str; 14] = [
    "attach",
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
    "follow",
    "notify",
];

/// Refuses a page where there is no rollout, and options that ask for something that a command with a recorded revision
/// does not do. `plan`, `resume` and `abort` take all that a rollout takes.
pub fn refuse_idle(matches: &ArgMatches) -> Result<(), Stop> {
    let Some((name, own)) = matches.subcommand() else {
        return Ok(());
    };
    let is_given = |id: &str| {
        let mut places = [matches, own].into_iter();
        places.any(|place| place.value_source(id) == Some(ValueSource::CommandLine))
    };
    if WITHOUT_PAGE.contains(&name) && is_given("report") {
        return Err(no_option(name, "report"));
    }
    let idle = IDLE.iter().find(|(command, _)| *command == name);
    let Some((_, idle)) = idle.filter(|_| RECORDED.contains(&name)) else {
        return Ok(());
    };
    let settings = Partial::augment_args(clap::Command::new("settings"));
    let mut all = settings.get_arguments();
    match all.find(|argument| is_idle(argument, idle) && is_given(argument.get_id().as_str())) {
        None => Ok(()),
        Some(argument) => Err(no_option(name, argument.get_long().unwrap_or_default())),
    }
}

fn no_option(command: &str, option: &str) -> Stop {
    let message = format!("rollout {command} has no option --{option}");
    let hint = format!("leave it out; rollout {command} --help lists the options");
    Stop::Refuse(Error::refused(message).hint(hint))
}

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
