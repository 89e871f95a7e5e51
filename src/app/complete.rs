//! The completion of a command line: for a shell, by the script of `rollout completions`, and for the Docker CLI.

mod values;

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    path::Path,
    process::ExitCode,
};

use clap_complete::{
    CompleteEnv, Shell,
    engine::{CompletionCandidate, complete},
    env::Shells,
};

use self::values::Values;
use super::print;
use crate::cli;

/// Set by the script: the shell that asks.
const VARIABLE: &str = "ROLLOUT_COMPLETE";
/// How the Docker CLI asks a plugin (spf13/cobra, `ShellCompRequestCmd`), and that no file names are wanted
/// (`ShellCompDirectiveNoFileComp`).
const ASKED_BY_DOCKER: &str = "__complete";
const NO_FILES: &str = ":4\n";

/// The script for a shell, which calls this program.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    if let Some(own) = shells.completer(&shell.to_string()) {
        // Writing to memory does not fail.
        let _ = own.write_registration(VARIABLE, "rollout", "rollout", "rollout", &mut script);
    }
    if shell == Shell::Zsh {
        // As a file of zsh's `fpath`, the script is the body of a function, which has to answer its first call too.
        let answer = "[ \"$funcstack[1]\" = \"_rollout\" ] && _clap_dynamic_completer_rollout";
        let _ = writeln!(script, "{answer}");
    }
    script
}

/// Answers where the command line asks for completions. Errors are silent: they would be printed into the line that is
/// typed.
pub fn answer(arguments: &[OsString]) -> Option<ExitCode> {
    if let Some(words) = asked_by_docker(arguments) {
        return Some(print(for_docker(&words, Values::found()).as_bytes()));
    }
    let words = after_dashes(arguments);
    let here = std::env::current_dir().ok();
    let completed = CompleteEnv::with_factory(|| completing(&words, Values::found()))
        .var(VARIABLE)
        .try_complete(arguments.to_vec(), here.as_deref());
    match completed {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// The words of the line, which a script gives after `--`.
fn after_dashes(arguments: &[OsString]) -> Vec<OsString> {
    let words = arguments.iter().skip_while(|own| *own != "--").skip(1);
    words.cloned().collect()
}

/// The words of a line that begins with `docker rollout`.
fn asked_by_docker(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = arguments.split_first()?;
    let is_plugin = Path::new(program).file_name() == Some(OsStr::new("docker-rollout"));
    match rest {
        [asked, words @ ..] if is_plugin && asked == ASKED_BY_DOCKER => Some(words.to_vec()),
        _ => None,
    }
}

/// A line for each candidate, and what the shell is to do with them.
fn for_docker(words: &[OsString], values: Values) -> String {
    let found = candidates(words, values);
    let line = |own: &CompletionCandidate| {
        let value = own.get_value().to_string_lossy().into_owned();
        let help = own.get_help().map(ToString::to_string).unwrap_or_default();
        match help.lines().next() {
            Some(help) => format!("{value}\t{help}\n"),
            None => format!("{value}\n"),
        }
    };
    let lines: String = found.iter().map(line).collect();
    lines + NO_FILES
}

/// What the last word may become.
fn candidates(words: &[OsString], values: Values) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut command = completing(words, values);
    complete(&mut command, words.to_vec(), last, None).unwrap_or_default()
}

/// The command line with the names of services and the numbers of revisions. Options are offered once a dash is typed:
/// there are too many to look through for a name.
fn completing(words: &[OsString], values: Values) -> clap::Command {
    let asks_options = words
        .last()
        .is_some_and(|word| word.to_string_lossy().starts_with('-'));
    let command = values.add_to(cli::completed(), words);
    match asks_options {
        true => command,
        false => without_options(command),
    }
}

fn without_options(command: clap::Command) -> clap::Command {
    let hidden = |argument: clap::Arg| match argument.is_positional() {
        true => argument,
        false => argument.hide(true),
    };
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .mut_args(hidden)
        .mut_subcommands(without_options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn offered(line: &str) -> Vec<String> {
        let values = Values {
            services: |_| vec!["web".into(), "worker".into(), "db".into()],
            revisions: |_, service| vec![format!("{}", service.len()).into(), "12".into()],
        };
        let found = candidates(&words(line), values);
        let value = |own: &CompletionCandidate| own.get_value().to_string_lossy().into_owned();
        found.iter().map(value).collect()
    }

    #[test]
    fn services_are_offered_wherever_one_is_meant() {
        for line in [
            "rollout w",
            "rollout up w",
            "rollout status db w",
            "rollout -f a.yaml undo w",
            "rollout promote w",
            "rollout pause w",
            "rollout history --limit 3 w",
        ] {
            assert_eq!(offered(line), ["web", "worker"], "{line}");
        }
    }

    #[test]
    fn commands_stand_beside_services_and_what_is_hidden_is_not_offered() {
        let all = offered("rollout ");
        for name in ["socket-proxy", "relabel", "prune", "web"] {
            assert!(all.iter().any(|own| own == name), "{name}: {all:?}");
        }
        for part in ["namespace", "state-folders", "-"] {
            assert!(
                !all.iter().any(|own| own.starts_with(part)),
                "{part}: {all:?}"
            );
        }
        assert!(offered("rollout --dr").contains(&"--drain-timeout".to_owned()));
    }

    #[test]
    fn commands_and_topics_are_offered_after_help() {
        assert_eq!(offered("rollout help ev"), ["events"]);
        assert_eq!(offered("rollout help age"), ["agent"]);
    }

    #[test]
    fn revisions_of_the_named_service_are_offered() {
        assert_eq!(offered("rollout undo web --to "), ["3", "12"]);
        assert_eq!(offered("rollout history worker --revision "), ["6", "12"]);
        assert_eq!(offered("rollout undo web --to=1"), ["--to=12"]);
        assert_eq!(offered("rollout undo --to "), [""; 0]);
    }

    #[test]
    fn docker_gets_a_line_for_each_candidate_and_asks_for_no_file_names() {
        let asked = words("/p/docker-rollout __complete rollout w");
        let own = asked_by_docker(&asked).unwrap();
        assert_eq!(own, words("rollout w"));
        let values = Values {
            services: |_| vec![CompletionCandidate::new("web").help(Some("app:v1".into()))],
            revisions: |_, _| Vec::new(),
        };
        assert_eq!(for_docker(&own, values), "web\tapp:v1\n:4\n");
        assert_eq!(
            asked_by_docker(&words("rollout __complete rollout w")),
            None
        );
    }

    #[test]
    fn each_script_calls_the_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            let call = format!("{VARIABLE}=");
            assert!(
                script.contains(&call) && script.contains("rollout"),
                "{script}"
            );
        }
    }
}
