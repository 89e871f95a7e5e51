//! `rollout SERVICE…` and `rollout --all` where the project is a stack of a Swarm.

use tokio::{sync::watch, time::Instant};

use super::{
    finish::{has_failed, take_back},
    names,
    plan::show,
};
use crate::{
    app::{
        emit_failure,
        stacks::{refuse_given, refuse_options, refused},
        undo::to_revision_of_stack,
    },
    cli::UpArgs,
    docker::engine::swarm::NAMESPACE,
    error::{Error, Outcome, Result},
    event::{Event, Events, ServiceRow},
    proxy::landscape::Listed,
    roll::Ended,
    settings::OnFailure,
    stack::{
        choose::{Left, left_alone},
        graph::Order,
        outcome::{after_others, failure, rows},
        schedule::{self, Ends, Limits},
    },
    swarm::{Request, Source, Stack},
};

pub async fn roll(
    up: &UpArgs,
    stack: &Stack,
    events: &Events,
    interrupted: watch::Receiver<bool>,
) -> Result<Outcome> {
    refuse(up, &stack.name)?;
    let source = stack.source(&up.target.files, None).await?;
    let (services, left) = stack.choose(&source, &names(up), up.all)?;
    match services.as_slice() {
        [service] if !up.all => {
            let asked = request(up, service);
            stack.roll(&source, &asked, events, interrupted).await?;
        }
        services => {
            let several = Several {
                up,
                stack,
                source: &source,
                events,
                interrupted: &interrupted,
            };
            several.roll(services, &left).await?;
        }
    }
    Ok(Outcome::Done)
}

pub async fn plan(up: &UpArgs, stack: &Stack, events: &Events) -> Result<Outcome> {
    refuse(up, &stack.name)?;
    let source = stack.source(&up.target.files, None).await?;
    let (services, left) = stack.choose(&source, &names(up), up.all)?;
    left_alone(&left)
        .into_iter()
        .for_each(|line| events.notice(line));
    let mut outcome = Outcome::Done;
    for service in services {
        let events = stack.events(events, service);
        let planned = stack.plan(&source, &request(up, service), &events).await;
        let plan = planned.map_err(|error| error.within(events.scope()))?;
        if !plan.steps.is_empty() {
            outcome = Outcome::Changes;
        }
        show(plan, &events, &up.target);
    }
    Ok(outcome)
}

fn request<'a>(up: &'a UpArgs, service: &'a str) -> Request<'a> {
    Request {
        service,
        flags: &up.settings,
        back: None,
        aborts: false,
        replaces: None,
    }
}

/// Several services of a stack, one after another: each needs room for its twin.
struct Several<'a> {
    up: &'a UpArgs,
    stack: &'a Stack,
    source: &'a Source,
    events: &'a Events,
    interrupted: &'a watch::Receiver<bool>,
}

impl Several<'_> {
    async fn roll(&self, services: &[&str], left: &[Left]) -> Result<()> {
        let began = Instant::now();
        let on_failure = self.stack.on_failure(self.source, &self.up.settings)?;
        left_alone(left)
            .into_iter()
            .for_each(|line| self.events.notice(line));
        for service in services {
            let asked = request(self.up, service);
            self.stack.refuse(self.source, &asked, self.events).await?;
        }
        self.events.emit(Event::StackStarted {
            services: services.iter().map(|&own| own.to_owned()).collect(),
            parallel: 1,
            hosts: Vec::new(),
        });
        let order = Order::as_listed(services);
        let limits = Limits {
            parallel: 1,
            on_failure,
        };
        let begin = |name| self.one(name);
        let ends = schedule::run(&order, limits, (self.interrupted, None), begin).await;
        let mut rows = rows(&order, &ends, left);
        let mut failed = Vec::new();
        if has_failed(&ends) && on_failure == OnFailure::Rollback {
            failed = self.take_back(&ends, &mut rows).await;
        }
        let errors = ends.iter().filter_map(|(_, result)| result.as_ref().err());
        let errors: Vec<&Error> = errors.chain(&failed).collect();
        let failure = failure(&rows, &errors);
        self.events.emit(Event::StackFinished {
            services: rows,
            total_ms: began.elapsed().as_millis() as u64,
        });
        failure.map_or(Ok(()), Err)
    }

    async fn one(&self, service: &str) -> Result<Ended> {
        let asked = request(self.up, service);
        let rolled = self
            .stack
            .roll(self.source, &asked, self.events, self.interrupted.clone());
        let rolled = rolled.await.map_err(|error| after_others(error, service));
        if let Err(error) = &rolled {
            emit_failure(&self.stack.events(self.events, service), error);
        }
        rolled
    }

    async fn take_back(&self, ends: &Ends<'_, Ended>, rows: &mut [ServiceRow]) -> Vec<Error> {
        let undo = async |service: &str, before, made| {
            let (flags, interrupted) = (&self.up.settings, self.interrupted.clone());
            let asked = (service, before, made);
            to_revision_of_stack(self.stack, asked, flags, self.events, interrupted).await
        };
        let report = |service: &str, error: &Error| {
            emit_failure(&self.stack.events(self.events, service), error);
        };
        take_back(ends, rows, self.interrupted, (undo, report)).await
    }
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

/// Refuses what only Compose has.
fn refuse(up: &UpArgs, stack: &str) -> Result<()> {
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
    refuse_given(stack, &[("--remove-orphans", up.remove_orphans)], &line)?;
    refuse_options(&up.target, stack, &line)?;
    match up.target.files.as_slice() {
        [] => Err(refused(stack, "its file has to be named", line)),
        files if files.iter().any(|own| own == "-") => Err(refused(
            stack,
            "its file cannot come from standard input",
            line,
        )),
        _ => Ok(()),
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
        let error = refuse(&up, "shop").err()?;
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
            (
                "rollout -f a.yml -p shop --all --remove-orphans",
                "no --remove-orphans",
            ),
            ("rollout -p shop web", "has to be named"),
            ("rollout -f - -p shop web", "standard input"),
            ("rollout -f a.yml --env-file e -p shop web", "--env-file"),
        ] {
            let refused = refusal(line).unwrap();
            assert!(refused.contains(part), "{line}: {refused}");
        }
    }
}
