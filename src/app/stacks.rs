//! What a command takes on a stack of a Swarm. Refuses what only Compose has.

use crate::{
    cli::TargetArgs,
    error::{Error, Result},
};

/// The refusal, with what to write instead.
pub fn refused(stack: &str, what: &str, hint: impl Into<String>) -> Error {
    Error::refused(format!("{stack} is a stack of a Swarm: {what}")).hint(hint)
}

/// What a command in a hint names a stack with; nothing for a Compose project.
pub fn option(stack: Option<&str>) -> String {
    stack.map_or(String::new(), |stack| format!(" -p {stack}"))
}

/// Refuses the first of these options that is given.
pub fn refuse_given(stack: &str, options: &[(&str, bool)], hint: &str) -> Result<()> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(refused(
            stack,
            &format!("there is no {option} for it"),
            hint,
        )),
        None => Ok(()),
    }
}

/// Refuses options of Compose.
pub fn refuse_options(target: &TargetArgs, stack: &str, hint: &str) -> Result<()> {
    let options = [
        ("--profile", !target.profiles.is_empty()),
        ("--env-file", !target.env_files.is_empty()),
        ("--project-directory", target.project_directory.is_some()),
    ];
    refuse_given(stack, &options, hint)
}

/// The one service of a command that takes no more.
pub fn one_service<'a>(services: &'a [String], stack: &str, hint: &str) -> Result<&'a str> {
    match services {
        [service] => Ok(service),
        _ => Err(refused(
            stack,
            "its services are undone one at a time",
            hint,
        )),
    }
}
