//! `rollout status`: shows the state of a service, once or until it is up to date.

use std::time::Duration;

use comfy_table::{Table, presets::NOTHING};
use console::{Term, measure_text_width};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Opened, history::remembered, print, signals::signals};
use crate::{
    cli::StatusArgs,
    docker::watch::Watch,
    error::{Error, Result},
    event::Events,
    execute,
    model::{Replica, Share, image_name},
    report::Output,
    roll::Standing,
};

/// How often a watch checks whether the process of a rollout is still running: its end causes no event.
const PULSE: Duration = Duration::from_secs(5);

/// Prints the state to standard output; an error with code 1 if the service is not up to date.
pub async fn show(asked: &StatusArgs, events: &Events) -> Result<()> {
    let mut interrupted = signals()?;
    let opened = Opened::of(&asked.target, &[&asked.service], events).await?;
    let Opened {
        engine, project, ..
    } = &opened;
    let service = project.service(&asked.service)?;
    let key = opened.key(&asked.service);
    let run = opened.run(events);
    let watch = Watch::start(engine, &key);
    let wanted = run.wanted(service, &asked.settings).await?;
    let mut shown = Shown::default();
    loop {
        let changed = watch.next();
        let standing = run.standing(service, &asked.settings, &wanted).await?;
        let revision = remembered(&run, &key).await?.running(&standing.replicas);
        let text = match asked.target.output {
            Some(Output::Json) => {
                if let Some(why) = unknown(&standing) {
                    events.notice(why);
                }
                format!("{}\n", value(&asked.service, revision, &standing))
            }
            _ => text(&asked.service, revision, &standing),
        };
        shown.show(text, asked);
        if standing.is_settled() {
            return Ok(());
        }
        if !asked.watch || standing.is_abandoned() {
            return Err(unsettled(&asked.service, &standing));
        }
        tokio::select! {
            () = changed => {}
            () = sleep(PULSE), if standing.holder.is_some() => {}
            () = execute::raised(&mut interrupted) => {
                return Err(unsettled(&asked.service, &standing));
            }
        }
    }
}

/// The last text printed. A changed one replaces it on a terminal.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn show(&mut self, text: String, asked: &StatusArgs) {
        if self.0 == text {
            return;
        }
        let terminal = Term::stdout();
        if terminal.is_term() && asked.target.output != Some(Output::Json) {
            // A closed terminal is no failure.
            let columns = usize::from(terminal.size().1);
            let _ = terminal.clear_last_lines(rows(&self.0, columns));
        }
        print(text.as_bytes());
        self.0 = text;
    }
}

/// The rows of a terminal that a text fills: a long line fills several.
fn rows(text: &str, columns: usize) -> usize {
    let columns = columns.max(1);
    let rows = |line: &str| measure_text_width(line).div_ceil(columns).max(1);
    text.lines().map(rows).sum()
}

fn unsettled(service: &str, standing: &Standing) -> Error {
    let message = match standing.not_served() {
        Some(_) => format!("{service} is not served by Traefik"),
        None => format!("{service}: not up to date"),
    };
    let error = Error::failed(message);
    let rolling = standing.holder.as_ref().filter(|holder| holder.lives);
    match (rolling, &standing.unfinished) {
        (Some(_), _) => error.hint(format!("rollout status {service} --watch")),
        (None, Some(_)) => error.hint(format!("rollout resume {service}")),
        (None, None) if standing.not_served().is_some() => {
            error.hint(format!("rollout doctor {service}"))
        }
        (None, None) => error.hint(format!("rollout {service}")),
    }
}

fn text(service: &str, revision: Option<u64>, standing: &Standing) -> String {
    let revision = revision.map_or("no recorded revision".to_owned(), |own| {
        format!("revision {own}")
    });
    let state = match standing.is_settled() {
        true => "settled",
        false => "not settled",
    };
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["NAME", "STATE", "HEALTH", "REVISION", "TRAFFIC", "IMAGE"]);
    for own in &standing.replicas {
        let revision = own.revision.map_or("-".to_owned(), |own| own.to_string());
        table.add_row([
            own.name.clone(),
            word(&own.run),
            word(&own.health),
            revision,
            traffic(standing, own).to_owned(),
            image_name(&own.reference, &own.image),
        ]);
    }
    let rows = table.to_string();
    let rows = rows.lines().map(|line| format!("  {}\n", line.trim()));
    let not_served = standing.not_served();
    let not_served = not_served.map(|why| format!("not served: {why}"));
    let more = standing.drift.iter().chain(&standing.unfinished).cloned();
    let more = not_served.into_iter().chain(unknown(standing)).chain(more);
    let holder = standing.holder.iter();
    let more = more.chain(holder.map(|holder| match holder.lives {
        true => format!("being rolled by {}", holder.whose),
        false => format!(
            "locked by {}, which is dead or has not renewed its lock",
            holder.whose
        ),
    }));
    let more: String = more.map(|line| format!("  ! {line}\n")).collect();
    format!(
        "{service}: {state}, {revision}\n{}{more}",
        rows.collect::<String>()
    )
}

/// Why the state of the proxy is unknown.
fn unknown(standing: &Standing) -> Option<String> {
    let why = standing.unknown.as_ref()?;
    Some(format!("Traefik's state is unknown: {why}"))
}

fn value(service: &str, revision: Option<u64>, standing: &Standing) -> Value {
    let replicas: Vec<Value> = standing
        .replicas
        .iter()
        .map(|own| {
            json!({
                "name": own.name,
                "id": own.id,
                "state": own.run,
                "health": own.health,
                "revision": own.revision,
                "image": own.image,
                "reference": own.reference,
                "traffic": traffic(standing, own),
            })
        })
        .collect();
    json!({
        "service": service,
        "settled": standing.is_settled(),
        "revision": revision,
        "replicas": replicas,
        "drift": standing.drift,
        "unfinished": standing.unfinished,
        "not_served": standing.not_served(),
        "unknown": standing.unknown,
        "lock": standing.holder.as_ref().map(|holder| &holder.whose),
        "abandoned": standing.is_abandoned(),
    })
}

fn traffic(standing: &Standing, replica: &Replica) -> &'static str {
    match (standing.routed, standing.route(replica)) {
        (false, _) => "no proxy",
        (true, Some(Share::Live)) if standing.trouble(replica).is_some() => "not served",
        (true, Some(Share::Live | Share::Weight(_))) => "live",
        (true, Some(Share::Hidden)) => "hidden",
        (true, None) => "unknown",
    }
}

/// The engine's own word.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_takes_several_rows_and_an_empty_one_takes_one() {
        assert_eq!(rows("web: settled\n", 80), 1);
        assert_eq!(rows(&"x".repeat(80), 80), 1);
        assert_eq!(rows(&format!("a\n\n{}\n", "x".repeat(81)), 80), 4);
        assert_eq!(rows("a\nb\n", 0), 2);
    }
}
