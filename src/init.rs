//! `rollout init`: puts the socket proxy into someone's own Compose file, and leaves all else as it is. Pure.
//!
//! [`stack`] says what the file has, [`service`] what Traefik's own service lacks, [`tree`] where everything stands,
//! [`editor`] makes the changes, and [`verify`] compares before and after as YAML reads them.

mod editor;
mod service;
pub mod stack;
pub mod tree;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::{
    editor::{Addition, Editor},
    service::Traefik,
    stack::Services,
    tree::{Content, Node},
};
use crate::{
    error::{Error, Result},
    proxy::traefik::config::advice::{self, Namespace, Reader},
    yaml,
};

/// What is known besides the text.
pub struct Request<'a> {
    /// Traefik's service; found by its image where it is not named.
    pub traefik: Option<&'a str>,
    /// The socket proxy's image.
    pub image: &'a str,
    /// Images by service as Compose has resolved them; empty where it was not asked.
    pub images: &'a BTreeMap<String, String>,
    /// The whole project as Compose has resolved it; nothing where it was not asked.
    pub resolved: &'a Value,
    /// The other files that the project is made of.
    pub others: &'a [Value],
    /// A file of the host, by its path as a mount names it.
    pub read: &'a dyn Fn(&str) -> Option<String>,
}

/// A text that has been edited.
#[derive(Debug)]
pub struct Edit {
    /// The whole of it; as it was where there was nothing to do.
    pub text: String,
    /// The service that Traefik is.
    pub traefik: String,
    /// What was left for a person, a line each.
    pub by_hand: Vec<String>,
    /// The places that differ, as [`verify::differences`] names them.
    pub changes: BTreeSet<String>,
}

/// The names of what is added.
#[derive(Clone, Debug)]
struct Names {
    service: String,
    network: String,
    volume: String,
    /// Whether the service is there already.
    known: bool,
}

/// Edits a Compose file; refused, with what to add by hand, where that cannot be done safely.
pub fn edit(text: &str, request: &Request<'_>) -> Result<Edit> {
    let failed = |why: String, reader: &Reader<'_>| {
        Error::refused(format!("cannot edit this file safely: {why}")).hint(advice::by_hand(
            request.image,
            reader,
            "",
        ))
    };
    let cannot = |why| failed(why, &Reader::default());
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let root = tree::parse(body).map_err(&cannot)?;
    let whole = yaml::parse_merged(body)
        .map_err(|error| Error::refused(format!("cannot read this file: {error}")))?;
    let services = whole["services"].as_object();
    let services =
        services.ok_or_else(|| Error::refused("this file has no services").hint(NAME_ANOTHER))?;
    let name = stack::traefik(services, request.traefik, request.images)?;
    let name = name.ok_or_else(|| stack::missing(services, request.traefik))?;
    let resolved = request.resolved["services"].as_object();
    let merged = resolved
        .filter(|own| own.contains_key(&name))
        .unwrap_or(services);
    let config = stack::config(&merged[&name], request.read);
    let reader = stack::reader(merged, &name, request.images, config.as_ref());
    let cannot = |why| failed(why, &reader);
    refuse(&whole, &reader, request.others).map_err(&cannot)?;
    let names = Names::of(&whole, request.others).map_err(&cannot)?;
    let mut work = Work {
        editor: Editor::new(body),
        changes: BTreeSet::new(),
        by_hand: Vec::new(),
        root: &root,
        names,
        command: advice::command(config.as_ref()),
    };
    work.edit(services, &name, request).map_err(&cannot)?;
    let text = format!("{mark}{}", work.editor.finish());
    let body = text.strip_prefix(mark).unwrap_or(&text);
    verify::check(&whole, body, &work.changes).map_err(&cannot)?;
    Ok(Edit {
        text,
        traefik: name,
        by_hand: work.by_hand,
        changes: work.changes,
    })
}

/// What to say where a file is the wrong one.
const NAME_ANOTHER: &str = "name another with -f FILE";

/// What would make an addition mean something else than it says.
fn refuse(whole: &Value, reader: &Reader<'_>, others: &[Value]) -> Result<(), String> {
    let name = reader.service;
    let service = &whole["services"][name];
    if reader.config.is_some_and(|config| config.swarm.is_some()) {
        return Err(format!("the Swarm provider of {name} is on"));
    }
    if whole.get("include").is_some() {
        return Err("it includes others".to_owned());
    }
    if !service["extends"].is_null() {
        return Err(format!("service {name} extends another"));
    }
    let holder = match reader.namespace {
        Namespace::Own => name,
        Namespace::Service(holder) => holder,
        Namespace::Host | Namespace::Container(_) => {
            let mode = service["network_mode"].as_str().unwrap_or_default();
            return Err(format!(
                "service {name} has network_mode: {mode}, and shares no network with a socket proxy"
            ));
        }
    };
    let several = |name: &&str| others.iter().any(|own| !own["services"][*name].is_null());
    match [name, holder].iter().find(|name| several(name)) {
        Some(name) => Err(format!("service {name} is put together from several files")),
        None => Ok(()),
    }
}

impl Names {
    fn of(whole: &Value, others: &[Value]) -> Result<Self, String> {
        let all = || std::iter::once(whole).chain(others);
        let known = all().find_map(|file| {
            let services = file["services"].as_object()?;
            let name = stack::ours(services)?;
            Some((name.to_owned(), stack::keys(&services[name]["networks"])))
        });
        let free = |section: &str, name: &str| {
            let taken = |name: &String| all().any(|file| file[section].get(name).is_some());
            let mut candidates = [name.to_owned(), format!("rollout-{name}")].into_iter();
            let found = candidates.find(|name| !taken(name));
            found.ok_or_else(|| format!("the names {name} and rollout-{name} are taken"))
        };
        if let Some((service, networks)) = known {
            let network = networks.into_iter().next();
            return Ok(Self {
                service,
                network: network.unwrap_or_else(|| "default".to_owned()),
                volume: String::new(),
                known: true,
            });
        }
        Ok(Self {
            service: free("services", advice::SERVICE)?,
            network: free("networks", advice::NETWORK)?,
            volume: free("volumes", advice::SERVICE)?,
            known: false,
        })
    }
}

/// A file that is being edited.
struct Work<'a> {
    editor: Editor,
    changes: BTreeSet<String>,
    by_hand: Vec<String>,
    root: &'a Node,
    names: Names,
    /// Of the socket proxy.
    command: Vec<String>,
}

impl Work<'_> {
    fn edit(
        &mut self,
        services: &Services,
        name: &str,
        request: &Request<'_>,
    ) -> Result<(), String> {
        let all = self.root.get("services").ok_or("services is merged")?;
        let entry = all.entry(name).ok_or_else(|| format!("{name} is merged"))?;
        let written_out = |node: &Node| matches!(node.content, Content::Map(_, false));
        if !written_out(all) || !written_out(entry.1) {
            return Err(format!("service {name} is not written as a block of lines"));
        }
        if all.marked || entry.1.marked {
            return Err(format!("service {name} has an anchor or a tag"));
        }
        self.editor.learn(entry.0, entry.1);
        let traefik = Traefik {
            name,
            value: &services[name],
            map: entry.1,
            request,
        };
        let mode = services[name]["network_mode"].as_str();
        let holder = match Namespace::of_mode(mode) {
            Namespace::Service(holder) => {
                let known = all
                    .entry(holder)
                    .filter(|own| written_out(own.1) && !own.1.marked);
                let known = known.ok_or_else(|| {
                    format!("service {holder} is not written as a block of lines")
                })?;
                Traefik {
                    name: holder,
                    value: &services[holder],
                    map: known.1,
                    request,
                }
            }
            _ => traefik,
        };
        traefik.edit(self, services, &holder)?;
        if !self.names.known {
            self.add_service(entry, &traefik.socket(), request.image);
            let network = self.names.network.clone();
            let private = Addition::nested(&network, "internal: true");
            self.add_section("networks", &network, &private)?;
            let volume = self.names.volume.clone();
            let volume = (volume.clone(), Addition::bare(&volume));
            self.add_section("volumes", &volume.0, &volume.1)?;
        }
        Ok(())
    }

    fn add_service(&mut self, (key, map): (&Node, &Node), socket: &str, image: &str) {
        let Names {
            service,
            network,
            volume,
            ..
        } = self.names.clone();
        let made = (image, &self.command[..]);
        let mut lines = advice::service(&service, made, socket, &network, &volume);
        if !self.editor.lists_indented {
            for line in &mut lines {
                *line = line.replace("    - ", "  - ");
            }
        }
        if self.editor.is_airy() {
            lines.insert(0, String::new());
        }
        let column = self.editor.column(key.span.start);
        self.editor.append(map.span.end, column, &lines, 1);
        self.changes.insert(format!("+ services.{service}"));
    }

    /// Adds to a section of the file, which is made where there is none.
    fn add_section(
        &mut self,
        section: &str,
        name: &str,
        addition: &Addition,
    ) -> Result<(), String> {
        self.changes.insert(format!("+ {section}.{name}"));
        if let Some(entry) = self.root.entry(section) {
            let added = self.editor.add(entry, addition, 1);
            return added.map_err(|why| format!("{section}: {why}"));
        }
        let mut lines = vec![format!("{section}:")];
        lines.extend(addition.block.iter().map(|line| format!("  {line}")));
        if self.editor.is_airy() {
            lines.insert(0, String::new());
        }
        self.editor.append_last(&lines, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
