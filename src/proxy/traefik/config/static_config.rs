//! What Traefik's static configuration says of its providers, entrypoints and API. Pure.
//!
//! Traefik reads exactly one source: a configuration file where there is one, else its arguments where it has any, else
//! its `TRAEFIK_…` variables (traefik, `cmd/traefik/traefik.go` and `pkg/cli`).

use std::{collections::BTreeMap, fmt, time::Duration};

use super::tree::{Node, Tree};

/// What Traefik does without a `providersThrottleDuration` (`pkg/config/static`).
pub const THROTTLE: Duration = Duration::from_secs(2);
/// How often the Swarm provider reads without a `refreshSeconds` (`pkg/provider/docker`).
pub const REFRESH: Duration = Duration::from_secs(15);
/// The entrypoint that the insecure API is on, and its address unless it is given one.
const INTERNAL: (&str, &str) = ("traefik", ":8080");

/// Where a static configuration really comes from: where to add something to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A file in Traefik's container, by its path there.
    File(String),
    /// The arguments of its command.
    #[default]
    Command,
    Environment,
}

/// An option as it is written where a static configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// An argument of Traefik's command.
    Argument(String),
    /// A variable of its environment, and the value.
    Variable(String, String),
    /// Something in its configuration file: what to add, in words.
    InFile(String),
}

/// What a container gives its Traefik to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The arguments of the program, without `traefik` itself.
    pub arguments: &'a [String],
    /// `KEY=value` each.
    pub environment: &'a [String],
    /// The path and the text of its configuration file, where it has one.
    pub file: Option<(&'a str, &'a str)>,
}

/// The part of a static configuration that a rollout depends on, with Traefik's defaults in place.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticConfig {
    pub source: Source,
    /// The Docker provider, where it is on.
    pub docker: Option<Docker>,
    /// Where the Swarm provider reads, where it is on; `DOCKER_HOST` wins over it as over Docker's own endpoint.
    pub swarm: Option<String>,
    /// How often the Swarm provider reads.
    pub swarm_refresh: Duration,
    /// The file provider, where it is on.
    pub file: Option<FileProvider>,
    /// Every entrypoint, by its name.
    pub entrypoints: BTreeMap<String, Entrypoint>,
    /// The API, where it is on.
    pub api: Option<ApiConfig>,
    /// The shortest time between two changes of one provider.
    pub throttle: Duration,
    /// Whether the certificates of servers are verified, where a service names no transport.
    pub verifies_servers: bool,
}

/// `providers.docker` (`pkg/provider/docker`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// `unix:///…` or `tcp://…`; `DOCKER_HOST` in Traefik's environment wins over it.
    pub endpoint: String,
    /// Whether a container needs no `traefik.enable=true`.
    pub exposed_by_default: bool,
    /// The rule of a router without one, a Go template.
    pub default_rule: Option<String>,
    /// What a container's labels must match, in Traefik's own language.
    pub constraints: Option<String>,
    /// The network whose address it takes, where a container is in several.
    pub network: Option<String>,
    /// Whether servers are the published ports.
    pub use_bind_port_ip: bool,
    /// Whether it hears of changes at all.
    pub watch: bool,
}

/// `providers.file` (`pkg/provider/file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProvider {
    pub place: FilePlace,
    pub watch: bool,
}

/// What the file provider reads, by a path in Traefik's container; a directory wins over a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilePlace {
    /// Every `.toml`, `.yaml` and `.yml` in it.
    Directory(String),
    Filename(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entrypoint {
    pub port: u16,
    pub udp: bool,
    /// Whether it is one of those that a router without `entryPoints` is on.
    pub as_default: bool,
    /// Whether every HTTP router on it speaks TLS.
    pub tls: bool,
}

/// `api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Whether it answers on the entrypoint `traefik` without a router.
    pub insecure: bool,
    /// What its paths begin with, without a slash at the end; empty mostly.
    pub base_path: String,
}

/// Where Traefik looks for a configuration file, in its order (`pkg/cli/loader_file.go`, paerser `cli/file_finder.go`).
pub fn candidates(given: Given<'_>, working_dir: &str) -> Vec<String> {
    let named = Tree::of_arguments(given.arguments)
        .at("configfile")
        .and_then(Node::text);
    let variable = |name: &str| {
        let mut all = given.environment.iter();
        all.find_map(|own| own.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    let working_dir = working_dir.trim_end_matches('/');
    let bases = [
        Some("/etc/traefik/traefik".to_owned()),
        variable("XDG_CONFIG_HOME").map(|home| format!("{home}/traefik")),
        variable("HOME").map(|home| format!("{home}/.config/traefik")),
        Some(format!("{working_dir}/traefik")),
    ];
    let found = bases
        .into_iter()
        .flatten()
        .flat_map(|base| ["toml", "yaml", "yml"].map(|extension| format!("{base}.{extension}")));
    let absolute = |path: String| match path.starts_with('/') {
        true => path,
        false => format!("{working_dir}/{}", path.trim_start_matches("./")),
    };
    named.into_iter().map(absolute).chain(found).collect()
}

/// The arguments of `traefik` in a whole command line: after the program and its entrypoint script, if there is one.
pub fn arguments(command: &[String]) -> Vec<String> {
    let program = |word: &String| word.rsplit('/').next() == Some("traefik");
    // `sh -c "traefik --a=b"`: what the shell itself would make of it is not known.
    let unfolded: Vec<String> = match command {
        [shell, flag, line, ..]
            if shell.ends_with("sh") && flag.starts_with('-') && flag.ends_with('c') =>
        {
            let words = line.split_whitespace();
            words
                .map(|word| word.trim_matches(['"', '\'']).to_owned())
                .collect()
        }
        command => command.to_vec(),
    };
    let first = match unfolded.iter().position(program) {
        Some(index) => index + 1,
        None => unfolded
            .iter()
            .position(|word| word.starts_with('-'))
            .unwrap_or(unfolded.len()),
    };
    unfolded.get(first..).unwrap_or_default().to_vec()
}

#[cfg(test)]
impl StaticConfig {
    /// From the arguments in one line.
    pub fn of_arguments(line: &str) -> Self {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let given = Given {
            arguments: &arguments,
            ..Given::default()
        };
        read(given).unwrap()
    }
}

/// Reads what a container gives; an error, one line, where the file cannot be read as what its name says.
pub fn read(given: Given<'_>) -> Result<StaticConfig, String> {
    let (source, tree) = match given.file {
        Some((path, text)) => {
            let tree = Tree::of_file(path, text).map_err(|error| format!("{path}: {error}"))?;
            (Source::File(path.to_owned()), tree)
        }
        None if !given.arguments.is_empty() => {
            (Source::Command, Tree::of_arguments(given.arguments))
        }
        None => {
            let tree = Tree::of_environment(given.environment);
            // Without any source, the command is where people add one.
            let source = if tree.is_empty() {
                Source::Command
            } else {
                Source::Environment
            };
            (source, tree)
        }
    };
    let on = |path: &str| tree.at(path).filter(|node| node.is_on());
    let api = on("api").map(ApiConfig::read);
    let mut config = StaticConfig {
        source,
        docker: on("providers.docker").map(Docker::read),
        swarm: on("providers.swarm")
            .or_else(|| on("providers.docker").filter(|docker| is_set(*docker, "swarmMode")))
            .map(endpoint),
        swarm_refresh: tree
            .at("providers.swarm.refreshSeconds")
            .and_then(Node::duration)
            .unwrap_or(REFRESH),
        file: on("providers.file").and_then(FileProvider::read),
        entrypoints: entrypoints(&tree),
        api,
        throttle: tree
            .at("providers.providersThrottleDuration")
            .and_then(Node::duration)
            .unwrap_or(THROTTLE),
        verifies_servers: !tree
            .at("serversTransport")
            .is_some_and(|transport| is_set(transport, "insecureSkipVerify")),
    };
    config.add_internal_entrypoint();
    Ok(config)
}

impl Default for StaticConfig {
    /// A Traefik without any option, before it makes up its entrypoint.
    fn default() -> Self {
        Self {
            source: Source::default(),
            docker: None,
            swarm: None,
            swarm_refresh: REFRESH,
            file: None,
            entrypoints: BTreeMap::new(),
            api: None,
            throttle: THROTTLE,
            verifies_servers: true,
        }
    }
}

impl StaticConfig {
    /// The port of the API without a router, where it has one.
    pub fn insecure_port(&self) -> Option<u16> {
        let insecure = self.api.as_ref().is_some_and(|api| api.insecure);
        let entrypoint = self.entrypoints.get(INTERNAL.0)?;
        insecure.then_some(entrypoint.port)
    }

    /// The entrypoints of a router that names none (`pkg/server/aggregator.go`, `pkg/config/static`).
    pub fn default_entrypoints(&self) -> Vec<&str> {
        let marked = self.entrypoints.values().any(|own| own.as_default);
        let is = |name: &str, own: &Entrypoint| match marked {
            true => own.as_default,
            false => !own.udp && name != INTERNAL.0,
        };
        let all = self.entrypoints.iter();
        all.filter(|(name, own)| is(name, own))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Whether each of these entrypoints speaks TLS by itself; of the default ones, if there is none.
    pub fn are_secured(&self, names: &[&str]) -> bool {
        let default = self.default_entrypoints();
        let names = if names.is_empty() {
            &default[..]
        } else {
            names
        };
        let is_secured = |name: &&str| {
            let mut all = self.entrypoints.iter();
            all.any(|(own, at)| own.eq_ignore_ascii_case(name) && at.tls)
        };
        !names.is_empty() && names.iter().all(is_secured)
    }

    /// How to add an option, such as `api.insecure=true`, to the place that this configuration really comes from.
    pub fn how_to_add(&self, option: &str) -> String {
        self.source.how_to_add(option)
    }

    /// Whether it needs only containers with `traefik.enable=true`. A Swarm provider may take more than Docker's.
    pub fn takes_only_enabled(&self) -> bool {
        let docker = self.docker.as_ref();
        docker.is_some_and(|docker| !docker.exposed_by_default) && self.swarm.is_none()
    }

    /// The entrypoint that the insecure API, ping and metrics come on exists without being given
    /// (`SetEffectiveConfiguration` in `pkg/config/static`).
    fn add_internal_entrypoint(&mut self) {
        if self.entrypoints.is_empty() {
            let http = Entrypoint {
                port: 80,
                ..Entrypoint::default()
            };
            self.entrypoints.insert("http".to_owned(), http);
        }
        if self.api.as_ref().is_some_and(|api| api.insecure) {
            let (name, address) = INTERNAL;
            let known = self.entrypoints.entry(name.to_owned());
            known.or_insert_with(|| Entrypoint::at(address));
        }
    }
}

impl Source {
    /// How to add an option here, in words.
    pub fn how_to_add(&self, option: &str) -> String {
        match self.written(option) {
            Written::Argument(argument) => format!("add {argument} to Traefik's command"),
            Written::Variable(name, value) => {
                format!("add {name}: \"{value}\" to Traefik's environment")
            }
            Written::InFile(what) => what,
        }
    }

    /// An option, such as `api.insecure=true`, as it is written here.
    pub fn written(&self, option: &str) -> Written {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        match self {
            Self::Command => Written::Argument(format!("--{name}={value}")),
            Self::Environment => {
                let variable = format!("TRAEFIK_{}", name.to_uppercase().replace('.', "_"));
                Written::Variable(variable, value.to_owned())
            }
            Self::File(path) if path.ends_with(".toml") => {
                let (table, key) = name.rsplit_once('.').unwrap_or(("", name));
                let value = match value {
                    "true" | "false" => value.to_owned(),
                    text => format!("{text:?}"),
                };
                Written::InFile(format!(
                    "add {key} = {value} under [{table}] in Traefik's {path}"
                ))
            }
            Self::File(path) => Written::InFile(format!(
                "add {}: {value}{} to Traefik's {path}",
                name.replace('.', ": { "),
                " }".repeat(name.matches('.').count())
            )),
        }
    }
}

impl Docker {
    fn read(node: Node<'_>) -> Self {
        let text = |name| {
            node.at(name)
                .and_then(Node::text)
                .filter(|text| !text.is_empty())
        };
        let switch = |name, default| node.at(name).and_then(Node::switch).unwrap_or(default);
        Self {
            endpoint: endpoint(node),
            exposed_by_default: switch("exposedByDefault", true),
            default_rule: text("defaultRule"),
            constraints: text("constraints"),
            network: text("network"),
            use_bind_port_ip: switch("useBindPortIP", false),
            watch: switch("watch", true),
        }
    }
}

/// Where the Docker or the Swarm provider reads.
fn endpoint(provider: Node<'_>) -> String {
    let given = provider.at("endpoint").and_then(Node::text);
    let given = given.filter(|text| !text.is_empty());
    given.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

fn is_set(node: Node<'_>, name: &str) -> bool {
    node.at(name).and_then(Node::switch).unwrap_or(false)
}

impl FileProvider {
    fn read(node: Node<'_>) -> Option<Self> {
        let text = |name| {
            node.at(name)
                .and_then(Node::text)
                .filter(|text| !text.is_empty())
        };
        let directory = text("directory").map(FilePlace::Directory);
        Some(Self {
            place: directory.or_else(|| text("filename").map(FilePlace::Filename))?,
            watch: node.at("watch").and_then(Node::switch).unwrap_or(true),
        })
    }
}

impl ApiConfig {
    fn read(node: Node<'_>) -> Self {
        let switch = |name, default| node.at(name).and_then(Node::switch).unwrap_or(default);
        let base = node.at("basePath").and_then(Node::text).unwrap_or_default();
        Self {
            insecure: switch("insecure", false),
            base_path: base.trim_end_matches('/').to_owned(),
        }
    }
}

impl Entrypoint {
    /// `:80`, `127.0.0.1:53/udp`.
    fn at(address: &str) -> Self {
        let (address, protocol) = address.split_once('/').unwrap_or((address, "tcp"));
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        Self {
            port: port.unwrap_or_default(),
            udp: protocol.eq_ignore_ascii_case("udp"),
            ..Self::default()
        }
    }

    fn read(node: Node<'_>) -> Self {
        let address = node.at("address").and_then(Node::text).unwrap_or_default();
        Self {
            as_default: node.at("asDefault").and_then(Node::switch).unwrap_or(false),
            tls: node.at("http.tls").is_some_and(Node::is_on),
            ..Self::at(&address)
        }
    }
}

fn entrypoints(tree: &Tree) -> BTreeMap<String, Entrypoint> {
    let all = tree.at("entryPoints").into_iter().flat_map(Node::children);
    all.map(|(name, node)| (name.to_owned(), Entrypoint::read(node)))
        .collect()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "its {path}"),
            Self::Command => f.write_str("its command"),
            Self::Environment => f.write_str("its environment"),
        }
    }
}

#[cfg(test)]
#[path = "static_config/tests.rs"]
mod tests;
