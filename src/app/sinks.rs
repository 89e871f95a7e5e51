//! Where the events of a command go: the screen or standard output, and the logs that are asked for.

use std::fs::OpenOptions;

use crate::{
    cli::TargetArgs,
    error::{Error, Result},
    event::Sink,
    report::{Output, github::GitHub, html::Report, human::Human, json::Json, log_dir::LogDir},
    settings::NOTIFY,
};

/// Names a file that every event is appended to, as a JSON line.
pub const EVENT_LOG: &str = "ROLLOUT_EVENT_LOG";

pub fn shown(output: Output, target: &TargetArgs) -> Box<dyn Sink> {
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
pub fn sinks(output: Output, target: &TargetArgs) -> Result<Vec<Box<dyn Sink>>> {
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
