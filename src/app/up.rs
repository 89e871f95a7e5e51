//! `rollout up`: checks all given services, then rolls one after the other.

use tokio::sync::watch;

use super::{Opened, signals::signals};
use crate::{
    cli::{self, UpArgs},
    compose::Project,
    context::{Purpose, RunContext},
    error::{Error, Outcome, Result},
    event::{Event, Events},
    execute,
    roll::{Prepared, roll},
};

pub async fn up(up: &UpArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = up.services.clone();
    events.emit(Event::Opening { services });
    let names: Vec<&str> = up.services.iter().map(String::as_str).collect();
    let opened = Opened::of(&up.target, &names, events).await?;
    refuse_unknown(&opened.project, &names)?;
    let of_each = names.iter().map(|name| opened.events(events, name));
    let of_each: Vec<Events> = of_each.collect();
    let runs: Vec<RunContext<'_>> = of_each.iter().map(|own| opened.run(own)).collect();
    let Some(first) = runs.first() else {
        return Ok(());
    };
    let landscape = first.landscape().await;
    let mut landscape = landscape.map_err(|error| error.within(first.events.scope()))?;
    let mut prepared = Vec::new();
    for (index, (name, run)) in names.iter().zip(&runs).enumerate() {
        let (earlier, purpose) = (&names[..index], Purpose::Roll);
        let own = run.prepare(name, &up.settings, earlier, purpose, &mut landscape);
        let own = own.await;
        prepared.push(own.map_err(|error| error.within(run.events.scope()))?);
    }
    if names.len() > 1 {
        let again = format!("rollout {}", names.join(" "));
        fetch_ahead(&mut prepared, &interrupted, &again).await?;
    }
    let mut first = prepared.into_iter().next();
    for (index, (name, run)) in names.iter().zip(&runs).enumerate() {
        if *interrupted.borrow() {
            return Err(Error::interrupted(format!(
                "interrupted before {name}; it was not touched"
            ))
            .hint(format!("rollout {}", names[index..].join(" "))));
        }
        let prepared = first.take();
        let is_first = prepared.is_some();
        let rolled = async {
            let prepared = match prepared {
                Some(prepared) => prepared,
                // The rollouts of the services before it have changed the landscape.
                None => {
                    let services = vec![(*name).to_owned()];
                    run.events.emit(Event::Opening { services });
                    landscape = run.landscape().await?;
                    run.prepare(name, &up.settings, &[], Purpose::Roll, &mut landscape)
                        .await?
                }
            };
            roll(prepared, &mut landscape, interrupted.clone()).await
        };
        rolled.await.map_err(|error| {
            let error = error.within(run.events.scope());
            match is_first {
                true => error,
                false => after_others(error, name),
            }
        })?;
    }
    Ok(())
}

pub(super) fn refuse_unknown(project: &Project, names: &[&str]) -> Result<()> {
    for (index, name) in names.iter().enumerate() {
        project.service(name).map_err(|error| match index {
            0 => suggest(error, name, &names[1..]),
            _ => error,
        })?;
    }
    Ok(())
}

/// Adds the command that was probably meant: `rollout statsu web` reads `statsu` as a service.
fn suggest(error: Error, word: &str, others: &[&str]) -> Error {
    // A service with a similar name is the better guess.
    if error.message.contains("did you mean") {
        return error;
    }
    let Some(line) = cli::words::meant(word, others) else {
        return error;
    };
    let services = error.hint.clone().unwrap_or_default();
    error.hint(format!("did you mean: {line}\n      {services}"))
}

async fn fetch_ahead(
    prepared: &mut [Prepared<'_>],
    interrupted: &watch::Receiver<bool>,
    again: &str,
) -> Result<()> {
    for own in prepared {
        let scope = own.scope();
        let fetching = own.fetch_ahead();
        let fetched = execute::unless_interrupted(interrupted, execute::UNCHANGED, fetching);
        fetched
            .await
            .map_err(|error| error.or_hint(again).within(scope))?;
    }
    Ok(())
}

/// After the rollout of other services, a refusal is a failure: something was touched.
pub(super) fn after_others(error: Error, service: &str) -> Error {
    match error.outcome {
        Outcome::Refused => Error {
            outcome: Outcome::Failed,
            message: format!("{}; {service} was not touched", error.message),
            ..error
        },
        _ => error,
    }
}
