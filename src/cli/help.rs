//! `rollout help`: the help of a command, a topic, or the list of both.

use super::command;
use crate::error::{Error, Result, did_you_mean};

/// A text about one subject, printed as it is.
pub struct Topic {
    pub name: &'static str,
    pub about: &'static str,
    pub text: &'static str,
}

macro_rules! topic {
    ($name:literal, $about:literal) => {
        Topic {
            name: $name,
            about: $about,
            text: include_str!(concat!("../help/", $name, ".md")),
        }
    };
}

pub const TOPICS: [Topic; 14] = [
    topic!("settings", "every setting: flag, x-rollout key, variable"),
    topic!("hosts", "one command for several hosts, wave by wave"),
    topic!("hooks", "migrations, smoke tests and other commands"),
    topic!(
        "notifications",
        "a webhook, Slack, Discord or ntfy at the end"
    ),
    topic!("ci", "jobs of GitHub and GitLab, over ssh"),
    topic!("events", "the fields of --output json"),
    topic!("exit-codes", "what scripts can rely on"),
    topic!("proxies", "Traefik, the socket proxy, and no proxy"),
    topic!("pin", "switching a Traefik that keeps the engine's socket"),
    topic!("agent", "rollouts by themselves, when an image moves"),
    topic!("swarm", "rollouts of a service of a Swarm"),
    topic!("podman", "rollouts on Podman"),
    topic!("troubleshooting", "messages, and what to do about them"),
    topic!(
        "cleanup",
        "what rollout leaves on an engine, and removing it"
    ),
];

/// The text for `rollout help WORDS…`.
pub fn answer(words: &[String]) -> Result<String> {
    let mut found = command();
    found.build();
    let Some((first, rest)) = words.split_first() else {
        return Ok(found.render_help().to_string());
    };
    if let Some(topic) = TOPICS.iter().find(|topic| topic.name == first) {
        return Ok(format!("{}{}", topic.text, examples(&found, topic.name)));
    }
    for word in std::iter::once(first).chain(rest) {
        let inner = found.find_subcommand(word).cloned();
        found = inner.ok_or_else(|| unknown(word))?;
    }
    Ok(found.render_help().to_string())
}

/// The examples of a command that has the name of a topic.
fn examples(command: &clap::Command, name: &str) -> String {
    let own = command.find_subcommand(name);
    let after = own.and_then(|own| own.get_after_help());
    let text = after.map(ToString::to_string).unwrap_or_default();
    let examples = text.split_once("Examples:\n");
    examples.map_or_else(String::new, |(_, lines)| {
        format!("\n## Examples\n\n{lines}\n\nOptions: rollout {name} --help\n")
    })
}

/// The names of commands and topics, each once.
pub fn names() -> Vec<String> {
    let command = command();
    let shown = command.get_subcommands().filter(|own| !own.is_hide_set());
    let mut names: Vec<String> = shown.map(|own| own.get_name().to_owned()).collect();
    let topics = TOPICS.iter().map(|topic| topic.name);
    let others = topics.filter(|topic| command.find_subcommand(topic).is_none());
    names.extend(others.map(str::to_owned));
    names
}

/// The list of topics, for the help of the bare command.
pub fn topics() -> String {
    let line = |topic: &Topic| format!("\n  {:<17}{}", topic.name, topic.about);
    let lines: String = TOPICS.iter().map(line).collect();
    format!("Topics, by rollout help TOPIC:{lines}")
}

fn unknown(word: &str) -> Error {
    let known = names();
    let near = did_you_mean(word, known.iter().map(String::as_str));
    let guess = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Error::refused(format!("no command or topic {word:?}{guess}"))
        .hint(format!("known are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(line: &str) -> Result<String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        answer(&words)
    }

    #[test]
    fn each_topic_is_listed_and_fits_a_terminal_of_80_columns() {
        let list = help("").unwrap();
        for topic in &TOPICS {
            assert!(list.contains(&format!("  {:<17}", topic.name)), "{list}");
            assert!(help(topic.name).unwrap().starts_with(topic.text));
            for line in topic.text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", topic.name);
            }
        }
    }

    #[test]
    fn the_help_of_a_command_shows_only_options_that_act() {
        let rolls = help("up").unwrap();
        assert!(rolls.contains("Usage: rollout up"), "{rolls}");
        for option in ["--drain-timeout", "--file", "Examples:"] {
            assert!(rolls.contains(option), "{option}: {rolls}");
        }
        for (name, shown, hidden) in [
            ("history", "--diff", "--timeout"),
            ("status", "--traefik-url", "--timeout"),
            ("doctor", "--strategy", "--timeout"),
            ("undo", "--bake", "--pull"),
            ("plan", "--strategy", "--timeout"),
            ("restart", "--bake", "--pull"),
            ("resume", "--drain-timeout", "--on-unfinished"),
            ("socket-proxy", "--only", "--file"),
            ("completions", "Examples:", "--file"),
            ("image", "--host", "--file"),
        ] {
            let text = help(name).unwrap();
            assert!(text.contains(shown), "{name}: {text}");
            assert!(!text.contains(hidden), "{name}: {text}");
        }
    }

    #[test]
    fn an_undo_and_a_restart_start_as_many_replicas_as_are_recorded() {
        let default = |name: &str| {
            let text = help(name).unwrap();
            let scale = text.split("--scale <N>").nth(1).unwrap();
            let default = scale.split("[default: ").nth(1).unwrap();
            default.split(']').next().unwrap().to_owned()
        };
        assert_eq!(default("undo"), "as recorded");
        assert_eq!(default("restart"), "as recorded");
        assert_eq!(default("up"), "as in the Compose file");
    }

    #[test]
    fn the_first_options_of_the_bare_command_are_those_that_people_need() {
        let help = command().render_help().to_string();
        let first = help.split("\nOptions:\n").nth(1).unwrap();
        let first = first.split("\n\n").next().unwrap();
        let names = first
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"));
        let names: Vec<&str> = names.map(|name| name.split('[').next().unwrap()).collect();
        let needed = [
            "set",
            "strategy",
            "pull",
            "build",
            "scale",
            "timeout",
            "drain-timeout",
            "bake",
            "dry-run",
            "file",
            "project-name",
            "output",
        ];
        assert_eq!(names[..12], needed);
        assert_eq!(names[12..], ["help", "version"]);
    }

    #[test]
    fn each_command_has_three_examples() {
        for own in command().get_subcommands().filter(|own| !own.is_hide_set()) {
            let about = own.get_about().unwrap().to_string();
            assert!(!about.contains("docker compose"), "{about}");
            let after = own.get_after_help().unwrap().to_string();
            let examples = after.split("Examples:\n").nth(1).unwrap();
            assert_eq!(examples.lines().count(), 3, "{after}");
        }
    }

    #[test]
    fn a_misspelt_topic_or_command_is_named_with_the_nearest() {
        let error = help("statsu").unwrap_err();
        assert_eq!(
            error.message,
            "no command or topic \"statsu\"; did you mean status?"
        );
        let error = help("evnts").unwrap_err();
        assert!(error.message.ends_with("did you mean events?"), "{error}");
        assert_eq!(error.hint.unwrap().matches("agent").count(), 1);
    }

    #[test]
    fn a_topic_that_is_also_a_command_ends_with_its_examples() {
        let agent = help("agent").unwrap();
        assert!(agent.contains("rollout agent --once  "), "{agent}");
        assert!(!help("events").unwrap().contains("## Examples"));
    }
}
