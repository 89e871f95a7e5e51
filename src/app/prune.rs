//! `rollout prune`: lists what is kept of services and projects that are gone, and removes it with `--yes`.

mod gone;
mod kept;

use std::{collections::BTreeSet, time::Duration};

use self::{gone::Present, kept::Kept};
use super::{
    opened::{Opened, endpoint, read_project},
    print,
};
use crate::{
    cli::PruneArgs,
    compose::{Compose, Project},
    docker::engine::{Engine, swarm::Swarm},
    error::{Error, Result},
    event::Events,
    model::ServiceKey,
    report::{Output, kept as report},
    state::{Lock, folders, keep, lock, lock::holder},
};

pub async fn prune(asked: &PruneArgs, events: &Events) -> Result<()> {
    if let Some(name) = &asked.target.project_name {
        let message = "prune reads what is kept of every project, whatever --project-name says";
        return Err(Error::refused(message).hint(format!("write: rollout prune {name}")));
    }
    let engine = Engine::connect(endpoint(&asked.target).await?, events).await?;
    let compose = Compose::find(asked.target.invocation(), engine.endpoint().clone()).await?;
    let (project, in_file) = in_file(&compose).await?;
    let opened = Opened {
        engine,
        compose,
        project,
    };
    let (engine, run) = (&opened.engine, opened.run(events));
    let landscape = run.landscape().await?;
    let image = run.helper_image(&landscape).await?;
    let image = image.ok_or_else(|| {
        Error::refused("the records cannot be read without an image of this program")
            .hint("rollout image")
    })?;
    let present = Present::of(&landscape.containers, &in_file);
    let listed = folders::list(engine, &image).await?;
    let all = present.all_keys(&listed);
    refuse_unknown(&asked.projects, &all)?;
    let is_asked = |key: &ServiceKey| {
        let mut projects = asked.projects.iter();
        asked.projects.is_empty() || projects.any(|own| *own == key.project)
    };
    let mut gone = Vec::new();
    for key in all
        .iter()
        .filter(|key| is_asked(key) && present.is_gone(key))
    {
        if !is_rolled(engine, key, events).await? && !is_stack(engine, key).await? {
            gone.push(*key);
        }
    }
    let others = all.iter().filter(|key| !gone.contains(key));
    let in_use: BTreeSet<String> = others.map(|key| keep::repository(key)).collect();
    let kept = kept::of(engine, &image, &gone, &landscape.containers, &in_use).await?;
    if asked.yes && !kept.is_empty() {
        remove(engine, &image, &kept, &in_file, events).await?;
    }
    let items: Vec<report::Item> = kept.iter().flat_map(|own| own.items(asked.yes)).collect();
    let text = match asked.target.output {
        Some(Output::Json) => report::json(&items),
        _ => report::human(&items),
    };
    print(text.as_bytes());
    Ok(())
}

/// The project of this directory, and all its services with any profile; none without a Compose file. A file that is
/// named and cannot be read is an error: its services would seem to be gone.
async fn in_file(compose: &Compose) -> Result<(Project, BTreeSet<ServiceKey>)> {
    if compose.files().is_empty() {
        return Ok(Default::default());
    }
    let project = read_project(compose, &[]).await?;
    let names = compose.all_names().await?;
    let enabled = project.services.keys().cloned();
    let all = names.into_iter().chain(enabled);
    let keys = all.map(|service| project.key(&service)).collect();
    Ok((project, keys))
}

/// Whether the project is a stack of a Swarm that runs.
async fn is_stack(engine: &Engine, key: &ServiceKey) -> Result<bool> {
    let services = Swarm::of(engine).services(&key.project).await?;
    Ok(services.is_some_and(|all| !all.is_empty()))
}

/// Whether a running rollout holds the lock of a service, and may be about to create its first container.
async fn is_rolled(engine: &Engine, key: &ServiceKey, events: &Events) -> Result<bool> {
    let Some(holder) = holder(engine, key).await? else {
        return Ok(false);
    };
    let lives = holder.lives(engine).await;
    if lives {
        let whose = holder.whose();
        events.notice(format!(
            "{key} is being rolled by {whose}, and is left as it is"
        ));
    }
    Ok(lives)
}

fn refuse_unknown(projects: &[String], all: &BTreeSet<&ServiceKey>) -> Result<()> {
    let is_unknown = |name: &&String| !all.iter().any(|key| key.project == **name);
    match projects.iter().find(is_unknown) {
        None => Ok(()),
        Some(name) => Err(Error::refused(format!("nothing is kept of project {name}"))
            .hint("rollout prune lists what is kept of projects that are gone")),
    }
}

/// Removes what is kept, under the locks of all its services, so that no rollout of them begins meanwhile.
async fn remove(
    engine: &Engine,
    image: &str,
    kept: &[Kept],
    in_file: &BTreeSet<ServiceKey>,
    events: &Events,
) -> Result<()> {
    let mut locks: Vec<Lock> = Vec::new();
    let removed = async {
        for own in kept {
            locks.push(lock(engine, &own.key, image, Duration::ZERO, events).await?);
        }
        refuse_returned(kept, &Present::of(&engine.containers().await?, in_file))?;
        for own in kept {
            own.remove_images(engine).await?;
            own.remove_containers(engine).await?;
        }
        let with_records = kept.iter().filter(|own| own.has_records);
        let keys: Vec<&ServiceKey> = with_records.map(|own| &own.key).collect();
        match keys.is_empty() {
            true => Ok(()),
            false => folders::remove(engine, image, &keys).await,
        }
    };
    let mut removed = removed.await;
    for lock in locks {
        removed = removed.and(lock.release().await);
    }
    removed
}

fn refuse_returned(kept: &[Kept], present: &Present) -> Result<()> {
    match kept.iter().find(|own| !present.is_gone(&own.key)) {
        None => Ok(()),
        Some(own) => Err(Error::refused(format!(
            "{} has containers again; nothing is removed",
            own.key
        ))
        .hint("see what is left: rollout prune")),
    }
}
