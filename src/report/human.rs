//! Lines for people: with a spinner on a terminal, plain elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use console::{Style, Term};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pairs;
use crate::{
    error::one_line,
    event::{Event, Scope, Sink},
    model::Share,
};

/// Draws on standard error, so that standard output stays free for what a command was asked to print.
pub struct Human {
    terminal: Term,
    spinner: ProgressBar,
    compose: Vec<String>,
    verbose: bool,
    /// Why the last step failed, as it was shown.
    reason: String,
    /// When a replica was last said to drain.
    draining: BTreeMap<String, Instant>,
}

/// Between two lines on what one replica still answers; where a spinner shows it, there is none at all.
const DRAINING: Duration = Duration::from_secs(1);

impl Human {
    /// `verbose` shows every line that Compose prints.
    pub fn new(verbose: bool) -> Self {
        let terminal = Term::stderr();
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            terminal,
            spinner,
            compose: Vec::new(),
            verbose,
            reason: String::new(),
            draining: BTreeMap::new(),
        }
    }

    fn line(&self, text: &str) {
        if self.spinner.is_hidden() || self.spinner.is_finished() {
            // A terminal that has gone away is no reason to stop half-way through a rollout.
            let _ = self.terminal.write_line(text);
        } else {
            self.spinner.println(text);
        }
    }

    fn spin(&mut self, text: String) {
        if !self.terminal.is_term() {
            return;
        }
        if self.spinner.is_hidden() || self.spinner.is_finished() {
            self.spinner = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("  {spinner:.cyan} {msg} {elapsed:.dim}")
            {
                self.spinner.set_style(style);
            }
            self.spinner.enable_steady_tick(Duration::from_millis(100));
        }
        self.spinner.set_message(text);
    }

    fn still(&mut self) {
        self.spinner.finish_and_clear();
    }

    fn failed(&mut self, message: &str, hint: Option<&str>, logs: &[String]) {
        if !logs.is_empty() {
            self.line("last lines of the container that failed:");
            for log in logs {
                self.line(&format!("  | {log}"));
            }
        }
        self.line(&format!("{} {message}", red().bold().apply_to("error:")));
        if let Some(hint) = hint {
            self.line(&format!(
                "{} {hint}",
                Style::new().for_stderr().cyan().apply_to("next:")
            ));
        }
    }
}

impl Sink for Human {
    #[expect(clippy::too_many_lines, reason = "a flat match: one arm an event")]
    fn event(&mut self, _: SystemTime, scope: &Scope, event: &Event) {
        match event {
            Event::Started {
                revision,
                replicas,
                proxy,
                image,
                replaces,
                undo_to,
            } => {
                let undo = undo_to.map_or_else(String::new, |to| format!(" (undo to {to})"));
                self.line(&format!(
                    "{}: rolling to revision {revision}{undo}, {}, {}, {proxy}",
                    bold(scope.service()),
                    change(image, replaces.as_deref()),
                    count(*replicas)
                ));
            }
            Event::Notice { text } => self.line(&format!("  {} {text}", yellow().apply_to("!"))),
            Event::NothingToDo { replicas, image } => {
                self.line(&format!(
                    "{}: nothing to do, {} up to date ({image})",
                    bold(scope.service()),
                    count(*replicas)
                ));
            }
            Event::Unfinished { forward } => {
                let what = if *forward {
                    "finishing it"
                } else {
                    "undoing it"
                };
                let rollout = scope.rollout.as_ref().map_or("", |own| &own.0);
                self.line(&format!(
                    "  {} rollout {rollout} was interrupted: {what}",
                    yellow().apply_to("!")
                ));
            }
            Event::StepStarted { step, replicas } => {
                self.compose.clear();
                self.spin(format!("{} {}", doing(step), replicas.join(" ")));
            }
            Event::StepFinished { step, ms } => {
                self.still();
                self.line(&format!(
                    "  {} {:<9} {}",
                    green().apply_to("✓"),
                    word(step),
                    span(*ms)
                ));
            }
            Event::StepFailed { step, reason } => {
                self.still();
                for line in unsaid(std::mem::take(&mut self.compose), reason) {
                    self.line(&format!("    {line}"));
                }
                self.line(&format!(
                    "  {} {:<9} {reason}",
                    red().apply_to("✗"),
                    word(step)
                ));
                self.reason = one_line(reason);
            }
            Event::Compose { line } if self.verbose => self.line(&format!("    {line}")),
            Event::Compose { line } => self.compose.push(line.clone()),
            Event::Ready { replica, by } => self.line(&format!("    new {replica} is ready: {by}")),
            Event::Confirmed { .. } => {}
            Event::Draining {
                replica,
                unanswered,
                streaming,
            } => {
                let text = format!(
                    "{replica} still answers {}",
                    traffic(*unanswered, *streaming)
                );
                if self.terminal.is_term() {
                    self.spin(text);
                } else if is_due(&mut self.draining, replica, Instant::now()) {
                    self.line(&format!("    {text}"));
                }
            }
            Event::Drained { replica, .. } => drop(self.draining.remove(replica)),
            Event::Undoing { reason } => {
                self.still();
                self.line(&format!("  {} {reason}; going back", red().apply_to("✗")));
            }
            Event::Finished {
                revision,
                replicas,
                image,
                replaces,
                cutover_ms,
                gap_ms,
                total_ms,
                phases,
            } => {
                self.still();
                self.line(&summary(
                    scope.service(),
                    (*revision, &change(image, replaces.as_deref())),
                    *replicas,
                    &live(*cutover_ms, *gap_ms),
                    *total_ms,
                    phases,
                ));
            }
            Event::Relabelled {
                container,
                labels,
                route,
                ms,
            } => self.line(&relabelled(container, labels, *route, *ms)),
            Event::Failed {
                message,
                hint,
                logs,
                ..
            } => {
                self.still();
                let message = without_cause(message, &self.reason);
                self.failed(&message, hint.as_deref(), logs);
            }
        }
    }
}

/// Compose's lines, less what it repeats and what the reason says anyway.
fn unsaid(lines: Vec<String>, reason: &str) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for line in lines {
        let said = line
            .rsplit_once(": ")
            .map_or(line.as_str(), |(_, last)| last);
        let said = said.trim();
        if !reason.contains(said) && !left.contains(&line) {
            left.push(line);
        }
    }
    left
}

/// A failure's message without the cause that a failed step has shown: the first clause, and what comes after the cause.
fn without_cause(message: &str, shown: &str) -> String {
    match (message.strip_prefix(shown), shown.split_once(": ")) {
        (Some(rest), Some((what, _))) => format!("{what}{rest}"),
        _ => message.to_owned(),
    }
}

/// The phases in the order in which they come; together they are the whole time.
const ORDER: [&str; 17] = [
    "pull", "build", "hold", "create", "ready", "cutover", "confirm", "bake", "cut_back", "drain",
    "hooks", "stop", "start", "remove", "rename", "release", "other",
];

fn summary(
    service: &str,
    (revision, image): (u64, &str),
    replicas: u32,
    live: &str,
    total: u64,
    phases: &BTreeMap<&'static str, u64>,
) -> String {
    let mut spent: Vec<_> = phases.iter().collect();
    spent.sort_by_key(|(step, _)| ORDER.iter().position(|own| own == *step));
    let spent = spent
        .iter()
        .map(|(step, ms)| format!("{} {}", word(step), span(**ms)));
    let spent: Vec<String> = spent.collect();
    let head = format!(
        "{}: revision {revision} is live, {image}, {}, {live}, {} in all",
        bold(service),
        count(replicas),
        span(total)
    );
    format!("{head} ({})", spent.join(", "))
}

/// How the new version has come to serve.
fn live(cutover: Option<u64>, gap: Option<u64>) -> String {
    let confirmed = match cutover {
        Some(ms) => format!("cutover confirmed in {}", span(ms)),
        None => "no proxy to confirm".to_owned(),
    };
    match gap {
        Some(ms) => format!("{confirmed}, not served for {}", span(ms)),
        None => confirmed,
    }
}

/// The image that comes, and the one that goes where that is another.
fn change(image: &str, replaces: Option<&str>) -> String {
    match replaces.filter(|before| *before != image) {
        Some(before) => format!("{before} → {image}"),
        None => image.to_owned(),
    }
}

fn relabelled(
    container: &str,
    labels: &BTreeMap<String, String>,
    route: Option<Share>,
    ms: u64,
) -> String {
    let said = match labels.is_empty() {
        true => "nothing is set by hand".to_owned(),
        false => pairs(labels),
    };
    let confirmed = match route {
        Some(Share::Live | Share::Weight(_)) => format!("; Traefik routes to it ({})", span(ms)),
        Some(Share::Hidden) => format!("; Traefik routes nothing to it ({})", span(ms)),
        None => String::new(),
    };
    format!("{}: {said}{confirmed}", bold(container))
}

fn traffic(unanswered: u32, streaming: u32) -> String {
    let plural =
        |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    match (unanswered, streaming) {
        (0, streams) => plural(streams, "stream"),
        (requests, 0) => plural(requests, "request"),
        (requests, streams) => format!(
            "{} and {}",
            plural(requests, "request"),
            plural(streams, "stream")
        ),
    }
}

/// The first line on a replica is due at once, a further one after a while.
fn is_due(said: &mut BTreeMap<String, Instant>, replica: &str, now: Instant) -> bool {
    let due = said
        .get(replica)
        .is_none_or(|last| now.duration_since(*last) >= DRAINING);
    if due {
        said.insert(replica.to_owned(), now);
    }
    due
}

fn count(replicas: u32) -> String {
    format!("{replicas} replica{}", if replicas == 1 { "" } else { "s" })
}

fn span(ms: u64) -> String {
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        format!("{:.1} s", ms as f64 / 1000.0)
    }
}

fn word(step: &str) -> String {
    step.replace('_', " ")
}

fn doing(step: &str) -> &'static str {
    match step {
        "hold" => "hiding the new replicas before they exist",
        "create" => "starting the new replicas",
        "ready" => "waiting until the new replicas are ready",
        "cutover" => "moving the traffic",
        "confirm" => "waiting until the proxy agrees",
        "bake" => "watching the new version, ready to go back",
        "cut_back" => "moving the traffic back",
        "drain" => "waiting for the last answers of",
        "hooks" => "running the hooks of",
        "stop" => "stopping",
        "start" => "starting again",
        "remove" => "removing",
        "rename" => "renaming",
        "pull" => "pulling the image",
        "build" => "building the image",
        _ => "tidying up",
    }
}

fn bold(text: &str) -> impl std::fmt::Display + '_ {
    Style::new().for_stderr().bold().apply_to(text)
}

fn green() -> Style {
    Style::new().for_stderr().green()
}

fn yellow() -> Style {
    Style::new().for_stderr().yellow()
}

fn red() -> Style {
    Style::new().for_stderr().red()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_of_the_last_line_are_all_there_in_their_order() {
        let phases = BTreeMap::from([
            ("bake", 2000),
            ("hooks", 5),
            ("other", 40),
            ("pull", 300),
            ("ready", 900),
            ("stop", 1200),
        ]);
        let line = summary(
            "web",
            (2, "app:v2"),
            1,
            &live(None, Some(2100)),
            phases.values().sum(),
            &phases,
        );
        let all = "4.4 s in all (pull 300 ms, ready 900 ms, bake 2.0 s, hooks 5 ms, stop 1.2 s, other 40 ms)";
        assert!(line.ends_with(all), "{line}");
        assert!(
            line.contains("no proxy to confirm, not served for 2.1 s"),
            "{line}"
        );
    }

    #[test]
    fn a_step_that_takes_the_service_down_is_not_called_tidying_up() {
        for step in ORDER
            .iter()
            .filter(|own| !matches!(**own, "release" | "other"))
        {
            assert_ne!(doing(step), "tidying up", "{step}");
        }
    }

    #[test]
    fn what_a_replica_still_answers_is_said_at_once_and_then_once_a_second() {
        let (mut said, start) = (BTreeMap::new(), Instant::now());
        let mut due = |replica, ms| is_due(&mut said, replica, start + Duration::from_millis(ms));
        assert!(due("web-1", 0));
        assert!(!due("web-1", 999));
        assert!(due("web-2", 999));
        assert!(due("web-1", 1000));
        assert!(!due("web-1", 1999));
    }

    #[test]
    fn an_event_for_each_answer_makes_no_line_for_each() {
        let mut said = BTreeMap::new();
        let start = Instant::now();
        let lines =
            (0..1000).filter(|ms| is_due(&mut said, "web-1", start + Duration::from_millis(*ms)));
        assert_eq!(lines.count(), 1);
    }

    #[test]
    fn only_the_cause_that_was_shown_is_left_out_of_a_message() {
        for (message, shown, left) in [
            ("no pull: no host", "no pull: no host", "no pull"),
            (
                "no pull: no host; db was not touched",
                "no pull: no host",
                "no pull; db was not touched",
            ),
            (
                "it died; the old version serves",
                "it died",
                "it died; the old version serves",
            ),
            ("no pull: no host", "", "no pull: no host"),
            ("another: cause", "no pull: no host", "another: cause"),
        ] {
            assert_eq!(without_cause(message, shown), left);
        }
    }
}
