//! Traefik's options: where an old release reads, and that Traefik can be asked, on a port that is not published.

use super::{
    super::{
        Work,
        editor::Addition,
        stack::{self, Services},
        tree::Content,
    },
    Traefik, variable,
};
use crate::proxy::traefik::config::{StaticConfig, Written, advice};

/// The port of the insecure API, and where else it may be put.
const API_PORTS: [u16; 4] = [8080, 8099, 8199, 8299];
/// The entrypoint that it is on.
const INTERNAL: &str = "traefik";

impl Traefik<'_> {
    /// Adds the options that it lacks.
    pub(super) fn set_options(
        &self,
        work: &mut Work<'_>,
        services: &Services,
        holder: &Traefik<'_>,
    ) -> Result<(), String> {
        let config = stack::config(self.value, self.request.read);
        let mut options = Vec::new();
        if !stack::heeds_docker_host(services, self.name, self.request.images) {
            options.extend(self.endpoint(work, config.as_ref()));
        }
        options.extend(self.api(work, services, config.as_ref(), holder)?);
        self.add_options(work, config.as_ref(), &options)
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
        holder: &Traefik<'_>,
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
        let published = |port: u16| stack::publishes(holder.value, port);
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
            match config.source.written(option) {
                Written::InFile(what) => work.by_hand.push(what),
                Written::Variable(name, value) => {
                    work.changes
                        .insert(format!("+ {}.{name}", self.at("environment")));
                    self.add(work, "environment", &[variable(self.value, &name, &value)])?;
                }
                Written::Argument(argument) => self.add_argument(work, &argument)?,
            }
        }
        Ok(())
    }

    fn add_argument(&self, work: &mut Work<'_>, argument: &str) -> Result<(), String> {
        let place = self.at("command");
        let Some((_, written)) = self.entry("command")? else {
            work.changes.insert(format!("+ {place}[\"{argument}\"]"));
            return self.add(work, "command", &[Addition::item(argument)]);
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
        let mut item = Addition::item(argument);
        if quoted {
            item = Addition::item(&format!("\"{argument}\""));
        } else if argument.contains(':') {
            item.flow = format!("\"{argument}\"");
        }
        work.changes.insert(format!("+ {place}[\"{argument}\"]"));
        self.add(work, "command", &[item])
    }
}

fn has_api_router(services: &Services) -> bool {
    let labels = services
        .values()
        .map(|service| service["labels"].to_string());
    labels.into_iter().any(|text| text.contains("api@internal"))
}
