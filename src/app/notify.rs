//! Reads the addresses in the settings of each service of a command, and adds the sink that notifies them.

use std::{collections::BTreeMap, time::SystemTime};

use super::opened::Opened;
use crate::{
    error::Result,
    event::{Event, Events, Sink as _},
    report::notify::{Notifications, Receiver},
    roll::{settings_of, settings_of_all},
    settings::{Kind, Partial},
};

/// By service.
type Receivers = BTreeMap<String, Vec<Receiver>>;

/// From here on, the ends of the rollouts of these services are notified.
pub fn notify<'a>(
    opened: &Opened,
    names: impl IntoIterator<Item = &'a str>,
    flags: &Partial,
    events: &Events,
) -> Result<()> {
    let mut all = Receivers::new();
    for name in names {
        let own = receivers(opened, name, flags);
        let own = own.map_err(|error| error.within(opened.events(events, name).scope()))?;
        all.insert(name.to_owned(), own);
    }
    add(all, events);
    Ok(())
}

/// The same for a command that takes traffic back or settles: a missing secret is a notice, and no obstacle.
pub fn notify_if_possible<'a>(
    opened: &Opened,
    names: impl IntoIterator<Item = &'a str>,
    flags: &Partial,
    events: &Events,
) {
    add(if_possible(opened, names, flags, events), events);
}

/// Notifies of a service that an agent could not roll, which no rollout reports.
pub async fn notify_of_refusal(opened: &Opened, service: &str, event: &Event, events: &Events) {
    let receivers = if_possible(opened, [service], &Partial::default(), events);
    let mut notifications = Notifications::new(receivers);
    let at = SystemTime::now();
    notifications.notify(Kind::Failure, (at, events.scope(), event));
    for text in notifications.end().await {
        events.notice(text);
    }
}

fn if_possible<'a>(
    opened: &Opened,
    names: impl IntoIterator<Item = &'a str>,
    flags: &Partial,
    events: &Events,
) -> Receivers {
    let mut all = Receivers::new();
    for name in names {
        match receivers(opened, name, flags) {
            Ok(own) => drop(all.insert(name.to_owned(), own)),
            Err(error) => {
                let notice = format!("{name} is not notified: {}", error.message);
                opened.events(events, name).notice(notice);
            }
        }
    }
    all
}

fn add(mut all: Receivers, events: &Events) {
    all.retain(|_, own| !own.is_empty());
    if !all.is_empty() {
        events.add(Box::new(Notifications::new(all)));
    }
}

fn receivers(opened: &Opened, name: &str, flags: &Partial) -> Result<Vec<Receiver>> {
    let project = &opened.project;
    let settings = match project.services.get(name) {
        Some(service) => settings_of(project, service, flags, false)?,
        // An undo can be of a service that the Compose file no longer has.
        None => settings_of_all(project, flags)?,
    };
    let all = settings.notify.iter();
    all.map(|own| Receiver::open(own, &project.directory))
        .collect()
}
