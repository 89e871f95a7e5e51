//! One screen, or one for each of several services, whose name then stands before each of its lines.

use std::{collections::BTreeMap, time::SystemTime};

use console::{Style, measure_text_width};

use super::{look::Look, screen::Screen};
use crate::event::{Event, Scope};

/// Between the name of a service and a line of its screen, as `docker compose up` has it.
const BETWEEN: &str = "  | ";

pub struct Screens {
    look: Look,
    verbose: bool,
    /// What is about no service of a stack.
    one: Screen,
    /// The services of a stack.
    each: BTreeMap<String, Screen>,
    /// The columns of their names.
    width: usize,
}

impl Screens {
    pub fn new(look: Look, verbose: bool) -> Self {
        Self {
            look,
            verbose,
            one: Screen::new(look, verbose),
            each: BTreeMap::new(),
            width: 0,
        }
    }

    /// The lines of an event, as the terminal takes them.
    pub fn lines(&mut self, at: SystemTime, scope: &Scope, event: &Event) -> Vec<String> {
        if let Event::StackStarted { services, .. } = event
            && services.len() > 1
        {
            self.begin(services);
        }
        let service = scope.service();
        let lines = match self.each.get_mut(service) {
            None => return self.one.lines(at, scope, event),
            Some(own) => own.lines(at, scope, event),
        };
        self.prefixed(service, lines)
    }

    fn begin(&mut self, services: &[String]) {
        let widths = services.iter().map(|own| measure_text_width(own));
        self.width = widths.max().unwrap_or_default();
        let before = self.width + BETWEEN.len();
        let look = Look {
            width: self.look.width.map(|all| all.saturating_sub(before)),
            ..self.look
        };
        let screen = |name: &String| (name.clone(), Screen::named(look, self.verbose));
        self.each = services.iter().map(screen).collect();
    }

    fn prefixed(&self, service: &str, lines: Vec<String>) -> Vec<String> {
        let space = " ".repeat(self.width.saturating_sub(measure_text_width(service)));
        let name = self.look.style(Style::new().bold(), service);
        let lines = lines.into_iter();
        lines
            .map(|line| format!("{name}{space}{BETWEEN}{line}"))
            .collect()
    }

    /// What goes on now, of all services; `None` before the beginning and after the end.
    pub fn activity(&self, now: SystemTime) -> Option<String> {
        let one = self.one.activity(now).into_iter();
        let each = self.each.iter();
        let each = each.filter_map(|(name, own)| Some(format!("{name}: {}", own.activity(now)?)));
        let all: Vec<String> = one.chain(each).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// The lines that say what goes on.
    pub fn waiting(&self, now: SystemTime) -> Vec<String> {
        let lines = |screen: &Screen| {
            let text = screen.activity(now)?;
            Some(screen.folded(&format!("    {text}")))
        };
        let one = lines(&self.one);
        let each = self.each.iter();
        let each = each.filter_map(|(name, own)| Some(self.prefixed(name, lines(own)?)));
        one.into_iter().chain(each).flatten().collect()
    }

    /// From here on nothing goes on.
    pub fn end(&mut self) {
        self.one.end();
        self.each.values_mut().for_each(Screen::end);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{ServiceResult, ServiceRow};

    fn of(service: &str) -> Scope {
        Scope {
            service: Some(service.to_owned()),
            ..Scope::default()
        }
    }

    fn shown(screens: &mut Screens, service: &str, event: Event) -> String {
        let scope = match service {
            "" => Scope::default(),
            service => of(service),
        };
        screens
            .lines(SystemTime::UNIX_EPOCH, &scope, &event)
            .join("\n")
    }

    fn started(services: &[&str]) -> Event {
        Event::StackStarted {
            services: services.iter().map(|&own| own.to_owned()).collect(),
            parallel: 4,
        }
    }

    fn rolls() -> Event {
        Event::Started {
            revision: 2,
            replicas: 1,
            proxy: "Traefik".to_owned(),
            image: "app:v2".to_owned(),
            replaces: None,
            undo_to: None,
            restart_of: None,
        }
    }

    #[test]
    fn the_lines_of_several_services_begin_with_their_names() {
        let mut screens = Screens::new(Look::default(), false);
        let begin = shown(&mut screens, "", started(&["web", "worker"]));
        assert_eq!(begin, "2 services, 4 at a time: web, worker");
        let line = shown(&mut screens, "web", rolls());
        assert_eq!(line, "web     | app:v2, revision 2, 1 replica, Traefik");
        let ready = Event::StepFinished {
            step: "ready",
            ms: 10,
        };
        let line = shown(&mut screens, "worker", ready);
        assert_eq!(line, "worker  |   ✓ wait until ready  10 ms");
        let failed = Event::Failed {
            message: "broken".to_owned(),
            code: 1,
            hint: Some("fix it".to_owned()),
            logs: vec!["last words".to_owned()],
        };
        let lines = shown(&mut screens, "worker", failed);
        assert!(
            lines.lines().all(|line| line.starts_with("worker  | ")),
            "{lines}"
        );
    }

    #[test]
    fn one_service_is_shown_as_ever() {
        let mut screens = Screens::new(Look::default(), false);
        shown(&mut screens, "", started(&["web"]));
        let line = shown(&mut screens, "web", rolls());
        assert_eq!(line, "web: app:v2, revision 2, 1 replica, Traefik");
    }

    #[test]
    fn what_goes_on_is_said_of_each_service_that_is_at_work() {
        let look = Look {
            width: Some(40),
            ..Look::default()
        };
        let mut screens = Screens::new(look, false);
        shown(&mut screens, "", started(&["api", "web", "worker"]));
        let waits = || Event::StepStarted {
            step: "ready",
            replicas: Vec::new(),
            limit_ms: None,
        };
        for service in ["web", "worker"] {
            shown(&mut screens, service, waits());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
        let activity = screens.activity(now).unwrap();
        assert_eq!(
            activity,
            "web: waiting until the new replicas are ready (3 s); worker: waiting until the new replicas are ready (3 s)"
        );
        let lines = screens.waiting(now);
        assert_eq!(lines[0], "web     |     waiting until the new");
        assert!(
            lines.iter().all(|line| measure_text_width(line) <= 40),
            "{lines:?}"
        );
        screens.end();
        assert_eq!(screens.activity(now), None);
    }

    #[test]
    fn the_report_is_a_table_with_a_row_for_each_service() {
        let mut screens = Screens::new(Look::default(), false);
        let row = |service: &str, result, revision| ServiceRow {
            service: service.to_owned(),
            result,
            revision,
            image: revision.map(|_| "app:v2".to_owned()),
            reason: Some("why".to_owned()),
        };
        let services = vec![
            row("web", ServiceResult::RolledBack, Some(3)),
            row("db", ServiceResult::LeftAlone, None),
        ];
        let total_ms = 1;
        let event = Event::StackFinished { services, total_ms };
        let table = shown(&mut screens, "", event);
        let line = |service: &str| {
            let mut lines = table.lines();
            let line = lines.find(|line| line.trim_start().starts_with(service));
            let words = line.unwrap().split_whitespace();
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("web"), "web rolled back 3 app:v2 why");
        assert_eq!(line("db"), "db left alone why");
    }
}
