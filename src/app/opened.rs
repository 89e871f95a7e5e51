//! The engine and the project of a command, or the hosts or the stack that it names instead.

use std::collections::BTreeMap;

use super::{include, made_from};
use crate::{
    cli::TargetArgs,
    compose::{Compose, Project},
    context::RunContext,
    docker::{endpoint::Endpoint, engine::Engine},
    error::{Error, Result},
    event::Events,
    fleet::{self, Host},
    swarm::{self, Stack},
};

/// The engine, and the stack of a Swarm that the command names on it, if there is one.
async fn connect(
    target: &TargetArgs,
    endpoint: Endpoint,
    events: &Events,
) -> Result<(Engine, Option<Stack>)> {
    let engine = Engine::connect(endpoint, events).await?;
    let stack = match target.project() {
        Some(name) => swarm::find(&engine, &name).await?,
        None => None,
    };
    Ok((engine, stack))
}

/// The refusal of a command that works with a project of Compose alone.
pub fn no_part(stack: &Stack) -> Error {
    let name = &stack.name;
    Error::refused(format!(
        "{name} is a stack of a Swarm, for which this command does not exist"
    ))
    .hint(format!(
        "rollout -f FILE -p {name} SERVICE rolls a service of it: rollout help swarm"
    ))
}

/// The engine and the project of a command.
pub struct Opened {
    pub engine: Engine,
    pub compose: Compose,
    pub project: Project,
}

/// Where a command works.
pub enum Found<T> {
    /// On one engine, with what was read of it beside the project.
    One(Box<Opened>, T),
    /// On the hosts that the Compose file names.
    Several(Vec<Host>),
    /// On a stack of a Swarm, whose name the command gives as that of its project.
    Stack(Box<Stack>),
}

impl<T> Found<T> {
    /// The engine of a command that works with one project of Compose.
    pub fn one(self) -> Result<(Opened, T)> {
        match self {
            Self::One(opened, beside) => Ok((*opened, beside)),
            Self::Several(hosts) => Err(fleet::one_at_a_time(&hosts)),
            Self::Stack(stack) => Err(no_part(&stack)),
        }
    }
}

/// What to do where Compose cannot read the project.
#[derive(Clone, Copy)]
pub enum Unread {
    Refuse,
    /// The labels of its containers say enough for the records of services.
    AskContainers,
}

impl Opened {
    /// Connects, and reads the project with these services enabled.
    pub async fn of(target: &TargetArgs, names: &[&str], events: &Events) -> Result<Self> {
        let found = Self::find_alone(target, names, events, Unread::Refuse).await?;
        found.one().map(|(opened, ())| opened)
    }

    /// The same with variables that override environment files, and with something that is read from the engine while
    /// Compose reads the project.
    pub async fn beside<T>(
        target: (&TargetArgs, &BTreeMap<String, String>),
        names: &[&str],
        events: &Events,
        read: &impl AsyncFn(&Engine) -> T,
    ) -> Result<(Self, T)> {
        let found = Self::find(target, names, events, (read, Unread::Refuse));
        found.await?.one()
    }

    /// The same for the records of services, which need no Compose file.
    pub async fn of_records(target: &TargetArgs, names: &[&str], events: &Events) -> Result<Self> {
        let found = Self::find_alone(target, names, events, Unread::AskContainers).await?;
        found.one().map(|(opened, ())| opened)
    }

    /// What the command works on, with nothing beside it.
    pub async fn find_alone(
        target: &TargetArgs,
        names: &[&str],
        events: &Events,
        unread: Unread,
    ) -> Result<Found<()>> {
        let (target, read) = ((target, &BTreeMap::new()), &async |_: &Engine| ());
        Self::find(target, names, events, (read, unread)).await
    }

    /// Finds the engine by the options, the Compose file, and Docker's own choice, in this order.
    pub async fn find<T>(
        (target, variables): (&TargetArgs, &BTreeMap<String, String>),
        names: &[&str],
        events: &Events,
        (read, unread): (&impl AsyncFn(&Engine) -> T, Unread),
    ) -> Result<Found<T>> {
        let endpoint = match endpoint(target).await {
            Err(error) if target.names_engine() => return Err(error),
            found => found,
        };
        let connected = async {
            let (engine, stack) = connect(target, endpoint.clone()?, events).await?;
            let beside = read(&engine).await;
            Ok::<_, Error>((engine, stack, beside))
        };
        let composed = async {
            // The hosts of the file are read also where Docker's own choice names no engine; reading asks none.
            let endpoint = endpoint.clone().or_else(|_| "".parse())?;
            let compose = Compose::find(target.invocation(), endpoint).await?;
            let compose = compose.given(variables);
            let project = read_project(&compose, names).await;
            Ok::<_, Error>((compose, project))
        };
        let (connected, composed) = tokio::join!(connected, composed);
        // The hosts of the file are in place of this engine, which need not be there.
        match &composed {
            Ok((_, Ok(project))) if !target.names_engine() => match &hosts(target, project)?[..] {
                [] => {}
                [one] => {
                    let target = (&target.at(one), variables);
                    return Box::pin(Self::find(target, names, events, (read, unread))).await;
                }
                several => return Ok(Found::Several(several.to_vec())),
            },
            Ok((compose, Err(error))) if lacks_hosts(target, compose) => {
                let hint = error.hint.clone().unwrap_or_default();
                return Err(error.clone().hint(format!(
                    "{hint}\n      its hosts cannot be read: name one with --on, -H or --context"
                )));
            }
            _ => {}
        }
        let (engine, stack, beside) = connected?;
        if let Some(stack) = stack {
            return Ok(Found::Stack(stack.into()));
        }
        let (compose, project) = composed?;
        let project = match (project, unread) {
            (Ok(project), _) => project,
            (Err(error), Unread::Refuse) => {
                return Err(made_from::explain(error, &engine, &compose, names).await);
            }
            (Err(error), Unread::AskContainers) => {
                made_from::project(error, &engine, &compose, names).await?
            }
        };
        let opened = Self {
            engine,
            compose,
            project,
        };
        Ok(Found::One(opened.into(), beside))
    }

    /// The same where Compose cannot read its file, which is the error.
    pub async fn of_containers(
        target: &TargetArgs,
        names: &[&str],
        (error, events): (&Error, &Events),
    ) -> Result<Self> {
        let (engine, stack) = connect(target, endpoint(target).await?, events).await?;
        if let Some(stack) = stack {
            return Err(no_part(&stack));
        }
        let compose = Compose::find(target.invocation(), engine.endpoint().clone()).await?;
        if lacks_hosts(target, &compose) {
            return Err(error.clone());
        }
        let project = made_from::of_containers(error.clone(), &engine, &compose, names).await?;
        Ok(Self {
            engine,
            compose,
            project,
        })
    }

    pub fn run<'a>(&'a self, events: &'a Events) -> RunContext<'a> {
        RunContext::new(&self.engine, (&self.compose, &self.project), events)
    }

    /// The events of one service.
    pub fn events(&self, all: &Events, service: &str) -> Events {
        let host = self.engine.endpoint().to_string();
        all.of_service(&host, &self.project.key(service))
    }
}

pub async fn read_project(compose: &Compose, names: &[&str]) -> Result<Project> {
    let project = compose.project_for(names).await;
    project.map_err(|error| {
        error.or_hint("see what docker compose config says, or name another file with -f FILE")
    })
}

/// The hosts of the Compose file.
fn hosts(target: &TargetArgs, project: &Project) -> Result<Vec<Host>> {
    let hosts = fleet::of_file(project.raw.get("x-rollout"))?;
    if !hosts.is_empty() {
        refuse_standard_input(target)?;
    }
    Ok(hosts)
}

/// Whether the engine of a project that Compose cannot read is one of the hosts in its file.
fn lacks_hosts(target: &TargetArgs, compose: &Compose) -> bool {
    !target.names_engine() && include::names_hosts(compose.files())
}

/// The Compose file is read for each host.
pub fn refuse_standard_input(target: &TargetArgs) -> Result<()> {
    match target.files.iter().any(|file| file == "-") {
        false => Ok(()),
        true => Err(Error::refused(
            "a project with hosts is read for each of them, so its Compose file cannot be standard input",
        )
        .hint("name a file with -f FILE")),
    }
}

pub async fn endpoint(target: &TargetArgs) -> Result<Endpoint> {
    let target = match &target.on[..] {
        [] => target,
        [one] => &target.at(one),
        several => return Err(fleet::one_at_a_time(several)),
    };
    Endpoint::find(target.host.as_deref(), target.context.as_deref()).await
}
