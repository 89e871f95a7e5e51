//! `rollout SERVICE` where the project is a stack of a Swarm.

use tokio::sync::watch;

use super::plan::show;
use crate::{
    app::stacks::{one_service, refuse_given, refuse_options, refused},
    cli::UpArgs,
    docker::engine::swarm::NAMESPACE,
    error::{Error, Outcome, Result},
    event::Events,
    proxy::landscape::Listed,
    swarm::{Request, Stack},
};

pub async fn roll(
    up: &UpArgs,
    stack: &Stack,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<Outcome> {
    let asked = request(up, &stack.name)?;
    stack.roll(&asked, events, interrupted).await?;
    Ok(Outcome::Done)
}

pub async fn plan(up: &UpArgs, stack: &Stack, events: &Events) -> Result<Outcome> {
    let asked = request(up, &stack.name)?;
    let host = stack.engine.endpoint().to_string();
    let events = events.of_service(&host, &stack.key(asked.service));
    let planned = stack.plan(&asked, &events).await;
    let plan = planned.map_err(|error| error.within(events.scope()))?;
    let outcome = match plan.steps.is_empty() {
        true => Outcome::Done,
        false => Outcome::Changes,
    };
    show(plan, &events, &up.target);
    Ok(outcome)
}

fn request<'a>(up: &'a UpArgs, stack: &str) -> Result<Request<'a>> {
    Ok(Request {
        service: service(up, stack)?,
        files: &up.target.files,
        flags: &up.settings,
        back: None,
        aborts: false,
    })
}

/// Refuses a Compose project that has the name of a stack on this node: without -p the stack was not looked for.
pub fn refuse_unnamed(project: &str, listed: &Result<Listed>) -> Result<()> {
    let containers = listed.iter().flat_map(|own| &own.containers);
    let mut stacks = containers.filter_map(|own| own.labels.as_ref()?.get(NAMESPACE));
    match stacks.any(|own| own == project) {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "{project} is the name of this Compose project and of a stack of the Swarm"
        ))
        .hint(format!(
            "rollout -f FILE -p {project} SERVICE rolls a service of the stack; -p NAME gives the Compose project another name"
        ))),
    }
}

/// The one service that is rolled. Refuses what only Compose has.
fn service<'a>(up: &'a UpArgs, stack: &str) -> Result<&'a str> {
    let line = format!("rollout -f FILE -p {stack} SERVICE");
    if let Some((name, value)) = up.set.first() {
        let what = "docker stack reads variables from the environment, so there is no --set";
        return Err(refused(
            stack,
            what,
            format!("write: {name}={value} {line}"),
        ));
    }
    let line = format!("write: {line}");
    let options = [("--all", up.all), ("--remove-orphans", up.remove_orphans)];
    refuse_given(stack, &options, &line)?;
    refuse_options(&up.target, stack, &line)?;
    match up.target.files.as_slice() {
        [] => Err(refused(stack, "its file has to be named", line)),
        files if files.iter().any(|own| own == "-") => Err(refused(
            stack,
            "its file cannot come from standard input",
            line,
        )),
        _ => one_service(&up.services, stack, &line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    fn refusal(line: &str) -> Option<String> {
        let words = line.split_whitespace().map(Into::into);
        let Ok(Command::Up(up)) = cli::parse(words) else {
            panic!("{line} rolls nothing");
        };
        let error = service(&up, "shop").err()?;
        Some(format!(
            "{error}; {}",
            error.hint.clone().unwrap_or_default()
        ))
    }

    #[test]
    fn what_only_compose_has_is_refused_with_what_to_write() {
        assert_eq!(refusal("rollout -f a.yml -p shop web"), None);
        for (line, part) in [
            ("rollout -f a.yml -p shop web --set A=1", "A=1 rollout"),
            ("rollout -f a.yml -p shop --all", "no --all"),
            ("rollout -f a.yml -p shop web api", "one at a time"),
            ("rollout -p shop web", "has to be named"),
            ("rollout -f - -p shop web", "standard input"),
            ("rollout -f a.yml --env-file e -p shop web", "--env-file"),
        ] {
            let refused = refusal(line).unwrap();
            assert!(refused.contains(part), "{line}: {refused}");
        }
    }
}
