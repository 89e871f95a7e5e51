//! `rollout plan`: what a rollout would do, for the named services or for every service of the project.

use super::{Opened, print, up::refuse_unknown};
use crate::{
    cli::PlanArgs,
    compose::Hashes,
    context::{Purpose, RunContext},
    error::{Error, Outcome, Result},
    event::{Event, Events, Plan},
    proxy::landscape::Landscape,
    report::{self, Output},
    settings::Partial,
    stack::{
        choose::{choose, left_alone},
        graph::Order,
    },
};

pub async fn plan(asked: &PlanArgs, events: &Events) -> Result<Outcome> {
    let services = asked.services.clone();
    if !services.is_empty() {
        events.emit(Event::Opening { services });
    }
    let names: Vec<&str> = asked.services.iter().map(String::as_str).collect();
    let opened = Opened::of(&asked.target, &names, events).await?;
    refuse_unknown(&opened.project, &names)?;
    let (chosen, left) = choose(&opened.project, &names, names.is_empty());
    if let Some(line) = left_alone(&left) {
        events.notice(line);
    }
    let order = Order::of(&opened.project, &chosen)?;
    let chosen = order.names();
    let hashes = Hashes::begin(&opened.compose, &opened.project, &chosen);
    let planner = Planner {
        asked,
        opened: &opened,
        hashes: &hashes,
        events,
    };
    let plans = match names.is_empty() {
        true => planner.all(&chosen).await?,
        false => planner.named(&chosen).await?,
    };
    Ok(match plans.iter().all(|plan| plan.steps.is_empty()) {
        true => Outcome::Done,
        false => Outcome::Changes,
    })
}

struct Planner<'a> {
    asked: &'a PlanArgs,
    opened: &'a Opened,
    hashes: &'a Hashes,
    events: &'a Events,
}

impl Planner<'_> {
    /// All services are checked before the first is planned, as before a rollout.
    async fn named(&self, names: &[&str]) -> Result<Vec<Plan>> {
        let (opened, flags) = (self.opened, &self.asked.settings);
        let of_each = names.iter().map(|name| opened.events(self.events, name));
        let of_each: Vec<Events> = of_each.collect();
        let mut landscape = opened.run(self.events).landscape().await?;
        let mut prepared = Vec::new();
        for (index, (name, own)) in names.iter().zip(&of_each).enumerate() {
            let run = RunContext {
                hashes: Some(self.hashes),
                of_several: names.len() > 1,
                ..opened.run(own)
            };
            let (earlier, purpose) = (&names[..index], Purpose::Roll);
            let checked = run.prepare(name, flags, earlier, purpose, &mut landscape);
            prepared.push(checked.await.map_err(|error| error.within(own.scope()))?);
        }
        let mut plans = Vec::new();
        for ((name, own), prepared) in names.iter().zip(&of_each).zip(prepared) {
            let plan = prepared.preview().await;
            let plan = plan.map_err(|error| error.within(own.scope()))?;
            plans.push(shown(self.asked, name, own, plan));
        }
        Ok(plans)
    }

    /// A service that could not be rolled matters only if it differs. The first refusal ends the command, after every
    /// other service is planned.
    async fn all(&self, names: &[&str]) -> Result<Vec<Plan>> {
        let (opened, flags) = (self.opened, &self.asked.settings);
        let mut landscape = opened.run(self.events).landscape().await?;
        let (mut plans, mut refused) = (Vec::new(), None::<Error>);
        for name in names {
            let own = opened.events(self.events, name);
            let run = RunContext {
                hashes: Some(self.hashes),
                of_several: true,
                ..opened.run(&own)
            };
            match planned(&run, name, names, flags, &mut landscape).await {
                Ok(plan) => plans.push(shown(self.asked, name, &own, plan)),
                Err(error) if refused.is_some() => {
                    own.notice(format!("{name} would be refused: {}", error.message));
                }
                Err(error) => refused = Some(error.within(own.scope())),
            }
        }
        refused.map_or(Ok(plans), Err)
    }
}

async fn planned(
    run: &RunContext<'_>,
    name: &str,
    earlier: &[&str],
    flags: &Partial,
    landscape: &mut Landscape,
) -> Result<Plan> {
    let planned = async {
        let prepared = run.prepare(name, flags, earlier, Purpose::Roll, landscape);
        prepared.await?.preview().await
    };
    let error = match planned.await {
        Ok(plan) => return Ok(plan),
        Err(error) => error,
    };
    let service = run.project.service(name)?;
    let described = run.as_described(service, flags, landscape).await;
    described.unwrap_or_default().ok_or(error)
}

/// Reports a plan: as an event, and for people on standard output.
fn shown(asked: &PlanArgs, service: &str, events: &Events, plan: Plan) -> Plan {
    events.emit(Event::Plan(plan.clone()));
    if asked.target.output != Some(Output::Json) {
        print(report::plan::human(service, &plan).as_bytes());
    }
    plan
}
