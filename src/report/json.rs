//! One event a line, as JSON, with its time and its scope.

use std::{io::Write, time::SystemTime};

use serde::Serialize;

use crate::event::{Event, Scope, Sink};

#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// RFC 3339, in UTC, with milliseconds.
    time: String,
    #[serde(flatten)]
    scope: &'a Scope,
}

impl<'a> Line<'a> {
    pub fn of(at: SystemTime, scope: &'a Scope, event: &'a Event) -> Self {
        let time = humantime::format_rfc3339_millis(at).to_string();
        Self { event, time, scope }
    }
}

/// Writes to standard output, or to a file that keeps a record beside another sink.
pub struct Json<W> {
    to: W,
}

impl<W: Write + Send> Json<W> {
    /// Writes each event to `to` and flushes it, so that a reader sees it at once.
    pub fn new(to: W) -> Self {
        Self { to }
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event) {
        let Ok(line) = serde_json::to_string(&Line::of(at, scope, event)) else {
            return;
        };
        // A reader that has gone away is no reason to stop half-way through a rollout.
        let _ = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::ServiceKey;

    #[test]
    fn a_line_has_its_time_and_as_much_of_its_scope_as_is_known() {
        let mut json = Json::new(Vec::new());
        let notice = Event::Notice {
            text: "x".to_owned(),
        };
        let (project, service) = ("shop".to_owned(), "web".to_owned());
        let events = crate::event::Events::default();
        let of_web = events.of_service("unix:///s", &ServiceKey { project, service });
        let at = SystemTime::now();
        json.event(at, events.scope(), &notice);
        json.event(at, of_web.scope(), &notice);
        let lines = String::from_utf8(json.to).unwrap();
        let mut lines = lines.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line["time"].take();
            humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
            line
        });
        let bare = serde_json::json!({"event": "notice", "text": "x", "time": null});
        assert_eq!(lines.next().unwrap(), bare);
        let whole = lines.next().unwrap();
        assert_eq!(
            (&whole["host"], &whole["project"], &whole["service"]),
            (&"unix:///s".into(), &"shop".into(), &"web".into())
        );
        assert_eq!(whole.get("rollout"), None);
    }
}
