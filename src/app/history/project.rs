//! The history of several services, or of a whole project, as one table.

use std::collections::BTreeMap;

use super::{Entry, entries, failure, image, read};
use crate::{
    app::{print, records::Records},
    cli::HistoryArgs,
    error::Result,
    event::Events,
    report::{Output, table::table},
    state::{journal::Intent, owner, revisions::Revisions, store::File},
};

/// What is known of one service.
struct Past {
    revisions: Revisions,
    attempts: Vec<Intent>,
    /// The revision that runs.
    live: Option<u64>,
}

/// Prints the newest entries first; of all services that have records if none is named.
pub async fn show(asked: &HistoryArgs, services: &[String], events: &Events) -> Result<()> {
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    let records = Records::of(&asked.target, &names, events).await?;
    let mut files = records.all_files().await?;
    if !names.is_empty() {
        refuse_unknown(&records, &names, &files)?;
        files.retain(|service, _| names.contains(&service.as_str()));
    }
    let mut all = BTreeMap::new();
    for (service, files) in files {
        let revisions = read(&records.events(events, &service), &files);
        let key = records.key(&service);
        let past = Past {
            live: records.running(&key, &revisions).await?,
            attempts: Intent::without_revision(&files, &revisions),
            revisions,
        };
        all.insert(service, past);
    }
    if all.is_empty() {
        events.notice("no revision is recorded yet");
        return Ok(());
    }
    let newest = newest(&all, asked.limit);
    let text = match asked.target.output {
        Some(Output::Json) => newest.iter().map(|(name, own)| own.line(name)).collect(),
        _ => text(&all, &newest),
    };
    print(text.as_bytes());
    Ok(())
}

/// A misspelt name is refused; a service that has left the file has its records.
fn refuse_unknown(
    records: &Records,
    names: &[&str],
    files: &BTreeMap<String, Vec<File>>,
) -> Result<()> {
    let mut without = names.iter().filter(|name| !files.contains_key(**name));
    without.try_for_each(|name| records.refuse_unknown(name))
}

fn newest(all: &BTreeMap<String, Past>, limit: Option<usize>) -> Vec<(&str, Entry<'_>)> {
    let of_each = all.iter().flat_map(|(service, past)| {
        let own = entries(&past.revisions, &past.attempts).into_iter();
        own.map(|entry| (service.as_str(), entry))
    });
    let mut all: Vec<_> = of_each.collect();
    all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.revision().at));
    all.truncate(limit.unwrap_or(usize::MAX));
    all
}

fn text(all: &BTreeMap<String, Past>, newest: &[(&str, Entry<'_>)]) -> String {
    let rows = newest.iter().map(|(service, entry)| {
        let own = entry.revision();
        let number = match entry {
            Entry::Revision(own) => own.number.to_string(),
            Entry::Attempt(_) => "-".to_owned(),
        };
        let live = all.get(*service).and_then(|past| past.live);
        let (name, when) = ((*service).to_owned(), owner::time(own.at));
        [name, number, image(own), when, ending(entry, live)]
    });
    table(["service", "revision", "image", "when", "ended"], rows)
}

/// How it ended.
fn ending(entry: &Entry<'_>, live: Option<u64>) -> String {
    let own = match entry {
        Entry::Attempt(own) => return failure(own),
        Entry::Revision(own) => own,
    };
    let is_live = live == Some(own.number);
    let known = [is_live.then(|| "live".to_owned()), Some(own.note())];
    let known = known.into_iter().flatten().filter(|text| !text.is_empty());
    let known: Vec<String> = known.collect();
    match known.is_empty() {
        true => "done".to_owned(),
        false => known.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::revisions::Revision;

    fn revision(number: u64, at: u64) -> Revision {
        Revision {
            number,
            at,
            rollout: format!("r{at}"),
            ..Revision::default()
        }
    }

    fn project() -> BTreeMap<String, Past> {
        let mut web = Revisions::default();
        web.add(revision(1, 10));
        web.add(revision(2, 30));
        let mut api = Revisions::default();
        api.add(Revision {
            undo_to: Some(6),
            ..revision(7, 20)
        });
        let failed = Intent {
            revision: revision(8, 40),
            failed: Some("api-1 is unhealthy".to_owned()),
            ..Intent::default()
        };
        let past = |revisions, attempts, live| Past {
            revisions,
            attempts,
            live: Some(live),
        };
        BTreeMap::from([
            ("web".to_owned(), past(web, Vec::new(), 2)),
            ("api".to_owned(), past(api, vec![failed], 7)),
        ])
    }

    #[test]
    fn the_entries_of_all_services_stand_in_one_list_and_the_newest_is_first() {
        let all = project();
        let shown = |limit| -> Vec<String> {
            let newest = newest(&all, limit);
            let line = |(service, own): &(&str, Entry<'_>)| {
                let number = own.revision().number;
                format!("{service} {number} {}", ending(own, all[*service].live))
            };
            newest.iter().map(line).collect()
        };
        let whole = [
            "api 8 failed: api-1 is unhealthy",
            "web 2 live",
            "api 7 live, undo to 6",
            "web 1 done",
        ];
        assert_eq!(shown(None), whole);
        assert_eq!(shown(Some(2)), whole[..2]);
    }

    #[test]
    fn a_line_of_json_has_the_record_and_its_service() {
        let all = project();
        let lines: Vec<serde_json::Value> = newest(&all, Some(2))
            .iter()
            .map(|(service, own)| serde_json::from_str(&own.line(service)).unwrap())
            .collect();
        assert_eq!(
            (&lines[0]["service"], &lines[0]["event"]),
            (&"api".into(), &"attempt".into())
        );
        assert_eq!(
            (&lines[1]["service"], &lines[1]["number"]),
            (&"web".into(), &2.into())
        );
    }
}
