//! What Traefik's own service lacks: where it reads, that it can be asked, the network, and no socket any more.

mod options;
mod waiting;

use serde_json::Value;

use super::{
    Request, Work,
    editor::Addition,
    stack::{self, Services},
    tree::{Content, Node},
};
use crate::proxy::traefik::config::advice;

/// Traefik's service, or the one whose network namespace it is in: as it reads, and as it is written.
#[derive(Clone, Copy)]
pub struct Traefik<'a> {
    pub name: &'a str,
    pub value: &'a Value,
    pub map: &'a Node,
    pub request: &'a Request<'a>,
}

impl Traefik<'_> {
    /// Makes every change of it; `holder` has its networks and its published ports.
    pub fn edit(
        &self,
        work: &mut Work<'_>,
        services: &Services,
        holder: &Traefik<'_>,
    ) -> Result<(), String> {
        self.remove_sockets(work)?;
        self.read_through(work)?;
        self.set_options(work, services, holder)?;
        holder.join(work)?;
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
