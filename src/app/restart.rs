//! `rollout restart`: rolls the running revision of each service again, as recorded.

use super::{
    history::remembered,
    notify::notify,
    opened::Opened,
    recorded::Recorded,
    several::{in_turn, refuse_twice},
    signals::signals,
};
use crate::{
    cli::RestartArgs,
    context::RunContext,
    error::{Error, Result},
    event::{Event, Events, ServiceResult},
    model::Replica,
    roll::Ended,
    settings::Partial,
    state::revisions::{Revision, Revisions},
};

pub async fn restart(restart: &RestartArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = restart.services.clone();
    events.emit(Event::Opening { services });
    let names: Vec<&str> = restart.services.iter().map(String::as_str).collect();
    refuse_twice(&names)?;
    let opened = Opened::of(&restart.target, &names, events).await?;
    notify(&opened, names.iter().copied(), &restart.settings, events)?;
    let mut all = Vec::new();
    for name in &names {
        let own = opened.events(events, name);
        let recorded = recorded(&opened, name, &own).await;
        let recorded = recorded.map_err(|error| error.within(own.scope()))?;
        let flags = again(recorded.flags(restart.settings.clone()));
        all.push((*name, own, recorded, flags));
    }
    let is_several = all.len() > 1;
    if is_several {
        for (name, own, recorded, flags) in &all {
            let run = run(&opened, own, recorded, is_several);
            let checked = recorded.check(&run, name, flags).await;
            checked.map_err(|error| error.within(own.scope()))?;
        }
    }
    in_turn(&names, events, &interrupted, async |at| {
        let (name, own, recorded, flags) = &all[at];
        let run = run(&opened, own, recorded, is_several);
        let rolled = recorded.roll(&run, (name, flags), interrupted.clone(), None);
        let rolled = rolled.await;
        let rolled = rolled.and_then(|ended| refuse_replaced(ended, name, &recorded.revision));
        rolled.map_err(|error| error.within(own.scope()))
    })
    .await
}

fn run<'a>(
    opened: &'a Opened,
    events: &'a Events,
    recorded: &Recorded,
    is_several: bool,
) -> RunContext<'a> {
    RunContext {
        replaces: Some(recorded.revision.number),
        of_several: is_several,
        ..opened.run(events)
    }
}

/// Fails if another rollout has replaced the chosen revision in the meantime.
fn refuse_replaced(ended: Ended, service: &str, chosen: &Revision) -> Result<Ended> {
    match ended.result {
        ServiceResult::LeftAlone => Err(Error::failed(format!(
            "another rollout has replaced revision {} of {service} since; {service} was not restarted",
            chosen.number
        ))
        .hint(format!("rollout restart {service} restarts what runs now"))),
        _ => Ok(ended),
    }
}

/// A restart rolls although nothing differs.
fn again(flags: Partial) -> Partial {
    Partial::of("force", "true").or(flags)
}

async fn recorded(opened: &Opened, service: &str, events: &Events) -> Result<Recorded> {
    let (run, key) = (opened.run(events), opened.project.key(service));
    let revisions = remembered(&run, &key).await?;
    if revisions.list.is_empty() {
        // A misspelt name is refused.
        opened.project.service(service)?;
    }
    let replicas = opened.engine.replicas(&key).await?;
    let revision = running(&revisions, &replicas, service)?;
    Recorded::of(opened, service, revision).await
}

/// The recorded revision that these replicas run.
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
    use hyper::{Response, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::{
        app::recorded,
        compose::{self, Compose},
        docker::{
            engine::Engine,
            http::{Body, json as answer, refusal},
        },
        error::Outcome,
        fake_engine::FakeEngine,
        plan::simulator::old,
        settings::Settings,
    };

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

    const CONFIG: &str = "name: shop\nservices: {web: {image: web}}\n";

    fn table(method: &str, path: &str) -> Response<Body> {
        match (method, path) {
            ("GET", "/version") => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            ("GET", "/info") => answer(
                StatusCode::OK,
                &json!({"SystemTime": "2026-01-01T00:00:00Z"}),
            ),
            ("GET", "/containers/json") => answer(StatusCode::OK, &json!([])),
            _ => refusal(StatusCode::NOT_FOUND, "No such thing"),
        }
    }

    #[tokio::test]
    async fn of_several_services_only_those_with_labels_are_refused_without_a_traefik() {
        let fake = FakeEngine::start(|method, path, _| table(method, path));
        let events = Events::new(Vec::new());
        let opened = Opened {
            engine: Engine::connect(fake.endpoint(), &events).await.unwrap(),
            compose: Compose::scripted(fake.endpoint(), "cat").await,
            project: compose::resolved(CONFIG).unwrap(),
        };
        let revision = Revision {
            number: 2,
            config: CONFIG.to_owned(),
            ..Revision::default()
        };
        let recorded = Recorded::of(&opened, "web", &revision).await.unwrap();
        let flags = recorded.flags(Partial::of("proxy", "traefik"));
        let checked = async |is_several| {
            let run = run(&opened, &events, &recorded, is_several);
            recorded.check(&run, "web", &flags).await
        };
        let refused = checked(false).await.unwrap_err();
        assert!(refused.message.contains("Traefik"), "{refused}");
        checked(true).await.unwrap();
    }

    #[test]
    fn what_another_rollout_has_replaced_is_a_failure_that_names_it() {
        let ended = |result| Ended {
            result,
            revision: Some(2),
            before: Some(2),
            image: "app:v2".to_owned(),
        };
        let chosen = Revision {
            number: 1,
            ..Revision::default()
        };
        refuse_replaced(ended(ServiceResult::Rolled), "web", &chosen).unwrap();
        let left = refuse_replaced(ended(ServiceResult::LeftAlone), "web", &chosen).unwrap_err();
        assert_eq!(left.outcome, Outcome::Failed);
        assert_eq!(
            left.message,
            "another rollout has replaced revision 1 of web since; web was not restarted"
        );
    }
}
