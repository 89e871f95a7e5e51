//! `rollout history`: lists the revisions of a service or of a project, shows one in full, or compares two.

mod project;

use std::collections::BTreeSet;

use comfy_table::{Table, presets::NOTHING};
use console::Term;
use serde::Serialize;
use serde_json::json;

use super::{print, records::Records, stacks::option};
use crate::{
    cli::HistoryArgs,
    context::RunContext,
    error::{Error, Result},
    event::Events,
    model::{ServiceKey, image_name, short_image},
    proxy::landscape::Landscape,
    report::{Output, diff::unified, figures},
    state::{
        journal::Intent,
        owner,
        revisions::{Revision, Revisions},
        store::{self, File},
    },
    yaml,
};

pub async fn show(asked: &HistoryArgs, events: &Events) -> Result<()> {
    match &asked.services[..] {
        [service] => of_service(asked, service, events).await,
        _ if asked.revision.is_some() || asked.diff.is_some() => Err(Error::refused(
            "--revision and --diff are about the revisions of one service",
        )
        .hint("write: rollout history SERVICE --revision 3")),
        services => project::show(asked, services, events).await,
    }
}

async fn of_service(asked: &HistoryArgs, service: &str, events: &Events) -> Result<()> {
    let records = Records::of(&asked.target, &[service], events).await?;
    let key = records.key(service);
    let files = records.files(&key).await?;
    let revisions = read(events, &files);
    let attempts = Intent::without_revision(&files, &revisions);
    if revisions.list.is_empty() && attempts.is_empty() {
        // A misspelt name is refused.
        records.refuse_unknown(service)?;
        events.notice(format!("no revision of {service} is recorded yet"));
        return Ok(());
    }
    let mut entries = entries(&revisions, &attempts);
    let left_out = entries
        .len()
        .saturating_sub(asked.limit.unwrap_or(usize::MAX));
    entries.drain(..left_out);
    let json = asked.target.output == Some(Output::Json);
    let text = match (asked.revision, asked.diff) {
        (Some(number), _) => {
            let own = known(&revisions, number, service, records.stack())?;
            match json {
                true => Entry::Revision(own).line(service),
                false => whole(own),
            }
        }
        (None, Some(pair)) => {
            let a = known(&revisions, pair.0, service, records.stack())?;
            let b = known(&revisions, pair.1, service, records.stack())?;
            difference(a, b)
        }
        (None, None) if json => entries.iter().map(|own| own.line(service)).collect(),
        (None, None) => {
            let shown = Shown {
                live: records.running(&key, &revisions).await?,
                kept: records.kept(&key).await?,
            };
            shown.text(&entries, width())
        }
    };
    print(text.as_bytes());
    Ok(())
}

/// Every record of a service, read without its lock; a notice for each that cannot be read.
pub async fn remembered(run: &RunContext<'_>, key: &ServiceKey) -> Result<Revisions> {
    Ok(read(run.events, &files(run, key).await?))
}

/// The same of several services, in their order.
pub async fn remembered_each(
    run: &RunContext<'_>,
    keys: &[ServiceKey],
    landscape: &Landscape,
) -> Result<Vec<Revisions>> {
    let image = run.image_in(landscape).await?;
    let keys: Vec<&ServiceKey> = keys.iter().collect();
    let all = store::look_each(run.engine, &image, &keys).await?;
    Ok(all.iter().map(|files| read(run.events, files)).collect())
}

async fn files(run: &RunContext<'_>, key: &ServiceKey) -> Result<Vec<File>> {
    let image = run.any_image(key).await?;
    store::look(run.engine, &image, key).await
}

pub fn read(events: &Events, files: &[File]) -> Revisions {
    let revisions = Revisions::read(files);
    for trouble in &revisions.trouble {
        events.notice(format!(
            "{trouble}; it is left as it is, in the volume {}",
            store::volume()
        ));
    }
    revisions
}

/// The revision of this number, or an error that lists the known ones.
pub fn known<'a>(
    revisions: &'a Revisions,
    number: u64,
    service: &str,
    stack: Option<&str>,
) -> Result<&'a Revision> {
    revisions.get(number).ok_or_else(|| {
        let numbers: Vec<String> = revisions
            .list
            .iter()
            .map(|own| own.number.to_string())
            .collect();
        Error::refused(format!("revision {number} of {service} is not recorded")).hint(format!(
            "available: {}; see rollout history {service}{}",
            numbers.join(", "),
            option(stack)
        ))
    })
}

/// One line of a history.
enum Entry<'a> {
    Revision(&'a Revision),
    /// An attempt that made no revision.
    Attempt(&'a Intent),
}

/// From the oldest to the newest.
fn entries<'a>(revisions: &'a Revisions, attempts: &'a [Intent]) -> Vec<Entry<'a>> {
    let made = revisions.list.iter().map(Entry::Revision);
    let mut all: Vec<Entry> = made.chain(attempts.iter().map(Entry::Attempt)).collect();
    all.sort_by_key(|own| own.revision().at);
    all
}

impl Entry<'_> {
    /// The revision that it made, or would have made.
    fn revision(&self) -> &Revision {
        match self {
            Self::Revision(own) => own,
            Self::Attempt(own) => &own.revision,
        }
    }

    /// As JSON.
    fn line(&self, service: &str) -> String {
        #[derive(Serialize)]
        struct Line<'a, T> {
            service: &'a str,
            #[serde(flatten)]
            own: T,
        }
        let line = match self {
            Self::Revision(own) => serde_json::to_string(&Line { service, own }),
            Self::Attempt(attempt) => {
                let own = &attempt.revision;
                let own = json!({
                    "event": "attempt",
                    "rollout": own.rollout,
                    "at": own.at,
                    "who": own.who,
                    "image": own.image,
                    "failed": attempt.failed,
                });
                serde_json::to_string(&Line { service, own })
            }
        };
        // A record always fits JSON.
        line.unwrap_or_default() + "\n"
    }
}

/// How an attempt without a revision ended.
fn failure(attempt: &Intent) -> String {
    let why = attempt.failed.as_ref();
    why.map_or("did not end".to_owned(), |why| format!("failed: {why}"))
}

/// The longest line: the width of the terminal, or `COLUMNS`; unlimited if neither is known.
fn width() -> usize {
    let terminal = Term::stdout();
    let named = std::env::var("COLUMNS").ok();
    let named = named.and_then(|columns| columns.parse().ok());
    match terminal.is_term() {
        true => usize::from(terminal.size().1),
        false => named.unwrap_or(usize::MAX),
    }
}

/// Facts that are not in the records.
struct Shown {
    /// The revision that runs.
    live: Option<u64>,
    /// Ids of the images that a `rollout/…` tag keeps.
    kept: BTreeSet<String>,
}

impl Shown {
    /// A table, or two lines for each entry if the table is too wide.
    fn text(&self, entries: &[Entry<'_>], width: usize) -> String {
        let rows = entries.iter().map(|own| match own {
            Entry::Revision(own) => self.row(own),
            Entry::Attempt(own) => failed(own),
        });
        let rows: Vec<[String; 5]> = rows.collect();
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_header(["REVISION", "WHEN", "IMAGE", "BY", "NOTE"]);
        for row in &rows {
            table.add_row(row);
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        if lines.iter().all(|line| line.chars().count() <= width) {
            return lines.iter().map(|line| format!("{line}\n")).collect();
        }
        let entries = rows.iter().map(|[number, when, image, by, note]| {
            let note = if note.is_empty() {
                String::new()
            } else {
                format!(", {note}")
            };
            format!("{number:<4} {when}  {image}\n     {by}{note}\n")
        });
        entries.collect()
    }

    fn row(&self, own: &Revision) -> [String; 5] {
        let is_live = self.live == Some(own.number);
        let kept = self.kept.contains(&own.image.id);
        let notes = [
            (is_live, "live".to_owned()),
            (true, own.note()),
            (own.replicas != 1, format!("{} replicas", own.replicas)),
            (own.strategy != "blue-green", own.strategy.clone()),
            (!kept, "image not kept".to_owned()),
        ];
        let notes = notes
            .into_iter()
            .filter(|(is_so, note)| *is_so && !note.is_empty());
        let notes: Vec<String> = notes.map(|(_, note)| note).collect();
        let mark = if is_live { " *" } else { "" };
        [
            format!("{}{mark}", own.number),
            owner::time(own.at),
            image(own),
            own.who.clone(),
            notes.join(", "),
        ]
    }
}

/// An attempt that made no revision has no number.
fn failed(attempt: &Intent) -> [String; 5] {
    let own = &attempt.revision;
    [
        "-".to_owned(),
        owner::time(own.at),
        image(own),
        own.who.clone(),
        failure(attempt),
    ]
}

/// The name of an image, and its short id, or its digest where it has no id.
fn image(own: &Revision) -> String {
    let own = &own.image;
    let digest = own.digests.iter().find_map(|own| own.split('@').nth(1));
    let id = match own.id.as_str() {
        "" => digest.unwrap_or_default(),
        id => id,
    };
    let name = image_name(&own.reference, id);
    match short_image(id) {
        "" => name,
        short if name == short => name,
        short => format!("{name} ({short})"),
    }
}

fn whole(own: &Revision) -> String {
    let facts = [
        ("revision", own.number.to_string()),
        ("when", owner::time(own.at)),
        ("by", own.who.clone()),
        ("rollout", own.rollout.clone()),
        ("image", own.image.reference.clone()),
        ("image id", own.image.id.clone()),
        ("image digest", own.image.digests.join(", ")),
        ("kept as", own.image.kept.clone()),
        ("config hash", own.hash.clone()),
        ("compose", own.compose.clone()),
        ("replicas", own.replicas.to_string()),
        ("way", format!("{}, {}", own.strategy, own.proxy)),
        ("note", own.note()),
    ];
    let said = facts.iter().filter(|(_, value)| !value.is_empty());
    let facts: String = said
        .map(|(name, value)| format!("{name:<13}{value}\n"))
        .collect();
    let figures = own.figures.iter().flat_map(figures::lines);
    let figures: String = figures.map(|line| format!("{line}\n")).collect();
    format!("{facts}{figures}\n{}", config(own))
}

/// A diff that begins with the image id: a moved tag does not show in the configuration.
fn difference(a: &Revision, b: &Revision) -> String {
    let (old, new) = (comparable(a), comparable(b));
    let name = |own: &Revision| format!("revision {}", own.number);
    unified(&old, &new, (&name(a), &name(b)))
}

fn comparable(own: &Revision) -> String {
    let image = format!("# image {}\n", own.image.id);
    image + &config(own)
}

/// Normalized YAML, so that records of different versions of rollout compare.
fn config(own: &Revision) -> String {
    let config = yaml::parse(&own.config).and_then(|value| yaml::write(&value));
    config.unwrap_or_else(|_| own.config.clone())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
