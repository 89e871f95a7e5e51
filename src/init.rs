//! `rollout init`: puts the socket proxy into the user's own Compose file, or into an override file beside it. Pure.
//!
//! [`stack`] reads the file, [`needs`] lists the edits, [`rewrite`] makes them in the text, [`override_file`] puts them
//! into a file of their own, and [`verify`] compares before and after.

mod needs;
pub mod override_file;
mod rewrite;
pub mod stack;
pub mod verify;

use std::collections::BTreeMap;

use serde_json::Value;

use self::needs::{Needs, Project};
use crate::{
    compose::edits::Edit,
    error::{Error, Result},
    proxy::traefik::config::advice::{self, Namespace, Reader},
    yaml,
};

/// Everything but the text.
pub struct Request<'a> {
    /// Traefik's service; if it is not named, the one whose image is called so.
    pub traefik: Option<&'a str>,
    pub image: &'a str,
    /// Images by service as Compose has resolved them; empty without Compose.
    pub images: &'a BTreeMap<String, String>,
    /// The whole project as Compose has resolved it; null without Compose.
    pub resolved: &'a Value,
    /// The other files of the project.
    pub others: &'a [Value],
    /// Reads a file of the host, by its path as a mount names it.
    pub read: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the edits go into an override file.
    pub overrides: bool,
}

/// What is to be done about a file.
#[derive(Debug)]
pub struct Edited {
    /// The file as it should be, or the override file; `None` if there is nothing to do.
    pub text: Option<String>,
    /// The service that is Traefik.
    pub traefik: String,
    /// What is left to a person, a line each.
    pub by_hand: Vec<String>,
    /// The edits that lead to the text.
    pub edits: Vec<Edit>,
}

/// The names of what is added.
#[derive(Clone, Debug)]
struct Names {
    service: String,
    network: String,
    volume: String,
    /// Whether the service exists already.
    known: bool,
}

/// Edits a Compose file. If that cannot be done safely, the error says what to add by hand.
pub fn edit(text: &str, request: &Request<'_>) -> Result<Edited> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let cannot = |why| failed(why, request, &Reader::default());
    let whole = yaml::parse_merged(body).map_err(cannot)?;
    let services = whole["services"].as_object();
    let services =
        services.ok_or_else(|| Error::refused("this file has no services").hint(NAME_ANOTHER))?;
    let name = stack::traefik(services, request.traefik, request.images)?;
    let name = name.ok_or_else(|| stack::missing(services, request.traefik))?;
    let resolved = request.resolved["services"].as_object();
    let resolved = resolved.filter(|own| own.contains_key(&name));
    let merged = resolved.unwrap_or(services);
    let config = stack::config(&merged[&name], request.read);
    let reader = stack::reader(merged, &name, request.images, config.as_ref());
    let cannot = |why| failed(why, request, &reader);
    let names = Names::of(&whole, request.others).map_err(cannot)?;
    let project = |services| Project {
        services,
        traefik: &name,
        config: config.as_ref(),
        names: &names,
    };
    let mut edited = Edited {
        text: None,
        traefik: name.clone(),
        by_hand: Vec::new(),
        edits: Vec::new(),
    };
    let holder = refuse(&whole, &reader).map_err(cannot)?;
    // Other files may provide what this one lacks.
    let settled = resolved.map(|own| project(own).needs(request));
    if matches!(&settled, Some(Ok(needs)) if needs.edits.is_empty() && needs.by_hand.is_empty()) {
        return Ok(edited);
    }
    let in_another = |name: &&str| {
        let mut others = request.others.iter();
        others.any(|own| !own["services"][*name].is_null())
    };
    if let Some(name) = [name.as_str(), holder].into_iter().find(in_another) {
        return Err(cannot(format!(
            "service {name} is put together from several files"
        )));
    }
    let Needs { edits, by_hand } = project(services).needs(request).map_err(cannot)?;
    edited.by_hand = by_hand;
    if edits.is_empty() {
        return Ok(edited);
    }
    let wanted = made(&whole, &edits).map_err(cannot)?;
    let text = match request.overrides {
        true => override_file::text(&edits, &wanted).map_err(cannot)?,
        false => format!(
            "{mark}{}",
            rewritten(body, &edits, &wanted).map_err(cannot)?
        ),
    };
    edited.text = Some(text);
    edited.edits = edits;
    Ok(edited)
}

fn failed(why: String, request: &Request<'_>, reader: &Reader<'_>) -> Error {
    let by_hand = advice::by_hand(request.image, reader, "");
    Error::refused(format!("cannot edit this file safely: {why}")).hint(by_hand)
}

/// A file with every edit made.
fn made(file: &Value, edits: &[Edit]) -> Result<Value, String> {
    let mut file = file.clone();
    edits.iter().try_for_each(|edit| edit.make(&mut file))?;
    Ok(file)
}

/// The text with every edit made in it, once it reads as `wanted`.
fn rewritten(text: &str, edits: &[Edit], wanted: &Value) -> Result<String, String> {
    let written = yaml::parse(text)?;
    let text = rewrite::rewrite(text, &written, &made(&written, edits)?)?;
    verify::check(wanted, &text)?;
    Ok(text)
}

const NAME_ANOTHER: &str = "name another with -f FILE";

/// The service that has Traefik's networks; refuses files in which an addition would not mean what it says.
fn refuse<'a>(whole: &Value, reader: &Reader<'a>) -> Result<&'a str, String> {
    let name = reader.service;
    let service = &whole["services"][name];
    if reader.reads_swarm_elsewhere() {
        return Err(format!(
            "the Swarm provider of {name} is on, and this release ignores DOCKER_HOST"
        ));
    }
    if whole.get("include").is_some() {
        return Err("it includes others".to_owned());
    }
    if !service["extends"].is_null() {
        return Err(format!("service {name} extends another"));
    }
    match reader.namespace {
        Namespace::Own => Ok(name),
        Namespace::Service(holder) => Ok(holder),
        Namespace::Host | Namespace::Container(_) => {
            let mode = service["network_mode"].as_str().unwrap_or_default();
            Err(format!(
                "service {name} has network_mode: {mode}, and shares no network with a socket proxy"
            ))
        }
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

#[cfg(test)]
mod tests;
