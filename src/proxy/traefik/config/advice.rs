//! What a stack needs so that its traffic can be moved by the socket proxy, in words: the one place that has them.

pub mod edits;

use serde_json::Value;

use super::static_config::{Source, StaticConfig};
use crate::compose::{edits::Edit, layout};

/// The image that `rollout image` builds.
pub const IMAGE: &str = "rollout:latest";
/// The option that gives Traefik a directory for pin files.
pub const PIN: &str = "providers.file.directory=/etc/traefik/dynamic";
/// What the service is called.
pub const SERVICE: &str = "socket-proxy";
/// The network that it shares with Traefik alone.
pub const NETWORK: &str = "docker-api";
/// The engine's socket, in the socket proxy's container.
pub const SOCKET: &str = "/var/run/docker.sock";
/// What limits readers to the containers that enable Traefik.
pub const ONLY_ENABLED: &str = "--only=traefik.enable=true";
/// What makes it answer Traefik's Swarm provider.
pub const SWARM: &str = "--swarm";
/// Where the overlay is kept.
pub const STATE: &str = "/var/lib/rollout";
/// The option by which Traefik can be asked; its port is not to be published.
pub const API: &str = "api.insecure=true";

/// Where Traefik reads, once the service is there.
pub fn address(service: &str) -> String {
    format!("tcp://{service}:2375")
}

/// Traefik's line, read by all but old releases.
pub fn docker_host() -> String {
    format!("DOCKER_HOST: {}", address(SERVICE))
}

/// Traefik's option, for those old ones.
pub fn endpoint(service: &str) -> String {
    format!("providers.docker.endpoint={}", address(service))
}

/// A Traefik that is to read through the socket proxy, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Its service in the Compose file.
    pub service: &'a str,
    /// How it is configured, where that is known.
    pub config: Option<&'a StaticConfig>,
    pub reads_docker_host: bool,
    pub namespace: Namespace<'a>,
    /// The folder of its project, where that is another one.
    pub folder: Option<&'a str>,
}

/// Whose network namespace a Traefik is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace<'a> {
    Own,
    Host,
    /// That of another service of its project.
    Service(&'a str),
    /// That of another container.
    Container(&'a str),
}

impl Default for Reader<'_> {
    /// A Traefik of which nothing is known: a new one, whose options are in its command.
    fn default() -> Self {
        Self {
            service: "traefik",
            config: None,
            reads_docker_host: true,
            namespace: Namespace::Own,
            folder: None,
        }
    }
}

impl Reader<'_> {
    fn source(&self) -> &Source {
        self.config
            .map_or(&Source::Command, |config| &config.source)
    }

    /// The service whose network namespace Traefik is in.
    fn holder(&self) -> Option<&str> {
        match self.namespace {
            Namespace::Service(name) => Some(name),
            _ => None,
        }
    }

    /// Whether its Swarm provider goes on reading at an address of its own: an old release ignores `DOCKER_HOST`.
    pub fn reads_swarm_elsewhere(&self) -> bool {
        !self.reads_docker_host && self.config.is_some_and(|config| config.swarm.is_some())
    }

    /// The endpoint that an old release is given already; given twice, an option is an error.
    fn other_endpoint(&self) -> Option<&str> {
        let docker = self.config?.docker.as_ref()?;
        let given = !self.reads_docker_host && !docker.endpoint.starts_with("unix://");
        given.then_some(docker.endpoint.as_str())
    }
}

impl<'a> Namespace<'a> {
    /// What `network_mode` in a Compose file says.
    pub fn of_mode(mode: Option<&'a str>) -> Self {
        let mode = mode.unwrap_or_default();
        match (mode.split_once(':'), mode) {
            (Some(("service", name)), _) => Self::Service(name),
            (Some(("container", name)), _) => Self::Container(name),
            (_, "host") => Self::Host,
            _ => Self::Own,
        }
    }
}

/// The socket proxy's command. It shows a Traefik that takes only containers with `traefik.enable=true` no others: it
/// reads less at each change, and learns nothing of them.
pub fn command(config: Option<&StaticConfig>) -> Vec<String> {
    let only = config.is_some_and(StaticConfig::takes_only_enabled);
    let swarm = config.is_some_and(|config| config.swarm.is_some());
    let flags = [(only, ONLY_ENABLED), (swarm, SWARM)];
    let flags = flags
        .into_iter()
        .filter_map(|(is, flag)| is.then_some(flag));
    [SERVICE]
        .into_iter()
        .chain(flags)
        .map(str::to_owned)
        .collect()
}

/// What to add to a stack so that its Traefik reads through the socket proxy: the whole of it, as YAML. It is the one
/// answer of a refusal, of doctor, and of `rollout init` where that cannot edit the file.
pub fn how_to_add(image: &str, reader: &Reader<'_>) -> String {
    let place = match reader.folder {
        Some(folder) => format!("in {folder}, the folder of Traefik's project, add this"),
        None => "add this to the stack".to_owned(),
    };
    whole(
        image,
        reader,
        &format!("{place}, or let rollout init --write do it"),
    )
}

/// The same, for a file that `rollout init` cannot edit: ` to FILE`, where it is not the one that was named.
pub fn by_hand(image: &str, reader: &Reader<'_>, to: &str) -> String {
    whole(image, reader, &format!("add this by hand{to}"))
}

fn whole(image: &str, reader: &Reader<'_>, add: &str) -> String {
    if reader.reads_swarm_elsewhere() {
        return swarm(reader.source());
    }
    let host = match reader.namespace {
        Namespace::Host => in_host_network(reader),
        _ => String::new(),
    };
    let (lines, in_file) = lines(image, reader);
    format!(
        "{host}{add}; take the engine's socket out of Traefik's volumes, then run docker compose up -d:\n{lines}{in_file}"
    )
}

/// The lines of YAML, indented as part of a hint, and in words what no edit of the Compose file can do.
fn lines(image: &str, reader: &Reader<'_>) -> (String, String) {
    let name = reader.service;
    let (edits, words) = edits_of(reader);
    let mut file = Value::Null;
    for edit in edits {
        // Every edit fits into an empty file.
        let _ = edit.make(&mut file);
    }
    let services = [
        (name, "do not publish the port of its API"),
        (
            reader.holder().unwrap_or_default(),
            "Traefik is in its network namespace",
        ),
    ];
    let mut text = "services:\n".to_owned();
    for (name, why) in services {
        let Some(keys) = file["services"][name].as_object() else {
            continue;
        };
        text += &format!("  {name}: # beside what is there; {why}\n");
        let keys = layout::entries(keys).into_iter();
        text.extend(keys.map(|(key, value)| format!("    {key}: {}\n", layout::flow(value))));
    }
    let proxy = edits::SocketProxy {
        service: SERVICE,
        network: NETWORK,
        volume: SERVICE,
        image,
        command: &command(reader.config),
        socket: SOCKET,
    };
    let service = layout::lines(SERVICE, &proxy.service(), 2);
    text.extend(service.iter().map(|line| format!("  {line}\n")));
    text += &format!("networks: {{ {NETWORK}: {{ internal: true }} }}\nvolumes: {{ {SERVICE}: }}");
    let lines = text.lines().map(|line| format!("      {line}"));
    let words = words.iter().map(|own| format!("\n      and {own}"));
    (lines.collect::<Vec<_>>().join("\n"), words.collect())
}

/// The edits of Traefik's service and of the one that has its networks, and in words what no edit can do.
fn edits_of(reader: &Reader<'_>) -> (Vec<Edit>, Vec<String>) {
    let name = reader.service;
    let (mut edits, mut words) = (Vec::new(), Vec::new());
    let is_off = reader.config.is_none_or(|config| config.api.is_none());
    let mut options: Vec<String> = is_off.then(|| API.to_owned()).into_iter().collect();
    match (reader.reads_docker_host, reader.other_endpoint()) {
        (true, _) => edits.push(edits::reads(name, SERVICE)),
        (false, Some(other)) => {
            words.push(format!("put {} in the place of {other}", address(SERVICE)));
        }
        (false, None) => options.insert(0, endpoint(SERVICE)),
    }
    for option in &options {
        match edits::option(name, reader.source(), option) {
            Ok(edit) => edits.push(edit),
            Err(what) => words.push(what),
        }
    }
    match reader.namespace {
        Namespace::Container(name) => words.push(format!(
            "put {name}, whose network namespace Traefik is in, into the network {NETWORK}"
        )),
        _ => {
            let holder = reader.holder().unwrap_or(name);
            edits.push(edits::joins(holder, &Value::Null, NETWORK));
        }
    }
    edits.push(edits::waits(name, SERVICE));
    (edits, words)
}

/// For an old release with two providers, of which each has an endpoint of its own.
fn swarm(source: &Source) -> String {
    format!(
        "Traefik's Swarm provider is on, and only from 3.6.1 and 2.11.31 on do both providers read through the socket proxy: \
         update Traefik, or let it read the engine as it does and a pin file move the traffic: {}, mount a directory there, \
         and roll with --switch pin",
        source.how_to_add(PIN)
    )
}

/// The socket proxy is never published, so nothing in the host's network can read through it.
fn in_host_network(reader: &Reader<'_>) -> String {
    format!(
        "give {} networks and published ports of its own in place of network_mode: host, or let a pin file move the traffic \
         ({}); for the former, ",
        reader.service,
        reader.source().how_to_add(PIN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proxy::traefik::config::{Given, read},
        yaml,
    };

    /// What is added, read back as YAML.
    fn added(reader: &Reader<'_>) -> serde_json::Value {
        let text = how_to_add(IMAGE, reader);
        let yaml = text.split_once(":\n").unwrap().1;
        let yaml = yaml.split("\n      and ").next().unwrap();
        yaml::parse(yaml).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn readme_and_examples_show_the_same_socket_proxy_as_is_added() {
        let arguments = ["--providers.docker.exposedbydefault=false".to_owned()];
        let config = read(Given {
            arguments: &arguments,
            environment: &[],
            file: None,
        });
        let config = config.unwrap();
        let reader = Reader {
            config: Some(&config),
            ..Reader::default()
        };
        let service = added(&reader)["services"][SERVICE].clone();
        assert_eq!(service["command"][1], ONLY_ENABLED);
        let readme = include_str!("../../../../README.md");
        let readme = readme.split("```yaml\n").nth(1).unwrap();
        let readme = readme.split("```").next().unwrap();
        for text in [
            readme,
            include_str!("../../../../compose-examples/quickstart/compose.yaml"),
            include_str!("../../../../compose-examples/several-services/compose.yaml"),
            include_str!("../../../../compose-examples/tcp/compose.yaml"),
            include_str!("../../../../compose-examples/tls/compose.yaml"),
        ] {
            let stack = yaml::parse(text).unwrap();
            assert_eq!(stack["services"][SERVICE], service, "{text}");
        }
    }

    #[test]
    fn what_is_added_is_written_where_traefik_reads_it() {
        let reader = |arguments: &[&str], environment: &[&str], file, reads| {
            let own = |all: &[&str]| all.iter().map(|own| (*own).to_owned()).collect();
            let (arguments, environment): (Vec<String>, Vec<String>) =
                (own(arguments), own(environment));
            let given = Given {
                arguments: &arguments,
                environment: &environment,
                file,
            };
            let config = read(given).unwrap();
            let reader = Reader {
                config: Some(&config),
                reads_docker_host: reads,
                ..Reader::default()
            };
            let traefik = added(&reader)["services"]["traefik"].clone();
            (traefik, how_to_add(IMAGE, &reader))
        };
        let (new, _) = reader(&["--providers.docker"], &[], None, true);
        assert_eq!(new["environment"]["DOCKER_HOST"], address(SERVICE));
        assert_eq!(new["command"][0], "--api.insecure=true");
        let (old, _) = reader(&["--providers.docker"], &[], None, false);
        assert_eq!(old["environment"], serde_json::Value::Null);
        let option = "--providers.docker.endpoint=tcp://socket-proxy:2375";
        assert_eq!(old["command"][0], option);
        let (variables, _) = reader(&[], &["TRAEFIK_PROVIDERS_DOCKER=true"], None, true);
        assert_eq!(variables["environment"]["TRAEFIK_API_INSECURE"], "true");
        let file = Some(("/etc/traefik/traefik.yml", "providers: {docker: {}}"));
        let (file, text) = reader(&[], &[], file, true);
        assert_eq!(file["command"], serde_json::Value::Null);
        let add = "add api: { insecure: true } to Traefik's /etc/traefik/traefik.yml";
        assert!(text.contains(add), "{text}");
    }

    #[test]
    fn another_projects_traefik_is_named_by_its_folder() {
        let reader = Reader {
            folder: Some("/srv/proxy"),
            ..Reader::default()
        };
        let text = how_to_add(IMAGE, &reader);
        assert!(text.starts_with("in /srv/proxy, the folder of"), "{text}");
    }
}
