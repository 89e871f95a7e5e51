//! The status of the services of a stack in a Swarm.

use super::{Seen, follow};
use crate::{
    app::stacks::{refuse_given, refuse_options},
    cli::StatusArgs,
    error::{Error, Result},
    event::Events,
    proxy::{landscape::Landscape, socket_proxies::OtherVersion},
    roll::Standing,
    state::{revisions::Revisions, store},
    swarm::{self, Stack},
};

pub async fn show(asked: &StatusArgs, stack: &Stack, events: &Events) -> Result<()> {
    let line = format!("write: rollout status -p {}", stack.name);
    let setting = asked.settings.names().next().unwrap_or_default();
    refuse_given(
        &stack.name,
        &[(&format!("--{setting}"), !setting.is_empty())],
        &line,
    )?;
    refuse_options(&asked.target, &stack.name, &line)?;
    for name in &asked.services {
        stack.refuse_unknown(name)?;
    }
    let name = &stack.name;
    let next = |service: &str, standing: &Standing| match standing.is_rolled() {
        true => format!("rollout status -p {name} {service} --watch"),
        false => stack.command(service),
    };
    let look = async || look(asked, stack).await;
    follow((asked, events), &[], look, next).await
}

/// Reads the state of every service, or of those that are named.
async fn look(asked: &StatusArgs, stack: &Stack) -> Result<(Vec<Seen>, Vec<OtherVersion>)> {
    let (engine, name) = (&stack.engine, &stack.name);
    let Some(stack) = swarm::find(engine, name).await? else {
        return Err(Error::failed(format!("the stack {name} is gone")));
    };
    let landscape = Landscape::read(engine, name).await?;
    let image = landscape.any_image().unwrap_or_default();
    let mut files = store::look_project(engine, &image, name).await?;
    let overlays = swarm::overlays(&landscape).await;
    let mut seen = Vec::new();
    for service in stack.names() {
        let is_named = asked.services.iter().any(|own| own == service);
        if !is_named && !asked.services.is_empty() {
            continue;
        }
        let key = stack.key(service);
        let revisions = Revisions::read(&files.remove(service).unwrap_or_default());
        let revision = stack.running(&key, &revisions);
        seen.push(Seen {
            name: service.to_owned(),
            revision,
            standing: stack.standing(&key, revision, &overlays).await?,
        });
    }
    Ok((seen, landscape.other_versions().await))
}
