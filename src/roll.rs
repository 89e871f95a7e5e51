//! The rollout of one service from its checks to its report; each phase owns the one before.

mod back;
mod before;
mod begun;
mod changes;
mod checks;
mod contents;
mod decided;
mod difference;
mod examine;
mod hooks;
mod image;
mod joined;
mod limits;
mod lock;
mod one_shot;
mod prepare;
mod preview;
mod record;
mod refuse;
mod rolling;
mod stand;
mod unfinished;
mod variables;
mod version;
mod warn;

use tokio::sync::watch;

#[cfg(test)]
pub use self::stand::Shifted;
pub use self::{
    begun::rollout_id,
    changes::{changed_labels, changed_variables},
    examine::{Examined, Way},
    prepare::{Prepared, settings_of, settings_of_all},
    stand::{Holder, Standing, Wanted},
    warn::warn_of_memory,
};
use crate::{
    context::Purpose,
    error::{Error, Outcome, Result},
    event::{Events, ServiceResult},
    execute::together::Group,
    proxy::landscape::Landscape,
    settings::OnUnfinished,
    state::Lock,
};

/// How a service that did not fail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub result: ServiceResult,
    /// The revision that is live; `None` where it is unknown.
    pub revision: Option<u64>,
    /// The revision that ran before.
    pub before: Option<u64>,
    pub image: String,
}

/// Rolls a service, with `group` in the same moment as others, or finishes or rolls back an unfinished rollout, under the lock
/// of the service, which is taken here unless the command holds it already.
pub async fn roll(
    prepared: Prepared<'_>,
    landscape: &mut Landscape,
    interrupted: watch::Receiver<bool>,
    (group, lock): (Option<&Group>, Option<Lock>),
) -> Result<Ended> {
    let service = prepared.context.service;
    let (again, on) = (command(&prepared), prepared.scope().on());
    let rolled = under_lock(prepared, landscape, interrupted, (group, lock)).await;
    rolled.map_err(|error| with_next(error, (&service.name, &on), again))
}

/// The command that rolls the service.
fn command(prepared: &Prepared<'_>) -> String {
    let (run, context) = (&prepared.run, &prepared.context);
    let (name, on) = (&context.service.name, prepared.scope().on());
    let service = format!("{name}{on}");
    match (context.purpose, run.set) {
        (Purpose::Settle, _) if context.settings.on_unfinished == OnUnfinished::Abort => {
            format!("rollout abort {service}")
        }
        (Purpose::Settle, _) => format!("rollout resume {service}"),
        // On one host alone it would write the variables too early.
        (Purpose::Roll, Some(set)) if run.back.is_none() => {
            format!("rollout {name}{}", set.options())
        }
        (Purpose::Roll, _) => again(&service, run.undo_to(), run.restarts()),
    }
}

/// The command that rolls a service to a recorded revision, or to what its Compose file says.
fn again(service: &str, undo_to: Option<u64>, restarts: bool) -> String {
    match undo_to {
        Some(number) => format!("rollout undo {service} --to {number}"),
        None if restarts => format!("rollout restart {service}"),
        None => format!("rollout {service}"),
    }
}

async fn under_lock(
    prepared: Prepared<'_>,
    landscape: &mut Landscape,
    interrupted: watch::Receiver<bool>,
    (group, lock): (Option<&Group>, Option<Lock>),
) -> Result<Ended> {
    let events = prepared.run.events;
    let helper_image = prepared.helper_image(landscape).await?;
    let lock = match lock {
        Some(lock) => lock,
        None => prepared.lock(&helper_image, &interrupted).await?,
    };
    let held = Held {
        lock: &lock,
        helper_image,
        interrupted,
        group,
    };
    let rolled = story(prepared, held, landscape).await;
    release(lock, events).await;
    rolled
}

pub async fn release(lock: Lock, events: &Events) {
    if let Err(error) = lock.release().await {
        events.notice(format!("the lock could not be released: {}", error.message));
    }
}

/// What every phase of a rollout uses.
struct Held<'a> {
    lock: &'a Lock,
    /// The image whose `/rollout` helpers run; `None` where there is none.
    helper_image: Option<String>,
    interrupted: watch::Receiver<bool>,
    /// The services that cut over in the same moment, where they do.
    group: Option<&'a Group>,
}

async fn story(prepared: Prepared<'_>, held: Held<'_>, landscape: &mut Landscape) -> Result<Ended> {
    if prepared.context.runs_once {
        return prepared.run_once(&held).await;
    }
    let locked = prepared.locked(held, landscape).await?;
    let mut settled = locked.settle_unfinished().await?;
    if settled.purpose() == Purpose::Settle || settled.is_outdated() {
        return Ok(settled.unchanged());
    }
    if settled.is_replaced() {
        return Ok(settled.left_alone());
    }
    let version = settled.fetch_version(landscape).await?;
    if settled.already_runs(&version).await? {
        settled.locked.prepared.write_given().await?;
        return Ok(settled.nothing_to_do(version));
    }
    if let Some(why) = settled.is_undecided(&version) {
        return Ok(settled.left_undecided(&why));
    }
    let mut begun = settled.begin(version).await?;
    let summary = begun.execute().await;
    begun.finish(summary).await
}

/// `again` is the command that has ended.
fn with_next(error: Error, (service, on): (&str, &str), again: String) -> Error {
    if error.hint.is_some() {
        return error;
    }
    match error.outcome {
        Outcome::Failed => error.hint(format!("fix the problem and run `{again}` again")),
        Outcome::NeedsPerson => error.hint(format!(
            "check `docker compose ps {service}`, then run `{again}` again"
        )),
        Outcome::Interrupted => error.hint(again),
        Outcome::Paused => error.hint(format!(
            "rollout promote {service}{on} goes on, with --full to the end; rollout abort {service}{on} goes back"
        )),
        Outcome::Done | Outcome::Refused | Outcome::Locked | Outcome::Changes => error,
    }
}

#[cfg(test)]
pub mod tests;
