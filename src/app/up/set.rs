//! The variables of `--set`: refused where they would have no effect or could not be written, and what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use tempfile::NamedTempFile;

use super::{super::opened::Opened, work::Work};
use crate::{
    cli::UpArgs,
    compose::Project,
    dotenv,
    error::{Error, Outcome, Result},
    event::{Event, Events},
    stack::graph::Order,
    text_file::{TextFile, from_here},
    variables::{Given, Variables},
};

/// The variables of the command, once nothing is against them; `names` are the services that it rolls.
pub async fn given(up: &UpArgs, opened: &Opened, names: &[&str]) -> Result<Option<Given>> {
    if up.set.is_empty() {
        return Ok(None);
    }
    let values = values(&up.set, &|name: &str| std::env::var_os(name).is_some())?;
    let compose = &opened.compose;
    if compose.reads_no_env_file() {
        let message = "COMPOSE_DISABLE_ENV_FILE is set, so Compose would not read from .env what --set writes";
        return Err(Error::refused(message).hint("unset it, or name a file with --env-file"));
    }
    let mut given = Given {
        file: compose.env_files().pop().unwrap_or_default(),
        ..Given::default()
    };
    for (name, value) in &values {
        let users = users(opened, up, names, (name, value)).await;
        let rolls = |user: &String| names.contains(&user.as_str());
        if !users.iter().any(rolls) {
            return Err(unused(name, names));
        }
        given.users.insert(name.clone(), users);
    }
    given.values = values;
    if let Some(here) = compose.env_file_here() {
        refuse_overridden(&given, &TextFile::read_if_any(&here)?)?;
    }
    refuse_unreadable(&given, opened, up).await?;
    Ok(Some(given))
}

/// Refuses what would be without effect.
fn values(
    set: &[(String, String)],
    is_set: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for (name, value) in set {
        if is_set(name) {
            let message = format!("{name} is a variable of the shell, which overrides .env");
            return Err(Error::refused(message).hint(format!(
                "unset {name}, or leave out --set and give the shell's variable the value"
            )));
        }
        if values.insert(name.clone(), value.clone()).is_some() {
            let message = format!("--set gives {name} two values");
            return Err(Error::refused(message).hint("leave out one of them"));
        }
    }
    Ok(values)
}

fn unused(name: &str, services: &[&str]) -> Error {
    let services = services.join(", ");
    Error::refused(format!(
        "no service of this command uses the variable {name}: {services}"
    ))
    .hint(format!(
        "write ${{{name}}} in the Compose file where the value belongs, or leave out --set {name}=…"
    ))
}

/// The services that another value changes. What takes no other value is used by the services of the command.
async fn users(
    opened: &Opened,
    up: &UpArgs,
    names: &[&str],
    (name, value): (&str, &str),
) -> BTreeSet<String> {
    let asked: Vec<&str> = up.services.iter().map(String::as_str).collect();
    for (other, proves) in [(format!("{value}0"), true), (String::new(), false)] {
        let other = BTreeMap::from([(name.to_owned(), other)]);
        let compose = opened.compose.clone().given(&other);
        let users = match compose.project_for(&asked).await {
            Ok(project) => differing(&opened.project, &project),
            Err(_) if proves => names.iter().map(|&own| own.to_owned()).collect(),
            Err(_) => BTreeSet::new(),
        };
        if !users.is_empty() {
            return users;
        }
    }
    BTreeSet::new()
}

fn differing(project: &Project, other: &Project) -> BTreeSet<String> {
    let services = project.services.iter().filter(|(name, own)| {
        let other_own = other.services.get(*name);
        own.raw(project) != &other.raw["services"][*name]
            || other_own.is_none_or(|other| other.inline_digest != own.inline_digest)
    });
    services.map(|(name, _)| name.clone()).collect()
}

/// Refuses a variable that the `.env` of the current directory gives another value.
fn refuse_overridden(given: &Given, here: &TextFile) -> Result<()> {
    let mut names = given.values.keys();
    let Some(name) = names.find(|name| dotenv::assigned(&here.text, name).is_some()) else {
        return Ok(());
    };
    let (here, file) = (here.shown(), from_here(&given.file));
    let message =
        format!("{name} also stands in {here}, which newer versions of Compose read before {file}");
    Err(Error::refused(message).hint(format!(
        "take {name} out of {here}, or name the file that is to be written: --env-file FILE"
    )))
}

/// Refuses a file that cannot be written, and one from which Compose would not read the same project.
async fn refuse_unreadable(given: &Given, opened: &Opened, up: &UpArgs) -> Result<()> {
    let file = TextFile::read_if_any(&given.file)?;
    let by_hand = "change the file by hand, and leave out --set";
    // A draft shows whether the file can be replaced. The secrets of the file are not copied to the project's folder.
    file.draft("").map_err(|error| error.or_hint(by_hand))?;
    let draft = private(&given.written_to(&file.text)).map_err(|error| {
        Error::refused(format!("cannot write a temporary file: {error}"))
            .hint("name a folder that can be written in TMPDIR")
    })?;
    let compose = opened.compose.reading(draft.path());
    let asked: Vec<&str> = up.services.iter().map(String::as_str).collect();
    let read = compose.project_for(&asked).await;
    let same =
        |read: &Project| read.raw == opened.project.raw && read.services == opened.project.services;
    if read.as_ref().is_ok_and(same) {
        return Ok(());
    }
    let names: Vec<&str> = given.values.keys().map(String::as_str).collect();
    let message = format!(
        "Compose would read another value of {} from {} than --set gives",
        names.join(", "),
        file.shown()
    );
    Err(Error::refused(message).hint(by_hand))
}

/// A file in the folder for temporary ones, which only its owner may read.
fn private(text: &str) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("rollout-").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Writes all variables, now that every host runs with them.
pub async fn write(given: &Given, variables: &Variables, events: &Events) {
    match variables.write().await {
        Ok(written) => {
            given.report(&written.kept);
            if let Some(notice) = written.notice(&from_here(&given.file)) {
                events.notice(notice);
            }
            if !written.changed.is_empty() {
                events.emit(Event::VariablesWritten {
                    file: given.file.display().to_string(),
                    variables: written.changed,
                });
            }
        }
        Err(error) => {
            given.report(given.values.keys());
            let names: Vec<&str> = given.values.keys().map(String::as_str).collect();
            let names = names.join(", ");
            events.notice(format!("{names} is not written: {}", error.message));
        }
    }
}

/// Names the variables that are not written, of which nothing was reported yet.
pub fn report_open(given: &Given, ended: &Result<()>, events: &Events) {
    let outcome = ended.as_ref().err().map(|error| error.outcome);
    let is_untouched = matches!(outcome, Some(Outcome::Refused | Outcome::Locked));
    let text = TextFile::read_if_any(&given.file).map(|file| file.text);
    let (false, Ok(text)) = (is_untouched, text) else {
        return;
    };
    let is_open = |(name, value): &(&String, &String)| {
        let is_written = dotenv::assigned(&text, name) == Some(dotenv::quoted(value).as_str());
        !is_written && !given.is_reported(name)
    };
    let open = given.values.iter().filter(is_open);
    let open: Vec<&str> = open.map(|(name, _)| name.as_str()).collect();
    if !open.is_empty() {
        events.notice(format!(
            "{} keeps its value of {}: the new one is written once all services of the command that use it run with it",
            from_here(&given.file),
            open.join(", ")
        ));
    }
}

impl Work<'_> {
    /// Fixes which services run with the variables before these are written, and names the others that use them.
    pub fn share_variables(&self, order: &Order<'_>) {
        let Some(set) = &self.set else { return };
        let rolled = order.names().into_iter().map(str::to_owned);
        let rolled: BTreeSet<String> = rolled.collect();
        for (name, users) in &set.users {
            let others = users.difference(&rolled).map(String::as_str);
            let others: Vec<&str> = others.collect();
            if !others.is_empty() {
                self.events.notice(format!(
                    "{name} is also used by {}, which this command does not roll: docker compose up -d will, once {} is written",
                    others.join(", "),
                    from_here(&set.file)
                ));
            }
        }
        // It is the first to be set.
        let _ = set.rolled.set(rolled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::resolved;

    #[test]
    fn a_variable_of_the_shell_and_a_second_value_are_refused_with_the_fix() {
        let set = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            all.iter().map(own).collect()
        };
        let both = values(&set(&[("TAG", "v2"), ("PORT", "")]), &|_| false).unwrap();
        assert_eq!((both["TAG"].as_str(), both["PORT"].as_str()), ("v2", ""));
        let refused = values(&set(&[("TAG", "v2")]), &|name| name == "TAG").unwrap_err();
        assert_eq!(refused.outcome, Outcome::Refused);
        assert!(refused.hint.unwrap().starts_with("unset TAG"));
        let twice = values(&set(&[("TAG", "v2"), ("TAG", "v3")]), &|_| false);
        assert!(twice.unwrap_err().message.contains("two values"));
    }

    #[test]
    fn a_variable_that_the_folder_below_the_project_has_too_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, "# TAG=v0\nPORT=80\n").unwrap();
        let here = TextFile::read(&path).unwrap();
        let refused = |name: &str| {
            let given = Given {
                file: "/shop/.env".into(),
                values: [(name.to_owned(), "v2".to_owned())].into(),
                ..Given::default()
            };
            refuse_overridden(&given, &here)
        };
        refused("TAG").unwrap();
        let message = refused("PORT").unwrap_err().message;
        assert!(message.ends_with("which newer versions of Compose read before /shop/.env"));
    }

    #[test]
    fn a_service_uses_a_variable_whose_other_value_changes_it() {
        let project = |tag: &str, image: &str| {
            let text = format!(
                "name: shop\nservices:\n  web: {{image: 'app:{tag}'}}\n  db: {{image: '{image}'}}\n"
            );
            resolved(&text).unwrap()
        };
        let users = differing(&project("v2", "db"), &project("v20", "db"));
        assert_eq!(users, BTreeSet::from(["web".to_owned()]));
        assert!(differing(&project("v2", "db"), &project("v2", "db")).is_empty());
        let message = unused("TAG", &["db"]).message;
        assert_eq!(
            message,
            "no service of this command uses the variable TAG: db"
        );
    }
}
