//! `rollout up`: chooses the services, checks all of them, and rolls each once all that it needs is done, or plans it.

mod finish;
mod plan;
mod set;
mod swarm;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;

use tokio::sync::watch;

use self::work::Work;
use super::{Opened, notify::notify, signals::signals, stack};
use crate::{
    cli::{self, UpArgs},
    compose::{Hashes, Project},
    error::{Error, Outcome, Result},
    event::{Event, Events},
    execute::together::Group,
    proxy::landscape::Listed,
    roll::settings_of_all,
    settings::{OnFailure, Settings},
    stack::{
        choose::choose,
        graph::{Order, names_others},
    },
};

pub async fn up(up: &UpArgs, events: &Events) -> Result<Outcome> {
    let interrupted = match up.dry_run {
        true => watch::channel(false).1,
        false => signals()?,
    };
    let services = up.services.clone();
    events.emit(Event::Opening { services });
    if !up.dry_run
        && let Some(stack) = stack(&up.target, events).await?
    {
        return swarm::roll(up, &stack, events, interrupted).await;
    }
    let names: Vec<&str> = up.services.iter().map(String::as_str).collect();
    let (opened, knows_profiles, listed) = open(up, &names, events).await?;
    let finds_orphans = up.all && knows_profiles;
    roll_or_plan(up, (&opened, listed), (finds_orphans, interrupted), events).await
}

async fn roll_or_plan(
    up: &UpArgs,
    (opened, listed): (&Opened, Result<Listed>),
    (finds_orphans, interrupted): (bool, watch::Receiver<bool>),
    events: &Events,
) -> Result<Outcome> {
    let names: Vec<&str> = up.services.iter().map(String::as_str).collect();
    let (chosen, left) = choose(&opened.project, &names, up.all);
    let order = Order::of(&opened.project, &chosen)?;
    if !up.dry_run {
        notify(opened, chosen.iter().copied(), &up.settings, events)?;
    }
    let of_each = chosen.iter();
    let of_each = of_each.map(|name| (*name, opened.events(events, name)));
    let of_each: BTreeMap<&str, Events> = of_each.collect();
    let hashes = Hashes::begin(&opened.compose, &opened.project, &chosen);
    let settings = settings_of_all(&opened.project, &up.settings)?;
    let is_together = settings.together && order.services.len() > 1;
    if is_together {
        refuse_on_failure(&settings)?;
    }
    let set = set::given(up, opened, &chosen).await?;
    let group = is_together.then(Group::default);
    let work = Work {
        up,
        hashes: &hashes,
        opened,
        events,
        of_each: &of_each,
        settings,
        interrupted,
        is_stack: up.all || order.services.len() > 1,
        group: group.as_ref(),
        finds_orphans,
        set: set.as_ref(),
    };
    if up.dry_run {
        return work.plan(order, left, listed).await;
    }
    let ended = work.all(order, left, listed).await;
    if let Some(set) = &set {
        set::report_open(set, &ended, events);
    }
    ended.map(|()| Outcome::Done)
}

/// What `--together` does after a failure before all are live; afterwards each service ends by itself.
fn refuse_on_failure(settings: &Settings) -> Result<()> {
    match settings.on_failure {
        OnFailure::Stop => Ok(()),
        OnFailure::Continue | OnFailure::Rollback => Err(Error::refused(
            "with --together all services move or none, so --on-failure has no other value than stop",
        )
        .hint("leave out one of them")),
    }
}

/// Reads the project and the list of containers. The flag says whether services with inactive profiles are known.
async fn open(
    up: &UpArgs,
    names: &[&str],
    events: &Events,
) -> Result<(Opened, bool, Result<Listed>)> {
    let variables = up.set.iter().cloned().collect();
    let target = (&up.target, &variables);
    let opened = Opened::beside(target, names, events, Listed::read).await;
    let (mut opened, listed) = opened?;
    refuse_unknown(&opened.project, names)?;
    let mut is_known = false;
    if up.all || names_others(&opened.project)? {
        is_known = opened.compose.add_disabled(&mut opened.project).await;
    }
    if up.remove_orphans && !is_known {
        let message = "docker compose cannot list the services with inactive profiles, whose containers are no orphans";
        return Err(Error::refused(message).hint("leave out --remove-orphans"));
    }
    Ok((opened, is_known, listed))
}

fn refuse_unknown(project: &Project, names: &[&str]) -> Result<()> {
    for (index, name) in names.iter().enumerate() {
        project.service(name).map_err(|error| match index {
            0 => suggest(error, name, &names[1..]),
            _ => error,
        })?;
    }
    Ok(())
}

/// Adds the command that was probably meant: `rollout statsu web` reads `statsu` as a service.
fn suggest(error: Error, word: &str, others: &[&str]) -> Error {
    // A service with a similar name is the better guess.
    if error.message.contains("did you mean") {
        return error;
    }
    let Some(line) = cli::words::meant(word, others) else {
        return error;
    };
    let services = error.hint.clone().unwrap_or_default();
    error.hint(format!("did you mean: {line}\n      {services}"))
}
