//! The first line of several services, and the table at their end.

use super::{
    look::{Look, plural},
    table::table_in,
    word,
};
use crate::event::{Event, OnHost, ServiceResult, ServiceRow, host_name};

/// The lines of an event that is about all of them.
pub fn lines(look: Look, event: &Event) -> Vec<String> {
    match event {
        Event::StackStarted {
            services,
            parallel,
            hosts,
        } if hosts.is_empty() => vec![format!(
            "{}, {parallel} at a time: {}",
            plural(services.len() as u32, "service"),
            services.join(", ")
        )],
        Event::StackStarted {
            services, hosts, ..
        } => waves(services, hosts),
        Event::StackFinished { services, .. } => report(look, services),
        _ => Vec::new(),
    }
}

/// The services, and the hosts of each wave.
fn waves(services: &[String], hosts: &[OnHost]) -> Vec<String> {
    let count = |all: usize, what| plural(all as u32, what);
    let first = format!(
        "{} on {}: {}",
        count(services.len(), "service"),
        count(hosts.len(), "host"),
        services.join(", ")
    );
    let waves = hosts.chunk_by(|one, other| one.wave == other.wave);
    let waves = waves.map(|wave| {
        let names: Vec<&str> = wave.iter().map(|own| host_name(&own.host)).collect();
        format!("wave {}: {}", wave[0].wave, names.join(", "))
    });
    [first].into_iter().chain(waves).collect()
}

fn report(look: Look, services: &[ServiceRow]) -> Vec<String> {
    let row = |own: &ServiceRow| {
        let text = |own: &Option<String>| own.clone().unwrap_or_default();
        [
            own.host.as_deref().map_or("", host_name).to_owned(),
            own.service.clone(),
            result(own.result),
            own.revision.map_or_else(String::new, |own| own.to_string()),
            text(&own.image),
            text(&own.reason),
        ]
    };
    let header = ["HOST", "SERVICE", "RESULT", "REVISION", "IMAGE", "REASON"];
    let rows = services.iter().map(row);
    let text = match services.iter().any(|own| own.host.is_some()) {
        true => table_in(look, header, rows),
        false => table_in(look, without_host(header), rows.map(without_host)),
    };
    text.lines().map(str::to_owned).collect()
}

fn without_host<T>([_, service, result, revision, image, reason]: [T; 6]) -> [T; 5] {
    [service, result, revision, image, reason]
}

pub(super) fn result(result: ServiceResult) -> String {
    word(&result).replace('_', " ")
}
