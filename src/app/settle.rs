//! `rollout resume`, `abort`, `promote` and `pause`: asks the run that is at work, or finishes or rolls back what an ended
//! one has left.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{
    notify::notify_if_possible,
    opened::{Opened, read_project},
    requests::{Left, at_work},
    signals::signals,
};
use crate::{
    ask::Request,
    cli::{PauseArgs, SettleArgs, TargetArgs},
    context::{Beside, Purpose, RunContext},
    error::{Error, Result},
    event::{Event, Events},
    model::{Promote, ServiceKey},
    roll::roll,
    state::{journal::Intent, store},
};

pub async fn settle(settle: &SettleArgs, request: Request, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = vec![settle.service.clone()];
    events.emit(Event::Opening { services });
    let opened = as_begun(&settle.target, &settle.service, events).await?;
    notify_if_possible(&opened, [&*settle.service], &settle.settings, events);
    let events = opened.events(events, &settle.service);
    let promotes = match request {
        Request::Promote(how) => Some(how),
        Request::Undo | Request::Hold | Request::Resume => None,
    };
    let run = RunContext {
        promotes,
        ..opened.run(&events)
    };
    let settled = async {
        let key = opened.project.key(&settle.service);
        if asked(&run, &key, request, &interrupted).await? {
            return Ok(());
        }
        let mut landscape = run.landscape().await?;
        let (name, flags) = (&settle.service, &settle.settings);
        let prepared = run.prepare(
            name,
            flags,
            Beside::default(),
            Purpose::Settle,
            &mut landscape,
        );
        let rolled = roll(prepared.await?, &mut landscape, interrupted, (None, None));
        rolled.await.map(drop)
    };
    let settled: Result<()> = settled.await;
    settled.map_err(|error| error.within(events.scope()))
}

/// The project with the variables that the last rollout of the service was given, where these are in no file yet. Without them
/// Compose may refuse the file.
async fn as_begun(target: &TargetArgs, service: &str, events: &Events) -> Result<Opened> {
    let (opened, unread) = match Opened::of(target, &[service], events).await {
        Ok(opened) => (opened, None),
        Err(error) => {
            let known = Opened::of_containers(target, &[service], (&error, events)).await;
            match known {
                Ok(opened) => (opened, Some(error)),
                Err(_) => return Err(error),
            }
        }
    };
    let values = begun_with(&opened, service, events).await?;
    match unread {
        Some(error) if values.is_empty() => return Err(error),
        None if values.is_empty() => return Ok(opened),
        _ => {}
    }
    let compose = opened.compose.given(&values);
    let project = read_project(&compose, &[service]).await?;
    Ok(Opened {
        compose,
        project,
        ..opened
    })
}

/// The variables of the last rollout that are recorded and not written.
async fn begun_with(
    opened: &Opened,
    service: &str,
    events: &Events,
) -> Result<BTreeMap<String, String>> {
    let (run, key) = (opened.run(events), opened.project.key(service));
    let image = run.any_image(&key).await?;
    // A history that cannot be read is reported later, and is no obstacle.
    let files = store::look(run.engine, &image, &key).await;
    let last = Intent::last(&files.unwrap_or_default());
    let last = last.filter(|last| last.failed.is_none() || last.needs_person());
    let variables = last.and_then(|last| last.revision.variables);
    Ok(variables.map(|own| own.values()).unwrap_or_default())
}

/// Asks the run that is at work; `false` where something may be left to settle: there is none, it has ended or died without
/// hearing the request, or it has gone back.
async fn asked(
    run: &RunContext<'_>,
    key: &ServiceKey,
    request: Request,
    interrupted: &watch::Receiver<bool>,
) -> Result<bool> {
    let Some(at_work) = at_work(run, key).await? else {
        return Ok(false);
    };
    if request == Request::Hold && at_work.has_one_step() {
        return Ok(false);
    }
    let is_heard = at_work.hears(run, key, request, interrupted).await?;
    if is_heard {
        let whose = at_work.whose();
        run.events.notice(match request {
            Request::Undo => format!("{whose} returns the traffic to the old replicas"),
            Request::Promote(Promote::Next) => format!("{whose} takes the next step"),
            Request::Promote(Promote::Full) => format!("{whose} moves all traffic"),
            Request::Hold => format!("{whose} stops before the next step"),
            Request::Resume => format!("{whose} goes on"),
        });
    }
    if request != Request::Undo {
        return Ok(is_heard);
    }
    if is_heard {
        at_work.goes_back(run, &key.service, interrupted).await?;
    }
    let replicas = run.engine.replicas(key).await?;
    match at_work.left(run, key, &replicas).await? {
        Left::NewRevision => Err(finished(&key.service)),
        Left::Unfinished | Left::Before => Ok(false),
    }
}

/// The error of a rollout that was finished before it could be taken back.
fn finished(service: &str) -> Error {
    let message =
        format!("the rollout of {service} has finished: it could not be taken back any more");
    Error::refused(message).hint(format!("rollout undo {service}"))
}

pub async fn pause(pause: &PauseArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let name = &pause.service;
    let opened = Opened::of_records(&pause.target, &[name], events).await?;
    opened.project.service(name)?;
    let events = opened.events(events, name);
    let run = opened.run(&events);
    let key = opened.project.key(name);
    let asked = asked(&run, &key, Request::Hold, &interrupted).await;
    if asked.map_err(|error| error.within(events.scope()))? {
        return Ok(());
    }
    let message = format!("no run is between two steps of a canary or a rolling update of {name}");
    let refused =
        Error::refused(message).hint(format!("rollout status {name} shows what there is"));
    Err(refused.within(events.scope()))
}
