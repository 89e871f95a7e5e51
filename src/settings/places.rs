//! The places of settings: flags, the Compose file and variables, each with the settings that it gives.

use std::{collections::BTreeMap, path::Path};

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use serde_json::{Map, Value};

use super::{STACK, Settings, bad_value};
use crate::error::{Error, Result, did_you_mean};

/// `user:password` for the Traefik API: a secret, so there is no flag or key of this name.
pub const TRAEFIK_AUTH: &str = "ROLLOUT_TRAEFIK_AUTH";
/// The key of a service's `x-rollout` that names what is rolled before it. It stands only in the file.
pub const AFTER: &str = "after";
/// The key of a service's `x-rollout` with its hooks.
pub const HOOKS: &str = "hooks";
/// The key of a service's `x-rollout` with the steps of its canary.
pub const STEPS: &str = "steps";
/// The key of a service's `x-rollout` with the conditions of its analysis.
pub const ANALYSIS: &str = "analysis";
/// The setting whose values may be secrets and, in a file, mappings.
pub const NOTIFY: &str = "notify";
/// The key of a service's [`ANALYSIS`] with its metrics.
pub const PROMETHEUS: &str = "prometheus";
/// The key of a service's `x-rollout` that has an agent roll it.
pub const AUTO: &str = "auto";
/// The key of `x-rollout` at the top level with the hosts of the project. It stands only in the file.
pub const HOSTS: &str = "hosts";
/// The keys that stand in `x-rollout` of a service alone.
const OF_SERVICE: [&str; 4] = [AFTER, AUTO, HOOKS, STEPS];
/// The settings whose value in a file can be a mapping, which is the same as `key=value` with commas.
const MAPPINGS: [&str; 1] = [ANALYSIS];
/// The setting that each run decides for itself.
const FLAG_ALONE: &str = "ignore";
/// The key of `deploy` with settings of a rolling update.
pub const UPDATE_CONFIG: &str = "update_config";
/// The key of `deploy` with settings of an undo that is a rolling update.
pub const ROLLBACK_CONFIG: &str = "rollback_config";
/// The keys of both that are settings too.
const OF_DEPLOY: [&str; 6] = [
    "parallelism",
    "delay",
    "monitor",
    "order",
    "failure_action",
    "max_failure_ratio",
];
const PREFIX: &str = "ROLLOUT_";
/// Settings of which one place has one at most; the first place that has one wins.
const PREVIEWS: [&str; 2] = ["preview", "preview-host"];

type Values = BTreeMap<String, Vec<String>>;

/// The settings that one place has, by name: checked, but as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partial(Values);

/// As flags: those of [`Settings`], of which only the given ones are kept.
impl Args for Partial {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args(command)
    }
}

impl FromArgMatches for Partial {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = command();
        let given = command.get_arguments().filter(|argument| {
            matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine)
        });
        let values = given.filter_map(|argument| {
            let raw = matches.get_raw(argument.get_id().as_str())?;
            let words = raw.map(|word| word.to_string_lossy().into_owned());
            Some((argument.get_long()?.to_owned(), words.collect()))
        });
        Ok(Self(values.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?.or(std::mem::take(self));
        Ok(())
    }
}

impl Partial {
    /// These settings, and those of `other` that are not among them.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let has_preview = self.has_preview();
        for (name, words) in other.0 {
            if !(has_preview && PREVIEWS.contains(&name.as_str())) {
                self.0.entry(name).or_insert(words);
            }
        }
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of these settings.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a setting is given, word by word.
    pub fn words(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn has_preview(&self) -> bool {
        PREVIEWS.iter().any(|name| self.has(name))
    }

    /// These settings less one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// One setting; the name and the value are part of the program.
    pub fn of(name: &str, value: &str) -> Self {
        Self(Values::from([(name.to_owned(), vec![value.to_owned()])]))
    }

    /// The settings of a rollout whose image is on the engine already.
    pub fn no_fetch() -> Self {
        Self::of("pull", "never").or(Self::of("build", "false"))
    }

    /// Reads `x-rollout` of a service; hooks, steps, metrics, `after` and `auto` are read elsewhere.
    pub fn from_service(service: &str, x_rollout: Option<&Value>) -> Result<Self> {
        let place = format!("x-rollout of {service}");
        let mut own = x_rollout.cloned();
        if let Some(Value::Object(own)) = &mut own {
            own.retain(|key, _| !OF_SERVICE.contains(&key.as_str()));
            if let Some(Value::Object(analysis)) = own.get_mut(ANALYSIS)
                && analysis.remove(PROMETHEUS).is_some()
                && analysis.is_empty()
            {
                own.remove(ANALYSIS);
            }
        }
        let is_given = |name: &String| x_rollout.is_some_and(|own| own.get(name).is_some());
        let mut of_all = names_under(STACK).chain([HOSTS.to_owned()]);
        match of_all.find(is_given) {
            None => Self::from_file(&place, own.as_ref()),
            Some(name) => Err(bad(format!(
                "{name} in {place} is a setting of all services; write it in x-rollout at the top level"
            ))),
        }
    }

    /// Reads `x-rollout` at the top level of the Compose file, which is for all services; the hosts are read elsewhere.
    pub fn from_project(x_rollout: Option<&Value>) -> Result<Self> {
        let place = "x-rollout at the top level";
        let own = |key: &&&str| x_rollout.is_some_and(|all| all.get(**key).is_some());
        let has_metrics = x_rollout.is_some_and(|all| all[ANALYSIS].get(PROMETHEUS).is_some());
        let metrics = has_metrics.then_some(&PROMETHEUS);
        match OF_SERVICE.iter().find(own).or(metrics) {
            None => Self::from_file(place, without(x_rollout, HOSTS).as_ref()),
            Some(key) => Err(bad(format!(
                "{key} in {place} is a setting of one service; write it in x-rollout of that service"
            ))),
        }
    }

    /// Reads what a rolling update uses of a mapping in `deploy` of a service.
    fn from_deploy(service: &str, deploy: &Value, mapping: &str) -> Result<Self> {
        let all = deploy[mapping].as_object().into_iter().flatten();
        let own = all.filter(|(key, _)| OF_DEPLOY.contains(&key.as_str()));
        let own = own
            .map(|(key, value)| (key.replace('_', "-"), value.clone()))
            .collect();
        Self::from_map(&own, &|key| {
            let key = key.replace('-', "_");
            format!("{key} in deploy.{mapping} of {service}")
        })
    }

    /// What these settings of a rolling update lack is taken from `deploy`; an undo takes it from its rollback_config first.
    /// Returns each setting that is taken, with the mapping that it stands in.
    pub(super) fn or_deploy(
        self,
        (service, deploy): (&str, &Value),
        is_undo: bool,
    ) -> Result<(Self, BTreeMap<String, &'static str>)> {
        let (mut merged, mut taken) = (self, BTreeMap::new());
        for mapping in [ROLLBACK_CONFIG, UPDATE_CONFIG] {
            // A mistake is found before the rollout, not by its undo.
            let config = Self::from_deploy(service, deploy, mapping)?;
            if mapping == UPDATE_CONFIG || is_undo {
                let names = config.names().filter(|name| !merged.has(name));
                taken.extend(names.map(|name| (name.to_owned(), mapping)));
                merged = merged.or(config);
            }
        }
        Ok((merged, taken))
    }

    fn from_file(place: &str, x_rollout: Option<&Value>) -> Result<Self> {
        match x_rollout {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(map)) => Self::from_map(map, &|key| format!("{key} in {place}")),
            Some(_) => Err(bad(format!("{place} is not a mapping of settings"))),
        }
    }

    /// Relative paths of a Compose file begin at its project's directory.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        for name in ["traefik-auth-file", "traefik-ca"] {
            for path in self.0.get_mut(name).into_iter().flatten() {
                *path = directory.join(&*path).to_string_lossy().into_owned();
            }
        }
        self
    }

    /// Reads `ROLLOUT_…` variables. An unknown one is refused only where it looks like a misspelt setting.
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let names = names();
        let known: Vec<String> = names.iter().map(|name| variable(name)).collect();
        let mut map = Map::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if name == TRAEFIK_AUTH {
                continue;
            }
            match known.iter().position(|own| *own == name) {
                Some(index) if !value.is_empty() => {
                    drop(map.insert(names[index].clone(), Value::String(value)))
                }
                Some(_) => {}
                // Without the prefix: with it, any four letters would be near ROLLOUT_WAIT.
                None => {
                    let endings = known.iter().map(|known| &known[PREFIX.len()..]);
                    if let Some(near) = did_you_mean(rest, endings) {
                        return Err(bad(format!(
                            "unknown variable {name}; did you mean {PREFIX}{near}?"
                        )));
                    }
                }
            }
        }
        Self::from_map(&map, &|key| variable(key))
    }

    /// Reads the variables of this process that are valid text.
    pub fn from_own_environment() -> Result<Self> {
        let all = std::env::vars_os().filter_map(|(name, value)| {
            let text = (name.into_string().ok()?, value.into_string().ok()?);
            Some(text)
        });
        Self::from_environment(all)
    }

    fn from_map(map: &Map<String, Value>, place: &dyn Fn(&str) -> String) -> Result<Self> {
        let names = names();
        let mut read = Values::new();
        for (key, value) in map {
            if !names.contains(key) {
                let near = did_you_mean(key, names.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || format!("known are {}", names.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(bad(format!("unknown key {}; {hint}", place(key))));
            }
            let words = words(key, value);
            let words = words.map_err(|why| bad(format!("{}: {why}", place(key))))?;
            read.extend(words.map(|words| (key.clone(), words)));
        }
        let [rule, host] = PREVIEWS;
        if read.contains_key(rule) && read.contains_key(host) {
            let (rule, host) = (place(rule), place(host));
            return Err(bad(format!(
                "{rule} and {host}: only one of them can be given"
            )));
        }
        Ok(Self(read))
    }
}

/// Every setting, as clap has it.
pub(super) fn command() -> Command {
    let command = Command::new("settings")
        .no_binary_name(true)
        .disable_help_flag(true);
    Settings::augment_args(command)
}

pub(super) fn parse(given: &Partial) -> Result<Settings, clap::Error> {
    let one = |name: &String, word: &String| format!("--{name}={word}");
    let all = given.0.iter();
    let flags = all.flat_map(|(name, words)| words.iter().map(move |word| one(name, word)));
    Settings::from_arg_matches(&command().try_get_matches_from(flags)?)
}

/// The names of all settings that are not a flag alone.
pub(super) fn names() -> Vec<String> {
    let command = command();
    command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .filter(|name| name != FLAG_ALONE)
        .collect()
}

/// The names of the settings with this heading in the help.
pub(super) fn names_under(heading: &'static str) -> impl Iterator<Item = String> {
    let command = command();
    let arguments: Vec<_> = command.get_arguments().cloned().collect();
    let under = arguments.into_iter();
    let under = under.filter(move |own| own.get_help_heading() == Some(heading));
    under.filter_map(|own| own.get_long().map(str::to_owned))
}

/// A value of a Compose file or a variable as the words of a flag, checked; `None` for null and an empty list.
fn words(name: &str, value: &Value) -> Result<Option<Vec<String>>, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ if name == NOTIFY => Ok(value.to_string()),
        other => Err(format!("{other} is not a single value")),
    };
    let command = command();
    let mut arguments = command.get_arguments();
    let is_list = arguments.any(|argument| {
        argument.get_long() == Some(name) && matches!(argument.get_action(), ArgAction::Append)
    });
    let words = match value {
        Value::Null => return Ok(None),
        Value::String(text) if is_list => {
            text.split(',').map(|part| part.trim().to_owned()).collect()
        }
        Value::Object(map) if MAPPINGS.contains(&name) => {
            let pairs = map.iter();
            let pairs = pairs.map(|(key, value)| Ok(format!("{key}={}", scalar(value)?)));
            vec![pairs.collect::<Result<Vec<_>, String>>()?.join(",")]
        }
        Value::Array(values) if is_list => values.iter().map(scalar).collect::<Result<_, _>>()?,
        value => vec![scalar(value)?],
    };
    let read = Partial(Values::from([(name.to_owned(), words)]));
    parse(&read).map_err(|error| bad_value(&error))?;
    Ok(read.0.into_values().find(|words| !words.is_empty()))
}

/// A mapping less one key.
fn without(value: Option<&Value>, key: &str) -> Option<Value> {
    let mut value = value.cloned();
    if let Some(Value::Object(map)) = &mut value {
        map.remove(key);
    }
    value
}

fn bad(message: String) -> Error {
    Error::refused(message).hint("rollout help settings lists them; rollout --help the flags")
}

pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}
