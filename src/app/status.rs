//! `rollout status`: shows the state of one service, or of several in a table, once or until all are up to date.

mod rows;
mod swarm;

use std::{pin::Pin, time::Duration};

use comfy_table::{Table, presets::NOTHING};
use console::{Term, measure_text_width};
use futures_util::future::{pending, select_all};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    history::remembered_each,
    opened::{Found, Opened, Unread},
    print,
    signals::signals,
};
use crate::{
    cli::StatusArgs,
    compose::{Hashes, Project, Service},
    context::RunContext,
    docker::watch::Watch,
    error::{Error, Result},
    event::Events,
    execute,
    model::{Replica, ServiceKey, Share, image_name},
    proxy::socket_proxies::OtherVersion,
    report::Output,
    roll::{Standing, Wanted},
};

/// How often a watch checks whether the process of a rollout is still running: its end causes no event.
const PULSE: Duration = Duration::from_secs(5);

/// A service as it is now.
struct Seen {
    name: String,
    /// The revision that runs.
    revision: Option<u64>,
    standing: Standing,
}

/// Prints the state to standard output; an error with code 1 if a service is not up to date.
pub async fn show(asked: &StatusArgs, events: &Events) -> Result<()> {
    let names: Vec<&str> = asked.services.iter().map(String::as_str).collect();
    let found = Opened::find_alone(&asked.target, &names, events, Unread::Refuse).await?;
    if let Found::Stack(stack) = &found {
        return swarm::show(asked, stack, events).await;
    }
    let (opened, ()) = found.one()?;
    let services = chosen(&opened.project, &names)?;
    let all: Vec<&str> = services.iter().map(|own| own.name.as_str()).collect();
    let hashes = Hashes::begin(&opened.compose, &opened.project, &all);
    let run = RunContext {
        hashes: Some(&hashes),
        ..opened.run(events)
    };
    let keys = services.iter().map(|own| opened.project.key(&own.name));
    let keys: Vec<ServiceKey> = keys.collect();
    let watched = keys.iter().filter(|_| asked.watch);
    let watches: Vec<Watch> = watched
        .map(|key| Watch::start(&opened.engine, key))
        .collect();
    let mut wanted = Vec::new();
    for own in &services {
        wanted.push(run.wanted(own, &asked.settings).await?);
    }
    let look = async || look(&run, asked, (&services, &keys), &wanted).await;
    follow((asked, events), &watches, look, next).await
}

/// Shows what `look` finds, once or until all is up to date; `next` is what to do about the first that is not.
async fn follow(
    (asked, events): (&StatusArgs, &Events),
    watches: &[Watch],
    look: impl AsyncFn() -> Result<(Vec<Seen>, Vec<OtherVersion>)>,
    next: impl Fn(&str, &Standing) -> String,
) -> Result<()> {
    let mut interrupted = signals()?;
    let mut shown = Shown::default();
    loop {
        let changed = change(watches);
        let (seen, others) = look().await?;
        shown.show(report(asked, events, &seen, &others), asked);
        let unsettled = seen.iter().filter(|own| !own.standing.is_settled());
        let unsettled: Vec<&Seen> = unsettled.collect();
        let Some(first) = unsettled.first() else {
            return Ok(());
        };
        let error = match seen.len() {
            1 => {
                let hint = next(&first.name, &first.standing);
                self::unsettled(&first.name, &first.standing).hint(hint)
            }
            _ => rows::unsettled(&unsettled),
        };
        let is_abandoned = unsettled.iter().any(|own| own.standing.is_abandoned());
        if !asked.watch || is_abandoned {
            return Err(error);
        }
        // The end of a process is no change of a container, and tasks may be on other machines.
        let pulses = watches.is_empty();
        let pulses = pulses || unsettled.iter().any(|own| own.standing.holder.is_some());
        tokio::select! {
            () = changed => {}
            () = sleep(PULSE), if pulses => {}
            () = execute::raised(&mut interrupted) => return Err(error),
        }
    }
}

/// The named services, or all.
fn chosen<'a>(project: &'a Project, names: &[&str]) -> Result<Vec<&'a Service>> {
    match names {
        [] => Ok(project.services.values().collect()),
        names => names.iter().map(|name| project.service(name)).collect(),
    }
}

/// Completes at the next change of one of the services; never without a watch.
async fn next_of(changes: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match changes.is_empty() {
        true => pending().await,
        false => drop(select_all(changes).await),
    }
}

/// Already subscribed when this returns, as [`Watch::next`].
fn change(watches: &[Watch]) -> impl Future<Output = ()> + use<> {
    next_of(
        watches
            .iter()
            .map(|own| Box::pin(own.next()) as _)
            .collect(),
    )
}

/// Reads the state of every service, with one landscape for all, and which socket proxies are of another version.
async fn look(
    run: &RunContext<'_>,
    asked: &StatusArgs,
    (services, keys): (&[&Service], &[ServiceKey]),
    wanted: &[Wanted],
) -> Result<(Vec<Seen>, Vec<OtherVersion>)> {
    let mut landscape = run.landscape().await?;
    let records = remembered_each(run, keys, &landscape).await?;
    let mut seen = Vec::new();
    for ((service, wanted), records) in services.iter().zip(wanted).zip(records) {
        let flags = &asked.settings;
        let standing = run.standing(service, flags, wanted, &mut landscape).await?;
        seen.push(Seen {
            name: service.name.clone(),
            revision: records.running(&standing.replicas),
            standing,
        });
    }
    Ok((seen, landscape.other_versions().await))
}

fn report(asked: &StatusArgs, events: &Events, seen: &[Seen], others: &[OtherVersion]) -> String {
    let others = others.iter();
    let others = others.map(|own| format!("{} {own}: {}", own.name, own.upgrade));
    let others: Vec<String> = others.collect();
    if asked.target.output == Some(Output::Json) {
        let unknown = seen.iter().filter_map(|own| unknown(&own.standing));
        for text in unknown.chain(others) {
            events.notice(text);
        }
        let lines = seen.iter();
        let lines = lines.map(|own| value(&own.name, own.revision, &own.standing));
        return lines.map(|line| format!("{line}\n")).collect();
    }
    let services = match seen {
        [own] => text(&own.name, own.revision, &own.standing),
        _ => rows::text(seen),
    };
    services + &marked(&others)
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
    Error::failed(match standing.not_served() {
        Some(_) => format!("{service} is not served by Traefik"),
        None => format!("{service}: not up to date"),
    })
}

/// What to do about a service that is not up to date.
fn next(service: &str, standing: &Standing) -> String {
    match &standing.unfinished {
        _ if standing.is_rolled() => format!("rollout status {service} --watch"),
        Some(_) if standing.is_paused() => {
            format!("rollout promote {service}, or rollout abort {service}")
        }
        Some(_) => format!("rollout resume {service}"),
        None if standing.not_served().is_some() => format!("rollout doctor {service}"),
        None => format!("rollout {service}"),
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
    let more = marked(&remarks(standing));
    format!(
        "{service}: {state}, {revision}\n{}{more}",
        rows.collect::<String>()
    )
}

fn marked(lines: &[String]) -> String {
    let lines = lines.iter();
    lines.map(|line| format!("  ! {line}\n")).collect()
}

/// What differs or is unfinished.
fn remarks(standing: &Standing) -> Vec<String> {
    let not_served = standing.not_served();
    let not_served = not_served.map(|why| format!("not served: {why}"));
    let more = standing.drift.iter().chain(&standing.unfinished).cloned();
    let more = shifted(standing).into_iter().chain(more);
    let more = not_served.into_iter().chain(unknown(standing)).chain(more);
    let holder = standing.holder.iter();
    let more = more.chain(holder.map(|holder| match holder.lives {
        true => format!("being rolled by {}", holder.whose),
        false => format!(
            "locked by {}, which is dead or has not renewed its lock",
            holder.whose
        ),
    }));
    more.collect()
}

/// How far a rollout between two steps is.
fn shifted(standing: &Standing) -> Option<String> {
    let own = standing.shifted?;
    let paused = if standing.is_paused() {
        "paused at "
    } else {
        ""
    };
    let what = match own.is_preview {
        true => execute::PREVIEWED.to_owned(),
        false => format!("the new version has {} % of the traffic", own.percent),
    };
    Some(format!("{paused}step {}: {what}", own.step))
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
        "step": standing.shifted.map(|own| own.step),
        "percent": standing.shifted.map(|own| own.percent),
        "paused": standing.is_paused(),
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
        (true, Some(Share::Preview)) => "preview",
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
