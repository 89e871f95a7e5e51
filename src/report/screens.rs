//! One screen, or one for each of several services: as a table on a terminal, else with the name before each line.

use std::{path::PathBuf, time::SystemTime};

use console::{Style, measure_text_width};

use super::{
    log_dir,
    look::Look,
    rows::{Row, cut, spinner, table},
    screen::Screen,
};
use crate::event::{Event, OnHost, Scope};

/// Between the name of a service and a line of its screen, as `docker compose up` has it.
const BETWEEN: &str = "  | ";

pub struct Screens {
    look: Look,
    verbose: bool,
    /// Where the log files of the services are.
    log_dir: Option<PathBuf>,
    /// What is about no service of a stack.
    one: Screen,
    /// The services of a stack, until its report.
    each: Vec<Row>,
    /// The columns of their names.
    width: usize,
}

impl Screens {
    pub fn new(look: Look, verbose: bool, log_dir: Option<PathBuf>) -> Self {
        Self {
            look,
            verbose,
            log_dir,
            one: Screen::new(look, verbose),
            each: Vec::new(),
            width: 0,
        }
    }

    /// The lines of an event, as the terminal takes them.
    pub fn lines(&mut self, at: SystemTime, scope: &Scope, event: &Event) -> Vec<String> {
        match event {
            Event::StackStarted { hosts, .. } if !hosts.is_empty() => {
                self.begin(hosts.iter().flat_map(OnHost::titles).collect());
            }
            Event::StackStarted { services, .. } if services.len() > 1 => {
                self.begin(services.clone());
            }
            Event::StackFinished { .. } => self.end(),
            _ => {}
        }
        let title = scope.title();
        let row = self.each.iter_mut().find(|row| row.title == title);
        let Some(row) = row else {
            let mut lines = self.one.lines(at, scope, event);
            lines.extend(self.log_file(scope, event));
            return match scope.is_of_hosts() {
                true => self.prefixed(&title, lines),
                false => lines,
            };
        };
        row.follow(at, event);
        let mut lines = row.screen.lines(at, scope, event);
        lines.extend(self.log_file(scope, event));
        match self.look.redraws && is_in_table(event) {
            true => Vec::new(),
            false => self.prefixed(&title, lines),
        }
    }

    /// Names the log file of a service that has failed.
    fn log_file(&self, scope: &Scope, event: &Event) -> Option<String> {
        let directory = self.log_dir.as_ref()?;
        let is_failure = matches!(event, Event::Failed { .. }) && !scope.service().is_empty();
        is_failure.then(|| {
            format!(
                "log: {}",
                log_dir::file(directory, &scope.title()).display()
            )
        })
    }

    fn begin(&mut self, titles: Vec<String>) {
        let widths = titles.iter().map(|own| measure_text_width(own));
        self.width = widths.max().unwrap_or_default();
        let before = self.width + BETWEEN.len();
        let look = Look {
            width: self.look.width.map(|all| all.saturating_sub(before)),
            ..self.look
        };
        let row = |title| Row::new(title, Screen::named(look, self.verbose));
        self.each = titles.into_iter().map(row).collect();
    }

    fn prefixed(&self, title: &str, lines: Vec<String>) -> Vec<String> {
        let space = " ".repeat(self.width.saturating_sub(measure_text_width(title)));
        let name = self.look.style(Style::new().bold(), title);
        let lines = lines.into_iter();
        lines
            .map(|line| format!("{name}{space}{BETWEEN}{line}"))
            .collect()
    }

    /// What is drawn in place, on a terminal of so many lines and columns; nothing before the beginning and after the end.
    pub fn live(&self, now: SystemTime, size: (usize, usize)) -> Vec<String> {
        match self.one.activity(now) {
            Some(text) => vec![cut(&format!("  {} {text}", spinner(now)), size.1)],
            None => table(&self.each, self.look, now, size),
        }
    }

    /// The lines that say what goes on, where none is drawn in place.
    pub fn waiting(&self, now: SystemTime) -> Vec<String> {
        let lines = |screen: &Screen| {
            let text = screen.activity(now)?;
            Some(screen.folded(&format!("    {text}")))
        };
        let one = lines(&self.one);
        let each = self.each.iter();
        let each = each.filter_map(|row| Some(self.prefixed(&row.title, lines(&row.screen)?)));
        one.into_iter().chain(each).flatten().collect()
    }

    /// From here on nothing goes on.
    pub fn end(&mut self) {
        self.one.end();
        self.each.clear();
    }
}

/// Whether the row of a service shows it, or has no room for it.
fn is_in_table(event: &Event) -> bool {
    matches!(
        event,
        Event::Started { .. }
            | Event::StepFinished { .. }
            | Event::Ready { .. }
            | Event::Figures(_)
    )
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
            hosts: Vec::new(),
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
        let mut screens = Screens::new(Look::default(), false, None);
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
            gap_ms: None,
            is_open: false,
            hint: Some("fix it".to_owned()),
            logs: vec!["last words".to_owned()],
        };
        let lines = shown(&mut screens, "worker", failed);
        assert!(
            lines.lines().all(|line| line.starts_with("worker  | ")),
            "{lines}"
        );
    }

    fn of_host(host: &str, service: Option<&str>) -> Scope {
        Scope {
            host: Some(host.to_owned()),
            service: service.map(str::to_owned),
            place: Some(host.to_owned()),
            ..Scope::default()
        }
    }

    #[test]
    fn with_several_hosts_each_service_is_named_with_its_host() {
        let mut screens = Screens::new(Look::default(), false, Some("logs".into()));
        let mut lines = |scope: Scope, event: Event| {
            let lines = screens.lines(SystemTime::UNIX_EPOCH, &scope, &event);
            lines.join("\n")
        };
        let notice = |text: &str| Event::Notice {
            text: text.to_owned(),
        };
        let first = || of_host("ssh://me@a", Some("web"));
        assert_eq!(lines(first(), notice("early")), "me@a web  |   ! early");
        let on_host = |host: &str, wave| OnHost {
            host: host.to_owned(),
            wave,
            services: vec!["web".to_owned()],
        };
        let begin = Event::StackStarted {
            services: vec!["web".to_owned()],
            parallel: 4,
            hosts: vec![on_host("ssh://me@a", 1), on_host("tcp://b:2376", 2)],
        };
        assert_eq!(
            lines(Scope::default(), begin),
            "1 service on 2 hosts: web\nwave 1: me@a\nwave 2: b:2376"
        );
        assert_eq!(
            lines(of_host("tcp://b:2376", Some("web")), rolls()),
            "b:2376 web  | app:v2, revision 2, 1 replica, Traefik"
        );
        assert_eq!(
            lines(of_host("ssh://me@a", None), notice("of the host")),
            "me@a        |   ! of the host"
        );
        let failed = Event::Failed {
            message: "broken".to_owned(),
            code: 1,
            gap_ms: None,
            is_open: false,
            hint: None,
            logs: Vec::new(),
        };
        assert_eq!(
            lines(first(), failed),
            "me@a web    | error: broken\nme@a web    | log: logs/me@a_web.log"
        );
    }

    #[test]
    fn the_report_of_several_hosts_has_a_column_for_them() {
        let mut screens = Screens::new(Look::default(), false, None);
        let row = |host: &str| ServiceRow {
            host: Some(host.to_owned()),
            service: "web".to_owned(),
            result: ServiceResult::Rolled,
            revision: Some(2),
            image: None,
            reason: None,
        };
        let services = vec![row("ssh://me@a"), row("tcp://b:2376")];
        let total_ms = 1;
        let table = shown(
            &mut screens,
            "",
            Event::StackFinished { services, total_ms },
        );
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let table: Vec<String> = table.lines().map(words).collect();
        let header = "HOST SERVICE RESULT REVISION IMAGE REASON";
        for line in [header, "me@a web rolled 2", "b:2376 web rolled 2"] {
            assert!(table.iter().any(|own| own == line), "{table:?}");
        }
    }

    #[test]
    fn one_service_is_shown_as_ever() {
        let mut screens = Screens::new(Look::default(), false, None);
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
        let mut screens = Screens::new(look, false, None);
        shown(&mut screens, "", started(&["api", "web", "worker"]));
        let waits = || Event::StepStarted {
            step: "ready",
            replicas: Vec::new(),
            limit_ms: None,
            batch: None,
        };
        for service in ["web", "worker"] {
            shown(&mut screens, service, waits());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
        let lines = screens.waiting(now);
        assert_eq!(lines[0], "web     |     waiting until the new");
        assert!(
            lines.iter().all(|line| measure_text_width(line) <= 40),
            "{lines:?}"
        );
        screens.end();
        assert_eq!(screens.waiting(now), [""; 0]);
    }

    #[test]
    fn the_report_is_a_table_with_a_row_for_each_service() {
        let mut screens = Screens::new(Look::default(), false, None);
        let row = |service: &str, result, revision| ServiceRow {
            host: None,
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

    #[test]
    fn on_a_terminal_the_table_has_the_steps_and_gives_way_to_the_report() {
        let look = Look {
            redraws: true,
            ..Look::default()
        };
        let mut screens = Screens::new(look, false, Some("logs".into()));
        let now = SystemTime::UNIX_EPOCH;
        shown(&mut screens, "", started(&["web", "worker"]));
        assert_eq!(shown(&mut screens, "web", rolls()), "");
        let step = Event::StepFinished {
            step: "create",
            ms: 10,
        };
        assert_eq!(shown(&mut screens, "web", step), "");
        let text = "careful".to_owned();
        let notice = shown(&mut screens, "web", Event::Notice { text });
        assert_eq!(notice, "web     |   ! careful");
        let failed = Event::Failed {
            message: "broken".to_owned(),
            code: 1,
            gap_ms: None,
            is_open: false,
            hint: None,
            logs: Vec::new(),
        };
        let lines = shown(&mut screens, "worker", failed);
        assert_eq!(
            lines,
            "worker  | error: broken\nworker  | log: logs/worker.log"
        );
        let rows = screens.live(now, (24, 80));
        assert_eq!(rows.len(), 2);
        assert!(rows[0].starts_with("  ⠋ web     waiting (0 s)"), "{rows:?}");
        assert_eq!(rows[1], "  ✗ worker  failed");
        let end = Event::StackFinished {
            services: Vec::new(),
            total_ms: 1,
        };
        assert!(shown(&mut screens, "", end).contains("SERVICE"));
        assert_eq!(screens.live(now, (24, 80)), [""; 0]);
    }

    #[test]
    fn one_service_on_a_terminal_has_one_line_that_is_cut_to_its_width() {
        let mut screens = Screens::new(Look::default(), false, None);
        shown(&mut screens, "web", rolls());
        let pull = Event::StepStarted {
            step: "pull",
            replicas: Vec::new(),
            limit_ms: None,
            batch: None,
        };
        shown(&mut screens, "web", pull);
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1100);
        assert_eq!(screens.live(now, (24, 80)), ["  ⠙ pulling the image (1 s)"]);
        assert_eq!(screens.live(now, (24, 12)), ["  ⠙ pulling…"]);
    }
}
