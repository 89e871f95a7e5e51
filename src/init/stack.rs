//! What a Compose file says about its Traefik, and about a socket proxy that it has already. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    compose::{
        edits::plain,
        mounts::{Mount, mounts},
    },
    error::{Error, Result},
    model::name_and_tag,
    proxy::traefik::config::{
        self, Given, StaticConfig, Version, advice, candidates, tagged_version,
    },
};

pub type Services = Map<String, Value>;

/// Finds Traefik: the named service, else the one whose image is called so.
///
/// `images` are those that Compose has resolved, by service.
pub fn traefik(
    services: &Services,
    named: Option<&str>,
    images: &BTreeMap<String, String>,
) -> Result<Option<String>> {
    if let Some(name) = named {
        return Ok(services.contains_key(name).then(|| name.to_owned()));
    }
    let called = |matches: &dyn Fn(&str) -> bool| -> Vec<&String> {
        let all = services.keys();
        let is = |name: &&String| matches(name_and_tag(&image(services, name, images)).0);
        all.filter(is).collect()
    };
    let mut found = called(&|name| name == "traefik");
    if found.is_empty() {
        found = called(&|name| name.starts_with("traefik"));
    }
    match found[..] {
        [one] => Ok(Some(one.clone())),
        [] => Ok(None),
        _ => Err(Error::refused(format!(
            "several services have an image called traefik: {}",
            names(found.into_iter())
        ))
        .hint("name one with --traefik SERVICE")),
    }
}

/// The error for a file without a Traefik.
pub fn missing(services: &Services, named: Option<&str>) -> Error {
    match named {
        Some(name) => Error::refused(format!("no service {name} in the file"))
            .hint(format!("there are {}", names(services.keys()))),
        None => Error::refused("no service of the file has an image called traefik")
            .hint("name it with --traefik SERVICE, or the file with -f FILE"),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The service's image. Without Compose, variables have their defaults.
fn image(services: &Services, name: &str, images: &BTreeMap<String, String>) -> String {
    let written = services[name]["image"].as_str().map(with_defaults);
    images.get(name).cloned().or(written).unwrap_or_default()
}

/// `${NAME:-default}` becomes `default`, `${NAME}` nothing.
fn with_defaults(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, variable)) = rest.split_once("${") {
        done.push_str(before);
        let (variable, after) = variable.split_once('}').unwrap_or((variable, ""));
        done.push_str(variable.split_once('-').map_or("", |(_, default)| default));
        rest = after;
    }
    done + rest
}

/// Whether the release reads `DOCKER_HOST`; an unknown one counts as new.
pub fn reads_docker_host(
    services: &Services,
    name: &str,
    images: &BTreeMap<String, String>,
) -> bool {
    let image = image(services, name, images);
    tagged_version(&image).is_none_or(Version::reads_docker_host)
}

pub fn reader<'a>(
    services: &'a Services,
    name: &'a str,
    images: &BTreeMap<String, String>,
    config: Option<&'a StaticConfig>,
) -> advice::Reader<'a> {
    advice::Reader {
        service: name,
        config,
        reads_docker_host: reads_docker_host(services, name, images),
        namespace: advice::Namespace::of_mode(services[name]["network_mode"].as_str()),
        folder: None,
    }
}

/// The service that is rollout's socket proxy on its usual port, by its command.
pub fn ours(services: &Services) -> Option<&str> {
    let is = |service: &Value| {
        let words = words(&service["command"]);
        let elsewhere = words.iter().any(|word| word.starts_with("--listen"));
        words.first().is_some_and(|own| own == advice::SERVICE) && !elsewhere
    };
    let mut all = services.iter();
    all.find(|(_, service)| is(service))
        .map(|(name, _)| name.as_str())
}

/// A command as its words; quotes within a word have no meaning here.
pub fn words(command: &Value) -> Vec<String> {
    match command {
        Value::String(line) => line
            .split_whitespace()
            .map(|word| word.trim_matches(['"', '\'']).to_owned())
            .collect(),
        Value::Array(words) => words.iter().map(plain).collect(),
        _ => Vec::new(),
    }
}

/// The environment, in whichever form, as `KEY=value`.
pub fn environment(service: &Value) -> Vec<String> {
    match &service["environment"] {
        Value::Array(all) => all.iter().map(plain).collect(),
        Value::Object(all) => all
            .iter()
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The names in a list or a mapping.
pub fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().map(plain).collect(),
        Value::Object(all) => all.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Traefik's static configuration; `None` if it cannot be read from here. `read` reads a file of the host.
pub fn config(service: &Value, read: &dyn Fn(&str) -> Option<String>) -> Option<StaticConfig> {
    let command: Vec<String> = [words(&service["entrypoint"]), words(&service["command"])].concat();
    let arguments = config::arguments(&command);
    let environment = environment(service);
    let given = Given {
        arguments: &arguments,
        environment: &environment,
        file: None,
    };
    let mounts = mounts(service);
    for path in candidates(given, "") {
        let Some(host) = mounts.iter().find_map(|mount| on_host(mount, &path)) else {
            continue;
        };
        if let Some(text) = read(&host) {
            let file = Some((path.as_str(), text.as_str()));
            return config::read(Given { file, ..given }).ok();
        }
    }
    let named = !service["configs"].is_null() || arguments.iter().any(|own| is_config_file(own));
    let config = config::read(given).ok()?;
    let known = config.docker.is_some() || config.swarm.is_some() || config.api.is_some();
    (!named && known).then_some(config)
}

fn is_config_file(argument: &str) -> bool {
    let name = argument.trim_start_matches('-').to_lowercase();
    name.starts_with("configfile")
}

/// The file of the host that is mounted at a path of the container, or in a directory above it.
fn on_host(mount: &Mount, path: &str) -> Option<String> {
    let rest = path.strip_prefix(mount.target.trim_end_matches('/'))?;
    let whole = rest.is_empty() || rest.starts_with('/');
    (whole && mount.source.starts_with(['.', '/', '~'])).then(|| format!("{}{rest}", mount.source))
}

/// Whether one of the container's ports is published on the host.
pub fn publishes(service: &Value, port: u16) -> bool {
    let all = service["ports"].as_array().into_iter().flatten();
    let target = |value: &Value| match value {
        Value::Object(_) => plain(&value["target"]),
        short => plain(short),
    };
    all.map(target).any(|text| {
        let text = with_defaults(&text);
        let text = text.split('/').next().unwrap_or_default();
        let target = text.rsplit(':').next().unwrap_or_default();
        let (from, to) = target.split_once('-').unwrap_or((target, target));
        match (from.parse::<u16>(), to.parse::<u16>()) {
            (Ok(from), Ok(to)) => (from..=to).contains(&port),
            // A port that cannot be parsed may be this one.
            _ => true,
        }
    })
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
