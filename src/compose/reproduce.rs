//! Writes a Compose file that recreates an inspected container, where no recorded file exists. Pure.

use serde_json::{Map, Value, json};

use super::project::{escape, remove_addresses};
use crate::yaml;

mod host;
#[cfg(test)]
mod tests;

pub struct Original<'a> {
    pub project: &'a str,
    pub service: &'a str,
    /// The whole inspect answer.
    pub container: &'a Value,
    /// `Config` of its image, which a new container inherits.
    pub image: &'a Value,
    /// The service in the current Compose file, for settings that an inspect does not show.
    pub settings: &'a Value,
}

#[derive(Debug, PartialEq)]
pub struct Reproduced {
    /// A complete Compose file.
    pub config: String,
    /// Options of the engine's API that a Compose file cannot set.
    pub lost: Vec<String>,
}

/// Keys that only Compose or a rollout uses, so that an inspect does not show them.
const SETTINGS: [&str; 3] = ["x-rollout", "pre_stop", "post_start"];

/// Labels of Compose and of rollouts, which differ in each container.
pub const OURS: [&str; 3] = ["com.docker.compose.", "io.rollout.", "desktop.docker.io/"];

/// A Compose project whose one service is the container.
pub fn reproduce(original: &Original<'_>) -> Reproduced {
    let mut made = Made::default();
    made.config(original);
    made.volumes_of_its_own(original);
    made.host(&original.container["HostConfig"]);
    made.networks(original);
    for key in SETTINGS {
        made.put(key, original.settings[key].clone());
    }
    remove_addresses(&mut made.service);
    let mut config = json!({
        "name": original.project,
        "services": {original.service: made.service},
        "networks": made.networks,
        "volumes": made.volumes,
    });
    escape(&mut config);
    Reproduced {
        // Plain values always serialize.
        config: yaml::write(&config).unwrap_or_default(),
        lost: made.lost,
    }
}

#[derive(Default)]
struct Made {
    service: Map<String, Value>,
    networks: Map<String, Value>,
    volumes: Map<String, Value>,
    lost: Vec<String>,
}

impl Made {
    fn put(&mut self, key: &str, value: Value) {
        if !is_nothing(&value) {
            self.service.insert(key.to_owned(), value);
        }
    }

    /// The parts of `Config` that differ from the image's.
    fn config(&mut self, original: &Original<'_>) {
        let (own, image) = (&original.container["Config"], original.image);
        self.put("image", own["Image"].clone());
        self.command(own, image);
        let given = items(&image["Env"]);
        let environment = items(&own["Env"]).into_iter();
        let environment = environment.filter(|entry| !given.contains(entry));
        self.put("environment", environment.collect());
        for (theirs, ours) in [
            ("User", "user"),
            ("WorkingDir", "working_dir"),
            ("StopSignal", "stop_signal"),
        ] {
            if own[theirs] != image[theirs] {
                self.put(ours, own[theirs].clone());
            }
        }
        self.put("labels", labels(own, image));
        self.put("tty", own["Tty"].clone());
        self.put("stdin_open", own["OpenStdin"].clone());
        self.put("domainname", own["Domainname"].clone());
        self.put("mac_address", own["MacAddress"].clone());
        let id = original.container["Id"].as_str().unwrap_or_default();
        let hostname = own["Hostname"].as_str().unwrap_or_default();
        if !id.starts_with(hostname) && !joins(mode(original)) {
            self.put("hostname", json!(hostname));
        }
        if let Some(seconds) = own["StopTimeout"].as_u64() {
            self.put("stop_grace_period", json!(format!("{seconds}s")));
        }
        if own["Healthcheck"] != image["Healthcheck"] {
            self.put("healthcheck", healthcheck(&own["Healthcheck"]));
        }
        let exposed = keys(&own["ExposedPorts"]);
        let by_image = keys(&image["ExposedPorts"]);
        let exposed = exposed.filter(|port| !by_image.clone().any(|own| own == *port));
        self.put("expose", exposed.map(|port| json!(port)).collect());
        self.container_name(original);
    }

    /// With its own entrypoint, a container does not inherit the image's command.
    fn command(&mut self, own: &Value, image: &Value) {
        let differs = |key: &str| items(&own[key]) != items(&image[key]);
        let entrypoint = differs("Entrypoint");
        if entrypoint {
            let value = json!(items(&own["Entrypoint"]));
            self.service.insert("entrypoint".to_owned(), value);
        }
        if entrypoint || differs("Cmd") {
            let value = json!(items(&own["Cmd"]));
            self.service.insert("command".to_owned(), value);
        }
    }

    /// Set where the name does not consist of project, service and number.
    fn container_name(&mut self, original: &Original<'_>) {
        let name = original.container["Name"].as_str().unwrap_or_default();
        let name = name.trim_start_matches('/');
        let numbered = ["-", "_"].iter().any(|between| {
            let begins = format!("{}{between}{}{between}", original.project, original.service);
            let number = name.strip_prefix(&begins);
            number.is_some_and(|rest| rest.starts_with(|own: char| own.is_ascii_digit()))
        });
        if !numbered {
            self.put("container_name", json!(name));
        }
    }

    /// Anonymous volumes that the image does not declare.
    fn volumes_of_its_own(&mut self, original: &Original<'_>) {
        let by_image: Vec<&String> = keys(&original.image["Volumes"]).collect();
        let own = keys(&original.container["Config"]["Volumes"]);
        let own = own.filter(|target| !by_image.contains(target));
        let volumes: Vec<Value> = own
            .map(|target| json!({"type": "volume", "target": target}))
            .collect();
        self.put("volumes", json!(volumes));
    }

    fn networks(&mut self, original: &Original<'_>) {
        let mode = mode(original);
        if joins(mode) || mode == "none" || mode == "bridge" {
            return self.put("network_mode", json!(mode));
        }
        let known = [
            original.service,
            original.container["Name"].as_str().unwrap_or_default(),
        ];
        let known = known.map(|name| name.trim_start_matches('/'));
        let id = original.container["Id"].as_str().unwrap_or_default();
        let endpoints = entries(&original.container["NetworkSettings"]["Networks"]);
        let several = endpoints.clone().count() > 1;
        let mut own = Map::new();
        for (name, endpoint) in endpoints {
            let mut settings = self.endpoint(name, endpoint);
            let aliases = items(&endpoint["Aliases"]).into_iter().filter(|alias| {
                let alias = alias.as_str().unwrap_or_default();
                // The temporary name during its rollout.
                let before = alias.split_once('.').map_or(alias, |(name, _)| name);
                !known.contains(&alias) && !known.contains(&before) && !id.starts_with(alias)
            });
            let aliases: Vec<Value> = aliases.collect();
            if !aliases.is_empty() {
                settings.insert("aliases".to_owned(), json!(aliases));
            }
            // The default route uses the network that is named as the mode.
            if several && name == mode {
                settings.insert("priority".to_owned(), json!(1));
            }
            own.insert(name.clone(), Value::Object(settings));
            self.networks
                .insert(name.clone(), json!({"name": name, "external": true}));
        }
        self.put("networks", Value::Object(own));
    }

    fn endpoint(&mut self, name: &str, endpoint: &Value) -> Map<String, Value> {
        let mut settings = Map::new();
        let asked = &endpoint["IPAMConfig"];
        for (theirs, ours) in [
            ("IPv4Address", "ipv4_address"),
            ("IPv6Address", "ipv6_address"),
            ("LinkLocalIPs", "link_local_ips"),
        ] {
            if !is_nothing(&asked[theirs]) {
                settings.insert(ours.to_owned(), asked[theirs].clone());
            }
        }
        for key in ["Links", "DriverOpts"] {
            if !is_nothing(&endpoint[key]) {
                self.lost.push(format!("{key} of network {name}"));
            }
        }
        settings
    }
}

/// `HostConfig.NetworkMode`: the first network, or a mode such as `host`.
fn mode<'a>(original: &Original<'a>) -> &'a str {
    let host = &original.container["HostConfig"];
    match host["NetworkMode"].as_str() {
        None | Some("default") => "bridge",
        Some(mode) => mode,
    }
}

fn joins(mode: &str) -> bool {
    mode == "host" || mode.starts_with("container:")
}

fn labels(own: &Value, image: &Value) -> Value {
    let given = &image["Labels"];
    let ours = |key: &str| OURS.iter().any(|start| key.starts_with(start));
    let labels = entries(&own["Labels"])
        .filter(|(key, value)| !ours(key) && given[key.as_str()] != **value)
        .map(|(key, value)| (key.clone(), value.clone()));
    Value::Object(labels.collect())
}

fn healthcheck(check: &Value) -> Value {
    let test = items(&check["Test"]);
    if test.first().is_none_or(|first| first == "NONE") {
        return json!({"disable": true});
    }
    let mut made = Map::from_iter([("test".to_owned(), json!(test))]);
    for (theirs, ours) in [
        ("Interval", "interval"),
        ("Timeout", "timeout"),
        ("StartPeriod", "start_period"),
        ("StartInterval", "start_interval"),
    ] {
        if let Some(nanos) = check[theirs].as_u64().filter(|nanos| *nanos > 0) {
            made.insert(ours.to_owned(), json!(duration(nanos)));
        }
    }
    if let Some(retries) = check["Retries"].as_u64().filter(|count| *count > 0) {
        made.insert("retries".to_owned(), json!(retries));
    }
    Value::Object(made)
}

fn duration(nanos: u64) -> String {
    match nanos % 1_000_000 {
        0 => format!("{}ms", nanos / 1_000_000),
        _ => format!("{nanos}ns"),
    }
}

/// The engine's values for options that were not set.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> + Clone {
    value.as_object().into_iter().flatten()
}

fn keys(value: &Value) -> impl Iterator<Item = &String> + Clone {
    entries(value).map(|(key, _)| key)
}
