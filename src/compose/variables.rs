//! Asks Compose for the values of variables, because `.env` files have their own rules.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value, json};

use super::{
    Compose,
    files::{discovered, files},
};
use crate::{
    error::{Error, Result},
    yaml,
};

impl Compose {
    /// The interpolated values of `names`; empty for a variable that is not set.
    pub(super) async fn values(&self, names: &[String]) -> Result<BTreeMap<String, String>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut command = self.program.command(None);
        command.args(["--file", "-", "--project-name", "variables"]);
        command
            .arg("--project-directory")
            .arg(self.project_directory());
        for file in &self.invocation.env_files {
            command.args(["--env-file", file]);
        }
        command.arg("config");
        let text = self.ask(command, Some(question(names).as_bytes())).await?;
        answer(&text).map_err(Error::refused)
    }

    /// The project's files, without included ones.
    pub fn files(&self) -> Vec<PathBuf> {
        let here = self.program.directory();
        let listed = self.program.variable("COMPOSE_FILE").unwrap_or_default();
        files(&self.invocation, &here, &listed, &self.path_separator())
    }

    pub fn reads_stdin(&self) -> bool {
        self.stdin.is_some()
    }

    /// The project name from options or variables, which overrides that in the files.
    pub fn project_name(&self) -> Option<String> {
        let named = self.program.variable("COMPOSE_PROJECT_NAME");
        let given = self.invocation.project_name.clone();
        given.or(named).filter(|name| !name.is_empty())
    }

    /// The environment files; of several the last counts.
    pub fn env_files(&self) -> Vec<PathBuf> {
        let here = self.program.directory();
        match &self.named_env_files()[..] {
            [] => vec![self.project_directory().join(".env")],
            named => named.iter().map(|file| here.join(file)).collect(),
        }
    }

    /// The `.env` of the current directory, if the project's is another one. Newer versions of Compose let it override that of a
    /// project which they find by themselves or by `COMPOSE_FILE`.
    pub fn env_file_here(&self) -> Option<PathBuf> {
        let (here, given) = (self.program.directory(), &self.invocation);
        let finds = given.files.is_empty() && given.project_directory.is_none();
        let is_other =
            finds && self.named_env_files().is_empty() && here != self.project_directory();
        is_other.then(|| here.join(".env"))
    }

    /// Whether a variable keeps Compose from reading the project's `.env`.
    pub fn reads_no_env_file(&self) -> bool {
        let disables = self.program.variable("COMPOSE_DISABLE_ENV_FILE");
        let disables = disables.unwrap_or_default().to_lowercase();
        self.named_env_files().is_empty() && matches!(disables.as_str(), "1" | "t" | "true")
    }

    fn named_env_files(&self) -> Vec<String> {
        if !self.invocation.env_files.is_empty() {
            return self.invocation.env_files.clone();
        }
        let listed = self.program.variable("COMPOSE_ENV_FILES");
        let listed = listed.unwrap_or_default();
        let files = listed.split(',').filter(|file| !file.is_empty());
        files.map(str::to_owned).collect()
    }

    fn path_separator(&self) -> String {
        let separator = self.program.variable("COMPOSE_PATH_SEPARATOR");
        separator.unwrap_or_else(|| ":".to_owned())
    }

    /// The directory of the project's `.env`, and the base of its relative paths (compose-go's `GetWorkingDir`).
    pub fn project_directory(&self) -> PathBuf {
        let here = self.program.directory();
        if let Some(given) = &self.invocation.project_directory {
            return here.join(given);
        }
        let separator = self.path_separator();
        let listed = self.program.variable("COMPOSE_FILE").unwrap_or_default();
        let first = match self.invocation.files.first() {
            Some(file) => Some(file.as_str()),
            None => listed.split(&separator).next(),
        };
        match first.filter(|file| !file.is_empty() && *file != "-") {
            Some(file) => here.join(file).parent().unwrap_or(&here).to_owned(),
            None => discovered(&here).unwrap_or(&here).to_owned(),
        }
    }
}

/// A project whose only service has a label for each variable.
fn question(names: &[String]) -> String {
    let labels: Map<String, Value> = names
        .iter()
        .map(|name| (name.clone(), Value::from(format!("${{{name}-}}"))))
        .collect();
    json!({"services": {"variables": {"image": "none", "labels": labels}}}).to_string()
}

fn answer(text: &str) -> Result<BTreeMap<String, String>, String> {
    let project = yaml::parse(&text.replace("$$", "$"))?;
    let labels = project["services"]["variables"]["labels"].as_object();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(labels
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn each_variable_is_asked_for_by_a_label() {
        assert_eq!(
            question(&["A".to_owned()]),
            r#"{"services":{"variables":{"image":"none","labels":{"A":"${A-}"}}}}"#
        );
    }

    #[test]
    fn values_keep_their_dollars() {
        let text = "services: {variables: {labels: {A: 'x$$y', B: ''}}}";
        let expected = [("A", "x$y"), ("B", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(answer(text), Ok(BTreeMap::from(expected)));
    }

    proptest! {
        #[test]
        fn an_answer_is_values_or_an_error_of_one_line(
            text in mutated_text("services: {variables: {labels: {A: 'x$$y', B: ''}}}"),
        ) {
            let line = answer(&text).err().unwrap_or_default();
            prop_assert!(!line.contains('\n'), "{}", line);
        }
    }
}
