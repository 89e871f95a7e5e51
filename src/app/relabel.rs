//! `rollout relabel`: changes the labels that Traefik reads of a container, or lists the changed ones.

use super::{
    opened::{endpoint, read_project},
    print,
};
use crate::{
    cli::RelabelArgs,
    compose::Compose,
    docker::engine::Engine,
    error::Result,
    event::Events,
    relabel::{self, Change},
    report::{Output, overlay},
};

pub async fn relabel(arguments: &RelabelArgs, events: &Events) -> Result<()> {
    let engine = Engine::connect(endpoint(&arguments.target).await?, events).await?;
    let Some(container) = &arguments.container else {
        let project = match arguments.all {
            true => None,
            false => Some(project(arguments, &engine).await?),
        };
        let rows = relabel::list(&engine, project.as_deref()).await?;
        let text = match arguments.target.output.unwrap_or_default() {
            Output::Human => overlay::human(&rows),
            Output::Json => overlay::json(&rows),
        };
        print(text.as_bytes());
        return Ok(());
    };
    let change = match arguments.clear {
        true => Change::Clear,
        false => Change::Set(arguments.labels.iter().cloned().collect()),
    };
    relabel::relabel(&engine, events, container, &change).await
}

/// The project to list, by Compose's own discovery.
async fn project(arguments: &RelabelArgs, engine: &Engine) -> Result<String> {
    let target = &arguments.target;
    if let Some(name) = &target.project_name {
        return Ok(name.clone());
    }
    let compose = Compose::find(target.invocation(), engine.endpoint().clone()).await?;
    let read = read_project(&compose, &[]).await;
    let project = read.map_err(|error| {
        error
            .hint("name a project with -p NAME, or list all projects: rollout relabel --list --all")
    })?;
    Ok(project.name)
}
