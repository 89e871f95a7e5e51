//! What a person sees of a rollout: the lines of each event, and what goes on until the next one.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use console::{Style, strip_ansi_codes};

use super::{
    figures,
    look::{Look, plural},
    pairs, stack,
};
use crate::{
    error::one_line,
    event::{Event, Scope},
    model::Share,
    text_file::from_here,
};

/// Decides what is shown; draws nothing.
#[derive(Default)]
pub struct Screen {
    look: Look,
    /// Show every line that Compose prints.
    verbose: bool,
    /// The name of the service stands before each line.
    is_named: bool,
    activity: Option<Activity>,
    /// How many replicas the rollout makes, and how many of them are ready.
    replicas: u32,
    ready: u32,
    proxy: String,
    /// Which batch of a rolling update the last step was about, as the end of its line.
    batch: String,
    /// What Compose has printed in this step.
    compose: Vec<String>,
    /// Why the last step failed, as it was shown.
    reason: String,
    /// Unanswered requests and open streams of each replica that is drained.
    draining: BTreeMap<String, (u32, u32)>,
}

struct Activity {
    step: &'static str,
    text: String,
    since: SystemTime,
    /// The longest that it takes.
    limit: Option<Duration>,
}

impl Activity {
    /// How long it has left, or has taken.
    fn time(&self, now: SystemTime) -> String {
        let spent = now.duration_since(self.since).unwrap_or_default();
        match self.limit {
            Some(limit) => {
                let left = limit.saturating_sub(spent);
                format!("{:.0} s left", left.as_secs_f64().ceil())
            }
            None => format!("{} s", spent.as_secs()),
        }
    }
}

impl Screen {
    pub fn new(look: Look, verbose: bool) -> Self {
        Self {
            look,
            verbose,
            ..Self::default()
        }
    }

    /// Before whose lines the name of the service stands.
    pub fn named(look: Look, verbose: bool) -> Self {
        Self {
            is_named: true,
            ..Self::new(look, verbose)
        }
    }

    /// What goes on now, with how far it is; `None` before the beginning and after the end.
    pub fn activity(&self, now: SystemTime) -> Option<String> {
        let own = self.activity.as_ref()?;
        let text = match own.step {
            "drain" if !self.draining.is_empty() => draining(&self.draining),
            _ => own.text.clone(),
        };
        let ready = match own.step {
            "ready" if self.replicas > 0 => format!("{} of {} ready, ", self.ready, self.replicas),
            _ => String::new(),
        };
        let batch = match own.step {
            "" => "",
            _ => &self.batch,
        };
        Some(format!("{text}{batch} ({ready}{})", own.time(now)))
    }

    /// The same in fewer words.
    pub fn brief(&self, now: SystemTime) -> Option<String> {
        let own = self.activity.as_ref()?;
        let far = match own.step {
            "ready" if self.replicas > 0 => format!("{} of {}, ", self.ready, self.replicas),
            "drain" if !self.draining.is_empty() => {
                let sum = |(all, more): (u32, u32), own: &(u32, u32)| (all + own.0, more + own.1);
                let (unanswered, streaming) = self.draining.values().fold((0, 0), sum);
                format!("{} in flight, ", traffic(unanswered, streaming))
            }
            _ => String::new(),
        };
        let text = match own.step {
            "" | "await_others" => &own.text,
            step => done_step(step),
        };
        Some(format!("{text}: {far}{}", own.time(now)))
    }

    /// From here on nothing goes on.
    pub fn end(&mut self) {
        self.activity = None;
    }

    fn begins(&mut self, at: SystemTime, step: &'static str, text: String, limit: Option<u64>) {
        self.activity = Some(Activity {
            step,
            text,
            since: at,
            limit: limit.map(Duration::from_millis),
        });
    }

    /// The lines of an event, as the terminal takes them.
    pub fn lines(&mut self, at: SystemTime, scope: &Scope, event: &Event) -> Vec<String> {
        self.follow(at, event);
        let lines = self.of_runs(scope, event).into_iter();
        let lines = lines.chain(stack::lines(self.look, event));
        let lines: Vec<String> = lines.chain(self.of_steps(event)).collect();
        let folded = lines.iter().flat_map(|line| self.folded(line));
        folded.collect()
    }

    pub fn folded(&self, line: &str) -> Vec<String> {
        self.look.lines(line)
    }

    fn starts(&mut self, at: SystemTime, replicas: u32, proxy: &str) {
        (self.replicas, self.ready) = (replicas, 0);
        let name = proxy.split(" (").next();
        self.proxy = name.unwrap_or_default().to_owned();
        self.begins(at, "", "working".to_owned(), None);
    }

    /// Keeps up what goes on.
    fn follow(&mut self, at: SystemTime, event: &Event) {
        match event {
            Event::Opening { services } => {
                let text = self.reading(services);
                self.begins(at, "", text, None);
            }
            Event::Started {
                replicas, proxy, ..
            } => self.starts(at, *replicas, proxy),
            Event::StepStarted {
                step,
                replicas,
                limit_ms,
                batch,
            } => {
                self.compose.clear();
                self.draining.clear();
                let batch = batch.map(|own| format!(", batch {} of {}", own.batch, own.batches));
                self.batch = batch.unwrap_or_default();
                let text = doing(step, &replicas.join(", "), &self.proxy);
                self.begins(at, step, text, *limit_ms);
            }
            Event::StepFinished { .. } | Event::StepFailed { .. } => {
                self.begins(at, "", "working".to_owned(), None);
            }
            // Outside of a step, a notice says what is waited for.
            Event::Notice { .. } if self.is_between_steps() => {
                self.begins(at, "", "waiting".to_owned(), None);
            }
            Event::Ready { .. } => self.ready += 1,
            Event::Draining {
                replica,
                unanswered,
                streaming,
            } => {
                let counts = (*unanswered, *streaming);
                self.draining.insert(replica.clone(), counts);
            }
            Event::Drained { replica, .. } => drop(self.draining.remove(replica)),
            Event::StackStarted { .. }
            | Event::StackFinished { .. }
            | Event::Completed { .. }
            | Event::Plan(_)
            | Event::NothingToDo { .. }
            | Event::Finished { .. }
            | Event::Settled { .. }
            | Event::Paused { .. }
            | Event::Failed { .. } => self.end(),
            _ => {}
        }
    }

    fn reading(&self, services: &[String]) -> String {
        match self.is_named {
            true => READING.to_owned(),
            false => format!("{}: {READING}", all(services)),
        }
    }

    fn is_between_steps(&self) -> bool {
        let activity = self.activity.as_ref();
        activity.is_some_and(|own| own.step.is_empty())
    }

    fn of_runs(&mut self, scope: &Scope, event: &Event) -> Vec<String> {
        let service = self.title(scope.service());
        vec![match event {
            // Where it is drawn in place, it is no line of its own.
            Event::Opening { services } if !self.look.redraws => {
                format!("{}{READING}", self.title(&all(services)))
            }
            Event::Completed { image, ms } => {
                format!("{service}{image} completed, after {}", span(*ms))
            }
            Event::Started {
                revision,
                replicas,
                proxy,
                image,
                replaces,
                undo_to,
                restart_of,
            } => {
                let copies = copies(*undo_to, *restart_of);
                let (image, replicas) = (change(image, replaces.as_deref()), count(*replicas));
                format!("{service}{image}, revision {revision}{copies}, {replicas}, {proxy}")
            }
            Event::Notice { text } => format!("  {} {text}", self.warning()),
            Event::NothingToDo { replicas, image } => format!(
                "{service}nothing to do, {} up to date ({image})",
                count(*replicas)
            ),
            Event::Unfinished { forward } => {
                format!("  {} {}", self.warning(), unfinished(scope, *forward))
            }
            Event::Finished {
                image,
                replaces,
                cutover_ms,
                live_ms,
                gap_ms,
                total_ms,
                ..
            } => {
                let image = change(image, replaces.as_deref());
                let live = live(cutover_ms.zip(*live_ms), *gap_ms);
                format!("{service}{image} {live}, done after {}", span(*total_ms))
            }
            Event::Relabelled {
                container,
                labels,
                route,
                ms,
            } => relabelled(&self.bold(container), labels, *route, *ms),
            Event::Paused { message, hint, .. } => {
                let line = format!("{service}{message}");
                return [vec![line], self.next(hint.as_deref())].concat();
            }
            Event::Failed {
                message,
                hint,
                logs,
                ..
            } => return self.failed(message, hint.as_deref(), logs),
            _ => return Vec::new(),
        }]
    }

    fn of_steps(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::StepFinished { step, ms } => {
                let done = self.look.style(Style::new().green(), "✓");
                let (step, batch) = (done_step(step), &self.batch);
                vec![format!("  {done} {step:<16}  {}{batch}", span(*ms))]
            }
            Event::StepFailed { step, reason } => {
                self.reason = one_line(reason);
                let lines = unsaid(std::mem::take(&mut self.compose), reason);
                let lines = lines.into_iter().map(|line| format!("    {line}"));
                let (step, batch) = (done_step(step), &self.batch);
                let failed = format!("  {} {step:<16}  {reason}{batch}", self.failure());
                lines.chain([failed]).collect()
            }
            Event::Undoing { reason } => {
                vec![format!("  {} {reason}; rolling back", self.failure())]
            }
            Event::Compose { line } => {
                let line = plain(line);
                match self.verbose {
                    true => return vec![format!("    {line}")],
                    false => self.compose.push(line),
                }
                Vec::new()
            }
            Event::Figures(spans) => figures::lines_if_any(spans),
            Event::VariablesWritten { file, variables } => {
                let done = self.look.style(Style::new().green(), "✓");
                let file = from_here(Path::new(file));
                vec![format!("  {done} {file} has {}", variables.join(", "))]
            }
            Event::Hook { hook, line } => vec![format!("    {hook}: {}", plain(line))],
            Event::Log { replica, line } => vec![format!("    {replica} | {}", plain(line))],
            Event::Ready { replica, by } => {
                let number = match self.replicas {
                    0 | 1 => String::new(),
                    all => format!(" ({} of {all})", self.ready),
                };
                vec![format!("    new replica {replica} is ready{number}: {by}")]
            }
            _ => Vec::new(),
        }
    }

    /// Ends with what the container said last and with what to type next.
    fn failed(&self, message: &str, hint: Option<&str>, logs: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        if !logs.is_empty() {
            lines.push("last lines of what failed:".to_owned());
            lines.extend(logs.iter().map(|log| format!("  | {}", plain(log))));
        }
        let error = self.look.style(Style::new().red().bold(), "error:");
        lines.push(format!("{error} {}", without_cause(message, &self.reason)));
        lines.extend(self.next(hint));
        lines
    }

    fn next(&self, hint: Option<&str>) -> Vec<String> {
        let Some(hint) = hint else { return Vec::new() };
        let next = self.look.style(Style::new().cyan(), "next:");
        format!("{next} {hint}")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The beginning of a line about a service.
    fn title(&self, service: &str) -> String {
        match self.is_named {
            true => String::new(),
            false => format!("{}: ", self.bold(service)),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.look.style(Style::new().bold(), text)
    }

    fn warning(&self) -> String {
        self.look.style(Style::new().yellow(), "!")
    }

    fn failure(&self) -> String {
        self.look.style(Style::new().red(), "✗")
    }
}

const READING: &str = "reading the Compose files and the engine";

fn unfinished(scope: &Scope, forward: bool) -> String {
    let rollout = scope.rollout.as_ref().map_or("", |own| &own.0);
    let what = match forward {
        true => "finishing it",
        false => "rolling it back",
    };
    format!("rollout {rollout} was interrupted: {what}")
}

/// The services that a command names; it names none where it is about all.
fn all(services: &[String]) -> String {
    match services {
        [] => "all services".to_owned(),
        services => services.join(", "),
    }
}

/// What another program printed, without what moves the cursor or changes colours.
pub(super) fn plain(text: &str) -> String {
    strip_ansi_codes(text).replace(char::is_control, " ")
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

/// How the new version has come to serve, by the time of the cutover and the time until it was confirmed.
pub(super) fn live(confirmed: Option<(u64, u64)>, gap: Option<u64>) -> String {
    let live = match confirmed {
        Some((cutover, after)) => format!("live after {} (cutover {})", span(after), span(cutover)),
        None => "runs, without a proxy".to_owned(),
    };
    match gap {
        Some(ms) => format!("{live}, not served for {}", span(ms)),
        None => live,
    }
}

/// The image that comes, and the one that goes where that is another.
pub(super) fn change(image: &str, replaces: Option<&str>) -> String {
    match replaces.filter(|before| *before != image) {
        Some(before) => format!("{before} → {image}"),
        None => image.to_owned(),
    }
}

/// The revision whose content a rollout brings again.
fn copies(undo_to: Option<u64>, restart_of: Option<u64>) -> String {
    let undo = undo_to.map(|to| format!(" (undo to {to})"));
    let restart = restart_of.map(|of| format!(" (restart of {of})"));
    undo.or(restart).unwrap_or_default()
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
        Some(Share::Live | Share::Weight(_) | Share::Preview) => {
            format!("; Traefik routes to it ({})", span(ms))
        }
        Some(Share::Hidden) => format!("; Traefik routes nothing to it ({})", span(ms)),
        None => String::new(),
    };
    format!("{container}: {said}{confirmed}")
}

fn draining(replicas: &BTreeMap<String, (u32, u32)>) -> String {
    let each = replicas.iter().map(|(replica, (unanswered, streaming))| {
        format!("{replica}: {} in flight", traffic(*unanswered, *streaming))
    });
    format!("draining {}", each.collect::<Vec<_>>().join(", "))
}

fn traffic(unanswered: u32, streaming: u32) -> String {
    match (unanswered, streaming) {
        (0, streams) => plural(streams, "stream"),
        (requests, 0) => plural(requests, "request"),
        (requests, streams) => {
            let (requests, streams) = (plural(requests, "request"), plural(streams, "stream"));
            format!("{requests} and {streams}")
        }
    }
}

pub(super) fn count(replicas: u32) -> String {
    plural(replicas, "replica")
}

pub(super) fn span(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        _ => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

/// A step by the name that deployment tools give it.
pub(super) fn done_step(step: &'static str) -> &'static str {
    match step {
        "hold" => "prepare",
        "ready" => "wait until ready",
        "await_others" => "wait for others",
        "cutover" => "switch",
        "cut_back" => "switch back",
        "commit" => "record",
        "return" => "switch to the service",
        "hooks" => "run hooks",
        "start" => "start again",
        "failed" => "failed hook",
        own => own,
    }
}

/// A step that goes on, about these replicas.
fn doing(step: &str, replicas: &str, proxy: &str) -> String {
    let proxy = if proxy.is_empty() { "the proxy" } else { proxy };
    match step {
        "pull" => "pulling the image".to_owned(),
        "build" => "building the image".to_owned(),
        "hold" => "hiding the new replicas until the switch".to_owned(),
        "create" => "creating the new replicas".to_owned(),
        "ready" => "waiting until the new replicas are ready".to_owned(),
        "await_others" => "waiting for the other services".to_owned(),
        "shift" => "changing what the new replicas get of the traffic".to_owned(),
        "cutover" => "switching the traffic to the new replicas".to_owned(),
        "confirm" => format!("waiting for {proxy} to pick up the change"),
        "bake" => "baking: old replicas kept for rollback".to_owned(),
        "watch" => "watching the new replicas".to_owned(),
        "pause" => "pausing before the next step".to_owned(),
        "cut_back" => "switching the traffic back to the old replicas".to_owned(),
        "commit" => "recording that the service may be updated".to_owned(),
        "update" => "waiting until Swarm has updated the service".to_owned(),
        "return" => "switching the traffic from the twin to the service".to_owned(),
        "drain" => format!("draining {replicas}"),
        "hooks" => format!("running the pre-stop hooks of {replicas}"),
        "stop" => format!("stopping {replicas}"),
        "start" => format!("starting {replicas} again"),
        "remove" => format!("removing {replicas}"),
        "rename" => format!("renaming {replicas}"),
        "pre-deploy" | "pre-cutover" | "post-cutover" | "post-deploy" | "failed" => {
            format!("running the {step} hook")
        }
        "run" => "running it to completion".to_owned(),
        "release" => "removing the routing record of the rollout".to_owned(),
        own => own.to_owned(),
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
