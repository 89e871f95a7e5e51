//! One line for a command line that cannot be read: clap's own message has five.

use clap::error::{ContextKind, ErrorKind};

use crate::{
    error::{Error, did_you_mean},
    settings::{bad_value, texts},
};

/// The one line for an error that is neither help nor version. `page` is the command whose help lists the options.
pub fn refusal(error: &clap::Error, command: &clap::Command, page: &str) -> Error {
    let name = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let known = texts(error, ContextKind::ValidValue);
    let near = did_you_mean(&value, known.iter().map(String::as_str));
    let list = known.join(", ");
    let message = match error.kind() {
        ErrorKind::UnknownArgument if name == "--set" => return super::no_set(),
        ErrorKind::UnknownArgument if name.starts_with('-') => unknown_option(&name, command),
        ErrorKind::UnknownArgument => format!("{name:?} is one argument too many"),
        ErrorKind::InvalidValue if value.is_empty() => format!("{} needs a value", option(&name)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let place = place(&name, &value, command);
            format!("{place}: {}", bad_value(error))
        }
        ErrorKind::MissingRequiredArgument => format!("{name} is missing"),
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg);
            format!(
                "{} and {} exclude each other",
                option(&name),
                option(&other)
            )
        }
        _ => first_line(error),
    };
    // A message without a nearest word lists all itself.
    match near {
        Some(_) => Error::refused(message).hint(format!("known are {list}")),
        None => Error::refused(message).hint(format!("{page} --help lists the options")),
    }
}

fn unknown_option(name: &str, command: &clap::Command) -> String {
    let known: Vec<String> = options(command).collect();
    match did_you_mean(name, known.iter().map(String::as_str)) {
        // It is an option of another command.
        Some(near) if near == name => format!("this command has no option {name}"),
        Some(near) => format!("unknown option {name}; did you mean {near}?"),
        None => format!("unknown option {name}"),
    }
}

/// The long options of a command and of those under it.
fn options(command: &clap::Command) -> Box<dyn Iterator<Item = String> + '_> {
    let own = command.get_arguments().filter_map(|argument| {
        argument
            .get_long()
            .filter(|_| !argument.is_hide_set())
            .map(|long| format!("--{long}"))
    });
    let shown = |command: &&clap::Command| !command.is_hide_set();
    let below = command.get_subcommands().filter(shown).flat_map(options);
    Box::new(
        own.chain(below)
            .chain(["--help".to_owned(), "--version".to_owned()]),
    )
}

/// The option, or the variable that the bad value really comes from.
fn place(name: &str, value: &str, command: &clap::Command) -> String {
    let name = option(name);
    let variable = command
        .get_arguments()
        .find(|argument| argument.get_long() == name.strip_prefix("--"))
        .and_then(|argument| argument.get_env()?.to_str())
        .filter(|variable| std::env::var(variable).as_deref() == Ok(value));
    variable.unwrap_or(name).to_owned()
}

/// `--timeout <DURATION>` without its value; other names stay as they are.
fn option(name: &str) -> &str {
    if !name.starts_with('-') {
        return name;
    }
    name.split([' ', '[', '=']).next().unwrap_or(name)
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    texts(error, kind).join(" ")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
