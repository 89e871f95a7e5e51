//! Words that people type for a command of another name.

use super::command;
use crate::error::did_you_mean;

/// What to type for a word of other tools; `{}` is where the services stand.
const OTHER: [(&[&str], &str); 17] = [
    (
        &["deploy", "roll", "run", "start", "update", "upgrade"],
        "rollout {}",
    ),
    (&["redeploy", "recreate"], "rollout --force {}"),
    (&["reload", "bounce"], "rollout restart {}"),
    (&["diff", "preview", "dry-run"], "rollout plan {}"),
    (
        &["rollback", "revert", "downgrade", "back"],
        "rollout undo {}",
    ),
    (
        &["ps", "ls", "list", "show", "state", "inspect"],
        "rollout status {}",
    ),
    (&["versions", "revisions", "releases"], "rollout history {}"),
    (
        &["check", "diagnose", "lint", "validate", "verify"],
        "rollout doctor {}",
    ),
    (&["continue", "retry", "finish"], "rollout resume {}"),
    (&["cancel"], "rollout abort {}"),
    (&["setup", "install", "bootstrap"], "rollout init"),
    (&["clean", "cleanup", "gc", "purge"], "rollout prune"),
    (
        &["drain", "label"],
        "rollout relabel CONTAINER traefik.enable=false",
    ),
    (&["version"], "rollout --version"),
    (&["logs", "log"], "docker compose logs {}"),
    (&["stop", "kill"], "docker compose stop {}"),
    (&["down", "rm", "remove", "delete"], "docker compose down"),
];

/// The command line that was probably meant where `word` names no service; `others` are the words after it.
pub fn meant(word: &str, others: &[&str]) -> Option<String> {
    let known = OTHER.iter().find(|(words, _)| words.contains(&word));
    let line = match known {
        Some((_, line)) => (*line).to_owned(),
        None => {
            let command = command();
            let shown = command.get_subcommands().filter(|own| !own.is_hide_set());
            let near = did_you_mean(word, shown.map(|own| own.get_name()))?;
            format!("rollout {near} {{}}")
        }
    };
    let services = match others {
        [] => "SERVICE".to_owned(),
        others => others.join(" "),
    };
    Some(line.replace("{}", &services))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_another_tool_or_a_misspelt_command_is_answered_with_the_right_one() {
        for (word, others, line) in [
            ("deploy", &["web"][..], "rollout web"),
            ("rollback", &["web"], "rollout undo web"),
            ("ps", &[], "rollout status SERVICE"),
            ("logs", &["web"], "docker compose logs web"),
            ("reload", &["web"], "rollout restart web"),
            ("diff", &["web"], "rollout plan web"),
            ("statsu", &["web"], "rollout status web"),
            ("hisotry", &[], "rollout history SERVICE"),
        ] {
            assert_eq!(meant(word, others).as_deref(), Some(line), "{word}");
        }
        assert_eq!(meant("frontend", &[]), None);
    }

    #[test]
    fn no_word_of_another_tool_is_a_command() {
        let command = command();
        for word in OTHER.iter().flat_map(|(words, _)| *words) {
            assert!(command.find_subcommand(word).is_none(), "{word}");
        }
    }
}
