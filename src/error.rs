//! Errors as data: the outcome, which is the exit code, one line, and a hint.

use std::process::{ExitCode, Termination};

use crate::{check::Check, event::Scope};

/// The outcome of a command, by its documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed; the old version serves.
    Failed = 1,
    /// Refused before anything was touched.
    Refused = 2,
    /// Failed, and needs a person.
    NeedsPerson = 3,
    /// Another rollout of the service holds the lock.
    Locked = 4,
    /// A rollout waits for a person between two steps.
    Paused = 5,
    /// A plan has steps.
    Changes = 10,
    Interrupted = 130,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// One failure: what happened, the exit code it means, and what to do about it.
///
/// The text is one line, lower case, names the thing, and fits "error: {text}"; the hint is a command or the lines to
/// add.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Error {
    pub outcome: Outcome,
    /// One line.
    pub message: String,
    /// What to type or to add next; may have several lines.
    pub hint: Option<String>,
    /// The last lines of the container or the hook that failed.
    pub logs: Vec<String>,
    /// The check that a refusal is about, where it can be ignored.
    pub check: Option<Check>,
    /// What it is about, where that is one service.
    pub scope: Option<Box<Scope>>,
    /// The rollout is left between two steps, and a later run goes on with it.
    pub is_open: bool,
    /// Where the old replicas were stopped first: how long nothing served until replicas did again, in milliseconds.
    pub gap_ms: Option<u64>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            hint: None,
            logs: Vec::new(),
            check: None,
            scope: None,
            is_open: false,
            gap_ms: None,
        }
    }

    /// Bad input or an impossible set-up, found before anything was touched: exit code 2.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Outcome::Refused, message)
    }

    /// The rollout failed and the old version serves: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, message)
    }

    /// The rollout failed and cannot be settled from here: exit code 3.
    pub fn needs_person(message: impl Into<String>) -> Self {
        Self::new(Outcome::NeedsPerson, message)
    }

    /// Another process is rolling the service: exit code 4.
    pub fn locked(message: impl Into<String>) -> Self {
        Self::new(Outcome::Locked, message)
    }

    /// A rollout waits for a person between two steps: exit code 5.
    pub fn paused(message: impl Into<String>) -> Self {
        Self::new(Outcome::Paused, message).open()
    }

    /// Leaves the rollout to a later run.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Whether it is the end of a run that waits for a person.
    pub fn is_pause(&self) -> bool {
        self.outcome == Outcome::Paused
    }

    /// A signal ended the rollout: exit code 130.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Outcome::Interrupted, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do next unless there is a hint already.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        match self.hint {
            Some(_) => self,
            None => self.hint(hint),
        }
    }

    /// Turns a failure into a refusal, since nothing is touched yet; an engine error may be temporary.
    #[must_use]
    pub fn untouched(self) -> Self {
        if !matches!(self.outcome, Outcome::Failed | Outcome::NeedsPerson) {
            return self;
        }
        let refused = Self {
            outcome: Outcome::Refused,
            ..self
        };
        refused.or_hint(
            "nothing was touched; check the engine with `docker info`, then run the same command again",
        )
    }

    /// Turns a refusal into a failure, since something was touched; code 2 promises that nothing was.
    #[must_use]
    pub fn touched(self) -> Self {
        match self.outcome {
            Outcome::Refused => Self {
                outcome: Outcome::Failed,
                ..self
            },
            _ => self,
        }
    }

    /// As an error of this scope, unless it has one.
    #[must_use]
    pub fn within(mut self, scope: &Scope) -> Self {
        self.scope.get_or_insert_with(|| Box::new(scope.clone()));
        self
    }

    /// Marks a refusal as that of a check, which `--ignore` can skip.
    #[must_use]
    pub fn of(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Adds the last lines of what failed.
    #[must_use]
    pub fn logs(mut self, logs: Vec<String>) -> Self {
        self.logs = logs;
        self
    }
}

/// The longest name that is checked for typing errors, in bytes.
const LONGEST_NAME: usize = 256;

/// The nearest of `known` if `given` looks like a typing error.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = |name: &str| 1 + name.len().max(given.len()) / 5;
    // The distance is at least the difference of the lengths, and takes memory by their product.
    let length = given.chars().count();
    let near = |name: &&str| name.chars().count().abs_diff(length) <= most(name);
    known
        .into_iter()
        .filter(|name| given.len() <= LONGEST_NAME && near(name))
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= most(name))
        .min()
        .map(|(_, name)| name)
}

/// A message in one line: what other programs print may have several.
pub fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_its_name_and_another_word_finds_none() {
        assert_eq!(did_you_mean("wbe", ["db", "web"]), Some("web"));
        assert_eq!(did_you_mean("frontend", ["db", "web"]), None);
    }

    #[test]
    fn a_word_that_is_too_long_to_be_a_slip_is_compared_with_nothing() {
        let long = "x".repeat(10_000_000);
        assert_eq!(did_you_mean(&long, ["web", long.as_str()]), None);
    }
}
