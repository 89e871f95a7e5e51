//! The socket proxies that run on an engine, and the control connection to each.

mod control;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bollard::models::ContainerSummary;

pub use self::control::Control;
#[cfg(test)]
pub use self::control::tests::answering;
use crate::{
    docker::engine::{
        Engine,
        summary::{name, networks_of},
        swarm,
    },
    error::{Error, Result},
    model::label,
    socket_proxy::only::{self, Wanted},
};

const SUBCOMMAND: &str = "socket-proxy";
/// On the container of a task: the name of its Swarm service.
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

/// A socket proxy that runs, and its image.
#[derive(Clone)]
pub struct SocketProxy {
    /// How to talk with it.
    pub control: Control,
    /// The id of its image, which holds this program.
    pub image: String,
    /// The Compose project or the stack that it is part of.
    pub(super) project: Option<String>,
    /// Its service in that project.
    service: Option<String>,
    pub networks: BTreeSet<String>,
    /// Where the program is in that image.
    pub program: String,
    /// What helpers of that image speak, by its label.
    pub helper: Option<String>,
    /// Whether it shows its readers containers of the service's project at all.
    pub(super) shows_project: bool,
    /// What limits its readers (`--only`), as it is written in its command.
    only: Vec<Wanted>,
}

/// A socket proxy of another version than this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherVersion {
    /// The name of its container.
    pub name: String,
    version: String,
    /// What gives it this version.
    pub upgrade: String,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, own) = (&self.version, env!("CARGO_PKG_VERSION"));
        write!(f, "is of version {version}, and this command of {own}")
    }
}

/// Those that a Traefik in front of the service can read through.
pub fn showing(found: &[SocketProxy]) -> impl Iterator<Item = &SocketProxy> + Clone {
    found.iter().filter(|own| own.shows_project)
}

/// Those that show Swarm's services, and the error of one that does not answer: it may be of another stack, which is just
/// being started or taken down.
pub async fn of_swarm<'a>(
    found: impl IntoIterator<Item = &'a SocketProxy>,
) -> (Vec<&'a SocketProxy>, Option<Error>) {
    let (mut shows, mut silent) = (Vec::new(), None);
    for own in found {
        match own.control.hello().await {
            Ok(hello) if hello.swarm => shows.push(own),
            Ok(_) => {}
            Err(error) => silent = Some(error),
        }
    }
    (shows, silent)
}

#[cfg(test)]
impl SocketProxy {
    /// One that cannot be reached, of a project and in these networks.
    pub fn of_project(project: &str, networks: &[&str]) -> Self {
        Self {
            control: control::tests::control(),
            image: String::new(),
            project: Some(project.to_owned()),
            service: None,
            networks: networks.iter().map(|own| (*own).to_owned()).collect(),
            program: String::new(),
            helper: None,
            shows_project: true,
            only: Vec::new(),
        }
    }
}

impl SocketProxy {
    /// Whether its readers see containers of every kind.
    pub fn shows_all(&self) -> bool {
        self.only.is_empty()
    }

    /// Whether its version is another than this program's; one that does not answer is no news.
    pub async fn other_version(&self, project: &str) -> Option<OtherVersion> {
        let version = self.control.hello().await.ok()?.version;
        let is_other = version != env!("CARGO_PKG_VERSION");
        is_other.then(|| OtherVersion {
            name: self.control.name.clone(),
            version,
            upgrade: self.upgrade(project),
        })
    }

    fn upgrade(&self, project: &str) -> String {
        let service = self.service.as_deref().unwrap_or(SUBCOMMAND);
        let command = format!("rollout image && docker compose up -d {service}");
        match &self.project {
            Some(own) if own != project => format!("{command}  # in the folder of project {own}"),
            _ => command,
        }
    }

    /// Refuses a container that its readers do not see, whatever is set on it.
    pub fn refuse_unseen(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        if only::admits(&self.only, labels) {
            return Ok(());
        }
        let wanted: Vec<String> = self.only.iter().map(Wanted::to_string).collect();
        Err(Error::refused(format!(
            "{} shows Traefik only containers with {}, and {name} is none of them",
            self.control.name,
            wanted.join(" or ")
        ))
        .hint("give its service that label in the Compose file"))
    }

    /// Whether this name in a network is its own: its container's, or its service's in Compose.
    pub(super) fn is_called(&self, host: &str) -> bool {
        self.control.name == host || self.service.as_deref() == Some(host)
    }
}

/// Every socket proxy among containers that run, those of the project first.
pub(super) async fn among(
    engine: &Engine,
    running: &[ContainerSummary],
    project: &str,
) -> Result<Vec<SocketProxy>> {
    let mut found = Vec::new();
    for summary in running {
        let command = command(engine, summary).await?;
        let command = command.unwrap_or_default();
        found.extend(socket_proxy(engine, summary, &command, project));
    }
    found.sort_by_key(|found| found.project.as_deref() != Some(project));
    Ok(found)
}

/// What a container runs. Podman lists the arguments alone and tells the program on closer inspection.
async fn command(engine: &Engine, summary: &ContainerSummary) -> Result<Option<String>> {
    let listed = summary.command.as_deref().unwrap_or_default();
    let listed = listed.trim_matches('"');
    if listed.split_whitespace().next() != Some(SUBCOMMAND) {
        return Ok(Some(listed.to_owned()));
    }
    let id = summary.id.as_deref().unwrap_or_default();
    let inspect = engine.inspect(id).await?;
    let program = inspect.and_then(|inspect| inspect.path);
    Ok(program.map(|program| format!("{program} {listed}")))
}

/// A container is a socket proxy when it runs `rollout socket-proxy`, whatever it is called.
fn socket_proxy(
    engine: &Engine,
    summary: &ContainerSummary,
    command: &str,
    project: &str,
) -> Option<SocketProxy> {
    let mut words = command.split_whitespace();
    let program = words.next()?;
    let is_ours = program.rsplit('/').next() == Some("rollout") && words.next() == Some(SUBCOMMAND);
    let labels = summary.labels.as_ref();
    if !is_ours || labels.is_some_and(|labels| labels.contains_key(label::ROLE)) {
        return None;
    }
    let control = Control::new(
        engine.clone(),
        summary.id.clone()?,
        name(summary),
        program.to_owned(),
    );
    let label = |name| labels.and_then(|labels| labels.get(name).cloned());
    let stack = label(swarm::NAMESPACE);
    // As the file of its stack calls it, which is its name in its networks too.
    let in_stack = label(SWARM_SERVICE).and_then(|own| {
        let prefix = format!("{}_", stack.as_ref()?);
        own.strip_prefix(&prefix).map(str::to_owned)
    });
    let only = only_of(words);
    Some(SocketProxy {
        control,
        image: summary.image_id.clone()?,
        project: label(label::COMPOSE_PROJECT).or(stack),
        service: label(label::COMPOSE_SERVICE).or(in_stack),
        helper: label(label::HELPER),
        networks: networks_of(summary).cloned().collect(),
        program: program.to_owned(),
        shows_project: only.is_empty() || only.iter().any(|own| of_project(own, project)),
        only: only.iter().filter_map(|own| own.parse().ok()).collect(),
    })
}

/// The values of `--only` among these arguments.
fn only_of<'a>(arguments: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let arguments: Vec<&str> = arguments.collect();
    let flags = arguments.iter().enumerate();
    let only = flags.filter_map(|(at, flag)| match flag.strip_prefix("--only")? {
        "" => arguments.get(at + 1).copied(),
        given => given.strip_prefix('='),
    });
    only.collect()
}

/// Whether containers of a Compose project can match. Only the label of other projects rules that out: any other label
/// may be one of theirs.
fn of_project(wanted: &str, project: &str) -> bool {
    match wanted.split_once('=') {
        Some((label::COMPOSE_PROJECT, own)) => own == project,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(control: Control) -> SocketProxy {
        SocketProxy {
            control,
            image: String::new(),
            project: Some("shop".to_owned()),
            service: Some("docker-api".to_owned()),
            networks: BTreeSet::new(),
            program: "/rollout".to_owned(),
            helper: None,
            shows_project: true,
            only: Vec::new(),
        }
    }

    #[tokio::test]
    async fn another_version_is_named_with_the_command_that_replaces_it() {
        const HELLO: &str = r#"{"control":2,"ok":{"hello":{"version":"0.0.9","listen":"","engine":true,"generation":2}}}"#;
        let found = of(answering(&[HELLO, HELLO]).0);
        let other = found.other_version("shop").await.unwrap();
        let text = concat!(
            "is of version 0.0.9, and this command of ",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(other.to_string(), text);
        assert_eq!(
            other.upgrade,
            "rollout image && docker compose up -d docker-api"
        );
        let elsewhere = found.other_version("blog").await.unwrap();
        assert!(elsewhere.upgrade.ends_with("project shop"), "{elsewhere:?}");
    }

    #[tokio::test]
    async fn the_same_version_and_a_silent_one_are_no_news() {
        const SAME: &str = concat!(
            r#"{"control":2,"ok":{"hello":{"version":""#,
            env!("CARGO_PKG_VERSION"),
            r#"","listen":"","engine":true,"generation":2}}}"#
        );
        assert_eq!(of(answering(&[SAME]).0).other_version("shop").await, None);
        assert_eq!(of(answering(&[]).0).other_version("shop").await, None);
    }

    #[test]
    fn only_the_label_of_other_projects_rules_a_socket_proxy_out() {
        for (arguments, expected) in [
            ("", true),
            ("--listen 0.0.0.0:2375", true),
            ("--only=com.docker.compose.project=shop", true),
            ("--only com.docker.compose.project=shop", true),
            ("--only=com.docker.compose.project", true),
            ("--only=traefik.enable=true", true),
            ("--only=com.docker.compose.project=blog", false),
            ("--only com.docker.compose.project=blog", false),
            (
                "--only com.docker.compose.project=blog --only=com.docker.compose.project=shop",
                true,
            ),
            ("--only=com.docker.compose.project=blog --only public", true),
        ] {
            let only = only_of(arguments.split_whitespace());
            let shows = only.is_empty() || only.iter().any(|own| of_project(own, "shop"));
            assert_eq!(shows, expected, "{arguments}");
        }
    }
}
