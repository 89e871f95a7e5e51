//! How what runs differs from the Compose file. Values that may be secrets are left out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    compose::{Healthcheck, Service, reproduce::OURS},
    event::{Change, How},
    model::Replica,
    overlay::Labels,
};

/// What runs: a replica, its whole inspect answer, and the config of its image.
pub(super) struct Running<'a> {
    pub replica: &'a Replica,
    pub container: &'a Value,
    pub image: &'a Value,
}

/// The service that the Compose file describes.
pub(super) struct Described<'a> {
    pub service: &'a Service,
    /// As `docker compose config` prints it.
    pub raw: &'a Value,
    /// The names that the engine has for its networks.
    pub networks: &'a BTreeSet<String>,
    /// The names of its replicas.
    pub names: Vec<String>,
}

/// Words in the names of labels whose values may be secrets.
const SECRET: [&str; 6] = ["auth", "key", "passwd", "password", "secret", "token"];

/// Environment variables, labels, and the other settings by their keys.
pub(super) fn changes(running: &Running<'_>, described: &Described<'_>) -> Vec<Change> {
    let mut all = environment(running, described.raw);
    all.extend(labels(running, described.service));
    let keys = settings(running, described.raw).into_iter();
    let keys = keys.chain(healthcheck(running, described.service));
    let keys = keys.chain(networks(running, described));
    let keys = keys.chain(container_name(running, described));
    all.extend(keys.map(|key| change("config", key, How::Changed)));
    all
}

/// The service of the file with the image, the environment and the labels of what runs. If Compose gives it the hash of
/// what runs, nothing else differs.
pub(super) fn as_it_ran(running: &Running<'_>, raw: &Value, changes: &[Change]) -> Value {
    let mut service = raw.clone();
    service["image"] = running.replica.reference.clone().into();
    let variables = variables(&running.container["Config"]["Env"]);
    let labels = &running.replica.labels;
    for (part, key, before) in [
        ("environment", "environment", &variables),
        ("label", "labels", labels),
    ] {
        let mut entries = service[key].as_object().cloned().unwrap_or_default();
        for own in changes.iter().filter(|own| own.part == part) {
            let Some(name) = &own.name else { continue };
            match before.get(name).filter(|_| own.how != How::Added) {
                Some(value) => drop(entries.insert(name.clone(), value.as_str().into())),
                None => drop(entries.remove(name)),
            }
        }
        match entries.is_empty() {
            true => drop(service.as_object_mut().and_then(|all| all.remove(key))),
            false => service[key] = entries.into(),
        }
    }
    service
}

fn change(part: &'static str, name: &str, how: How) -> Change {
    Change {
        name: Some(name.to_owned()),
        how,
        ..Change::of(part)
    }
}

fn environment(running: &Running<'_>, raw: &Value) -> Vec<Change> {
    let runs = variables(&running.container["Config"]["Env"]);
    let inherited = variables(&running.image["Env"]);
    let none = Map::new();
    let wanted = raw["environment"].as_object().unwrap_or(&none).iter();
    // A variable without a value is not set.
    let wanted = wanted.filter(|(_, value)| !value.is_null());
    let wanted = wanted.map(|(name, value)| (name.clone(), text(value)));
    changed_variables(&runs, &inherited, &wanted.collect())
}

/// By their names: a value may be a secret.
pub fn changed_variables(runs: &Labels, inherited: &Labels, wanted: &Labels) -> Vec<Change> {
    let names = differences(runs, inherited, wanted).into_iter();
    names
        .map(|(name, how)| change("environment", &name, how))
        .collect()
}

fn labels(running: &Running<'_>, service: &Service) -> Vec<Change> {
    let is_own = |name: &str| OURS.iter().any(|prefix| name.starts_with(prefix));
    let mut runs = running.replica.labels.clone();
    runs.retain(|name, _| !is_own(name));
    let inherited = running.image["Labels"].as_object().into_iter().flatten();
    let inherited = inherited.map(|(name, value)| (name.clone(), text(value)));
    changed_labels(&runs, &inherited.collect(), &service.labels)
}

pub fn changed_labels(runs: &Labels, inherited: &Labels, wanted: &Labels) -> Vec<Change> {
    let found = differences(runs, inherited, wanted);
    let shown = |name: &String, of: &BTreeMap<String, String>| {
        let lower = name.to_lowercase();
        let is_secret = SECRET.iter().any(|word| lower.contains(word));
        of.get(name).filter(|_| !is_secret).cloned()
    };
    let changes = found.into_iter().map(|(name, how)| Change {
        from: shown(&name, runs).filter(|_| how != How::Added),
        to: shown(&name, wanted),
        ..change("label", &name, how)
    });
    changes.collect()
}

/// What differs between two maps; `inherited` comes from the image, whatever the file says.
fn differences(
    runs: &BTreeMap<String, String>,
    inherited: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Vec<(String, How)> {
    let mut all = BTreeMap::new();
    for (name, value) in wanted {
        match runs.get(name) {
            Some(own) if own == value => {}
            Some(_) => drop(all.insert(name.clone(), How::Changed)),
            None => drop(all.insert(name.clone(), How::Added)),
        }
    }
    for (name, value) in runs {
        if !wanted.contains_key(name) && inherited.get(name) != Some(value) {
            all.insert(name.clone(), How::Removed);
        }
    }
    all.into_iter().collect()
}

fn variables(list: &Value) -> BTreeMap<String, String> {
    let entries = list.as_array().into_iter().flatten();
    let pairs = entries.filter_map(|entry| entry.as_str()?.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Compose writes numbers and truth values as text, too.
fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// Keys of the file, and the field of the engine's config for each.
const SETTINGS: [(&str, &str); 5] = [
    ("command", "Cmd"),
    ("entrypoint", "Entrypoint"),
    ("user", "User"),
    ("working_dir", "WorkingDir"),
    ("stop_signal", "StopSignal"),
];

fn settings(running: &Running<'_>, raw: &Value) -> Vec<&'static str> {
    let config = &running.container["Config"];
    let differs = |(key, field): &(&str, &str)| {
        let given = &raw[*key];
        // With an entrypoint of its own, a container does not inherit the image's command.
        let inherits = *key != "command" || raw["entrypoint"].is_null();
        let wanted = match given {
            Value::Null if inherits => &running.image[*field],
            given => given,
        };
        !is_same(&config[*field], wanted)
    };
    let keys = SETTINGS.iter().filter(|own| differs(own));
    keys.map(|(key, _)| *key).collect()
}

/// The engine has no value, an empty text or an empty list for the same.
fn is_same(a: &Value, b: &Value) -> bool {
    let is_nothing = |value: &Value| {
        value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
    };
    a == b || (is_nothing(a) && is_nothing(b))
}

fn healthcheck(running: &Running<'_>, service: &Service) -> Option<&'static str> {
    let runs = &running.container["Config"]["Healthcheck"];
    let inherited = &running.image["Healthcheck"];
    let same = match &service.healthcheck {
        None => is_same(runs, inherited),
        Some(wanted) if wanted.disabled => runs["Test"][0] == "NONE",
        Some(wanted) => is_checked_by(wanted, runs, inherited),
    };
    (!same).then_some("healthcheck")
}

fn is_checked_by(wanted: &Healthcheck, runs: &Value, inherited: &Value) -> bool {
    let test = match wanted.test.is_empty() {
        true => is_same(&runs["Test"], &inherited["Test"]),
        false => runs["Test"] == Value::from(wanted.test.clone()),
    };
    let nanoseconds = |time: Option<std::time::Duration>| time.map(|time| time.as_nanos() as u64);
    let fields = [
        ("Interval", nanoseconds(wanted.interval)),
        ("Timeout", nanoseconds(wanted.timeout)),
        ("StartPeriod", nanoseconds(wanted.start_period)),
        ("Retries", wanted.retries.map(u64::from)),
    ];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    test && fields.iter().all(|(field, given)| {
        number(&runs[*field]) == given.unwrap_or_else(|| number(&inherited[*field]))
    })
}

fn networks(running: &Running<'_>, described: &Described<'_>) -> Option<&'static str> {
    let runs: BTreeSet<String> = running.replica.networks.iter().cloned().collect();
    let wanted = described.networks;
    (!wanted.is_empty() && runs != *wanted).then_some("networks")
}

/// A number beyond those that are wanted is no other name.
fn container_name(running: &Running<'_>, described: &Described<'_>) -> Option<&'static str> {
    let name = running.replica.target_name();
    let stem = |name: &str| {
        let number = name.trim_end_matches(|own: char| own.is_ascii_digit());
        number.to_owned()
    };
    let same = match &described.service.container_name {
        Some(wanted) => wanted == name,
        None => described.names.iter().any(|own| stem(own) == stem(name)),
    };
    (!same).then_some("container_name")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{compose, fixtures, plan::simulator::old};

    const FILE: &str = "name: shop
networks: {default: {name: shop_default}, back: {name: shop_back}}
services:
  web:
    image: app:v2
    command: [serve]
    environment: {LEVEL: debug, PASSWORD: new, SAME: '1', PATH: /bin}
    labels: {tier: gold, same: 'yes', middlewares.basicauth.users: 'b:2'}
    healthcheck: {test: [CMD, check], interval: 5s}
    networks: {default: null}
";

    fn replica() -> Replica {
        Replica {
            name: "shop-web-1".to_owned(),
            reference: "app:v1".to_owned(),
            networks: vec!["shop_default".to_owned()],
            labels: fixtures::labels(&[
                ("tier", "silver"),
                ("same", "yes"),
                ("gone", "1"),
                ("of.image", "1"),
                ("middlewares.basicauth.users", "a:1"),
                ("com.docker.compose.service", "web"),
            ]),
            ..old("1f")
        }
    }

    fn container() -> Value {
        json!({"Config": {
            "Cmd": ["serve"],
            "Env": ["PASSWORD=old", "SAME=1", "GONE=1", "OF_IMAGE=1", "PATH=/bin"],
            "Healthcheck": {"Test": ["CMD", "check"], "Interval": 5_000_000_000_u64, "Retries": 2},
        }})
    }

    fn image() -> Value {
        json!({
            "Cmd": ["other"], "Env": ["OF_IMAGE=1", "PATH=/bin"], "Labels": {"of.image": "1"},
            "Healthcheck": {"Test": ["CMD", "other"], "Retries": 2},
        })
    }

    /// A line for each change: `+`, `-` or `~`, the part, the name, and the values that are shown.
    fn lines(file: &str, replica: &Replica, container: &Value) -> Vec<String> {
        let project = compose::resolved(file).unwrap();
        let service = project.service("web").unwrap();
        let image = image();
        let running = Running {
            replica,
            container,
            image: &image,
        };
        let networks = service.networks.iter().map(|own| format!("shop_{own}"));
        let described = Described {
            service,
            raw: &project.raw["services"]["web"],
            networks: &networks.collect(),
            names: vec!["shop-web-1".to_owned()],
        };
        let found = changes(&running, &described);
        let line = |own: &Change| {
            let sign = match own.how {
                How::Added => "+",
                How::Removed => "-",
                How::Changed => "~",
            };
            let name = own.name.as_deref().unwrap_or_default();
            let values = own.from.iter().chain(&own.to).map(String::as_str);
            let values: Vec<&str> = values.collect();
            let line = format!("{sign} {} {name} {}", own.part, values.join(" "));
            line.trim_end().to_owned()
        };
        found.iter().map(line).collect()
    }

    #[test]
    fn variables_go_by_their_names_and_labels_show_values_that_are_no_secret() {
        assert_eq!(
            lines(FILE, &replica(), &container()),
            [
                "- environment GONE",
                "+ environment LEVEL",
                "~ environment PASSWORD",
                "- label gone 1",
                "~ label middlewares.basicauth.users",
                "~ label tier silver gold",
            ]
        );
    }

    #[test]
    fn other_settings_go_by_their_keys_and_what_the_image_gives_is_no_difference() {
        let keys = |file: &str, replica: &Replica| {
            let mut lines = lines(file, replica, &container());
            lines.retain(|line| line.contains(" config "));
            lines
        };
        let file = FILE
            .replace("[serve]", "[serve, more]")
            .replace("interval: 5s", "interval: 6s")
            .replace("{default: null}", "{default: null, back: null}")
            + "    container_name: one\n    user: app\n";
        let all = [
            "command",
            "user",
            "healthcheck",
            "networks",
            "container_name",
        ];
        let all = all.map(|key| format!("~ config {key}"));
        assert_eq!(keys(&file, &replica()), all);
        let inherits = FILE.replace("    command: [serve]\n", "");
        assert_eq!(keys(&inherits, &replica()), ["~ config command"]);
        let second = Replica {
            name: "shop-web-2".to_owned(),
            ..replica()
        };
        assert_eq!(keys(FILE, &second), [""; 0]);
    }

    #[test]
    fn as_it_ran_is_the_file_with_the_image_the_variables_and_the_labels_of_what_runs() {
        let project = compose::resolved(FILE).unwrap();
        let raw = &project.raw["services"]["web"];
        let (replica, container, image) = (replica(), container(), image());
        let running = Running {
            replica: &replica,
            container: &container,
            image: &image,
        };
        let described = Described {
            service: project.service("web").unwrap(),
            raw,
            networks: &BTreeSet::new(),
            names: Vec::new(),
        };
        let ran = as_it_ran(&running, raw, &changes(&running, &described));
        assert_eq!(ran["image"], "app:v1");
        assert_eq!(
            ran["environment"],
            json!({"PASSWORD": "old", "SAME": "1", "GONE": "1", "PATH": "/bin"})
        );
        assert_eq!(
            ran["labels"],
            json!({"tier": "silver", "same": "yes", "gone": "1", "middlewares.basicauth.users": "a:1"})
        );
        assert_eq!(ran["command"], raw["command"]);
    }
}
