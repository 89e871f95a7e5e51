//! `rollout undo`: chooses an earlier revision of each service, and rolls to its record.

mod offer;
mod still;
mod swarm;

pub use self::swarm::to_revision as to_revision_of_stack;
use tokio::sync::watch;

use super::{
    emit_failure,
    history::{known, remembered},
    notify::notify_if_possible,
    opened::{Found, Opened, Unread},
    recorded::{Recorded, refuse_lost},
    requests::{AtWork, Left, at_work},
    several::{at_once, in_turn, refuse_twice},
    signals::signals,
    stacks::option,
};
use crate::{
    ask::Request,
    cli::UndoArgs,
    context::RunContext,
    error::{Error, Result},
    event::{Event, Events, ServiceResult},
    execute::together::Group,
    model::{Replica, ServiceKey, image_name, label},
    roll::{Ended, settings_of_all},
    settings::{OnUnfinished, Partial},
    state::revisions::{Revision, Revisions},
};

pub async fn undo(undo: &UndoArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let names: Vec<&str> = undo.services.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Err(offer::offer(&undo.target, events).await?);
    }
    refuse_names(&names, undo.to)?;
    let services = undo.services.clone();
    events.emit(Event::Opening { services });
    let found = Opened::find_alone(&undo.target, &names, events, Unread::Refuse).await?;
    if let Found::Stack(stack) = &found {
        return swarm::undo(undo, stack, events, interrupted).await;
    }
    let (opened, ()) = found.one()?;
    notify_if_possible(&opened, names.iter().copied(), &undo.settings, events);
    let settings = settings_of_all(&opened.project, &undo.settings)?;
    let is_together = settings.together && names.len() > 1;
    let mut all = Vec::new();
    for name in &names {
        let events = opened.events(events, name);
        let run = RunContext {
            of_several: names.len() > 1,
            together: is_together,
            ..opened.run(&events)
        };
        let asked = Asked::of(&opened, &run, name, &undo.settings).await;
        all.push(asked.map_err(|error| error.within(events.scope()))?);
    }
    let undo = Undo {
        arguments: undo,
        opened: &opened,
        events,
        interrupted,
    };
    match is_together {
        true => undo.together(&all).await,
        false => undo.one_by_one(&all).await,
    }
}

/// What the undo of each service needs.
struct Undo<'a> {
    arguments: &'a UndoArgs,
    opened: &'a Opened,
    events: &'a Events,
    interrupted: watch::Receiver<bool>,
}

/// A service that is to be undone.
struct Asked<'a> {
    service: &'a str,
    /// The run that rolls it, as this one begins.
    at_work: Option<AtWork>,
}

impl<'a> Asked<'a> {
    /// Of several services, none is touched before all can be undone. A run that goes on may be asked to roll back.
    async fn of(
        opened: &Opened,
        run: &RunContext<'_>,
        service: &'a str,
        given: &Partial,
    ) -> Result<Self> {
        let (engine, key) = (&opened.engine, opened.project.key(service));
        let at_work = at_work(run, &key).await?;
        if at_work.is_none() && run.of_several {
            let replicas = engine.replicas(&key).await?;
            let revisions = remembered(run, &key).await?;
            if revisions.list.is_empty() {
                opened.project.service(service)?;
            }
            let (back, on_unfinished) = target(&revisions, &replicas, None, service)?;
            let recorded = Recorded::of(opened, service, back).await?;
            let flags = recorded.flags(given.clone()).or(before(on_unfinished));
            recorded.check(run, service, &flags).await?;
        }
        Ok(Self { service, at_work })
    }
}

impl Undo<'_> {
    /// Undoes the last one first.
    async fn one_by_one(&self, all: &[Asked<'_>]) -> Result<()> {
        let all: Vec<&Asked<'_>> = all.iter().rev().collect();
        let names: Vec<&str> = all.iter().map(|asked| asked.service).collect();
        let each = async |at: usize| {
            let events = self.opened.events(self.events, names[at]);
            self.one(all[at], &events, None).await
        };
        in_turn(&names, self.events, &self.interrupted, each).await
    }

    /// Undoes all in the same moment.
    async fn together(&self, all: &[Asked<'_>]) -> Result<()> {
        let group = Group::default();
        let names: Vec<&str> = all.iter().map(|asked| asked.service).collect();
        group.expect(names.iter().copied());
        at_once(&names, self.events, async |at| {
            let events = self.opened.events(self.events, names[at]);
            let undone = self.one(&all[at], &events, Some(&group)).await;
            group.leave(names[at], undone.is_err());
            undone.inspect_err(|error| emit_failure(&events, error))
        })
        .await
    }

    async fn one(
        &self,
        asked: &Asked<'_>,
        events: &Events,
        group: Option<&Group>,
    ) -> Result<Ended> {
        let gone_back = self.go_back(asked, events, group).await;
        gone_back.map_err(|error| error.within(events.scope()))
    }

    async fn go_back(
        &self,
        asked: &Asked<'_>,
        events: &Events,
        group: Option<&Group>,
    ) -> Result<Ended> {
        let (undo, opened) = (self.arguments, self.opened);
        let (engine, service) = (&opened.engine, asked.service);
        let key = opened.project.key(service);
        let here = RunContext {
            of_several: undo.services.len() > 1,
            together: group.is_some(),
            ..opened.run(events)
        };
        if undo.to.is_none()
            && let Some(old) = self.of_another_run(asked, &here, &key).await?
        {
            let runs = (old.reference.as_str(), old.hash.as_str());
            still::warn(opened, events, service, runs).await;
            return Ok(now_runs(&old));
        }
        let replicas = engine.replicas(&key).await?;
        let revisions = remembered(&here, &key).await?;
        if revisions.list.is_empty() {
            opened.project.service(service)?;
        }
        let (back, on_unfinished) = target(&revisions, &replicas, undo.to, service)?;
        let flags = (undo.settings.clone(), on_unfinished);
        let beside = (self.interrupted.clone(), group);
        restore(opened, &here, (service, back), flags, beside).await
    }

    /// Asks a run that is at work to roll back. Returns a replica that serves then; `None` if there is no such run, or it has
    /// left a new revision, which is undone like any other, or a rollout that is unfinished.
    async fn of_another_run(
        &self,
        asked: &Asked<'_>,
        run: &RunContext<'_>,
        key: &ServiceKey,
    ) -> Result<Option<Replica>> {
        let now = at_work(run, key).await?;
        if let Some(now) = &now {
            self.cut_back(run, key, now).await?;
        }
        let Some(ended) = now.as_ref().or(asked.at_work.as_ref()) else {
            return Ok(None);
        };
        let replicas = run.engine.replicas(key).await?;
        if ended.left(run, key, &replicas).await? != Left::Before {
            return Ok(None);
        }
        if now.is_none() {
            let notice = format!(
                "{} has gone back together with another service",
                key.service
            );
            run.events.notice(notice);
        }
        Ok(replicas.into_iter().next())
    }

    /// Returns once the run that is at work has ended: it has gone back, or has not heard the request in time.
    async fn cut_back(
        &self,
        run: &RunContext<'_>,
        key: &ServiceKey,
        at_work: &AtWork,
    ) -> Result<()> {
        let request = Request::Undo;
        if !at_work.hears(run, key, request, &self.interrupted).await? {
            return Ok(());
        }
        run.events.notice(format!(
            "{} returns the traffic to the old replicas",
            at_work.whose()
        ));
        at_work
            .goes_back(run, &key.service, &self.interrupted)
            .await
    }
}

fn refuse_names(names: &[&str], to: Option<u64>) -> Result<()> {
    if let Some(number) = to
        && names.len() > 1
    {
        let message = format!("--to {number} names a revision of one service");
        return Err(
            Error::refused(message).hint(format!("write: rollout undo {} --to {number}", names[0]))
        );
    }
    refuse_twice(names)
        .map_err(|error| error.hint("name each service once; --to N goes further back"))
}

/// The end of a service that another run has returned to this replica's version.
fn now_runs(old: &Replica) -> Ended {
    Ended {
        result: ServiceResult::Rolled,
        revision: old.revision,
        before: None,
        image: image_name(&old.reference, &old.image),
    }
}

/// Returns a service to the revision of this number.
pub async fn to_revision(
    opened: &Opened,
    run: &RunContext<'_>,
    (service, number): (&str, u64),
    given: Partial,
    interrupted: watch::Receiver<bool>,
) -> Result<Ended> {
    let revisions = remembered(run, &opened.project.key(service)).await?;
    let back = known(&revisions, number, service, None)?;
    let flags = (given, OnUnfinished::Resume);
    restore(opened, run, (service, back), flags, (interrupted, None)).await
}

/// Rolls a service to a recorded revision.
async fn restore(
    opened: &Opened,
    run: &RunContext<'_>,
    (service, back): (&str, &Revision),
    (given, on_unfinished): (Partial, OnUnfinished),
    (interrupted, group): (watch::Receiver<bool>, Option<&Group>),
) -> Result<Ended> {
    let recorded = Recorded::of(opened, service, back).await?;
    let flags = recorded.flags(given).or(before(on_unfinished));
    let rolled = recorded.roll(run, (service, &flags), interrupted, group);
    let ended = rolled.await?;
    if ended.result != ServiceResult::LeftAlone {
        let runs = (back.image.reference.as_str(), back.hash.as_str());
        still::warn(opened, run.events, service, runs).await;
    }
    Ok(ended)
}

/// The setting for an unfinished rollout.
fn before(on_unfinished: OnUnfinished) -> Partial {
    let goal = match on_unfinished {
        OnUnfinished::Resume => "resume",
        OnUnfinished::Abort => "abort",
        OnUnfinished::Fail => "fail",
    };
    Partial::of("on-unfinished", goal)
}

/// The revision to go back to, and what to do first with an unfinished rollout.
fn target<'a>(
    revisions: &'a Revisions,
    replicas: &[Replica],
    to: Option<u64>,
    service: &str,
) -> Result<(&'a Revision, OnUnfinished)> {
    let (back, on_unfinished) = earlier(revisions, replicas, to, service)?;
    refuse_lost(back, service)?;
    Ok((back, on_unfinished))
}

fn earlier<'a>(
    revisions: &'a Revisions,
    replicas: &[Replica],
    to: Option<u64>,
    service: &str,
) -> Result<(&'a Revision, OnUnfinished)> {
    if let Some(number) = to {
        return Ok((
            known(revisions, number, service, None)?,
            OnUnfinished::Resume,
        ));
    }
    let newest = replicas.iter().max_by_key(|replica| replica.revision);
    let running = revisions.running(replicas);
    // An undo that was killed before its record continues to the same revision.
    let is_recorded = running.is_some_and(|number| revisions.get(number).is_some());
    let begun = newest.filter(|_| !is_recorded);
    let begun = begun
        .and_then(|newest| newest.labels.get(label::UNDO)?.parse().ok())
        .and_then(|number| revisions.get(number));
    if let Some(begun) = begun {
        return Ok((begun, OnUnfinished::Resume));
    }
    let is_run = |own: &Revision| newest.is_some_and(|replica| own.is_run_by(replica));
    let earlier = revisions.earlier(running, is_run);
    earlier
        .map(|own| (own, OnUnfinished::Abort))
        .ok_or_else(|| no_earlier(service, None))
}

fn no_earlier(service: &str, stack: Option<&str>) -> Error {
    Error::refused(format!(
        "there is no earlier revision of {service} to go back to"
    ))
    .hint(format!(
        "rollout history {service}{} lists the revisions; the next rollout records one",
        option(stack)
    ))
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
