//! Annotations of GitHub Actions: one line for a failure or a pause, which its page of the run shows.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use crate::event::{Event, Scope, Sink};

/// Writes to standard error, which GitHub reads too.
pub struct GitHub;

impl Sink for GitHub {
    fn event(&mut self, _: SystemTime, scope: &Scope, event: &Event) {
        if let Some(line) = annotation(scope, event) {
            // A closed standard error is no reason to stop half-way through a rollout.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

fn annotation(scope: &Scope, event: &Event) -> Option<String> {
    let (level, message) = match event {
        Event::Failed { message, .. } => ("error", message),
        Event::Paused { message, .. } => ("warning", message),
        _ => return None,
    };
    let title = format!("rollout {}", scope.title());
    let (title, message) = (escaped(title.trim_end()), escaped(message));
    let title = title.replace(':', "%3A").replace(',', "%2C");
    Some(format!("::{level} title={title}::{message}"))
}

fn escaped(text: &str) -> String {
    let text = text.replace('%', "%25");
    text.replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_its_message_contains() {
        let scope = Scope {
            service: Some("web".to_owned()),
            ..Scope::default()
        };
        let failed = Event::Failed {
            message: "10 % failed: a,\nb".to_owned(),
            code: 1,
            gap_ms: None,
            is_open: false,
            hint: None,
            logs: Vec::new(),
        };
        let line = annotation(&scope, &failed).unwrap();
        assert_eq!(line, "::error title=rollout web::10 %25 failed: a,%0Ab");
        let line = annotation(&Scope::default(), &failed).unwrap();
        assert!(line.starts_with("::error title=rollout::10"), "{line}");
        let text = "nothing".to_owned();
        assert_eq!(annotation(&scope, &Event::Notice { text }), None);
    }
}
