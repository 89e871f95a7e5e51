//! `rollout up`: chooses the services, checks all of them, and rolls each once all that it needs is done, or plans it.

mod finish;
mod plan;
mod set;
mod swarm;
#[cfg(test)]
mod tests;
mod waves;
mod work;

use std::collections::BTreeMap;

use tokio::sync::watch;

use self::work::Work;
use super::{
    notify::notify,
    opened::{Found, Opened, Unread},
    signals::signals,
};
use crate::{
    cli::{self, UpArgs},
    compose::{Hashes, Project},
    error::{Error, Outcome, Result},
    event::{Event, Events},
    execute::together::Group,
    fleet,
    proxy::landscape::Listed,
    roll::settings_of_all,
    settings::{OnFailure, Settings},
    stack::{
        choose::{Left, choose},
        graph::{Order, names_others},
    },
    variables::Given,
};

pub async fn up(up: &UpArgs, events: &Events) -> Result<Outcome> {
    let interrupted = match up.dry_run {
        true => watch::channel(false).1,
        false => signals()?,
    };
    let services = up.services.clone();
    events.emit(Event::Opening { services });
    if up.target.on.len() > 1 {
        return waves::roll_or_plan(up, &up.target.on, interrupted, events).await;
    }
    let variables = variables(up);
    let read = (&Listed::read, Unread::Refuse);
    match Opened::find((&up.target, &variables), &names(up), events, read).await? {
        Found::One(mut opened, listed) => {
            fleet::refuse_bake(&up.settings, 1)?;
            swarm::refuse_unnamed(&opened.project.name, &listed)?;
            let finds_orphans = complete(up, &mut opened).await?;
            roll_or_plan(up, (&*opened, listed), (finds_orphans, interrupted), events).await
        }
        Found::Several(hosts) => waves::roll_or_plan(up, &hosts, interrupted, events).await,
        Found::Stack(stack) if up.dry_run => swarm::plan(up, &stack, events).await,
        Found::Stack(stack) => swarm::roll(up, &stack, events, interrupted).await,
    }
}

fn names(up: &UpArgs) -> Vec<&str> {
    up.services.iter().map(String::as_str).collect()
}

fn variables(up: &UpArgs) -> BTreeMap<String, String> {
    up.set.iter().cloned().collect()
}

async fn roll_or_plan(
    up: &UpArgs,
    (opened, listed): (&Opened, Result<Listed>),
    (finds_orphans, interrupted): (bool, watch::Receiver<bool>),
    events: &Events,
) -> Result<Outcome> {
    let work = Work::of(up, opened, (finds_orphans, interrupted), events);
    let (work, order, left) = work.await?;
    if up.dry_run {
        return work.plan(order, left, listed).await;
    }
    notify(opened, order.names(), &up.settings, events)?;
    let ended = work.all(order, left, listed).await;
    if let Some(set) = &work.set {
        set::report_open(set, &ended, events);
    }
    ended.map(|()| Outcome::Done)
}

impl<'a> Work<'a> {
    /// What the command does on one engine, with the services in their order and those that it leaves alone.
    async fn of(
        up: &'a UpArgs,
        opened: &'a Opened,
        (finds_orphans, interrupted): (bool, watch::Receiver<bool>),
        events: &Events,
    ) -> Result<(Self, Order<'a>, Vec<Left>)> {
        let (chosen, left) = choose(&opened.project, &names(up), up.all);
        let order = Order::of(&opened.project, &chosen)?;
        let of_each = chosen.iter();
        let of_each = of_each.map(|name| (*name, opened.events(events, name)));
        let settings = settings_of_all(&opened.project, &up.settings)?;
        let is_together = settings.together && order.services.len() > 1;
        if is_together {
            refuse_on_failure(&settings)?;
        }
        let is_of_hosts = events.scope().is_of_hosts();
        let set = set::given(up, opened, &chosen).await?;
        let work = Self {
            up,
            hashes: Hashes::begin(&opened.compose, &opened.project, &chosen),
            opened,
            events: events.clone(),
            of_each: of_each.collect(),
            settings,
            interrupted,
            is_stack: up.all || order.services.len() > 1 || is_of_hosts,
            group: is_together.then(Group::default),
            finds_orphans,
            set: set.map(|own| Given {
                at_the_end: is_of_hosts,
                ..own
            }),
            locks: Default::default(),
        };
        Ok((work, order, left))
    }
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

/// Checks the names of the services, and reads which have inactive profiles where that counts. Returns whether orphans
/// differ from such services, and are looked for.
async fn complete(up: &UpArgs, opened: &mut Opened) -> Result<bool> {
    refuse_unknown(&opened.project, &names(up))?;
    let mut is_known = false;
    if up.all || names_others(&opened.project)? {
        is_known = opened.compose.add_disabled(&mut opened.project).await;
    }
    if up.remove_orphans && !is_known {
        let message = "docker compose cannot list the services with inactive profiles, whose containers are no orphans";
        return Err(Error::refused(message).hint("leave out --remove-orphans"));
    }
    Ok(up.all && is_known)
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
