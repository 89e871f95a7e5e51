//! `rollout restart`: rolls the running revision of each service again, as recorded.

use super::{
    Opened,
    history::remembered,
    recorded::{Recorded, Why, after_others},
    signals::signals,
};
use crate::{
    cli::RestartArgs,
    error::{Error, Result},
    event::{Event, Events},
    model::Replica,
    settings::Partial,
    state::revisions::{Revision, Revisions},
};

pub async fn restart(restart: &RestartArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = restart.services.clone();
    events.emit(Event::Opening { services });
    let names: Vec<&str> = restart.services.iter().map(String::as_str).collect();
    let opened = Opened::of(&restart.target, &names, events).await?;
    let mut all = Vec::new();
    for name in &names {
        let own = opened.events(events, name);
        let recorded = recorded(&opened, name, &own).await;
        let recorded = recorded.map_err(|error| error.within(own.scope()))?;
        let flags = again(recorded.flags(restart.settings.clone()));
        all.push((*name, own, recorded, flags));
    }
    if all.len() > 1 {
        for (name, own, recorded, flags) in &all {
            let checked = recorded.check((&opened, name, flags), own).await;
            checked.map_err(|error| error.within(own.scope()))?;
        }
    }
    for (index, (name, own, recorded, flags)) in all.iter().enumerate() {
        if *interrupted.borrow() {
            return Err(Error::interrupted(format!(
                "interrupted before {name}; it was not touched"
            )));
        }
        let rolled = recorded.roll((&opened, name, flags), own, interrupted.clone());
        rolled.await.map_err(|error| {
            let error = error.within(own.scope());
            match index {
                0 => error,
                _ => after_others(error, name),
            }
        })?;
    }
    Ok(())
}

/// What runs is rolled although nothing differs.
fn again(flags: Partial) -> Partial {
    Partial::of("force", "true").or(flags)
}

async fn recorded(opened: &Opened, service: &str, events: &Events) -> Result<Recorded> {
    let (run, key) = (opened.run(events), opened.key(service));
    let revisions = remembered(&run, &key).await?;
    if revisions.list.is_empty() {
        // A misspelt name is refused.
        opened.project.service(service)?;
    }
    let replicas = opened.engine.replicas(&key).await?;
    let revision = running(&revisions, &replicas, service)?;
    Recorded::of(opened, service, revision, Why::Restart).await
}

/// The record of what runs.
fn running<'a>(
    revisions: &'a Revisions,
    replicas: &[Replica],
    service: &str,
) -> Result<&'a Revision> {
    if replicas.is_empty() {
        return Err(Error::refused(format!(
            "{service} has no container, so there is nothing to restart"
        ))
        .hint(format!(
            "rollout {service} starts what the Compose file describes"
        )));
    }
    let number = revisions.running(replicas);
    let found = number.and_then(|number| revisions.get(number));
    found.ok_or_else(|| match number {
        Some(number) => Error::refused(format!(
            "revision {number} of {service} runs and is not recorded, so it cannot be restarted"
        ))
        .hint(format!(
            "rollout resume {service} finishes its rollout; else `rollout --force {service}` rolls what the Compose file describes"
        )),
        None => Error::refused(format!(
            "no rollout has recorded what {service} runs, so it cannot be restarted"
        ))
        .hint(format!(
            "rollout --force {service} rolls what the Compose file describes, and records it"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::recorded, plan::simulator::old, settings::Settings};

    fn runs(revision: Option<u64>) -> Vec<Replica> {
        vec![Replica {
            revision,
            image: "a".to_owned(),
            ..old("web-1")
        }]
    }

    fn refused(revisions: &Revisions, replicas: &[Replica]) -> String {
        running(revisions, replicas, "web").unwrap_err().message
    }

    #[test]
    fn a_restart_rolls_though_nothing_differs_as_many_replicas_as_recorded() {
        let given = Partial::of("force", "false");
        let flags = again(recorded::flags(given, 3));
        let none = Partial::default;
        let settings = Settings::resolve([flags, none(), none(), none()]);
        assert_eq!((settings.force, settings.scale), (true, Some(3)));
    }

    #[test]
    fn what_runs_is_restarted_where_it_is_recorded_and_refused_in_one_line_elsewhere() {
        let mut revisions = Revisions::default();
        for number in [1, 2] {
            revisions.add(Revision {
                number,
                ..Revision::default()
            });
        }
        let own = running(&revisions, &runs(Some(1)), "web").unwrap();
        assert_eq!(own.number, 1);
        assert!(refused(&revisions, &[]).contains("has no container"));
        let unrecorded = refused(&revisions, &runs(Some(3)));
        assert!(unrecorded.contains("revision 3 of web runs and is not recorded"));
        let unknown = refused(&revisions, &runs(None));
        assert!(unknown.contains("no rollout has recorded"), "{unknown}");
    }
}
