//! The first line of several services, and the table at their end.

use super::{
    look::{Look, plural},
    table::table_in,
};
use crate::event::{Event, ServiceResult, ServiceRow};

/// The lines of an event that is about all of them.
pub fn lines(look: Look, event: &Event) -> Vec<String> {
    match event {
        Event::StackStarted { services, parallel } => vec![format!(
            "{}, {parallel} at a time: {}",
            plural(services.len() as u32, "service"),
            services.join(", ")
        )],
        Event::StackFinished { services, .. } => report(look, services),
        _ => Vec::new(),
    }
}

fn report(look: Look, services: &[ServiceRow]) -> Vec<String> {
    let row = |own: &ServiceRow| {
        let revision = own.revision.map_or_else(String::new, |own| own.to_string());
        let text = |own: &Option<String>| own.clone().unwrap_or_default();
        [
            own.service.clone(),
            result(own.result).to_owned(),
            revision,
            text(&own.image),
            text(&own.reason),
        ]
    };
    let header = ["SERVICE", "RESULT", "REVISION", "IMAGE", "REASON"];
    let text = table_in(look, header, services.iter().map(row));
    text.lines().map(str::to_owned).collect()
}

pub(super) fn result(result: ServiceResult) -> &'static str {
    match result {
        ServiceResult::Rolled => "rolled",
        ServiceResult::Unchanged => "unchanged",
        ServiceResult::Completed => "completed",
        ServiceResult::Failed => "failed",
        ServiceResult::RolledBack => "rolled back",
        ServiceResult::NotBegun => "not begun",
        ServiceResult::Paused => "paused",
        ServiceResult::LeftAlone => "left alone",
    }
}
