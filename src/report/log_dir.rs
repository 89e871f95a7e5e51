//! One file a service in a directory, `SERVICE.log`: each event of it as plain lines with their time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    look::Look,
    screen::{Screen, span},
    word,
};
use crate::{
    error::{Error, Result},
    event::{Event, Scope, Sink},
    model::Drained,
};

pub struct LogDir {
    directory: PathBuf,
    /// What was typed.
    command: String,
    files: BTreeMap<String, Log>,
}

struct Log {
    file: File,
    screen: Screen,
}

/// The log file of a service with this title.
pub fn file(directory: &Path, title: &str) -> PathBuf {
    directory.join(format!("{}.log", title.replace(['/', ' '], "_")))
}

impl LogDir {
    /// Makes the directory if needed; refused if no file can be made in it.
    pub fn open(directory: &Path, command: String) -> Result<Self> {
        let made = fs::create_dir_all(directory);
        let written = made.and_then(|()| tempfile::tempfile_in(directory));
        written.map_err(|error| {
            let place = directory.display();
            Error::refused(format!(
                "cannot write to the log directory {place}: {error}"
            ))
            .hint("name a directory that may be written with --log-dir, or leave it out")
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            command,
            files: BTreeMap::new(),
        })
    }

    fn log(&mut self, at: SystemTime, title: &str) -> io::Result<&mut Log> {
        let entry = match self.files.entry(title.to_owned()) {
            Entry::Occupied(own) => return Ok(own.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let path = file(&self.directory, title);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let screen = Screen::named(Look::default(), true);
        let mut log = Log { file, screen };
        log.write(at, &[format!("$ {}", self.command)])?;
        Ok(entry.insert(log))
    }
}

impl Log {
    /// One write, so that the lines of two runs are not mixed.
    fn write(&mut self, at: SystemTime, lines: &[String]) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(at);
        let lines = lines.iter().flat_map(|own| own.lines());
        let text: String = lines.map(|line| format!("{time} {line}\n")).collect();
        self.file.write_all(text.as_bytes())
    }

    fn lines(&mut self, at: SystemTime, scope: &Scope, event: &Event) -> Vec<String> {
        let mut lines = self.screen.lines(at, scope, event);
        if lines.is_empty() {
            lines.extend(self.unseen(at, event).map(|line| format!("    {line}")));
        }
        lines
    }

    /// The line of an event that has none on the screen.
    fn unseen(&self, at: SystemTime, event: &Event) -> Option<String> {
        match event {
            Event::StepStarted { .. } | Event::Draining { .. } => self.screen.activity(at),
            Event::Confirmed { side, ms } => {
                let (side, time) = (word(side), span(*ms));
                Some(format!(
                    "the {side} replicas alone are live, as every proxy confirms ({time})"
                ))
            }
            Event::Drained { replica, how } => {
                Some(format!("old replica {replica}: {}", end(*how)))
            }
            _ => None,
        }
    }
}

/// How the drain of a replica ended.
fn end(how: Drained) -> &'static str {
    match how {
        Drained::Answered => "every request is answered",
        Drained::TimedOut => "the drain timeout has passed",
        Drained::Quiet => "its network is quiet",
        Drained::Ended => "it has exited",
        Drained::Unseen => "it is not drained",
    }
}

impl Sink for LogDir {
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event) {
        if scope.service().is_empty() {
            return;
        }
        let title = scope.title();
        let written = self.log(at, &title).and_then(|log| {
            let lines = log.lines(at, scope, event);
            log.write(at, &lines)
        });
        // A full disk is no reason to stop half-way through a rollout.
        if let Err(error) = written {
            tracing::warn!("the log of {title} is incomplete: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Side;

    fn of(service: &str) -> Scope {
        Scope {
            service: Some(service.to_owned()),
            ..Scope::default()
        }
    }

    fn events() -> Vec<Event> {
        let replica = || "shop-web-1".to_owned();
        vec![
            Event::StepStarted {
                step: "create",
                replicas: Vec::new(),
                limit_ms: None,
                batch: None,
            },
            Event::Compose {
                line: "Container shop-web-2  \u{1b}[32mCreated\u{1b}[0m".to_owned(),
            },
            Event::StepFinished {
                step: "create",
                ms: 400,
            },
            Event::Hook {
                hook: "pre-cutover",
                line: "adding notes".to_owned(),
            },
            Event::Confirmed {
                side: Side::New,
                ms: 184,
            },
            Event::Drained {
                replica: replica(),
                how: Drained::Answered,
            },
            Event::Failed {
                message: "it died".to_owned(),
                code: 1,
                gap_ms: None,
                is_open: false,
                hint: Some("fix it".to_owned()),
                logs: vec!["last words".to_owned()],
            },
        ]
    }

    #[test]
    fn a_file_has_the_command_and_every_event_of_its_service_and_the_next_run_appends() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("made/if/needed");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        for command in ["rollout web api", "rollout web"] {
            let mut logs = LogDir::open(&directory, command.to_owned()).unwrap();
            let text = "about all".to_owned();
            logs.event(at, &Scope::default(), &Event::Notice { text });
            for event in events() {
                logs.event(at, &of("web"), &event);
            }
        }
        let text = fs::read_to_string(file(&directory, "web")).unwrap();
        let time = "1970-01-01T00:00:01.500Z ";
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.strip_prefix(time).unwrap())
            .collect();
        let events = [
            "    creating the new replicas (0 s)",
            "    Container shop-web-2  Created",
            "  ✓ create            0.4 s",
            "    pre-cutover: adding notes",
            "    the new replicas alone are live, as every proxy confirms (0.2 s)",
            "    old replica shop-web-1: every request is answered",
            "last lines of what failed:",
            "  | last words",
            "error: it died",
            "next: fix it",
        ];
        let first = [&["$ rollout web api"][..], &events].concat();
        assert_eq!(
            lines,
            [&first[..], &["$ rollout web"], &events[..]].concat()
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_directory_is_refused_in_a_line_that_names_it() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let refused = LogDir::open(place.path(), String::new());
        let message = refused.err().unwrap().message;
        assert!(
            message.contains(&place.path().display().to_string()),
            "{message}"
        );
    }

    #[test]
    fn the_name_of_a_service_does_not_lead_out_of_the_directory() {
        let file = file(Path::new("logs"), "../web");
        assert_eq!(file, Path::new("logs/.._web.log"));
    }
}
