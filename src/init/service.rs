//! What Traefik's own service lacks: where it reads, that it can be asked, the network, and no socket any more.

use serde_json::Value;

use super::{
    Request, Work,
    editor::Addition,
    stack::{self, Services},
    tree::{Content, Node},
};
use crate::proxy::traefik::{
    advice,
    static_config::{Source, StaticConfig},
};

/// The port of the insecure API, and where else it may be put.
const API_PORTS: [u16; 4] = [8080, 8099, 8199, 8299];
/// The entrypoint that it is on.
const INTERNAL: &str = "traefik";

/// Traefik's service: as it reads, and as it is written.
pub struct Traefik<'a> {
    pub name: &'a str,
    pub value: &'a Value,
    pub map: &'a Node,
    pub request: &'a Request<'a>,
}

impl Traefik<'_> {
    /// Makes every change of it.
    pub fn edit(&self, work: &mut Work<'_>, services: &Services) -> Result<(), String> {
        self.remove_sockets(work)?;
        self.read_through(work)?;
        let config = stack::config(self.value, self.request.read);
        let mut options = Vec::new();
        if !stack::heeds_docker_host(services, self.name, self.request.images) {
            options.extend(self.endpoint(work, config.as_ref()));
        }
        options.extend(self.api(work, services, config.as_ref())?);
        self.add_options(work, config.as_ref(), &options)?;
        self.join(work)?;
        self.wait_for(work)
    }

    /// Where the engine's socket is on the host: as Traefik mounts it so far.
    pub fn socket(&self) -> String {
        let mounts = stack::mounts(self.value);
        let socket = mounts.into_iter().find(stack::Mount::is_socket);
        socket.map_or_else(|| advice::SOCKET.to_owned(), |mount| mount.source)
    }

    fn at(&self, key: &str) -> String {
        format!("services.{}.{key}", self.name)
    }

    /// An entry that is written in the service itself; a merged one cannot be edited.
    fn entry(&self, key: &str) -> Result<Option<(&Node, &Node)>, String> {
        match self.map.entry(key) {
            None if self.value.get(key).is_some() => {
                Err(format!("{key} of {} comes from a merge (<<)", self.name))
            }
            entry => Ok(entry),
        }
    }

    /// Adds to a section of the service, which is made where there is none.
    fn add(&self, work: &mut Work<'_>, key: &str, additions: &[Addition]) -> Result<(), String> {
        if let Some(entry) = self.entry(key)? {
            for addition in additions {
                let added = work.editor.add(entry, addition, 3);
                added.map_err(|why| format!("{}: {why}", self.at(key)))?;
            }
            return Ok(());
        }
        let mut lines = vec![format!("{key}:")];
        for line in additions.iter().flat_map(|addition| &addition.block) {
            let flat = line.starts_with("- ") && !work.editor.lists_indented;
            lines.push(format!("{}{line}", if flat { "" } else { "  " }));
        }
        let column = work.editor.column(self.map.span.start);
        work.editor.append(self.map.span.end, column, &lines, 2);
        Ok(())
    }

    /// The socket proxy takes the place of the socket.
    fn remove_sockets(&self, work: &mut Work<'_>) -> Result<(), String> {
        let mounts = stack::mounts(self.value);
        let sockets: Vec<usize> = mounts
            .iter()
            .filter(|mount| mount.is_socket())
            .map(|mount| mount.index)
            .collect();
        if sockets.is_empty() {
            return Ok(());
        }
        let Some((key, list)) = self.entry("volumes")? else {
            return Ok(());
        };
        let Content::List(items, flow) = &list.content else {
            return Err(format!("{} is an alias", self.at("volumes")));
        };
        if list.marked || items.iter().any(|item| item.marked) {
            return Err(format!("{} has an anchor or a tag", self.at("volumes")));
        }
        let all = sockets.len() == items.len();
        if all && *flow {
            if work.editor.source(list).contains(['\n', '#']) {
                let at = self.at("volumes");
                return Err(format!("{at} is written in brackets over several lines"));
            }
            work.editor.remove_line_of(list, 2);
        } else {
            if all {
                work.editor.remove_line_of(key, 2);
            }
            for index in &sockets {
                work.editor.remove_item(list, *index, 3)?;
            }
        }
        for index in sockets {
            let item = &self.value["volumes"][index];
            work.changes
                .insert(format!("- {}[{item}]", self.at("volumes")));
        }
        Ok(())
    }

    /// `DOCKER_HOST`, which is given another value where it has one.
    fn read_through(&self, work: &mut Work<'_>) -> Result<(), String> {
        const VARIABLE: &str = "DOCKER_HOST";
        let address = advice::address(&work.names.service);
        let environment = stack::environment(self.value);
        let given = |own: &String| own.split('=').next() == Some(VARIABLE);
        let place = format!("{}.{VARIABLE}", self.at("environment"));
        let Some(before) = environment.iter().find(|own| given(own)) else {
            work.changes.insert(format!("+ {place}"));
            return self.add(
                work,
                "environment",
                &[variable(self.value, VARIABLE, &address)],
            );
        };
        if *before == format!("{VARIABLE}={address}") {
            return Ok(());
        }
        let Some((_, written)) = self.entry("environment")? else {
            return Ok(());
        };
        let (old, text) = match &written.content {
            Content::Map(..) => (written.get(VARIABLE), format!("\"{address}\"")),
            Content::List(items, _) => {
                let is = |item: &&Node| matches!(&item.content, Content::Scalar(own) if given(own));
                (items.iter().find(is), format!("\"{VARIABLE}={address}\""))
            }
            _ => (None, String::new()),
        };
        let old = old.filter(|old| matches!(old.content, Content::Scalar(_)) && !old.marked);
        let old = old.ok_or_else(|| format!("{place} is not written there as a value"))?;
        work.editor.replace(old.span.clone(), text, 3);
        work.changes.insert(format!("~ {place}"));
        work.by_hand.extend(left_over(before, &work.names.service));
        Ok(())
    }

    /// The option by which an old release reads through the socket proxy.
    fn endpoint(&self, work: &mut Work<'_>, config: Option<&StaticConfig>) -> Option<String> {
        let option = advice::endpoint(&work.names.service);
        let docker = config.and_then(|config| config.docker.as_ref());
        if docker.is_some_and(|docker| docker.endpoint == advice::address(&work.names.service)) {
            return None;
        }
        if docker.is_some_and(|docker| docker.endpoint.starts_with("tcp:")) {
            work.by_hand.push(format!(
                "this release of Traefik reads what --providers.docker.endpoint says: make it --{option}"
            ));
            return None;
        }
        Some(option)
    }

    /// The options by which Traefik can be asked, where it cannot yet; never on a port that is published.
    fn api(
        &self,
        work: &mut Work<'_>,
        services: &Services,
        config: Option<&StaticConfig>,
    ) -> Result<Vec<String>, String> {
        let Some(config) = config else {
            work.by_hand.push(format!(
                "see that Traefik's API is on ({}), and that its port is not published",
                advice::API
            ));
            return Ok(Vec::new());
        };
        let routed = config.file.is_some() || has_api_router(services);
        if config
            .api
            .as_ref()
            .is_some_and(|api| api.insecure || routed)
        {
            return Ok(Vec::new());
        }
        let taken = |port: u16| config.entrypoints.values().any(|own| own.port == port);
        let published = |port: u16| stack::publishes(self.value, port);
        if let Some(own) = config.entrypoints.get(INTERNAL) {
            return match published(own.port) {
                false => Ok(vec![advice::API.to_owned()]),
                true => Err(format!(
                    "Traefik's API is off, and the port {} that it would be on is published",
                    own.port
                )),
            };
        }
        let free = |port: &u16| !taken(*port) && !published(*port);
        let port = API_PORTS.into_iter().find(free);
        match port.ok_or("Traefik's API is off, and every port for it is published")? {
            port if port == API_PORTS[0] => Ok(vec![advice::API.to_owned()]),
            port => Ok(vec![
                advice::API.to_owned(),
                format!("entrypoints.{INTERNAL}.address=:{port}"),
            ]),
        }
    }

    /// Adds options where this Traefik's configuration comes from.
    fn add_options(
        &self,
        work: &mut Work<'_>,
        config: Option<&StaticConfig>,
        options: &[String],
    ) -> Result<(), String> {
        let Some(config) = config else {
            let say = |option| format!("see that Traefik is given --{option}");
            work.by_hand.extend(options.iter().map(say));
            return Ok(());
        };
        for option in options {
            match &config.source {
                Source::File(_) => work.by_hand.push(config.how_to_add(option)),
                Source::Environment => {
                    let (name, value) = option.split_once('=').unwrap_or((option, "true"));
                    let name = format!("TRAEFIK_{}", name.to_uppercase().replace('.', "_"));
                    work.changes
                        .insert(format!("+ {}.{name}", self.at("environment")));
                    self.add(work, "environment", &[variable(self.value, &name, value)])?;
                }
                Source::Command => self.add_argument(work, option)?,
            }
        }
        Ok(())
    }

    fn add_argument(&self, work: &mut Work<'_>, option: &str) -> Result<(), String> {
        let argument = format!("--{option}");
        let place = self.at("command");
        let Some((_, written)) = self.entry("command")? else {
            work.changes.insert(format!("+ {place}[\"{argument}\"]"));
            return self.add(work, "command", &[Addition::item(&argument)]);
        };
        if let Content::Scalar(_) = written.content {
            if written.marked {
                return Err(format!("{place} has an anchor or a tag"));
            }
            let quoted = work.editor.source(written).starts_with(['"', '\'']);
            let end = written.span.end - usize::from(quoted);
            work.editor.replace(end..end, format!(" {argument}"), 3);
            work.changes.insert(format!("~ {place}"));
            return Ok(());
        }
        let quoted = match &written.content {
            Content::List(items, _) => items
                .first()
                .is_some_and(|item| work.editor.source(item).starts_with('"')),
            _ => false,
        };
        let mut item = Addition::item(&argument);
        if quoted {
            item = Addition::item(&format!("\"{argument}\""));
        } else if argument.contains(':') {
            item.flow = format!("\"{argument}\"");
        }
        work.changes.insert(format!("+ {place}[\"{argument}\"]"));
        self.add(work, "command", &[item])
    }

    /// The network of the socket proxy; a service without networks is on `default`, which must be said then.
    fn join(&self, work: &mut Work<'_>) -> Result<(), String> {
        let networks = &self.value["networks"];
        let joined = stack::keys(networks);
        let own = work.names.network.clone();
        let implied = joined.is_empty() && own == "default";
        if joined.contains(&own) || implied {
            return Ok(());
        }
        let mut wanted = vec![own];
        if joined.is_empty() {
            wanted.insert(0, "default".to_owned());
        }
        for name in &wanted {
            work.changes
                .insert(format!("+ {}.{name}", self.at("networks")));
        }
        let addition = |name: &String| match networks.is_object() {
            true => Addition::bare(name),
            false => Addition::item(name),
        };
        let additions: Vec<Addition> = wanted.iter().map(addition).collect();
        // Between empty brackets there is room for one alone.
        let written = self.entry("networks")?;
        let empty = |node: &Node| joined.is_empty() && node.content != Content::Nothing;
        if written.is_some_and(|(_, node)| empty(node)) {
            return Err(format!("{} is empty", self.at("networks")));
        }
        self.add(work, "networks", &additions)
    }

    /// Traefik starts once the socket proxy answers.
    fn wait_for(&self, work: &mut Work<'_>) -> Result<(), String> {
        const CONDITION: &str = "condition: service_healthy";
        let name = work.names.service.clone();
        if stack::keys(&self.value["depends_on"]).contains(&name) {
            return Ok(());
        }
        work.changes
            .insert(format!("+ {}.{name}", self.at("depends_on")));
        if let Some((key, list)) = self.entry("depends_on")?
            && let Content::List(items, flow) = &list.content
        {
            let items = items.iter().map(|item| work.editor.source(item).to_owned());
            let items: Vec<String> = items.collect();
            return self.conditions(work, (key, list), &items, *flow, &name);
        }
        self.add(work, "depends_on", &[Addition::nested(&name, CONDITION)])
    }

    /// A list of dependencies has no place for a condition: it becomes a mapping that says the same, and one more.
    fn conditions(
        &self,
        work: &mut Work<'_>,
        (key, list): (&Node, &Node),
        items: &[String],
        flow: bool,
        name: &str,
    ) -> Result<(), String> {
        const STARTED: &str = "{ condition: service_started }";
        const HEALTHY: &str = "{ condition: service_healthy }";
        let Content::List(nodes, _) = &list.content else {
            return Ok(());
        };
        if list.marked
            || nodes
                .iter()
                .any(|node| !matches!(node.content, Content::Scalar(_)))
        {
            return Err(format!("{} is no plain list", self.at("depends_on")));
        }
        if flow {
            if work.editor.source(list).contains('#') {
                return Err(format!(
                    "{} has comments in brackets",
                    self.at("depends_on")
                ));
            }
            let entries: String = items
                .iter()
                .map(|item| format!("{item}: {STARTED}, "))
                .collect();
            let text = format!("{{ {entries}{name}: {HEALTHY} }}");
            work.editor.replace(list.span.clone(), text, 3);
            return Ok(());
        }
        let outer = work.editor.column(key.span.start);
        let mut column = outer;
        for (node, item) in nodes.iter().zip(items) {
            let dash = work.editor.dash(node).ok_or("its dashes stand apart")?;
            column = work.editor.column(dash);
            // Keys stand deeper than the key above them; dashes need not.
            let deeper = if column > outer { 0 } else { work.editor.step };
            column += deeper;
            let text = format!("{}{item}: {STARTED}", " ".repeat(deeper));
            work.editor.replace(dash..node.span.end, text, 3);
        }
        let line = format!("{name}: {HEALTHY}");
        work.editor.append(list.span.end, column, &[line], 3);
        Ok(())
    }
}

/// A variable as the service writes its others.
fn variable(service: &Value, name: &str, value: &str) -> Addition {
    if service["environment"].is_array() {
        let mut item = Addition::item(&format!("{name}={value}"));
        item.flow = format!("\"{name}={value}\"");
        return item;
    }
    let quoted = format!("\"{value}\"");
    // An address reads as text without quotes, `true` and numbers do not.
    let written = if value.contains("://") {
        value
    } else {
        &quoted
    };
    let mut entry = Addition::entry(name, written);
    entry.flow = format!("{name}: {quoted}");
    entry
}

/// Another maker's proxy that nobody may read through any more.
fn left_over(before: &str, own: &str) -> Option<String> {
    let (_, address) = before.split_once("=tcp://")?;
    let host = address.split(':').next().unwrap_or_default();
    (host != own).then(|| {
        format!("Traefik no longer reads through {host}: take it out unless something else does")
    })
}

fn has_api_router(services: &Services) -> bool {
    let labels = services
        .values()
        .map(|service| service["labels"].to_string());
    labels.into_iter().any(|text| text.contains("api@internal"))
}
