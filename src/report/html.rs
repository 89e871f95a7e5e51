//! One self-contained page a run: its steps, the traffic of each version, the figures, and what failed.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures_util::future::{BoxFuture, ready};

use super::{
    figures::sides,
    look::Look,
    screen::{change, count, done_step, live, plain, span},
    stack,
};
use crate::{
    error::{Error, Result},
    event::{Event, Scope, Sink},
    figures::{Figures, Spans},
};

/// Collects the events of a run, and writes its page at the end.
pub struct Report {
    path: PathBuf,
    /// What was typed.
    command: String,
    records: Vec<Record>,
}

struct Record {
    at: SystemTime,
    scope: Scope,
    event: Event,
}

impl Report {
    /// Refused if no file can be put there.
    pub fn open(path: &Path, command: String) -> Result<Self> {
        tempfile::tempfile_in(directory(path))
            .and_then(|_| only_file(path))
            .map_err(|error| {
                let place = path.display();
                Error::refused(format!("cannot write the report {place}: {error}")).hint(
                    "name a file in a directory that may be written with --report, or leave it out",
                )
            })?;
        Ok(Self {
            // A rename would replace a link.
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            command,
            records: Vec::new(),
        })
    }

    /// As a whole: a reader sees the page of the earlier run until this one is complete.
    fn write(&self) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            // Less what the umask takes away, as for other files.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory(&self.path))?;
        file.write_all(page(&self.command, &self.records).as_bytes())?;
        file.persist(&self.path)?;
        Ok(())
    }
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|own| !own.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A rename would replace a device, and fails on a directory.
fn only_file(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if !there.is_file() => Err(io::Error::other("it is no regular file")),
        _ if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            Err(io::Error::other("it names a directory"))
        }
        _ => Ok(()),
    }
}

impl Sink for Report {
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event) {
        self.records.push(Record {
            at,
            scope: scope.clone(),
            event: event.clone(),
        });
    }

    fn end(&mut self) -> BoxFuture<'static, Vec<String>> {
        let place = self.path.display();
        let failed = |error| format!("the report {place} is not written: {error}");
        let failures = self.write().err().map(failed);
        Box::pin(ready(failures.into_iter().collect()))
    }
}

/// The page of a run.
fn page(command: &str, records: &[Record]) -> String {
    let mut services: Vec<String> = Vec::new();
    for record in records {
        let title = record.scope.title();
        if !record.scope.service().is_empty() && !services.contains(&title) {
            services.push(title);
        }
    }
    let whole = Part::of(records, |_| true);
    let title = match services.is_empty() {
        true => "rollout".to_owned(),
        false => services.join(", "),
    };
    let (word, _) = whole.outcome();
    let about_all = Part::of(records, |scope| scope.service().is_empty());
    let sections = services.iter().map(|title| {
        let part = Part {
            start: whole.start,
            end: whole.end,
            ..Part::of(records, |scope| scope.title() == *title)
        };
        format!("<section>{}</section>\n", part.section(title))
    });
    let sections: String = sections.collect();
    let begin = humantime::format_rfc3339_seconds(whole.start);
    let (style, title) = (include_str!("page.css"), text(&title));
    let summary = about_all.summary();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}: {word}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <h1>{title} {badge}</h1>\n<p class=\"quiet\">{begin}, {took} · <code>{command}</code></p>\n\
         {summary}{sections}</body>\n</html>\n",
        badge = whole.badge(),
        took = span(whole.offset(whole.end)),
        command = text(command),
    )
}

/// The events of one service, or those about the command.
struct Part<'a> {
    records: Vec<&'a Record>,
    /// Of the whole run.
    start: SystemTime,
    end: SystemTime,
}

struct Step<'a> {
    name: &'static str,
    from: SystemTime,
    to: SystemTime,
    /// What is wrong with it, and its colour.
    flaw: Option<(&'a str, &'static str)>,
}

impl<'a> Part<'a> {
    fn of(records: &'a [Record], is_own: impl Fn(&Scope) -> bool) -> Self {
        let records = records.iter().filter(|own| is_own(&own.scope));
        let records: Vec<&Record> = records.collect();
        let at = |own: Option<&&Record>| own.map_or(SystemTime::UNIX_EPOCH, |own| own.at);
        let (start, end) = (at(records.first()), at(records.last()));
        Self {
            records,
            start,
            end,
        }
    }

    fn events(&self) -> impl DoubleEndedIterator<Item = &'a Event> {
        self.records.iter().map(|own| &own.event)
    }

    /// Milliseconds since the run began.
    fn offset(&self, at: SystemTime) -> u64 {
        at.duration_since(self.start)
            .unwrap_or_default()
            .as_millis() as u64
    }

    /// What part of the run's time has passed then.
    fn share(&self, at: SystemTime) -> f64 {
        self.offset(at) as f64 / self.offset(self.end).max(1) as f64
    }

    /// A word, and its colour.
    fn outcome(&self) -> (&'static str, &'static str) {
        let is = |test: fn(&Event) -> bool| self.events().any(test);
        if is(|own| matches!(own, Event::Failed { .. })) {
            ("failed", "bad")
        } else if is(|own| matches!(own, Event::Paused { .. })) {
            ("paused", "wait")
        } else if is(|own| matches!(own, Event::Finished { .. } | Event::Completed { .. })) {
            ("done", "good")
        } else if is(|own| matches!(own, Event::Settled { forward: true, .. })) {
            ("the new version serves", "good")
        } else if is(|own| matches!(own, Event::Settled { image: Some(_), .. })) {
            ("the old version serves", "plain")
        } else if is(|own| matches!(own, Event::Settled { .. })) {
            ("rolled back", "plain")
        } else if is(|own| matches!(own, Event::NothingToDo { .. })) {
            ("nothing to do", "plain")
        } else {
            ("ended", "plain")
        }
    }

    fn badge(&self) -> String {
        let (word, colour) = self.outcome();
        format!("<span class=\"badge {colour}\">{word}</span>")
    }

    /// What is about the whole command; nothing where that is nothing.
    fn summary(&self) -> String {
        let rows: Vec<String> = self
            .events()
            .flat_map(|own| stack::lines(Look::default(), own))
            .collect();
        let services = match rows.is_empty() {
            true => String::new(),
            false => format!("<h2>Services</h2>{}", block(&rows)),
        };
        match format!("{services}{}{}", self.end_of_failure(), self.notices()) {
            own if own.is_empty() => own,
            own => format!("<section>{own}</section>\n"),
        }
    }

    fn section(&self, name: &str) -> String {
        [
            format!("<h2>{} {}</h2>\n", text(name), self.badge()),
            self.facts(),
            self.end_of_failure(),
            self.timeline(),
            self.traffic(),
            self.figures(),
            self.notices(),
        ]
        .concat()
    }

    /// The versions, and how the rollout went.
    fn facts(&self) -> String {
        let lines = self.events().filter_map(|event| match event {
            Event::Started {
                revision,
                replicas,
                proxy,
                image,
                replaces,
                ..
            } => Some(format!(
                "<p><strong>{}</strong></p><p class=\"quiet\">revision {revision}, {}, {}</p>\n",
                text(&change(image, replaces.as_deref())),
                count(*replicas),
                text(proxy)
            )),
            Event::Finished {
                cutover_ms,
                live_ms,
                gap_ms,
                total_ms,
                ..
            } => Some(format!(
                "<p>{}, done after {}</p>\n",
                live(cutover_ms.zip(*live_ms), *gap_ms),
                span(*total_ms)
            )),
            Event::Settled {
                revision,
                image: Some(image),
                ..
            } => {
                let revision = revision.map(|own| format!("<p class=\"quiet\">revision {own}</p>"));
                let revision = revision.unwrap_or_default();
                Some(format!(
                    "<p><strong>{}</strong></p>{revision}\n",
                    text(image)
                ))
            }
            Event::NothingToDo { image, .. } => Some(format!("<p>{}</p>\n", text(image))),
            Event::Completed { image, ms } => {
                Some(format!("<p>{}, after {}</p>\n", text(image), span(*ms)))
            }
            _ => None,
        });
        lines.collect()
    }

    /// Why it failed or pauses, what the container said last, and what to type next.
    fn end_of_failure(&self) -> String {
        let ends = self.events().filter_map(|event| match event {
            Event::Failed {
                message,
                hint,
                logs,
                ..
            } => Some(("bad", message, hint, &logs[..])),
            Event::Paused { message, hint, .. } => Some(("wait", message, hint, &[][..])),
            _ => None,
        });
        let ends = ends.map(|(colour, message, hint, logs)| {
            let logs = match logs {
                [] => String::new(),
                logs => format!("<p>Last lines of what failed:</p>{}", block(logs)),
            };
            let hint = hint.iter().map(|own| {
                let lines: Vec<String> = own.lines().map(str::to_owned).collect();
                format!("<p>Next:</p>{}", block(&lines))
            });
            let hint: String = hint.collect();
            format!("<p class=\"{colour}\">{}</p>{logs}{hint}\n", text(message))
        });
        ends.collect()
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let (mut open, mut steps) = (BTreeMap::new(), Vec::new());
        for Record { at, event, .. } in &self.records {
            let (name, flaw, ms) = match event {
                Event::StepStarted { step, .. } => {
                    open.insert(*step, *at);
                    continue;
                }
                Event::StepFinished { step, ms } => (*step, None, *ms),
                Event::StepFailed { step, reason } => (*step, Some((reason.as_str(), "bad")), 0),
                _ => continue,
            };
            let from = open.remove(name);
            let from = from.or_else(|| at.checked_sub(Duration::from_millis(ms)));
            let from = from.unwrap_or(*at);
            let to = *at;
            steps.push(Step {
                name,
                from,
                to,
                flaw,
            });
        }
        let left = open.into_iter().map(|(name, from)| Step {
            name,
            from,
            to: self.end,
            flaw: Some(("not finished", "wait")),
        });
        steps.extend(left);
        steps.sort_by_key(|own| own.from);
        steps
    }

    fn timeline(&self) -> String {
        let rows = self.steps().into_iter().map(|own| {
            let (from, to) = (self.share(own.from) * 100.0, self.share(own.to) * 100.0);
            let time = span(self.offset(own.to) - self.offset(own.from));
            let (reason, colour) = own.flaw.unwrap_or_default();
            let reason = match reason.is_empty() {
                true => String::new(),
                false => format!("<div class=\"{colour}\">{}</div>", text(reason)),
            };
            format!(
                "<tr><th>{}</th><td class=\"track\"><div class=\"bar {colour}\" \
                 style=\"margin-left:min({from:.2}%, 100% - 3px);width:{:.2}%\"></div>{reason}</td><td>{time}</td></tr>\n",
                done_step(own.name),
                to - from,
            )
        });
        titled("Steps", &rows.collect::<String>(), |rows| {
            format!("<table class=\"steps\">\n{rows}</table>")
        })
    }

    /// The share of the new version, and since when it has it. A first start has no old version, and what an earlier run
    /// has moved is not known.
    fn shares(&self) -> Vec<(SystemTime, u32)> {
        let shares = self.records.iter().filter_map(|own| match &own.event {
            Event::Started {
                replaces: Some(_), ..
            } => Some((own.at, 0)),
            Event::Traffic { percent } => Some((own.at, *percent)),
            _ => None,
        });
        shares.collect()
    }

    /// A step line, where traffic was moved.
    fn traffic(&self) -> String {
        let shares = self.shares();
        let x = |at| 44.0 + 640.0 * self.share(at);
        let y = |percent: u32| 130.0 - f64::from(percent) * 1.1;
        let mut events = self.events();
        let is_moved = events.any(|own| matches!(own, Event::Traffic { .. }));
        let Some((first, _)) = shares.first().filter(|_| is_moved) else {
            return String::new();
        };
        let (left, right) = (x(*first), x(self.end));
        let mut line = format!("M{left:.1} {:.1}", y(0));
        let mut marks = String::new();
        let mut last = 0;
        for (at, percent) in shares {
            line += &format!(" H{:.1} V{:.1}", x(at), y(percent));
            if percent != last {
                let (at, anchor) = match self.share(at) > 0.9 {
                    true => (x(at) - 4.0, "end"),
                    false => (x(at) + 4.0, "start"),
                };
                marks += &format!(
                    "<text class=\"mark\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{percent} %</text>",
                    y(percent) - 4.0
                );
            }
            last = percent;
        }
        line += &format!(" H{right:.1} V{:.1} Z", y(0));
        let end = span(self.offset(self.end));
        titled("Traffic", &line, |line| {
            format!(
                "<p class=\"quiet\">The share of the new version; the rest goes to the old one.</p>\n\
                 <svg viewBox=\"0 0 690 152\" role=\"img\"><title>Share of the new version over time</title>\
                 <rect class=\"old\" x=\"{left:.1}\" y=\"20\" width=\"{:.1}\" height=\"110\"/><path class=\"new\" d=\"{line}\"/>\
                 <line class=\"axis\" x1=\"44\" x2=\"684\" y1=\"130\" y2=\"130\"/>{marks}\
                 <text x=\"38\" y=\"24\" text-anchor=\"end\">100 %</text><text x=\"38\" y=\"134\" text-anchor=\"end\">0 %</text>\
                 <text x=\"44\" y=\"147\">0 s</text><text x=\"684\" y=\"147\" text-anchor=\"end\">{end}</text></svg>",
                right - left
            )
        })
    }

    fn figures(&self) -> String {
        let figures = self.events().filter_map(|event| match event {
            Event::Figures(spans) => Some(rows(spans)),
            _ => None,
        });
        let heads = [
            "",
            "requests",
            "failed",
            "success rate",
            "P50",
            "P95",
            "P99",
            "CPU",
            "memory",
            "restarts",
            "OOM kills",
        ];
        let heads = heads.map(|own| format!("<th>{own}</th>")).concat();
        titled("Old against new", &figures.collect::<String>(), |rows| {
            format!(
                "<div class=\"scroll\"><table class=\"figures\">\n<thead><tr>{heads}</tr></thead>\n\
                 <tbody>{rows}</tbody></table></div>"
            )
        })
    }

    fn notices(&self) -> String {
        let lines = self.records.iter().filter_map(|own| {
            let said = match &own.event {
                Event::Notice { text } => text.clone(),
                Event::Undoing { reason } => format!("{reason}; rolling back"),
                _ => return None,
            };
            let time = span(self.offset(own.at));
            Some(format!(
                "<li>{} <span class=\"quiet\">{time}</span></li>\n",
                text(&said)
            ))
        });
        titled("Notices", &lines.collect::<String>(), |lines| {
            format!("<ul>\n{lines}</ul>")
        })
    }
}

/// Content below its heading; nothing where there is none.
fn titled(title: &str, content: &str, shown: impl FnOnce(&str) -> String) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!("<h3>{title}</h3>\n{}\n", shown(content)),
    }
}

/// A row for each side and span that was watched.
fn rows(spans: &Spans) -> String {
    let rows = sides(spans).into_iter();
    let rows = rows.filter_map(|(name, own)| {
        let cells = cells(own.as_ref()?);
        let cells: String = cells.iter().map(|own| format!("<td>{own}</td>")).collect();
        Some(format!("<tr><th>{name}</th>{cells}</tr>\n"))
    });
    rows.collect()
}

fn cells(own: &Figures) -> [String; 10] {
    let known = |value: Option<String>| value.unwrap_or_else(|| "n/a".to_owned());
    let ms = |value: Option<f64>| known(value.map(|own| format!("{own} ms")));
    let requests = match own.blind {
        true => "TLS or no HTTP".to_owned(),
        false => known(own.requests.map(|own| own.to_string())),
    };
    [
        requests,
        known(own.failed.map(|own| own.to_string())),
        known(own.success_rate.map(|own| format!("{own} %"))),
        ms(own.p50_ms),
        ms(own.p95_ms),
        ms(own.p99_ms),
        known(own.cpu.map(|own| own.to_string())),
        known(own.memory.map(|own| format!("{} MiB", own >> 20))),
        own.restarts.to_string(),
        own.oom_kills.to_string(),
    ]
}

/// Lines as they stand.
fn block(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|own| text(own)).collect();
    format!("<pre>{}</pre>", lines.join("\n"))
}

/// Text from elsewhere, which may contain markup and colours.
fn text(own: &str) -> String {
    let own = plain(own).replace('&', "&amp;");
    let own = own.replace('<', "&lt;").replace('>', "&gt;");
    own.replace('"', "&quot;")
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
