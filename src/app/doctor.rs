//! `rollout doctor`: gathers what the checks look at, and tells what they have found. Changes nothing.

mod gather;

use super::{Opened, endpoint, print, read_project};
use crate::{
    cli::DoctorArgs,
    compose::Compose,
    doctor::{self, Check, Finding, Fix, Level},
    engine::Engine,
    error::{Error, Result},
    report::{Output, findings},
};

/// Tells it on standard output; an error with code 1 where something stands in the way.
pub async fn tell(asked: &DoctorArgs) -> Result<()> {
    let found = look(asked).await?;
    let text = match asked.target.output {
        Some(Output::Json) => findings::json(&found),
        _ => findings::human(&found),
    };
    print(text.as_bytes());
    let failed = found.iter().filter(|own| own.level == Level::Fail).count();
    match failed {
        0 => Ok(()),
        _ => Err(stands_in_the_way(failed, &asked.services)),
    }
}

fn stands_in_the_way(failed: usize, services: &[String]) -> Error {
    let (things, verb) = match failed {
        1 => ("1 thing".to_owned(), "stands"),
        many => (format!("{many} things"), "stand"),
    };
    let again = [&["rollout doctor".to_owned()], services]
        .concat()
        .join(" ");
    Error::failed(format!("{things} {verb} in the way of rollouts")).hint(format!(
        "mend the Compose file as told, then run again: {again}"
    ))
}

async fn look(asked: &DoctorArgs) -> Result<Vec<Finding>> {
    let engine = match Engine::connect(endpoint(&asked.target).await?).await {
        Ok(engine) => engine,
        Err(error) => return Ok(vec![foundation(Check::Engine, "docker", &error)]),
    };
    let compose = match Compose::find(asked.target.invocation(), engine.endpoint().clone()).await {
        Ok(compose) => compose,
        Err(error) => return Ok(vec![foundation(Check::Compose, "docker compose", &error)]),
    };
    let names: Vec<&str> = asked.services.iter().map(String::as_str).collect();
    let project = read_project(&compose, &names).await?;
    let opened = Opened {
        engine,
        compose,
        project,
    };
    Ok(doctor::examine(&gather::facts(asked, &opened).await?))
}

fn foundation(check: Check, subject: &str, error: &Error) -> Finding {
    Finding::fail(check, subject, &error.message).fix(Fix::of_hint(error))
}
