//! Every setting of a rollout, written once: [`Settings`] is its name, help, type and default.
//!
//! A setting has the same name as a flag, as a key of `x-rollout` of the service, as a key of `x-rollout` at the top level of
//! the Compose file, and as a `ROLLOUT_…` variable. The first of these places that has a value wins. clap reads the values of
//! all places.

use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::{
    ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};
use serde_json::{Map, Value};

use crate::{
    check::Check,
    error::{Error, Outcome, Result, did_you_mean},
    model::Order,
};

// Comments on the values below are no doc comments: clap would print them, and spread each option over several lines.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyKind {
    // Traefik where it routes to the service, none otherwise.
    #[default]
    Auto,
    Traefik,
    // Health alone decides.
    None,
}

/// How Traefik is made to send the traffic elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SwitchBy {
    // By the socket proxy where every Traefik in front reads through one, else by a pin file.
    #[default]
    Auto,
    // By labels that the socket proxy changes on their way to Traefik.
    Relabel,
    // By a file of Traefik's file provider, above the Docker provider's routers.
    Pin,
}

/// How the new version takes the place of the old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    // A whole new set beside the old one, one cutover.
    #[default]
    BlueGreen,
    // Stop the old set first: with a gap, for services that cannot run twice.
    Recreate,
}

/// Which image a rollout takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    // As the service's `pull_policy` says.
    #[default]
    Policy,
    Always,
    // Pulled only where the engine has none.
    Missing,
    Never,
}

/// What to do with a rollout that an earlier run left unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnUnfinished {
    // Finished where its cutover is written, else rolled back.
    #[default]
    Resume,
    // Rolled back, as long as its old replicas run.
    Abort,
    // Left as it is: the run is refused.
    Fail,
}

/// What a failed service means for the others of the same command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    // Begin no further service.
    #[default]
    Stop,
    // Go on with those that do not depend on it.
    Continue,
    // Begin no further service, and undo those that are rolled.
    Rollback,
}

/// The settings of a command as a whole; no setting of one service.
pub const STACK: &str = "Several services";
const READINESS: &str = "Readiness";
const CUTOVER: &str = "Cutover, drain and stop";
pub const TRAEFIK: &str = "Traefik";
const CHECKS: &str = "Checks, lock and records";

/// The settings of one rollout of one service.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Settings {
    /// A new set beside the old one, or stop the old one first
    #[arg(long, value_enum, default_value_t)]
    pub strategy: Strategy,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t)]
    pub pull: PullPolicy,
    /// Build the image first
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true)]
    pub build: bool,
    /// Number of replicas [default: as in the Compose file]
    #[arg(long, value_name = "N", value_parser = count)]
    pub scale: Option<u32>,
    /// Longest wait for a health check to pass
    #[arg(short, long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Longest wait for the old replicas to answer their last requests
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub drain_timeout: Duration,
    /// Keep the old replicas running this long after the cutover, for an instant rollback
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub bake: Duration,

    /// Number of services that are rolled side by side
    #[arg(long, value_name = "N", value_parser = count, default_value = "4", help_heading = STACK)]
    pub parallel: u32,
    /// Number of images that are pulled or built side by side [default: COMPOSE_PARALLEL_LIMIT, else 4]
    #[arg(long, value_name = "N", value_parser = count, help_heading = STACK)]
    pub pull_parallel: Option<u32>,
    /// After a failed service: begin no other, go on with those that do not depend on it, or undo this run
    #[arg(long, value_enum, default_value_t, help_heading = STACK)]
    pub on_failure: OnFailure,

    /// Longest wait for a service without a health check
    #[arg(short, long, value_name = "DURATION", value_parser = duration, default_value = "60s", help_heading = READINESS)]
    pub wait: Duration,
    /// Extra wait once the health checks pass
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = READINESS)]
    pub wait_after_healthy: Duration,
    /// Time that a new replica must run without a restart
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s", help_heading = READINESS)]
    pub stable: Duration,
    /// Without a health check: ready once GET PATH answers 2xx or 3xx [default: once the port accepts]
    #[arg(long, value_name = "PATH", help_heading = READINESS)]
    pub ready_http: Option<String>,
    /// Start new replicas with empty anonymous volumes
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = READINESS)]
    pub renew_anon_volumes: bool,

    /// Longest wait for Traefik to confirm the cutover
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s", help_heading = CUTOVER)]
    pub confirm_timeout: Duration,
    /// Pause between confirmation and drain [default: 250ms; 5s with retry, buffering, forwardAuth or a plugin]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = CUTOVER)]
    pub settle: Option<Duration>,
    /// A WebSocket or stream that is silent for this long counts as drained
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s", help_heading = CUTOVER)]
    pub drain_quiet: Duration,
    /// Command to run in each old replica before it is stopped
    #[arg(long, value_name = "COMMAND", help_heading = CUTOVER)]
    pub pre_stop_hook: Option<String>,

    /// What moves the traffic
    #[arg(long, value_enum, default_value_t, help_heading = TRAEFIK)]
    pub proxy: ProxyKind,
    /// How to change the routes of Traefik: through the socket proxy (relabel), or by a file of its file provider (pin)
    #[arg(long, value_enum, default_value_t, help_heading = TRAEFIK)]
    pub switch: SwitchBy,
    /// Address of the Traefik API, such as http://127.0.0.1:8080; repeat for several [default: found by itself]
    #[arg(long, value_name = "URL", help_heading = TRAEFIK)]
    pub traefik_url: Vec<String>,
    /// File whose first line is user:password for the Traefik API (or set ROLLOUT_TRAEFIK_AUTH)
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK)]
    pub traefik_auth_file: Option<String>,
    /// CA certificate (PEM) that signs the Traefik API's certificate [default: the system's]
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK)]
    pub traefik_ca: Option<String>,

    /// Roll even if nothing changed
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = CHECKS)]
    pub force: bool,
    /// Continue although this check refuses the rollout, such as labels or host-ports; repeat for several
    #[arg(long, value_name = "CHECK", value_parser = Check::ignorable(), hide_possible_values = true, help_heading = CHECKS)]
    pub ignore: Vec<Check>,
    /// Continue where no atomic cutover is possible: both versions answer for a while (as --ignore switch)
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = CHECKS)]
    pub allow_split: bool,
    /// What to do first with a rollout that was left unfinished
    #[arg(long, value_enum, default_value_t, help_heading = CHECKS)]
    pub on_unfinished: OnUnfinished,
    /// Longest wait for another rollout of the service
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = CHECKS)]
    pub lock_wait: Duration,
    /// Number of earlier images to keep for undo
    #[arg(long, value_name = "N", value_parser = count, default_value = "5", help_heading = CHECKS)]
    pub keep: u32,
}

/// The longest duration of a setting: a longer one would overflow a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// `30s`, `1m30s`, `250ms`, or a plain number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(span) if span <= LONGEST => Ok(span),
        Some(_) => Err(format!("{text:?} is longer than a year")),
        None => Err(format!(
            "{text:?} is not a duration; write 30s, 1m30s, 250ms or a number of seconds"
        )),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a number from 1 on")),
        Ok(count) => Ok(count),
    }
}

/// The notice for a rollout that continues although it would be refused.
pub fn in_spite_of(refusal: &str, check: Check) -> String {
    format!("{refusal}; going on because of --ignore {check}")
}

impl Settings {
    /// Merges the places of settings, the most important first.
    pub fn resolve(places: [Partial; 4]) -> Self {
        let merged = places.into_iter().reduce(Partial::or).unwrap_or_default();
        parse(&merged.0)
            .unwrap_or_else(|error| unreachable!("each value is checked where it is read: {error}"))
    }

    /// Whether a refusal by this check is passed over.
    pub fn ignores(&self, check: Check) -> bool {
        self.ignore.contains(&check) || (self.allow_split && check == Check::Switch)
    }

    /// Turns a refusal by a check that the operator ignores into a notice.
    pub fn pass_over(
        &self,
        check: Check,
        result: Result<()>,
        notices: &mut Vec<String>,
    ) -> Result<()> {
        match result {
            Err(error) if error.outcome == Outcome::Refused && self.ignores(check) => {
                notices.push(in_spite_of(&error.message, check));
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the old replicas are stopped before the new ones are created.
    pub fn order(&self) -> Order {
        match self.strategy {
            Strategy::BlueGreen => Order::StartFirst,
            Strategy::Recreate => Order::StopFirst,
        }
    }

    /// Whether new replicas may start with empty anonymous volumes.
    pub fn renews_anon_volumes(&self) -> bool {
        self.renew_anon_volumes || self.ignores(Check::AnonymousVolumes)
    }
}

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
        for (name, words) in other.0 {
            self.0.entry(name).or_insert(words);
        }
        self
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

    /// Reads `x-rollout` of a service; hooks and `after` are read elsewhere.
    pub fn from_service(service: &str, x_rollout: Option<&Value>) -> Result<Self> {
        let place = format!("x-rollout of {service}");
        let mut own = x_rollout.cloned();
        if let Some(Value::Object(own)) = &mut own {
            own.retain(|key, _| key != AFTER && key != HOOKS);
        }
        let read = Self::from_file(&place, own.as_ref())?;
        match names_under(STACK).find(|name| read.0.contains_key(name)) {
            None => Ok(read),
            Some(name) => Err(bad(format!(
                "{name} in {place} is a setting of all services; write it in x-rollout at the top level"
            ))),
        }
    }

    /// Reads `x-rollout` at the top level of the Compose file, which is for all services.
    pub fn from_project(x_rollout: Option<&Value>) -> Result<Self> {
        Self::from_file("x-rollout at the top level", x_rollout)
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
        Ok(Self(read))
    }
}

/// Every setting, as clap has it.
fn command() -> Command {
    let command = Command::new("settings")
        .no_binary_name(true)
        .disable_help_flag(true);
    Settings::augment_args(command)
}

fn parse(values: &Values) -> Result<Settings, clap::Error> {
    let one = |name: &String, word: &String| format!("--{name}={word}");
    let all = values.iter();
    let flags = all.flat_map(|(name, words)| words.iter().map(move |word| one(name, word)));
    Settings::from_arg_matches(&command().try_get_matches_from(flags)?)
}

/// The names of all settings that are not a flag alone.
fn names() -> Vec<String> {
    let command = command();
    command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .filter(|name| name != FLAG_ALONE)
        .collect()
}

/// The names of the settings with this heading in the help.
fn names_under(heading: &'static str) -> impl Iterator<Item = String> {
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
        Value::Array(values) if is_list => values.iter().map(scalar).collect::<Result<_, _>>()?,
        value => vec![scalar(value)?],
    };
    let read = Values::from([(name.to_owned(), words)]);
    parse(&read).map_err(|error| bad_value(&error))?;
    Ok(read.into_values().find(|words| !words.is_empty()))
}

/// What is wrong with the value of an option, in one line.
pub fn bad_value(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    use std::error::Error as _;
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let known: &[String] = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(known)) => known,
        _ => &[],
    };
    match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(why)) => why.to_string(),
        _ => match did_you_mean(value, known.iter().map(String::as_str)) {
            Some(near) => format!("unknown value {value:?}; did you mean {near}?"),
            None => format!("unknown value {value:?}; known are {}", known.join(", ")),
        },
    }
}

fn bad(message: String) -> Error {
    Error::refused(message).hint("rollout help settings lists them; rollout --help the flags")
}

/// `user:password` for the Traefik API: a secret, so there is no flag or key of this name.
pub const TRAEFIK_AUTH: &str = "ROLLOUT_TRAEFIK_AUTH";
/// The key of a service's `x-rollout` that names what is rolled before it. It stands only in the file.
pub const AFTER: &str = "after";
/// The key of a service's `x-rollout` with its hooks.
pub const HOOKS: &str = "hooks";
/// The setting that each run decides for itself.
const FLAG_ALONE: &str = "ignore";
const PREFIX: &str = "ROLLOUT_";

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::{mutated_text, replaced};

    fn environment(name: &str, value: &str) -> Result<Partial> {
        Partial::from_environment([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_flag_wins_over_the_service_then_the_top_level_then_the_environment() {
        let flags = Partial::of("timeout", "1");
        let file = Partial::from_service(
            "web",
            Some(&json!({"timeout": "2s", "wait": 3, "build": true})),
        )
        .unwrap();
        let variables = [
            ("ROLLOUT_WAIT", "4s"),
            ("ROLLOUT_STABLE", "500ms"),
            ("ROLLOUT_DRAIN_TIMEOUT", "7s"),
            ("ROLLOUT_TRAEFIK_URL", "http://a,http://b"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let top = json!({"wait": "9s", "drain-timeout": "6s"});
        let top = Partial::from_project(Some(&top)).unwrap();
        let environment = Partial::from_environment(variables).unwrap();
        let settings = Settings::resolve([flags, file, top, environment]);
        assert_eq!(settings.timeout, Duration::from_secs(1));
        assert_eq!(settings.wait, Duration::from_secs(3));
        assert_eq!(settings.drain_timeout, Duration::from_secs(6));
        assert_eq!(settings.stable, Duration::from_millis(500));
        assert_eq!(settings.traefik_url, ["http://a", "http://b"]);
        assert!(settings.build && !settings.force);
    }

    #[test]
    fn a_check_is_ignored_by_a_flag_alone_and_allow_split_is_one_of_them() {
        let error = Partial::from_service("web", Some(&json!({"ignore": ["labels"]})));
        assert!(error.unwrap_err().message.starts_with("unknown key ignore"));
        let environment = environment("ROLLOUT_IGNORE", "labels").unwrap();
        let file = Partial::from_service("web", Some(&json!({"allow-split": true}))).unwrap();
        let flags = Partial::of("ignore", "host-ports");
        let settings = Settings::resolve([flags, file, Partial::default(), environment]);
        let ignored = |check: &&Check| settings.ignores(**check);
        let ignored: Vec<_> = Check::IGNORABLE.iter().filter(ignored).collect();
        assert_eq!(ignored, [&Check::Switch, &Check::HostPorts]);
    }

    #[test]
    fn anonymous_volumes_are_renewed_where_their_check_is_ignored() {
        let renews = |flags| {
            let none = Partial::default;
            let settings = Settings::resolve([flags, none(), none(), none()]);
            settings.renews_anon_volumes()
        };
        assert!(!renews(Partial::default()));
        assert!(renews(Partial::of("renew-anon-volumes", "true")));
        assert!(renews(Partial::of("ignore", "anonymous-volumes")));
    }

    #[test]
    fn an_unknown_key_is_one_line_that_names_the_near_one() {
        let error =
            Partial::from_service("web", Some(&json!({"drian-timeout": "2s"}))).unwrap_err();
        assert_eq!(
            error.message,
            "unknown key drian-timeout in x-rollout of web; did you mean drain-timeout?"
        );
        let error = environment("ROLLOUT_DRAIN_TIMEOT", "2s").unwrap_err();
        assert_eq!(
            error.message,
            "unknown variable ROLLOUT_DRAIN_TIMEOT; did you mean ROLLOUT_DRAIN_TIMEOUT?"
        );
    }

    #[test]
    fn what_is_wrong_at_the_top_level_is_said_to_be_there() {
        let error = Partial::from_project(Some(&json!({"traefik-auth": "a:b"}))).unwrap_err();
        let place = "unknown key traefik-auth in x-rollout at the top level";
        assert!(error.message.starts_with(place), "{error}");
        let error = Partial::from_project(Some(&json!("a"))).unwrap_err();
        assert!(error.message.contains("is not a mapping"), "{error}");
    }

    #[test]
    fn a_relative_path_of_a_compose_file_begins_at_its_project() {
        let file = |path: &str| {
            let own = json!({"traefik-auth-file": path});
            let own = Partial::from_project(Some(&own)).unwrap();
            let own = own.in_directory(Path::new("/srv/shop"));
            parse(&own.0).unwrap().traefik_auth_file
        };
        assert_eq!(file("auth").as_deref(), Some("/srv/shop/auth"));
        assert_eq!(file("/run/auth").as_deref(), Some("/run/auth"));
    }

    #[test]
    fn a_bad_value_is_one_line_that_names_its_place() {
        let error = Partial::from_service("web", Some(&json!({"timeout": "soon"}))).unwrap_err();
        assert!(
            error
                .message
                .starts_with("timeout in x-rollout of web: \"soon\" is not a duration"),
            "{error}"
        );
        let error = environment("ROLLOUT_SCALE", "0").unwrap_err();
        assert!(
            error
                .message
                .starts_with("ROLLOUT_SCALE: \"0\" is not a number from 1 on"),
            "{error}"
        );
        let error = Partial::from_project(Some(&json!({"strategy": "blue-gren"}))).unwrap_err();
        assert_eq!(
            error.message,
            "strategy in x-rollout at the top level: unknown value \"blue-gren\"; did you mean blue-green?"
        );
    }

    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        for text in ["1e19", "-1", "NaN", "40000000", "500days"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn other_programs_variables_are_left_alone() {
        for name in [
            "ROLLOUT_TESTBED_CACHE",
            "ROLLOUT_EVENT_LOG",
            "ROLLOUT_LOG_DIR",
            "ROLLOUT_OUTPUT",
            "ROLLOUT_STATE_VOLUME",
            "ROLLOUT_PORT",
            "ROLLOUT_NAME",
            "ROLLOUT_PROJECT",
            "ROLLOUT_SERVICE",
            "ROLLOUT_ROLLOUT",
            "ROLLOUT_REVISION",
            "ROLLOUT_IMAGE",
            "ROLLOUT_OLD_IMAGE",
            "ROLLOUT_HOOK",
            "ROLLOUT_ERROR",
            TRAEFIK_AUTH,
            "ROLLOUT_",
        ] {
            assert_eq!(
                environment(name, "/x").unwrap(),
                Partial::default(),
                "{name}"
            );
        }
    }

    /// The setting as one pair of words of a command line.
    fn flag(name: &str, value: &str) -> Partial {
        let matches = command().try_get_matches_from([format!("--{name}={value}")]);
        Partial::from_arg_matches(&matches.unwrap()).unwrap()
    }

    #[test]
    fn every_setting_has_the_same_name_and_meaning_in_all_three_places() {
        for name in names() {
            let value = match name.as_str() {
                "proxy" => "none",
                "switch" => "pin",
                "strategy" => "recreate",
                "pull" => "never",
                "on-unfinished" => "abort",
                "on-failure" => "rollback",
                "scale" | "keep" | "parallel" | "pull-parallel" => "7",
                "build" | "force" | "renew-anon-volumes" | "allow-split" => "true",
                "traefik-url" => "http://a:8080",
                "ready-http" | "pre-stop-hook" | "traefik-auth-file" | "traefik-ca" => "/x",
                _ => "77ms",
            };
            let by_flag = flag(&name, value);
            let by_variable = environment(&variable(&name), value).unwrap();
            let written = json!({name.clone(): value});
            let by_key = Partial::from_project(Some(&written)).unwrap();
            let of_service = Partial::from_service("web", Some(&written));
            match names_under(STACK).any(|own| own == name) {
                true => assert!(
                    of_service.unwrap_err().message.contains("top level"),
                    "{name}"
                ),
                false => assert_eq!(of_service.unwrap(), by_key, "{name}"),
            }
            assert_ne!(by_flag, Partial::default(), "{name}");
            assert_eq!(by_flag, by_variable, "{name}");
            assert_eq!(by_flag, by_key, "{name}");
            let default = Settings::resolve(Default::default());
            for place in 0..4 {
                let mut sources: [Partial; 4] = Default::default();
                sources[place] = by_flag.clone();
                assert_ne!(Settings::resolve(sources), default, "{name} counts nowhere");
            }
        }
    }

    #[test]
    fn the_topic_of_settings_has_each_setting_with_its_default() {
        let text = include_str!("help/settings.md");
        for argument in command().get_arguments() {
            let name = format!("--{}", argument.get_long().unwrap());
            let begins = |entry: &&str| {
                let head = entry.split(['`', ' ']);
                head.take(5).any(|word| word == name)
            };
            let mut entries = text.split("\n- `");
            let entry = entries.find(begins);
            let entry = entry.unwrap_or_else(|| panic!("the topic has no entry for {name}"));
            let default = match argument.get_default_values() {
                [] => continue,
                [off] if off == "false" => "default off".to_owned(),
                [value, ..] => format!("default `{}`", value.to_str().unwrap()),
            };
            assert!(entry.contains(&default), "{name}: {default}: {entry}");
            for value in argument.get_possible_values() {
                assert!(entry.contains(value.get_name()), "{name}: {entry}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn settings_of_any_type_are_read_or_refused_in_one_line(
            value in replaced(json!({"wait": "30s", "drain-timeout": 5, "scale": 2, "strategy": "blue-green", "traefik-url": ["http://a"]})),
        ) {
            match Partial::from_service("web", Some(&value)) {
                Ok(read) => prop_assert!(parse(&read.0).unwrap().scale.is_none_or(|count| count > 0)),
                Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
            }
        }

        #[test]
        fn no_span_is_longer_than_a_year(text in mutated_text("1h 2m 3s 4ms 5us 6ns 1e9")) {
            if let Ok(span) = duration(&text) {
                prop_assert!(span <= LONGEST);
            }
        }
    }
}
