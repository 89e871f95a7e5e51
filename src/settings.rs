//! Every setting of a rollout: one name as flag, as key of `x-rollout` of the service, of `x-rollout` at the top level
//! of the Compose file, and as `ROLLOUT_…` variable, in that order.

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::{
    check::Check,
    error::{Error, Outcome, Result, did_you_mean},
    model::Order,
};

/// What moves the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyKind {
    /// Traefik where the service has its labels, none otherwise.
    #[default]
    Auto,
    /// Traefik.
    Traefik,
    /// None: health alone decides.
    None,
}

/// How Traefik is made to send the traffic elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchBy {
    /// By the socket proxy where every Traefik in front reads through one, else by a pin file.
    #[default]
    Auto,
    /// By labels that the socket proxy changes on their way to Traefik.
    Relabel,
    /// By a file of Traefik's file provider, above the Docker provider's routers.
    Pin,
}

/// How the new version takes the place of the old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A whole new set beside the old one, one cutover.
    #[default]
    BlueGreen,
    /// Stop the old set first: with a gap, for services that cannot run twice.
    Recreate,
}

/// Which image a rollout takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// As the service's `pull_policy` says.
    #[default]
    Policy,
    /// The newest of its name.
    Always,
    /// Pulled only where the engine has none.
    Missing,
    /// Never pulled.
    Never,
}

/// What becomes of a rollout that an earlier run has left unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnfinished {
    /// Finished where its cutover is written, else undone.
    #[default]
    Resume,
    /// Undone, as long as its old replicas run.
    Abort,
    /// Left as it is: the run is refused.
    Fail,
}

/// The longest duration of a setting.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A duration as people write it: `30s`, `1m30s`, `250ms`, or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        // Longer ones would overflow a clock, and nobody means them.
        match parsed {
            Some(span) if span <= LONGEST => Ok(Self(span)),
            Some(_) => Err(format!("{text:?} is longer than a year")),
            None => Err(format!(
                "{text:?} is not a duration; write 30s, 1m30s, 250ms or a number of seconds"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

/// `true` or `false`, as YAML, text or a bare flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(Self(true)),
            "false" | "0" | "no" | "off" => Ok(Self(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

/// A count, as YAML number or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u32);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a number from 1 on")),
            Ok(count) => Ok(Self(count)),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

fn scalar<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
        other => return Err(de::Error::custom(format!("{other} is not a single value"))),
    };
    text.parse().map_err(de::Error::custom)
}

/// A list as YAML sequence, or as text with commas.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.split(',').map(|part| part.trim().to_owned()).collect()),
        value => serde_json::from_value(value).map_err(de::Error::custom),
    }
}

/// Settings as one source gives them; `None` where it is silent.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Settings (also as x-rollout: keys and ROLLOUT_… variables)")]
pub struct Partial {
    /// What moves the traffic [default: auto]
    #[arg(long, value_enum)]
    pub proxy: Option<ProxyKind>,
    /// How Traefik is made to switch: through the socket proxy, or by a file in its file provider's directory [default: auto]
    #[arg(long, value_enum)]
    pub switch: Option<SwitchBy>,
    /// Where the Traefik API answers, such as http://127.0.0.1:8080; repeat for several [default: found by itself]
    #[arg(long, value_name = "URL")]
    #[serde(deserialize_with = "list")]
    pub traefik_url: Vec<String>,
    /// A file whose first line is user:password for the Traefik API (or the variable ROLLOUT_TRAEFIK_AUTH itself)
    #[arg(long, value_name = "FILE")]
    pub traefik_auth_file: Option<String>,
    /// The certificate, in PEM form, that the Traefik API's own must come from [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub traefik_ca: Option<String>,
    /// How the new version takes the place of the old [default: blue-green]
    #[arg(long, value_enum)]
    pub strategy: Option<Strategy>,
    /// How many replicas [default: as in the Compose file]
    #[arg(long, value_name = "N")]
    pub scale: Option<Count>,
    /// When to pull the image [default: policy]
    #[arg(long, value_enum)]
    pub pull: Option<PullPolicy>,
    /// Build the image first
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub build: Option<Switch>,
    /// Roll although nothing has changed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub force: Option<Switch>,
    /// Start the new replicas with empty anonymous volumes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub renew_anon_volumes: Option<Switch>,
    /// Go on although this check refuses the rollout, such as labels or host-ports; repeat for several
    #[arg(long, value_parser = Check::ignorable(), value_name = "CHECK", hide_possible_values = true)]
    #[serde(skip)]
    pub ignore: Vec<Check>,
    /// Go on where no atomic cutover is possible: both versions answer for a while (as --ignore switch)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub allow_split: Option<Switch>,
    /// The longest wait for a health check to pass [default: 60s]
    #[arg(short, long, value_name = "DURATION")]
    pub timeout: Option<Span>,
    /// The longest wait for a service without a health check [default: 60s]
    #[arg(short, long, value_name = "DURATION")]
    pub wait: Option<Span>,
    /// Wait this much longer once the health checks pass [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub wait_after_healthy: Option<Span>,
    /// A new replica must have run this long without a restart [default: 3s]
    #[arg(long, value_name = "DURATION")]
    pub stable: Option<Span>,
    /// Ready only once GET PATH answers 2xx or 3xx [default: without a health check, once its port accepts]
    #[arg(long, value_name = "PATH")]
    pub ready_http: Option<String>,
    /// The longest wait for the proxy to agree with the cutover [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub confirm_timeout: Option<Span>,
    /// The pause between the proxy's agreement and the drain [default: 250ms; 5s with retry, buffering, forwardAuth or a plugin]
    #[arg(long, value_name = "DURATION")]
    pub settle: Option<Span>,
    /// The longest wait for the old replicas to answer what they have accepted [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub drain_timeout: Option<Span>,
    /// A WebSocket or stream silent for this long counts as drained [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub drain_quiet: Option<Span>,
    /// Keep the old replicas, hidden and running, for this long after the cutover, ready to take the traffic back
    /// [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub bake: Option<Span>,
    /// A command to run in each old replica before it is stopped
    #[arg(long, value_name = "COMMAND")]
    pub pre_stop_hook: Option<String>,
    /// What to do first with a rollout that was left unfinished [default: resume]
    #[arg(long, value_enum)]
    pub on_unfinished: Option<OnUnfinished>,
    /// How long to wait for another rollout of the service [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub lock_wait: Option<Span>,
    /// How many images of revisions are kept, for undo [default: 5]
    #[arg(long, value_name = "N")]
    pub keep: Option<Count>,
}

/// Settings with every default in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// See [`Partial::proxy`]; so on for each.
    pub proxy: ProxyKind,
    pub switch: SwitchBy,
    pub traefik_url: Vec<String>,
    pub traefik_auth_file: Option<String>,
    pub traefik_ca: Option<String>,
    pub strategy: Strategy,
    pub scale: Option<u32>,
    pub pull: PullPolicy,
    pub build: bool,
    pub force: bool,
    pub renew_anon_volumes: bool,
    /// Checks that do not refuse a rollout, `switch` by `allow-split` too.
    pub ignore: BTreeSet<Check>,
    pub timeout: Duration,
    pub wait: Duration,
    pub wait_after_healthy: Duration,
    pub stable: Duration,
    pub ready_http: Option<String>,
    pub confirm_timeout: Duration,
    pub settle: Option<Duration>,
    pub drain_timeout: Duration,
    pub drain_quiet: Duration,
    pub bake: Duration,
    pub pre_stop_hook: Option<String>,
    pub on_unfinished: OnUnfinished,
    pub lock_wait: Duration,
    pub keep: u32,
}

impl Settings {
    /// Merges the sources, the first that speaks wins, and fills in the defaults.
    pub fn resolve(sources: [Partial; 4]) -> Self {
        let [flags, service, project, environment] = sources;
        let all = flags.or(service).or(project).or(environment);
        let span = |value: Option<Span>, default: u64| {
            value.map_or(Duration::from_secs(default), |span| span.0)
        };
        let on = |value: Option<Switch>| value.is_some_and(|switch| switch.0);
        let split = on(all.allow_split).then_some(Check::Switch);
        Self {
            proxy: all.proxy.unwrap_or_default(),
            switch: all.switch.unwrap_or_default(),
            traefik_url: all.traefik_url,
            traefik_auth_file: all.traefik_auth_file,
            traefik_ca: all.traefik_ca,
            strategy: all.strategy.unwrap_or_default(),
            scale: all.scale.map(|count| count.0),
            pull: all.pull.unwrap_or_default(),
            build: on(all.build),
            force: on(all.force),
            renew_anon_volumes: on(all.renew_anon_volumes),
            ignore: all.ignore.into_iter().chain(split).collect(),
            timeout: span(all.timeout, 60),
            wait: span(all.wait, 60),
            wait_after_healthy: span(all.wait_after_healthy, 0),
            stable: span(all.stable, 3),
            ready_http: all.ready_http,
            confirm_timeout: span(all.confirm_timeout, 30),
            settle: all.settle.map(|span| span.0),
            drain_timeout: span(all.drain_timeout, 30),
            drain_quiet: span(all.drain_quiet, 5),
            bake: span(all.bake, 0),
            pre_stop_hook: all.pre_stop_hook,
            on_unfinished: all.on_unfinished.unwrap_or_default(),
            lock_wait: span(all.lock_wait, 0),
            keep: all.keep.map_or(5, |count| count.0),
        }
    }
}

/// What is said where a rollout goes on although it would be refused.
pub fn in_spite_of(refusal: &str, check: Check) -> String {
    format!("{refusal}; going on because of --ignore {check}")
}

impl Settings {
    /// Whether a refusal by this check is passed over.
    pub fn ignores(&self, check: Check) -> bool {
        self.ignore.contains(&check)
    }

    /// Lets a refusal by a check pass that the operator ignores, and notes that for the time when the rollout begins.
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

impl Partial {
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            proxy: self.proxy.or(other.proxy),
            switch: self.switch.or(other.switch),
            traefik_url: if self.traefik_url.is_empty() {
                other.traefik_url
            } else {
                self.traefik_url
            },
            traefik_auth_file: self.traefik_auth_file.or(other.traefik_auth_file),
            traefik_ca: self.traefik_ca.or(other.traefik_ca),
            strategy: self.strategy.or(other.strategy),
            scale: self.scale.or(other.scale),
            pull: self.pull.or(other.pull),
            build: self.build.or(other.build),
            force: self.force.or(other.force),
            renew_anon_volumes: self.renew_anon_volumes.or(other.renew_anon_volumes),
            ignore: if self.ignore.is_empty() {
                other.ignore
            } else {
                self.ignore
            },
            allow_split: self.allow_split.or(other.allow_split),
            timeout: self.timeout.or(other.timeout),
            wait: self.wait.or(other.wait),
            wait_after_healthy: self.wait_after_healthy.or(other.wait_after_healthy),
            stable: self.stable.or(other.stable),
            ready_http: self.ready_http.or(other.ready_http),
            confirm_timeout: self.confirm_timeout.or(other.confirm_timeout),
            settle: self.settle.or(other.settle),
            drain_timeout: self.drain_timeout.or(other.drain_timeout),
            drain_quiet: self.drain_quiet.or(other.drain_quiet),
            bake: self.bake.or(other.bake),
            pre_stop_hook: self.pre_stop_hook.or(other.pre_stop_hook),
            on_unfinished: self.on_unfinished.or(other.on_unfinished),
            lock_wait: self.lock_wait.or(other.lock_wait),
            keep: self.keep.or(other.keep),
        }
    }

    /// Reads `x-rollout` of a service.
    pub fn from_service(service: &str, x_rollout: Option<&Value>) -> Result<Self> {
        Self::from_file(&format!("x-rollout of {service}"), x_rollout)
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
    pub fn in_directory(self, directory: &Path) -> Self {
        let joined = |path: Option<String>| {
            path.map(|path| directory.join(path).to_string_lossy().into_owned())
        };
        Self {
            traefik_auth_file: joined(self.traefik_auth_file),
            traefik_ca: joined(self.traefik_ca),
            ..self
        }
    }

    /// Reads `ROLLOUT_…` variables; others that only look alike are left alone unless they are a slip of a name.
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let names = Self::names();
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

    /// The names of all settings that have a place besides their flag, as flags without dashes.
    fn names() -> Vec<String> {
        let command = Self::augment_args(clap::Command::new("settings"));
        command
            .get_arguments()
            .filter_map(|argument| argument.get_long().map(str::to_owned))
            .filter(|name| name != FLAG_ALONE)
            .collect()
    }

    fn from_map(map: &Map<String, Value>, place: &dyn Fn(&str) -> String) -> Result<Self> {
        let names = Self::names();
        for (key, value) in map {
            if !names.contains(key) {
                let near = did_you_mean(key, names.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || format!("known are {}", names.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(bad(format!("unknown key {}; {hint}", place(key))));
            }
            let single = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            if let Err(error) = serde_json::from_value::<Self>(single) {
                return Err(bad(format!("{}: {error}", place(key))));
            }
        }
        serde_json::from_value(Value::Object(map.clone())).map_err(|error| bad(error.to_string()))
    }
}

fn bad(message: String) -> Error {
    Error::refused(message).hint("rollout --help lists the settings")
}

/// `user:password` for the Traefik API: a secret, so no flag and no key is called like it.
pub const TRAEFIK_AUTH: &str = "ROLLOUT_TRAEFIK_AUTH";
/// The setting that is decided anew for each run.
const FLAG_ALONE: &str = "ignore";
/// How the variables of all settings begin.
const PREFIX: &str = "ROLLOUT_";

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
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
        let flags = Partial {
            timeout: Some(Span(Duration::from_secs(1))),
            ..Partial::default()
        };
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
        let flags = Partial {
            ignore: vec![Check::HostPorts],
            ..Partial::default()
        };
        let settings = Settings::resolve([flags, file, Partial::default(), environment]);
        assert_eq!(settings.ignore, [Check::Switch, Check::HostPorts].into());
    }

    #[test]
    fn anonymous_volumes_are_renewed_where_their_check_is_ignored() {
        let renews = |flags| {
            let none = Partial::default;
            let settings = Settings::resolve([flags, none(), none(), none()]);
            settings.renews_anon_volumes()
        };
        assert!(!renews(Partial::default()));
        assert!(renews(Partial {
            renew_anon_volumes: Some(Switch(true)),
            ..Partial::default()
        }));
        assert!(renews(Partial {
            ignore: vec![Check::AnonymousVolumes],
            ..Partial::default()
        }));
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
            own.in_directory(Path::new("/srv/shop")).traefik_auth_file
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
    }

    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        for text in ["1e19", "-1", "NaN", "40000000", "500days"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("90".parse(), Ok(Span(Duration::from_secs(90))));
    }

    #[test]
    fn other_programs_variables_are_left_alone() {
        for name in [
            "ROLLOUT_TESTBED_CACHE",
            "ROLLOUT_EVENT_LOG",
            "ROLLOUT_OUTPUT",
            "ROLLOUT_STATE_VOLUME",
            "ROLLOUT_PORT",
            "ROLLOUT_NAME",
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
        let command = Partial::augment_args(clap::Command::new("settings"));
        let argument = format!("--{name}={value}");
        let matches = command
            .try_get_matches_from(["settings", argument.as_str()])
            .unwrap();
        <Partial as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn every_setting_has_the_same_name_and_meaning_in_all_three_places() {
        for name in Partial::names() {
            let value = match name.as_str() {
                "proxy" => "none",
                "switch" => "pin",
                "strategy" => "recreate",
                "pull" => "never",
                "on-unfinished" => "abort",
                "scale" | "keep" => "7",
                "build" | "force" | "renew-anon-volumes" | "allow-split" => "true",
                "traefik-url" => "http://a:8080",
                "ready-http" | "pre-stop-hook" | "traefik-auth-file" | "traefik-ca" => "/x",
                _ => "77ms",
            };
            let by_flag = flag(&name, value);
            let by_variable = environment(&variable(&name), value).unwrap();
            let by_key = Partial::from_service("web", Some(&json!({name.clone(): value}))).unwrap();
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn settings_of_any_type_are_read_or_refused_in_one_line(
            value in replaced(json!({"wait": "30s", "drain-timeout": 5, "scale": 2, "strategy": "blue-green", "traefik-url": ["http://a"]})),
        ) {
            match Partial::from_service("web", Some(&value)) {
                Ok(read) => prop_assert!(read.scale.is_none_or(|count| count.0 > 0)),
                Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
            }
        }

        #[test]
        fn no_span_is_longer_than_a_year(text in mutated_text("1h 2m 3s 4ms 5us 6ns 1e9")) {
            if let Ok(Span(span)) = text.parse::<Span>() {
                prop_assert!(span <= LONGEST);
            }
        }
    }
}
